"""What a design can show: the smallest detectable effect, and the seeds that an effect needs.

All of it from the noncentral t distribution (Cohen 1988). `tail` is a test's level in the direction of the effect: alpha for a
one-sided test, half of it for a two-sided one. Finding the opposite of what is there does not count as finding it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

POWER = 0.8
"""The customary chance of seeing an effect that is there."""

MOST_SEEDS = 100
"""More replicates than this is no advice: another metric or a larger proxy is."""


def power(effect: float, *, se: float, df: float, tail: float) -> float:
    """The chance that a t test finds an effect.

    Args:
        effect: the true distance from the bound that is tested, in the metric's unit, at least 0.
        se: standard error of its estimate.
        df: degrees of freedom of the standard error.
        tail: level of the test in the effect's direction.
    """
    from scipy.special import nctdtr, stdtrit

    return 1 - float(nctdtr(df, effect / se, -float(stdtrit(df, tail))))


def smallest_detectable(*, se: float, df: float, tail: float, chance: float = POWER) -> float:
    """The effect that a design with this standard error finds with the given chance, in the metric's unit.

    Returns:
        NaN where the standard error is unknown.
    """
    from scipy.optimize import brentq

    if not (se > 0 and df > 0):
        return math.nan

    def excess(effect: float) -> float:
        return power(effect, se=1.0, df=df, tail=tail) - chance

    high = 1.0
    while excess(high) < 0:
        high *= 2
    return float(brentq(excess, 0.0, high, xtol=1e-10)) * se


def power_with_seeds(
    effect: float, *, n_seeds: int, noise: float, tail: float, item_variance: float = 0.0, prior_df: float = 0.0
) -> float:
    """The chance that so many seeds show an effect.

    Args:
        effect: distance from the bound that is tested, in the metric's unit.
        n_seeds: replicates of each mix; one shows nothing unless the past says what the noise is.
        noise: SD over seeds of the paired differences, above 0.
        tail: level of the test in the effect's direction.
        item_variance: variance from the choice of questions, which more seeds do not reduce.
        prior_df: degrees of freedom that past runs add to the seeds' own.
    """
    df = n_seeds - 1 + prior_df
    if df <= 0:
        return 0.0
    return power(effect, se=math.sqrt(noise**2 / n_seeds + item_variance), df=df, tail=tail)


def fewest(chance_of: Callable[[int], float], *, chance: float = POWER, most: int) -> int | None:
    """The fewest seeds, two at least, for which a chance that rises with them is high enough; None above `most`."""
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
    """The fewest seeds with which an effect of this size would be found with the given chance.

    Args:
        effect: distance from the bound that is tested, in the metric's unit, above 0.
        noise: SD over seeds of the paired differences, above 0.
        tail: level of the test in the effect's direction.
        item_variance: variance from the choice of questions, which more seeds do not reduce.
        prior_df: degrees of freedom that past runs add to the seeds' own.
        chance: the power asked for.
        most: give up above this number.

    Returns:
        None if more than `most` are needed, or no number would do.
    """

    def found(n: int) -> float:
        return power_with_seeds(
            effect, n_seeds=n, noise=noise, tail=tail, item_variance=item_variance, prior_df=prior_df
        )

    return fewest(found, chance=chance, most=most)


def noise_at_most(noise: float, n_seeds: float, *, confidence: float = 0.8) -> float:
    """Upper confidence bound of an SD that was measured on a few seeds (chi-squared, n - 1 degrees of freedom).

    Where past runs are counted in, `n_seeds` is one more than the degrees of freedom.

    At three seeds and 80% it is 2.1 times the SD seen: so little do three seeds say about noise.
    """
    from scipy.special import chdtri

    return noise * math.sqrt((n_seeds - 1) / float(chdtri(n_seeds - 1, confidence)))
