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

Both intervals grow with the difference, as the standard error of a regression's prediction does. A part of the
difference that lies outside the history's range counts as error in full, because no past mix shows how it transfers.

Alpha bounds the fraction of wrong verdicts among all verdicts. A threshold derived from the errors would be too low: if
a pair is unusual, the history without its two mixes has smaller errors, so the threshold is lowest for the pairs whose
winner changes. The reliability of the ranking hardly changes if a pair is excluded. The threshold is therefore a rank:
under the normal model of that reliability, at most alpha of the pairs that are further apart are wrong. The reliability
of a small history is uncertain, so half of its standard error is subtracted (a whole one if the ranking is weak).
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

MOST_PAIRS = 100_000
"""Maximum number of past pairs. More pairs change no printed digit, and 3,000 mixes form 4.5 million pairs."""

CENTRAL = 0.7
"""Quantile of the errors that sets their scale. Up to 30% of the pairs (15% of the mixes) may be outliers."""

LEAST_SURE = 3.0
"""Upper bound of a verdict's error probability, as a multiple of alpha, for any rank of the difference."""

WEAK, STRONG = 0.7, 0.8
"""Ranking accuracies between which the bounds of a verdict change from cautious to usual.

In simulated tables of 12 and 25 mixes with an accuracy of 70%, 4% of the pairs are then decided, and 88 to 92% of the
verdicts are correct. With the usual bounds, twice as many pairs are decided, and 83 to 89% are correct (docs/log.md).
"""


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
        errors: (pairs,) absolute prediction errors of past pairs in the target's unit, in descending order.
        distances: (pairs,) absolute differences at the proxy.
        reliability: how often the proxy predicted the winner of past pairs.
        accuracy_se: standard error of the reliability's accuracy.
        scale: scale of the errors' t distribution, from their quantile at `CENTRAL`.
        df: degrees of freedom of that distribution.
        leverage: (mean square of the distances, twice the sum of squares of past scores), both at the proxy.
        reach: smallest and largest proxy score that the history covers.
    """

    slope: float
    errors: NDArray[np.float64]
    distances: NDArray[np.float64]
    reliability: Reliability
    accuracy_se: float
    scale: float
    df: int
    leverage: tuple[float, float]
    reach: tuple[float, float]

    def chance_other(
        self, difference: float, *, extra: float = 0.0, outside: float = 0.0, factor: float = 1.0
    ) -> float:
        """Return the probability that the target's winner differs from the predicted winner.

        Args:
            difference: candidate minus baseline at the proxy.
            extra: variance at the proxy in addition to that of the history's pairs, for example from fewer seeds.
            outside: part of the difference that lies outside the history's range; see `outside`.
            factor: factor on the errors, at least 1, for mixes that differ from the history's.
        """
        from scipy.special import stdtr

        size = abs(self.slope) * max(abs(difference) - outside, 0.0)
        if size == 0:
            return 0.5
        wider = factor * self._widened(extra, difference)
        # Errors of either sign are equally likely, so half of the sufficiently large errors would change the winner.
        larger = len(self.errors) - int(np.searchsorted(self.errors[::-1], size / wider))
        counted = (1 + larger) / 2 / (len(self.errors) + 1)
        return max(counted, float(stdtr(self.df, -size / (self.scale * wider))))

    def allowed(self, alpha: float) -> float:
        """Return the bound of `chance_other` for a verdict at the error rate alpha.

        The bound keeps at most alpha of all verdicts wrong. The bound is the `chance_other` of the closest pair among
        the pairs furthest apart (see `fraction_decided`), and at most `LEAST_SURE` times alpha. A weak ranking decides
        few pairs, mostly in tables whose reliability is overestimated. Below an accuracy of `STRONG`, both bounds
        therefore shrink: to alpha and to a whole standard error at `WEAK`.
        """
        fraction = self.fraction(alpha)
        if fraction <= 0:
            return 0.0
        most = alpha * (1 + (LEAST_SURE - 1) * self._strength)
        return min(self.chance_other(float(np.quantile(self.distances, 1 - fraction))), most)

    def fraction(self, alpha: float) -> float:
        """Return the fraction of pairs that a verdict may decide, from the reliability and its standard error."""
        return fraction_decided(self._cautious_accuracy, alpha)

    @property
    def _cautious_accuracy(self) -> float:
        return self.reliability.accuracy - (1 - self._strength / 2) * self.accuracy_se

    @property
    def _strength(self) -> float:
        """Position of the accuracy between `WEAK` (0) and `STRONG` (1)."""
        return min(max((self.reliability.accuracy - WEAK) / (STRONG - WEAK), 0.0), 1.0)

    def interval(
        self, difference: float, level: float, *, extra: float = 0.0, outside: float = 0.0, factor: float = 1.0
    ) -> Interval:
        """Return the interval of the target's difference; see `chance_other` for the arguments.

        The interval at level 1 - 2 p excludes 0 exactly if `chance_other` is at most p.
        """
        half = factor * self._widened(extra, difference) * self._half(level) + abs(self.slope) * outside
        center = self.slope * difference
        return Interval(center - half, center + half, level)

    def smallest(self, level: float, *, extra: float = 0.0, factor: float = 1.0) -> float:
        """Return the smallest proxy difference whose interval excludes 0; infinite if there is none."""
        half, (usual, total) = factor * self._half(level), self.leverage
        noise = half**2 * (1 + self.slope**2 * extra / self.scale**2)
        near = math.sqrt(noise) / abs(self.slope) if self.slope else math.inf
        if near**2 <= usual:
            return near
        # The errors grow with the difference: solve (slope d)^2 = noise + half^2 (d^2 - usual) / (total + usual).
        growth = half**2 / (total + usual)
        rest = self.slope**2 - growth
        return math.sqrt((noise - growth * usual) / rest) if rest > 0 else math.inf

    @property
    def noise_bound(self) -> float:
        """Bound of the noise variance of a pair at the proxy, for a history without replicates.

        Noise of single runs lowers the correlation r of the scales (Spearman 1904). If no other cause does, and the proxy
        is no noisier than the target, the noise is at most the fraction 1 - r of the variance between mixes. The accuracy
        determines r (see `fraction_decided`).
        """
        r = max(math.sin(math.pi * (self._cautious_accuracy - 0.5)), 0.0)
        return (1 - r) * self.leverage[0]

    def outside(self, first: float, second: float) -> float:
        """Return how much of the difference of two proxy scores lies outside the history's range."""
        low, high = self.reach
        return abs(second - first) - abs(min(max(second, low), high) - min(max(first, low), high))

    def excess(self, score: float) -> float:
        """Return the distance of a proxy score from the history's range, in lengths of this range."""
        low, high = self.reach
        return max(low - score, score - high, 0.0) / (high - low)

    def _half(self, level: float) -> float:
        from scipy.special import stdtrit

        beyond = max(math.floor((1 - level) * (len(self.errors) + 1) - 1 + 1e-9), 0)
        counted = float(self.errors[min(beyond, len(self.errors) - 1)])
        return max(counted, self.scale * float(stdtrit(self.df, (1 + level) / 2)))

    def _widened(self, extra: float, difference: float) -> float:
        # A pair's prediction has variance 2 s^2 + d^2 s^2 / Sxx; the past errors contain it at their mean d^2.
        usual, total = self.leverage
        further = max(difference**2 - usual, 0.0) / (total + usual)
        return math.sqrt(1 + self.slope**2 * extra / self.scale**2 + further)


def fit(
    proxy: Sequence[float] | NDArray[np.float64],
    target: Sequence[float] | NDArray[np.float64],
    *,
    families: Sequence[str] | None = None,
    within: bool = False,
) -> Transfer | None:
    """Fit the transfer from proxy to target differences on past mixes.

    Args:
        proxy: (mixes,) mean score of each mix at the proxy.
        target: (mixes,) mean score of each mix at the target.
        families: (mixes,) family of each mix. If given, the transfer is that of a family without past mixes: each pair
            is predicted without all mixes of both families (leave one family out), and the degrees of freedom are
            families - 1.
        within: with `families`, whether the pairs have mixes of one family; otherwise of two families.

    Returns:
        None for fewer than `FEWEST` mixes, if most mixes have equal scores, or if too few families remain.

    >>> learned = fit([1, 2, 3, 4, 5, 6, 7, 8], [2.1, 3.9, 6.2, 7.8, 10.1, 12.2, 13.8, 16.1])
    >>> round(learned.slope, 2), learned.reliability.accuracy
    (2.0, 1.0)
    """
    x, y = np.asarray(proxy, dtype=float), np.asarray(target, dtype=float)
    if len(x) < FEWEST:
        return None
    (first, second), slopes, weight = _slopes(x, y)
    if not weight.any():
        return None
    dx, dy = x[second] - x[first], y[second] - y[first]
    order = np.argsort(slopes, kind="stable")
    slope = _weighted_median(slopes[order], weight[order])
    df = len(x) - 2
    if families is not None:
        codes = np.unique(np.asarray(families), return_inverse=True)[1]
        without = _without_families(slopes[order], weight[order], (first[order], second[order]), codes)
        left_out = without[codes[first], codes[second]]
        kept = np.isfinite(left_out) & ((codes[first] == codes[second]) == within)
        first, second, dx, dy, left_out = (values[kept] for values in (first, second, dx, dy, left_out))
        df = len(np.unique(codes[np.concatenate([first, second])])) - 1
        if df < 2 or len(dx) < FEWEST:
            return None
    elif len(x) > MANY:
        left_out = np.full(len(dx), slope)
    else:
        medians = _weighted_medians_without(slopes[order], weight[order], (first[order], second[order]), first, second)
        if medians is None:
            return None
        left_out = medians
    return _transfer(x, y, slope, left_out, pairs=(first, second), df=df)


def theil_sen(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the weighted median of the pairs' slopes; 0 if all x are equal."""
    _, slopes, weight = _slopes(x, y)
    order = np.argsort(slopes, kind="stable")
    return _weighted_median(slopes[order], weight[order]) if weight.any() else 0.0


def _slopes(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[tuple[NDArray[np.intp], NDArray[np.intp]], NDArray[np.float64], NDArray[np.float64]]:
    """Return the mixes of each pair, its slope, and its weight: the distance at the proxy, 0 for ties."""
    first, second = _pairs(len(x))
    dx, dy = x[second] - x[first], y[second] - y[first]
    weight = np.where(np.abs(dx) > NEGLIGIBLE * np.abs(x).max(), np.abs(dx), 0.0)
    return (first, second), np.divide(dy, dx, out=np.zeros_like(dy), where=weight > 0), weight


def _transfer(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    slope: float,
    left_out: NDArray[np.float64],
    *,
    pairs: tuple[NDArray[np.intp], NDArray[np.intp]],
    df: int,
) -> Transfer | None:
    from scipy.special import stdtrit

    first, second = pairs
    dx, dy = x[second] - x[first], y[second] - y[first]
    errors = np.sort(np.abs(dy - left_out * dx))[::-1]
    central = float(np.quantile(errors, CENTRAL))
    untied = np.abs(dy) > NEGLIGIBLE * np.abs(y).max()
    if central <= NEGLIGIBLE * np.abs(y).max() or not untied.any():
        return None
    correct = (np.sign(left_out * dx) == np.sign(dy))[untied]
    mixes = len(np.unique(np.concatenate(pairs)))
    reliability = Reliability(float(correct.mean()), int(untied.sum()), mixes)
    gap = float(np.ptp(x)) / (len(x) - 1)
    return Transfer(
        slope=slope,
        errors=errors,
        distances=np.abs(dx),
        reliability=reliability,
        accuracy_se=_accuracy_se(correct, (first[untied], second[untied]), len(x), units=df + 2),
        scale=central / float(stdtrit(df, (1 + CENTRAL) / 2)),
        df=df,
        leverage=(float((dx**2).mean()), 2 * float(((x - x.mean()) ** 2).sum())),
        # The next mix of the same kind exceeds the extremes by about the mean distance of neighbors.
        reach=(float(x.min()) - gap, float(x.max()) + gap),
    )


def _pairs(mixes: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the first and second mix of each pair: all pairs, or evenly spread ones, of which each mix has equally many."""
    if mixes * (mixes - 1) // 2 <= MOST_PAIRS:
        first, second = np.triu_indices(mixes, 1)
        return first, second
    offsets = np.unique(np.linspace(1, (mixes - 1) // 2, MOST_PAIRS // mixes).round().astype(np.intp))
    first = np.repeat(np.arange(mixes), len(offsets))
    return first, (first + np.tile(offsets, mixes)) % mixes


def _accuracy_se(
    correct: NDArray[np.bool_], pairs: tuple[NDArray[np.intp], NDArray[np.intp]], mixes: int, *, units: int
) -> float:
    """Return the standard error of the fraction of correctly ranked pairs.

    The variance of a mean over pairs is about four times that of the mixes' means, divided by the mixes (Hoeffding
    1948). A small history can have no wrong pair by chance, so the standard error is at least that of `units` correct
    observations and one additional correct and one additional wrong observation (Laplace's rule).
    """
    both = np.concatenate(pairs)
    counts = np.bincount(both, minlength=mixes)
    right = np.bincount(both, weights=np.tile(correct, 2), minlength=mixes)
    means = right[counts > 0] / counts[counts > 0]
    rate = (units + 1) / (units + 2)
    least = math.sqrt(rate * (1 - rate) / units)
    return max(2 * float(means.std(ddof=1)) / math.sqrt(units), least)


def _without_families(
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    pairs: tuple[NDArray[np.intp], NDArray[np.intp]],
    families: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Compute weighted medians of ascending slopes, each without the mixes of two families.

    Returns:
        (families, families), NaN if fewer than `FEWEST` mixes remain.
    """
    number = int(families.max()) + 1
    sizes = np.bincount(families, minlength=number)
    a, b = families[pairs[0]], families[pairs[1]]
    medians = np.full((number, number), math.nan)
    for one in range(number):
        rest = (a != one) & (b != one)
        for other in range(one, number):
            kept = rest & (a != other) & (b != other)
            removed = sizes[one] + (sizes[other] if other != one else 0)
            if len(families) - removed >= FEWEST and weights[kept].any():
                medians[one, other] = medians[other, one] = _weighted_median(values[kept], weights[kept])
    return medians


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
