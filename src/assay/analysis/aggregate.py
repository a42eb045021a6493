"""Add the policy's aggregate to the results as one more metric of each run.

The aggregate is tested before all single primary metrics. Under `require: any`, a primary metric is claimed to be better only
if the aggregate is better (a fixed sequence, so that the aggregate gets the full alpha; Westfall and Krishen 2001, J. Stat.
Plan. Inference 99; Dmitrienko and Tamhane 2007, Pharm. Stat. 6).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.analysis.stats.aggregate_score import (
    AggregatePart,
    Basis,
    SeedSD,
    aggregate_scores,
    part_scores,
    resolve_parts,
    seed_sds,
    variance_factor,
)
from assay.analysis.stats.history import HistoryTable
from assay.analysis.stats.paired import Estimate, Part
from assay.analysis.stats.results_table import ResultsTable
from assay.analysis.stats.tables import Metric, plain_seed, scale_key
from assay.config.reason import Code, Reason
from assay.core.errors import Refused

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from assay.config.aggregate import Aggregate
    from assay.config.policy import Policy


@dataclass(frozen=True, kw_only=True)
class AggregatePartShown:
    """A part of an aggregate, for reports."""

    task: str
    metric: str
    weight: float
    """Weight in the aggregate; the weights of all parts sum to 1."""
    seed_sd: float
    """SD between seeds by which the part's score is divided; NaN without standardization."""


@dataclass(frozen=True, kw_only=True)
class AggregateShown:
    """An aggregate, for reports."""

    task: str
    metric: str
    basis: Basis
    """Origin of the SDs: `history`, `arms` or `none`."""
    variance_factor: float
    """Factor of the aggregate's variance that accounts for estimated SDs."""
    parts: tuple[AggregatePartShown, ...]


@dataclass(frozen=True, kw_only=True)
class AggregatedTables:
    """The tables of a comparison, with the rows of the policy's aggregate.

    Attributes:
        results: the results.
        history: the history; None without one.
        policy: the policy, with the aggregate as its first primary metric.
        aggregate: the aggregate; None if the policy has none, or if its SDs are unknown.
        parts: the parts of the aggregate.
        sds: SDs of the parts by name; empty without standardization.
        basis: origin of the SDs.
        excluded: reasons for excluded seeds by mix.
        problems: reasons that concern all mixes: constant parts, or why there is no aggregate.
    """

    results: ResultsTable
    history: HistoryTable | None
    policy: Policy
    aggregate: Aggregate | None = None
    parts: tuple[AggregatePart, ...] = ()
    sds: Mapping[str, SeedSD] = field(default_factory=dict)
    basis: Basis = "none"
    excluded: Mapping[str, tuple[Reason, ...]] = field(default_factory=dict)
    problems: tuple[Reason, ...] = ()

    @property
    def metric(self) -> Metric | None:
        """Task and metric of the aggregate; None without an aggregate."""
        return None if self.aggregate is None else (self.aggregate.task, self.aggregate.result_metric)

    @property
    def members(self) -> tuple[Metric, ...]:
        """Tasks and metrics whose scores enter the aggregate."""
        return tuple((task, part.metric) for part in self.parts for task in part.tasks)

    @property
    def factor(self) -> float:
        """Factor of the aggregate's variance that accounts for estimated SDs."""
        return variance_factor(self.parts, self.sds) if self.sds else 1.0

    @property
    def shown(self) -> AggregateShown | None:
        """The aggregate for reports; None without an aggregate."""
        if self.aggregate is None:
            return None
        return AggregateShown(
            task=self.aggregate.task,
            metric=self.aggregate.result_metric,
            basis=self.basis,
            variance_factor=self.factor,
            parts=tuple(
                AggregatePartShown(
                    task=part.name,
                    metric=part.metric,
                    weight=part.weight,
                    seed_sd=self.sds[part.name].sd if self.sds else math.nan,
                )
                for part in self.parts
            ),
        )

    @property
    def scope(self) -> tuple[Reason, ...]:
        """How the aggregate was formed, as a limit of the verdict."""
        own = self.aggregate
        if own is None:
            return ()
        figures = {
            "n_parts": len(self.parts),
            "basis": self.basis,
            "factor": self.factor,
            "weighted": len({part.weight for part in self.parts}) > 1,
        }
        return (Reason(code=Code.SCOPE_AGGREGATE, subject=own.task, metric=own.result_metric, figures=figures),)

    def adjust(self, estimate: Estimate, items: Mapping[Metric, Part]) -> Estimate:
        """Correct the variance of the aggregate's estimate.

        The seeds' variance is multiplied by `factor`. The variance from the choice of items is added, as the sum over tasks:
        the items of two tasks are independent.

        Args:
            estimate: the estimate from one scalar per run.
            items: variances of the single effects from the choice of items, by task and metric; empty without items.
        """
        if not estimate.parts:
            return estimate
        seeds, *others = estimate.parts
        own = _item_part([(self._coefficient(part), part) for part in self.parts], items)
        return estimate._replace(
            parts=(seeds._replace(variance=seeds.variance * self.factor), *others, *([] if own is None else [own]))
        )

    def standardized_gain(self, task: str, metric: str, effect: float) -> float:
        """Return the gain of a member in the aggregate's unit; NaN for a task that is no member."""
        part = next((part for part in self.parts if task in part.tasks and metric == part.metric), None)
        if part is None:
            return math.nan
        return part.sign * effect / (self.sds[part.name].sd if self.sds else 1.0)

    def _coefficient(self, part: AggregatePart) -> float:
        sd = self.sds[part.name].sd if self.sds else 1.0
        return part.weight / sd / len(part.tasks)


def _item_part(terms: Sequence[tuple[float, AggregatePart]], items: Mapping[Metric, Part]) -> Part | None:
    """Return the variance component from the choice of items; None without items."""
    known = [
        (coefficient**2 * items[task, part.metric].variance, items[task, part.metric].df)
        for coefficient, part in terms
        for task in part.tasks
        if (task, part.metric) in items
    ]
    if not known:
        return None
    return Part(math.fsum(variance for variance, _ in known), min(df for _, df in known))


def with_aggregate(
    results: ResultsTable, history: HistoryTable | None, policy: Policy, *, baseline: str
) -> AggregatedTables:
    """Add the policy's aggregate to the results and the history.

    Args:
        results: results of the compared mixes, averaged over checkpoints as the policy requires.
        history: results of past mixes; None without a history.
        policy: names the aggregate.
        baseline: the mix whose mean score counts as 0.

    Returns:
        The given tables if the policy names no aggregate, or if the aggregate was already added.

    Raises:
        NotFound: the results have no score of a task of the aggregate.
        Refused: the results contain a task with the name of the aggregate.
    """
    own = policy.aggregate
    if own is None or not len(results.frame):
        return AggregatedTables(results=results, history=history, policy=policy)
    key = ("aggregate", repr(own), policy.proxy_scale, baseline, id(history))
    if key not in results.derived:
        added = _add(results, history, own, policy.proxy_scale, baseline)
        # The entry keeps the history, so that no other table gets its id.
        results.derived[key] = (added, history)
        if added.aggregate is not None:
            again = ("aggregate", repr(own), policy.proxy_scale, baseline, id(added.history))
            added.results.derived[again] = (added, added.history)
    known: _Added = results.derived[key][0]
    if known.aggregate is None:
        return AggregatedTables(results=results, history=history, policy=policy, problems=known.problems)
    return AggregatedTables(
        results=known.results,
        history=known.history,
        policy=policy.with_aggregate,
        aggregate=own,
        parts=known.parts,
        sds=known.sds,
        basis=known.basis,
        excluded=known.excluded,
        problems=known.problems,
    )


@dataclass(frozen=True, kw_only=True)
class _Added:
    """The tables of an aggregate, independent of the other settings of a policy."""

    results: ResultsTable
    history: HistoryTable | None
    aggregate: Aggregate | None
    parts: tuple[AggregatePart, ...]
    sds: Mapping[str, SeedSD]
    basis: Basis
    excluded: Mapping[str, tuple[Reason, ...]]
    problems: tuple[Reason, ...]


def _add(
    results: ResultsTable, history: HistoryTable | None, own: Aggregate, proxy_scale: str | None, baseline: str
) -> _Added:
    rows = results.rows_at(proxy_scale)
    if (rows["task"] == own.task).any():
        raise Refused(
            f"the results contain a task {own.task!r}, which is the name of the policy's aggregate.",
            fix="Rename the aggregate, or remove the rows of the task.",
        )
    metrics = frozenset(zip(rows["task"].astype(str), rows["metric"].astype(str), strict=True))
    parts = resolve_parts(own, metrics)
    scores = part_scores(rows, parts)
    scale = next(iter(rows["scale"].dropna()), None) if "scale" in rows else None
    past = None if history is None else _past_scores(history, parts, scale, set(map(str, rows["mix"].unique())))
    sds: dict[str, SeedSD] = {}
    basis: Basis = "none"
    problems: list[Reason] = []
    if own.standardize == "seed_sd":
        sds, basis = seed_sds(parts, scores, past)
        problems = _problems(own, parts, sds)
        if any(reason.code is Code.AGGREGATE_UNKNOWN for reason in problems):
            return _Added(
                results=results, history=history, aggregate=None, parts=parts, sds=sds, basis=basis, excluded={},
                problems=tuple(problems),
            )  # fmt: skip
    center = _center(scores, parts, baseline)
    excluded = _excluded(own, scores, parts)

    def means(of_runs: pd.DataFrame) -> NDArray[np.float64]:
        return aggregate_scores(of_runs, parts, sds=sds or None, center=center)

    extended = ResultsTable(_extended(results.frame, scores, own, means(scores)), results.conversions)
    longer = history
    if history is not None and past is not None and len(past):
        longer = HistoryTable(_extended(history.frame, past, own, means(past)), history.conversions, history.excluded)
    return _Added(
        results=extended, history=longer, aggregate=own, parts=parts, sds=sds, basis=basis, excluded=excluded,
        problems=tuple(problems),
    )  # fmt: skip


def _past_scores(
    history: HistoryTable, parts: Sequence[AggregatePart], scale: Any, compared: set[str]
) -> pd.DataFrame | None:
    """Return the parts' scores of past mixes at the proxy; None if a part or the scale is unknown."""
    frame = history.frame
    if not set(_metrics(parts)) <= set(zip(frame["task"], frame["metric"], strict=True)):
        return None
    frame = frame[~frame["mix"].astype(str).isin(compared)]
    if "scale" in frame and frame["scale"].notna().any():
        keys = frame["scale"].map(scale_key)
        if scale is None and len(set(keys)) > 1:
            return None
        frame = frame if scale is None else frame[(keys == scale_key(scale)).to_numpy(dtype=bool)]
    scores = part_scores(frame, parts)
    return scores if len(scores) else None


def _metrics(parts: Sequence[AggregatePart]) -> list[Metric]:
    return [(task, part.metric) for part in parts for task in part.tasks]


def _problems(own: Aggregate, parts: Sequence[AggregatePart], sds: Mapping[str, SeedSD]) -> list[Reason]:
    """State parts without variation between seeds, and parts whose SD is unknown."""

    def named(chosen: list[AggregatePart]) -> dict[str, Any]:
        return {"metrics": [{"task": part.name, "metric": part.metric} for part in chosen], "n_parts": len(parts)}

    unknown = [part for part in parts if not sds[part.name].sd > 0]
    if unknown:
        constant = all(sds[part.name].measured == 0 for part in unknown)
        figures = {**named(unknown), "constant": constant}
        return [Reason(code=Code.AGGREGATE_UNKNOWN, subject=own.task, metric=own.result_metric, figures=figures)]
    constant_parts = [part for part in parts if sds[part.name].measured == 0]
    if constant_parts:
        figures = named(constant_parts)
        return [Reason(code=Code.AGGREGATE_CONSTANT, subject=own.task, metric=own.result_metric, figures=figures)]
    return []


def _center(scores: pd.DataFrame, parts: Sequence[AggregatePart], baseline: str) -> dict[str, float]:
    """Return the baseline's mean score of each part; 0 if the baseline has no score."""
    mixes = scores.index.get_level_values("mix").astype(str)
    center = {}
    for part in parts:
        values = scores[part.name].to_numpy(dtype=float)[np.asarray(mixes == baseline)]
        finite = values[np.isfinite(values)]
        center[part.name] = float(finite.mean()) if len(finite) else 0.0
    return center


def _excluded(own: Aggregate, scores: pd.DataFrame, parts: Sequence[AggregatePart]) -> dict[str, tuple[Reason, ...]]:
    """State the seeds that the aggregate lacks, by mix, with the missing tasks."""
    lacking: dict[str, dict[tuple[int, ...], list[Any]]] = {}
    missing = np.isnan(scores.to_numpy(dtype=float))
    mixes, seeds = (scores.index.get_level_values(name) for name in ("mix", "seed"))
    for row in np.flatnonzero(missing.any(axis=1)).tolist():
        which = tuple(np.flatnonzero(missing[row]).tolist())
        lacking.setdefault(str(mixes[row]), {}).setdefault(which, []).append(plain_seed(seeds[row]))
    return {
        mix: tuple(
            Reason(
                code=Code.AGGREGATE_SEEDS_EXCLUDED,
                subject=mix,
                figures={
                    "aggregate": own.task,
                    "seeds": sorted(seeds_of, key=str),
                    "metrics": [{"task": parts[i].name, "metric": parts[i].metric} for i in which],
                },
            )
            for which, seeds_of in by_parts.items()
        )
        for mix, by_parts in lacking.items()
    }


def _extended(
    frame: pd.DataFrame,
    scores: pd.DataFrame,
    own: Aggregate,
    values: NDArray[np.float64],
) -> pd.DataFrame:
    """Append the aggregate of each run to a table. A run that lacks a part gets no row.

    Args:
        frame: the table.
        scores: scores of the parts by run.
        own: the aggregate.
        values: the aggregate of each run (see `aggregate_scores`).
    """
    import pandas as pd

    rows = scores.index.to_frame(index=False).assign(
        task=own.task, metric=own.result_metric, value=np.where(np.isinf(values), math.nan, values)
    )[~np.isnan(values)]
    if "tokens" in frame and len(rows):
        run = [name for name in scores.index.names if name is not None]
        rows = rows.merge(
            frame.groupby(run, dropna=False, observed=True)["tokens"].max().reset_index(), on=run, how="left"
        )
    return pd.concat([frame, rows], ignore_index=True)
