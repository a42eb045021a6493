"""One replicate shows no noise: it is judged by the noise of past runs where enough is known of that, and by nothing else."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from assay.compare import Comparison, compare
from assay.errors import AssayError
from assay.gate import Verdict, decide
from assay.stats.paired import among_items, crossed
from assay.suite import Criterion, Policy, Target
from tests.studies import accuracy, policy, results

ONE = policy(min_seeds=1)
LOSSES = [f"validation/{source}" for source in ("code", "books", "web")]


def past(*, mixes: int = 8, seeds: int = 3, noise: float = 0.002, scale: str = "1m") -> pd.DataFrame:
    """Past mixes with replicates at the proxy; none of them is judged."""
    rng = np.random.default_rng(5)
    rows = [
        (f"past{mix}", seed, scale, 1e7, task, "bits_per_byte", 2 + 0.05 * mix + noise * rng.standard_normal())
        for mix in range(mixes)
        for seed in range(seeds)
        for task in LOSSES
    ]
    return pd.DataFrame(rows, columns=["mix", "seed", "scale", "tokens", "task", "metric", "value"])


def judge(effects: dict[str, float], history: pd.DataFrame | None, *, rule: Policy = ONE) -> Verdict:
    table = results({"new": effects}, seeds=[0])
    return decide(table, rule, baseline="base", candidate="new", history=history)


def one(effects: dict[str, float], history: pd.DataFrame | None) -> Comparison:
    return compare(results({"new": effects}, seeds=[0]), ONE, baseline="base", history=history)[0]


@pytest.mark.parametrize(("effect", "decision"), [(-0.05, "ACCEPT"), (0.05, "REJECT"), (-0.002, "INCONCLUSIVE")])
def test_one_replicate_is_judged_by_the_noise_of_past_runs(effect: float, decision: str) -> None:
    verdict = judge({"code": effect}, past())
    assert verdict.decision == decision
    assert "1 seed)" in verdict.reasons[0]


def test_its_variance_is_the_historys_alone() -> None:
    from assay.stats.history import noise_by_metric

    history = past()
    found = one({"code": -0.05}, history)
    prior = noise_by_metric(history, proxy_scale="1m", without=["base", "new"])["validation/code", "bits_per_byte"]
    assert found.noise_df == prior.df
    assert found.noise_moderated == pytest.approx(math.sqrt(2 * prior.variance), rel=1e-12)
    assert math.isnan(found.noise)
    assert found.ci_low < found.effect < found.ci_high


@pytest.mark.parametrize(
    ("history", "lacks"),
    [
        (None, "one seed shows no noise, and no history of replicates does"),
        (past(mixes=4), "no history of replicates does"),
        (past(mixes=9, seeds=2), "give it 9 of the 10 degrees of freedom that takes"),
        (past(seeds=1), "no history of replicates does"),
        (past(scale="7b"), "no history of replicates does"),
    ],
    ids=["no history", "four mixes", "nine degrees of freedom", "no replicates", "another scale"],
)
def test_without_enough_of_a_history_nothing_is_decided_and_what_lacks_is_named(
    history: pd.DataFrame | None, lacks: str
) -> None:
    verdict = judge({"code": -0.5}, history)
    assert verdict.decision == "INCONCLUSIVE"
    assert lacks in " ".join(verdict.reasons)
    assert any("a second seed of each mix, or a history of replicates" in need for need in verdict.needed)
    assert math.isnan(one({"code": -0.5}, history).p)


def test_a_policy_that_asks_for_two_is_not_met_by_a_history() -> None:
    verdict = judge({"code": -0.5}, past(), rule=policy(min_seeds=2))
    assert verdict.decision == "INCONCLUSIVE"
    assert "base has 1 of 2 seeds" in verdict.reasons[0]


def test_a_policy_may_ask_for_one_seed_and_not_for_none() -> None:
    assert policy(min_seeds=1).min_seeds == 1
    with pytest.raises(AssayError, match="min_seeds is 0; it is at least 1"):
        policy(min_seeds=0)


def test_the_rows_of_the_judged_mixes_in_a_history_teach_no_noise() -> None:
    five = past(mixes=5)
    assert judge({"code": -0.5}, five).decision == "ACCEPT"
    assert judge({"code": -0.5}, five.replace({"mix": {"past0": "new"}})).decision == "INCONCLUSIVE"


def test_questions_widen_the_interval_of_one_replicate_by_their_own_part() -> None:
    table, items = accuracy({"base": 0.5, "new": 0.6}, seeds=1)
    rng = np.random.default_rng(2)
    history = pd.DataFrame(
        [(f"p{m}", s, "mmlu", "acc", 0.5 + 0.01 * rng.standard_normal()) for m in range(40) for s in range(3)],
        columns=["mix", "seed", "task", "metric", "value"],
    )
    rule = policy(primary=(Criterion(task="mmlu", metric="acc", better="higher"),), guardrails=(), min_seeds=1)
    [without] = compare(table, rule, baseline="base", history=history)
    [found] = compare(table, rule, baseline="base", history=history, items=items)
    assert without.item_variance == 0
    wide = items.pivot_table(index="mix", columns="item", values="value")
    own = float((wide.loc["new"] - wide.loc["base"]).var(ddof=1)) / wide.shape[1]
    assert found.item_variance == pytest.approx(own, rel=1e-12)
    assert found.ci_high - found.ci_low > without.ci_high - without.ci_low


def test_the_part_of_the_questions_agrees_with_that_of_many_seeds() -> None:
    rng = np.random.default_rng(3)
    own = 0.1 + rng.normal(0, 0.3, 400)  # no luck of a run with a question: then the two estimate the same
    many = crossed(np.vstack([own + shift for shift in (-0.01, 0.0, 0.01)]), clusters=np.arange(400) // 4)
    single = among_items(own, clusters=np.arange(400) // 4)
    assert single is not None
    assert single == pytest.approx(many.parts[1], rel=1e-9)
    assert among_items(own, clusters=np.zeros(400)) is None
    assert among_items(np.full(5, 0.25)) is None


def target_history(*, replicates: int = 3) -> pd.DataFrame:
    """Twelve mixes at both scales; the target's score is twice the proxy's, nearly."""
    rng = np.random.default_rng(4)
    rows = []
    for mix in range(12):
        for scale, seeds, level in (("150M", replicates, 0.4 + 0.01 * mix), ("1B", 1, 0.6 + 0.02 * mix)):
            for seed in range(seeds):
                score = level + 0.0015 * rng.standard_normal()
                rows.append((f"past{mix}", seed, scale, "arc_easy", "acc", score))
    return pd.DataFrame(rows, columns=["mix", "seed", "scale", "task", "metric", "value"])


def at_target(difference: float, history: pd.DataFrame) -> Verdict:
    table = pd.DataFrame(
        [(mix, 0, "150M", "arc_easy", "acc", score) for mix, score in (("base", 0.45), ("new", 0.45 + difference))],
        columns=["mix", "seed", "scale", "task", "metric", "value"],
    )
    rule = Policy(
        name="one", alpha=0.05, min_seeds=1, proxy_scale="150M",
        target=Target(scale="1B", task="arc_easy", metric="acc", better="higher"),
    )  # fmt: skip
    return decide(table, rule, baseline="base", candidate="new", history=history)


@pytest.mark.parametrize(
    ("difference", "decision"), [(0.04, "ACCEPT"), (-0.04, "REJECT"), (0.0, "INCONCLUSIVE"), (0.002, "INCONCLUSIVE")]
)
def test_the_target_is_foretold_from_one_replicate_of_each(difference: float, decision: str) -> None:
    verdict = at_target(difference, target_history())
    assert verdict.decision == decision
    assert verdict.target is not None
    assert verdict.target.n_seeds == (1, 1)
    assert verdict.target.p_noise >= 0


def test_a_history_without_replicates_says_nothing_of_one_replicates_noise() -> None:
    verdict = at_target(0.04, target_history(replicates=1))
    assert verdict.decision == "INCONCLUSIVE"
    assert "one seed of each mix shows no noise" in verdict.reasons[0]
    assert "2 finished seeds of each mix." in verdict.needed
