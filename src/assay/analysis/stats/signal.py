"""Decide whether a metric carries signal at this proxy size.

A metric has signal above chance level and with sufficient spread between past mixes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from assay.analysis.stats.paired import Estimate, Part, crossed
from assay.analysis.stats.replicates import Ratio, Trend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

State = Literal["ok", "no signal", "unknown"]

CLEARLY = 0.02
"""Required margin above chance level. It exceeds the gain of a constant answer.

The answers of MMLU's test set are 22.9% A, 24.6% B, 25.5% C and 26.9% D (counted over its 14,042 questions). A model
that always answers D therefore reaches 0.269."""

LEVEL = 0.01
"""One-sided level of the test against chance level."""

FEWEST = 6
"""Minimum number of past mixes for a signal-to-noise ratio. The minimum equals that of the transfer to the target."""


class PastSignal(NamedTuple):
    """The signal of a metric in past runs at this proxy size.

    Attributes:
        ratio: signal-to-noise ratio over past mixes; None if unknown.
        trend: rank correlation of scores with tokens; None if no run has enough checkpoints.
    """

    ratio: Ratio | None
    trend: Trend | None


class Signal(NamedTuple):
    """Whether a metric carries signal.

    Attributes:
        state: `ok`, `no signal`, or `unknown` if the signal cannot be tested.
        reason: one sentence with figures.
    """

    state: State
    reason: str


def least_ratio(n_seeds: int) -> float:
    """Return the required signal-to-noise ratio, given the number of seeds.

    At this ratio, the noise of the mean over seeds equals the signal.

    The proxy then ranks two random mixes correctly in 3 of 4 cases: 1/2 + arctan(ratio * sqrt(seeds)) / pi.
    Errors of the transfer to the target are not included. Below this ratio, fewer rankings are correct.
    """
    return 1 / math.sqrt(n_seeds)


def ranked_right(ratio: float, n_seeds: int) -> float:
    """Return the fraction of pairs of mixes that the proxy ranks correctly.

    Scores are assumed normal (Sheppard 1899).

    >>> round(ranked_right(least_ratio(3), 3), 3)
    0.75
    """
    return 0.5 + math.atan(ratio * math.sqrt(n_seeds)) / math.pi


def with_past(current: Signal, past: PastSignal | None, *, n_seeds: int) -> Signal:
    """Combine a metric's current signal with past runs, which can only remove a vote.

    Past runs remove the vote of a metric in two cases. Either the interval of the signal-to-noise ratio is entirely
    below the ratio that the number of seeds requires, or the interval of the rank correlation with tokens is entirely
    below 0. If the interval of the ratio contains the required ratio, the signal is unknown and the metric keeps its
    vote. Fewer than `FEWEST` past mixes have no effect.
    """
    if past is None or current.state == "no signal":
        return current
    ratio, rises = past
    state, reasons = current.state, []
    if ratio is not None and ratio.n_mixes >= FEWEST:
        bar = least_ratio(max(n_seeds, 1))
        figures = (
            f"signal-to-noise {ratio.value:.2f} over {ratio.n_mixes} past mixes"
            f" ({ratio.level:.0%} interval {ratio.low:.2f} to {ratio.high:.2f})"
        )
        if ratio.high < bar:
            reason = f"{figures}: below {bar:.2f}, where {n_seeds} seeds rank 3 of 4 pairs correctly"
            return Signal("no signal", reason)
        reasons.append(figures)
        state = state if ratio.low >= bar else "unknown"
    if rises is not None:
        figures = (
            f"rank correlation with tokens {rises.rho:+.2f} over {rises.n_runs} past runs"
            f" (95% interval {rises.low:+.2f} to {rises.high:+.2f})"
        )
        if rises.high < 0:
            return Signal("no signal", f"{figures}: the score falls during training")
        reasons.append(figures)
    return Signal(state, "; ".join([current.reason, *reasons]))


def loss_signal() -> Signal:
    """Return the signal of a loss, which has no chance level."""
    return Signal("ok", "a loss has no chance level; its noise is in the interval")


def aggregate_signal() -> Signal:
    """Return the signal of a mean of tasks. Its tasks at chance level add noise, which is in the interval."""
    return Signal("ok", "a mean of tasks has no chance level; its noise is in the interval")


def signal_from_items(
    values: NDArray[np.float64],
    *,
    chance: float,
    clusters: NDArray[np.intp],
    weights: NDArray[np.float64] | None = None,
) -> Signal:
    """Test accuracies against chance level, with random runs and items (see `assay.analysis.stats.paired.crossed`).

    Args:
        values: (runs, items) of all arms and seeds, 0 or 1.
        chance: chance level of the accuracy.
        clusters: (items,) labels of items that belong together.
        weights: (items,) weights of the items in the accuracy (default: equal).
    """
    runs, items = values.shape
    estimate = crossed(values - chance, weights=weights, clusters=clusters)
    if runs < 2 or len(estimate.parts) < 2:
        # One run has no variance between runs, nor have runs that agree on every item.
        return signal_from_scores(np.average(values, axis=1, weights=weights).tolist(), chance=chance, n_items=items)
    return _test(estimate, chance=chance, runs=runs)


def signal_from_scores(values: Sequence[float], *, chance: float, n_items: int | None) -> Signal:
    """Test accuracies against chance level if only the runs' scores are known.

    All runs answer the same items, so the number of runs does not reduce the binomial variance of the items. The variance
    between runs is added. The binomial proportion is Laplace's (x + 1) / (n + 2), which is never 0 or 1.

    Args:
        values: the score of every run of all arms and seeds.
        chance: chance level of the accuracy.
        n_items: number of items; None if unknown.
    """
    mean = float(np.mean(values))
    if n_items is None:
        if mean <= chance + CLEARLY:
            return Signal("no signal", f"accuracy {mean:.3f} is not clearly above the chance level {chance:.3f}")
        return Signal("unknown", "the number of items is not given, so a score at chance level cannot be ruled out")
    smoothed = (mean * n_items + 1) / (n_items + 2)
    parts = [Part(smoothed * (1 - smoothed) / n_items, max(n_items - 1, 1))]
    noise = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    if noise > 0:
        parts.append(Part(noise**2 / len(values), len(values) - 1))
    estimate = Estimate(effect=mean - chance, parts=tuple(parts), noise=noise, n_seeds=len(values), n_items=n_items)
    return _test(estimate, chance=chance, runs=len(values))


def _test(estimate: Estimate, *, chance: float, runs: int) -> Signal:
    accuracy = estimate.effect + chance
    figures = (
        f"accuracy {accuracy:.3f} over {estimate.n_items} items and {runs} runs"
        f" against the chance level {chance:.3f} (standard error {estimate.se:.3f})"
    )
    if estimate.is_above(CLEARLY, alpha=LEVEL):
        return Signal("ok", f"{figures}: clearly above chance")
    p = estimate.p_above(CLEARLY)
    return Signal("no signal", f"{figures}: not clearly above chance (needs {CLEARLY:.2f} more, p = {p:.2g} > {LEVEL})")
