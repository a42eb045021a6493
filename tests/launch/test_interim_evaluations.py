"""Interim evaluations of a run: its scores during training, which do not affect its result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from assay.analysis.checkpoint_scores import collect_checkpoint_scores
from assay.analysis.results import collect
from assay.launch.local.run_process import debug_attempt
from assay.store.submissions import Submission, SubmissionDirectory, SubmittedRun
from tests.launch.polling import until

if TYPE_CHECKING:
    from assay.plan.workspace import Workspace
    from assay.store.runs import RunDirectory
    from tests.launch.conftest import MakeWorkspace

STEPS = 24
FRACTIONS = [0.5, 0.25]
"""After steps 12 and 6."""


def submitted(space: Workspace, name: str) -> tuple[SubmissionDirectory, RunDirectory]:
    """Create a submission of the sweep's first run, without starting it."""
    (planned, *_) = space.planner.plan().runs
    assert planned.spec is not None
    run = space.store.run(planned.spec.fingerprint)
    run.create(planned.spec, space.runs.labels(planned.mix, planned.seed))
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
            digests=space.sources.digests(space.mixes.sweep_sources),
            runs=(SubmittedRun(fingerprint=run.fingerprint, mix=planned.mix, seed=planned.seed),),
            evaluation=space.runs.evaluation,
            study=space.study.raw,
        )
    )
    return directory, run


def done(space: Workspace, name: str = "1") -> RunDirectory:
    directory, run = submitted(space, name)
    debug_attempt(directory, run.fingerprint)
    assert run.status().state == "done"
    return run


def final(run: RunDirectory) -> list[bytes]:
    """Return the results of a run: its weights, and its items, which do not depend on the clock."""
    (evaluation,) = run.evaluations()
    return [(run.model / "model.safetensors").read_bytes(), (run.evaluation(evaluation) / "items.parquet").read_bytes()]


@pytest.fixture
def alone(workspace: MakeWorkspace) -> RunDirectory:
    """Return the run without interim evaluations."""
    return done(workspace(steps=STEPS, paths__store="alone"))


def test_interim_evaluations_add_scores_and_do_not_change_the_final_bytes(
    workspace: MakeWorkspace, alone: RunDirectory
) -> None:
    """It is the same run for other sweeps: interim evaluations affect neither its identity nor that of its evaluation."""
    space = workspace(steps=STEPS, training__interim_evaluations=FRACTIONS)
    run = done(space)
    assert (run.fingerprint, run.evaluations()) == (alone.fingerprint, alone.evaluations())
    assert final(run) == final(alone)
    losses = [[(record["step"], record["loss"]) for record in one.history()] for one in (run, alone)]
    assert losses[0] == losses[1]

    (evaluation,) = run.evaluations()
    assert [
        (interim.step, interim.evaluated(evaluation), interim.has_weights) for interim in run.interim_evaluations()
    ] == [
        (6, True, False),
        (12, True, False),
    ]
    assert run.interim_evaluations()[1].delivered()["tokens"] == 12 * 256
    frame = collect_checkpoint_scores(space.store, space.planner.plan())
    code = frame[frame["task"] == "validation/code"]
    assert code["tokens"].tolist() == [6 * 256, 12 * 256, STEPS * 256]
    assert code["value"].is_monotonic_decreasing


def test_an_interim_evaluation_has_the_scores_of_a_run_that_ends_at_its_step(workspace: MakeWorkspace) -> None:
    """With a constant learning rate, the first half of a run equals a shorter run; its weights are kept on request."""
    constant = {"optim__schedule": "constant", "optim__warmup": 0.0}
    short = done(workspace(steps=STEPS // 2, paths__store="short", **constant))
    run = done(
        workspace(steps=STEPS, training__interim_evaluations=[0.5], training__keep_interim_weights=True, **constant)
    )
    (interim,) = run.interim_evaluations()
    assert interim.has_weights
    (evaluation,) = run.evaluations()
    assert interim.scores(evaluation) == short.scores(evaluation) != run.scores(evaluation)


ATTEMPT = """
import sys
from pathlib import Path
from assay.launch.local.run_process import debug_attempt
from assay.store.submissions import SubmissionDirectory

debug_attempt(SubmissionDirectory(Path(sys.argv[1])), sys.argv[2])
"""


def test_a_run_killed_during_an_interim_evaluation_repeats_it_and_ends_with_the_same_bytes(
    workspace: MakeWorkspace, alone: RunDirectory
) -> None:
    """No training is repeated, and no scores are lost."""
    space = workspace(steps=STEPS, training__interim_evaluations=FRACTIONS)
    directory, run = submitted(space, "1")
    process = subprocess.Popen([sys.executable, "-c", ATTEMPT, str(directory.path), run.fingerprint])
    try:
        at_interim = ("evaluating", 6)
        until(
            lambda: (run.status().state, run.status().step) == at_interim or process.poll() is not None,
            "the interim evaluation",
        )
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    (interim,) = run.interim_evaluations()
    assert interim.has_weights
    assert not interim.evaluations()
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-6"]

    run = done(space, "2")
    assert run.status().attempt == 2
    assert [
        (interim.step, len(interim.evaluations()), interim.has_weights) for interim in run.interim_evaluations()
    ] == [
        (6, 1, False),
        (12, 1, False),
    ]
    assert final(run) == final(alone)


def test_an_averaging_policy_evaluates_its_checkpoints_and_averages_their_scores(workspace: MakeWorkspace) -> None:
    space = workspace(steps=STEPS, policy__average={"last": 3, "every": 0.25})
    run = done(space)
    (evaluation,) = run.evaluations()
    checkpoints = run.interim_evaluations()
    assert [interim.step for interim in checkpoints] == [12, 18]
    found = collect(space.store, space.planner.plan())
    for task in ("validation/code", "validation/web", "validation/books"):
        parts = [
            next(score["value"] for score in record.scores(evaluation) if score["task"] == task)
            for record in (*checkpoints, run)
        ]
        (row,) = (row for row in found.scores.itertuples() if row.task == task)
        assert row.value == pytest.approx(sum(parts) / 3, abs=1e-12)
        items = found.items[found.items["task"] == task]
        assert (items["value"] * items["weight"]).sum() / items["weight"].sum() == pytest.approx(row.value, abs=1e-9)
