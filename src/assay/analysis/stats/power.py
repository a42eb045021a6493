"""Compute the power of a design, the smallest detectable effect and the required seeds.

All functions use the noncentral t distribution (Cohen 1988). `tail` is the level of a test in the direction of the
effect: alpha for a one-sided test, and alpha / 2 for a two-sided test. A significant effect of the opposite sign is not
    a detection.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

POWER = 0.8
"""Conventional power at which a design counts as able to detect an effect."""

MOST_SEEDS = 100
"""Maximum number of replicates to recommend. If more are required, use another metric or a larger proxy."""


def power(effect: float, *, se: float, df: float, tail: float) -> float:
    """Return the probability that a t test detects an effect.

    Args:
        effect: true distance from the tested bound, in the metric's unit, at least 0.
        se: standard error of the effect's estimate.
        df: degrees of freedom of the standard error.
        tail: level of the test in the effect's direction.
    """
    from scipy.special import nctdtr, stdtrit

    return 1 - float(nctdtr(df, effect / se, -float(stdtrit(df, tail))))


def smallest_detectable(*, se: float, df: float, tail: float, chance: float = POWER) -> float:
    """Return the effect that a design detects with the given power, in the metric's unit.

    Returns:
        NaN if the standard error is unknown.
    """
    return _detectable_in_errors(df, tail, chance) * se if se > 0 and df > 0 else math.nan


@lru_cache(maxsize=4096)
def _detectable_in_errors(df: float, tail: float, chance: float) -> float:
    """Return the smallest detectable effect in standard errors.

    Metrics with equal numbers of seeds share the cached value.
    """
    from scipy.optimize import brentq

    def excess(effect: float) -> float:
        return power(effect, se=1.0, df=df, tail=tail) - chance

    high = 1.0
    while excess(high) < 0:
        high *= 2
    if not excess(high) >= 0:  # the noncentral t distribution has no value at this level
        return math.nan
    return float(brentq(excess, 0.0, high, xtol=1e-10))


def power_with_seeds(
    effect: float, *, n_seeds: int, noise: float, tail: float, item_variance: float = 0.0, prior_df: float = 0.0
) -> float:
    """Return the probability that `n_seeds` replicates detect an effect.

    Args:
        effect: distance from the tested bound, in the metric's unit.
        n_seeds: replicates of each mix. A single replicate detects nothing unless the history provides the noise.
        noise: SD over seeds of the paired differences, above 0.
        tail: level of the test in the effect's direction.
        item_variance: variance from the choice of items, which more seeds do not reduce.
        prior_df: degrees of freedom that past runs add to the seeds' own.
    """
    df = n_seeds - 1 + prior_df
    if df <= 0:
        return 0.0
    return power(effect, se=math.sqrt(noise**2 / n_seeds + item_variance), df=df, tail=tail)


def fewest(chance_of: Callable[[int], float], *, chance: float = POWER, most: int) -> int | None:
    """Return the smallest number of seeds, at least two, that reaches a power; None above `most`.

    Args:
        chance_of: power by number of seeds. It must not decrease with the number of seeds.
        chance: the power to reach.
        most: largest number of seeds to consider.
    """
    if not chance_of(most) >= chance:
        return None
    low, high = 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if chance_of(middle) >= chance else (middle, high)
    return high


def seeds_needed(
    effect: float,
    *,
    noise: float,
    tail: float,
    item_variance: float = 0.0,
    prior_df: float = 0.0,
    chance: float = POWER,
    most: int = 1000,
) -> int | None:
    """Return the smallest number of seeds that detects an effect with the given power.

    Args:
        effect: distance from the tested bound, in the metric's unit, above 0.
        noise: SD over seeds of the paired differences, above 0.
        tail: level of the test in the effect's direction.
        item_variance: variance from the choice of items, which more seeds do not reduce.
        prior_df: degrees of freedom that past runs add to the seeds' own.
        chance: the power to reach.
        most: largest number of seeds to consider.

    Returns:
        None if more than `most` seeds are needed, or no number suffices.
    """

    def power_of(n: int) -> float:
        return power_with_seeds(
            effect, n_seeds=n, noise=noise, tail=tail, item_variance=item_variance, prior_df=prior_df
        )

    return fewest(power_of, chance=chance, most=most)


def noise_at_most(noise: float, n_seeds: float, *, confidence: float = 0.8) -> float:
    """Return the upper confidence bound of an SD that was measured on a few seeds.

    The bound is that of the chi-squared distribution with n - 1 degrees of freedom. For three seeds and 80% confidence,
    it is 2.1 times the observed SD.

    Args:
        noise: the observed SD.
        n_seeds: number of seeds; if past runs contribute, the degrees of freedom plus 1.
        confidence: level of the bound.
    """
    from scipy.special import chdtri

    return noise * math.sqrt((n_seeds - 1) / float(chdtri(n_seeds - 1, confidence)))
