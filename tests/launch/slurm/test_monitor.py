"""Only the holder of the monitor lease acts on a submission, even if holders die or hang."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.config.study import Study
from assay.core.lease import LeaseLost, LeaseTimes, seems_held
from assay.core.lease_files import Holder, LeaseGenerations
from assay.launch.slurm.batches import Ledger
from assay.launch.slurm.monitor import monitor_submission
from assay.launch.snapshot import freeze
from assay.store.runs import Store
from assay.store.submissions import Submission, SubmissionDirectory, SubmittedRun
from tests.launch.planned_sweeps import EVALUATION
from tests.launch.polling import until
from tests.launch.slurm.fakes import Commands, commands
from tests.launch.slurm.sweeps import profile

__all__ = ["commands"]

HOLD = """
import pathlib, sys
from assay.store.submissions import SubmissionDirectory
with SubmissionDirectory(pathlib.Path(sys.argv[1])).hold_monitor_lease() as held:
    print(held, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SubmissionDirectory:
    """Return a submission of a sweep in which leases are stale after half a second."""
    monkeypatch.setenv("ASSAY_LEASE_BEAT", "0.1")
    monkeypatch.setenv("ASSAY_LEASE_STALE", "0.5")
    return SubmissionDirectory(tmp_path / "sweeps/tiny/submissions/one")


def hold_elsewhere(directory: SubmissionDirectory) -> subprocess.Popen[str]:
    """Start a process of another machine that holds the monitor lease until its standard input closes."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory.path)],
        env={**os.environ, "SLURMD_NODENAME": "another"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


def test_a_live_lease_holder_on_another_machine_is_not_awaited(directory: SubmissionDirectory) -> None:
    with hold_elsewhere(directory) as other:
        with directory.hold_monitor_lease() as held:
            assert not held
        other.communicate()
    with directory.hold_monitor_lease() as held:
        assert held


@pytest.mark.parametrize("patient", [True, False])
def test_the_lease_of_a_dead_holder_on_another_machine_is_acquired(
    directory: SubmissionDirectory, patient: bool
) -> None:
    with hold_elsewhere(directory) as other:
        other.kill()
    if not patient:
        until(lambda: not seems_held(directory.path), "the lease to look free")
    with directory.hold_monitor_lease(LeaseTimes.from_environment().patience if patient else None) as held:
        assert held


def test_a_suspended_process_that_lost_the_lease_submits_nothing(directory: SubmissionDirectory) -> None:
    ledger = Ledger(directory)
    with directory.hold_monitor_lease() as held:
        assert held
        ledger.declare("monitor")
        assert LeaseGenerations(directory.path).create(2, Holder.current())

        def lost() -> bool:
            try:
                directory.check()
            except LeaseLost:
                return True
            return False

        until(lost, "the lease to be lost")
        with pytest.raises(LeaseLost):
            ledger.declare("monitor")
    assert [batch.number for batch in ledger.batches()] == [1]


RUNNING = "\x1f".join(
    ["900_0", "RUNNING", "None", "n1", "0", "0", *["2026-11-23T16:33:31"] * 2, "0:04", "1:00:00", "theirs", ""]
)
"""A row of squeue."""


def test_the_next_monitor_job_depends_on_another_sweeps_job_that_trains_a_run(
    tmp_path: Path, commands: Commands, tiny_study: Callable[..., Study]
) -> None:
    commands.prints("squeue", RUNNING + "\n")
    commands.script("sbatch", "echo 'Submitted batch job 901'")
    store, shared = Store(tmp_path / "store"), SubmittedRun(fingerprint="a" * 64, mix="base", seed=0)
    directory = SubmissionDirectory(store.sweep("tiny") / "submissions" / "20260101T000000-abcdef")
    directory.create(
        Submission(
            id=directory.path.name,
            sweep="tiny",
            created=0.0,
            cluster="tests",
            executor="slurm",
            workers=1,
            code=freeze(store).digest,
            digests={},
            runs=(shared,),
            evaluation=EVALUATION,
            study=tiny_study(cluster=profile({})).raw,
        )
    )
    with store.run(shared.fingerprint).claim() as held:
        assert held
        store.run(shared.fingerprint).update(state="training", job="900_0")
        result = monitor_submission(directory)
    assert (result.actions, result.over) == ({"keep": 1}, False)
    assert [(batch.after, batch.begin_minutes) for batch in Ledger(directory).batches()] == [
        (("900_0",), 0.0),
        ((), 15.0),
    ]
