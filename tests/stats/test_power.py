from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from assay.stats.paired import over_seeds
from assay.stats.power import noise_at_most, power, seeds_needed, smallest_detectable


def smallest(n: int, noise: float) -> float:
    """What so many seeds detect with probability 0.8, at a two-sided 5%."""
    return smallest_detectable(se=noise / n**0.5, df=n - 1, tail=0.025)


@pytest.mark.parametrize("n", [2, 3, 5, 40])
def test_power_is_that_of_statsmodels_and_the_smallest_effect_has_it_there(n: int) -> None:
    # Its power, as its solver for the effect stops at a relative 1e-6.
    reference = TTestPower()
    for effect in (0.1, 0.5, 1.0, 3.0):
        expected = reference.power(effect, nobs=n, alpha=0.025, alternative="larger")
        assert power(effect, se=1 / n**0.5, df=n - 1, tail=0.025) == pytest.approx(expected, rel=1e-8)
    found = reference.power(smallest(n, 0.5) / 0.5, nobs=n, alpha=0.025, alternative="larger")
    assert found == pytest.approx(0.8, rel=1e-8)


def test_power_is_the_share_of_studies_that_find_the_effect() -> None:
    rng = np.random.default_rng(5)
    effect = smallest(3, 1.0)
    found = [(e := over_seeds(rng.normal(effect, 1.0, 3))).p_two_sided() < 0.05 and e.effect > 0 for _ in range(3000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


def test_seeds_needed_is_the_fewest_that_reach_the_power() -> None:
    n = seeds_needed(0.5, noise=0.4, tail=0.025)
    assert n is not None
    assert power(0.5, se=0.4 / n**0.5, df=n - 1, tail=0.025) >= 0.8
    assert power(0.5, se=0.4 / (n - 1) ** 0.5, df=n - 2, tail=0.025) < 0.8


def test_no_number_of_seeds_makes_up_for_too_few_questions() -> None:
    assert seeds_needed(0.1, noise=0.01, tail=0.025, item_variance=0.1**2) is None
    assert seeds_needed(-0.1, noise=0.01, tail=0.025) is None


def test_one_seed_or_an_unknown_error_detects_nothing() -> None:
    assert math.isnan(smallest(1, 0.1))
    assert math.isnan(smallest_detectable(se=math.nan, df=math.nan, tail=0.025))


def test_three_seeds_may_understate_the_noise_by_half_in_one_study_of_five() -> None:
    rng = np.random.default_rng(6)
    bounds = [noise_at_most(float(np.std(rng.normal(size=3), ddof=1)), 3) for _ in range(4000)]
    assert np.mean(np.array(bounds) >= 1.0) == pytest.approx(0.8, abs=0.02)
