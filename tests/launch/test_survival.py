"""Real runs by real workers on this machine: what survives what."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from assay.errors import AssayError
from assay.launch.cancel import cancel
from assay.launch.records import Submission, SubmissionDirectory, SubmittedRun, submissions
from assay.launch.snapshot import freeze
from assay.launch.submission import _start, submit
from assay.workspace import Workspace
from tests.launch.waiting import until, until_quiet, until_state

if TYPE_CHECKING:
    from assay.store import RunDirectory
    from tests.launch.conftest import MakeWorkspace

ENDLESS = 1_000_000
"""Steps of runs that are stopped while they train."""


def runs_of(space: Workspace) -> list[RunDirectory]:
    """The runs of the sweep's last submission, in order."""
    return submissions(space.store, "tiny")[-1].runs()


def reference(space: Workspace, folder: Path) -> dict[str, str | None]:
    """The weights that the same runs end with in another store, where nothing happens to them; by fingerprint."""
    raw = {**space.study.raw, "cluster": {**space.study.raw["cluster"], "executor": "debug"}}
    raw["paths"] = {**raw["paths"], "store": str(folder)}
    quiet = Workspace(type(space.study).parse(raw))
    submit(quiet, quiet.plan())
    return {run.fingerprint: run.status().weights for run in quiet.store.runs()}


def test_a_run_that_raises_and_one_that_is_killed_take_no_neighbour_along(workspace: MakeWorkspace) -> None:
    space = workspace(steps=800, sweep__seeds=[0])
    plan = space.plan()
    raising, killed, last = (space.store.run(run.fingerprint) for run in plan.runs)
    raising.metrics.mkdir(parents=True)  # a folder where a file has to be
    submit(space, plan)
    until_state(killed, "training")
    os.kill(killed.status().pid, signal.SIGKILL)
    until_quiet(space.store)

    assert last.status().state == "done"
    told = raising.status().failure
    assert raising.status().state == "failed"
    assert told.kind == "IsADirectoryError"
    assert "Traceback" in Path(told.log).read_text()
    assert killed.status().state == "failed"
    assert (killed.status().failure.kind, "SIGKILL" in killed.status().failure.message) == ("killed", True)


def test_a_killed_worker_takes_its_run_along_and_submitting_again_finishes_it(
    workspace: MakeWorkspace, tmp_path: Path
) -> None:
    """No second copy is left that writes; and the weights are those of a run that was left alone."""
    space = workspace(steps=800, sweep__seeds=[0], sweep__candidates=["no_books"], training__checkpoint_steps=100)
    submit(space, space.plan())
    run, _ = runs_of(space)
    until(lambda: list(run.checkpoints.glob("step-*")), "a checkpoint")
    assert run.status().state == "training"
    (worker,) = submissions(space.store, "tiny")[-1].workers()
    assert worker.process.send(signal.SIGKILL)
    until(lambda: not run.claimed, "the run's process to end with its worker")
    until_quiet(space.store)
    assert run.status().state == "training"
    assert submit(space, space.plan()) is not None
    until_quiet(space.store)
    assert [run.status().state for run in runs_of(space)] == ["done", "done"]
    assert run.status().attempt == 2
    assert {run.fingerprint: run.status().weights for run in space.store.runs()} == reference(space, tmp_path / "quiet")


def test_cancelling_stops_some_runs_or_all_keeps_their_work_and_submitting_again_goes_on(
    workspace: MakeWorkspace,
) -> None:
    space = workspace(steps=ENDLESS, sweep__seeds=[0])
    submit(space, space.plan())
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

    assert len(submit(space, space.plan()).runs) == 3
    assert until_state(base, "training").step >= stopped_at
    assert base.status().attempt == 2


def test_cancelling_on_a_full_disk_stops_the_workers_and_says_what_could_not_be_written(
    workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = workspace(steps=ENDLESS, sweep__seeds=[0])
    submit(space, space.plan())
    until_state(runs_of(space)[0], "training")

    def full(*_: object) -> None:
        raise AssayError("cancelled.json: the disk is full.", fix="Free some space.")

    monkeypatch.setattr(SubmissionDirectory, "cancel", full)
    with pytest.raises(AssayError, match="the disk is full. The workers were told to stop"):
        cancel(space.store, "tiny")
    assert not submissions(space.store, "tiny")[-1].live


def test_two_submissions_of_the_same_runs_at_once_train_each_run_once(workspace: MakeWorkspace) -> None:
    """Even where both have sent the same runs, as two people on two machines may."""
    space = workspace(steps=400, sweep__seeds=[0], cluster__workers=2)
    plan = space.plan()
    for run in plan.runs:
        space.store.run(run.fingerprint).create(run.spec, space.labels(run.mix, run.seed))
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
                digests=space.digests,
                runs=tuple(SubmittedRun(fingerprint=run.fingerprint, mix=run.mix, seed=run.seed) for run in plan.runs),
                evaluation=space.evaluation,
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
