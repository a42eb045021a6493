"""How often an early difference held to the end: counted among pairs of past mixes that were scored on the way and at the end.

No interval at a quarter of the budget says who wins at the end: curves drift, and some cross. What the past can say is how many
pairs, as far apart at that share of their budget, ended in the same order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.stats.frames import SCORE_KEY, scale_key, with_columns
from assay.stats.paired import NEGLIGIBLE

if TYPE_CHECKING:
    import pandas as pd

FEWEST_MIXES = 6
"""Past mixes from which something is said; they make 15 pairs."""
FEWEST_PAIRS = 10
"""Pairs from which a share is one. Where fewer were as far apart, those that were farthest stand for them."""
MOST_PAIRS = 30
"""Of the pairs that were at least as far apart, so many that come next are counted. Those that were much farther hold more often than a
signal of this size does: with all of them, 95 to 97% were said of signals that held in 87 to 89% (`benchmarks/looks.py`)."""
NEAR = 0.2
"""A past checkpoint counts for a share of the budget if it is within a fifth of it."""
END = 0.99
"""Of a run's tokens: from here on it is the end."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """How often an early signal of this size held.

    Attributes:
        task: what was measured.
        metric: of the task.
        share: of the token budget at which the signal was seen.
        size: of the signal, in SDs of noise between replicates of one mix; NaN where the noise is not known.
        at_least: size of the smallest past pair that was counted; below `size` where too few were as large.
        at_most: size of the largest one.
        held: share of those pairs whose order at the end was the same; NaN where nothing can be said.
        n_pairs: pairs that were counted.
        n_mixes: past mixes that have both scores.
        problem: why nothing can be said, or why it is about smaller signals; empty where there is no such reason.
    """

    task: str
    metric: str
    share: float
    size: float = math.nan
    at_least: float = math.nan
    at_most: float = math.nan
    held: float = math.nan
    n_pairs: int = 0
    n_mixes: int = 0
    problem: str = ""

    @property
    def sentence(self) -> str:
        """The same in words."""
        name = f"{self.task} {self.metric}"
        if math.isnan(self.held):
            return f"How often such a signal of {name} holds to the end is not known: {self.problem}."
        beyond = f"; {self.problem}, these are the farthest" if self.problem else ""
        return (
            f"In the history {self.held:.0%} of {self.n_pairs} pairs that were {self.at_least:.1f} to {self.at_most:.1f} SDs of noise"
            f" apart in {name} at {self.share:.0%} of the budget ended in the same order ({self.n_mixes} mixes{beyond})."
        )

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON, where NaN is null."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in vars(self).items()
        }


def how_often(
    history: pd.DataFrame,
    *,
    task: str,
    metric: str,
    share: float,
    effect: float,
    noise: float,
    scale: Any = None,
    without: Collection[str] = (),
) -> Held:
    """Count past pairs that were at least as far apart, the nearest such, and those of them that kept their order.

    A pair's distance is that of its mixes' means, in SDs of the noise between a mix' replicates at the same share of the budget, pooled
    over past mixes. Where the past has no replicates, the judged mixes' own noise is the unit.

    Args:
        history: long results with `tokens`, several for a run.
        task: what was measured.
        metric: of the task.
        share: of the budget that has been trained, between 0 and 1.
        effect: the early difference, in the metric's unit.
        noise: SD of one judged run, for a past without replicates; NaN where it is not known.
        scale: the judged scale; where the history has it, other scales are left alone.
        without: mixes that are judged, which must not teach.

    Raises:
        AssayError: a column is missing, or a value is no number.
    """
    rows = with_columns(history, [*SCORE_KEY, "tokens", "value"], "history")
    rows = rows[(rows["task"] == task) & (rows["metric"] == metric) & ~rows["mix"].astype(str).isin(without)]
    rows = rows[np.isfinite(rows["value"])]
    if scale is not None and "scale" in rows:
        rows = rows[rows["scale"].map(scale_key) == scale_key(scale)]
    early, last = _on_the_way(rows, share)
    place = Held(task=task, metric=metric, share=share, n_mixes=len(early))
    if len(early) < FEWEST_MIXES:
        return _unknown(
            place,
            f"the history has {len(early)} other mix{'es' * (len(early) != 1)} with {task} {metric} both near {share:.0%} of"
            f" the budget and at the end, too few to learn from: at least {FEWEST_MIXES}",
        )
    unit = _noise(early, otherwise=noise)
    if not unit > 0:
        return _unknown(
            place, "nobody knows the noise: neither the history's mixes nor the judged ones have replicates"
        )
    return _counted(place, early, last, size=abs(effect) / unit, unit=unit)


def _on_the_way(rows: pd.DataFrame, share: float) -> tuple[dict[str, Any], dict[str, float]]:
    """By mix the values of its runs near a share of the budget, and its mean at the end; of mixes that have both."""
    early, last = {}, {}
    for mix, of_mix in rows.groupby(rows["mix"].astype(str), sort=False):
        budget = of_mix["tokens"].max()
        at = of_mix["tokens"] / budget
        distance = (at - share).abs().where(at < END)
        nearest = distance.min()
        if not nearest <= NEAR * share:
            continue
        early[str(mix)] = of_mix.loc[distance == nearest, "value"].to_numpy(dtype=float)
        last[str(mix)] = float(of_mix.loc[at >= END, "value"].mean())
    return early, last


def _noise(early: dict[str, Any], *, otherwise: float) -> float:
    """SD of a run between replicates of one mix, pooled."""
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in early.values())
    df = sum(len(values) - 1 for values in early.values())
    return math.sqrt(squares / df) if df and squares > 0 else otherwise


def _counted(place: Held, early: dict[str, Any], last: dict[str, float], *, size: float, unit: float) -> Held:
    level = max(abs(value) for value in last.values())
    pairs = []
    for a, b in itertools.combinations(early, 2):
        before, after = float(early[b].mean() - early[a].mean()) / unit, last[b] - last[a]
        if abs(after) > NEGLIGIBLE * level and before != 0:
            pairs.append((abs(before), before * after > 0))
    pairs.sort(reverse=True)
    if len(pairs) < FEWEST_PAIRS:
        return replace(_unknown(place, f"only {len(pairs)} past pairs differ at all"), size=size)
    as_large = [pair for pair in pairs if pair[0] >= size][-MOST_PAIRS:]
    problem = ""
    if len(as_large) < FEWEST_PAIRS:
        problem = f"{len(as_large) or 'no'} past pair{'s were' if len(as_large) != 1 else ' was'} as far apart as that"
        as_large = pairs[:FEWEST_PAIRS]
    return replace(
        place,
        size=size,
        at_least=as_large[-1][0],
        at_most=as_large[0][0],
        held=sum(kept for _, kept in as_large) / len(as_large),
        n_pairs=len(as_large),
        problem=problem,
    )


def _unknown(place: Held, problem: str) -> Held:
    return replace(place, problem=problem)
