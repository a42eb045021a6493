"""Read the history: past mixes at both scales, for estimates of transfer and noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from assay.analysis.stats.evaluation_columns import require_chance_levels, require_item_counts
from assay.analysis.stats.history_check import (
    ANY,
    Conditions,
    comparable,
    excluded_without_scale,
    families_of,
    usual_conditions,
    without_copies,
)
from assay.analysis.stats.past_scores import PastScores, ValueRange
from assay.analysis.stats.seed_prior import learn_seed_prior
from assay.analysis.stats.signal import PastSignal
from assay.analysis.stats.sweep_model import SeedPrior
from assay.analysis.stats.tables import SCORE_KEY, Metric, Seed, scale_key, scale_keys, with_columns
from assay.analysis.stats.units import to_one_unit
from assay.config.metrics import Better
from assay.config.policy import Target
from assay.config.reason import Code, Reason
from assay.core.errors import ConfigError, Damaged, NotFound, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

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
        if len(self.weights) == 1:
            return " ".join(next(iter(self.weights)))
        return f"the mean of {len(self.weights)} metrics, each in units of its spread over the history"

    @property
    def single(self) -> bool:
        """Whether the predictor is a single metric."""
        return len(self.weights) == 1

    def scores(self, table: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
        """Return, for each mix, the scores of its runs that have all metrics.

        Args:
            table: `mix, seed, task, metric, value` of one scale.
        """
        runs = self._of_runs(table)
        return _split(np.asarray(runs, dtype=np.float64), runs.index.get_level_values(0).astype(str).to_numpy())

    def by_seed(self, table: pd.DataFrame) -> dict[str, dict[Seed, float]]:
        """Return, for each mix and seed, the score of the run, if it has all metrics; `table` is as for `scores`."""
        runs, found = self._of_runs(table), dict[str, dict[Seed, float]]()
        for (mix, seed), score in zip(runs.index.tolist(), runs.tolist(), strict=True):
            found.setdefault(str(mix), {})[str(seed)] = score
        return found

    def _of_runs(self, table: pd.DataFrame) -> pd.Series[float]:
        """Return the score of each run that has all metrics, by mix and seed."""
        import pandas as pd

        named = zip(table["task"], table["metric"], strict=True)
        rows = table[[metric in self.weights for metric in named]]
        if len(self.weights) == 1:
            weight = next(iter(self.weights.values()))
            runs = rows.groupby([rows["mix"].astype(str), rows["seed"].astype(str)], sort=False)["value"].mean()
            return weight * runs
        wide = _wide(rows)
        if len(wide.columns) < len(self.weights):
            return wide.iloc[:0].sum(axis=1)
        complete = wide[list(self.weights)].dropna()
        return pd.Series(complete.to_numpy() @ np.array(list(self.weights.values())), index=complete.index)


@dataclass(frozen=True, kw_only=True)
class TransferHistory:
    """Past mixes at the proxy and at the target, without the compared mixes.

    Attributes:
        proxy: rows at the proxy scale.
        target: the target metric at the target scale by mix, mean over seeds.
        notes: reasons for excluded rows.
        families: recipe family of each labeled mix, including the compared mixes.
    """

    proxy: pd.DataFrame
    target: Mapping[str, float]
    notes: tuple[Reason, ...]
    families: Mapping[str, str]

    @cached_property
    def means(self) -> pd.DataFrame:
        """Mean over seeds of each metric at the proxy, one row per mix with a result at the target."""
        means = self._wide.groupby(level="mix").mean()
        return means.loc[means.index.isin(list(self.target))]

    @cached_property
    def _wide(self) -> pd.DataFrame:
        return _wide(self.proxy)

    @cached_property
    def columns(self) -> Mapping[Metric, NDArray[np.float64]]:
        """Column of each metric in `means`, NaN for a mix without it."""
        values = self.means.to_numpy(dtype=float)
        tasks, metrics = (self.means.columns.get_level_values(level).astype(str) for level in (0, 1))
        return {metric: values[:, i] for i, metric in enumerate(zip(tasks, metrics, strict=True))}

    @cached_property
    def _computed(self) -> dict[Hashable, Any]:
        return {}

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return a value that all candidates share, computed at the first call with this key."""
        if key not in self._computed:
            self._computed[key] = compute()
        return self._computed[key]  # type: ignore[no-any-return]  # the key identifies the computation

    def scores(self, predictor: Predictor) -> dict[str, NDArray[np.float64]]:
        """Return the predictor's scores of each past mix at the proxy."""
        return self.once(("scores", *predictor.weights.items()), lambda: predictor.scores(self.proxy))

    def seed_noise(self, predictor: Predictor, *, without: Collection[str]) -> SeedPrior:
        """Return the noise of the predictor at the proxy.

        Args:
            predictor: the predictor.
            without: arms of the sweep, whose runs would count twice.
        """
        known = self.once(("by seed", *predictor.weights.items()), lambda: predictor.by_seed(self.proxy))
        twice = tuple(sorted(set(known).intersection(without)))

        def learned() -> SeedPrior:
            return learn_seed_prior({mix: runs for mix, runs in known.items() if mix not in twice})

        return self.once(("seed noise", *predictor.weights.items(), twice), learned)

    @cached_property
    def metrics(self) -> frozenset[Metric]:
        """Metrics measured at the proxy."""
        names = self.proxy[["task", "metric"]].drop_duplicates()
        return frozenset((str(task), str(metric)) for task, metric in zip(names["task"], names["metric"], strict=True))

    def common(self, measured: set[Metric]) -> list[Metric]:
        """Return the metrics that the compared mixes and more than 80% of the past mixes have.

        A metric that many past mixes lack would exclude the pairs of those mixes.
        """
        if not len(self.means):
            return []
        return [m for m in sorted(measured & self.metrics) if np.isfinite(self.columns[m]).mean() > 0.8]

    def predictor(
        self, target: Target, measured: set[Metric], *, direction: Callable[[str, str], Better | None]
    ) -> Predictor | None:
        """Choose the predictor; return None if the history and the compared mixes share no metric.

        With `target.predictor` `best`, the predictor has the smallest error in predicting past mixes, each from the
        other past mixes (see `best_predictor`).

        Args:
            target: metric and scale of the decision.
            measured: metrics that both arms have.
            direction: the direction of improvement of a task's metric; None if unknown (see `Policy.direction`).

        Returns:
            A predictor without weights if no metric has a known direction.
        """
        own = (target.task, target.metric)
        usual = Predictor(weights={own: 1.0}, own=True) if own in measured & self.metrics else None
        if usual is not None and target.predictor == "own":
            return usual
        known = self.common(measured)
        usable = {m: sd for m in known if (sd := float(self.means[m].std())) > 0}
        if not usable:
            return usual
        betters = {metric: direction(*metric) for metric in usable}
        undirected = tuple(metric for metric in usable if betters[metric] is None)
        signs = {metric: -1 if better == "lower" else 1 for metric, better in betters.items() if better is not None}
        weights = {metric: sign / usable[metric] / len(signs) for metric, sign in signs.items()}
        average = Predictor(weights=weights, own=False, undirected=undirected)
        if target.predictor == "own" or not weights:
            return usual or average
        single = [
            Predictor(weights={m: float(s)}, own=False, undirected=undirected) for m, s in signs.items() if m != own
        ]
        return best_predictor(usual or average, [average, *single], self.means, self.target)


def best_predictor(
    usual: Predictor, others: Sequence[Predictor], means: pd.DataFrame, target: Mapping[str, float]
) -> Predictor:
    """Choose the predictor with the smallest squared error of past mixes, each predicted from the other mixes.

    The best of several predictors looks better than it is. Another predictor than the usual one must therefore be better
    by more than the largest difference expected from chance: sqrt(2 log k) standard errors among k equal predictors.

    Args:
        usual: the predictor to prefer.
        others: the alternatives.
        means: (mixes, metrics) scores at the proxy.
        target: score of each mix at the target.
    """
    complete = means[list(dict.fromkeys(m for p in (usual, *others) for m in p.weights))].dropna()
    if len(complete) < 12:
        return usual
    y = np.array([target[str(mix)] for mix in complete.index])
    errors = {
        i: _errors_without(complete[list(p.weights)].to_numpy() @ np.array(list(p.weights.values())), y) ** 2
        for i, p in enumerate((usual, *others))
    }
    bar = math.sqrt(2 * math.log(len(errors))) if len(errors) > 1 else 0.0
    chosen, least = usual, 0.0
    for i, other in enumerate(others, 1):
        gain = errors[0] - errors[i]
        mean, se = float(gain.mean()), float(gain.std(ddof=1)) / math.sqrt(len(gain))
        if mean > bar * se and mean > least:
            chosen, least = other, mean
    return chosen


def _errors_without(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the error of each mix in a least-squares line through the other mixes, from the line's leverages."""
    dx, dy = x - x.mean(), y - y.mean()
    total = float(dx @ dx)
    slope = float(dx @ dy) / total if total > 0 else 0.0
    leverage = 1 / len(x) + (dx**2 / total if total > 0 else 0.0)
    errors: NDArray[np.float64] = (dy - slope * dx) / np.clip(1 - leverage, 1e-9, None)
    return errors


class HistoryTable:
    """Validated, normalized past results.

    Build the table once with `HistoryTable.of` and pass it to every call. Derived values are computed once for all
    candidates that the table does not contain.

    Attributes:
        frame: the rows; mixes are text, values and tokens float64, and each metric has one unit.
        conversions: which values were converted to another unit.
        excluded: reasons for the mixes that do not fit the compared runs (see `fitting`).
    """

    def __init__(
        self, frame: pd.DataFrame, conversions: tuple[Reason, ...] = (), excluded: tuple[Reason, ...] = ()
    ) -> None:
        """Take a normalized frame. Use `of` for other frames."""
        self.frame = frame
        self.conversions = conversions
        self.excluded = excluded
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

    def fitting(self, conditions: Conditions, scale: Any) -> HistoryTable:
        """Return the table whose rows at the proxy were trained and evaluated like the compared runs.

        Earlier checkpoints of runs that fit are kept, because they show how scores change during training. Rows of other
        scales are kept too. If all rows fit, the result is the table itself. All candidates share the result.

        Args:
            conditions: tokens and evaluation settings of the compared runs.
            scale: the scale under comparison; with None, a table of several scales is not filtered.

        Returns:
            The table, with reasons for the excluded mixes in `excluded`.
        """
        return self.once(_fitting, conditions=conditions, scale=scale, given=self)

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


def _fitting(frame: pd.DataFrame, *, conditions: Conditions, scale: Any, given: HistoryTable) -> HistoryTable:
    here = np.ones(len(frame), dtype=bool)
    if "scale" in frame:
        keys = scale_keys(frame["scale"])
        if scale is None and len(set(keys)) > 1:
            return given
        here = here if scale is None else np.asarray(keys == scale_key(scale), dtype=bool)
    numbered = frame.assign(_row=np.arange(len(frame)))
    reasons: list[Reason] = []
    fit = comparable(numbered[here], conditions, scale, reasons)
    kept = ~here
    kept[fit["_row"].to_numpy()] = True
    if conditions.tokens is not None and "tokens" in frame:
        settings_only = comparable(numbered[here], replace(conditions, tokens=None), scale, [])
        runs = set(zip(fit["mix"], fit["seed"], strict=True))
        of_fit = [run in runs for run in zip(settings_only["mix"], settings_only["seed"], strict=True)]
        earlier = settings_only["tokens"].to_numpy(dtype=float) < conditions.tokens
        kept[settings_only["_row"].to_numpy()[np.array(of_fit, dtype=bool) & earlier]] = True
    if kept.all():
        return given
    return HistoryTable(frame[kept], given.conversions, (*given.excluded, *reasons))


def past_signal_by_metric(
    history: pd.DataFrame | HistoryTable, *, proxy_scale: Any, without: Collection[str]
) -> dict[Metric, PastSignal]:
    """Compute each metric's signal at the proxy from past mixes.

    Args:
        history: long past results; rows of other scales are ignored.
        proxy_scale: the scale under comparison; with None, a table of several scales yields nothing.
        without: the compared mixes, which the result must not use.
    """
    past = HistoryTable.of(history).once(_past_scores, proxy_scale=proxy_scale)
    return {} if past is None else past.signals(without)


def ranges_by_metric(
    history: pd.DataFrame | HistoryTable, *, proxy_scale: Any, without: Collection[str]
) -> dict[Metric, ValueRange]:
    """Return the range of each metric at the proxy in past results; see `past_signal_by_metric` for arguments."""
    past = HistoryTable.of(history).once(_past_scores, proxy_scale=proxy_scale)
    return {} if past is None else past.ranges(without)


def _past_scores(frame: pd.DataFrame, *, proxy_scale: Any) -> PastScores | None:
    rows = _at_proxy(frame, proxy_scale, ())
    if rows is None:
        return None
    rows = rows[np.isfinite(rows["value"])]
    return PastScores.of(rows, _clean(rows, []))


def _at_proxy(rows: pd.DataFrame, proxy_scale: Any, without: Collection[str]) -> pd.DataFrame | None:
    """Return the history's rows at the proxy's scale; None if the scale is ambiguous."""
    scales = scale_keys(rows["scale"]) if "scale" in rows else None
    if scales is not None and proxy_scale is not None:
        rows = rows[scales == scale_key(proxy_scale)]
    elif scales is not None and len(set(scales)) > 1:
        return None
    others: pd.DataFrame = rows[~rows["mix"].isin(list(without))]
    return others


def read_history(
    history: pd.DataFrame | HistoryTable,
    *,
    target: Target,
    proxy_scale: Any,
    without: Collection[str],
    conditions: Conditions = ANY,
) -> TransferHistory:
    """Read past results at both scales.

    Args:
        history: long results at both scales: `mix, seed, scale, task, metric, value`, and optionally `tokens`.
        target: metric and scale of the decision.
        proxy_scale: the scale under comparison. With None, the table must have exactly one scale in addition to the target's.
        without: the compared mixes, which the history must not use.
        conditions: tokens and evaluation settings of the compared runs, which the history's proxy runs must share.

    Raises:
        AssayError: a column is missing, a row is duplicated, a mix has two families, or the table lacks one of the scales or the target's metric.
    """
    return HistoryTable.of(history).once(
        _read_history, target=target, proxy_scale=proxy_scale, without=without, conditions=conditions
    )


def _read_history(
    frame: pd.DataFrame,
    *,
    target: Target,
    proxy_scale: Any,
    without: Collection[str] = (),
    conditions: Conditions = ANY,
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
    families = families_of(frame)
    notes: list[Reason] = []
    if without:
        notes.append(
            _note(f"The history's rows of {', '.join(without)} were excluded, as these mixes are under comparison.")
        )
    near_rows, far_rows = (rows[~rows["mix"].isin(list(without))] for rows in (frame[keys == near], at_target))
    near_rows = _clean(comparable(near_rows, conditions, proxy_scale, notes), notes)
    far_rows = _clean(comparable(far_rows, usual_conditions(far_rows), target.scale, notes), notes)
    if len(near_rows) and len(far_rows):
        copies = without_copies((near_rows, far_rows), notes)
        near_rows, far_rows = (rows[~rows["mix"].isin(copies)] if copies else rows for rows in (near_rows, far_rows))
    only_near, only_far = (set(a["mix"]) - set(b["mix"]) for a, b in ((near_rows, far_rows), (far_rows, near_rows)))
    notes += [excluded_without_scale(only_near, target.scale)] if only_near else []
    notes += [excluded_without_scale(only_far, proxy_scale)] if only_far and near_rows.shape[0] else []
    means = far_rows.groupby(far_rows["mix"].astype(str), sort=False)["value"].mean()
    return TransferHistory(
        proxy=near_rows,
        target={str(mix): float(mean) for mix, mean in means.items()},
        notes=tuple(dict.fromkeys(notes)),
        families=families,
    )


def _note(text: str) -> Reason:
    return Reason(code=Code.TARGET_NOTE, figures={"text": text})


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


def _clean(rows: pd.DataFrame, notes: list[Reason]) -> pd.DataFrame:
    """Return the finite values of each run's last checkpoint."""
    broken = ~np.isfinite(rows["value"])
    if broken.any():
        notes.append(_note(f"{int(broken.sum())} non-finite values of the history were excluded."))
        rows = rows[~broken]
    if "tokens" in rows and rows.duplicated(SCORE_KEY).any():
        same = [*SCORE_KEY, "tokens"]
        if not rows.duplicated(same).any():
            notes.append(_note("Of runs with several checkpoints, only the last one was used."))
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


def _split(values: NDArray[np.float64], mixes: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """Return the values of each mix, with mixes in the order of their first value."""
    import pandas as pd

    codes, names = pd.factorize(mixes)
    order = np.argsort(codes, kind="stable")
    parts = np.split(values[order], np.cumsum(np.bincount(codes))[:-1])
    return {str(name): part for name, part in zip(names, parts, strict=True)}


def _wide(table: pd.DataFrame) -> pd.DataFrame:
    """Pivot to one row per run and one column per (task, metric)."""
    named = table.assign(mix=table["mix"].astype(str), seed=table["seed"].astype(str))
    return named.pivot_table(index=["mix", "seed"], columns=["task", "metric"], values="value", aggfunc="mean")


def seed_variance(scores: Mapping[str, NDArray[np.float64]], mixes: Sequence[str]) -> float:
    """Estimate the seed variance of a mean score, averaged over past mixes; NaN without replicates."""
    variances = [float(scores[mix].var(ddof=1)) / len(scores[mix]) for mix in mixes if len(scores[mix]) > 1]
    return sum(variances) / len(variances) if variances else math.nan
