"""Intervals that hold however often somebody looks: over checkpoints of runs that still train, and over replicates that arrive.

A test at 5% that is looked at ten times is wrong in 20 to 30% of cases. What is used here instead is the oldest remedy: a union
bound. Every look that could ever count has a share of alpha that was fixed before, the shares sum to 1, and each look is an ordinary
t interval at its own level. That holds for any number of looks, for whoever stops when they like, and under any dependence between
looks: checkpoints of one run share most of their noise, nobody knows how much.

With two to five replicates it is also what sees most. Confidence sequences from mixtures are made for streams of hundreds: the normal
mixture with a variance from the replicates themselves is wrong in 22 to 40% of cases at a nominal 5%, and Lai's (1976) t mixture, which
is valid, finds 23 to 39% of effects of two SDs by the fifth replicate, where a union bound over the third to the fifth finds 43 to 61%
(`benchmarks/looks.py`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from assay.errors import AssayError
from assay.stats.moderated import NOTHING, Prior, shrink
from assay.stats.paired import Part, over_seeds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class ConfidenceSequence(NamedTuple):
    """An interval for each look, all of which hold together with one level.

    Attributes:
        at: (looks,) where was looked: tokens, or replicates.
        estimate: (looks,) in the metric's unit.
        low: (looks,) lower ends; NaN or infinite where nothing is known.
        high: (looks,) upper ends.
        p: (looks,) two-sided p of no effect, always valid: at most alpha at any look by noise alone with probability alpha.
        level: chance, at least, that no interval leaves out the truth of its look.
    """

    at: tuple[float, ...]
    estimate: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    p: tuple[float, ...]
    level: float


class Schedule(NamedTuple):
    """Which looks count, and which share of alpha each has.

    Attributes:
        shares: (looks,) of the token budget, rising; the last is 1, the end.
        weights: (looks,) of alpha; they sum to 1.
    """

    shares: tuple[float, ...]
    weights: tuple[float, ...]

    def look_at(self, share: float) -> int | None:
        """The look that something scored at a share of the budget counts for: the last one that it has reached.

        >>> schedule((0.25, 0.5), 0.2).look_at(0.6)
        1
        """
        reached = [i for i, own in enumerate(self.shares) if share >= own - TOLERANCE]
        return reached[-1] if reached else None


TOLERANCE = 0.01
"""Of the budget: a checkpoint that is so much too early counts as being there."""


class Compared(Protocol):
    """An effect with an interval and a p at the level of its own look, such as `assay.compare.Comparison`."""

    @property
    def effect(self) -> float:
        """Candidate minus baseline."""

    @property
    def ci_low(self) -> float:
        """Lower end of the interval at the look's own level."""

    @property
    def ci_high(self) -> float:
        """Upper end."""

    @property
    def p(self) -> float:
        """Two-sided, as it is."""


def schedule(looks: Sequence[float], spend: float) -> Schedule:
    """Shares of alpha: the looks before the end have `spend` together, each as much as the others; the end has the rest.

    The weights belong to shares of the budget, not to the first, second and third look that somebody takes. So looking more often, or
    only when something seems to be there, gains nothing.

    Args:
        looks: shares of the budget before the end, rising.
        spend: their share of alpha.

    >>> schedule((0.25, 0.5), 0.2)
    Schedule(shares=(0.25, 0.5, 1.0), weights=(0.1, 0.1, 0.8))
    """
    return Schedule((*looks, 1.0), (*[spend / len(looks)] * len(looks), 1 - spend))


def always_valid(p: float, weight: float) -> float:
    """A look's p, such that the smallest of all looks may be read as one p (Bonferroni, weighted).

    >>> always_valid(0.001, 0.1), always_valid(0.5, 0.1)
    (0.01, 1.0)
    """
    return p if math.isnan(p) else min(1.0, p / weight)


def over_looks(
    at: Sequence[float], looks: Sequence[Compared], weights: Sequence[float], *, level: float
) -> ConfidenceSequence:
    """Looks at a growing number of tokens, each with the effect at its own; nothing is carried from one to the next.

    Args:
        at: tokens of each look.
        looks: what was found, each at the level `1 - (1 - level) * weight`.
        weights: of alpha; together at most 1.
        level: of all looks together.
    """
    return ConfidenceSequence(
        at=tuple(at),
        estimate=tuple(one.effect for one in looks),
        low=tuple(one.ci_low for one in looks),
        high=tuple(one.ci_high for one in looks),
        p=tuple(always_valid(one.p, weight) for one, weight in zip(looks, weights, strict=True)),
        level=level,
    )


def over_replicates(
    differences: Sequence[float] | NDArray[np.float64], *, level: float, first: int, most: int, prior: Prior = NOTHING
) -> ConfidenceSequence:
    """Paired differences that arrive one by one, looked at after each from `first` to `most` replicates.

    Every look has the same share of alpha. As the effect is the same at all of them, every interval is within those before, and p never
    rises. An interval whose ends have crossed says that the replicates are not of one kind.

    Args:
        differences: candidate minus baseline of each replicate, in the order in which they came.
        level: of all intervals together.
        first: replicates at which the first look is taken, at least 2.
        most: that there will ever be; fixed before the first is seen.
        prior: what past runs say of the variance of one difference (see `assay.stats.moderated`).

    Returns:
        An interval for each number of replicates from `first` on; none for fewer. Replicates that agree to the last digit show no
        noise, and leave the interval as it was: infinite at first, with p 1.

    Raises:
        AssayError: there are more replicates than were planned, or the plan is empty.

    >>> found = over_replicates([1.0, 1.2, 0.9, 1.1], level=0.95, first=3, most=5)
    >>> [round(low, 2) for low in found.low], round(found.p[-1], 3)
    ([0.36, 0.74], 0.002)
    """
    d = np.asarray(differences, dtype=float)
    if not 2 <= first <= most or len(d) > most:
        raise AssayError(
            f"{len(d)} replicates, looked at from {first} to {most}: looks begin at 2 or more and end at `most`.",
            fix="Fix `most` before the first replicate is seen; what comes later counts for nothing.",
        )
    weight = 1 / (most - first + 1)
    low, high, p = -math.inf, math.inf, 1.0
    rows = []
    for n in range(first, len(d) + 1):
        estimate = over_seeds(d[:n], scale=float(np.abs(d[:n]).max()))
        if estimate.parts:
            variance, df = shrink(estimate.noise**2, n - 1, prior)
            estimate = estimate._replace(parts=(Part(variance / n, df),))
            now = estimate.interval(1 - (1 - level) * weight)
            low, high = max(low, now.low), min(high, now.high)
            p = min(p, always_valid(estimate.p_two_sided(), weight))
        rows.append((float(n), estimate.effect, low, high, p))
    at, estimates, lows, highs, ps = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    return ConfidenceSequence(at, estimates, lows, highs, ps, level)
