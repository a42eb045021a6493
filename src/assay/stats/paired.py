"""Paired effects from a few seeds: what candidate minus baseline is, and how sure that is.

Three seeds leave two degrees of freedom, where the common tools break: of three paired differences without any effect,
a percentile bootstrap calls 25% significant at a nominal 5% (all that have one sign), and z with the sample SD 19%. Here every
interval is a t interval over the seeds' paired differences. Where the questions are known too, their sampling is added as a
crossed random effect.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

NEGLIGIBLE = 1e-12
"""Spread, relative to the scores, that is rounding of floating-point numbers and no noise."""


class Part(NamedTuple):
    """One source of the estimate's variance.

    Attributes:
        variance: its share of the variance of the effect, in the metric's unit squared.
        df: degrees of freedom behind that figure.
    """

    variance: float
    df: float


class Interval(NamedTuple):
    """A two-sided interval.

    Attributes:
        low: lower end, in the metric's unit.
        high: upper end.
        level: its nominal coverage, such as 0.95.
    """

    low: float
    high: float
    level: float


class Estimate(NamedTuple):
    """An effect, and what is known of its error.

    With more than one part, critical values are Cochran and Cox's (1950): the parts' t quantiles, weighted by their
    variances. Satterthwaite's degrees of freedom, the usual choice, are not used: with three seeds and many questions
    he covers only 92% at a nominal 95% and 96.5% at 99%, as the seeds' part is often underestimated and then also given
    too little weight in the degrees of freedom. Cochran and Cox's interval covers 95.0-97.1% and 98.8-99.7%
    (simulated over all ratios of the two parts); with one part the two are the same t interval.

    Attributes:
        effect: candidate minus baseline, in the metric's unit.
        parts: the sources of variance; empty where the noise cannot be known.
        noise: SD over seeds of the paired differences; NaN for one seed.
        n_seeds: seeds that both arms have.
        n_items: questions or documents; None where they are not known.
    """

    effect: float
    parts: tuple[Part, ...]
    noise: float
    n_seeds: int
    n_items: int | None = None

    @property
    def se(self) -> float:
        """Standard error; NaN where the noise cannot be known, never 0."""
        return math.sqrt(sum(part.variance for part in self.parts)) if self.parts else math.nan

    def critical(self, alpha: float) -> float:
        """What effect / se exceeds with probability alpha by noise alone (Cochran and Cox 1950).

        No less than one part's own quantile with one variance of the others on top: where the seeds' part has about one degree of
        freedom, a weighted mean of quantiles falls faster than the variance of the questions widens, and the interval would shrink.
        """
        from scipy.special import stdtrit

        total = sum(part.variance for part in self.parts)
        # The lower quantile's sign is turned, as 1 - alpha has no digits left where alpha is small.
        shares = [part.variance / total for part in self.parts]
        quantiles = [-float(stdtrit(part.df, alpha)) for part in self.parts]
        mean = sum(share * t for share, t in zip(shares, quantiles, strict=True))
        others = min(1.0, min(quantiles) ** 2)
        alone = [math.sqrt(share * t**2 + (1 - share) * others) for share, t in zip(shares, quantiles, strict=True)]
        return max(mean, *alone)

    def interval(self, level: float) -> Interval:
        """The two-sided interval; NaN at both ends where the noise cannot be known."""
        if not self.parts:
            return Interval(math.nan, math.nan, level)
        half = self.critical((1 - level) / 2) * self.se
        return Interval(self.effect - half, self.effect + half, level)

    def p_above(self, bound: float) -> float:
        """One-sided p of the hypothesis that the effect is at most the bound."""
        return self._tail((self.effect - bound) / self.se) if self.parts else math.nan

    def p_below(self, bound: float) -> float:
        """One-sided p of the hypothesis that the effect is at least the bound."""
        return self._tail((bound - self.effect) / self.se) if self.parts else math.nan

    def p_two_sided(self) -> float:
        """P of the hypothesis that the effect is 0: below 1 - level exactly where the interval leaves out 0."""
        return 2 * min(self.p_above(0.0), self.p_below(0.0)) if self.parts else math.nan

    def df(self, alpha: float) -> float:
        """Degrees of freedom of the t distribution with this critical value: between the smallest and largest part's."""
        from scipy.optimize import brentq
        from scipy.special import stdtrit

        dfs = [part.df for part in self.parts]
        if not dfs:
            return math.nan
        low, high = min(dfs), max(dfs)
        wanted = self.critical(alpha)
        if low == high or wanted >= -stdtrit(low, alpha):
            return low
        return (
            high
            if wanted <= -stdtrit(high, alpha)
            else float(brentq(lambda df: -stdtrit(df, alpha) - wanted, low, high))
        )

    def _tail(self, t: float) -> float:
        """The alpha whose critical value is t."""
        from scipy.optimize import brentq
        from scipy.special import stdtr

        if len({part.df for part in self.parts}) == 1:
            return float(stdtr(self.parts[0].df, -t))
        if t == 0.0:
            return 0.5
        size = abs(t)
        # The weighted quantile lies between the parts' own, so its tail lies between theirs.
        tails = [max(float(stdtr(part.df, -size)), 1e-300) for part in self.parts]
        low, high = (
            math.log(min(tails)) - 1e-9,
            min(math.log(max(tails)) + 1e-9, math.log(0.5)),
        )  # 0 is exceeded by half
        tail = math.exp(brentq(lambda log_p: self.critical(math.exp(log_p)) - size, low, high, xtol=1e-13))
        return tail if t > 0 else 1 - tail


def over_seeds(differences: Sequence[float] | NDArray[np.float64], *, scale: float = 1.0) -> Estimate:
    """The mean of seed-paired differences, with Student's (1908) t interval on n - 1 degrees of freedom.

    Args:
        differences: candidate minus baseline of each seed, in the metric's unit.
        scale: typical size of the scores, to tell noise from rounding.

    Returns:
        An estimate for these questions. One seed, or differences that agree to the last digit, show no noise; they
        leave it unknown rather than 0, which would read as certainty.
    """
    d = np.asarray(differences, dtype=float)
    n = len(d)
    noise = float(d.std(ddof=1)) if n > 1 else math.nan
    known = n > 1 and noise > NEGLIGIBLE * max(scale, float(np.abs(d).max()))
    parts = (Part(noise**2 / n, n - 1),) if known else ()
    return Estimate(effect=float(d.mean()), parts=parts, noise=noise, n_seeds=n)


def crossed(
    differences: ArrayLike, *, weights: ArrayLike | None = None, clusters: ArrayLike | None = None, scale: float = 1.0
) -> Estimate:
    """The mean of differences paired by seed and by item, both drawn at random: seeds and items are crossed effects.

    With y[s, i] = effect + S[s] + I[i] + E[s, i] the mean's variance is var(S)/n + var(I)/m + var(E)/nm. The seeds'
    mean differences estimate the first and third terms, the items' the second and third; the third, which is then
    counted twice, is estimated from the residuals and taken off once: (MS_S + MS_I - MS_E)/nm of a two-way analysis of
    variance (Searle, Casella and McCulloch 1992). Paired differences by question and clustering of questions that
    belong together follow Miller (2024, arXiv 2411.00640).

    Args:
        differences: (seeds, items), candidate minus baseline.
        weights: (items,), positive; the score is the weighted mean. Left out, items count alike. Items' variance is then
            the linearised one of a ratio, and their degrees of freedom Kish's effective number of clusters less 1.
        clusters: (items,), labels of what belongs together, such as a passage; left out, each item by itself.
        scale: typical size of the scores, to tell noise from rounding.

    Returns:
        An estimate for new questions of the same kind. With one seed its noise is unknown, with one cluster it is for
        these questions only.
    """
    y = np.asarray(differences, dtype=float)
    n, m = y.shape
    w = np.full(m, 1 / m) if weights is None else np.asarray(weights, dtype=float) / np.sum(weights)
    labels = np.arange(m) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
    count = int(labels.max()) + 1
    seeds = over_seeds(y @ w, scale=scale)._replace(n_items=m)
    if n < 2 or count < 2:
        return seeds

    def squares(influence: NDArray[np.float64]) -> float:
        """Sum of squares over clusters of an item-wise influence, with the usual small-sample factor."""
        return float((np.bincount(labels, weights=influence) ** 2).sum()) * count / (count - 1)

    means = y.mean(axis=0)
    residuals = y - (y @ w)[:, None] - means + seeds.effect
    both = sum(squares(w * row) for row in residuals) / (n * (n - 1))
    by_item = max(squares(w * (means - seeds.effect)) - both, 0.0)
    # On average the seeds' part is at least that of the residuals. It is 0 only by coincidence, where scores move in
    # steps of one question; flooring it always would overstate it (99.9% coverage at 95% in a simulation).
    by_seed = seeds.parts[0].variance if seeds.parts else both
    if by_seed <= (NEGLIGIBLE * scale) ** 2:
        return seeds
    kish = 1 / float((np.bincount(labels, weights=w) ** 2).sum())
    parts = (Part(by_seed, n - 1), Part(by_item, max(kish - 1, 1.0))) if by_item > 0 else (Part(by_seed, n - 1),)
    return seeds._replace(parts=parts)


def among_items(
    differences: ArrayLike, *, weights: ArrayLike | None = None, clusters: ArrayLike | None = None
) -> Part | None:
    """What the choice of items adds to the variance of one replicate's mean difference, clustered (Miller 2024).

    The part of `crossed` where there is one seed: nothing tells the items' own differences from the luck of that run with
    each, so both are in it. Beside a variance between runs that has the second too, it is on the safe side.

    Args:
        differences: (items,), candidate minus baseline.
        weights: as for `crossed`.
        clusters: as for `crossed`.

    Returns:
        None where all items are one cluster, or agree.
    """
    y = np.asarray(differences, dtype=float)
    w = np.full(len(y), 1 / len(y)) if weights is None else np.asarray(weights, dtype=float) / np.sum(weights)
    labels = np.arange(len(y)) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
    count = int(labels.max()) + 1
    if count < 2:
        return None
    influence = np.bincount(labels, weights=w * (y - y @ w))
    variance = float((influence**2).sum()) * count / (count - 1)
    kish = 1 / float((np.bincount(labels, weights=w) ** 2).sum())
    return Part(variance, max(kish - 1, 1.0)) if variance > 0 else None
