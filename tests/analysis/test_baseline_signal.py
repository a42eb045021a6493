"""Whether a metric has signal depends on the baseline, the items and the history, never on the effect under test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from assay.analysis.compare import compare
from assay.analysis.gate import Verdict, decide
from assay.config.policy import Criterion, Policy, Target
from assay.config.reason import Code
from assay.core.errors import Damaged, Refused
from tests.helpers.reasons import first

MMLU = 14_042
NOISE = np.array([-0.002, 0.0006, 0.0014, 0.0009, -0.0009])


def rows(
    mix: str, score: float, *, task: str = "mmlu", metric: str = "acc", seeds: int = 3, **columns: Any
) -> list[dict]:
    """Rows of one arm; the noise has opposite signs in the two arms."""
    noise = (1 if mix == "base" else -1) * columns.pop("size", 1.0) * NOISE
    named = {"task": task, "metric": metric, **columns}
    return [{"mix": mix, "seed": seed, "value": score + noise[seed], **named} for seed in range(seeds)]


def quiz(base: float, new: float, **columns: Any) -> list[dict]:
    columns = {"n": MMLU, "chance": 0.25, **columns}
    return [*rows("base", base, **columns), *rows("new", new, **columns)]


def held_out(base: float = 1.0, new: float = 0.9, **columns: Any) -> list[dict]:
    named = {"task": "held", "metric": "bits_per_byte", **columns}
    return [*rows("base", base, **named), *rows("new", new, **named)]


GUARD = Criterion(task="mmlu", metric="acc", better="higher", margin=0.01)
GAIN = Criterion(task="held", metric="bits_per_byte", better="lower")


def guarded(**fields: Any) -> Policy:
    return Policy(name="p", alpha=0.05, min_seeds=3, primary=(GAIN,), guardrails=(GUARD,), **fields)


def decided(table: list[dict], policy: Policy | None = None, **more: Any) -> Verdict:
    return decide(pd.DataFrame(table), policy or guarded(), baseline="base", candidate="new", **more)


@pytest.mark.parametrize(("base", "new"), [(0.60, 0.25), (0.60, 0.30), (0.45, 0.30), (0.45, 0.25)])
@pytest.mark.parametrize("seeds", [3, 5])
def test_a_guardrail_that_falls_to_chance_level_rejects(base: float, new: float, seeds: int) -> None:
    verdict = decided([*quiz(base, new, seeds=seeds), *held_out(seeds=seeds)])
    assert verdict.decision == "REJECT"
    assert first(verdict.reasons, Code.WORSE).name == "mmlu acc"


def answers(mix: str, accuracy: float, *, items: int = 2000) -> pd.DataFrame:
    """Items of three seeds; the items' difficulty is shared by both arms."""
    difficulty = np.random.default_rng(0).random(items)
    frames = []
    for seed in range(3):
        own = np.random.default_rng([seed, mix == "base"]).normal(0, 0.05, items)
        right = (difficulty + own < accuracy).astype(float)
        frames.append(
            pd.DataFrame(
                {"mix": mix, "seed": seed, "task": "mmlu", "metric": "acc", "item": np.arange(items), "value": right}
            )
        )
    return pd.concat(frames)


def test_with_items_a_guardrail_that_falls_to_chance_level_rejects() -> None:
    items = pd.concat([answers("base", 0.40), answers("new", 0.28)])
    means = items.groupby(["mix", "seed", "task", "metric"], as_index=False)["value"].mean()
    table = [*means.assign(n=2000, chance=0.25).to_dict("records"), *held_out()]
    verdict = decided(table, items=items)
    assert verdict.decision == "REJECT"
    assert first(verdict.reasons, Code.WORSE).name == "mmlu acc"


def test_a_primary_metric_that_rises_from_a_little_above_chance_level_is_accepted() -> None:
    policy = Policy(name="p", alpha=0.05, min_seeds=3, primary=(Criterion(task="mmlu", metric="acc", better="higher"),))
    assert decided(quiz(0.28, 0.45), policy).decision == "ACCEPT"


@pytest.mark.parametrize("with_items", [False, True])
def test_the_candidate_cannot_change_the_signal(with_items: bool) -> None:
    signals = set()
    for new in (0.05, 0.25, 0.29, 0.60, 0.95):
        table, items = quiz(0.30, new, n=2000), None
        if with_items:
            items = pd.concat([answers("base", 0.30), answers("new", new)])
            means = items.groupby(["mix", "seed", "task", "metric"], as_index=False)["value"].mean()
            table = means.assign(n=2000, chance=0.25).to_dict("records")
        (c, *_) = compare(pd.DataFrame([*table, *held_out()]), guarded(), baseline="base", items=items)[1:]
        signals.add((c.signal, c.signal_reason, c.votes))
    assert len(signals) == 1
    assert next(iter(signals))[0] == "ok"


@pytest.mark.parametrize(
    ("new", "decision"),
    [(0.25, "ACCEPT"), (0.262, "ACCEPT"), (0.245, "ACCEPT"), (0.22, "INCONCLUSIVE"), (0.1, "INCONCLUSIVE")],
)
def test_a_guardrail_at_chance_level_that_declines_beyond_its_margin_prevents_an_accept(
    new: float, decision: str
) -> None:
    verdict = decided([*quiz(0.25, new), *held_out()])
    assert verdict.decision == decision
    if decision == "INCONCLUSIVE":
        assert verdict.reasons[0].code is Code.DECLINES_WITHOUT_SIGNAL
        assert [need.code for need in verdict.needed] == [Code.NEED_DECLINE_EXAMINED]
        assert not verdict.options


def test_noise_of_a_guardrail_at_chance_level_prevents_no_accept() -> None:
    """The estimated decline exceeds the margin, but not the noise."""
    assert decided([*quiz(0.25, 0.235, size=8), *held_out()]).decision == "ACCEPT"


@pytest.mark.parametrize(("new", "decision"), [(0.25, "ACCEPT"), (0.2, "INCONCLUSIVE")])
def test_a_decline_with_unknown_noise_prevents_an_accept(new: float, decision: str) -> None:
    """The guardrail has one shared seed, so its noise is unknown."""
    verdict = decided([*quiz(0.25, new)[:4], *held_out()])
    assert verdict.decision == decision


def test_a_decline_with_unknown_noise_does_not_hide_the_missing_seeds() -> None:
    verdict = decided([*quiz(0.25, 0.2, seeds=1), *held_out(seeds=1)])
    assert verdict.reasons[0].code is Code.SEEDS_MISSING
    assert Code.DECLINES_WITHOUT_SIGNAL not in {reason.code for reason in verdict.reasons}
    assert Code.NEED_SEEDS in {need.code for need in verdict.needed}


def test_a_guardrail_that_past_mixes_do_not_distinguish_rejects_if_it_falls_to_chance_level() -> None:
    past = [
        {"mix": f"h{mix}", "seed": seed, "task": "mmlu", "metric": "acc", "value": 0.6 + NOISE[(mix + seed) % 5]}
        for mix in range(12)
        for seed in range(5)
    ]
    verdict = decided([*quiz(0.60, 0.25), *held_out()], history=pd.DataFrame(past))
    assert verdict.decision == "REJECT"
    assert first(verdict.reasons, Code.WORSE).name == "mmlu acc"


def test_at_the_target_a_declining_guardrail_at_chance_level_prevents_an_accept() -> None:
    target = Target(scale="1B", task="held", metric="bits_per_byte", better="lower")
    policy = Policy(name="p", alpha=0.05, min_seeds=3, guardrails=(GUARD,), target=target, proxy_scale="150M")
    past = []
    for mix in range(25):
        named = {"task": "held", "metric": "bits_per_byte"}
        for scale, level in (("150M", 1.0), ("1B", 0.8)):
            score = level - 0.02 * mix + (NOISE[mix % 5] if scale == "1B" else 0.0)
            past += [
                {"mix": f"h{mix}", "seed": s, "scale": scale, "value": score + NOISE[s], **named} for s in range(3)
            ]
    for new, decision in ((0.25, "ACCEPT"), (0.2, "INCONCLUSIVE")):
        table = pd.DataFrame([*quiz(0.25, new), *held_out(1.0, 0.7)]).assign(scale="150M")
        verdict = decide(table, policy, baseline="base", candidate="new", history=pd.DataFrame(past))
        assert verdict.decision == decision


# --- units and invalid columns


@pytest.mark.parametrize("unit", [None, "percent"])
@pytest.mark.parametrize("chance", [25.0, 0.25, None])
@pytest.mark.parametrize("n", [MMLU, None])
def test_percentages_have_the_verdict_of_fractions(unit: str | None, chance: float | None, n: int | None) -> None:
    """Values in percent, with the chance level in percent or as a fraction, with and without the number of items."""
    for base, new, decision in ((60, 25, "REJECT"), (60, 60, "ACCEPT")):
        table = [*quiz(base, new, size=100, unit=unit, chance=chance, n=n), *held_out()]
        assert decided(table).decision == decision


def test_undeclared_percentages_of_an_unknown_metric_are_refused() -> None:
    policy = Policy(
        name="p", alpha=0.05, min_seeds=3, primary=(Criterion(task="mmlu", metric="solved", better="higher"),)
    )
    with pytest.raises(Refused, match="has a chance level; expected a fraction of 1"):
        decided(quiz(60, 25, size=100, metric="solved"), policy)
    with pytest.raises(Damaged, match=r"chance level 25 is invalid.*\n.*declare the unit"):
        decided(quiz(60, 25, size=100, metric="solved", chance=25.0), policy)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"chance": -0.1}, r"chance level -0.1 is invalid"),
        ({"n": 0}, r"`n` 0 is invalid; expected a positive whole number of items"),
        ({"n": -5}, r"`n` -5 is invalid"),
        ({"n": 12.5}, r"`n` 12.5 is invalid"),
        ({"n": float("inf")}, r"`n` inf is invalid"),
        ({"n": "many"}, r"results: n is not a number: .*many"),
    ],
)
def test_impossible_item_counts_and_chance_levels_are_refused(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(Damaged, match=message):
        decided([*quiz(0.6, 0.6, **columns), *held_out()])
    with pytest.raises(Damaged, match="history: "):
        decided(
            [*quiz(0.6, 0.6), *held_out()],
            history=pd.DataFrame([{**row, "mix": f"h{row['mix']}"} for row in quiz(0.6, 0.6, **columns)]),
        )


def test_items_that_all_have_the_same_correct_answer_carry_no_signal() -> None:
    verdict = decided([*quiz(0.6, 0.6, n=9, chance=1.0, size=10), *held_out()])
    guard = next(c for c in verdict.comparisons if c.task == "mmlu")
    assert (verdict.decision, guard.signal, guard.votes) == ("ACCEPT", "no signal", False)
    with pytest.raises(Damaged, match=r"chance level 101 is invalid"):
        decided([*quiz(0.6, 0.6, chance=101.0), *held_out()])


def test_different_chance_levels_or_item_counts_are_refused() -> None:
    table = [*rows("base", 0.6, n=MMLU, chance=0.25), *rows("new", 0.6, n=MMLU, chance=0.27), *held_out()]
    with pytest.raises(
        Refused, match=r"mmlu acc: the chance level is 0.25 for base and 0.27 for new; expected one level"
    ):
        decided(table)
    table[1]["chance"] = 0.5
    with pytest.raises(Refused, match=r"the chance level is 0.25 for one seed of base and 0.5 for another seed"):
        decided(table)
    table = [*quiz(0.6, 0.6), *held_out()]
    table[0]["n"] = 100
    with pytest.raises(Refused, match="the seeds of base answered different numbers of items"):
        decided(table)


def test_spellings_of_one_chance_level_are_equal() -> None:
    table = [*rows("base", 0.6, n=MMLU, chance=1 / 3), *rows("new", 0.6, n=MMLU, chance=0.3333), *held_out()]
    assert decided(table).decision == "ACCEPT"


@pytest.mark.parametrize("which", ["base", "new"])
def test_a_chance_level_of_one_arm_applies_to_both_and_is_stated(which: str) -> None:
    """The chance level is a property of the items, which both arms answer."""
    table = [
        *rows("base", 0.25, n=MMLU, chance=0.25 if which == "base" else None),
        *rows("new", 0.6, n=MMLU, chance=0.25 if which == "new" else None),
    ]
    verdict = decided([*table, *held_out()])
    detail = first(verdict.reasons, Code.NO_SIGNAL).figures["detail"]
    assert detail.endswith(f"only the runs of {which} record the chance level")
