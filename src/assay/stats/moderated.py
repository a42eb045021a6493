"""Moderated variance: what three seeds say of the noise, and what other runs said of it.

Three seeds leave two degrees of freedom for a variance, which is then off by a factor of two either way more often than not. Other
mixes and past runs have the same noise or nearly so. Smyth (2004) takes the true variances to be scattered around a common
one as an inverse chi-squared of some degrees of freedom, learns both from all the variances seen, and shrinks each
towards the common one by as much as they agree; `limma` does it for genes. Variances that differ a lot are shrunk little.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MOST_DF = 4.0
"""A prior counts for no more than this, twice what three seeds say themselves. Without a bound, noise whose SD differs by 40% between
mixes is called an effect in 6.0 to 6.4% of cases at a nominal 5%, with it in 4.8 to 5.9% (three paired seeds, 8 to 60 mixes); the
power at a gap of two SD falls from .62 to .54, where the seeds alone have .33."""

FEWEST = 5
"""Variances from which a prior is learnt; fewer do not show how much they differ."""

ALONE = 10
"""Degrees of freedom of past replicates from which a verdict may rest on the history's noise alone: five mixes of three seeds, or ten of
two. The error is then at most 4.3% at a nominal 5%, for normal, heavy-tailed and unequal noise; with half of them it is 4.8% where noise is
both, which leaves no room (`benchmarks/one_replicate.py`)."""


class Prior(NamedTuple):
    """What is known of a variance before it is measured.

    Attributes:
        variance: the common one.
        df: degrees of freedom that it counts for; 0 where nothing is known.
        seen: degrees of freedom of all the variances that it was learnt from.
    """

    variance: float
    df: float
    seen: float = 0.0

    @property
    def stands_alone(self) -> bool:
        """Whether it may be all that is known of the noise: where each mix has one replicate."""
        return self.df > 0 and self.seen >= ALONE


NOTHING = Prior(math.nan, 0.0)
"""No prior: variances stay as they were measured."""


class Moderated(NamedTuple):
    """A variance, and how well it is known.

    Attributes:
        variance: shrunk towards the prior's.
        df: its own degrees of freedom and the prior's.
    """

    variance: float
    df: float


def learn(variances: Sequence[float] | NDArray[np.float64], df: Sequence[float] | NDArray[np.float64]) -> Prior:
    """The prior of variances that were measured on few replicates each (Smyth 2004, section 6.2).

    Log variances have the mean and variance of log F; both are matched. A few variances may agree by chance: their variance is
    taken two standard errors larger than it is, and the prior counts for `MOST_DF` at most. Variances of 0 are coincidences of scores that
    move in steps: they are lifted to a thousandth of the median, as limma does to a hundred-thousandth.

    Args:
        variances: of each mix or metric, in one unit.
        df: degrees of freedom behind each; entries with none are left out.

    Returns:
        `NOTHING` where fewer than five are known.

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
    middle = float(logs.mean())
    seen = float(logs.var(ddof=1)) * (1 + 2 * math.sqrt(2 / (len(s2) - 1)))
    excess = seen - float(polygamma(1, d / 2).mean())
    if excess <= float(polygamma(1, d.sum() / 2)):
        # They differ by no more than they would by chance: one variance, for which the pooled one is the estimate.
        return Prior(float(s2 @ d / d.sum()), MOST_DF, float(d.sum()))
    prior_df = 2 * _inverse_trigamma(excess)
    variance = float(np.exp(middle + digamma(prior_df / 2) - math.log(prior_df / 2)))
    return Prior(variance, min(prior_df, MOST_DF), float(d.sum()))


def shrink(variance: float, df: float, prior: Prior) -> Moderated:
    """A measured variance, drawn towards the prior by their degrees of freedom; `df` 0 takes the prior's alone.

    >>> shrink(4.0, 2, Prior(1.0, 4.0))
    Moderated(variance=2.0, df=6.0)
    """
    if prior.df == 0 or df + prior.df == 0:
        return Moderated(variance, df)
    own = df * variance if df > 0 else 0.0
    return Moderated((own + prior.df * prior.variance) / (df + prior.df), df + prior.df)


def _inverse_trigamma(value: float) -> float:
    """Newton's method on 1 / trigamma, which converges from below for every value above 0 (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    x = 0.5 + 1 / value
    for _ in range(50):
        tri = float(polygamma(1, x))
        step = tri * (1 - tri / value) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-10:
            break
    return x
