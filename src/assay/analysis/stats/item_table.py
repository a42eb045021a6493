"""Sort and index item scores once, and return the paired items of two arms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from assay.analysis.stats.tables import ITEM_KEY, SCORE_KEY, Seed, as_floats, group_codes, plain_seed, with_columns
from assay.core.errors import Damaged, NotFound, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

AGREE = 1e-4
"""Tolerance between a score and the sum of its items.

Rounding of float32 sums causes smaller differences. A different set of items causes larger differences.
"""

Run = tuple[str, Seed, str, str]
"""A mix, a seed, a task and its metric."""


@dataclass(frozen=True)
class PairedItems:
    """The items of two arms for one metric."""

    baseline: NDArray[np.float64]
    """Values of the baseline; shape (seeds, items)."""
    candidate: NDArray[np.float64]
    weights: NDArray[np.float64]
    """Weights of the items; shape (items,)."""
    clusters: NDArray[np.intp]
    """Cluster numbers; shape (items,).

    The clusters are the groups of items. Without groups, each distinct item is a cluster, so that a duplicated item
    counts once.
    """


@dataclass(frozen=True)
class ArmItems:
    """The items of one arm for one metric."""

    values: NDArray[np.float64]
    """Values; shape (seeds, items)."""
    weights: NDArray[np.float64]
    """Weights of the items; shape (items,)."""
    clusters: NDArray[np.intp]
    """Cluster numbers; shape (items,); see `PairedItems`."""


@dataclass(frozen=True)
class _Index:
    """Rows sorted by run and metric, then by item and value, to align the items of two runs.

    If a benchmark contains an item twice, the copies are aligned too.
    """

    order: NDArray[np.intp]
    """(rows,): row numbers of the table in sorted order."""
    places: dict[Run, slice]
    items: NDArray[np.int64]
    """(rows,): item numbers in sorted order."""
    answers: NDArray[np.float64]
    """(rows,): values in sorted order."""
    weights: NDArray[np.float64]


class ItemTable:
    """Items of several mixes, seeds, tasks and metrics; validated and indexed at first use.

    Attributes:
        frame: the rows as given.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        """Take a frame without validation."""
        self.frame = frame
        self._clusters: dict[Run, NDArray[np.intp]] = {}
        self._item_sets: dict[Run, int | None] = {}
        self._arms: dict[tuple[Run, ...], ArmItems | None] = {}
        self._sets: dict[bytes, int] = {}

    @classmethod
    def of(cls, items: pd.DataFrame | ItemTable) -> ItemTable:
        """Wrap a data frame; return a table unchanged."""
        return items if isinstance(items, ItemTable) else cls(items)

    @cached_property
    def _rows(self) -> pd.DataFrame:
        return with_columns(self.frame, [*ITEM_KEY, "value"], "items")

    @cached_property
    def _index(self) -> _Index:
        import pandas as pd

        frame = self._rows
        runs, first = group_codes(frame, SCORE_KEY)
        items, _ = pd.factorize(frame["item"], sort=True)
        values = frame["value"].to_numpy(dtype=float)
        order = np.lexsort((values, items, runs))
        ends = np.append(np.searchsorted(runs[order], np.arange(len(first))), len(order))
        keys = zip(*(frame[column].iloc[first].tolist() for column in SCORE_KEY), strict=True)
        places = {
            (str(mix), plain_seed(seed), task, metric): slice(ends[number], ends[number + 1])
            for number, (mix, seed, task, metric) in enumerate(keys)
        }
        weights = as_floats(frame, "weight")[order] if "weight" in frame else np.ones(len(frame))
        return _Index(order, places, items[order], values[order], weights)

    def paired(
        self,
        scores: tuple[Mapping[Seed, float], Mapping[Seed, float]],
        task: str,
        metric: str,
        *,
        baseline: str,
        candidate: str,
        seeds: Sequence[Seed],
    ) -> PairedItems | None:
        """Return the paired items of two arms.

        Args:
            scores: scores of baseline and candidate by seed. The items must add up to these scores.
            task: the task's name.
            metric: the metric's name.
            baseline: the baseline's mix.
            candidate: the candidate's mix.
            seeds: seeds that both arms have.

        Returns:
            None if there are no items.

        Raises:
            AssayError: a column is missing, a value is not a number, arms or seeds answered different items, only some runs have
                items, or the items do not add up to the scores.
        """
        runs = [(mix, seed, task, metric) for mix in (baseline, candidate) for seed in seeds]
        item_sets = {self._item_set(run) for run in runs}
        if item_sets <= {None}:
            return None
        if len(item_sets) > 1:
            self._refuse_other_items(runs)
        values = np.stack([self._index.answers[self._index.places[run]] for run in runs])
        given = self._index.weights[self._index.places[runs[0]]]
        clusters = self._labels(runs[0])
        recorded = np.array([arm[seed] for arm in scores for seed in seeds])
        weights = _weights_of_score(values, recorded, given, clusters)
        if weights is None:
            score = float(values[0] @ given / given.sum())
            raise Damaged(
                f"the items of {task} {metric} do not add up to the scores: for {baseline} seed {seeds[0]}, the items give"
                f" {score:.6g} and the recorded score is {recorded[0]:.6g}.",
                fix="Use results and items of one evaluation, with the weights of all items.",
            )
        return PairedItems(values[: len(seeds)], values[len(seeds) :], weights, clusters)

    def of_arm(self, scores: Mapping[Seed, float], task: str, metric: str, *, mix: str) -> ArmItems | None:
        """Return the items of one arm, independent of other arms.

        Args:
            scores: scores of the arm by seed. Seeds without items, or whose items differ from those of the first seed, are
                excluded.
            task: the task's name.
            metric: the metric's name.
            mix: the arm's mix.

        Returns:
            None if there are no items, or if the items do not add up to the scores.
        """
        runs = [(mix, seed, task, metric) for seed in scores]
        runs = [run for run in runs if self._item_set(run) is not None]
        runs = [run for run in runs if self._item_set(run) == self._item_set(runs[0])]
        key = tuple(runs)
        if key not in self._arms:
            self._arms[key] = self._arm(runs, scores) if runs else None
        return self._arms[key]

    def _arm(self, runs: Sequence[Run], scores: Mapping[Seed, float]) -> ArmItems | None:
        values = np.stack([self._index.answers[self._index.places[run]] for run in runs])
        given, clusters = self._index.weights[self._index.places[runs[0]]], self._labels(runs[0])
        weights = _weights_of_score(values, np.array([scores[run[1]] for run in runs]), given, clusters)
        return None if weights is None else ArmItems(values, weights, clusters)

    def _item_set(self, run: Run) -> int | None:
        """Return a number that identifies the set of a run's items; None without items."""
        if run not in self._item_sets:
            place = self._index.places.get(run)
            known = None if place is None else self._index.items[place].tobytes()
            self._item_sets[run] = None if known is None else self._sets.setdefault(known, len(self._sets))
        return self._item_sets[run]

    def _labels(self, run: Run) -> NDArray[np.intp]:
        """Return the cluster numbers of a run's items, computed once per run."""
        if run not in self._clusters:
            names = self._cluster_names(self._index.order[self._index.places[run]])
            self._clusters[run] = np.unique(np.array(names, dtype=str), return_inverse=True)[1]
        return self._clusters[run]

    def _cluster_names(self, places: NDArray[np.intp]) -> list[str]:
        rows = self._rows.iloc[places]
        groups: list[str | None] = [None] * len(rows)
        if "group" in rows:
            known = zip(rows["group"], rows["group"].notna(), strict=True)
            groups = [str(group) if there else None for group, there in known]
        # A single group for all items only names the task. As a cluster, this group would be the only one.
        named = set(groups) if len(set(groups)) > 1 else set()
        pairs = zip(groups, rows["item"], strict=True)
        return [f"item {item}" if g is None or g not in named else f"group {g}" for g, item in pairs]

    def _refuse_other_items(self, runs: Sequence[Run]) -> None:
        what = " ".join(runs[0][2:])
        named = {run: f"{run[0]} seed {run[1]}" for run in runs}
        without = [named[run] for run in runs if self._item_set(run) is None]
        if without:
            raise NotFound(
                f"{what}: {', '.join(without)} has no items, but other runs have items.",
                fix="Evaluate these runs again.",
            )
        first = self._texts(runs[0])
        other = next(run for run in runs if self._item_set(run) != self._item_set(runs[0]))
        texts = self._texts(other)
        odd = sorted(set(first) ^ set(texts), key=str)
        example = f", such as {str(odd[0])[:24]!r}" if odd else ""
        raise Refused(
            f"{what}: {named[runs[0]]} answered {len(first)} items and {named[other]} answered {len(texts)};"
            f" {len(odd)} items or prompts occur in only one of the two runs{example}.",
            fix="Evaluate all arms with one version of the suite.",
        )

    def _texts(self, run: Run) -> list[object]:
        return list(self._rows["item"].iloc[self._index.order[self._index.places[run]]])


def _weights_of_score(
    values: NDArray[np.float64],
    recorded: NDArray[np.float64],
    given: NDArray[np.float64],
    labels: NDArray[np.intp],
) -> NDArray[np.float64] | None:
    """Return the item weights that reproduce every score.

    These are the given weights, or weights that average the clusters (the tasks of a group): equally, or by the number of
    their items, as lm-eval averages bits per byte of tasks whose documents differ in length.
    """

    def agree(weights: NDArray[np.float64]) -> bool:
        return np.allclose(values @ weights / weights.sum(), recorded, rtol=AGREE, atol=AGREE)

    macro = given / np.bincount(labels, weights=given)[labels]
    by_items = macro * np.bincount(labels)[labels]
    return next((weights for weights in (given, macro, by_items) if agree(weights)), None)
