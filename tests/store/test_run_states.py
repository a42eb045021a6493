"""Run states: the transitions between them, and what each transition clears or keeps."""

from __future__ import annotations

from typing import get_args

import pytest

from assay.store.runs import ACTIVE, ENDED, FAILED, WAITING, Failure, RunDirectory, State, Status, Store
from tests.helpers.evaluations import write_evaluation
from tests.launch.planned_sweeps import record

FAILURE = Failure(kind="killed", message="SIGKILL")
STATES: tuple[State, ...] = get_args(State)


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return record(Store(tmp_path_factory.mktemp("store")), "web", 0, state="queued")


def put_weights(run: RunDirectory) -> None:
    run.model.mkdir(parents=True)
    (run.model / "model.safetensors").write_bytes(b"weights")


def other(run: RunDirectory) -> RunDirectory:
    """Return the run as another process sees it."""
    return RunDirectory(run.path)


def test_every_state_is_waiting_active_or_ended() -> None:
    assert set(STATES) == WAITING | ACTIVE | ENDED
    assert len(STATES) == len(WAITING) + len(ACTIVE) + len(ENDED)
    assert {state for state in STATES if Status(state=state).active} == ACTIVE
    assert {state for state in STATES if Status(state=state).ended} == ENDED
    assert {state for state in STATES if Status(state=state).failed} == FAILED < ENDED


def test_an_attempt_clears_the_outcome_of_the_previous_one_and_keeps_its_start(run: RunDirectory) -> None:
    run.update(state="failed", started=5.0, finished=7.0, failure=FAILURE, attempt=2, train_seconds=3.0)
    status = run.start_attempt(steps=100, submission="s", code="d")
    assert (status.state, status.attempt, status.started, status.finished) == ("preparing", 3, 5.0, None)
    assert (status.failure, status.job, status.code, status.train_seconds) == (None, "s", "d", 3.0)
    assert run.start_training(step=4).started == 5.0


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("trained", [True, False])
def test_requeue_clears_the_outcome_of_runs_that_are_not_waiting(
    run: RunDirectory, state: State, *, trained: bool
) -> None:
    if trained:
        put_weights(run)
    before = run.update(state=state, failure=FAILURE, finished=7.0, step=5)
    run.requeue()
    status = run.status()
    if state in WAITING:
        assert status == before
    else:
        assert (status.state, status.failure, status.finished) == ("trained" if trained else "queued", None, None)
    assert status.step == 5


def test_a_run_that_another_process_claimed_is_neither_requeued_nor_cancelled(run: RunDirectory) -> None:
    before = run.update(state="training")
    with run.claim() as lease:
        assert lease
        other(run).requeue()
        assert not other(run).cancel()
    assert run.status() == before
    assert run.cancel()
    assert run.status().state == "cancelled"


@pytest.mark.parametrize("state", STATES)
def test_release_changes_active_runs_only(run: RunDirectory, state: State) -> None:
    run.update(state=state, failure=None)
    run.release(step=6)
    assert (run.status().state, run.status().step) == (("queued", 6) if state in ACTIVE else (state, 0))
    put_weights(run)
    run.update(state="evaluating")
    run.release()
    assert run.status().state == "trained"


def test_the_end_of_a_run_has_a_time_and_its_failure(run: RunDirectory) -> None:
    failed = run.fail(FAILURE)
    assert (failed.state, failed.failure) == ("failed", FAILURE)
    assert failed.finished is not None
    diverged = run.fail(FAILURE, state="diverged", step=9)
    assert (diverged.state, diverged.step) == ("diverged", 9)
    run.start_attempt(steps=100, submission="s", code=None)
    assert run.finish_training("sha", step=100).weights == "sha"
    with run.evaluating():
        assert run.status().state == "evaluating"
    done = run.finish()
    assert (done.state, done.failure, done.weights) == ("done", None, "sha")
    assert done.finished is not None


def test_the_time_of_an_evaluation_that_fails_counts(run: RunDirectory) -> None:
    run.update(evaluate_seconds=10.0)
    with pytest.raises(ValueError, match="no"), run.evaluating():
        raise ValueError("no")
    assert run.status().evaluate_seconds > 10.0


@pytest.mark.parametrize(
    ("state", "expected"), [("training", "trained"), ("evaluating", "evaluating"), ("done", "done")]
)
def test_verified_weights_never_reset_a_later_state(run: RunDirectory, state: State, expected: State) -> None:
    run.update(state=state)
    assert run.mark_trained().state == expected


def test_the_newest_evaluation_was_written_last(run: RunDirectory) -> None:
    assert run.newest_evaluation() is None
    for fingerprint in ("b" * 64, "a" * 64):
        write_evaluation(run.evaluation(fingerprint))
    assert run.newest_evaluation() == "a" * 64
