"""Compute intervals that stay valid under repeated interim analyses.

The analyses follow the checkpoints of running runs, or replicates that arrive one by one.

Ten uncorrected interim tests at 5% raise the false-positive rate to 20-30%. This module uses alpha spending by a union
bound. Every planned interim analysis has a fraction of alpha that is fixed in advance. The fractions sum to 1. Each
analysis is an ordinary t interval at its own level. The union bound is valid for any number of analyses, any stopping
rule and any dependence between analyses. The validity under dependence is necessary, because checkpoints of a run share
much of their noise, to an unknown extent.

With two to five replicates, the union bound also has the highest power. Confidence sequences from mixtures are designed
for streams of hundreds of values. The normal mixture with a variance from the replicates has a false-positive rate of
22 to 40% at a nominal 5%. Lai's (1976) t mixture is valid, but detects only 23 to 39% of effects of two SDs by the
fifth replicate. A union bound over the third to the fifth replicate detects 43 to 61% of these effects
(`benchmarks/interim_analysis.py`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from assay.analysis.stats.moderated import NOTHING, Prior, shrink
from assay.analysis.stats.paired import Part, over_seeds
from assay.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class ConfidenceSequence(NamedTuple):
    """Intervals of successive interim analyses, which hold simultaneously at one level.

    Attributes:
        at: (analyses,) tokens or replicates at each analysis.
        estimate: (analyses,) effects in the metric's unit.
        low: (analyses,) lower ends; NaN or infinite if an interval is unknown.
        high: (analyses,) upper ends.
        p: (analyses,) always-valid two-sided p-values of no effect. Under noise alone, the probability that any of them
            is at most alpha is at most alpha.
        level: lower bound of the probability that every interval covers its true effect.
    """

    at: tuple[float, ...]
    estimate: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    p: tuple[float, ...]
    level: float


class Schedule(NamedTuple):
    """The alpha-spending schedule of the interim analyses.

    Attributes:
        fractions: (analyses,) fractions of the token budget, ascending. The last fraction is 1, the end of training.
        weights: (analyses,) fractions of alpha; they sum to 1.
    """

    fractions: tuple[float, ...]
    weights: tuple[float, ...]

    def analysis_at(self, fraction: float) -> int | None:
        """Return the index of the last analysis that a fraction of the budget has reached.

        >>> schedule((0.25, 0.5), 0.2).analysis_at(0.6)
        1
        """
        reached = [i for i, planned in enumerate(self.fractions) if fraction >= planned - TOLERANCE]
        return reached[-1] if reached else None


TOLERANCE = 0.01
"""Fraction of the budget by which a checkpoint may precede an analysis and still count for it."""


class Compared(Protocol):
    """An effect with an interval and a p-value at the level of its own analysis.

    `assay.analysis.comparison.Comparison` satisfies the protocol.
    """

    @property
    def effect(self) -> float:
        """Candidate minus baseline."""

    @property
    def ci_low(self) -> float:
        """Lower end of the interval at the analysis's own level."""

    @property
    def ci_high(self) -> float:
        """Upper end of the interval at the analysis's own level."""

    @property
    def p(self) -> float:
        """Two-sided p-value of no effect, unadjusted."""


def schedule(interim: Sequence[float], alpha_fraction: float) -> Schedule:
    """Build an alpha-spending schedule.

    The interim analyses split `alpha_fraction` equally, and the final analysis gets the rest. Each weight belongs to a
    fraction of the budget, not to the order in which a user runs analyses. Additional analyses, or analyses that a user
    runs only when an effect seems present, therefore do not raise the error rate.

    Args:
        interim: fractions of the budget before the end, ascending.
        alpha_fraction: fraction of alpha that the interim analyses spend jointly.
    >>> schedule((0.25, 0.5), 0.2)
    Schedule(fractions=(0.25, 0.5, 1.0), weights=(0.1, 0.1, 0.8))
    """
    return Schedule((*interim, 1.0), (*[alpha_fraction / len(interim)] * len(interim), 1 - alpha_fraction))


def always_valid(p: float, weight: float) -> float:
    """Adjust an analysis's p-value so that the minimum over all analyses is valid.

    The adjustment is a weighted Bonferroni correction.

    >>> always_valid(0.001, 0.1), always_valid(0.5, 0.1)
    (0.01, 1.0)
    """
    return p if math.isnan(p) else min(1.0, p / weight)


def combine_analyses(
    at: Sequence[float], comparisons: Sequence[Compared], weights: Sequence[float], *, level: float
) -> ConfidenceSequence:
    """Combine interim analyses at ascending token counts; each estimates the effect at its own tokens.

    Args:
        at: tokens of each analysis.
        comparisons: the effect at each analysis, with an interval at the level `1 - (1 - level) * weight`.
        weights: fractions of alpha, with sum at most 1.
        level: joint level of all intervals.
    """
    return ConfidenceSequence(
        at=tuple(at),
        estimate=tuple(c.effect for c in comparisons),
        low=tuple(c.ci_low for c in comparisons),
        high=tuple(c.ci_high for c in comparisons),
        p=tuple(always_valid(c.p, weight) for c, weight in zip(comparisons, weights, strict=True)),
        level=level,
    )


def over_replicates(
    differences: Sequence[float] | NDArray[np.float64], *, level: float, first: int, most: int, prior: Prior = NOTHING
) -> ConfidenceSequence:
    """Analyze paired differences after each new replicate, from `first` to `most` replicates.

    Every analysis has the same fraction of alpha. All analyses estimate the same effect. Therefore each interval is intersected
    with the previous intervals, and the p-value never rises. If the ends of an interval cross, the replicates are not from one
    population.

    Args:
        differences: candidate minus baseline of each replicate, in order of arrival.
        level: joint level of all intervals.
        first: number of replicates at the first analysis, at least 2.
        most: planned number of replicates, fixed before the first result is seen.
        prior: past runs' variance of one difference (see `assay.analysis.stats.moderated`).

    Returns:
        One interval for each number of replicates from `first` on; empty for fewer replicates. If all replicates are
        equal to     the last digit, they show no noise and leave the interval unchanged. The initial interval is
        infinite, with a p-value     of 1.

    Raises:
        AssayError: there are more replicates than planned, or `first` and `most` are out of bounds.

    >>> sequence = over_replicates([1.0, 1.2, 0.9, 1.1], level=0.95, first=3, most=5)
    >>> [round(low, 2) for low in sequence.low], round(sequence.p[-1], 3)
    ([0.36, 0.74], 0.002)
    """
    d = np.asarray(differences, dtype=float)
    if not 2 <= first <= most or len(d) > most:
        raise ConfigError(
            f"`first` {first} and `most` {most} are invalid for {len(d)} replicates; expected 2 <= first <= most, and at most"
            " `most` replicates.",
            fix="Fix `most` before the first replicate. Later replicates are not used.",
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
