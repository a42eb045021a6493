"""One process at a time looks after a submission, whichever of them die or hang meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from assay.epochs import Epochs, Holder
from assay.launch.records import SubmissionDirectory
from assay.launch.slurm.ledger import Ledger
from assay.lease import LeaseLost, LeaseTimes, looks_held
from tests.launch.waiting import until

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
