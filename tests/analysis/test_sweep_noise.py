"""Verdicts state where their noise comes from: all arms, the history, unpaired seeds, noisy arms and outliers."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from assay.analysis.breakdowns import standard_error
from assay.analysis.compare import compare
from assay.analysis.detectable_effect import compute_detectable_effects
from assay.analysis.gate import decide, gate
from assay.analysis.stats.replicates import Noise
from assay.config.policy import Criterion
from assay.config.reason import Code, stated
from assay.report.reason_text import text, to_json
from tests.helpers.reasons import first
from tests.helpers.studies import policy

TASK = "validation/code"
RULE = policy(guardrails=())


def _table(
    values: np.ndarray, *, seeds: list[range] | None = None, prefix: str = "m", scale: str = "1m"
) -> pd.DataFrame:
    """Long table of one loss; the first mix is `m0`. NaN cells have no row."""
    rows = [
        (f"{prefix}{mix}", seed if seeds is None else seeds[mix][seed], scale, 1e7, TASK, "bits_per_byte", 2 + value)
        for (mix, seed), value in np.ndenumerate(values)
        if math.isfinite(value)
    ]
    return pd.DataFrame(rows, columns=["mix", "seed", "scale", "tokens", "task", "metric", "value"])


def _rate(draw: object, *, studies: int, past: object, seed: int = 1) -> float:
    """Fraction of studies in which m1 is significantly better or worse than m0, with a history of 20 different mixes."""
    rng, claims = np.random.default_rng(seed), 0
    for _ in range(studies):
        history = _table(past(rng) + 0.1 * np.arange(20)[:, None], prefix="past")  # type: ignore[operator]
        table = _table(0.01 * draw(rng))  # type: ignore[operator]
        [c] = compare(table, RULE, baseline="m0", candidates=["m1"], history=history)
        assert c.votes
        claims += c.p_adjusted <= RULE.alpha
    return claims / studies


@pytest.mark.parametrize("ratio", [1.5, 2.0, 3.0])
def test_a_history_that_is_quieter_than_the_sweep_causes_no_wrong_verdict(ratio: float) -> None:
    studies = 250
    wrong = _rate(
        lambda rng: ratio * rng.standard_normal((2, 3)),
        past=lambda rng: 0.01 * rng.standard_normal((20, 3)),
        studies=studies,
    )
    assert wrong <= 0.06 + 3 * math.sqrt(0.06 * 0.94 / studies)


def test_coupled_seeds_keep_their_power_with_a_history() -> None:
    """The seeds' common part is 90% of the variance. As if seeds were independent, the power would be below 8%."""

    def coupled(rng: np.random.Generator, mixes: int) -> np.ndarray:
        return math.sqrt(0.1) * rng.standard_normal((mixes, 3)) + math.sqrt(0.9) * rng.standard_normal(3)

    def sweep(rng: np.random.Generator) -> np.ndarray:
        values = coupled(rng, 5)
        values[1] -= 2 * math.sqrt(0.1)
        return values

    found = _rate(sweep, past=lambda rng: 0.01 * coupled(rng, 20), studies=150)
    assert found >= 0.52 - 3 * math.sqrt(0.25 / 150)


def test_the_interval_excludes_zero_if_and_only_if_the_verdict_decides() -> None:
    rng = np.random.default_rng(3)
    for _ in range(60):
        values = rng.standard_normal((4, 3)) * np.array([[1], [1], [1], [4]])
        values[1:] -= 1.5
        for verdict in gate(_table(0.01 * values), RULE, baseline="m0", candidates=["m1", "m3"]).candidates.values():
            [c] = verdict.comparisons
            excludes = c.ci_low > 0 or c.ci_high < 0
            assert (c.p < 0.05) == (c.p_adjusted <= 0.05) == excludes == (verdict.decision != "INCONCLUSIVE")


def test_an_arm_with_its_own_noise_is_stated() -> None:
    values = 0.001 * np.random.default_rng(4).standard_normal((6, 4))
    values[1] *= 50
    sweep = gate(_table(values), RULE, baseline="m0", candidates=["m1", "m2"])
    reason = first(sweep.candidates["m1"].reasons, Code.ARM_NOISE_DIFFERS)
    [metric] = reason.figures["metrics"]
    assert (reason.subject, metric["task"], metric["ratio"] > 5) == ("m1", TASK, True)
    assert (metric["arms"], metric["between"]) == (("m1",), False)
    assert sweep.candidates["m1"].comparisons[0].noise_sources == {"pair": 3, "sweep": 0, "history": 0}
    assert sweep.candidates["m2"].comparisons[0].noise_sources == {"pair": 3, "sweep": 9, "history": 0}
    json.dumps(to_json(sweep), allow_nan=False)


def test_an_outlying_run_is_named_with_the_verdict_without_it_and_stays_in_the_verdict() -> None:
    values = 0.002 * np.random.default_rng(5).standard_normal((4, 5))
    values[1] -= 0.02
    values[1, 3] += 2.5
    verdict = decide(_table(values), RULE, baseline="m0", candidate="m1")
    reason = first(verdict.reasons, Code.OUTLIER_SEED)
    assert (reason.subject, reason.figures["seed"]) == ("m1", 3)
    assert (reason.figures["decision"], reason.figures["without"]) == ("INCONCLUSIVE", "ACCEPT")
    assert not reason.figures["too_few"]
    [metric] = reason.figures["metrics"]
    assert metric["value"] == pytest.approx(2 + values[1, 3])
    assert metric["expected"] == pytest.approx(1.98, abs=0.02)
    assert verdict.comparisons[0].n_seeds == 5, "the run is never dropped"
    assert text(reason).startswith("Seed 3 of m1 is an outlier")
    other = decide(_table(values), RULE, baseline="m0", candidate="m2")
    assert Code.OUTLIER_SEED not in {reason.code for reason in other.reasons}


def test_an_outlier_of_another_mix_that_informs_the_noise_is_named() -> None:
    values = 0.004 * np.random.default_rng(1).standard_normal((3, 4))
    values[1, 3] += 1.9
    values[2] -= 0.05
    verdict = decide(_table(values), RULE, baseline="m0", candidate="m2")
    reason = first(verdict.reasons, Code.OUTLIER_SEED)
    assert (reason.subject, reason.figures["noise_only"]) == ("m1", True)
    assert (verdict.decision, reason.figures["without"]) == ("INCONCLUSIVE", "ACCEPT")
    assert "The estimate of the noise uses it." in text(reason)


def test_an_outlier_of_three_required_seeds_leaves_too_few_seeds() -> None:
    values = 0.002 * np.random.default_rng(6).standard_normal((5, RULE.min_seeds))
    values[1, 1] += 2.5
    figures = first(decide(_table(values), RULE, baseline="m0", candidate="m1").reasons, Code.OUTLIER_SEED).figures
    assert (figures["without"], figures["too_few"]) == ("INCONCLUSIVE", True)


def test_a_history_with_another_noise_is_stated() -> None:
    rng = np.random.default_rng(6)
    past = _table(0.0001 * rng.standard_normal((20, 3)), prefix="past")
    verdict = decide(_table(0.01 * rng.standard_normal((2, 3))), RULE, baseline="m0", candidate="m1", history=past)
    [metric] = first(verdict.reasons, Code.HISTORY_NOISE_UNUSED).figures["metrics"]
    assert metric["ratio"] > 5


def test_ten_baseline_seeds_all_count_against_three_candidate_seeds() -> None:
    rng = np.random.default_rng(7)
    values = 0.01 * rng.standard_normal((2, 10))
    values[1, 3:] = math.nan
    table = _table(values)
    verdict = decide(table, RULE, baseline="m0", candidate="m1")
    [c] = verdict.comparisons
    assert (c.pairing, c.n_seeds, len(c.baseline_seeds), c.candidate_seeds) == ("unpaired", 3, 10, (0, 1, 2))
    assert c.noise_df == 11
    assert c.baseline_mean == pytest.approx(2 + values[0].mean())
    assert first(verdict.reasons, Code.SEEDS_UNSHARED).figures["shared"] == (0, 1, 2)
    assert first(verdict.reasons, Code.SCORES_MISSING).figures["seeds"] == tuple(range(3, 10))


def test_items_of_unshared_seeds_widen_the_interval() -> None:
    rng = np.random.default_rng(8)
    difficulty = rng.random(300)
    rows, items = [], []
    for mix, level, seeds in (("m0", 0.5, range(3)), ("m1", 0.6, range(3, 6))):
        for seed in seeds:
            right = ((difficulty + rng.normal(0, 0.1, 300)) % 1 < level).astype(float)
            rows.append((mix, seed, "mmlu", "acc", right.mean(), 300, 0.25))
            items += [(mix, seed, "mmlu", "acc", f"q{i}", value) for i, value in enumerate(right)]
    table = pd.DataFrame(rows, columns=["mix", "seed", "task", "metric", "value", "n", "chance"])
    item_table = pd.DataFrame(items, columns=["mix", "seed", "task", "metric", "item", "value"])
    rule = policy(primary=(Criterion(task="mmlu", metric="acc", better="higher"),), guardrails=())
    [plain] = compare(table, rule, baseline="m0")
    [c] = compare(table, rule, baseline="m0", items=item_table)
    assert c.effect == pytest.approx(plain.effect)
    assert c.item_variance > 0
    assert c.ci_high - c.ci_low > plain.ci_high - plain.ci_low


def test_more_arms_lower_the_smallest_detectable_effect() -> None:
    noise = {(TASK, "bits_per_byte"): Noise(0.01, 20, 10, 30)}
    two, five = (
        compute_detectable_effects(RULE, n_seeds=3, noise=noise, where="the store", n_arms=n)[0].smallest
        for n in (2, 5)
    )
    assert five < 0.75 * two


def test_a_blocked_mix_does_not_inform_the_noise_of_other_candidates() -> None:
    table = _table(0.01 * np.random.default_rng(10).standard_normal((4, 3)))
    every, without = (
        gate(table, RULE, baseline="m0", candidates=["m1", "m2"], blocked=blocked).candidates["m1"].comparisons[0]
        for blocked in ({}, {"m2": [stated("source a lost its clearance.")]})
    )
    assert (every.noise_sources["sweep"], without.noise_sources["sweep"]) == (4, 2)


def test_invalid_scores_of_one_arm_decide_nothing() -> None:
    rng = np.random.default_rng(9)
    values = 0.01 * rng.standard_normal((4, 3))
    values[1], values[2] = 0.5, values[0] + 0.3
    table = _table(values)
    table.loc[(table["mix"] == "m3") & (table["seed"] == 1), "value"] = math.nan
    sweep = gate(table, RULE, baseline="m0", candidates=["m1", "m2", "m3"])
    assert {mix: str(verdict.decision) for mix, verdict in sweep.candidates.items()} == {
        "m1": "INCONCLUSIVE",
        "m2": "INCONCLUSIVE",
        "m3": "INCONCLUSIVE",
    }
    json.dumps(to_json(sweep), allow_nan=False)


def test_the_noise_of_unequal_numbers_of_seeds_is_that_of_two_runs() -> None:
    values = np.full((2, 10), math.nan)
    rng = np.random.default_rng(21)
    values[0], values[1, :3] = rng.standard_normal(10), 0.5 * rng.standard_normal(3)
    seeds = [range(10), range(20, 30)]
    [c] = compare(_table(0.01 * values, seeds=seeds), RULE, baseline="m0", candidates=["m1"])
    assert (c.pairing, c.noise_apart) == ("unpaired", False)
    assert c.noise_moderated == pytest.approx(c.noise)
    error = standard_error(c)
    assert error == pytest.approx(c.noise * math.sqrt((1 / 10 + 1 / 3) / 2))
    assert c.ci_high - c.ci_low == pytest.approx(2 * stats.t.isf(0.025, c.noise_df) * error)
