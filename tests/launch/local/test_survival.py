"""Real runs of real workers on this machine, and what survives their failures."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from assay.core.errors import Refused
from assay.launch.cancel import cancel
from assay.launch.snapshot import freeze
from assay.launch.submit import _start, submit
from assay.plan.workspace import Workspace
from assay.store.submissions import Submission, SubmissionDirectory, SubmittedRun, submissions
from tests.launch.polling import until, until_quiet, until_state

if TYPE_CHECKING:
    from assay.store.runs import RunDirectory
    from tests.launch.conftest import MakeWorkspace

ENDLESS = 1_000_000
"""Steps of runs that are stopped during training."""


def runs_of(space: Workspace) -> list[RunDirectory]:
    """List the runs of the sweep's last submission, in order."""
    return submissions(space.store, "tiny")[-1].runs()


def reference(space: Workspace, folder: Path) -> dict[str, str | None]:
    """Return the weights of the same runs in another store, without interruptions, by fingerprint."""
    raw = {**space.study.raw, "cluster": {**space.study.raw["cluster"], "executor": "debug"}}
    raw["paths"] = {**raw["paths"], "store": str(folder)}
    quiet = Workspace(type(space.study).parse(raw))
    submit(quiet, quiet.planner.plan())
    return {run.fingerprint: run.status().weights for run in quiet.store.runs()}


def test_a_run_that_raises_or_is_killed_does_not_affect_other_runs(workspace: MakeWorkspace) -> None:
    space = workspace(steps=800, sweep__seeds=[0])
    plan = space.planner.plan()
    raising, killed, last = (space.store.run(run.fingerprint) for run in plan.runs)
    raising.metrics.mkdir(parents=True)  # a folder in place of a file
    submit(space, plan)
    until_state(killed, "training")
    os.kill(killed.status().pid, signal.SIGKILL)
    until_quiet(space.store)

    assert last.status().state == "done"
    failure = raising.status().failure
    assert raising.status().state == "failed"
    assert failure.kind == "IsADirectoryError"
    assert "Traceback" in Path(failure.log).read_text()
    assert killed.status().state == "failed"
    assert (killed.status().failure.kind, "SIGKILL" in killed.status().failure.message) == ("killed", True)


def test_a_killed_worker_ends_its_run_and_another_submission_finishes_it(
    workspace: MakeWorkspace, tmp_path: Path
) -> None:
    """No second copy continues to write; the weights equal those of an uninterrupted run."""
    space = workspace(steps=800, sweep__seeds=[0], sweep__candidates=["no_books"], training__checkpoint_steps=100)
    submit(space, space.planner.plan())
    run, _ = runs_of(space)
    until(lambda: list(run.checkpoints.glob("step-*")), "a checkpoint")
    assert run.status().state == "training"
    (worker,) = submissions(space.store, "tiny")[-1].workers()
    assert worker.process.send(signal.SIGKILL)
    until(lambda: not run.claimed, "the run's process to end with its worker")
    until_quiet(space.store)
    assert run.status().state == "training"
    assert submit(space, space.planner.plan()) is not None
    until_quiet(space.store)
    assert [run.status().state for run in runs_of(space)] == ["done", "done"]
    assert run.status().attempt == 2
    assert {run.fingerprint: run.status().weights for run in space.store.runs()} == reference(space, tmp_path / "quiet")


def test_cancelling_stops_some_or_all_runs_and_another_submission_resumes_them(
    workspace: MakeWorkspace,
) -> None:
    space = workspace(steps=ENDLESS, sweep__seeds=[0])
    submit(space, space.planner.plan())
    base, more_web, no_books = runs_of(space)
    until_state(base, "training")

    some = cancel(space.store, "tiny", mix="base")
    assert some.stopped == ("base s0",)
    assert base.status().state == "cancelled"
    assert not base.claimed
    assert list(base.checkpoints.glob("step-*"))
    stopped_at = base.status().step
    assert stopped_at > 0

    until_state(more_web, "training")
    rest = cancel(space.store, "tiny")
    assert set(rest.stopped) == {"more_web s0", "no_books s0"}
    assert not rest.still_running
    assert not submissions(space.store, "tiny")[-1].live
    assert [run.status().state for run in (base, more_web, no_books)] == ["cancelled"] * 3

    assert len(submit(space, space.planner.plan()).runs) == 3
    assert until_state(base, "training").step >= stopped_at
    assert base.status().attempt == 2


def test_cancelling_on_a_full_disk_stops_the_workers_and_reports_the_failed_write(
    workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = workspace(steps=ENDLESS, sweep__seeds=[0])
    submit(space, space.planner.plan())
    until_state(runs_of(space)[0], "training")

    def full(*_: object) -> None:
        raise Refused("cancelled.json: the disk is full.", fix="Free some space.")

    monkeypatch.setattr(SubmissionDirectory, "cancel", full)
    with pytest.raises(Refused, match="the disk is full. The workers were signaled to stop"):
        cancel(space.store, "tiny")
    assert not submissions(space.store, "tiny")[-1].live


def test_two_submissions_of_the_same_runs_at_once_train_each_run_once(workspace: MakeWorkspace) -> None:
    """Even if both submissions contain the same runs, as from two users on two machines."""
    space = workspace(steps=400, sweep__seeds=[0], cluster__workers=2)
    plan = space.planner.plan()
    for run in plan.runs:
        space.store.run(run.fingerprint).create(run.spec, space.runs.labels(run.mix, run.seed))
    for identifier in ("20260101T000000-000001", "20260101T000000-000002"):
        directory = SubmissionDirectory(space.store.sweep("tiny").absolute() / "submissions" / identifier)
        directory.create(
            Submission(
                id=identifier,
                sweep="tiny",
                created=0.0,
                cluster="local",
                executor="local",
                workers=1,
                code=freeze(space.store).digest,
                digests=space.sources.digests(space.mixes.sweep_sources),
                runs=tuple(SubmittedRun(fingerprint=run.fingerprint, mix=run.mix, seed=run.seed) for run in plan.runs),
                evaluation=space.runs.evaluation,
                study=space.study.raw,
            )
        )
        _start(directory)
    until_quiet(space.store)
    for run in space.store.runs():
        status = run.status()
        assert (status.state, status.failure) == ("done", None)
        assert status.attempt == 1
        steps = [record["step"] for record in run.history()]
        assert steps == sorted(set(steps))
