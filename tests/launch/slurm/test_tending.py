"""One process at a time looks after a submission, whichever of them die or hang meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.epochs import Epochs, Holder
from assay.launch.records import Submission, SubmissionDirectory, SubmittedRun
from assay.launch.slurm.ledger import Ledger
from assay.launch.slurm.tend import tend
from assay.launch.snapshot import freeze
from assay.lease import LeaseLost, LeaseTimes, looks_held
from assay.store import Store
from assay.study import Study
from tests.launch.planned import EVALUATION
from tests.launch.slurm.fakes import Commands, commands
from tests.launch.slurm.sweeps import profile
from tests.launch.waiting import until

__all__ = ["commands"]

TEND = """
import pathlib, sys
from assay.launch.records import SubmissionDirectory
with SubmissionDirectory(pathlib.Path(sys.argv[1])).tending() as held:
    print(held, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SubmissionDirectory:
    """A submission of a sweep, in which leases go stale within half a second."""
    monkeypatch.setenv("ASSAY_LEASE_BEAT", "0.1")
    monkeypatch.setenv("ASSAY_LEASE_STALE", "0.5")
    return SubmissionDirectory(tmp_path / "sweeps/tiny/submissions/one")


def tending_elsewhere(directory: SubmissionDirectory) -> subprocess.Popen[str]:
    """A process of another machine that looks after a submission until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", TEND, str(directory.path)],
        env={**os.environ, "SLURMD_NODENAME": "another"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


def test_who_looks_alive_on_another_machine_is_not_waited_for(directory: SubmissionDirectory) -> None:
    with tending_elsewhere(directory) as other:
        with directory.tending() as held:
            assert not held
        other.communicate()
    with directory.tending() as held:
        assert held


@pytest.mark.parametrize("patient", [True, False])
def test_who_died_on_another_machine_is_followed_at_once_by_the_patient_and_by_others_once_it_looks_dead(
    directory: SubmissionDirectory, patient: bool
) -> None:
    with tending_elsewhere(directory) as other:
        other.kill()
    if not patient:
        until(lambda: not looks_held(directory.path), "the lease to look as nobody's")
    with directory.tending(LeaseTimes.from_environment().patience if patient else None) as held:
        assert held


def test_who_was_suspended_until_somebody_else_took_over_sends_nothing_more(directory: SubmissionDirectory) -> None:
    ledger = Ledger(directory)
    with directory.tending() as held:
        assert held
        ledger.mean("tend")
        assert Epochs(directory.path).create(2, Holder.me())

        def lost() -> bool:
            try:
                directory.check()
            except LeaseLost:
                return True
            return False

        until(lost, "the lease to be found lost")
        with pytest.raises(LeaseLost):
            ledger.mean("tend")
    assert [batch.number for batch in ledger.batches()] == [1]


RUNNING = "\x1f".join(
    ["900_0", "RUNNING", "None", "n1", "0", "0", *["2026-11-23T16:33:31"] * 2, "0:04", "1:00:00", "theirs", ""]
)
"""As squeue says it."""


def test_where_another_sweeps_job_trains_a_run_the_next_look_comes_when_that_job_ends(
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
        looked = tend(directory)
    assert (looked.actions, looked.over) == ({"leave": 1}, False)
    assert [(batch.after, batch.begin_minutes) for batch in Ledger(directory).batches()] == [
        (("900_0",), 0.0),
        ((), 15.0),
    ]
