"""Check which metrics of a suite distinguish mixes at a proxy.

The criteria are chance level, signal-to-noise ratio, trend and ranking accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.analysis.stats.evaluation_columns import SAME_CHANCE
from assay.analysis.stats.history import HistoryTable, past_signal_by_metric
from assay.analysis.stats.signal import FEWEST, PastSignal, Signal, loss_signal, signal_from_mixes, with_past
from assay.analysis.stats.tables import SCORE_KEY, Metric, scale_key
from assay.analysis.stats.transfer import Reliability, fit
from assay.config.metrics import is_loss
from assay.core.serde import json_shape

if TYPE_CHECKING:
    import pandas as pd

    from assay.config.policy import Target


@json_shape(
    {
        "task": "task",
        "metric": "metric",
        "signal": "overall.state",
        "reason": "overall.reason",
        "above_chance": "above",
        "signal_to_noise": "worth.ratio",
        "monotone": "worth.trend",
        "decision_accuracy": "accuracy",
        "runs": "n_runs",
    }
)
@dataclass(frozen=True, kw_only=True)
class MetricCheck:
    """How well a metric distinguishes mixes at a proxy.

    Attributes:
        task: name of the task in the suite.
        metric: name of the metric, such as `acc`.
        above: whether the scores exceed chance level.
        worth: signal-to-noise ratio over past mixes, and rank correlation of scores with tokens.
        overall: the combined state (`ok`, `no signal` or `unknown`) with its reason.
        accuracy: how often the proxy ranked pairs of past mixes as the target did; None if unknown.
        n_runs: number of runs at the proxy behind the check.
    """

    task: str
    metric: str
    above: Signal
    worth: PastSignal
    overall: Signal
    accuracy: Reliability | None
    n_runs: int


def check_metrics(
    frame: pd.DataFrame, *, proxy_scale: Any, n_seeds: int, target: Target | None = None, target_scale: Any = None
) -> list[MetricCheck]:
    """Check every metric of a table; return the most informative metric first.

    Args:
        frame: long results of many mixes, `mix, seed, task, metric, value`, and optionally `scale, tokens, n, chance`.
            The trend needs several token counts per run. The ranking at the target needs other scales.
        proxy_scale: the scale to check.
        n_seeds: number of replicates of each mix in a planned verdict.
        target: the metric whose ranking the proxy has to predict (default: each metric predicts itself at
            `target_scale`).
        target_scale: the larger scale; None without a larger scale.
    """
    history = HistoryTable.of(frame)  # percentages become fractions
    frame = history.frame
    scales = frame["scale"].map(scale_key)
    near = _last(frame[scales == scale_key(proxy_scale)])
    far = _last(frame[scales == scale_key(target_scale)]) if target_scale is not None else frame[:0]
    known = past_signal_by_metric(history, proxy_scale=proxy_scale, without=())
    target_means = _by_mix(far)
    checks = []
    for (task, metric), rows in near.groupby(["task", "metric"], sort=False):
        name = (str(task), str(metric))
        above, worth = _above(str(metric), rows), known.get(name, PastSignal(None, None))
        at_target = target_means.get((target.task, target.metric) if target is not None else name, {})
        at_proxy = {str(mix): float(mean) for mix, mean in rows.groupby("mix")["value"].mean().items()}
        both = [mix for mix in at_proxy if mix in at_target]
        learned = fit([at_proxy[mix] for mix in both], [at_target[mix] for mix in both])
        checks.append(
            MetricCheck(
                task=name[0],
                metric=name[1],
                above=above,
                worth=worth,
                overall=_overall(above, worth, n_seeds),
                accuracy=learned.reliability if learned else None,
                n_runs=len(rows),
            )
        )
    return ordered(checks)


def ordered(checks: Iterable[MetricCheck]) -> list[MetricCheck]:
    """Sort checks by signal, then ranking accuracy, then signal-to-noise ratio, best first."""
    return sorted(checks, key=_order)


def droppable(checks: Sequence[MetricCheck]) -> dict[str, str]:
    """Return the tasks without any metric that has signal, with the reasons."""
    tasks: dict[str, list[MetricCheck]] = {}
    for check in checks:
        tasks.setdefault(check.task, []).append(check)
    return {
        task: "; ".join(f"{check.metric}: {check.overall.reason}" for check in of_task)
        for task, of_task in tasks.items()
        if all(check.overall.state == "no signal" for check in of_task)
    }


def _order(check: MetricCheck) -> tuple[int, float, float, str, str]:
    states = {"ok": 0, "unknown": 1, "no signal": 2}
    accuracy = check.accuracy.accuracy if check.accuracy else 0.0
    ratio = check.worth.ratio.value if check.worth.ratio else 0.0
    return (states[check.overall.state], -accuracy, -ratio, check.task, check.metric)


def _overall(above: Signal, worth: PastSignal, n_seeds: int) -> Signal:
    """Combine the signals as the gate does, but return unknown for too few past mixes."""
    known = with_past(above, worth, n_seeds=n_seeds)
    mixes = worth.ratio.n_mixes if worth.ratio else 0
    if known.state == "ok" and mixes < FEWEST:
        reason = (
            f"{known.reason}; a signal-to-noise ratio needs {FEWEST} past mixes with replicates, and there are {mixes}"
        )
        return Signal("unknown", reason)
    return known


def _last(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the finite scores of the last checkpoint of each run."""
    rows = rows[np.isfinite(rows["value"].to_numpy(dtype=float))]
    if "tokens" in rows:
        rows = rows.sort_values("tokens", kind="stable")
    return rows.drop_duplicates(SCORE_KEY, keep="last").sort_index()


def _by_mix(rows: pd.DataFrame) -> Mapping[Metric, dict[str, float]]:
    """Average over seeds by metric and mix."""
    return {
        (str(task), str(metric)): {str(mix): float(mean) for mix, mean in group.groupby("mix")["value"].mean().items()}
        for (task, metric), group in rows.groupby(["task", "metric"], sort=False)
    }


def _above(metric: str, rows: pd.DataFrame) -> Signal:
    """Return whether the mean over past mixes is above chance level. Differences between mixes are no noise."""
    if is_loss(metric):
        return loss_signal()
    chance = rows["chance"].dropna() if "chance" in rows else rows["value"][:0]
    if chance.empty:
        return Signal("unknown", "the metric has no recorded chance level")
    if chance.max() - chance.min() > SAME_CHANCE:
        return Signal("unknown", f"the runs record chance levels from {chance.min():g} to {chance.max():g}")
    n = rows["n"].min() if "n" in rows else math.nan
    return signal_from_mixes(
        [scores.tolist() for _, scores in rows.groupby("mix", sort=False)["value"]],
        chance=float(chance.max()),
        n_items=int(n) if math.isfinite(n) else None,
    )
