"""Check which metrics of a suite distinguish mixes at a proxy.

The data come from the store's runs, a history or external results.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from assay.config.suite import VALIDATION
from assay.core.errors import NotFound
from assay.plan.speed import estimate_speed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from assay.analysis.stats.suite_check import MetricCheck
    from assay.plan.workspace import Workspace


class CheckedSuite(NamedTuple):
    """The metrics of a suite.

    Attributes:
        metrics: the metrics, with the most informative first.
        of: the results behind the checks, as text.
        seconds: duration of one run's evaluation; None if the duration was not measured.
    """

    metrics: list[MetricCheck]
    of: str
    seconds: float | None


def check_store(space: Workspace) -> CheckedSuite:
    """Check the metrics of a suite on the store's runs of this proxy and budget.

    If a history has more runs of a metric than the store, the signal of that metric comes from the history.
    """
    from assay.analysis.external.verdict import results as imported
    from assay.analysis.past_runs import of_one_evaluation, past_runs, past_scores
    from assay.analysis.results import with_units
    from assay.analysis.stats.suite_check import check_metrics

    policy, history = space.study.policy, space.study.history
    evaluation = space.planner.plan().evaluation if space.study.sweep is not None else ""
    runs = of_one_evaluation([run for run in past_runs(space, evaluation=evaluation) if run.comparable], evaluation)
    if not runs and history is None:
        raise NotFound(
            f"the store has no finished run of proxy {space.study.proxy.name} with this budget and optimizer.",
            fix="Train a sweep with this proxy, or name past results with history=NAME or --results TABLE.",
        )
    mixes = len({run.run.mix for run in runs})
    of = [f"{len(runs)} runs of {mixes} mix{'es' * (mixes != 1)} in the store"] if runs else []
    scores = with_units(past_scores(runs, intermediate=True))
    metrics = check_metrics(scores, proxy_scale=space.runs.parameters, n_seeds=policy.min_seeds) if runs else []
    if history is not None:
        past, text = _check_frame(space, imported(space.store, history, root=Path(space.study.paths.root)))
        metrics, of = _joined(metrics, past), [*of, f"history {history}: {text}"]
    return CheckedSuite(metrics, "; ".join(of), estimate_speed(space.runs, space.store).evaluate_seconds)


def _joined(store: Sequence[MetricCheck], past: Sequence[MetricCheck]) -> list[MetricCheck]:
    """For each metric, keep the check with more runs, and add the history's ranking accuracy."""
    from assay.analysis.stats.suite_check import ordered

    best = {(metric.task, metric.metric): metric for metric in store}
    for metric in past:
        key = metric.task, metric.metric
        known = best.get(key)
        if known is None or metric.n_runs > known.n_runs:
            best[key] = metric
        else:
            best[key] = replace(known, accuracy=metric.accuracy)
    return ordered(best.values())


def check_table(space: Workspace, name: str) -> CheckedSuite:
    """Check a table of external results by its name or path."""
    from assay.analysis.external.verdict import results as imported

    metrics, text = _check_frame(space, imported(space.store, name, root=Path.cwd()))
    return CheckedSuite(metrics, f"{name}: {text}", None)


def _check_frame(space: Workspace, frame: pd.DataFrame) -> tuple[list[MetricCheck], str]:
    """Check a long table at the proxy scale, and compare its ranking with the target scale's.

    The defaults are the smallest and the largest scale of the table.
    """
    from assay.analysis.external.selection import with_labels
    from assay.analysis.external.table import amount
    from assay.analysis.stats.results_table import ResultsTable
    from assay.analysis.stats.suite_check import check_metrics
    from assay.analysis.stats.tables import scale_key

    table = ResultsTable.of(frame)
    frame, policy = table.frame, with_labels(space.study.policy)
    scales = sorted({str(scale) for scale in frame["scale"]}, key=amount)
    target = policy.target if policy.target and policy.target.scale in scales else None
    proxy = policy.proxy_scale or scales[0]
    if proxy not in scales:
        raise NotFound(
            f"there are no results at the policy's proxy scale {proxy}; the available results have the scales {', '.join(scales)}.",
            fix="Set `proxy_scale` of the policy to one of these scales.",
        )
    largest = target.scale if target else scales[-1]
    far = largest if scale_key(largest) != scale_key(proxy) else None
    metrics = check_metrics(frame, proxy_scale=proxy, n_seeds=policy.min_seeds, target=target, target_scale=far)
    mixes = frame[frame["scale"].astype(str) == proxy]["mix"].nunique()
    ranked = "" if far is None else f", ranked as {f'{target.task} {target.metric}' if target else 'itself'} at {far}"
    converted = sum(reason.figures["values"] for reason in table.conversions)
    notes = f", {converted:,} values converted to another unit" if converted else ""
    return metrics, f"{mixes} mixes at {proxy}{ranked}{notes}"


def without_parts(space: Workspace, metrics: Sequence[MetricCheck], *, every: bool) -> list[MetricCheck]:
    """Exclude the parts of the suite's tasks, and tasks outside of the suite unless `every` is set."""
    tasks = {task.task for task in space.study.suite.tasks}
    kept = [metric for metric in metrics if metric.task in tasks or metric.task.startswith(VALIDATION)]
    if every:
        parts = tuple(f"{task}_" for task in tasks)
        kept = [metric for metric in metrics if metric in kept or not metric.task.startswith(parts)]
    return kept
