"""What is written into a run's folder, and who may."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assay.epochs import Epochs, Holder
from assay.lease import LeaseLost
from assay.store import RunDirectory, Store
from tests.launch.planned import EVALUATION, record
from tests.launch.waiting import until


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.setenv("ASSAY_LEASE_BEAT", "0.05")
    monkeypatch.setenv("ASSAY_LEASE_STALE", "60")
    return record(Store(tmp_path), "web", 0, state="training", step=5)


def taken_over(run: RunDirectory) -> bool:
    """Have somebody else take the run over; returns once this process knows."""
    Epochs(run.path).create(2, Holder.me())

    def noticed() -> bool:
        try:
            run.check()
        except LeaseLost:
            return True
        return False

    until(noticed, "the beat to see it")
    return True


def contents(run: RunDirectory) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def test_whoever_lost_a_run_writes_no_status_and_no_evaluation(run: RunDirectory) -> None:
    with run.claim() as lease:
        assert lease
        run.update(step=6)
        assert taken_over(run)
        before = contents(run)
        with pytest.raises(LeaseLost):
            run.update(step=7)
        with pytest.raises(LeaseLost), run.writing_evaluation(EVALUATION.fingerprint) as folder:
            folder.mkdir()
            (folder / "scores.json").write_text("{}\n")
    assert contents(run) == before
    assert run.status().step == 6


def test_an_object_that_never_claimed_the_run_may_write_as_before(run: RunDirectory) -> None:
    with run.claim() as lease:
        assert lease
        assert RunDirectory(run.path).update(state="queued").state == "queued"


def test_being_refused_a_run_leaves_the_claim_that_stands(run: RunDirectory) -> None:
    with run.claim() as first:
        assert first
        with run.claim() as second:
            assert second is None
        assert taken_over(run)
        with pytest.raises(LeaseLost):
            run.update(step=7)


def test_a_claim_that_ended_binds_nobody(run: RunDirectory) -> None:
    with run.claim():
        assert run.claimed
    assert not run.claimed
    assert run.update(step=7).step == 7


def test_a_status_that_was_written_before_the_code_was_recorded_is_read(run: RunDirectory) -> None:
    plain = json.loads((run.path / "status.json").read_text())
    del plain["code"]
    (run.path / "status.json").write_text(json.dumps(plain))
    assert (run.status().state, run.status().code) == ("training", None)


def test_a_run_on_a_slurm_node_says_which(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "gpu03")
    assert run.update(step=6).host == "gpu03"
