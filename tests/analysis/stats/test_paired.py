from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.regression.linear_model import OLS, WLS
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.weightstats import ttost_paired

from assay.analysis.stats.paired import Estimate, Part, crossed, over_seeds

SCORES = st.lists(st.floats(-100, 100, allow_nan=False).map(lambda x: round(x, 4)), min_size=2, max_size=8)


def test_over_seeds_equals_the_paired_t_test_of_scipy() -> None:
    rng = np.random.default_rng(1)
    baseline, candidate = rng.normal(2, 0.1, 5), rng.normal(1.9, 0.1, 5)
    estimate = over_seeds(candidate - baseline)
    reference = stats.ttest_rel(candidate, baseline)
    interval = reference.confidence_interval(0.95)
    assert estimate.p_two_sided() == pytest.approx(reference.pvalue, abs=1e-10)
    assert estimate.interval(0.95)[:2] == pytest.approx((interval.low, interval.high), abs=1e-10)
    assert estimate.df(0.025) == 4


def test_one_sided_p_values_equal_the_tost_of_statsmodels() -> None:
    rng = np.random.default_rng(2)
    baseline, candidate = rng.normal(2, 0.1, 4), rng.normal(2.02, 0.1, 4)
    estimate = over_seeds(candidate - baseline)
    _, (_, above_low, _), (_, below_high, _) = ttost_paired(candidate, baseline, -0.05, 0.05)
    assert estimate.p_above(-0.05) == pytest.approx(above_low, abs=1e-10)
    assert estimate.p_below(0.05) == pytest.approx(below_high, abs=1e-10)


def test_one_seed_or_equal_differences_leave_the_noise_unknown_instead_of_zero() -> None:
    for differences in ([0.3], [0.3, 0.3, 0.3], [0.1 + 0.2, 0.3, 0.3]):
        estimate = over_seeds(differences)
        unknown = [
            estimate.se,
            estimate.p_two_sided(),
            estimate.p_above(0),
            estimate.p_below(0),
            *estimate.interval(0.95)[:2],
        ]
        assert all(math.isnan(value) for value in unknown)


def test_crossed_equals_the_two_way_analysis_of_variance() -> None:
    rng = np.random.default_rng(3)
    y = 0.2 + rng.normal(0, 0.2, (3, 1)) + rng.normal(0, 0.5, (1, 12)) + rng.normal(0, 0.2, (3, 12))
    long = pd.DataFrame([(s, i, y[s, i]) for s in range(3) for i in range(12)], columns=["s", "i", "y"])
    table = anova_lm(ols("y ~ C(s) + C(i)", long).fit())
    by_seed, by_item, residual = table["sum_sq"] / table["df"]
    estimate = crossed(y)
    assert estimate.effect == pytest.approx(y.mean(), abs=1e-12)
    assert estimate.se**2 == pytest.approx((by_seed + by_item - residual) / 36, abs=1e-10)
    assert [part.df for part in estimate.parts] == pytest.approx([2, 11])


def test_weights_and_clusters_equal_the_clustered_errors_of_statsmodels() -> None:
    rng = np.random.default_rng(4)
    clusters = np.repeat(np.arange(8), 5)
    items = rng.normal(0, 0.5, 40) + rng.normal(0, 0.5, 8)[clusters]
    weights = rng.uniform(1, 9, 40)
    seeds = np.array([[0.0], [0.1], [0.3]])
    # Without residual noise, the items' component is the variance of the items' mean, independent of the seeds.
    for given_weights, model in ((None, OLS(items, np.ones(40))), (weights, WLS(items, np.ones(40), weights=weights))):
        reference = model.fit(cov_type="cluster", cov_kwds={"groups": clusters}).bse[0] ** 2
        estimate = crossed(items + seeds, weights=given_weights, clusters=clusters)
        assert estimate.parts[1].variance == pytest.approx(reference, abs=1e-10)


def test_coinciding_seeds_use_the_noise_of_their_items() -> None:
    """Accuracies move in steps of one item: three equal differences must not read as certainty."""
    y = np.zeros((3, 40))
    y[0, 0] = y[1, 1] = y[2, 2] = 1.0
    estimate = crossed(y)
    assert estimate.se > 0.01
    assert math.isnan(crossed(np.ones((3, 40))).se), "no seed and no item differs, so the noise is unknown"


@given(parts=st.lists(st.tuples(st.floats(0.01, 10), st.sampled_from([1, 2, 4, 40, 5000])), min_size=1, max_size=2))
def test_the_p_value_inverts_the_interval(parts: list[tuple[float, float]]) -> None:
    estimate = Estimate(1.0, tuple(Part(*part) for part in parts), 1.0, 3)
    assert estimate.critical(estimate.p_two_sided() / 2) * estimate.se == pytest.approx(1.0, abs=1e-6)
    low, high, _ = estimate.interval(0.95)
    assert (estimate.p_two_sided() < 0.05) == (not low <= 0 <= high)
    assert stats.t.isf(0.025, estimate.df(0.025)) == pytest.approx(estimate.critical(0.025), rel=1e-6)


def test_the_p_value_of_an_overwhelming_effect_stays_above_zero() -> None:
    for df in (2, 14_000):
        estimate = Estimate(1e6, (Part(1.0, 2), Part(1.0, df)), 1.0, 3)
        assert 0 < estimate.p_two_sided() < 1e-6


@given(SCORES, st.data())
def test_swapping_the_arms_flips_the_sign_only(baseline: list[float], data: st.DataObject) -> None:
    candidate = data.draw(
        st.lists(st.floats(-100, 100).map(lambda x: round(x, 4)), min_size=len(baseline), max_size=len(baseline))
    )
    forward = over_seeds(np.subtract(candidate, baseline), scale=100)
    backward = over_seeds(np.subtract(baseline, candidate), scale=100)
    assert backward.effect == pytest.approx(-forward.effect)
    assert backward.se == pytest.approx(forward.se, nan_ok=True)
    assert backward.p_two_sided() == pytest.approx(forward.p_two_sided(), nan_ok=True)
    low, high, _ = forward.interval(0.95)
    assert backward.interval(0.95)[:2] == pytest.approx((-high, -low), nan_ok=True)


def _coverage(*, n: int, seed_sd: float, item_sd: float, residual_sd: float, level: float, runs: int) -> float:
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(runs):
        y = rng.normal(0, seed_sd, (n, 1)) + rng.normal(0, item_sd, (1, 150)) + rng.normal(0, residual_sd, (n, 150))
        low, high, _ = crossed(y).interval(level)
        covered += low <= 0 <= high
    return covered / runs


@pytest.mark.parametrize(
    ("n", "seed_sd", "item_sd", "residual_sd"),
    [(3, 0.02, 0.0, 0.3), (3, 0.02, 0.3, 0.1), (3, 0.03, 0.3, 0.3), (3, 0.1, 0.3, 0.3), (5, 0.04, 0.3, 0.1)],
)
def test_intervals_over_seeds_and_items_cover_at_their_nominal_rate(
    n: int, seed_sd: float, item_sd: float, residual_sd: float
) -> None:
    """Satterthwaite's degrees of freedom fail this at three seeds: 92% with equal components of seeds and items."""
    # 3,000 draws have a standard error of 0.004; Cochran and Cox's interval may overcover by up to 2 points.
    assert (
        0.938 < _coverage(n=n, seed_sd=seed_sd, item_sd=item_sd, residual_sd=residual_sd, level=0.95, runs=3000) < 0.983
    )


@pytest.mark.parametrize("shape", ["normal", "heavy tails"])
@pytest.mark.parametrize("n", [3, 5])
def test_a_null_effect_is_significant_in_at_most_alpha_of_cases(n: int, shape: str) -> None:
    rng = np.random.default_rng(8)
    draws = rng.normal(size=(4000, n)) if shape == "normal" else rng.standard_t(3, size=(4000, n))
    false_positives = np.mean([over_seeds(d).p_two_sided() < 0.05 for d in draws])
    assert false_positives < 0.06, "z with the sample SD is at 0.19 here, and a bootstrap over three seeds is higher"
