from __future__ import annotations

import numpy as np
import pytest
from scipy.special import polygamma

from assay.analysis.stats.moderated import MOST_DF, NOTHING, Prior, inverse_trigamma, learn, shrink
from assay.analysis.stats.target import _two_sided


def test_learn_recovers_a_known_prior_from_many_variances() -> None:
    rng = np.random.default_rng(1)
    true = 2.0 * 3 / rng.chisquare(3, 20_000)
    prior = learn(true * rng.chisquare(2, 20_000) / 2, [2] * 20_000)
    assert prior[:2] == pytest.approx((2.0, 3.0), rel=0.1)


def test_variances_that_agree_are_pooled_with_bounded_degrees_of_freedom() -> None:
    variances, df = [1.0, 1.1, 0.9, 1.05, 0.95], [2, 3, 2, 3, 2]
    assert learn(variances, df) == pytest.approx((np.average(variances, weights=df), MOST_DF, 12.0))


def test_too_few_variances_yield_no_prior_and_no_shrinkage() -> None:
    assert learn([1.0, 2.0, 3.0, 4.0], [2] * 4) == NOTHING
    assert learn([0.0] * 6, [2] * 6) == NOTHING
    assert learn([np.nan, 1, 2, 3, 4, 5], [0, 2, 2, 2, 2, 0]) == NOTHING
    assert shrink(4.0, 2, NOTHING) == (4.0, 2)


def test_without_replicates_the_variance_is_the_prior_variance() -> None:
    assert shrink(float("nan"), 0, Prior(3.0, 8.0)) == (3.0, 8.0)


@pytest.mark.parametrize("value", [1e-3, 0.1, 1.0, 30.0])
def test_inverse_trigamma_inverts_trigamma(value: float) -> None:
    assert polygamma(1, inverse_trigamma(value)) == pytest.approx(value, rel=1e-8)


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_moderated_paired_test_keeps_its_level_if_noise_differs_between_mixes(seeds: int) -> None:
    rng = np.random.default_rng(4)
    wrong, drawn = 0, 3000
    for _ in range(drawn):
        noise = np.exp(0.4 * rng.standard_normal(22))[:, None]
        runs = noise * rng.standard_t(5, (22, seeds))
        prior = learn(runs[2:].var(axis=1, ddof=1), [seeds - 1] * 20)
        differences = runs[1] - runs[0]
        own = float(differences.var(ddof=1))
        variance, df = shrink(own, seeds - 1, prior._replace(variance=2 * prior.variance))
        wrong += _two_sided(differences.mean() / np.sqrt(variance / seeds), df) <= 0.05
    assert wrong / drawn <= 0.06
