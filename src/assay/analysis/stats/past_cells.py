"""Estimate spread and noise of metrics over past mixes, by scale and token budget.

The runs of each metric are indexed once per history. The result for a comparison leaves out the compared mixes. All
candidates that the history does not contain share one result.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from assay.analysis.stats.history import HistoryTable
from assay.analysis.stats.replicates import noise_of_runs, ratios
from assay.analysis.stats.tables import Metric, group_codes, scale_key

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

ENOUGH_MIXES = 5
"""Minimum number of past mixes with replicates to estimate the noise and the spread at a budget or a scale."""


class Cell(NamedTuple):
    """A scale and a token budget of past runs."""

    scale: Any
    tokens: float


class CellEstimate(NamedTuple):
    """Variation of a metric over past mixes at one scale and token budget.

    Attributes:
        spread: SD between mixes.
        noise: SD over seeds of the paired difference of two mixes.
        n_mixes: number of mixes.
    """

    spread: float
    noise: float
    n_mixes: int


def estimate_cells(
    past: HistoryTable, metrics: Collection[Metric], *, without: Collection[str]
) -> dict[Cell, dict[Metric, CellEstimate]]:
    """Estimate the spread and the noise of metrics from past mixes, by scale and budget.

    Args:
        past: long results with finite and missing values; rows without a scale or a budget are ignored.
        metrics: the metrics to estimate.
        without: the compared mixes, which the estimates must not use.
    """
    estimates: dict[Cell, dict[Metric, CellEstimate]] = {}
    for metric in metrics:
        for cell, estimate in past.once(_estimates, table=past, metric=metric, without=without):
            estimates.setdefault(cell, {})[metric] = estimate
    return estimates


class _Runs(NamedTuple):
    """The runs of a metric in one cell.

    Attributes:
        names: mixes.
        mixes: (rows,) position of each row's mix in `names`.
        seeds: (rows,) number of each row's seed.
        values: (rows,) scores.
        last: (rows,) whether the row is the last of its mix and seed.
    """

    names: tuple[str, ...]
    mixes: NDArray[np.intp]
    seeds: NDArray[np.intp]
    values: NDArray[np.float64]
    last: NDArray[np.bool_]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> _Runs:
        import pandas as pd

        mixes, names = pd.factorize(rows["mix"].astype(str))
        return cls(
            names=tuple(map(str, names)),
            mixes=mixes,
            seeds=pd.factorize(rows["seed"].astype(str))[0],
            values=rows["value"].to_numpy(dtype=float),
            last=~rows.duplicated(["mix", "seed"], keep="last").to_numpy(),
        )

    def without(self, mixes: Collection[str]) -> _Runs:
        """Return the runs of other mixes."""
        if not mixes:
            return self
        kept = ~np.isin(self.names, list(mixes))[self.mixes]
        return _Runs(self.names, self.mixes[kept], self.seeds[kept], self.values[kept], self.last[kept])

    def estimate(self) -> CellEstimate | None:
        """Return the spread and the noise; None with too few mixes or without noise."""
        counts = np.bincount(self.mixes, minlength=len(self.names))
        means = np.bincount(self.mixes, self.values, len(self.names)) / np.maximum(counts, 1)
        squares = np.bincount(self.mixes, (self.values - means[self.mixes]) ** 2, len(self.names)).astype(float)
        ratio = ratios(counts[None], means[None], squares[None])[0]
        if ratio is None or ratio.n_mixes < ENOUGH_MIXES:
            return None
        noise = noise_of_runs(self.mixes[self.last], self.seeds[self.last], self.values[self.last])
        if noise is None:
            return None
        several = counts > 1
        within = float((squares[several] / (counts[several] - 1)).mean()) ** 0.5
        return CellEstimate(ratio.value * within, noise.sd, ratio.n_mixes)


def _estimates(
    _: pd.DataFrame, *, table: HistoryTable, metric: Metric, without: Collection[str] = ()
) -> tuple[tuple[Cell, CellEstimate], ...]:
    found = ((cell, runs.without(without).estimate()) for cell, runs in table.once(_runs, table=table, metric=metric))
    return tuple((cell, estimate) for cell, estimate in found if estimate is not None)


def _runs(frame: pd.DataFrame, *, table: HistoryTable, metric: Metric) -> tuple[tuple[Cell, _Runs], ...]:
    """Index the finite scores of a metric by scale and budget."""
    rows = table.once(_rows_by_metric).get(metric)
    if rows is None or not {"scale", "tokens"} <= set(frame.columns):
        return ()
    own = frame.iloc[rows]
    own = own[np.isfinite(own["value"].to_numpy(dtype=float))]
    own = own.assign(_scale=own["scale"].map(scale_key))
    cells = []
    for key, cell in own.groupby(["_scale", "tokens"], sort=False):
        scale, tokens = cast("tuple[Any, float]", key)
        cells.append((Cell(scale, float(tokens)), _Runs.of(cell)))
    return tuple(cells)


def _rows_by_metric(frame: pd.DataFrame) -> Mapping[Metric, NDArray[np.intp]]:
    """Return the positions of each metric's rows."""
    codes, first = group_codes(frame, ["task", "metric"])
    rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes, minlength=len(first)))[:-1])
    names = zip(frame["task"].iloc[first], frame["metric"].iloc[first], strict=True)
    return dict(zip(names, rows, strict=True)) if len(first) else {}
