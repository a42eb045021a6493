"""The debug executor: everything in the calling process, so that a debugger sees it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from assay.launch.submission import submit

if TYPE_CHECKING:
    from assay.store import RunDirectory
    from tests.launch.conftest import MakeWorkspace


def test_everything_happens_in_this_very_process(workspace: MakeWorkspace) -> None:
    space = workspace(cluster__executor="debug", sweep__seeds=[0])
    sent = submit(space, space.plan())
    for run in space.store.runs():
        status = run.status()
        assert (status.state, status.pid, status.attempt) == ("done", os.getpid(), 1)
        assert run.evaluated(sent.evaluation.fingerprint)
    assert submit(space, space.plan()) is None


def test_an_exception_goes_through_to_the_debugger_and_is_on_record(workspace: MakeWorkspace) -> None:
    space = workspace(cluster__executor="debug", sweep__seeds=[0])
    plan = space.plan()
    run = space.store.run(plan.runs[0].fingerprint)
    run.metrics.mkdir(parents=True)  # a folder where a file has to be
    with pytest.raises(IsADirectoryError):
        submit(space, plan)
    assert run.status().state == "failed"
    assert run.status().failure.kind == "IsADirectoryError"


def test_ctrl_c_gives_the_run_back(workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("assay.train.loop.train", interrupted)
    space = workspace(cluster__executor="debug", sweep__seeds=[0])
    plan = space.plan()
    with pytest.raises(KeyboardInterrupt):
        submit(space, plan)
    assert space.store.run(plan.runs[0].fingerprint).status().state == "queued"


def test_work_that_was_done_before_is_not_done_again(workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another sweep's evaluation of the same runs trains nothing."""
    space = workspace(cluster__executor="debug", sweep__seeds=[0])
    submit(space, space.plan())
    weights = {run.fingerprint: run.status().weights for run in space.store.runs()}

    def train(*_: Any, **__: Any) -> NoReturn:
        pytest.fail("trained again")

    monkeypatch.setattr("assay.train.loop.train", train)
    other = workspace(cluster__executor="debug", sweep__name="another", sweep__seeds=[0], suite__validation_bytes=5_000)
    assert other.store.root == space.store.root
    submit(other, other.plan())
    for run in other.store.runs():
        assert run.status().weights == weights[run.fingerprint]
        assert run.evaluated(space.evaluation.fingerprint)
        assert run.evaluated(other.evaluation.fingerprint)


def test_a_finished_run_is_told_to_wandb_whose_trouble_costs_the_run_nothing(
    workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = []

    def publish(_: Any, run: RunDirectory, *, sweep: str, evaluation: str, **__: Any) -> NoReturn:
        told.append((run.fingerprint, sweep, run.evaluated(evaluation)))
        raise OSError("no W&B today")

    monkeypatch.setattr("assay.publish.tracking.publish_run", publish)
    space = workspace(cluster__executor="debug", sweep__seeds=[0])
    sent = submit(space, space.plan())
    assert sent is not None
    assert told == [(run.fingerprint, "tiny", True) for run in sent.runs]
    assert [run.status().state for run in space.store.runs()] == ["done"] * 3
    assert "no W&B today" in caplog.text
