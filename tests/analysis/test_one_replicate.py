"""A single replicate is compared with the noise of past runs, and only if the history has enough of them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from assay.analysis.compare import compare
from assay.analysis.comparison import Comparison
from assay.analysis.gate import Verdict, decide
from assay.analysis.stats.paired import among_items, crossed
from assay.config.policy import Criterion, Policy, Target
from assay.config.reason import Code, Reason
from assay.core.errors import AssayError
from tests.helpers.reasons import facts, first
from tests.helpers.studies import accuracy, policy, results

ONE = policy(min_seeds=1)
LOSSES = [f"validation/{source}" for source in ("code", "books", "web")]


def past(*, mixes: int = 8, seeds: int = 3, noise: float = 0.002, scale: str = "1m") -> pd.DataFrame:
    """Past mixes with replicates at the proxy, other than the compared ones."""
    rng = np.random.default_rng(5)
    rows = [
        (f"past{mix}", seed, scale, 1e7, task, "bits_per_byte", 2 + 0.05 * mix + noise * rng.standard_normal())
        for mix in range(mixes)
        for seed in range(seeds)
        for task in LOSSES
    ]
    return pd.DataFrame(rows, columns=["mix", "seed", "scale", "tokens", "task", "metric", "value"])


def decide_one(effects: dict[str, float], history: pd.DataFrame | None, *, rule: Policy = ONE) -> Verdict:
    table = results({"new": effects}, seeds=[0])
    return decide(table, rule, baseline="base", candidate="new", history=history)


def compare_one(effects: dict[str, float], history: pd.DataFrame | None) -> Comparison:
    return compare(results({"new": effects}, seeds=[0]), ONE, baseline="base", history=history)[0]


@pytest.mark.parametrize(("effect", "decision"), [(-0.05, "ACCEPT"), (0.05, "REJECT"), (-0.002, "INCONCLUSIVE")])
def test_one_replicate_is_compared_with_the_noise_of_past_runs(effect: float, decision: str) -> None:
    verdict = decide_one({"code": effect}, past())
    assert verdict.decision == decision
    assert verdict.reasons[0].figures["n_seeds"] == 1


def test_the_variance_of_one_replicate_comes_from_the_history() -> None:
    from assay.analysis.stats.sweep_noise import seed_priors_by_metric

    history = past()
    c = compare_one({"code": -0.05}, history)
    priors = seed_priors_by_metric(history, proxy_scale="1m", without=["base", "new"])
    prior = priors["validation/code", "bits_per_byte"].paired
    assert c.noise_df == prior.df
    assert c.noise_moderated == pytest.approx(math.sqrt(2 * prior.variance), rel=1e-12)
    assert math.isnan(c.noise)
    assert c.ci_low < c.effect < c.ci_high


@pytest.mark.parametrize(
    ("history", "problem"),
    [
        (None, "one seed shows no noise, and there is no history of replicates"),
        (past(mixes=4), "there is no history of replicates"),
        (past(mixes=9, seeds=2), "provide 9 of the 10 degrees of freedom that this requires"),
        (past(seeds=1), "there is no history of replicates"),
        (past(scale="7b"), "there is no history of replicates"),
    ],
    ids=["no history", "four mixes", "nine degrees of freedom", "no replicates", "another scale"],
)
def test_an_insufficient_history_is_inconclusive_and_names_the_problem(
    history: pd.DataFrame | None, problem: str
) -> None:
    verdict = decide_one({"code": -0.5}, history)
    assert verdict.decision == "INCONCLUSIVE"
    assert any(problem in reason.figures.get("detail", "") for reason in verdict.reasons)
    assert first(verdict.needed, Code.NEED_INDEPENDENT_RUNS).figures == {"n_seeds": 1}
    assert math.isnan(compare_one({"code": -0.5}, history).p)


def test_a_history_does_not_replace_a_required_second_seed() -> None:
    verdict = decide_one({"code": -0.5}, past(), rule=policy(min_seeds=2))
    assert verdict.decision == "INCONCLUSIVE"
    assert facts(verdict.reasons[0]) == (Code.SEEDS_MISSING, "base")
    assert (verdict.reasons[0].figures["present"], verdict.reasons[0].figures["planned"]) == (1, 2)


def test_a_policy_requires_at_least_one_seed() -> None:
    assert policy(min_seeds=1).min_seeds == 1
    with pytest.raises(AssayError, match="`min_seeds` 0 is invalid"):
        policy(min_seeds=0)


def test_the_noise_excludes_the_compared_mixes_in_a_history() -> None:
    five = past(mixes=5)
    assert decide_one({"code": -0.5}, five).decision == "ACCEPT"
    assert decide_one({"code": -0.5}, five.replace({"mix": {"past0": "new"}})).decision == "INCONCLUSIVE"


def test_items_widen_the_interval_of_one_replicate_by_their_variance() -> None:
    table, items = accuracy({"base": 0.5, "new": 0.6}, seeds=1)
    rng = np.random.default_rng(2)
    history = pd.DataFrame(
        [(f"p{m}", s, "mmlu", "acc", 0.5 + 0.01 * rng.standard_normal()) for m in range(40) for s in range(3)],
        columns=["mix", "seed", "task", "metric", "value"],
    )
    rule = policy(primary=(Criterion(task="mmlu", metric="acc", better="higher"),), guardrails=(), min_seeds=1)
    [without] = compare(table, rule, baseline="base", history=history)
    [with_items] = compare(table, rule, baseline="base", history=history, items=items)
    assert without.item_variance == 0
    wide = items.pivot_table(index="mix", columns="item", values="value")
    own = float((wide.loc["new"] - wide.loc["base"]).var(ddof=1)) / wide.shape[1]
    assert with_items.item_variance == pytest.approx(own, rel=1e-12)
    assert with_items.ci_high - with_items.ci_low > without.ci_high - without.ci_low


def test_the_item_variance_of_one_seed_agrees_with_that_of_many() -> None:
    rng = np.random.default_rng(3)
    own = 0.1 + rng.normal(0, 0.3, 400)  # without an interaction of run and item both estimate the same
    many = crossed(np.vstack([own + shift for shift in (-0.01, 0.0, 0.01)]), clusters=np.arange(400) // 4)
    single = among_items(own, clusters=np.arange(400) // 4)
    assert single is not None
    assert single == pytest.approx(many.parts[1], rel=1e-9)
    assert among_items(own, clusters=np.zeros(400)) is None
    assert among_items(np.full(5, 0.25)) is None


def target_history(*, replicates: int = 3) -> pd.DataFrame:
    """Twelve mixes at both scales, with target differences about twice those of the proxy."""
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
def test_the_target_is_predicted_from_one_replicate_per_mix(difference: float, decision: str) -> None:
    verdict = at_target(difference, target_history())
    assert verdict.decision == decision
    assert verdict.target is not None
    assert verdict.target.n_seeds == (1, 1)
    assert verdict.target.p_noise >= 0


def test_one_replicate_is_decided_by_a_history_of_single_runs() -> None:
    """The history's errors contain the noise of single runs, which its reliability bounds."""
    verdict = at_target(0.04, target_history(replicates=1))
    assert verdict.decision == "ACCEPT"
    assert verdict.target is not None
    assert not verdict.target.noise_known
    assert at_target(0.002, target_history(replicates=1)).decision == "INCONCLUSIVE"


def test_one_replicate_is_undecided_by_a_history_of_two_replicates_with_too_few_degrees_of_freedom() -> None:
    history = target_history(replicates=2)
    few = history[history["mix"].isin([f"past{i}" for i in range(8)])]
    verdict = at_target(0.03, few)
    assert verdict.decision == "INCONCLUSIVE"
    assert "one seed of each mix shows no noise" in verdict.reasons[0].figures["problem"]
    assert Reason(code=Code.NEED_SEEDS, figures={"n_seeds": 2, "shared": False}) in verdict.needed
