"""Past mixes that were trained at both scales, read from a long table: what the gate learns transfer and noise from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.errors import AssayError, did_you_mean
from assay.stats.frames import SCORE_KEY, Metric, scale_key, with_columns
from assay.stats.moderated import NOTHING, Prior, learn
from assay.stats.replicates import LEAST_LOOKS, Trend, signal_to_noise, trend
from assay.stats.signal import LOSSES, Worth
from assay.suite import Target

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

COLUMNS = ["mix", "seed", "scale", "task", "metric", "value"]


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """What is read at the proxy to foretell the target: a weighted sum of metrics.

    The target's own metric where it was measured at the proxy. Otherwise the mean of all that were, each in units of its spread
    between past mixes, and turned so that higher is better. Regression on all metrics, with shrinkage, was no better in
    simulated tables of 25 mixes (see the log).
    """

    weights: Mapping[Metric, float]
    own: bool
    """Whether it is the target's own metric."""

    @property
    def name(self) -> str:
        """In words."""
        if self.own:
            return " ".join(next(iter(self.weights)))
        return f"the mean of {len(self.weights)} metrics, each in units of its spread over the history"

    def scores(self, table: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
        """By mix the score of each of its runs that has all of the metrics.

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
class History:
    """Past mixes at the proxy and at the target, without those that are judged.

    Attributes:
        proxy: rows at the proxy scale.
        target: the target's metric at its scale, mean over seeds, by mix.
        notes: sentences on what was left out.
    """

    proxy: pd.DataFrame
    target: Mapping[str, float]
    notes: tuple[str, ...]

    def predictor(self, target: Target, measured: set[Metric]) -> Predictor | None:
        """How to read the proxy; None where nothing was measured both in the history and on both judged mixes."""
        own = (target.task, target.metric)
        known = sorted(measured & set(zip(self.proxy["task"], self.proxy["metric"], strict=True)))
        if own in known:
            return Predictor(weights={own: 1.0}, own=True)
        wide = _wide(self.proxy)
        means = wide[known].groupby(level="mix").mean()
        means = means.loc[means.index.isin(list(self.target))]
        # A metric that many past mixes lack would cost their pairs.
        spreads = {metric: float(means[metric].std()) for metric in known if means[metric].notna().mean() > 0.8}
        weights = {m: (-1 if m[1] in LOSSES else 1) / sd for m, sd in spreads.items() if sd > 0}
        return Predictor(weights={m: w / len(weights) for m, w in weights.items()}, own=False) if weights else None


def noise_by_metric(frame: pd.DataFrame, *, proxy_scale: Any, without: Sequence[str]) -> dict[Metric, Prior]:
    """The variance between replicates of each metric, learnt from past mixes (see `assay.stats.moderated`).

    Args:
        frame: long past results; rows of other scales are left alone.
        proxy_scale: the scale that is judged; where it is None, nothing is learnt from a table of several.
        without: mixes that are judged, which must not teach.
    """
    rows = _at_proxy(frame, proxy_scale, without)
    if rows is None:
        return {}
    rows = _clean(rows, [])
    table = rows.groupby(["task", "metric", "mix"], sort=False)["value"].agg(["var", "count"]).reset_index()
    return {
        (str(task), str(metric)): learn(one["var"].to_numpy(), one["count"].to_numpy() - 1)
        for (task, metric), one in table.groupby(["task", "metric"], sort=False)
    }


def worth_by_metric(frame: pd.DataFrame, *, proxy_scale: Any, without: Sequence[str]) -> dict[Metric, Worth]:
    """What past mixes say of each metric's signal at the proxy; the arguments are those of `noise_by_metric`."""
    rows = _at_proxy(frame, proxy_scale, without)
    if rows is None:
        return {}
    rows = rows[np.isfinite(rows["value"])]
    trends = trends_by_metric(rows) if "tokens" in rows else {}
    found = {}
    for (task, metric), one in _clean(rows, []).groupby(["task", "metric"], sort=False):
        ratio = signal_to_noise([values.to_numpy(dtype=float) for _, values in one.groupby("mix", sort=False)["value"]])
        found[str(task), str(metric)] = Worth(ratio, trends.get((str(task), str(metric))))
    return found


def trends_by_metric(rows: pd.DataFrame) -> dict[Metric, Trend]:
    """Whether each metric rises with tokens, of runs that were scored at three token counts or more.

    Args:
        rows: long results of one scale with `tokens`.
    """
    several = rows[rows.groupby(SCORE_KEY)["tokens"].transform("nunique") >= LEAST_LOOKS]
    found = {}
    for (task, metric), one in several.groupby(["task", "metric"], sort=False):
        runs = [(run["tokens"].tolist(), run["value"].tolist()) for _, run in one.groupby(["mix", "seed"], sort=False)]
        seen = trend(runs, lower_is_better=metric in LOSSES)
        if seen is not None:
            found[str(task), str(metric)] = seen
    return found


def _at_proxy(frame: pd.DataFrame, proxy_scale: Any, without: Sequence[str]) -> pd.DataFrame | None:
    """The past's rows at the proxy's scale; None where it has several scales and nobody says which."""
    rows = with_columns(frame, [*SCORE_KEY, "value"], "history")
    scales = rows["scale"].map(scale_key) if "scale" in rows else None
    if scales is not None and proxy_scale is not None:
        rows = rows[scales == scale_key(proxy_scale)]
    elif scales is not None and len(set(scales)) > 1:
        return None
    found: pd.DataFrame = rows[~rows["mix"].astype(str).isin(without)]
    return found


def noise_of(scores: Mapping[str, NDArray[np.float64]]) -> Prior:
    """The same, of one score by mix and run."""
    several = [values for values in scores.values() if len(values) > 1]
    return learn([float(v.var(ddof=1)) for v in several], [len(v) - 1 for v in several]) if several else NOTHING


def read(frame: pd.DataFrame, *, target: Target, proxy_scale: Any, without: Sequence[str]) -> History:
    """Read past results.

    Args:
        frame: long results at both scales: `mix, seed, scale, task, metric, value`, and `tokens` where known.
        target: the metric that the decision is about, and its scale.
        proxy_scale: the scale that is judged; None where the table itself has to tell: the other one of its two.
        without: mixes that are judged, which must not teach.

    Raises:
        AssayError: a column is missing, a row is there twice, or the table has not both scales or not the target's metric.
    """
    frame = with_columns(frame, COLUMNS, "history")
    if frame.empty:
        raise AssayError(
            "history has no rows.", fix="Give results of other mixes at both scales, or no history at all."
        )
    keys = frame["scale"].map(scale_key)
    wanted = scale_key(target.scale)
    near = _proxy_scale(frame, keys, wanted, proxy_scale)
    at_target = frame[(keys == wanted) & (frame["task"] == target.task) & (frame["metric"] == target.metric)]
    if at_target.empty:
        rows = frame[keys == wanted]
        known = sorted({f"{task} {metric}" for task, metric in zip(rows["task"], rows["metric"], strict=True)})
        raise AssayError(
            f"history has no {target.task} {target.metric} at the target scale {target.scale!r}."
            f" {did_you_mean(f'{target.task} {target.metric}', known)}"
        )
    notes: list[str] = []
    judged = sorted({str(mix) for mix in frame["mix"]} & set(without))
    if judged:
        notes.append(f"The history's rows of {', '.join(judged)} taught nothing: what is judged must not be known.")
    near_rows, far_rows = (
        _clean(rows[~rows["mix"].astype(str).isin(without)], notes) for rows in (frame[keys == near], at_target)
    )
    means = far_rows.groupby(far_rows["mix"].astype(str), sort=False)["value"].mean()
    return History(
        proxy=near_rows,
        target={str(mix): float(mean) for mix, mean in means.items()},
        notes=tuple(dict.fromkeys(notes)),
    )


def _proxy_scale(frame: pd.DataFrame, keys: pd.Series[Any], target: Any, given: Any) -> Any:
    known = {key: str(name) for key, name in zip(keys, frame["scale"], strict=True)}
    listed = ", ".join(known.values())
    if target not in known:
        raise AssayError(
            f"history has no runs at the target's scale; its scales are {listed}.",
            fix="Write `scale` of the policy's target as the history has it.",
        )
    others = [key for key in known if key != target]
    if given is not None:
        near = scale_key(given)
        if near == target:
            raise AssayError(
                f"the proxy's scale and the target's are both {given}.", fix="Name the larger one as target."
            )
        if near in known:
            return near
        raise AssayError(f"history has no runs at the proxy scale {given!s}; its scales are {listed}.")
    if len(others) != 1:
        raise AssayError(
            f"history holds {len(known)} scales: {listed}.", fix="Say which is the proxy: `proxy_scale` in the policy."
        )
    return others[0]


def _clean(rows: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Finite values, the last checkpoint of each run."""
    broken = ~np.isfinite(rows["value"])
    if broken.any():
        notes.append(f"{int(broken.sum())} values of the history are no finite numbers and were left out.")
        rows = rows[~broken]
    if "tokens" in rows and rows.duplicated(SCORE_KEY).any():
        same = [*SCORE_KEY, "tokens"]
        if not rows.duplicated(same).any():
            notes.append("Of runs with several checkpoints the history's last one was taken.")
            return rows.sort_values("tokens", kind="stable").drop_duplicates(SCORE_KEY, keep="last")
    twice = rows[rows.duplicated(SCORE_KEY, keep=False)]
    if not twice.empty:
        one = twice.iloc[0]
        raise AssayError(
            f"history has several rows for mix {one['mix']}, seed {one['seed']}, task {one['task']}, metric {one['metric']}"
            f" at one scale; {len(twice)} rows are there more than once.",
            fix="Keep one row for each mix, seed, scale, task and metric.",
        )
    return rows


def _wide(table: pd.DataFrame) -> pd.DataFrame:
    """One row a run and one column a (task, metric)."""
    named = table.assign(mix=table["mix"].astype(str), seed=table["seed"].astype(str))
    return named.pivot_table(index=["mix", "seed"], columns=["task", "metric"], values="value", aggfunc="mean")


def spread(scores: Mapping[str, NDArray[np.float64]], mixes: Sequence[str]) -> float:
    """Mean variance of a past mix' score at the proxy that comes from its seeds; NaN where no mix has replicates."""
    found = [float(scores[mix].var(ddof=1)) / len(scores[mix]) for mix in mixes if len(scores[mix]) > 1]
    return sum(found) / len(found) if found else math.nan
