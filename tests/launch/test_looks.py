"""Looks at a run: its scores on the way, which cost it nothing but the time to take them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from assay.launch.attempt import attempt_here
from assay.launch.records import Submission, SubmissionDirectory, SubmittedRun
from assay.looks import collect_looks
from assay.results import collect
from tests.launch.waiting import until

if TYPE_CHECKING:
    from assay.store import RunDirectory
    from assay.workspace import Workspace
    from tests.launch.conftest import MakeWorkspace

STEPS = 24
LOOKS = [0.5, 0.25]
"""After steps 12 and 6."""


def submitted(space: Workspace, name: str) -> tuple[SubmissionDirectory, RunDirectory]:
    """A submission of the sweep's first run; nothing is started."""
    (planned, *_) = space.plan().runs
    assert planned.spec is not None
    run = space.store.run(planned.spec.fingerprint)
    run.create(planned.spec, space.labels(planned.mix, planned.seed))
    directory = SubmissionDirectory(space.store.sweep("tiny").absolute() / "submissions" / name)
    directory.create(
        Submission(
            id=name,
            sweep="tiny",
            created=0.0,
            cluster="local",
            executor="local",
            workers=1,
            code="c" * 64,
            digests=space.digests,
            runs=(SubmittedRun(fingerprint=run.fingerprint, mix=planned.mix, seed=planned.seed),),
            evaluation=space.evaluation,
            study=space.study.raw,
        )
    )
    return directory, run


def done(space: Workspace, name: str = "1") -> RunDirectory:
    directory, run = submitted(space, name)
    attempt_here(directory, run.fingerprint)
    assert run.status().state == "done"
    return run


def final(run: RunDirectory) -> list[bytes]:
    """All that a run ends with: its weights, and its questions, which have no clock in them."""
    (evaluation,) = run.evaluations()
    return [(run.model / "model.safetensors").read_bytes(), (run.evaluation(evaluation) / "items.parquet").read_bytes()]


@pytest.fixture
def alone(workspace: MakeWorkspace) -> RunDirectory:
    """The run that nobody looked at."""
    return done(workspace(steps=STEPS, paths__store="alone"))


def test_a_run_that_is_looked_at_ends_with_the_same_bytes_and_has_its_scores_on_the_way(
    workspace: MakeWorkspace, alone: RunDirectory
) -> None:
    """It is the same run to every other sweep: looks are no part of its identity, nor of its evaluation's."""
    space = workspace(steps=STEPS, training__looks=LOOKS)
    run = done(space)
    assert (run.fingerprint, run.evaluations()) == (alone.fingerprint, alone.evaluations())
    assert final(run) == final(alone)
    losses = [[(record["step"], record["loss"]) for record in one.history()] for one in (run, alone)]
    assert losses[0] == losses[1]

    (evaluation,) = run.evaluations()
    assert [(look.step, look.evaluated(evaluation), look.kept) for look in run.looks()] == [
        (6, True, False),
        (12, True, False),
    ]
    assert run.looks()[1].delivered()["tokens"] == 12 * 256
    frame = collect_looks(space.store, space.plan())
    code = frame[frame["task"] == "validation/code"]
    assert code["tokens"].tolist() == [6 * 256, 12 * 256, STEPS * 256]
    assert code["value"].is_monotonic_decreasing


def test_a_look_has_the_scores_of_a_run_that_ends_there(workspace: MakeWorkspace) -> None:
    """With a constant learning rate the first half of a run is a run; its weights stay where they are asked to."""
    constant = {"optim__schedule": "constant", "optim__warmup": 0.0}
    short = done(workspace(steps=STEPS // 2, paths__store="short", **constant))
    run = done(workspace(steps=STEPS, training__looks=[0.5], training__keep_looks=True, **constant))
    (look,) = run.looks()
    assert look.kept
    (evaluation,) = run.evaluations()
    assert look.scores(evaluation) == short.scores(evaluation) != run.scores(evaluation)


ATTEMPT = """
import sys
from pathlib import Path
from assay.launch.attempt import attempt_here
from assay.launch.records import SubmissionDirectory

attempt_here(SubmissionDirectory(Path(sys.argv[1])), sys.argv[2])
"""


def test_killed_while_a_look_is_scored_the_run_scores_it_first_and_ends_with_the_same_bytes(
    workspace: MakeWorkspace, alone: RunDirectory
) -> None:
    """Nothing is trained again, and nothing that was scored is lost."""
    space = workspace(steps=STEPS, training__looks=LOOKS)
    directory, run = submitted(space, "1")
    process = subprocess.Popen([sys.executable, "-c", ATTEMPT, str(directory.path), run.fingerprint])
    try:
        at_look = ("evaluating", 6)
        until(lambda: (run.status().state, run.status().step) == at_look or process.poll() is not None, "the look")
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    (look,) = run.looks()
    assert look.kept
    assert not look.evaluations()
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-6"]

    run = done(space, "2")
    assert run.status().attempt == 2
    assert [(look.step, len(look.evaluations()), look.kept) for look in run.looks()] == [(6, 1, False), (12, 1, False)]
    assert final(run) == final(alone)


def test_a_policy_that_averages_has_its_checkpoints_scored_and_a_score_is_their_mean(workspace: MakeWorkspace) -> None:
    space = workspace(steps=STEPS, policy__average={"last": 3, "every": 0.25})
    run = done(space)
    (evaluation,) = run.evaluations()
    looks = run.looks()
    assert [look.step for look in looks] == [12, 18]
    found = collect(space.store, space.plan())
    for task in ("validation/code", "validation/web", "validation/books"):
        parts = [
            next(score["value"] for score in record.scores(evaluation) if score["task"] == task)
            for record in (*looks, run)
        ]
        (row,) = (row for row in found.scores.itertuples() if row.task == task)
        assert row.value == pytest.approx(sum(parts) / 3, abs=1e-12)
        items = found.items[found.items["task"] == task]
        assert (items["value"] * items["weight"]).sum() / items["weight"].sum() == pytest.approx(row.value, abs=1e-9)
