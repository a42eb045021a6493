"""Scores at intermediate checkpoints: read from the store, and averaged if the policy requires it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from assay.analysis.checkpoint_scores import collect_checkpoint_items, collect_checkpoint_scores
from assay.analysis.results import SCORES, collect
from assay.analysis.verdict import decide_sweep
from assay.config.reason import Code, Reason
from assay.core.files import read_json, write_json
from tests.helpers.finished import finish, look_at

if TYPE_CHECKING:
    from assay.config.study import Study
    from assay.plan.workspace import Workspace

STEPS = 20
PER_STEP = 256
"""Tokens."""
AVERAGE = {"policy__average": {"last": 3, "every": 0.1}}
"""Steps 16, 18 and 20."""


@pytest.fixture
def make(tiny_study: Callable[..., Study]) -> Callable[..., Workspace]:
    from assay.plan.workspace import Workspace

    def sweep(**overrides: Any) -> Workspace:
        return Workspace(tiny_study(steps=STEPS, **overrides))

    return sweep


def finished(space: Workspace, *, steps: tuple[int, ...] = (16, 18)) -> None:
    """Finish every run of the sweep, with interim evaluations at these steps; `more_web` is better at code."""
    for mix in space.study.require_sweep().mixes:
        for seed in (0, 1):
            bits = {"code": -0.1 if mix == "more_web" else 0.0}
            finish(space, mix, seed, bits=bits)
            for step in steps:
                look_at(space, mix, seed, step=step, bits={"code": bits["code"] + 0.01 * (STEPS - step)})


def test_runs_have_a_row_per_intermediate_and_final_evaluation(make: Callable[..., Workspace]) -> None:
    space = make()
    assert collect_checkpoint_scores(space.store, space.planner.plan()).columns.tolist() == SCORES
    look_at(space, "base", 0, step=5)
    look_at(space, "base", 1, step=10)
    look_at(space, "base", 1, step=5)
    finish(space, "more_web", 1)
    frame = collect_checkpoint_scores(space.store, space.planner.plan())
    code = frame[frame["task"] == "validation/code"]
    assert [*zip(code["mix"], code["seed"], code["tokens"] // PER_STEP, strict=True)] == [
        ("base", 0, 5),
        ("base", 1, 5),
        ("base", 1, 10),
        ("more_web", 1, STEPS),
    ]
    assert set(frame["scale"]) == {space.runs.parameters}
    items = collect_checkpoint_items(space.store, space.planner.plan())
    means = items.groupby(["mix", "seed", "tokens", "task"])["value"].mean()
    assert means.to_numpy() == pytest.approx(frame.set_index(["mix", "seed", "tokens", "task"])["value"].sort_index())


def test_an_evaluation_with_a_damaged_record_or_a_wrong_delivered_mix_is_excluded_with_a_log_message(
    make: Callable[..., Workspace], caplog: pytest.LogCaptureFixture
) -> None:
    space = make()
    looks = [look_at(space, "base", 0, step=step) for step in (4, 8, 12, 16)]
    record = read_json(looks[0].path / "delivered.json")
    record["delivered"]["code"]["sequences"] += 9
    write_json(looks[0].path / "delivered.json", record)
    (looks[1].path / "delivered.json").write_text("{")
    (evaluation,) = looks[2].evaluations()
    (looks[2].evaluation(evaluation) / "scores.json").write_text('{"scores": 1}\n')
    frame = collect_checkpoint_scores(space.store, space.planner.plan())
    assert set(frame["tokens"]) == {16 * PER_STEP}
    assert [message.split(" is excluded")[0] for message in caplog.messages] == [
        f"base s0 at {step * PER_STEP:,} tokens" for step in (4, 8, 12)
    ]


def test_a_score_is_the_mean_over_the_last_checkpoints_and_the_verdict_reports_it(
    make: Callable[..., Workspace],
) -> None:
    """The items are averaged too, and other interim evaluations do not contribute."""
    space = make(**AVERAGE)
    finished(space, steps=(4, 16, 18))
    every = collect_checkpoint_scores(space.store, space.planner.plan())
    results = collect(space.store, space.planner.plan())
    assert not results.missing
    last = every[every["tokens"] > 15 * PER_STEP]
    by_hand = last.groupby(["mix", "seed", "task"])["value"].mean()
    assert len(results.scores) == len(by_hand)
    for row in results.scores.itertuples():
        assert row.value == pytest.approx(by_hand[row.mix, row.seed, row.task], abs=1e-12)
        assert (row.tokens, row.checkpoints) == (STEPS * PER_STEP, 3)
    verdict = decide_sweep(space, space.planner.plan()).candidates["more_web"]
    code = next(c for c in verdict.comparisons if c.task == "validation/code")
    want = by_hand[:, :, "validation/code"]
    assert code.effect == pytest.approx(want["more_web"].mean() - want["base"].mean())
    assert code.n_items is not None
    assert verdict.scope[-1] == Reason(code=Code.SCOPE_CHECKPOINT_MEANS, figures={"last": 3})


def test_a_run_that_lacks_a_checkpoint_is_reported_and_excluded(make: Callable[..., Workspace]) -> None:
    space = make(**AVERAGE)
    finished(space, steps=(18,))
    for mix in ("base", "more_web"):
        for seed in (0, 1):
            if (mix, seed) != ("base", 1):
                look_at(space, mix, seed, step=16)
    results = collect(space.store, space.planner.plan())
    figures = {"steps": (16,), "run_steps": STEPS, "last": 3}
    lacking = Reason(code=Code.CHECKPOINTS_NOT_SCORED, figures=figures)
    assert results.missing == {
        mix: [Reason(code=Code.MISSING_RUNS, figures={"seeds": seeds}, causes=(lacking,))]
        for mix, seeds in {"base": (1,), "no_books": (0, 1)}.items()
    }
    assert set(zip(results.scores["mix"], results.scores["seed"], strict=True)) == {
        ("base", 0),
        ("more_web", 0),
        ("more_web", 1),
    }


def test_the_plan_reports_trained_runs_without_evaluable_checkpoints(make: Callable[..., Workspace]) -> None:
    space = make(**AVERAGE)
    finished(space, steps=(18,))
    for run in space.planner.plan().runs:
        (space.store.run(run.spec.fingerprint).model).mkdir()
        (space.store.run(run.spec.fingerprint).model / "model.safetensors").touch()
    (warning,) = (one for one in space.planner.plan().warnings if one.code is Code.INTERIM_SCORES_LOST)
    assert warning.figures == {"runs": {"80%": 6}, "last": 3}
    assert not [one for one in make().planner.plan().warnings if one.code is Code.INTERIM_SCORES_LOST]


def test_the_policys_checkpoints_and_the_configured_interim_evaluations_are_combined(
    make: Callable[..., Workspace],
) -> None:
    study = make(**AVERAGE, training__interim_evaluations=[0.5, 0.8]).study
    assert study.interim_fractions == pytest.approx((0.5, 0.8, 0.9))
    assert make().study.interim_fractions == ()
