"""Effects that people ask for beside the verdict: average ranks, subjects of a task, sources. Nothing here votes.

Frames and comparisons in, named results out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from assay.compare import Comparison, compare
from assay.errors import AssayError
from assay.stats.paired import over_seeds
from assay.suite import VALIDATION, Policy, Target

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

FEWEST = 3
"""Seeds from which an average rank has an interval: with two, one degree of freedom makes it wider than all the ranks there are."""


@dataclass(frozen=True, kw_only=True)
class AverageRank:
    """Where a mix stands among the mixes of a sweep, on average over tasks; 1 is the best.

    Attributes:
        mix: its name.
        rank: mean over seeds of its average rank; mixes that score the same share the mean of their places.
        ci_low: lower end of the 95% interval; NaN where the seeds show no noise.
        ci_high: upper end.
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
        ranks: the best first.
        metrics: what they are averaged over, as `task metric`; the metrics of a task count as one.
        note: what was left out, and what the interval is.
    """

    ranks: tuple[AverageRank, ...]
    metrics: tuple[str, ...]
    note: str

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"ranks": [_plain(vars(one)) for one in self.ranks], "metrics": list(self.metrics), "note": self.note}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """One candidate on the parts of a task.

    Attributes:
        task: the whole, such as `mmlu`.
        categories: its groups of parts, questions clustered by part; `q` is over these.
        subjects: its parts, the worst first; `q` is by Benjamini and Hochberg over these.
    """

    task: str
    categories: tuple[Comparison, ...]
    subjects: tuple[Comparison, ...]

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "task": self.task,
            "categories": [_shown(c) for c in self.categories],
            "subjects": [_shown(c) for c in self.subjects],
        }


def average_ranks(scores: pd.DataFrame, comparisons: Sequence[Comparison], *, mixes: Sequence[str]) -> Ranks:
    """Rank the mixes of a sweep by every metric that has signal, and average: first over a task's metrics, then over tasks.

    A run is ranked among the runs of its own seed. The mean over seeds is then the rank that a run of the mix is to be
    expected at, and its interval Student's over the seeds, cut at the ranks there are. Resampling three seeds would be
    narrower than the truth: it calls 25% of differences without an effect significant at a nominal 5% (see the log).

    Args:
        scores: `mix, seed, task, metric, value`, as `assay.results.collect` has them.
        comparisons: of any of the mixes; metrics without signal, and parts of a task that is there as a whole, are left out.
        mixes: those to rank; of each, seeds that lack a metric are left out for all.

    Raises:
        AssayError: no seed has every metric of every mix.
    """
    better = _ranked_by(comparisons)
    table = scores[scores["mix"].isin(mixes)]
    wide = table.pivot_table(index=["seed", "mix"], columns=["task", "metric"], values="value", aggfunc="mean")
    metrics = [metric for metric in better if metric in wide.columns]
    wide = wide[metrics].dropna()
    counts = wide.groupby(level="seed").size()
    seeds = [seed for seed in counts.index if counts[seed] == len(mixes)]
    if not metrics or not seeds or len(mixes) < 2:
        raise AssayError(
            "no seed has all metrics of all mixes, so that nothing can be ranked.", fix="See `assay status`."
        )
    signs = [-1.0 if better[metric] == "higher" else 1.0 for metric in metrics]
    by_seed = {seed: _ranks_of(wide.loc[seed].loc[list(mixes)], signs) for seed in seeds}
    found = [
        _averaged(mix, {s: float(ranks[i]) for s, ranks in by_seed.items()}, len(mixes)) for i, mix in enumerate(mixes)
    ]
    tasks = len({task for task, _ in metrics})
    note = f"Average over {tasks} tasks and {len(seeds)} seeds; equal scores share the mean of their places. " + (
        f"No interval: that takes {FEWEST} seeds." if len(seeds) < FEWEST else "Intervals are 95%, over seeds."
    )
    return Ranks(
        ranks=tuple(sorted(found, key=lambda one: one.rank)),
        metrics=tuple(f"{task} {metric}" for task, metric in metrics),
        note=note,
    )


def _ranked_by(comparisons: Sequence[Comparison]) -> dict[tuple[str, str], str]:
    """The metrics that count, with the direction that is better."""
    tasks = {c.task for c in comparisons}
    parts = {task for task in tasks if any(task.startswith(f"{whole}_") for whole in tasks)}
    silent = {(c.task, c.metric) for c in comparisons if c.signal == "no signal"}
    kept = (c for c in comparisons if c.task not in parts and (c.task, c.metric) not in silent)
    return {(c.task, c.metric): c.better for c in kept}


def _ranks_of(one: pd.DataFrame, signs: Sequence[float]) -> NDArray[np.float64]:
    """Average ranks of one seed's runs, a row each; metrics times their signs are better the lower they are."""
    ranks = (one * list(signs)).rank(method="average")
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
    scores: pd.DataFrame,
    items: pd.DataFrame,
    policy: Policy,
    *,
    baseline: str,
    candidate: str,
    task: str,
    metric: str,
    members: Mapping[str, Sequence[str]],
) -> Parts:
    """One candidate on each part of a task, and on groups of parts: MMLU's subjects, and its four categories.

    Args:
        scores: as for `assay.compare.compare`; parts are tasks of their own there, named after the whole.
        items: their questions.
        policy: its alpha; nothing votes.
        baseline: the mix to measure against.
        candidate: the changed mix.
        task: the whole.
        metric: of the whole and its parts.
        members: the parts of each category, by the category's task name; categories that were not scored are left out.

    Raises:
        AssayError: the task has no parts with this metric.
    """
    own = scores[(scores["metric"] == metric) & scores["task"].str.startswith(f"{task}_")]
    known = set(own["task"])
    categories = {name: [part for part in parts if part in known] for name, parts in members.items() if name in known}
    subjects = sorted(known - set(members))
    if not subjects:
        raise AssayError(f"{task} has no parts that were scored by {metric}.", fix="Name another task or metric.")
    questions = items[items["metric"] == metric]
    silent = replace(
        policy, primary=(), guardrails=(), target=Target(scale="none", task=task, metric=metric, better="higher")
    )

    def compared(names: Sequence[str], asked: pd.DataFrame) -> tuple[Comparison, ...]:
        if not names:
            return ()
        rows = own[own["task"].isin(names)]
        return tuple(compare(rows, silent, baseline=baseline, candidates=[candidate], items=asked))

    found = compared(subjects, questions[questions["task"].isin(subjects) & questions["group"].isna()])
    return Parts(
        task=task,
        categories=compared(list(categories), _grouped(questions, categories)),
        subjects=tuple(sorted(found, key=lambda c: c.gain)),
    )


def _grouped(questions: pd.DataFrame, categories: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The questions of parts under the name of their category, clustered by part."""
    category = {part: name for name, parts in categories.items() for part in parts}
    own = questions[questions["task"].isin(list(category)) & questions["group"].isna()]
    return own.assign(group=own["task"], task=own["task"].map(category))


def by_source(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """What a candidate does to the bits per byte of each source's held-out text, the worst first."""
    own = [c for c in comparisons if c.task.startswith(VALIDATION)]
    return tuple(sorted(own, key=lambda c: c.gain))


def standard_error(c: Comparison) -> float:
    """Standard error of a comparison's effect, clustered as its interval is; NaN where the noise cannot be known."""
    return math.sqrt(c.noise_moderated**2 / c.n_seeds + c.item_variance) if c.n_seeds else math.nan


def _shown(c: Comparison) -> dict[str, Any]:
    return {**c.to_mapping(), **_plain({"standard_error": standard_error(c)})}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values where NaN is null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values.items()
    }
