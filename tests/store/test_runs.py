"""The content of a run's folder, and the processes that may write to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assay.core.errors import Damaged
from assay.core.lease import LeaseLost
from assay.core.lease_files import Holder, LeaseGenerations
from assay.store.runs import OLDEST_TRAINER, RunDirectory, Store
from tests.launch.planned_sweeps import EVALUATION, record
from tests.launch.polling import until


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.setenv("ASSAY_LEASE_BEAT", "0.05")
    monkeypatch.setenv("ASSAY_LEASE_STALE", "60")
    return record(Store(tmp_path), "web", 0, state="training", step=5)


def taken_over(run: RunDirectory) -> bool:
    """Let another holder take the run over; return once this process has detected it."""
    LeaseGenerations(run.path).create(2, Holder.current())

    def noticed() -> bool:
        try:
            run.check()
        except LeaseLost:
            return True
        return False

    until(noticed, "the renewal to detect it")
    return True


def contents(run: RunDirectory) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def test_a_process_that_lost_the_lease_writes_no_status_and_no_evaluation(run: RunDirectory) -> None:
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


def test_an_object_without_a_claim_may_write(run: RunDirectory) -> None:
    with run.claim() as lease:
        assert lease
        assert RunDirectory(run.path).update(state="queued").state == "queued"


def test_a_refused_claim_leaves_the_existing_claim_valid(run: RunDirectory) -> None:
    with run.claim() as first:
        assert first
        with run.claim() as second:
            assert second is None
        assert taken_over(run)
        with pytest.raises(LeaseLost):
            run.update(step=7)


def test_a_claim_that_ended_has_no_effect(run: RunDirectory) -> None:
    with run.claim():
        assert run.claimed
    assert not run.claimed
    assert run.update(step=7).step == 7


def test_a_status_without_a_code_digest_is_read(run: RunDirectory) -> None:
    plain = json.loads((run.path / "status.json").read_text())
    del plain["code"]
    (run.path / "status.json").write_text(json.dumps(plain))
    assert (run.status().state, run.status().code) == ("training", None)


def test_a_run_on_a_slurm_node_records_its_name(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "gpu03")
    assert run.update(step=6).host == "gpu03"


def test_a_run_of_an_older_trainer_is_reported_as_such(run: RunDirectory) -> None:
    path = run.path / "spec.json"
    plain = json.loads(path.read_text())
    plain["spec"]["trainer"] = OLDEST_TRAINER - 1
    path.write_text(json.dumps(plain))
    with pytest.raises(Damaged, match="trainer version 1 is invalid; expected 2 or later. An older version of assay"):
        run.spec()
