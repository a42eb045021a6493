"""Compute breakdowns in addition to the verdict: average ranks, parts of a task, sources.

Breakdowns have no vote, so they never change a verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.analysis.compare import compare
from assay.analysis.comparison import Comparison
from assay.analysis.stats.paired import over_seeds
from assay.analysis.stats.results_table import ResultsTable
from assay.config.policy import Policy, Target
from assay.config.suite import VALIDATION
from assay.core.errors import NotFound
from assay.core.serde import json_shape, to_json

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

FEWEST = 3
"""Minimum number of seeds for the interval of an average rank. With two seeds, the interval exceeds the range of ranks."""


@dataclass(frozen=True, kw_only=True)
class AverageRank:
    """The rank of a mix among the mixes of a sweep, averaged over tasks.

    Attributes:
        mix: name of the mix.
        rank: mean over seeds of the mix's average rank; 1 is the best. Mixes with equal scores get the mean of their
            ranks.
        ci_low: lower end of the 95% interval; NaN with too few seeds, or if all seeds have the same rank.
        ci_high: upper end of the interval.
        by_seed: the average rank of each seed.
    """

    mix: str
    rank: float
    ci_low: float
    ci_high: float
    by_seed: dict[int | str, float]


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The average ranks of a sweep's mixes.

    Attributes:
        ranks: best first.
        metrics: the averaged metrics, as `task metric`. Each task has the same weight, for any number of its metrics.
        note: sentences on the excluded metrics and seeds, and on the meaning of the interval.
    """

    ranks: tuple[AverageRank, ...]
    metrics: tuple[str, ...]
    note: str


@json_shape(
    {
        "task": "task",
        "categories": lambda parts: [_shown(c) for c in parts.categories],
        "subjects": lambda parts: [_shown(c) for c in parts.subjects],
    }
)
@dataclass(frozen=True, kw_only=True)
class Parts:
    """Comparisons of one candidate on the parts of a task.

    Attributes:
        task: the whole task, such as `mmlu`.
        categories: comparisons on groups of parts, with items clustered by part. `q` is adjusted over the groups.
        subjects: comparisons on single parts, worst first. `q` is adjusted over the parts (Benjamini and Hochberg).
    """

    task: str
    categories: tuple[Comparison, ...]
    subjects: tuple[Comparison, ...]


def average_ranks(scores: pd.DataFrame, comparisons: Sequence[Comparison], *, mixes: Sequence[str]) -> Ranks:
    """Rank the mixes of a sweep by every metric with signal and a known direction, and average the ranks.

    The average is over the metrics of each task first, and over tasks second. A run is ranked among the runs of the
    same seed. The mean over seeds estimates the expected rank of a run of the mix. Its interval is Student's t interval
    over the seeds, clipped to the range of ranks. A bootstrap of three seeds gives an interval that is too narrow: 25%
    of differences without an effect are significant at a nominal 5% (see the log).

    Args:
        scores: long results with columns `mix, seed, task, metric, value`, as returned by
            `assay.analysis.results.collect`.
        comparisons: comparisons of any of the mixes. Metrics without signal or without a known direction are excluded, as are
            parts of a task that is present as a whole. The note names metrics without a known direction.
        mixes: the mixes to rank. A seed that lacks a metric for one mix is excluded for all mixes.

    Raises:
        AssayError: no seed has every metric of every mix.
    """
    better = _ranked_by(comparisons)
    table = scores[scores["mix"].isin(mixes) & np.isfinite(scores["value"].to_numpy(dtype=float))]
    wide = table.pivot_table(index=["seed", "mix"], columns=["task", "metric"], values="value", aggfunc="mean")
    metrics = [metric for metric in better if metric in wide.columns]
    wide = wide[metrics].dropna()
    counts = wide.groupby(level="seed").size()
    seeds = [seed for seed in counts.index if counts[seed] == len(mixes)]
    if not metrics or not seeds or len(mixes) < 2:
        raise NotFound(
            "average ranks: no seed has all metrics of all mixes.", fix="Run `assay status` to see the missing runs."
        )
    signs = [-1.0 if better[metric] == "higher" else 1.0 for metric in metrics]
    by_seed = {seed: _ranks_of(wide.loc[seed].loc[list(mixes)], signs) for seed in seeds}
    averages = [
        _averaged(mix, {s: float(ranks[i]) for s, ranks in by_seed.items()}, len(mixes)) for i, mix in enumerate(mixes)
    ]
    tasks = len({task for task, _ in metrics})
    note = f"Average over {tasks} tasks and {len(seeds)} seeds; equal scores share the mean of their ranks. " + (
        f"No interval: it requires {FEWEST} seeds." if len(seeds) < FEWEST else "Intervals are 95%, over seeds."
    )
    undirected = sorted({f"{c.task} {c.metric}" for c in comparisons if c.better is None})
    if undirected:
        note += f" Excluded, because their direction is unknown: {', '.join(undirected)}."
    return Ranks(
        ranks=tuple(sorted(averages, key=lambda average: average.rank)),
        metrics=tuple(f"{task} {metric}" for task, metric in metrics),
        note=note,
    )


def _ranked_by(comparisons: Sequence[Comparison]) -> dict[tuple[str, str], str]:
    """Return the ranked metrics with their direction of improvement."""
    tasks = {c.task for c in comparisons}
    parts = {task for task in tasks if any(task.startswith(f"{whole}_") for whole in tasks)}
    silent = {(c.task, c.metric) for c in comparisons if c.signal == "no signal"}
    kept = (c for c in comparisons if c.task not in parts and (c.task, c.metric) not in silent)
    return {(c.task, c.metric): c.better for c in kept if c.better is not None}


def _ranks_of(scores: pd.DataFrame, signs: Sequence[float]) -> NDArray[np.float64]:
    """Average the ranks of the runs of one seed; shape (runs,).

    Args:
        scores: one row per run, one column per metric.
        signs: sign of each metric, so that the product of score and sign is better if lower.
    """
    ranks = (scores * list(signs)).rank(method="average")
    values: NDArray[np.float64] = ranks.T.groupby(level="task").mean().mean().to_numpy()
    return values


def _averaged(mix: str, by_seed: dict[int | str, float], mixes: int) -> AverageRank:
    estimate = over_seeds(list(by_seed.values()))
    low = high = math.nan
    if len(by_seed) >= FEWEST and estimate.parts:
        interval = estimate.interval(0.95)
        low, high = max(interval.low, 1.0), min(interval.high, float(mixes))
    return AverageRank(mix=mix, rank=estimate.effect, ci_low=low, ci_high=high, by_seed=by_seed)


def by_part(
    scores: pd.DataFrame | ResultsTable,
    items: pd.DataFrame,
    policy: Policy,
    *,
    baseline: str,
    candidate: str,
    task: str,
    metric: str,
    members: Mapping[str, Sequence[str]],
) -> Parts:
    """Compare one candidate on each part of a task and on groups of parts.

    For MMLU, the parts are its subjects and the groups are its categories.

    Args:
        scores: long results, as for `assay.analysis.compare.compare`. Each part is a separate task, whose name begins with the
            name of the whole task.
        items: items behind the scores, as for `assay.analysis.compare.compare`.
        policy: provides alpha. Its roles are ignored, because parts do not vote.
        baseline: the mix to compare with.
        candidate: the changed mix.
        task: the whole task.
        metric: metric of the task and its parts.
        members: the parts of each category, by the category's task name; categories without scores are ignored.

    Raises:
        AssayError: the task has no parts with this metric.
    """
    frame = ResultsTable.of(scores).frame
    own = ResultsTable(frame[(frame["metric"] == metric) & frame["task"].str.startswith(f"{task}_")])
    known = set(own.frame["task"])
    categories = {name: [part for part in parts if part in known] for name, parts in members.items() if name in known}
    subjects = sorted(known - set(members))
    if not subjects:
        raise NotFound(f"{task} has no parts with a score of {metric}.", fix="Name another task or metric.")
    own_items = items[items["metric"] == metric]
    better = policy.direction(task, metric)
    silent = replace(
        policy,
        primary=(),
        guardrails=(),
        target=Target(scale="none", task=task, metric=metric, better=better or "higher"),  # the target is not predicted
        directions={metric: better} if better else {},
    )

    def compared(names: Sequence[str], rows_of_items: pd.DataFrame) -> tuple[Comparison, ...]:
        if not names:
            return ()
        rows = own.select(own.frame["task"].isin(names))
        return tuple(compare(rows, silent, baseline=baseline, candidates=[candidate], items=rows_of_items))

    by_subject = compared(subjects, own_items[own_items["task"].isin(subjects) & own_items["group"].isna()])
    return Parts(
        task=task,
        categories=compared(list(categories), _grouped(own_items, categories)),
        subjects=tuple(sorted(by_subject, key=lambda c: math.inf if c.better is None else c.gain)),
    )


def _grouped(items: pd.DataFrame, categories: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Assign the parts' items to their category, clustered by part."""
    category = {part: name for name, parts in categories.items() for part in parts}
    own = items[items["task"].isin(list(category)) & items["group"].isna()]
    return own.assign(group=own["task"], task=own["task"].map(category))


def by_source(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Select the comparisons of bits per byte on each source's held-out text, worst first."""
    own = [c for c in comparisons if c.task.startswith(VALIDATION)]
    return tuple(sorted(own, key=lambda c: c.gain))


def standard_error(c: Comparison) -> float:
    """Return the standard error of a comparison's effect, clustered as its interval is; NaN if unknown."""
    if not c.n_seeds:
        return math.nan
    counts = len(c.baseline_seeds) or c.n_seeds, len(c.candidate_seeds) or c.n_seeds
    return math.sqrt(c.noise_moderated**2 / 2 * sum(1 / n for n in counts) + c.item_variance)


def _shown(c: Comparison) -> dict[str, Any]:
    return {**to_json(c), "standard_error": standard_error(c)}
