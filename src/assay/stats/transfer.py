"""From proxy to target: how large a difference at the proxy has to be before it holds at the target scale.

A seed test at the proxy answers another question: it says that a difference is no noise, not that it survives the scale. Of
public pairs that were significant at 150M, 11 to 14% had the other winner at 1B. What is lost in between is seen in
past mixes that were trained at both scales, and only there.

The slope from proxy to target differences is Theil's (1950) and Sen's (1968): the median of the past pairs' slopes, here weighted by the
pairs' distance at the proxy, so that one odd mix does not turn it. Its errors are those of past pairs, each predicted without
both of its mixes: they hold the noise of proxy and target seeds, what is lost between the scales, and what is unknown of
the slope. No distribution is assumed where there are enough pairs; a t distribution of mixes - 2 degrees of freedom, whose scale is a
quantile of the errors, keeps a small history from looking better than it is. Whichever is wider counts.

Alpha is for the share of wrong verdicts among all. Who leaves both mixes of a pair out of its history takes errors out of it where the pair is
an odd one: a bar that follows the errors falls for just those pairs whose winner turns. How often the ranking held hardly moves, so
the bar is a rank: of pairs that are further apart than it, at most alpha are wrong by the normal model of that reliability.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from assay.stats.paired import NEGLIGIBLE, Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FEWEST = 6
"""Mixes with which a slope is fitted at all: they make 15 pairs, of which 5% is not one."""

MANY = 100
"""From so many mixes on, leaving out two changes the slope by less than anything that is printed."""

CENTRAL = 0.7
"""Share of the errors that gives their scale: up to 30% of the pairs, 15% of the mixes, may be odd ones."""


DOZEN = 12
"""Mixes from which on the reliability of the ranking is known well enough to set the bar."""

WIDEST = 0.3
"""Share of past pairs, those furthest apart, that a verdict by rank may be as close as. In simulated tables of 25 mixes of which the
higher mean is right for 77 to 83% of pairs, 28 to 31% are then decided and 95 to 99% of those right, and three fifths to five sixths of the
tables meet 25% and 95% at once; by a bar of 1.5 alpha on each pair a third to two thirds do (docs/log.md)."""

LEAST_SURE = 3.0
"""No verdict has a higher chance to be wrong than so many alpha, however far apart its mixes are among others."""


class Reliability(NamedTuple):
    """How well the ranking at the proxy foretold the target's in the history.

    Attributes:
        accuracy: share of past pairs whose winner was foretold, each without both of its mixes; ties at the target left out.
        n_pairs: pairs that were counted.
        n_mixes: mixes that make them.
    """

    accuracy: float
    n_pairs: int
    n_mixes: int


class Transfer(NamedTuple):
    """The way from a difference at the proxy to one at the target.

    Attributes:
        slope: of target differences on proxy differences.
        errors: (pairs,) sizes of the errors with which past pairs were predicted, in the target's unit.
        distances: (pairs,) sizes of their differences at the proxy.
        reliability: how often the winner was foretold.
    """

    slope: float
    errors: NDArray[np.float64]
    distances: NDArray[np.float64]
    reliability: Reliability

    @property
    def scale(self) -> float:
        """Scale of the errors' t distribution, from their quantile at `CENTRAL`."""
        from scipy.special import stdtrit

        central = float(np.quantile(self.errors, CENTRAL))
        return central / float(stdtrit(self._df, (1 + CENTRAL) / 2))

    @property
    def _df(self) -> int:
        return self.reliability.n_mixes - 2

    def chance_other(self, difference: float, *, extra: float = 0.0) -> float:
        """The chance that the target's winner is not the one foretold.

        Args:
            difference: candidate minus baseline at the proxy.
            extra: variance at the proxy that the history's pairs did not have, as that of fewer seeds.
        """
        from scipy.special import stdtr

        size, wider = abs(self.slope * difference), self._widened(extra)
        if size == 0:
            return 0.5
        # Errors are as likely in either direction, so half of those that are large enough would turn the winner.
        counted = (1 + (self.errors * wider >= size).sum() / 2) / (len(self.errors) + 2)
        return max(float(counted), float(stdtr(self._df, -size / (self.scale * wider))))

    def allowed(self, alpha: float) -> float:
        """What `chance_other` may be for a verdict, so that at most alpha of all verdicts are wrong.

        Alpha itself, or where a dozen mixes show how reliable the ranking is, the chance of the closest pair among those furthest apart.
        """
        if self.reliability.n_mixes < DOZEN:
            return alpha
        share = min(share_decided(self.reliability.accuracy, alpha), WIDEST)
        least = self.chance_other(float(np.quantile(self.distances, 1 - share))) if share > 0 else alpha
        return min(max(alpha, least), LEAST_SURE * alpha)

    def interval(self, difference: float, level: float, *, extra: float = 0.0) -> Interval:
        """The interval of the target's difference; the arguments are those of `chance_other`."""
        from scipy.special import stdtrit

        beyond = max(int((1 - level) * (len(self.errors) + 2) - 2), 0)
        counted = float(np.sort(self.errors)[::-1][min(beyond, len(self.errors) - 1)])
        half = self._widened(extra) * max(counted, self.scale * float(stdtrit(self._df, (1 + level) / 2)))
        centre = self.slope * difference
        return Interval(centre - half, centre + half, level)

    def _widened(self, extra: float) -> float:
        return math.sqrt(1 + self.slope**2 * extra / self.scale**2)


def fit(proxy: Sequence[float] | NDArray[np.float64], target: Sequence[float] | NDArray[np.float64]) -> Transfer | None:
    """Learn from past mixes what a difference at the proxy is worth at the target.

    Args:
        proxy: (mixes,) mean score of each at the proxy.
        target: (mixes,) mean score of each at the target.

    Returns:
        None where nothing can be learnt: fewer than `FEWEST` mixes, or scores that are the same for most of them.

    >>> learnt = fit([1, 2, 3, 4, 5, 6, 7, 8], [2.1, 3.9, 6.2, 7.8, 10.1, 12.2, 13.8, 16.1])
    >>> round(learnt.slope, 2), learnt.reliability.accuracy
    (2.0, 1.0)
    """
    x, y = np.asarray(proxy, dtype=float), np.asarray(target, dtype=float)
    if len(x) < FEWEST:
        return None
    first, second = np.triu_indices(len(x), 1)
    dx, dy = x[second] - x[first], y[second] - y[first]
    weight = np.where(np.abs(dx) > NEGLIGIBLE * np.abs(x).max(), np.abs(dx), 0.0)
    ranked = np.argsort(np.divide(dy, dx, out=np.zeros_like(dy), where=weight > 0), kind="stable")
    slopes = np.divide(dy, dx, out=np.zeros_like(dy), where=weight > 0)[ranked]
    pairs = (first[ranked], second[ranked])
    if not weight.any():
        return None
    slope = _middle(slopes, weight[ranked])
    if len(x) > MANY:
        without = np.full(len(dx), slope)
    else:
        found = _middles_without(slopes, weight[ranked], pairs, first, second)
        if found is None:
            return None
        without = found
    errors = np.abs(dy - without * dx)
    if np.quantile(errors, CENTRAL) <= NEGLIGIBLE * np.abs(y).max():
        return None
    told = np.abs(dy) > NEGLIGIBLE * np.abs(y).max()
    right = np.sign(without * dx)[told] == np.sign(dy)[told]
    return Transfer(slope, errors, np.abs(dx), Reliability(float(right.mean()), int(told.sum()), len(x)))


def _middles_without(
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    pairs: tuple[NDArray[np.intp], NDArray[np.intp]],
    first: NDArray[np.intp],
    second: NDArray[np.intp],
) -> NDArray[np.float64] | None:
    """For each pair of `first` and `second` the weighted median of ascending values whose `pairs` have neither of its mixes.

    Returns:
        None where nothing has any weight without one of them.
    """
    found = []
    rows = max(1, 1_000_000 // len(values))  # at once: 8 MB, as 100 mixes make 4,950 pairs
    for start in range(0, len(first), rows):
        a, b = first[start : start + rows, None], second[start : start + rows, None]
        touched = (pairs[0] == a) | (pairs[1] == a) | (pairs[0] == b) | (pairs[1] == b)
        below = np.cumsum(np.where(touched, 0.0, weights), axis=1)
        if not below[:, -1].all():
            return None
        found.append(values[(below < below[:, -1:] / 2).sum(axis=1)])
    return np.concatenate(found)


def share_decided(accuracy: float, alpha: float) -> float:
    """The largest share of pairs, those furthest apart at the proxy, of which at most alpha are ranked wrong.

    For scores of two scales that are jointly normal. A ranking that is right for a share a of all pairs then has a correlation of
    sin(pi (a - 1/2)) (Greiner 1909, as Kendall's tau is 2a - 1), and a pair at z SDs of a difference is wrong with probability
    Phi(-rho z), rho = tan(pi (a - 1/2)). Its mean over |z| > c is 1/2 - T(c, rho) / Phi(-c) with Owen's (1956) T.

    Args:
        accuracy: share of all pairs that are ranked right.
        alpha: share of wrong ones, below 1/2.

    >>> [round(share_decided(accuracy, 0.05), 2) for accuracy in (0.7, 0.8, 0.9, 0.96)]
    [0.05, 0.42, 0.85, 1.0]
    """
    from scipy.optimize import brentq
    from scipy.special import ndtr, owens_t

    if accuracy <= 0.5:
        return 0.0
    rho = math.tan(math.pi * (min(accuracy, 0.999) - 0.5))

    def excess(c: float) -> float:
        return 0.5 - float(owens_t(c, rho)) / float(ndtr(-c)) - alpha

    if excess(0.0) <= 0:
        return 1.0
    furthest = 5.0  # one pair in two million: nothing is decided
    return 2 * float(ndtr(-brentq(excess, 0.0, furthest))) if excess(furthest) < 0 else 0.0


def _middle(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """The weighted median of ascending values."""
    below = np.cumsum(weights)
    return float(values[np.searchsorted(below, below[-1] / 2)])
