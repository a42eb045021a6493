"""What a design would find is what its verdict will say that it would have found."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from assay.compare import compare
from assay.design import UNKNOWN, cautions, detectable, with_questions
from assay.stats.history import noise_by_metric
from assay.stats.moderated import Prior
from assay.stats.replicates import Noise, replicate_noise
from assay.suite import Criterion, Policy, Target
from tests.studies import policy, results

CODE, BOOKS = ("validation/code", "bits_per_byte"), ("validation/books", "bits_per_byte")


def test_plan_and_verdict_agree_on_the_smallest_effect() -> None:
    """Two arms alone: the past that the plan knows is the runs that the verdict sees."""
    table = results({"new": {"code": -0.01}}, noise=0.006)
    foreseen = detectable(policy(), n_seeds=3, noise=replicate_noise(table), where="the store")
    judged = compare(table, policy(), baseline="base")
    assert [one.smallest for one in foreseen] == pytest.approx([c.mde for c in judged])
    assert [one.noise for one in foreseen] == pytest.approx([c.noise for c in judged])


def test_they_agree_where_a_history_is_counted_in_too() -> None:
    rng = np.random.default_rng(0)
    past = pd.concat(
        results({f"old{i}": {}}).assign(mix=f"old{i}", value=lambda t: t["value"] + rng.normal(0, 0.004, len(t)))
        for i in range(10)
    ).drop_duplicates(["mix", "seed", "task", "metric"])
    table = results({"new": {"code": -0.01}}, noise=0.006)
    prior = noise_by_metric(past, proxy_scale="1m", without=["base", "new"])
    foreseen = detectable(policy(), n_seeds=3, noise=replicate_noise(table), where="the store", prior=prior)
    judged = compare(table, policy(), baseline="base", history=past)
    assert [one.smallest for one in foreseen] == pytest.approx([c.mde for c in judged])
    assert foreseen[0].basis.endswith("and the history")


def test_alpha_is_shared_among_the_primaries_as_the_verdict_shares_it() -> None:
    two = tuple(Criterion(task=task, metric="bits_per_byte", better="lower") for task in (CODE[0], BOOKS[0]))
    noise = {CODE: Noise(0.01, 20, 10, 30), BOOKS: Noise(0.01, 20, 10, 30)}
    every, any_of = (
        detectable(policy(primary=two, guardrails=(), require=require), n_seeds=3, noise=noise, where="the store")
        for require in ("all", "any")
    )
    assert any_of[0].smallest > every[0].smallest


def test_without_past_replicates_nothing_is_made_up() -> None:
    [one] = detectable(policy(guardrails=()), n_seeds=3, noise={}, where="the store")
    assert one.basis == UNKNOWN == "unknown, no past replicates of this proxy"
    assert math.isnan(one.smallest)
    assert one.to_mapping()["smallest"] is None


def test_a_history_alone_tells_the_noise_and_one_seed_finds_nothing() -> None:
    prior = {CODE: Prior(0.01**2, 4.0)}
    [three] = detectable(policy(guardrails=()), n_seeds=3, noise={}, where="the store", prior=prior)
    assert three.basis == "the history"
    assert three.noise == pytest.approx(0.01 * 2**0.5)
    [single] = detectable(policy(guardrails=()), n_seeds=1, noise={CODE: Noise(0.01, 4, 3, 9)}, where="the store")
    assert math.isnan(single.smallest)
    assert "one seed shows no noise" in single.basis
    assert any("asks for 3 seeds" in said for said in cautions((single,), policy()))


def test_a_margin_within_the_noise_is_warned_of_before_anything_runs() -> None:
    noise = {
        CODE: Noise(0.01, 4, 3, 9),
        BOOKS: Noise(0.05, 4, 3, 9),
        ("validation/web", "bits_per_byte"): Noise(0.001, 4, 3, 9),
    }
    found = detectable(policy(), n_seeds=3, noise=noise, where="the store")
    holds = {one.task: one.holds for one in found}
    assert math.isnan(holds["validation/code"]), "a primary has no margin to hold"
    assert holds["validation/books"] < 0.8 < holds["validation/web"]
    [said] = cautions(found, policy())
    assert "validation/books" in said
    assert "validation/web" not in said


def test_a_policy_with_a_target_alone_is_judged_by_its_metric_at_the_proxy() -> None:
    rule = Policy(
        name="t", alpha=0.05, min_seeds=3, target=Target(scale="1B", task=CODE[0], metric=CODE[1], better="lower")
    )
    [one] = detectable(rule, n_seeds=3, noise={CODE: Noise(0.01, 4, 3, 9)}, where="the store")
    assert (one.task, one.role) == (CODE[0], "primary")


def test_the_choice_of_questions_makes_the_smallest_effect_larger() -> None:
    rng = np.random.default_rng(4)
    rows, items = [], []
    for mix in ("a", "b", "c"):
        liking = rng.normal(0, 0.2, 30)
        for seed in range(3):
            values = 2 + liking + rng.normal(0, 0.02, 30)
            rows.append((mix, seed, *CODE, values.mean()))
            items += [(mix, seed, *CODE, f"q{i}", value) for i, value in enumerate(values)]
    scores = pd.DataFrame(rows, columns=["mix", "seed", "task", "metric", "value"])
    asked = pd.DataFrame(items, columns=["mix", "seed", "task", "metric", "item", "value"])
    rule = policy(guardrails=())
    plain = replicate_noise(scores)
    full = with_questions(plain, scores, asked, rule)
    assert full[CODE].item_variance == pytest.approx(2 * 0.2**2 / 30, rel=0.6)
    bare, wider = (detectable(rule, n_seeds=3, noise=noise, where="the store")[0] for noise in (plain, full))
    assert wider.smallest > 2 * bare.smallest
    assert with_questions(plain, scores, asked[:0], rule) == plain
