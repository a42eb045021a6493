"""Whether a metric says anything at this proxy size. One at chance, or in which past mixes hardly differed, decides nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from assay.stats.paired import Estimate, Part, crossed
from assay.stats.replicates import Ratio, Trend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

State = Literal["ok", "no signal", "unknown"]

CLEARLY = 0.02
"""How far above chance an accuracy has to be: more than a blind habit earns. The answers of MMLU's test set are 22.9% A,
24.6% B, 25.5% C and 26.9% D (counted over its 14,042 questions), so a model that always says D is at 0.269."""

LEVEL = 0.01
"""One-sided level of the test against chance."""

FEWEST = 6
"""Past mixes below which no signal-to-noise is believed, as for the transfer to the target."""

LOSSES = frozenset(
    {"bits_per_byte", "byte_perplexity", "word_perplexity", "perplexity", "loss", "nll", "brier_score", "mse", "ter"}
)
"""Metrics where lower is better, and that have no chance level."""

ACCURACIES = frozenset({"acc", "acc_norm", "acc_mutual_info", "exact_match", "f1"})
"""Metrics that are shares, spoken of in points."""


class Worth(NamedTuple):
    """What past runs of this proxy say of a metric.

    Attributes:
        ratio: signal-to-noise over past mixes; None where they show none.
        trend: whether scores rise with tokens; None where no run was looked at often enough.
    """

    ratio: Ratio | None
    trend: Trend | None


class Signal(NamedTuple):
    """What a metric is worth.

    Attributes:
        state: `ok`, `no signal`, or `unknown` where it cannot be tested.
        reason: one sentence with figures.
    """

    state: State
    reason: str


def least_ratio(n_seeds: int) -> float:
    """The signal-to-noise ratio that so many seeds of each mix ask for: where the noise of their mean is as large as the signal.

    Two mixes drawn at random are then ranked right at the proxy itself in 3 of 4 cases, 1/2 + arctan(ratio * sqrt(seeds)) / pi, before
    anything is lost on the way to the target; below it, in fewer.
    """
    return 1 / math.sqrt(n_seeds)


def ranked_right(ratio: float, n_seeds: int) -> float:
    """The share of pairs of mixes that so many seeds rank right at the proxy, for normal scores (Sheppard 1899).

    >>> round(ranked_right(least_ratio(3), 3), 3)
    0.75
    """
    return 0.5 + math.atan(ratio * math.sqrt(n_seeds)) / math.pi


def by_past(now: Signal, past: Worth | None, *, n_seeds: int) -> Signal:
    """What a metric is worth, past runs counted in: they can take its say away, and never give it one.

    It is taken where the past shows too little signal: an interval of signal-to-noise that is all below what the seeds ask for, or of
    the rank correlation with tokens all below 0. An interval that is on both sides leaves the signal unknown, and the say alone.
    Fewer than `FEWEST` mixes say nothing.
    """
    if past is None or now.state == "no signal":
        return now
    ratio, rises = past
    state, said = now.state, []
    if ratio is not None and ratio.n_mixes >= FEWEST:
        bar = least_ratio(max(n_seeds, 1))
        figures = (
            f"signal-to-noise {ratio.value:.2f} over {ratio.n_mixes} past mixes"
            f" ({ratio.level:.0%} interval {ratio.low:.2f} to {ratio.high:.2f})"
        )
        if ratio.high < bar:
            reason = f"{figures}: below {bar:.2f}, where {n_seeds} seeds rank 3 of 4 pairs right"
            return Signal("no signal", reason)
        said.append(figures)
        state = state if ratio.low >= bar else "unknown"
    if rises is not None:
        figures = (
            f"rank correlation with tokens {rises.rho:+.2f} over {rises.n_runs} past runs"
            f" (95% interval {rises.low:+.2f} to {rises.high:+.2f})"
        )
        if rises.high < 0:
            return Signal("no signal", f"{figures}: it falls while models learn")
        said.append(figures)
    return Signal(state, "; ".join([now.reason, *said]))


def of_loss() -> Signal:
    """A loss has no chance level: every model has one, and what is noise in it is in the interval."""
    return Signal("ok", "a loss has no chance level; its noise is in the interval")


def from_items(values: NDArray[np.float64], *, chance: float, clusters: NDArray[np.object_]) -> Signal:
    """Test accuracies against chance, over runs and questions drawn at random (see `assay.stats.paired.crossed`).

    Args:
        values: (runs, items) of all arms and seeds, 0 or 1.
        chance: accuracy of guessing.
        clusters: (items,) labels of questions that belong together.
    """
    runs, items = values.shape
    estimate = crossed(values - chance, clusters=clusters)
    if runs < 2 or len(estimate.parts) < 2:
        # One run shows no variance between runs, and runs that agree on every question none at all.
        return from_scores(values.mean(axis=1).tolist(), chance=chance, n_items=items)
    return _judge(estimate, chance=chance, runs=runs)


def from_scores(values: Sequence[float], *, chance: float, n_items: int | None) -> Signal:
    """Test accuracies against chance where only the scores of the runs are known.

    All runs answer the same questions, so the questions' binomial variance is not reduced by the number of runs; the
    variance between runs is added. The proportion in it is Laplace's (x + 1) / (n + 2), which is never 0 or 1.

    Args:
        values: the score of every run of all arms and seeds.
        chance: accuracy of guessing.
        n_items: number of questions; None where it is not known.
    """
    mean = float(np.mean(values))
    if n_items is None:
        if mean <= chance + CLEARLY:
            return Signal("no signal", f"accuracy {mean:.3f} is not clearly above the {chance:.3f} of guessing")
        return Signal("unknown", "the number of questions is not given, so chance cannot be ruled out")
    smoothed = (mean * n_items + 1) / (n_items + 2)
    parts = [Part(smoothed * (1 - smoothed) / n_items, max(n_items - 1, 1))]
    noise = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    if noise > 0:
        parts.append(Part(noise**2 / len(values), len(values) - 1))
    estimate = Estimate(effect=mean - chance, parts=tuple(parts), noise=noise, n_seeds=len(values), n_items=n_items)
    return _judge(estimate, chance=chance, runs=len(values))


def _judge(estimate: Estimate, *, chance: float, runs: int) -> Signal:
    p = estimate.p_above(CLEARLY)
    accuracy = estimate.effect + chance
    figures = (
        f"accuracy {accuracy:.3f} over {estimate.n_items} questions and {runs} runs"
        f" against {chance:.3f} by guessing (standard error {estimate.se:.3f})"
    )
    if p <= LEVEL:
        return Signal("ok", f"{figures}: clearly above chance")
    return Signal("no signal", f"{figures}: not clearly above chance (needs {CLEARLY:.2f} more, p = {p:.2g} > {LEVEL})")
