"""Validate and normalize results once, for `compare`, `gate`, breakdowns and interim analyses."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.analysis.stats.checkpoint_average import average_last
from assay.analysis.stats.evaluation_columns import require_chance_levels, require_item_counts
from assay.analysis.stats.history_check import Conditions
from assay.analysis.stats.item_table import ItemTable
from assay.analysis.stats.score_table import ScoreTable
from assay.analysis.stats.tables import SCORE_KEY, Metric, at_scale, require_frame, seed_order, with_columns
from assay.analysis.stats.units import require_equal_units, to_one_unit

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from assay.analysis.stats.history import HistoryTable
    from assay.config.reason import Reason


class ResultsTable:
    """Validated, normalized results of several mixes, seeds, tasks, metrics, scales and checkpoints.

    Build the table once with `ResultsTable.of` and pass it to every call, so that derived values are computed at most once.

    Attributes:
        frame: the rows; mixes are text, values and tokens float64, and each metric has one unit. A table without rows may
            lack columns.
        conversions: which values were converted to another unit.
        excluded: mixes that an average over checkpoints excludes (see `averaged`).
        derived: tables that callers derived from this one, by key, so that all candidates share them.
    """

    def __init__(
        self, frame: pd.DataFrame, conversions: tuple[Reason, ...] = (), excluded: tuple[str, ...] = ()
    ) -> None:
        """Take a normalized frame. Use `of` for other frames."""
        self.frame = frame
        self.conversions = conversions
        self.excluded = excluded
        self.derived: dict[Any, Any] = {}
        self._at: dict[str | None, pd.DataFrame] = {}
        self._tables: dict[str | None, ResultsTable] = {}
        self._histories: set[HistoryTable] = set()
        self._scores: dict[str | None, ScoreTable] = {}

    @classmethod
    def of(cls, results: pd.DataFrame | ResultsTable) -> ResultsTable:
        """Validate a data frame; return a table unchanged.

        Raises:
            AssayError: the argument is not a data frame, a column is missing, a value is not a number, a metric has values in
                several units (see `assay.analysis.stats.units`), or an item count or a chance level is impossible.
        """
        if isinstance(results, ResultsTable):
            return results
        require_frame(results, "results")
        if not len(results):  # if all runs are blocked or unfinished, the table may lack columns
            return cls(results)
        frame = with_columns(results, [*SCORE_KEY, "value"], "results")
        require_item_counts(frame, "results")
        table = to_one_unit(frame, "results")
        require_chance_levels(table.frame, "results")
        return cls(*table)

    def averaged(
        self, last: int, items: pd.DataFrame | ItemTable | None, *, required: Collection[str] | None = None
    ) -> tuple[ResultsTable, pd.DataFrame | ItemTable | None]:
        """Return the table and its items averaged over each run's last checkpoints (see `average_last`).

        Args:
            last: number of checkpoints.
            items: scores of single items, if known.
            required: the compared mixes; `excluded` of the table names each other mix without the checkpoints (default:
                every mix is required).
        """
        given = items.frame if isinstance(items, ItemTable) else items
        scores, averaged, excluded = average_last(self.frame, last, items=given, required=required)
        own = self if scores is self.frame else ResultsTable(scores, self.conversions, excluded)
        return own, items if averaged is given else averaged

    @cached_property
    def checkpoints(self) -> pd.DataFrame:
        """Rows of all checkpoints.

        Raises:
            AssayError: columns are missing, or a row has no tokens.
        """
        return with_columns(self.frame, [*SCORE_KEY, "tokens", "value"], "results")

    def select(self, rows: pd.Series[bool] | NDArray[np.bool_]) -> ResultsTable:
        """Return the table of the rows that a mask marks."""
        return ResultsTable(self.frame[rows], self.conversions, self.excluded)

    @cached_property
    def seeds_by_mix(self) -> dict[str, list[Any]]:
        """Sorted seeds of each mix, over all scales."""
        if not {"mix", "seed"} <= set(self.frame.columns):
            return {}
        runs = self.frame[["mix", "seed"]].drop_duplicates()
        return {str(mix): sorted(seeds.tolist(), key=seed_order) for mix, seeds in runs.groupby("mix")["seed"]}

    @cached_property
    def first_scale(self) -> Any:
        """The scale of the first row that has one; None if no row has one."""
        return next(iter(self.frame["scale"].dropna()), None) if "scale" in self.frame else None

    def require_units_of(self, history: HistoryTable) -> None:
        """Refuse a history in other units, once for all candidates (see `require_equal_units`).

        Raises:
            AssayError: the declared units of a metric differ.
        """
        if history not in self._histories:
            require_equal_units(self.frame, history.frame)
            self._histories.add(history)

    def fitting(self, history: HistoryTable, *, baseline: str, scale: str | None) -> HistoryTable:
        """Return the part of a history that was trained and evaluated like the baseline (see `HistoryTable.fitting`).

        The baseline stands for all mixes, because comparisons refuse a candidate with other tokens or settings.
        """
        if not len(self.frame):
            return history
        key = ("conditions", baseline, scale)
        if key not in self.derived:
            self.derived[key] = Conditions.of(self.rows_of_mixes_at(scale, [baseline]))
        return history.fitting(self.derived[key], scale if scale is not None else self.first_scale)

    @cached_property
    def metrics(self) -> frozenset[Metric]:
        """Task and metric of every score, over all scales."""
        if not {"task", "metric"} <= set(self.frame.columns):
            return frozenset()
        named = self.frame[["task", "metric"]].drop_duplicates()
        return frozenset((str(task), str(metric)) for task, metric in named.itertuples(index=False))

    @cached_property
    def _rows(self) -> dict[str, NDArray[np.intp]]:
        if "mix" not in self.frame:
            return {}
        return {str(mix): np.asarray(rows) for mix, rows in self.frame.groupby("mix").indices.items()}

    def of_mixes(self, mixes: Sequence[str]) -> pd.DataFrame:
        """Return the rows of some mixes, in the table's order."""
        parts = [self._rows[mix] for mix in dict.fromkeys(mixes) if mix in self._rows]
        return self.frame.iloc[np.sort(np.concatenate(parts))] if parts else self.frame.iloc[:0]

    def rows_at(self, scale: str | None) -> pd.DataFrame:
        """Return the rows of one scale, with all checkpoints.

        Raises:
            AssayError: columns are missing, the table lacks the scale, or the table has several scales and `scale` is
                None.
        """
        if scale not in self._at:
            frame = self.frame if len(self.frame) else with_columns(self.frame, [*SCORE_KEY, "value"], "results")
            self._at[scale] = at_scale(frame, scale)
        return self._at[scale]

    def rows_of_mixes_at(self, scale: str | None, mixes: Sequence[str]) -> pd.DataFrame:
        """Return the rows of some mixes at one scale, with all checkpoints, in the table's order.

        Raises:
            AssayError: as for `rows_at`.
        """
        if scale not in self._tables:
            self._tables[scale] = ResultsTable(self.rows_at(scale), self.conversions)
        return self._tables[scale].of_mixes(mixes)

    def scores_at(self, scale: str | None) -> ScoreTable:
        """Return the scores of one scale, with one score per mix, seed, task and metric.

        Raises:
            AssayError: as for `rows_at`, or a row is duplicated.
        """
        if scale not in self._scores:
            self._scores[scale] = ScoreTable(self.rows_at(scale))
        return self._scores[scale]
