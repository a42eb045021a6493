"""Read the history: past mixes at both scales, for estimates of transfer and noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from assay.analysis.stats.evaluation_columns import require_chance_levels, require_item_counts
from assay.analysis.stats.moderated import NOTHING, Prior, learn
from assay.analysis.stats.replicates import MIN_CHECKPOINTS, Trend, signal_to_noise, trend
from assay.analysis.stats.signal import PastSignal
from assay.analysis.stats.tables import SCORE_KEY, Metric, scale_key, scale_keys, with_columns
from assay.analysis.stats.units import APART, to_one_unit
from assay.config.metrics import Better, metric_facts
from assay.config.policy import Target
from assay.core.errors import ConfigError, Damaged, NotFound, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from assay.config.reason import Reason

T = TypeVar("T")

COLUMNS = ["mix", "seed", "scale", "task", "metric", "value"]


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A weighted sum of proxy metrics that predicts the target.

    The predictor is the target's own metric if that metric was measured at the proxy. Otherwise the predictor is the
    mean of all measured metrics. Each metric is divided by its spread between past mixes and signed so that higher is
    better. In simulated tables of 25 mixes, a regression on all metrics with shrinkage was no better (see the log).
    """

    weights: Mapping[Metric, float]
    own: bool
    """Whether the predictor is the target's own metric."""
    undirected: tuple[Metric, ...] = ()
    """Measured metrics that are left out, because their direction of improvement is unknown."""

    @property
    def name(self) -> str:
        """Description of the predictor for reports."""
        if self.own:
            return " ".join(next(iter(self.weights)))
        return f"the mean of {len(self.weights)} metrics, each in units of its spread over the history"

    def scores(self, table: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
        """Return, for each mix, the scores of its runs that have all metrics.

        Args:
            table: `mix, seed, task, metric, value` of one scale.
        """
        named = zip(table["task"], table["metric"], strict=True)
        wide = _wide(table[[metric in self.weights for metric in named]])
        if len(wide.columns) < len(self.weights):
            return {}
        complete = wide[list(self.weights)].dropna()
        values = complete.to_numpy() @ np.array(list(self.weights.values()))
        mixes = complete.index.get_level_values("mix").astype(str)
        return {mix: values[mixes == mix] for mix in dict.fromkeys(mixes)}


@dataclass(frozen=True, kw_only=True)
class TransferHistory:
    """Past mixes at the proxy and at the target, without the compared mixes.

    Attributes:
        proxy: rows at the proxy scale.
        target: the target metric at the target scale by mix, mean over seeds.
        notes: sentences on excluded rows.
    """

    proxy: pd.DataFrame
    target: Mapping[str, float]
    notes: tuple[str, ...]

    def predictor(
        self, target: Target, measured: set[Metric], *, direction: Callable[[str, str], Better | None]
    ) -> Predictor | None:
        """Choose the predictor; return None if the history and the compared mixes share no metric.

        Args:
            target: metric and scale of the decision.
            measured: metrics that both arms have.
            direction: the direction of improvement of a task's metric; None if unknown (see `Policy.direction`).

        Returns:
            A predictor without weights if no metric has a known direction.
        """
        own = (target.task, target.metric)
        known = sorted(measured & set(zip(self.proxy["task"], self.proxy["metric"], strict=True)))
        if own in known:
            return Predictor(weights={own: 1.0}, own=True)
        wide = _wide(self.proxy)
        means = wide[known].groupby(level="mix").mean()
        means = means.loc[means.index.isin(list(self.target))]
        # A metric that many past mixes lack would exclude the pairs of those mixes.
        spreads = {metric: float(means[metric].std()) for metric in known if means[metric].notna().mean() > 0.8}
        usable = {metric: sd for metric, sd in spreads.items() if sd > 0}
        betters = {metric: direction(*metric) for metric in usable}
        undirected = tuple(metric for metric in usable if betters[metric] is None)
        weights = {m: (-1 if betters[m] == "lower" else 1) / sd for m, sd in usable.items() if m not in undirected}
        scaled = {m: w / len(weights) for m, w in weights.items()}
        return Predictor(weights=scaled, own=False, undirected=undirected) if usable else None


class HistoryTable:
    """Validated, normalized past results.

    Build the table once with `HistoryTable.of` and pass it to every call. Derived values are computed once for all
    candidates that the table does not contain.

    Attributes:
        frame: the rows; mixes are text, values and tokens float64, and each metric has one unit.
        conversions: which values were converted to another unit.
    """

    def __init__(self, frame: pd.DataFrame, conversions: tuple[Reason, ...] = ()) -> None:
        """Take a normalized frame. Use `of` for other frames."""
        self.frame = frame
        self.conversions = conversions
        self._known: dict[Any, Any] = {}

    @classmethod
    def of(cls, history: pd.DataFrame | HistoryTable) -> HistoryTable:
        """Validate a data frame; return a table unchanged.

        Raises:
            AssayError: the argument is not a data frame, a column is missing, a value is not a number, a metric has values in
                several units, or an item count or a chance level is impossible.
        """
        if isinstance(history, HistoryTable):
            return history
        frame = with_columns(history, [*SCORE_KEY, "value"], "history")
        require_item_counts(frame, "history")
        table = to_one_unit(frame, "history")
        require_chance_levels(table.frame, "history")
        return cls(*table)

    @cached_property
    def mixes(self) -> frozenset[str]:
        """Every mix of the table."""
        return frozenset(map(str, self.frame["mix"].unique()))

    def once(self, what: Callable[..., T], *, without: Collection[str] = (), **arguments: Hashable) -> T:
        """Return `what(self.frame, ...)`, computed at the first call with these arguments.

        Args:
            what: a function of the frame.
            without: the compared mixes. The function gets only the mixes that the table contains, so that all other
                candidates share one result.
            arguments: the function's other arguments.
        """
        given = {**arguments, "without": tuple(sorted(self.mixes & set(without)))} if without else arguments
        key = (what, *given.items())
        if key not in self._known:
            self._known[key] = what(self.frame, **given)
        return self._known[key]  # type: ignore[no-any-return]  # the key holds the function


def noise_by_metric(
    history: pd.DataFrame | HistoryTable, *, proxy_scale: Any, without: Collection[str]
) -> dict[Metric, Prior]:
    """Learn each metric's variance between replicates from past mixes (see `assay.analysis.stats.moderated`).

    Args:
        history: long past results; rows of other scales are ignored.
        proxy_scale: the scale under comparison; with None, a table of several scales yields no prior.
        without: the compared mixes, which the prior must not use.
    """
    return HistoryTable.of(history).once(_noise_by_metric, proxy_scale=proxy_scale, without=without)


def _noise_by_metric(frame: pd.DataFrame, *, proxy_scale: Any, without: Collection[str] = ()) -> dict[Metric, Prior]:
    rows = _at_proxy(frame, proxy_scale, without)
    if rows is None:
        return {}
    rows = _clean(rows, [])
    table = rows.groupby(["task", "metric", "mix"], sort=False)["value"].agg(["var", "count"]).reset_index()
    return {
        (str(task), str(metric)): learn(rows["var"].to_numpy(), rows["count"].to_numpy() - 1)
        for (task, metric), rows in table.groupby(["task", "metric"], sort=False)
    }


def past_signal_by_metric(
    history: pd.DataFrame | HistoryTable, *, proxy_scale: Any, without: Collection[str]
) -> dict[Metric, PastSignal]:
    """Compute each metric's signal at the proxy from past mixes; see `noise_by_metric` for arguments."""
    return HistoryTable.of(history).once(_past_signal_by_metric, proxy_scale=proxy_scale, without=without)


def _past_signal_by_metric(
    frame: pd.DataFrame, *, proxy_scale: Any, without: Collection[str] = ()
) -> dict[Metric, PastSignal]:
    rows = _at_proxy(frame, proxy_scale, without)
    if rows is None:
        return {}
    rows = rows[np.isfinite(rows["value"])]
    trends = trends_by_metric(rows) if "tokens" in rows else {}
    signals = {}
    for (task, metric), group in _clean(rows, []).groupby(["task", "metric"], sort=False):
        ratio = signal_to_noise(
            [values.to_numpy(dtype=float) for _, values in group.groupby("mix", sort=False)["value"]]
        )
        signals[str(task), str(metric)] = PastSignal(ratio, trends.get((str(task), str(metric))))
    return signals


def trends_by_metric(rows: pd.DataFrame) -> dict[Metric, Trend]:
    """Compute each metric's rank correlation with tokens, over runs with at least three scored checkpoints.

    The usual direction of a metric determines the sign, also if a policy declares the other direction: an accuracy that must not
    rise still rises with training. Metrics without a usual direction have no correlation.

    Args:
        rows: long results of one scale with `tokens`.
    """
    several = rows[rows.groupby(SCORE_KEY)["tokens"].transform("nunique") >= MIN_CHECKPOINTS]
    trends = {}
    for (task, metric), group in several.groupby(["task", "metric"], sort=False):
        runs = [
            (run["tokens"].tolist(), run["value"].tolist()) for _, run in group.groupby(["mix", "seed"], sort=False)
        ]
        better = metric_facts(str(metric)).better
        result = None if better is None else trend(runs, lower_is_better=better == "lower")
        if result is not None:
            trends[str(task), str(metric)] = result
    return trends


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


def ranges_by_metric(
    history: pd.DataFrame | HistoryTable, *, proxy_scale: Any, without: Collection[str]
) -> dict[Metric, ValueRange]:
    """Return the range of each metric at the proxy in past results; the arguments are those of `noise_by_metric`."""
    return HistoryTable.of(history).once(_ranges_by_metric, proxy_scale=proxy_scale, without=without)


def _ranges_by_metric(
    frame: pd.DataFrame, *, proxy_scale: Any, without: Collection[str] = ()
) -> dict[Metric, ValueRange]:
    rows = _at_proxy(frame, proxy_scale, without)
    if rows is None:
        return {}
    rows = rows[np.isfinite(rows["value"]) & (rows["value"] > 0)]
    ranges = rows.groupby(["task", "metric"], sort=False)["value"].agg(["min", "max"])
    return {
        (str(task), str(metric)): ValueRange(float(low), float(high))
        for (task, metric), low, high in zip(ranges.index, ranges["min"], ranges["max"], strict=True)
    }


def _at_proxy(rows: pd.DataFrame, proxy_scale: Any, without: Collection[str]) -> pd.DataFrame | None:
    """Return the history's rows at the proxy's scale; None if the scale is ambiguous."""
    scales = scale_keys(rows["scale"]) if "scale" in rows else None
    if scales is not None and proxy_scale is not None:
        rows = rows[scales == scale_key(proxy_scale)]
    elif scales is not None and len(set(scales)) > 1:
        return None
    others: pd.DataFrame = rows[~rows["mix"].isin(list(without))]
    return others


def noise_of(scores: Mapping[str, NDArray[np.float64]]) -> Prior:
    """Estimate the variance between replicates of one score, given by mix and run."""
    several = [values for values in scores.values() if len(values) > 1]
    return learn([float(v.var(ddof=1)) for v in several], [len(v) - 1 for v in several]) if several else NOTHING


def read_history(
    history: pd.DataFrame | HistoryTable, *, target: Target, proxy_scale: Any, without: Collection[str]
) -> TransferHistory:
    """Read past results at both scales.

    Args:
        history: long results at both scales: `mix, seed, scale, task, metric, value`, and optionally `tokens`.
        target: metric and scale of the decision.
        proxy_scale: the scale under comparison. With None, the table must have exactly one scale in addition to the target's.
        without: the compared mixes, which the history must not use.

    Raises:
        AssayError: a column is missing, a row is duplicated, or the table lacks one of the scales or the target's metric.
    """
    return HistoryTable.of(history).once(_read_history, target=target, proxy_scale=proxy_scale, without=without)


def _read_history(
    frame: pd.DataFrame, *, target: Target, proxy_scale: Any, without: Collection[str] = ()
) -> TransferHistory:
    frame = with_columns(frame, COLUMNS, "history")
    if frame.empty:
        raise NotFound(
            "the history has no rows.", fix="Pass results of other mixes at proxy and target scale, or no history."
        )
    keys = scale_keys(frame["scale"])
    wanted = scale_key(target.scale)
    near = _proxy_scale(frame, wanted, proxy_scale)
    at_target = frame[(keys == wanted) & (frame["task"] == target.task) & (frame["metric"] == target.metric)]
    if at_target.empty:
        rows = frame[keys == wanted]
        known = sorted({f"{task} {metric}" for task, metric in zip(rows["task"], rows["metric"], strict=True)})
        raise NotFound(
            f"the history has no {target.task} {target.metric} at the target scale {target.scale!r}."
            f" {did_you_mean(f'{target.task} {target.metric}', known)}"
        )
    notes: list[str] = []
    if without:
        notes.append(f"The history's rows of {', '.join(without)} were excluded, as these mixes are under comparison.")
    near_rows, far_rows = (
        _clean(rows[~rows["mix"].isin(list(without))], notes) for rows in (frame[keys == near], at_target)
    )
    means = far_rows.groupby(far_rows["mix"].astype(str), sort=False)["value"].mean()
    return TransferHistory(
        proxy=near_rows,
        target={str(mix): float(mean) for mix, mean in means.items()},
        notes=tuple(dict.fromkeys(notes)),
    )


def _proxy_scale(frame: pd.DataFrame, target: Any, given: Any) -> Any:
    known = {scale_key(name): str(name) for name in frame["scale"].unique()}
    listed = ", ".join(known.values())
    if target not in known:
        raise NotFound(
            f"the history has no runs at the target's scale; its scales are {listed}.",
            fix="Set `scale` of the policy's target to one of these names.",
        )
    others = [key for key in known if key != target]
    if given is not None:
        near = scale_key(given)
        if near == target:
            raise ConfigError(
                f"the proxy and the target have the same scale {given}.",
                fix="Set `scale` of the policy's target to the larger scale.",
            )
        if near in known:
            return near
        raise NotFound(
            f"the history has no runs at the proxy scale {given!s}; its scales are {listed}.",
            fix="Set `proxy_scale` of the policy to one of these names.",
        )
    if len(others) != 1:
        raise ConfigError(
            f"the history contains {len(known)} scales: {listed}; expected the target scale and one other.",
            fix="Set `proxy_scale` of the policy to the scale of the proxy.",
        )
    return others[0]


def _clean(rows: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Return the finite values of each run's last checkpoint."""
    broken = ~np.isfinite(rows["value"])
    if broken.any():
        notes.append(f"{int(broken.sum())} non-finite values of the history were excluded.")
        rows = rows[~broken]
    if "tokens" in rows and rows.duplicated(SCORE_KEY).any():
        same = [*SCORE_KEY, "tokens"]
        if not rows.duplicated(same).any():
            notes.append("Of runs with several checkpoints, only the last one was used.")
            return rows.sort_values("tokens", kind="stable").drop_duplicates(SCORE_KEY, keep="last")
    duplicates = rows[rows.duplicated(SCORE_KEY, keep=False)]
    if not duplicates.empty:
        row = duplicates.iloc[0]
        raise Damaged(
            f"the history has several rows for mix {row['mix']}, seed {row['seed']}, task {row['task']}, metric {row['metric']}"
            f" at one scale; {len(duplicates)} rows are duplicates.",
            fix="Keep one row for each mix, seed, scale, task and metric.",
        )
    return rows


def _wide(table: pd.DataFrame) -> pd.DataFrame:
    """Pivot to one row per run and one column per (task, metric)."""
    named = table.assign(mix=table["mix"].astype(str), seed=table["seed"].astype(str))
    return named.pivot_table(index=["mix", "seed"], columns=["task", "metric"], values="value", aggfunc="mean")


def seed_variance(scores: Mapping[str, NDArray[np.float64]], mixes: Sequence[str]) -> float:
    """Estimate the seed variance of a mean score, averaged over past mixes; NaN without replicates."""
    variances = [float(scores[mix].var(ddof=1)) / len(scores[mix]) for mix in mixes if len(scores[mix]) > 1]
    return sum(variances) / len(variances) if variances else math.nan
