"""Shrink variance estimates toward a prior learned from other mixes and past runs.

Three seeds leave two degrees of freedom for a variance estimate. In most cases, such an estimate is wrong by more than
a factor of two. Other mixes and past runs have nearly the same noise. Smyth (2004) models the true variances as
scattered around a common value with an inverse chi-squared distribution. The method estimates the two parameters of
that distribution from all observed variances, and shrinks each variance toward the common value. If the variances
differ widely, the shrinkage is small. The package `limma` uses the method for genes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MOST_DF = 4.0
"""Upper bound of a prior's degrees of freedom: twice the degrees of freedom of three seeds.

The bound was chosen by simulation with three paired seeds and 8 to 60 mixes, whose noise SD differs by 40% between
mixes. At a nominal 5%, the false-positive rate is 6.0-6.4% without the bound and 4.8-5.9% with the bound. For a
difference of two SDs, the bound reduces the power from .62 to .54. Without a prior, the power is .33.
"""

FEWEST = 5
"""Minimum number of variances behind a prior. Fewer variances do not show how widely variances scatter."""

ALONE = 10
"""Minimum degrees of freedom of past replicates for a verdict that uses only the history's noise.

Five mixes of three seeds, or ten mixes of two seeds, have this number. At a nominal 5%, the false-positive rate is then
at most 4.3% for normal, heavy-tailed and unequal noise. With half of the degrees of freedom, the rate is 4.8% for noise
that is both heavy-tailed and unequal, which leaves no safety margin (`benchmarks/one_replicate.py`).
"""


class Prior(NamedTuple):
    """Prior knowledge of a variance.

    Attributes:
        variance: the common variance.
        df: degrees of freedom that the prior adds to a measured variance; 0 if nothing is known.
        seen: total degrees of freedom of the variances from which the prior was estimated.
    """

    variance: float
    df: float
    seen: float = 0.0

    @property
    def stands_alone(self) -> bool:
        """Whether the prior suffices for a verdict with one replicate per mix."""
        return self.df > 0 and self.seen >= ALONE


NOTHING = Prior(math.nan, 0.0)
"""No prior. Variances stay as measured."""


class Moderated(NamedTuple):
    """A shrunk variance with its degrees of freedom.

    Attributes:
        variance: the variance after shrinkage.
        df: sum of the degrees of freedom of the measured variance and of the prior.
    """

    variance: float
    df: float


def learn(variances: Sequence[float] | NDArray[np.float64], df: Sequence[float] | NDArray[np.float64]) -> Prior:
    """Estimate the prior of variances measured on few replicates each (Smyth 2004, section 6.2).

    The mean and variance of the log variances are matched to those of log F. A few variances can agree by chance.
    Therefore the variance of the log variances is raised by two standard errors, and the prior has at most `MOST_DF`
    degrees of freedom. Discrete scores can give a variance of 0 by coincidence. Such a variance is raised to a
    thousandth of the median (limma: a hundred-thousandth).

    Args:
        variances: one variance per mix or metric, in the same unit.
        df: degrees of freedom of each variance; entries with 0 are ignored.

    Returns:
        `NOTHING` if fewer than five variances are known.
    >>> prior = learn([1.0, 2.0, 0.5, 1.5, 0.8, 1.2], [2, 2, 2, 2, 2, 2])
    >>> round(prior.variance, 2), prior.df
    (1.17, 4.0)
    """
    from scipy.special import digamma, polygamma

    s2, d = np.asarray(variances, dtype=float), np.asarray(df, dtype=float)
    known = (d > 0) & np.isfinite(s2)
    s2, d = s2[known], d[known]
    if len(s2) < FEWEST or not (s2 > 0).any():
        return NOTHING
    s2 = np.maximum(s2, 1e-3 * float(np.median(s2[s2 > 0])))
    logs = np.log(s2) - digamma(d / 2) + np.log(d / 2)
    center = float(logs.mean())
    seen = float(logs.var(ddof=1)) * (1 + 2 * math.sqrt(2 / (len(s2) - 1)))
    excess = seen - float(polygamma(1, d / 2).mean())
    if excess <= float(polygamma(1, d.sum() / 2)):
        # The variances differ by no more than expected by chance, so the pooled variance estimates their common value.
        return Prior(float(s2 @ d / d.sum()), MOST_DF, float(d.sum()))
    prior_df = 2 * inverse_trigamma(excess)
    variance = float(np.exp(center + digamma(prior_df / 2) - math.log(prior_df / 2)))
    return Prior(variance, min(prior_df, MOST_DF), float(d.sum()))


def shrink(variance: float, df: float, prior: Prior) -> Moderated:
    """Shrink a measured variance toward the prior, weighted by degrees of freedom.

    If `df` is 0, the result has the prior's variance.

    >>> shrink(4.0, 2, Prior(1.0, 4.0))
    Moderated(variance=2.0, df=6.0)
    """
    if prior.df == 0 or df + prior.df == 0:
        return Moderated(variance, df)
    own = df * variance if df > 0 else 0.0
    return Moderated((own + prior.df * prior.variance) / (df + prior.df), df + prior.df)


def inverse_trigamma(value: float) -> float:
    """Invert the trigamma function by Newton's method on 1 / trigamma.

    The method converges for every value above 0 (Smyth 2004, appendix).
    """
    from scipy.special import polygamma

    x = 0.5 + 1 / value
    for _ in range(50):
        tri = float(polygamma(1, x))
        step = tri * (1 - tri / value) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-10:
            break
    return x
