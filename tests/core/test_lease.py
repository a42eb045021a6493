"""A lease has one holder at a time, on any machine and after any kind of process end."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from assay.core.errors import AssayError
from assay.core.lease import LeaseLost, LeaseTimes, acquire, holding, seems_held
from assay.core.lease_files import Holder, LeaseGenerations
from tests.launch.polling import until

BEAT, STALE = 0.1, 2.0
"""Seconds. Tolerates a heartbeat that is 1.9 s late, as on a machine that is busy with other tests."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_LEASE_BEAT", str(BEAT))
    monkeypatch.setenv("ASSAY_LEASE_STALE", str(STALE))


PROCESS = """
import os, sys
from pathlib import Path
from assay.core.lease import LeaseLost, acquire

lease = acquire(Path(sys.argv[1]))
print("held" if lease else "refused", flush=True)
for line in sys.stdin:
    if line == "check\\n":
        try:
            lease.check()
            print("mine", flush=True)
        except LeaseLost as lost:
            print("lost:", lost, flush=True)
    elif line == "release\\n":
        lease.release()
        print("released", flush=True)
    elif line == "fork\\n":
        child = os.fork()
        if child == 0:
            try:
                lease.check()
                print("mine", flush=True)
            except LeaseLost as lost:
                print("lost:", lost, flush=True)
            lease.release()
        sys.stdin.readline()
"""


class Process:
    """Another process that takes a folder's lease, on this machine or, seemingly, on another node."""

    def __init__(self, folder: Path, node: str | None) -> None:
        environment = dict(os.environ)
        if node is not None:
            environment["SLURMD_NODENAME"] = node
        self.popen = subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(folder)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.popen.stdout is not None
        assert self.read() == "held"

    def read(self) -> str:
        return self.popen.stdout.readline().strip()

    def ask(self, what: str) -> str:
        print(what, file=self.popen.stdin, flush=True)
        return self.read()

    def stop(self) -> None:
        self.popen.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.popen.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()


Start = Callable[..., Process]


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Start]:
    """Provide a function that starts a process with the lease of the test's folder."""
    started: list[Process] = []

    def start(node: str | None = None) -> Process:
        started.append(Process(tmp_path, node))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.popen.communicate()


def files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "lease").iterdir()}


# --- one at a time


def test_a_held_lease_is_refused_and_a_released_one_is_free_at_once(tmp_path: Path) -> None:
    with holding(tmp_path) as first:
        assert first
        first.check()
        with holding(tmp_path) as second:
            assert second is None
    with holding(tmp_path) as third:
        assert third


def test_the_lease_of_a_live_process_of_this_machine_is_never_stale(tmp_path: Path, holder: Start) -> None:
    """Not even if it is stopped: it would continue unaware of a takeover."""
    process = holder()
    process.stop()
    assert acquire(tmp_path, patience=2 * STALE) is None
    process.go_on()
    assert process.ask("check") == "mine"


def test_the_lease_of_a_dead_process_of_this_machine_is_taken_over_at_once(tmp_path: Path, holder: Start) -> None:
    holder().kill()
    with holding(tmp_path) as lease:
        assert lease


def test_a_lease_that_another_node_released_is_free_at_once(tmp_path: Path, holder: Start) -> None:
    process = holder("node7")
    assert acquire(tmp_path) is None
    assert process.ask("release") == "released"
    with holding(tmp_path) as lease:
        assert lease


def test_a_live_holder_on_another_node_keeps_the_lease(tmp_path: Path, holder: Start) -> None:
    process = holder("node7")
    assert acquire(tmp_path, patience=2 * STALE) is None
    assert process.ask("check") == "mine"


def test_a_silent_holder_on_another_node_loses_the_lease_and_detects_it_before_its_next_write(
    tmp_path: Path, holder: Start
) -> None:
    process = holder("node7")
    process.stop()
    assert acquire(tmp_path) is None, "without patience, the holder's state is unknown"
    with holding(tmp_path, patience=4 * STALE) as lease:
        assert lease
        process.go_on()
        answer = process.ask("check")
        assert answer.startswith(f"lost: {tmp_path}: its lease was taken over by process {os.getpid()} on ")
        assert process.ask("release") == "released"
        lease.check()
        assert acquire(tmp_path) is None, "a lost lease cannot be released"


def test_a_suspended_holder_continues_if_no_process_took_the_lease_over(tmp_path: Path, holder: Start) -> None:
    process = holder("node7")
    process.stop()
    assert acquire(tmp_path, patience=0.75 * STALE) is None
    process.go_on()
    assert process.ask("check") == "mine"


@pytest.mark.parametrize("year", [1980, 2200])
def test_clock_differences_between_nodes_do_not_matter(tmp_path: Path, holder: Start, year: int) -> None:
    """A node whose clock is decades off renews its lease like any other, and its lease becomes stale like any other."""
    holder("node7").kill()
    file, ended = tmp_path / "lease" / "1.json", threading.Event()
    base = (year - 1970) * 31_556_952 * 10**9

    def beat() -> None:
        count = 0
        while not ended.wait(BEAT):
            count += 1
            os.utime(file, ns=(base, base - count))  # backwards, even

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        assert acquire(tmp_path, patience=2 * STALE) is None
    finally:
        ended.set()
        thread.join()
    with holding(tmp_path, patience=4 * STALE) as lease:
        assert lease


RACE = """
import os, sys
from pathlib import Path
from assay.core.lease import acquire

folder, patience, processes = Path(sys.argv[1]), float(sys.argv[2]), 20
begin, begun = os.pipe()
end, ended = os.pipe()
replies, reply = os.pipe()
for _ in range(processes):
    if os.fork() == 0:
        os.close(begun), os.close(ended)
        os.read(begin, 1)
        lease = acquire(folder, patience=patience)
        os.write(reply, b"1" if lease else b"0")
        os.read(end, 1)
        os._exit(0)
os.close(begun)
print("".join(os.read(replies, 1).decode() for _ in range(processes)), flush=True)
os.close(ended)
for _ in range(processes):
    os.wait()
"""


@pytest.mark.parametrize("before", ["never held", "its holder died here", "its holder went silent elsewhere"])
def test_one_of_twenty_concurrent_processes_gets_the_lease(tmp_path: Path, holder: Start, before: str) -> None:
    if before != "never held":
        holder("node7" if "elsewhere" in before else None).kill()
    patience = 4 * STALE if "elsewhere" in before else 0.0
    race = subprocess.run(
        [sys.executable, "-c", RACE, str(tmp_path), str(patience)], capture_output=True, text=True, check=True
    )
    assert sorted(race.stdout.strip()) == ["0"] * 19 + ["1"]


CROWD = """
import os, sys
from pathlib import Path
from assay.core.lease import holding

folder, inside, count = Path(sys.argv[1]), Path(sys.argv[1]) / "inside", 0
while count < 25:
    with holding(folder) as lease:
        if lease:
            inside.touch(exist_ok=False)
            count += 1
            inside.unlink()
"""


def test_two_processes_never_hold_the_lease_at_once(tmp_path: Path) -> None:
    crowd = [
        subprocess.Popen([sys.executable, "-c", CROWD, str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    output = [process.communicate()[1] for process in crowd]
    assert output == [""] * 6
    assert [process.returncode for process in crowd] == [0] * 6


# --- races, at the moments that matter


@pytest.fixture
def just_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Run an action once, between the last read of a lease and the creation of the next generation."""
    link = os.link

    def happen(what: Callable[[], None]) -> None:
        def linked(*names: Path) -> None:
            monkeypatch.setattr(os, "link", link)
            what()
            link(*names)

        monkeypatch.setattr(os, "link", linked)

    return happen


def elsewhere(token: str, *, released: bool = False) -> Holder:
    """Return a holder on another node."""
    mine = Holder.current({})
    return Holder(
        token=token, process=type(mine.process)(host="node9", pid=1, start="b:1"), job="12_7", released=released
    )


def test_a_renewal_at_the_last_moment_prevents_a_takeover(
    tmp_path: Path, just_before_it_is_made: Callable[[Callable[[], None]], None]
) -> None:
    """It may have checked before the file of the next generation existed, and continue to write."""
    generations, slow = LeaseGenerations(tmp_path), elsewhere("slow")
    assert generations.create(1, slow)
    given: list[object] = []

    def beat() -> None:
        given.append(generations.touch(1, slow))
        given.append(generations.highest())

    just_before_it_is_made(beat)
    assert acquire(tmp_path, patience=1.5 * STALE) is None
    assert given == [True, 1]
    assert generations.current().holder == slow


def test_a_process_with_an_outdated_state_does_not_get_the_lease(
    tmp_path: Path, just_before_it_is_made: Callable[[Callable[[], None]], None]
) -> None:
    """A generation that was created and removed meanwhile can be created again, but is not the highest one."""
    generations = LeaseGenerations(tmp_path)
    assert generations.create(1, elsewhere("first", released=True))

    def others() -> None:
        for generation in (2, 3, 4):
            assert generations.create(generation, elsewhere(f"other{generation}"))
            generations.remove_older(generation)
        assert not generations.file(2).exists()

    just_before_it_is_made(others)
    assert acquire(tmp_path) is None
    assert generations.current().holder == elsewhere("other4")


def test_a_folder_that_is_removed_meanwhile_is_created_again(
    tmp_path: Path, just_before_it_is_made: Callable[[Callable[[], None]], None]
) -> None:
    just_before_it_is_made(lambda: shutil.rmtree(tmp_path / "lease"))
    with holding(tmp_path) as lease:
        assert lease


def test_a_holder_whose_file_another_process_recreated_has_lost_the_lease(tmp_path: Path) -> None:
    """Deleting lease files by hand does not result in two holders."""
    lease = acquire(tmp_path)
    assert lease
    shutil.rmtree(tmp_path / "lease")
    with holding(tmp_path) as other:
        assert other

        def lost() -> bool:
            try:
                lease.check()
            except LeaseLost:
                return True
            return False

        until(lost, "the first holder to notice")
        lease.release()
        other.check()
        assert acquire(tmp_path) is None


def test_a_link_counts_as_created_despite_an_error_that_it_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS repeats a request whose reply was lost."""
    link = os.link

    def twice(*names: Path) -> None:
        link(*names)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", twice)
    with holding(tmp_path) as lease:
        assert lease
        assert acquire(tmp_path) is None


def test_without_hard_links_a_lease_still_has_one_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with holding(tmp_path) as lease:
        assert lease
        lease.check()
        assert acquire(tmp_path) is None
    with holding(tmp_path) as lease:
        assert lease


# --- forks


def test_a_forked_process_does_not_hold_its_parents_lease(tmp_path: Path, holder: Start) -> None:
    """It cannot write with the lease, release it, or keep it alive."""
    process = holder("node7")
    assert process.ask("fork").startswith("lost")
    assert acquire(tmp_path) is None
    process.kill()
    with holding(tmp_path, patience=4 * STALE) as lease:
        assert lease


# --- what is on disk


@pytest.mark.parametrize(
    "text", [b"", b'{"token": "ab', b"[]", b"\xff\xfe", b'{"token": 5}', b'{"token": "a", "process": 5, "job": null}']
)
def test_a_damaged_file_counts_as_held_until_it_is_stale(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "lease").mkdir()
    (tmp_path / "lease" / "3.json").write_bytes(text)
    assert seems_held(tmp_path)
    assert acquire(tmp_path) is None
    with holding(tmp_path, patience=4 * STALE) as lease:
        assert lease
        assert "4.json" in files(tmp_path)


def test_old_generations_and_unfinished_files_are_removed(tmp_path: Path) -> None:
    for _ in range(5):
        with holding(tmp_path) as lease:
            assert lease
    (tmp_path / "lease" / ".6.0123456789abcdef.tmp").write_text("{")  # left by a process that was killed
    with holding(tmp_path):
        assert files(tmp_path) == {"5.json", "6.json"}


@pytest.mark.parametrize(
    ("variables", "job"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "1234"}, "1234"),
        ({"SLURM_JOB_ID": "1241", "SLURM_ARRAY_JOB_ID": "1234", "SLURM_ARRAY_TASK_ID": "7"}, "1234_7"),
    ],
)
def test_a_lease_names_its_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], job: str | None
) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "gpu03")
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with holding(tmp_path):
        output = json.loads((tmp_path / "lease" / "1.json").read_text())
    assert (output["process"]["host"], output["process"]["pid"], output["job"]) == ("gpu03", os.getpid(), job)


BOUND_BY_PERMISSIONS = [] if os.getuid() else ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
"""Root ignores permissions; without its capabilities, permissions apply to it."""


@pytest.mark.skipif(bool(BOUND_BY_PERMISSIONS) and shutil.which("setpriv") is None, reason="no setpriv to drop root by")
def test_a_read_only_folder_is_reported_and_can_still_be_read(tmp_path: Path, holder: Start) -> None:
    holder("node7").kill()
    (tmp_path / "lease").chmod(0o555)
    code = (
        "import sys; from pathlib import Path; from assay.core.lease import acquire, seems_held; "
        "folder = Path(sys.argv[1]); print(seems_held(folder), flush=True); acquire(folder, patience=60)"
    )
    result = subprocess.run(
        [*BOUND_BY_PERMISSIONS, sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    (tmp_path / "lease").chmod(0o755)
    assert result.stdout == "True\n"
    assert f"Refused: {tmp_path}/lease: the lease cannot be written: Permission denied." in result.stderr


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(AssayError, match="lease: the disk is full"):
        acquire(tmp_path)
    assert files(tmp_path) == set()


# --- reading


def test_seems_held_reports_the_state_of_the_holder(tmp_path: Path, holder: Start) -> None:
    assert not seems_held(tmp_path)
    with holding(tmp_path):
        assert seems_held(tmp_path)
    assert not seems_held(tmp_path)
    process = holder("node7")
    assert seems_held(tmp_path)
    assert process.ask("release") == "released"
    assert not seems_held(tmp_path)
    holder().kill()
    assert not seems_held(tmp_path)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_file_with_an_old_or_future_time_is_no_sign_of_life(tmp_path: Path, hours: int) -> None:
    """A file of a dead node whose clock was ahead must not block its lease for ever."""
    generations = LeaseGenerations(tmp_path)
    generations.create(1, elsewhere("gone"))
    assert seems_held(tmp_path)
    os.utime(generations.file(1), (0, time.time() + 3600 * hours))
    assert not seems_held(tmp_path)


def test_reading_the_state_changes_no_files(tmp_path: Path) -> None:
    generations = LeaseGenerations(tmp_path)
    generations.create(1, elsewhere("there"))
    before = generations.current()
    assert seems_held(tmp_path)
    assert generations.current() == before
    assert files(tmp_path) == {"1.json"}


# --- times


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ASSAY_LEASE_BEAT": "often"}, "ASSAY_LEASE_BEAT: 'often' is invalid"),
        ({"ASSAY_LEASE_BEAT": "0"}, "ASSAY_LEASE_BEAT: 0 is invalid"),
        ({"ASSAY_LEASE_BEAT": "nan"}, "ASSAY_LEASE_BEAT: nan is invalid"),
        ({"ASSAY_LEASE_STALE": "inf"}, "ASSAY_LEASE_STALE: inf is invalid"),
        (
            {"ASSAY_LEASE_STALE": "30"},
            "ASSAY_LEASE_STALE: 30 is invalid; expected more than 3 times ASSAY_LEASE_BEAT .10",
        ),
    ],
)
def test_invalid_times_are_refused(variables: dict[str, str], message: str) -> None:
    with pytest.raises(AssayError, match=message):
        LeaseTimes.from_environment(variables)


def test_unset_times_have_their_defaults() -> None:
    assert LeaseTimes.from_environment({}) == LeaseTimes(beat=10, stale=60)
    assert LeaseTimes.from_environment({"ASSAY_LEASE_STALE": "31"}) == LeaseTimes(beat=10, stale=31)
