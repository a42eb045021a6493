from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from pathlib import Path

import pytest

from assay.core.errors import AssayError, NotFound
from assay.core.processes import ProcessIdentity
from assay.launch.slurm.commands import Rejected, Unreachable, run
from tests.launch.polling import LONGEST, until
from tests.launch.slurm.fakes import Commands, commands

__all__ = ["commands"]

LONG = 60.0
"""Timeout in seconds that no command of these tests reaches."""


def test_output_with_invalid_utf8_is_returned(commands: Commands) -> None:
    commands.script("squeue", r"printf 'caf\303\251 \377|\n'")
    assert run(["squeue"], timeout=LONG) == "café �|\n"


def test_a_missing_program_has_its_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        AssayError, match="SLURM is not available on this machine: sbatch is not on the PATH.\nUse cluster=local"
    ) as caught:
        run(["sbatch", "job.sh"], timeout=LONG)
    assert type(caught.value) is NotFound


def _leave_a_child(commands: Commands, then: str) -> Path:
    """Define a command that starts a child, records its pid, and then runs more shell code."""
    pid = commands.folder / "pid"
    commands.script("squeue", f"sleep 600 & echo $! > {pid}.new; mv {pid}.new {pid}; {then}")
    return pid


def test_a_command_that_exceeds_its_timeout_is_killed_with_its_children(commands: Commands) -> None:
    pid = _leave_a_child(commands, "wait")
    with pytest.raises(Unreachable, match=r"squeue did not answer within 3 s\.\nCheck the controller"):
        run(["squeue"], timeout=3.0)
    until(lambda: not _alive(int(pid.read_text())), "the child to end")


def test_ctrl_c_kills_a_command_with_its_children(commands: Commands) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # shells make background processes ignore SIGINT
    pid = _leave_a_child(commands, "wait")
    main = threading.main_thread().ident
    assert main is not None

    def press() -> None:
        until(lambda: pid.exists() and "_wait" in str(traceback.extract_stack(sys._current_frames()[main])), "run")
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        run(["squeue"], timeout=2 * LONGEST)
    presser.join()
    signal.signal(signal.SIGINT, before)
    until(lambda: not _alive(int(pid.read_text())), "the child to end")


def test_processes_that_a_command_leaves_behind_are_not_awaited(commands: Commands) -> None:
    pid = _leave_a_child(commands, "echo done")
    try:
        assert run(["squeue"], timeout=LONG) == "done\n"
        assert _alive(int(pid.read_text()))
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


def _alive(pid: int) -> bool:
    try:
        return bool(ProcessIdentity.of(pid).alive)
    except ProcessLookupError:
        return False


def test_a_command_gets_no_input(commands: Commands) -> None:
    commands.script("scancel", "cat; echo end")
    nothing_comes, writer = os.pipe()
    ours = os.dup(0)
    os.dup2(nothing_comes, 0)
    try:
        assert run(["scancel"], timeout=LONG) == "end\n"
    finally:
        os.dup2(ours, 0)
        for descriptor in (nothing_comes, writer, ours):
            os.close(descriptor)


@pytest.mark.parametrize(
    "words",
    [
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
        "sbatch: error: Batch job submission failed: Unable to contact slurm controller (receive failure)",
        "slurm_load_jobs error: Socket timed out on send/recv operation",
        (
            "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"
            "sbatch: error: Batch job submission failed: Resource temporarily unavailable"
        ),
        (
            "sacct: error: slurm_persist_conn_open_without_init: failed to open persistent connection to "
            "host:127.0.0.1:6819: Connection refused\nsacct: error: Problem talking to the database: Connection refused"
        ),
        "slurm_load_jobs error: Zero Bytes were transmitted or received",
        "sbatch: error: Batch job submission failed: Slurm backup controller in standby mode",
        "squeue: error: Rate limit exceeded, please retry momentarily",
        "sbatch: error: fetch_config: DNS SRV lookup failed\nsbatch: fatal: Could not establish a configuration source",
    ],
)
def test_a_temporary_failure_is_retried_with_growing_waits(commands: Commands, words: str) -> None:
    tries = commands.folder / "tries"
    commands.script(
        "squeue",
        f"echo x >> {tries}; [ $(wc -l < {tries}) -ge 4 ] && echo there && exit; printf '%s\\n' \"{words}\" >&2; exit 1",
    )
    waits: list[float] = []
    assert run(["squeue"], timeout=LONG, attempts=5, sleep=waits.append, chance=lambda: 0.5) == "there\n"
    assert waits == [1.0, 2.0, 4.0]


def test_the_waits_of_many_jobs_are_spread(commands: Commands) -> None:
    commands.fails("squeue", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    waits: list[float] = []
    for chance in (0.0, 1.0):
        with pytest.raises(Unreachable):
            run(["squeue"], timeout=LONG, attempts=2, sleep=waits.append, chance=lambda at=chance: at)
    assert waits == [0.5, 1.5]


def test_a_lasting_temporary_failure_quotes_slurm(commands: Commands) -> None:
    commands.fails("squeue", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    waits: list[float] = []
    with pytest.raises(Unreachable, match=r"squeue: slurm_load_jobs error: Unable to contact slurm controller"):
        run(["squeue"], timeout=LONG, attempts=8, sleep=waits.append, chance=lambda: 0.5)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


@pytest.mark.parametrize(
    ("printed", "message"),
    [
        (
            (
                "sbatch: error: invalid partition specified: nope\n"
                "sbatch: error: Batch job submission failed: Invalid partition name specified"
            ),
            "sbatch: invalid partition specified: nope; Batch job submission failed: Invalid partition name specified.",
        ),
        (
            (
                "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates "
                "accounting/QOS policy (job submit limit, user's size and/or time limits)"
            ),
            (
                "sbatch: AssocMaxSubmitJobLimit; Batch job submission failed: Job violates accounting/QOS policy (job submit "
                "limit, user's size and/or time limits)."
            ),
        ),
        (
            "sbatch: error: Batch job submission failed: Requested node configuration is not available",
            "sbatch: Batch job submission failed: Requested node configuration is not available.",
        ),
        ("", "sbatch: exit code 1."),
    ],
)
def test_a_rejection_is_not_retried_and_quotes_slurm(commands: Commands, printed: str, message: str) -> None:
    commands.fails("sbatch", printed)

    def sleep(seconds: float) -> None:
        pytest.fail(f"retried after {seconds} s")

    with pytest.raises(Rejected) as caught:
        run(["sbatch", "job.sh"], timeout=LONG, attempts=3, sleep=sleep)
    assert caught.value.what == message


@pytest.fixture
def inside_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set variables as in a job, and variables of a user."""
    for name in ("SLURM_JOB_ID", "SLURM_MEM_PER_NODE", "SBATCH_PARTITION", "SQUEUE_STATES", "SACCT_FORMAT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    monkeypatch.setenv("SLURM_CONF_SERVER", "ctl:6817")
    monkeypatch.setenv("LC_ALL", "ja_JP.UTF-8")
    monkeypatch.setenv("OURS", "kept")


@pytest.mark.usefixtures("inside_a_job")
def test_commands_in_a_job_ignore_its_options_and_keep_its_cluster(commands: Commands) -> None:
    commands.script("sbatch", "env")
    seen = dict(line.split("=", 1) for line in run(["sbatch"], timeout=LONG).splitlines())
    slurms = {name: value for name, value in seen.items() if name.startswith(("SLURM", "SBATCH", "SQUEUE", "SACCT"))}
    assert slurms == {"SLURM_CONF": "/etc/slurm/slurm.conf", "SLURM_CONF_SERVER": "ctl:6817"}
    assert seen["OURS"] == "kept"


@pytest.mark.usefixtures("inside_a_job")
def test_commands_use_the_c_locale_and_jobs_keep_the_users_locale(commands: Commands) -> None:
    for program in ("squeue", "sbatch"):
        commands.script(program, 'echo "$LC_ALL $TZ"')
    assert run(["squeue"], timeout=LONG, environment={"TZ": "UTC0"}) == "C UTC0\n"
    assert run(["sbatch"], timeout=LONG, environment={"TZ": "UTC0"}) == "ja_JP.UTF-8 UTC0\n"
