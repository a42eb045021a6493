"""Signal and range of each metric in past results, without the compared mixes.

The statistics of each past mix are computed once. The result for a comparison combines those of all other mixes, so that
a sweep with many candidates reads its history once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from assay.analysis.stats.replicates import MIN_CHECKPOINTS, RunTrend, combine_runs, correlate, ratios
from assay.analysis.stats.signal import PastSignal
from assay.analysis.stats.tables import SCORE_KEY, Metric
from assay.analysis.stats.units import APART
from assay.config.metrics import metric_facts

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


class ValueRange(NamedTuple):
    """Smallest and largest positive value of a metric in past results.

    Attributes:
        low: the smallest value.
        high: the largest value.
    """

    low: float
    high: float

    def is_apart(self, values: NDArray[np.float64]) -> bool:
        """Report whether all values are so far from the range that the units appear to differ."""
        known = values[values > 0]
        if not len(known):
            return False
        return bool(known.min() >= APART * self.high or known.max() * APART <= self.low)


@dataclass(frozen=True, kw_only=True)
class PastScores:
    """Statistics of each metric and mix in the past results of one scale.

    Attributes:
        metrics: the metrics, in the order of the rows of all arrays.
        mixes: the mixes, in the order of the columns of all arrays.
        counts: number of replicates at their last checkpoint.
        means: mean score of the replicates.
        squares: sum of the replicates' squared deviations from their mean.
        low: smallest positive score of any checkpoint; infinity without one.
        high: largest positive score of any checkpoint; minus infinity without one.
        trends: rank correlations of runs with tokens, by metric, each with the position of the run's mix.
    """

    metrics: tuple[Metric, ...]
    mixes: tuple[str, ...]
    counts: NDArray[np.int64]
    means: NDArray[np.float64]
    squares: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    trends: Mapping[Metric, tuple[tuple[int, RunTrend], ...]]

    @classmethod
    def of(cls, rows: pd.DataFrame, last: pd.DataFrame) -> PastScores:
        """Compute the statistics.

        Args:
            rows: long results of one scale with finite values, with all checkpoints.
            last: the rows of each run's last checkpoint.
        """
        import pandas as pd

        keys = rows[["task", "metric"]].astype(str)
        names = pd.MultiIndex.from_frame(keys.drop_duplicates())
        mixes = pd.Index(rows["mix"].astype(str).unique())
        at = names.get_indexer(pd.MultiIndex.from_frame(keys)), mixes.get_indexer(rows["mix"].astype(str))
        shape = (len(names), len(mixes))
        low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
        values = rows["value"].to_numpy(dtype=float)
        positive = values > 0
        np.minimum.at(low, (at[0][positive], at[1][positive]), values[positive])
        np.maximum.at(high, (at[0][positive], at[1][positive]), values[positive])
        counts, means, squares = np.zeros(shape, dtype=np.int64), np.zeros(shape), np.zeros(shape)
        ends = (
            names.get_indexer(pd.MultiIndex.from_frame(last[["task", "metric"]].astype(str))),
            mixes.get_indexer(last["mix"].astype(str)),
        )
        final = last["value"].to_numpy(dtype=float)
        np.add.at(counts, ends, 1)
        np.add.at(means, ends, final)
        means /= np.maximum(counts, 1)
        np.add.at(squares, ends, (final - means[ends]) ** 2)
        metrics = tuple((str(task), str(metric)) for task, metric in names)
        return cls(
            metrics=metrics,
            mixes=tuple(mixes),
            counts=counts,
            means=means,
            squares=squares,
            low=low,
            high=high,
            trends=_trends(rows, {mix: i for i, mix in enumerate(mixes)}) if "tokens" in rows else {},
        )

    def _others(self, without: Collection[str]) -> NDArray[np.intp]:
        return np.array([i for i, mix in enumerate(self.mixes) if mix not in without], dtype=np.intp)

    def signals(self, without: Collection[str]) -> dict[Metric, PastSignal]:
        """Return the signal of each metric over the mixes that are not excluded.

        The usual direction of a metric determines the sign of its trend, also if a policy declares the other direction: an
        accuracy that must not rise still rises with training. Metrics without a usual direction have no trend.
        """
        others = self._others(without)
        counts = self.counts[:, others]
        found = ratios(counts, self.means[:, others], self.squares[:, others])
        kept = set(others.tolist())
        signals = {}
        for metric, ratio, present in zip(self.metrics, found, counts.sum(axis=1).tolist(), strict=True):
            if present:
                runs = [run for mix, run in self.trends.get(metric, ()) if mix in kept]
                lower = metric_facts(metric[1]).better == "lower"
                signals[metric] = PastSignal(ratio, combine_runs(runs, lower_is_better=lower))
        return signals

    def ranges(self, without: Collection[str]) -> dict[Metric, ValueRange]:
        """Return the range of each metric's positive values over the mixes that are not excluded."""
        others = self._others(without)
        low = self.low[:, others].min(axis=1, initial=np.inf)
        high = self.high[:, others].max(axis=1, initial=-np.inf)
        return {
            metric: ValueRange(float(low[i]), float(high[i]))
            for i, metric in enumerate(self.metrics)
            if low[i] <= high[i]
        }


def _trends(rows: pd.DataFrame, mixes: Mapping[str, int]) -> dict[Metric, tuple[tuple[int, RunTrend], ...]]:
    """Correlate the scores of each run with its training tokens (Spearman).

    Runs with fewer than three scored checkpoints and metrics without a usual direction are left out.
    """
    several = rows[rows.groupby(SCORE_KEY)["tokens"].transform("nunique") >= MIN_CHECKPOINTS]
    trends: dict[Metric, list[tuple[int, RunTrend]]] = {}
    for (mix, _, task, metric), run in several.groupby(SCORE_KEY, sort=False):
        if metric_facts(str(metric)).better is not None:
            found = correlate(run["tokens"].tolist(), run["value"].tolist())
            if found is not None:
                trends.setdefault((str(task), str(metric)), []).append((mixes[str(mix)], found))
    return {metric: tuple(runs) for metric, runs in trends.items()}
