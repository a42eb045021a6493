"""Estimate how often early differences of past mixes keep their sign to the end of training.

An interval at a quarter of the budget does not predict the final winner, because learning curves drift and some cross.
The module uses past mixes with scores both early and at the end. It counts how many pairs of past mixes with a similar
early difference ended in the same order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.analysis.stats.paired import NEGLIGIBLE
from assay.analysis.stats.tables import SCORE_KEY, scale_key, scale_keys, with_columns
from assay.config.reason import Code, Reason

if TYPE_CHECKING:
    import pandas as pd

FEWEST_MIXES = 6
"""Minimum number of past mixes for an estimate. Six mixes make 15 pairs."""
FEWEST_PAIRS = 10
"""Minimum number of pairs for an estimate. If fewer pairs differ by as much, the pairs that differ most are counted."""
MOST_PAIRS = 30
"""Maximum number of counted pairs: the nearest pairs that differ by at least as much.

Pairs with much larger differences keep their order more often than a signal of the given size. An estimate from all
pairs is 95 to 97% for signals that persisted in 87 to 89% of cases (`benchmarks/interim_analysis.py`).
"""
NEAR = 0.2
"""Tolerance between a checkpoint's position and the required fraction of the budget, relative to the fraction."""
END = 0.99
"""Fraction of a run's tokens from which a checkpoint counts as final."""


@dataclass(frozen=True, kw_only=True)
class Persistence:
    """How often early signals of this size kept their sign to the end.

    Attributes:
        task: the task.
        metric: the task's metric.
        fraction: fraction of the token budget at which the signal was measured.
        size: the signal in SDs of noise between replicates of a mix; NaN if the noise is unknown.
        at_least: smallest size among the counted past pairs. It is below `size` if too few past pairs were as large.
        at_most: largest size among the counted past pairs.
        persisted: fraction of the counted pairs that ended in the same order; NaN without an estimate.
        n_pairs: number of counted pairs.
        n_mixes: number of past mixes with both an early and a final score.
        problem: why there is no estimate, or why the estimate uses smaller signals; empty otherwise.
    """

    task: str
    metric: str
    fraction: float
    size: float = math.nan
    at_least: float = math.nan
    at_most: float = math.nan
    persisted: float = math.nan
    n_pairs: int = 0
    n_mixes: int = 0
    problem: str = ""

    @property
    def reason(self) -> Reason:
        """The persistence as a reason."""
        code = Code.PERSISTENCE_UNKNOWN if math.isnan(self.persisted) else Code.PERSISTENCE
        figures = {name: value for name, value in vars(self).items() if name not in ("task", "metric")}
        return Reason(code=code, subject=self.task, metric=self.metric, figures=figures)


def count_persistence(
    history: pd.DataFrame,
    *,
    task: str,
    metric: str,
    fraction: float,
    effect: float,
    noise: float,
    scale: Any = None,
    without: Collection[str] = (),
) -> Persistence:
    """Estimate how often a difference of this size persists, from past pairs of mixes.

    The estimate uses the nearest pairs that are at least as far apart.

    The distance of a pair is the difference of its mixes' means. Its unit is the SD between replicates of a mix at the
    same fraction of the budget, pooled over past mixes. If the history has no replicates, the unit is the noise of the
    compared mixes.

    Args:
        history: long results with `tokens`, with several token counts per run.
        task: the task.
        metric: the task's metric.
        fraction: trained fraction of the budget, between 0 and 1.
        effect: the early difference, in the metric's unit.
        noise: SD between runs of a compared mix, for a history without replicates; NaN if unknown.
        scale: the scale under comparison. If the history has scales, the estimate ignores other scales.
        without: the compared mixes, which the estimate ignores.

    Raises:
        AssayError: a column is missing, or a value is not a number.
    """
    rows = with_columns(history, [*SCORE_KEY, "tokens", "value"], "history")
    rows = rows[(rows["task"] == task) & (rows["metric"] == metric) & ~rows["mix"].astype(str).isin(without)]
    rows = rows[np.isfinite(rows["value"])]
    if scale is not None and "scale" in rows:
        rows = rows[scale_keys(rows["scale"]) == scale_key(scale)]
    early, last = _early_and_final(rows, fraction)
    place = Persistence(task=task, metric=metric, fraction=fraction, n_mixes=len(early))
    if len(early) < FEWEST_MIXES:
        return _unknown(
            place,
            f"the history has {len(early)} other mix{'es' * (len(early) != 1)} with {task} {metric} both near {fraction:.0%} of"
            f" the budget and at the end, too few to learn from: at least {FEWEST_MIXES}",
        )
    unit = _noise(early, otherwise=noise)
    if not unit > 0:
        return _unknown(
            place, "the noise is unknown: neither the history's mixes nor the compared mixes have replicates"
        )
    return _counted(place, early, last, size=abs(effect) / unit, unit=unit)


def _early_and_final(rows: pd.DataFrame, fraction: float) -> tuple[dict[str, Any], dict[str, float]]:
    """Return each mix's early run values and its final mean, for mixes with both."""
    early, last = {}, {}
    for mix, of_mix in rows.groupby(rows["mix"].astype(str), sort=False):
        budget = of_mix["tokens"].max()
        at = of_mix["tokens"] / budget
        distance = (at - fraction).abs().where(at < END)
        nearest = distance.min()
        if not nearest <= NEAR * fraction:
            continue
        early[str(mix)] = of_mix.loc[distance == nearest, "value"].to_numpy(dtype=float)
        last[str(mix)] = float(of_mix.loc[at >= END, "value"].mean())
    return early, last


def _noise(early: dict[str, Any], *, otherwise: float) -> float:
    """Return the SD between replicates of a mix, pooled over mixes."""
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in early.values())
    df = sum(len(values) - 1 for values in early.values())
    return math.sqrt(squares / df) if df and squares > 0 else otherwise


def _counted(
    place: Persistence, early: dict[str, Any], last: dict[str, float], *, size: float, unit: float
) -> Persistence:
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
        persisted=sum(kept for _, kept in as_large) / len(as_large),
        n_pairs=len(as_large),
        problem=problem,
    )


def _unknown(place: Persistence, problem: str) -> Persistence:
    return replace(place, problem=problem)
