"""The detectable effect of a plan agrees with the one that the verdict reports."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from assay.analysis.compare import compare
from assay.analysis.detectable_effect import UNKNOWN, add_item_variance, cautions, compute_detectable_effects
from assay.analysis.stats.moderated import Prior
from assay.analysis.stats.replicates import Noise, replicate_noise
from assay.analysis.stats.sweep_noise import seed_priors_by_metric
from assay.config.policy import Criterion, Policy, Target
from assay.config.reason import Code
from assay.core.serde import to_json
from tests.helpers.reasons import first
from tests.helpers.studies import policy, results

CODE, BOOKS = ("validation/code", "bits_per_byte"), ("validation/books", "bits_per_byte")


def test_plan_and_verdict_agree_on_the_smallest_effect() -> None:
    """With two arms, the plan's past runs are the verdict's runs."""
    table = results({"new": {"code": -0.01}}, noise=0.006)
    planned = compute_detectable_effects(policy(), n_seeds=3, noise=replicate_noise(table), where="the store")
    compared = compare(table, policy(), baseline="base")
    assert [effect.smallest for effect in planned] == pytest.approx([c.mde for c in compared])
    assert [effect.noise for effect in planned] == pytest.approx([c.noise for c in compared])


def test_plan_and_verdict_agree_with_a_history() -> None:
    rng = np.random.default_rng(0)
    past = pd.concat(
        results({f"old{i}": {}}).assign(mix=f"old{i}", value=lambda t: t["value"] + rng.normal(0, 0.004, len(t)))
        for i in range(10)
    ).drop_duplicates(["mix", "seed", "task", "metric"])
    table = results({"new": {"code": -0.01}}, noise=0.006)
    priors = seed_priors_by_metric(past, proxy_scale="1m", without=["base", "new"])
    prior = {metric: known.best for metric, known in priors.items()}
    planned = compute_detectable_effects(
        policy(), n_seeds=3, noise=replicate_noise(table), where="the store", prior=prior
    )
    compared = compare(table, policy(), baseline="base", history=past)
    assert [effect.smallest for effect in planned] == pytest.approx([c.mde for c in compared])
    assert planned[0].basis.figures["history"] is True
    assert planned[0].basis.figures["n_runs"] > 0


def test_alpha_is_divided_among_the_primaries_as_in_the_verdict() -> None:
    two = tuple(Criterion(task=task, metric="bits_per_byte", better="lower") for task in (CODE[0], BOOKS[0]))
    noise = {CODE: Noise(0.01, 20, 10, 30), BOOKS: Noise(0.01, 20, 10, 30)}
    all_of, any_of = (
        compute_detectable_effects(
            policy(primary=two, guardrails=(), require=require), n_seeds=3, noise=noise, where="the store"
        )
        for require in ("all", "any")
    )
    assert any_of[0].smallest > all_of[0].smallest


def test_without_past_replicates_the_effect_is_unknown() -> None:
    [effect] = compute_detectable_effects(policy(guardrails=()), n_seeds=3, noise={}, where="the store")
    assert effect.basis == UNKNOWN
    assert effect.basis.code is Code.NOISE_UNKNOWN
    assert math.isnan(effect.smallest)
    assert to_json(effect)["smallest"] is None


def test_a_history_alone_gives_the_noise_and_one_seed_detects_nothing() -> None:
    prior = {CODE: Prior(0.01**2, 4.0)}
    [three] = compute_detectable_effects(policy(guardrails=()), n_seeds=3, noise={}, where="the store", prior=prior)
    assert three.basis.code is Code.NOISE_FROM_RUNS
    assert (three.basis.figures["n_runs"], three.basis.figures["history"]) == (0, True)
    assert three.noise == pytest.approx(0.01 * 2**0.5)
    [single] = compute_detectable_effects(
        policy(guardrails=()), n_seeds=1, noise={CODE: Noise(0.01, 4, 3, 9)}, where="the store"
    )
    assert math.isnan(single.smallest)
    assert single.basis.figures["n_seeds"] == 1
    caution = first(cautions((single,), policy()), Code.SEEDS_BELOW_POLICY)
    assert (caution.figures["min_seeds"], caution.figures["n_seeds"]) == (3, 1)


def test_a_margin_within_the_noise_is_reported_before_the_runs() -> None:
    noise = {
        CODE: Noise(0.01, 4, 3, 9),
        BOOKS: Noise(0.05, 4, 3, 9),
        ("validation/web", "bits_per_byte"): Noise(0.001, 4, 3, 9),
    }
    effects = compute_detectable_effects(policy(), n_seeds=3, noise=noise, where="the store")
    holds = {effect.task: effect.holds for effect in effects}
    assert math.isnan(holds["validation/code"]), "a primary metric has no margin"
    assert holds["validation/books"] < 0.8 < holds["validation/web"]
    [caution] = cautions(effects, policy())
    assert caution.code is Code.MARGINS_LACK_POWER
    assert [metric["task"] for metric in caution.figures["metrics"]] == ["validation/books"]


def test_a_policy_without_primaries_uses_the_target_metric_at_the_proxy() -> None:
    rule = Policy(
        name="t", alpha=0.05, min_seeds=3, target=Target(scale="1B", task=CODE[0], metric=CODE[1], better="lower")
    )
    [effect] = compute_detectable_effects(rule, n_seeds=3, noise={CODE: Noise(0.01, 4, 3, 9)}, where="the store")
    assert (effect.task, effect.role) == (CODE[0], "primary")


def test_the_item_variance_increases_the_detectable_effect() -> None:
    rng = np.random.default_rng(4)
    rows, items = [], []
    for mix in ("a", "b", "c"):
        item_effects = rng.normal(0, 0.2, 30)
        for seed in range(3):
            values = 2 + item_effects + rng.normal(0, 0.02, 30)
            rows.append((mix, seed, *CODE, values.mean()))
            items += [(mix, seed, *CODE, f"q{i}", value) for i, value in enumerate(values)]
    scores = pd.DataFrame(rows, columns=["mix", "seed", "task", "metric", "value"])
    item_scores = pd.DataFrame(items, columns=["mix", "seed", "task", "metric", "item", "value"])
    rule = policy(guardrails=())
    plain = replicate_noise(scores)
    full = add_item_variance(plain, scores, item_scores, rule)
    assert full[CODE].item_variance == pytest.approx(2 * 0.2**2 / 30, rel=0.6)
    bare, wider = (
        compute_detectable_effects(rule, n_seeds=3, noise=noise, where="the store")[0] for noise in (plain, full)
    )
    assert wider.smallest > 2 * bare.smallest
    assert add_item_variance(plain, scores, item_scores[:0], rule) == plain
