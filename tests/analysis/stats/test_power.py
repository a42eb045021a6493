from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from assay.analysis.stats.paired import over_seeds
from assay.analysis.stats.power import noise_at_most, power, seeds_needed, smallest_detectable


def smallest(n: int, noise: float) -> float:
    """Return the effect that n seeds detect with probability 0.8, at a two-sided 5%."""
    return smallest_detectable(se=noise / n**0.5, df=n - 1, tail=0.025)


@pytest.mark.parametrize("n", [2, 3, 5, 40])
def test_power_equals_statsmodels_and_is_reached_at_the_smallest_effect(n: int) -> None:
    # Compare powers, as the effect solver of statsmodels stops at a relative 1e-6.
    reference = TTestPower()
    for effect in (0.1, 0.5, 1.0, 3.0):
        expected = reference.power(effect, nobs=n, alpha=0.025, alternative="larger")
        assert power(effect, se=1 / n**0.5, df=n - 1, tail=0.025) == pytest.approx(expected, rel=1e-8)
    reached = reference.power(smallest(n, 0.5) / 0.5, nobs=n, alpha=0.025, alternative="larger")
    assert reached == pytest.approx(0.8, rel=1e-8)


def test_power_is_the_fraction_of_studies_that_detect_the_effect() -> None:
    rng = np.random.default_rng(5)
    effect = smallest(3, 1.0)
    detected = [
        (e := over_seeds(rng.normal(effect, 1.0, 3))).p_two_sided() < 0.05 and e.effect > 0 for _ in range(3000)
    ]
    assert np.mean(detected) == pytest.approx(0.8, abs=0.03)


def test_seeds_needed_is_the_fewest_that_reach_the_power() -> None:
    n = seeds_needed(0.5, noise=0.4, tail=0.025)
    assert n is not None
    assert power(0.5, se=0.4 / n**0.5, df=n - 1, tail=0.025) >= 0.8
    assert power(0.5, se=0.4 / (n - 1) ** 0.5, df=n - 2, tail=0.025) < 0.8


def test_no_number_of_seeds_compensates_for_too_few_items() -> None:
    assert seeds_needed(0.1, noise=0.01, tail=0.025, item_variance=0.1**2) is None
    assert seeds_needed(-0.1, noise=0.01, tail=0.025) is None


def test_one_seed_or_an_unknown_error_detects_nothing() -> None:
    assert math.isnan(smallest(1, 0.1))
    assert math.isnan(smallest_detectable(se=math.nan, df=math.nan, tail=0.025))


def test_the_upper_bound_of_the_noise_holds_in_four_of_five_studies() -> None:
    rng = np.random.default_rng(6)
    bounds = [noise_at_most(float(np.std(rng.normal(size=3), ddof=1)), 3) for _ in range(4000)]
    assert np.mean(np.array(bounds) >= 1.0) == pytest.approx(0.8, abs=0.02)


def test_a_level_without_a_value_of_the_distribution_leaves_the_effect_unknown() -> None:
    assert math.isnan(smallest_detectable(se=0.01, df=2, tail=1e-17))
