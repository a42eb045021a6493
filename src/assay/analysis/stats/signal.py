"""Decide whether a metric carries signal at this proxy size.

A metric has signal above chance level and with sufficient spread between past mixes. The evidence is the baseline, the
items and the history. The candidate is not part of the evidence: its effect would count as noise, or would create the
signal of the metric that has to detect the effect. A guardrail above chance level in the baseline therefore keeps its vote
when it falls to chance level.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from assay.analysis.stats.paired import Estimate, Part, crossed
from assay.analysis.stats.replicates import Ratio, Trend
from assay.config.metrics import is_loss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from assay.analysis.stats.item_table import ArmItems

State = Literal["ok", "no signal", "unknown"]

CLEARLY = 0.02
"""Required distance of the accuracy from chance level. It exceeds the gain of a constant answer.

The answers of MMLU's test set are 22.9% A, 24.6% B, 25.5% C and 26.9% D (counted over its 14,042 questions). A model
that always answers D therefore reaches 0.269."""

LEVEL = 0.05
"""One-sided level of the test against chance level (`benchmarks/chance_level.py` compares levels and rules)."""

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


def with_past(current: Signal, past: PastSignal | None, *, n_seeds: int, guards: bool = False) -> Signal:
    """Combine a metric's current signal with past runs, which can only remove a vote.

    Past runs remove the vote of a metric in two cases. Either the interval of the signal-to-noise ratio is entirely
    below the ratio that the number of seeds requires, or the interval of the rank correlation with tokens is entirely
    below 0. If the interval of the ratio contains the required ratio, the signal is unknown and the metric keeps its
    vote. Fewer than `FEWEST` past mixes have no effect.

    A guardrail whose baseline has signal keeps its vote at any past signal-to-noise ratio, and its signal is unknown. A ratio
    of past mixes describes how they rank, but a fall to chance level is a loss also if past mixes do not differ.

    Args:
        current: signal of the baseline.
        past: signal of past runs; None without a history.
        n_seeds: number of seeds of each mix.
        guards: whether the metric is a guardrail.
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
            if not (guards and current.state == "ok"):
                return Signal("no signal", f"the history has {reason}")
            figures = f"the history has {reason}, but the baseline of a guardrail decides on its vote"
        reasons.append(figures)
        state = state if ratio.low >= bar else "unknown"
    if rises is not None:
        figures = (
            f"rank correlation with tokens {rises.rho:+.2f} over {rises.n_runs} past runs"
            f" (95% interval {rises.low:+.2f} to {rises.high:+.2f})"
        )
        if rises.high < 0:
            return Signal("no signal", f"the history has {figures}: the score falls during training")
        reasons.append(figures)
    return Signal(state, "; ".join([current.reason, *reasons]))


def loss_signal() -> Signal:
    """Return the signal of a loss, which has no chance level."""
    return Signal("ok", "a loss has no chance level; its noise is in the interval")


def aggregate_signal() -> Signal:
    """Return the signal of a mean of tasks. Its tasks at chance level add noise, which is in the interval."""
    return Signal("ok", "a mean of tasks has no chance level; its noise is in the interval")


def signal_of_baseline(
    metric: str,
    scores: Sequence[float],
    *,
    chance: float | None,
    n_items: int | None,
    items: ArmItems | None = None,
) -> Signal:
    """Return whether the baseline is above chance level on a metric.

    Args:
        metric: name of the metric; a known loss has no chance level.
        scores: finite scores of the baseline's replicates.
        chance: chance level as a fraction; None if unknown.
        n_items: number of items behind each score; None if unknown.
        items: items of the baseline, if known.
    """
    if is_loss(metric):
        return loss_signal()
    if chance is None:
        return Signal("unknown", "the metric has no recorded chance level")
    if items is not None:
        return signal_from_items(items.values, chance=chance, clusters=items.clusters, weights=items.weights)
    if not scores:
        return Signal("unknown", "the baseline has no scores")
    return signal_from_scores(scores, chance=chance, n_items=n_items)


def signal_from_items(
    values: NDArray[np.float64],
    *,
    chance: float,
    clusters: NDArray[np.intp],
    weights: NDArray[np.float64] | None = None,
) -> Signal:
    """Test accuracies against chance level, with random runs and items (see `assay.analysis.stats.paired.crossed`).

    Args:
        values: (runs, items) of one mix's replicates, 0 or 1.
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
    """Test accuracies of one mix's replicates against chance level; see `signal_from_mixes`."""
    return signal_from_mixes([values], chance=chance, n_items=n_items)


def signal_from_mixes(mixes: Sequence[Sequence[float]], *, chance: float, n_items: int | None) -> Signal:
    """Test accuracies against chance level if only the runs' scores are known.

    All runs answer the same items, so the number of runs does not reduce the binomial variance of the items. The pooled variance
    between the replicates of a mix is added. Differences between mixes are no noise. The binomial proportion is Laplace's
    (x + 1) / (n + 2), which is never 0 or 1.

    Args:
        mixes: the scores of the replicates of each mix, with at least one score.
        chance: chance level of the accuracy.
        n_items: number of items; None if unknown.
    """
    values = [value for scores in mixes for value in scores]
    mean, runs = float(np.mean(values)), len(values)
    if min(values) < 0 or max(values) > 1:
        return Signal("unknown", f"scores from {min(values):g} to {max(values):g} are no fractions of items")
    if n_items is None:
        if mean <= chance + CLEARLY:
            return Signal("no signal", f"accuracy {mean:.3f} is not clearly above the chance level {chance:.3f}")
        return Signal("unknown", "the number of items is not given, so a score at chance level cannot be ruled out")
    return _test(excess_over_chance(mixes, chance=chance, n_items=n_items), chance=chance, runs=runs)


def excess_over_chance(mixes: Sequence[Sequence[float]], *, chance: float, n_items: int) -> Estimate:
    """Estimate the excess of the mean accuracy over chance level, with the noise of items and of replicates.

    Args:
        mixes: as for `signal_from_mixes`; scores from 0 to 1.
        chance: chance level of the accuracy.
        n_items: number of items, at least 1.
    """
    values = [value for scores in mixes for value in scores]
    mean, runs = float(np.mean(values)), len(values)
    smoothed = (mean * n_items + 1) / (n_items + 2)
    parts = [Part(smoothed * (1 - smoothed) / n_items, max(n_items - 1, 1))]
    df = runs - len(mixes)
    squares = sum(float(np.var(scores)) * len(scores) for scores in mixes)
    noise = math.sqrt(squares / df) if df > 0 else math.nan
    if noise > 0:
        parts.append(Part(noise**2 / runs, df))
    return Estimate(effect=mean - chance, parts=tuple(parts), noise=noise, n_seeds=runs, n_items=n_items)


def _test(estimate: Estimate, *, chance: float, runs: int) -> Signal:
    accuracy = estimate.effect + chance
    figures = (
        f"accuracy {accuracy:.3f} over {estimate.n_items} items and {runs} run{'s' * (runs != 1)}"
        f" against the chance level {chance:.3f} (standard error {estimate.se:.3f})"
    )
    if estimate.effect > CLEARLY and estimate.is_above(0.0, alpha=LEVEL):
        return Signal("ok", f"{figures}: clearly above chance")
    p = estimate.p_above(0.0)
    rule = f"needs more than {CLEARLY:.2f} above chance and p of at most {LEVEL:g}; p = {p:.2g}"
    return Signal("no signal", f"{figures}: not clearly above chance ({rule})")
