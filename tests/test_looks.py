"""What a sweep's runs scored on their way: read from the store, and averaged where the policy asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from assay.conclude import judge
from assay.files import read_json, write_json
from assay.looks import collect_look_items, collect_looks
from assay.results import SCORES, collect
from tests.finished import finish, look_at

if TYPE_CHECKING:
    from assay.study import Study
    from assay.workspace import Workspace

STEPS = 20
PER_STEP = 256
"""Tokens."""
AVERAGE = {"policy__average": {"last": 3, "every": 0.1}}
"""Steps 16, 18 and 20."""


@pytest.fixture
def make(tiny_study: Callable[..., Study]) -> Callable[..., Workspace]:
    from assay.workspace import Workspace

    def sweep(**overrides: Any) -> Workspace:
        return Workspace(tiny_study(steps=STEPS, **overrides))

    return sweep


def finished(space: Workspace, *, steps: tuple[int, ...] = (16, 18)) -> None:
    """Every run of the sweep, looked at after these steps; `more_web` is better at code."""
    for mix in space.study.require_sweep().mixes:
        for seed in (0, 1):
            bits = {"code": -0.1 if mix == "more_web" else 0.0}
            finish(space, mix, seed, bits=bits)
            for step in steps:
                look_at(space, mix, seed, step=step, bits={"code": bits["code"] + 0.01 * (STEPS - step)})


def test_runs_have_a_row_for_each_look_while_they_train_and_at_their_end(make: Callable[..., Workspace]) -> None:
    space = make()
    assert collect_looks(space.store, space.plan()).columns.tolist() == SCORES
    look_at(space, "base", 0, step=5)
    look_at(space, "base", 1, step=10)
    look_at(space, "base", 1, step=5)
    finish(space, "more_web", 1)
    frame = collect_looks(space.store, space.plan())
    code = frame[frame["task"] == "validation/code"]
    assert [*zip(code["mix"], code["seed"], code["tokens"] // PER_STEP, strict=True)] == [
        ("base", 0, 5),
        ("base", 1, 5),
        ("base", 1, 10),
        ("more_web", 1, STEPS),
    ]
    assert set(frame["scale"]) == {space.parameters}
    items = collect_look_items(space.store, space.plan())
    means = items.groupby(["mix", "seed", "tokens", "task"])["value"].mean()
    assert means.to_numpy() == pytest.approx(frame.set_index(["mix", "seed", "tokens", "task"])["value"].sort_index())


def test_a_look_with_a_damaged_record_or_another_mix_than_was_asked_for_is_left_out_and_said(
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
    frame = collect_looks(space.store, space.plan())
    assert set(frame["tokens"]) == {16 * PER_STEP}
    assert [message.split(" is left out")[0] for message in caplog.messages] == [
        f"base s0 at {step * PER_STEP:,} tokens" for step in (4, 8, 12)
    ]


def test_a_score_is_the_mean_over_the_last_checkpoints_and_the_verdict_says_so(
    make: Callable[..., Workspace],
) -> None:
    """The questions' too, and other looks have no part in it."""
    space = make(**AVERAGE)
    finished(space, steps=(4, 16, 18))
    every = collect_looks(space.store, space.plan())
    found = collect(space.store, space.plan())
    assert not found.missing
    last = every[every["tokens"] > 15 * PER_STEP]
    by_hand = last.groupby(["mix", "seed", "task"])["value"].mean()
    assert len(found.scores) == len(by_hand)
    for row in found.scores.itertuples():
        assert row.value == pytest.approx(by_hand[row.mix, row.seed, row.task], abs=1e-12)
        assert (row.tokens, row.checkpoints) == (STEPS * PER_STEP, 3)
    verdict = judge(space, space.plan()).candidates["more_web"]
    code = next(one for one in verdict.comparisons if one.task == "validation/code")
    want = by_hand[:, :, "validation/code"]
    assert code.effect == pytest.approx(want["more_web"].mean() - want["base"].mean())
    assert code.n_items is not None
    assert verdict.scope.endswith("; scores are means of the last 3 checkpoints")


def test_a_run_that_lacks_one_of_the_checkpoints_is_named_and_left_out(make: Callable[..., Workspace]) -> None:
    space = make(**AVERAGE)
    finished(space, steps=(18,))
    for mix in ("base", "more_web"):
        for seed in (0, 1):
            if (mix, seed) != ("base", 1):
                look_at(space, mix, seed, step=16)
    found = collect(space.store, space.plan())
    lacking = "it was not scored after step 16, and a score is the mean over the last 3 checkpoints"
    assert found.missing == {"base": [f"seed 1: {lacking}"], "no_books": [f"seeds 0, 1: {lacking}"]}
    assert set(zip(found.scores["mix"], found.scores["seed"], strict=True)) == {
        ("base", 0),
        ("more_web", 0),
        ("more_web", 1),
    }


def test_the_plan_says_which_trained_runs_nobody_can_look_at_any_more(make: Callable[..., Workspace]) -> None:
    space = make(**AVERAGE)
    finished(space, steps=(18,))
    for run in space.plan().runs:
        (space.store.run(run.spec.fingerprint).model).mkdir()
        (space.store.run(run.spec.fingerprint).model / "model.safetensors").touch()
    (warning,) = (one for one in space.plan().warnings if "looked at" in one)
    assert "only their final scores: 6 lack the look at 80%. The policy averages the last 3 checkpoints" in warning
    assert not [one for one in make().plan().warnings if "looked at" in one]


def test_the_policys_checkpoints_and_the_looks_asked_for_are_taken_together(make: Callable[..., Workspace]) -> None:
    study = make(**AVERAGE, training__looks=[0.5, 0.8]).study
    assert study.looks == pytest.approx((0.5, 0.8, 0.9))
    assert make().study.looks == ()
