"""Estimate how large a proxy difference must be to predict the winner at the target.

A test over seeds at the proxy shows that a difference is not noise. The test does not show that the difference holds at
the target scale. Of the public pairs that were significant at 150M, 11 to 14% had the other winner at 1B. Only past
mixes that were trained at both scales can show how often the winner changes.

The slope from proxy to target differences is that of Theil (1950) and Sen (1968): the median of the past pairs' slopes,
weighted by the pairs' distance at the proxy. The median limits the influence of one unusual mix. The prediction errors
are those of past pairs. Each pair is predicted without both of its mixes. The errors contain the noise of proxy and
target seeds, the loss of transfer between the scales, and the uncertainty of the slope. Two intervals are computed, and
the wider interval is used:

- The first interval uses the errors themselves. With enough pairs, no distribution is assumed.
- The second interval uses a t distribution with mixes - 2 degrees of freedom, whose scale is a quantile of the errors. This
  interval keeps a small history from appearing too certain.

Alpha bounds the fraction of wrong verdicts among all verdicts. A threshold derived from the errors would be too low: if
a pair is unusual, the history without its two mixes has smaller errors, so the threshold is lowest for the pairs whose
winner changes. The reliability of the ranking hardly changes if a pair is excluded. The threshold is therefore a rank:
under the normal model of that reliability, at most alpha of the pairs that are further apart are wrong.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from assay.analysis.stats.paired import NEGLIGIBLE, Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FEWEST = 6
"""Minimum number of mixes for fitting a slope: they form 15 pairs, and 5% of 15 is less than one pair."""

MANY = 100
"""Number of mixes from which excluding two mixes changes no printed digit of the slope."""

CENTRAL = 0.7
"""Quantile of the errors that sets their scale. Up to 30% of the pairs (15% of the mixes) may be outliers."""


DOZEN = 12
"""Minimum number of mixes for a ranking reliability that can set the threshold of a verdict."""

WIDEST = 0.3
"""Largest fraction of past pairs that a verdict may decide, starting with the pairs furthest apart.

The fraction was chosen by simulation on tables of 25 mixes in which the higher mean is right for 77 to 83% of pairs.
Verdicts then decide 28 to 31% of the pairs, and 95 to 99% of these verdicts are correct. In three fifths to five sixths
of the tables, verdicts decide at least 25% of the pairs, with at least 95% correct. With a bound of 1.5 alpha on each
pair, a third to two thirds of the tables reach both (docs/log.md).
"""

LEAST_SURE = 3.0
"""Upper bound of a verdict's error probability, as a multiple of alpha, for any rank of the difference."""


class Reliability(NamedTuple):
    """How well the proxy's ranking predicted the target's in the history.

    Attributes:
        accuracy: fraction of past pairs with a correctly predicted winner. Each pair is predicted without both of its
            mixes. Ties at the target are excluded.
        n_pairs: number of counted pairs.
        n_mixes: number of mixes in these pairs.
    """

    accuracy: float
    n_pairs: int
    n_mixes: int


class Transfer(NamedTuple):
    """The map from a difference at the proxy to a difference at the target.

    Attributes:
        slope: slope of target differences on proxy differences.
        errors: (pairs,) absolute prediction errors of past pairs, in the target's unit.
        distances: (pairs,) absolute differences at the proxy.
        reliability: how often the proxy predicted the winner of past pairs.
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
        """Return the probability that the target's winner differs from the predicted winner.

        Args:
            difference: candidate minus baseline at the proxy.
            extra: variance at the proxy in addition to that of the history's pairs, for example from fewer seeds.
        """
        from scipy.special import stdtr

        size, wider = abs(self.slope * difference), self._widened(extra)
        if size == 0:
            return 0.5
        # Errors of either sign are equally likely, so half of the sufficiently large errors would change the winner.
        counted = (1 + (self.errors * wider >= size).sum() / 2) / (len(self.errors) + 2)
        return max(float(counted), float(stdtr(self._df, -size / (self.scale * wider))))

    def allowed(self, alpha: float) -> float:
        """Return the bound of `chance_other` for a verdict at the error rate alpha.

        The bound keeps at most alpha of all verdicts wrong. With fewer than a dozen mixes, the bound is alpha.
        Otherwise the bound is the `chance_other` of the closest pair among the pairs furthest apart (see
        `fraction_decided`), limited to the range from alpha to `LEAST_SURE` times alpha.
        """
        if self.reliability.n_mixes < DOZEN:
            return alpha
        fraction = min(fraction_decided(self.reliability.accuracy, alpha), WIDEST)
        least = self.chance_other(float(np.quantile(self.distances, 1 - fraction))) if fraction > 0 else alpha
        return min(max(alpha, least), LEAST_SURE * alpha)

    def interval(self, difference: float, level: float, *, extra: float = 0.0) -> Interval:
        """Return the interval of the target's difference; see `chance_other` for the arguments."""
        from scipy.special import stdtrit

        beyond = max(int((1 - level) * (len(self.errors) + 2) - 2), 0)
        counted = float(np.sort(self.errors)[::-1][min(beyond, len(self.errors) - 1)])
        half = self._widened(extra) * max(counted, self.scale * float(stdtrit(self._df, (1 + level) / 2)))
        center = self.slope * difference
        return Interval(center - half, center + half, level)

    def _widened(self, extra: float) -> float:
        return math.sqrt(1 + self.slope**2 * extra / self.scale**2)


def fit(proxy: Sequence[float] | NDArray[np.float64], target: Sequence[float] | NDArray[np.float64]) -> Transfer | None:
    """Fit the transfer from proxy to target differences on past mixes.

    Args:
        proxy: (mixes,) mean score of each mix at the proxy.
        target: (mixes,) mean score of each mix at the target.

    Returns:
        None for fewer than `FEWEST` mixes, or if most mixes have equal scores.

    >>> learned = fit([1, 2, 3, 4, 5, 6, 7, 8], [2.1, 3.9, 6.2, 7.8, 10.1, 12.2, 13.8, 16.1])
    >>> round(learned.slope, 2), learned.reliability.accuracy
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
    slope = _weighted_median(slopes, weight[ranked])
    if len(x) > MANY:
        without = np.full(len(dx), slope)
    else:
        left_out = _weighted_medians_without(slopes, weight[ranked], pairs, first, second)
        if left_out is None:
            return None
        without = left_out
    errors = np.abs(dy - without * dx)
    if np.quantile(errors, CENTRAL) <= NEGLIGIBLE * np.abs(y).max():
        return None
    untied = np.abs(dy) > NEGLIGIBLE * np.abs(y).max()
    correct = np.sign(without * dx)[untied] == np.sign(dy)[untied]
    return Transfer(slope, errors, np.abs(dx), Reliability(float(correct.mean()), int(untied.sum()), len(x)))


def _weighted_medians_without(
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    pairs: tuple[NDArray[np.intp], NDArray[np.intp]],
    first: NDArray[np.intp],
    second: NDArray[np.intp],
) -> NDArray[np.float64] | None:
    """Compute weighted medians of values, each without the values of two mixes.

    The values of a median are those whose `pairs` contain neither mix of the pair in `first` and `second`.

    Args:
        values: (values,) ascending.
        weights: (values,) of the values.
        pairs: the two mixes of each value.
        first: (pairs,) first mix of each pair to leave out.
        second: (pairs,) second mix.

    Returns:
        None if the values of a pair have no weight.
    """
    medians = []
    rows = max(1, 1_000_000 // len(values))  # pairs per chunk of 8 MB; 100 mixes make 4,950 pairs
    for start in range(0, len(first), rows):
        a, b = first[start : start + rows, None], second[start : start + rows, None]
        touched = (pairs[0] == a) | (pairs[1] == a) | (pairs[0] == b) | (pairs[1] == b)
        below = np.cumsum(np.where(touched, 0.0, weights), axis=1)
        if not below[:, -1].all():
            return None
        medians.append(values[(below < below[:, -1:] / 2).sum(axis=1)])
    return np.concatenate(medians)


def fraction_decided(accuracy: float, alpha: float) -> float:
    """Return the largest fraction of pairs that a verdict may decide at the error rate alpha.

    The verdict decides the pairs furthest apart at the proxy first. Of the decided pairs, at most the fraction alpha is
    ranked incorrectly.

    Scores of the two scales are assumed jointly normal. If a ranking is correct for a fraction a of all pairs, the
    correlation of the scales is sin(pi (a - 1/2)) (Greiner 1909, as Kendall's tau is 2a - 1). A pair whose difference
    is z SDs is then ranked incorrectly with probability Phi(-rho z), where rho = tan(pi (a - 1/2)). The mean of this
    probability over |z| > c is 1/2 - T(c, rho) / Phi(-c), with Owen's (1956) T.

    Args:
        accuracy: fraction of all pairs that are ranked correctly.
        alpha: allowed fraction of incorrectly ranked pairs, below 1/2.

    >>> [round(fraction_decided(accuracy, 0.05), 2) for accuracy in (0.7, 0.8, 0.9, 0.96)]
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
    furthest = 5.0  # at 5 SDs, one pair in two million remains, so no pair is decided
    return 2 * float(ndtr(-brentq(excess, 0.0, furthest))) if excess(furthest) < 0 else 0.0


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Return the weighted median of ascending values."""
    below = np.cumsum(weights)
    return float(values[np.searchsorted(below, below[-1] / 2)])
