"""Form the weighted mean of standardized task scores: one scalar per run.

Three seeds do not determine the covariance of 30 tasks. The mean over tasks is therefore formed for each run first. The
SD of these scalars between seeds contains the covariance: for perfectly correlated tasks, the mean has the noise of one
task, and for independent tasks 1 / sqrt(tasks) of it. The test of one metric, on n - 1 degrees of freedom, is then exact for
fixed weights.

Weights that depend on the tested runs are not fixed. A task with a small SD by chance gets a large weight and lowers the
aggregate's variance, but its mean is as noisy as before. With SDs from two arms of three seeds, a nominal 5% becomes
7-9%. Two measures correct this:

- With enough replicates in the history, the SDs come from the history alone, and the test is exact.
- Otherwise, SDs are pooled over all arms and shrunk toward the SD that tasks with one metric have in common
  (`assay.analysis.stats.moderated`). The variance of the aggregate is multiplied by E[(true SD / estimated SD)^2], which
  is df / (df - 2) for an SD with df degrees of freedom (mean of the inverse chi-squared distribution). The multiplier is
  exact for many independent tasks, and conservative for few or correlated tasks (`benchmarks/aggregate.py`).

References: O'Brien (1984), Biometrics 40, for means of standardized endpoints; Smyth (2004) for shrunken variances.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from assay.analysis.stats.moderated import ALONE, learn, shrink
from assay.analysis.stats.paired import NEGLIGIBLE
from assay.analysis.stats.tables import Metric, group_codes, last_checkpoints
from assay.core.errors import NotFound, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from assay.config.aggregate import Aggregate
    from assay.config.metrics import Better

RUN = ["mix", "seed", "scale"]
"""Columns that identify a run; tables of one scale may lack `scale`."""

BROKEN = math.inf
"""Value of a score that is not finite, in contrast to NaN for a missing score."""


class AggregatePart(NamedTuple):
    """A task or group of an aggregate.

    Attributes:
        name: name of the task or group.
        metric: metric of the task or group.
        better: direction of improvement.
        weight: weight in the aggregate; the weights of all parts sum to 1.
        tasks: the tasks of the results whose mean is the part's score.
    """

    name: str
    metric: str
    better: Better
    weight: float
    tasks: tuple[str, ...]

    @property
    def sign(self) -> int:
        """1 if higher is better, otherwise -1."""
        return 1 if self.better == "higher" else -1


class SeedSD(NamedTuple):
    """The SD of a part's score between seeds.

    Attributes:
        sd: the SD, in the part's unit; NaN if unknown.
        factor: expected square of the true SD divided by `sd`; 1 for an SD that does not depend on the tested runs.
        measured: SD as measured, before shrinkage.
    """

    sd: float
    factor: float
    measured: float


Basis = Literal["history", "arms", "none"]
"""Origin of the SDs: replicates of the history, replicates of all arms, or no standardization."""


def resolve_parts(aggregate: Aggregate, known: frozenset[Metric]) -> tuple[AggregatePart, ...]:
    """Find the tasks of an aggregate in the results.

    Args:
        aggregate: the aggregate as configured.
        known: tasks and metrics of the results.

    Raises:
        NotFound: the results have no score of a task or group; the message suggests the nearest name.
    """
    total = math.fsum(aggregate.weights.get(part, 1.0) for part in aggregate.parts)
    parts = []
    for name in aggregate.parts:
        metric = aggregate.metric_of(name)
        tasks = _members(name, metric, known, group=name in aggregate.groups)
        if not tasks:
            near = did_you_mean(f"{name} {metric}", [" ".join(pair) for pair in sorted(known)])
            raise NotFound(
                f"aggregate {aggregate.name!r} names {name} {metric}, but no run has this score. {near}",
                fix="Evaluate the runs with this metric, or remove the task from the aggregate.",
            )
        weight = aggregate.weights.get(name, 1.0) / total
        parts.append(AggregatePart(name, metric, aggregate.direction(metric), weight, tasks))
    return tuple(parts)


def can_resolve(aggregate: Aggregate, known: frozenset[Metric]) -> bool:
    """Report whether the results have a score of every task and group of an aggregate."""
    return all(
        _members(name, aggregate.metric_of(name), known, group=name in aggregate.groups) for name in aggregate.parts
    )


def _members(name: str, metric: str, known: frozenset[Metric], *, group: bool) -> tuple[str, ...]:
    if (name, metric) in known:
        return (name,)
    below = sorted(task for task, own in known if group and own == metric and task.startswith(f"{name}_"))
    # A subgroup with a score of its own would count its tasks twice.
    return tuple(task for task in below if not any(other.startswith(f"{task}_") for other in below))


def part_scores(frame: pd.DataFrame, parts: Sequence[AggregatePart]) -> pd.DataFrame:
    """Return the scores of the parts, with one row per run and one column per part.

    Args:
        frame: long results; each run counts with its last checkpoint.
        parts: the parts of an aggregate.

    Returns:
        Scores by run (`mix`, `seed`, and `scale` if the table has scales). NaN marks a missing score, and `BROKEN` a score
        that is not finite.
    """
    import pandas as pd

    wanted = {(task, part.metric): part.name for part in parts for task in part.tasks}
    rows = frame[frame["task"].isin([task for task, _ in wanted])]
    names = [wanted.get(pair, "") for pair in zip(rows["task"], rows["metric"], strict=True)]
    rows = last_checkpoints(rows.assign(_part=names)[[name != "" for name in names]])
    values = rows["value"].to_numpy(dtype=float)
    rows = rows.assign(value=np.where(np.isfinite(values), values, BROKEN))
    run = [column for column in RUN if column in rows]
    means = rows.groupby([*run, "_part"], sort=False, dropna=False, observed=True)["value"].agg(["mean", "count"])
    # A mean over fewer tasks than the group has would be another score.
    members = pd.Series({part.name: len(part.tasks) for part in parts})
    complete = means["count"].to_numpy() >= members.loc[means.index.get_level_values("_part")].to_numpy()
    wide = means["mean"].where(complete).unstack("_part")  # noqa: PD010 - pivot_table drops runs without a complete part
    return wide.reindex(columns=[part.name for part in parts])


def seed_sds(
    parts: Sequence[AggregatePart], arms: pd.DataFrame, history: pd.DataFrame | None
) -> tuple[dict[str, SeedSD], Basis]:
    """Estimate the SD of each part between seeds.

    The SDs are those within a mix, so that no difference between mixes affects them.

    Args:
        parts: the parts of an aggregate.
        arms: scores of all arms at the proxy (see `part_scores`).
        history: scores of other mixes at the proxy; None without a history.

    Returns:
        The SDs by part, and their origin.
    """
    if history is not None:
        past = _within(history, parts)
        if all(df >= ALONE and variance > 0 for variance, df in past.values()):
            known = {name: math.sqrt(variance) for name, (variance, _) in past.items()}
            return {name: SeedSD(sd, 1.0, sd) for name, sd in known.items()}, "history"
    own = _within(arms, parts)
    sds: dict[str, SeedSD] = {}
    for metric in dict.fromkeys(part.metric for part in parts):
        names = [part.name for part in parts if part.metric == metric]
        prior = learn([own[name][0] for name in names], [own[name][1] for name in names])
        for name in names:
            measured, df = own[name]
            variance, moderated_df = shrink(measured, df, prior)
            usable = moderated_df > 2 and variance > 0
            sds[name] = SeedSD(
                math.sqrt(variance) if usable else math.nan,
                moderated_df / (moderated_df - 2) if usable else math.nan,
                math.sqrt(measured),
            )
    return sds, "arms"


def _within(scores: pd.DataFrame, parts: Sequence[AggregatePart]) -> dict[str, tuple[float, float]]:
    """Return for each part the variance between seeds within mixes, and its degrees of freedom."""
    arm = [name for name in ("mix", "scale") if name in scores.index.names]
    codes, first = group_codes(scores.index.to_frame(index=False), arm)
    values = scores[[part.name for part in parts]].to_numpy(dtype=float)
    finite = np.isfinite(values)
    values = np.where(finite, values, 0.0)
    counts, sums = np.zeros((len(first), len(parts))), np.zeros((len(first), len(parts)))
    np.add.at(counts, codes, finite)
    np.add.at(sums, codes, values)
    # Deviations from the mean rather than a difference of squares, which rounding would dominate.
    deviations = np.where(finite, values - (sums / np.maximum(counts, 1))[codes], 0.0)
    df, squares = np.maximum(counts - 1, 0).sum(axis=0), (deviations**2).sum(axis=0)
    negligible = (NEGLIGIBLE * np.abs(values).max(axis=0, initial=0.0)) ** 2
    variances = np.divide(squares, df, out=np.full(len(parts), math.nan), where=df > 0)
    variances[variances <= negligible] = 0.0
    return {part.name: (float(v), float(n)) for part, v, n in zip(parts, variances, df, strict=True)}


def aggregate_scores(
    scores: pd.DataFrame,
    parts: Sequence[AggregatePart],
    *,
    sds: Mapping[str, SeedSD] | None,
    center: Mapping[str, float],
) -> NDArray[np.float64]:
    """Return the aggregate of each run.

    Args:
        scores: scores of the parts, by run (see `part_scores`).
        parts: the parts of the aggregate.
        sds: SDs between seeds; None to average the scores in their own unit.
        center: score of each part that counts as 0. It affects no difference between runs.

    Returns:
        (runs,) weighted means. NaN marks a run that lacks a part, and `BROKEN` a run with a score that is not finite.
    """
    values = scores[[part.name for part in parts]].to_numpy(dtype=float)
    broken, missing = np.isinf(values).any(axis=1), np.isnan(values).any(axis=1)
    weights = np.array([part.weight for part in parts])
    if sds is not None:
        signs = np.array([part.sign / sds[part.name].sd for part in parts])
        values = (values - np.array([center[part.name] for part in parts])) * signs
    with np.errstate(invalid="ignore"):
        means = values @ weights
    return np.where(broken, BROKEN, np.where(missing, math.nan, means))


def variance_factor(parts: Sequence[AggregatePart], sds: Mapping[str, SeedSD]) -> float:
    """Return the multiplier of the aggregate's variance that accounts for estimated SDs.

    The factors of the parts are weighted by the parts' contributions to the variance of independent tasks.

    >>> parts = [AggregatePart(name, "acc", "higher", 0.5, (name,)) for name in ("a", "b")]
    >>> variance_factor(parts, {"a": SeedSD(1.0, 2.0, 1.0), "b": SeedSD(1.0, 1.5, 1.0)})
    1.75
    """
    squares = [part.weight**2 for part in parts]
    return math.fsum(w * sds[part.name].factor for w, part in zip(squares, parts, strict=True)) / math.fsum(squares)
