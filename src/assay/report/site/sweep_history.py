"""Collect the history across sweeps: baseline mix, baseline scores, and outcomes."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from assay.config.metrics import FRACTIONS
from assay.config.suite import VALIDATION
from assay.report import formatting
from assay.report.plots.base import CANDIDATES, DASHES, SYMBOLS, Figure, plain_spec, short, text

if TYPE_CHECKING:
    from assay.report.site.summaries import SweepSummary, VerdictSummary

DRAWN = 12
"""Maximum number of tasks in one plot. More lines are hard to distinguish. The CSV has all tasks."""
MOVED = 1e-9
"""Minimum difference of weights. Smaller differences are rounding errors."""


class SweepOutcome(NamedTuple):
    """A sweep's question and verdict.

    Attributes:
        sweep: the sweep's name.
        summary: the sweep; None if it is not declared in this project.
        verdict: the verdict.
    """

    sweep: str
    summary: SweepSummary | None
    verdict: VerdictSummary


class BaselineChange(NamedTuple):
    """The difference between the baselines of two consecutive sweeps.

    Attributes:
        sweep: the later sweep.
        when: end of the later sweep's last run, in seconds since the epoch.
        baseline: baseline of the later sweep.
        before: baseline of the previous sweep; empty for the first sweep.
        changes: change of the weight by source, the largest change first.
    """

    sweep: str
    when: float | None
    baseline: str
    before: str
    changes: tuple[tuple[str, float], ...]


class SweepHistory(NamedTuple):
    """History of all sweeps of a store.

    Attributes:
        figures: the baseline mix and its scores by date.
        outcomes: outcomes of the sweeps, the newest first.
        changes: changes of the baseline, the oldest first.
    """

    figures: list[Figure]
    outcomes: list[SweepOutcome]
    changes: list[BaselineChange]


def collect_history(sweeps: Mapping[str, SweepSummary], verdicts: Sequence[VerdictSummary]) -> SweepHistory:
    """Collect the history of a store's sweeps.

    Args:
        sweeps: all sweeps by name.
        verdicts: verdicts of the sweeps. The history omits verdicts without a finished run.
    """
    dated = sorted((verdict for verdict in verdicts if verdict.when is not None), key=lambda v: v.when or 0.0)
    outcomes = [SweepOutcome(verdict.sweep, sweeps.get(verdict.sweep), verdict) for verdict in reversed(dated)]
    figures = [_recipe_figure(dated, sweeps), *_score_figures(dated)]
    return SweepHistory([figure for figure in figures if figure is not None], outcomes, _changes(dated, sweeps))


def _date(verdict: VerdictSummary) -> str:
    return datetime.datetime.fromtimestamp(verdict.when or 0.0, datetime.UTC).strftime("%Y-%m-%d %H:%M")


def _label(verdict: VerdictSummary) -> str:
    return f"{_date(verdict)[:10]} {formatting.shortened(verdict.sweep, 24)}"


def _changes(dated: Sequence[VerdictSummary], sweeps: Mapping[str, SweepSummary]) -> list[BaselineChange]:
    changes: list[BaselineChange] = []
    before: Mapping[str, float] = {}
    for verdict in dated:
        sweep = sweeps.get(verdict.sweep)
        if not verdict.weights or sweep is None:
            continue
        differences = {
            name: verdict.weights.get(name, 0.0) - before.get(name, 0.0) for name in {*verdict.weights, *before}
        }
        moved = sorted(
            ((n, c) for n, c in differences.items() if abs(c) > MOVED), key=lambda part: (-abs(part[1]), part[0])
        )
        if not changes or moved:
            previous = changes[-1].baseline if changes else ""
            changes.append(BaselineChange(verdict.sweep, verdict.when, sweep.baseline, previous, tuple(moved)))
        before = verdict.weights
    return changes


def _recipe_figure(dated: Sequence[VerdictSummary], sweeps: Mapping[str, SweepSummary]) -> Figure | None:
    """Plot the baseline's weights as one bar per sweep, ordered by end of the sweep."""
    import plotly.graph_objects as go

    shown = [verdict for verdict in dated if verdict.weights]
    if not shown:
        return None
    largest: dict[str, float] = {}
    for verdict in shown:
        for name, weight in verdict.weights.items():
            largest[name] = max(weight, largest.get(name, 0.0))
    names = sorted(largest, key=lambda name: (-largest[name], name))
    figure = go.Figure()
    for place, name in enumerate(names):
        figure.add_bar(
            x=[text(_label(verdict)) for verdict in shown],
            y=[short(verdict.weights.get(name, 0.0)) for verdict in shown],
            name=text(formatting.shortened(name, 40)),
            marker={"color": CANDIDATES[place % len(CANDIDATES)], "line": {"width": 1, "color": "white"}},
            opacity=1.0 - 0.25 * (place // len(CANDIDATES) % 3),
            hovertemplate=f"{text(formatting.shortened(name, 40))}: %{{y:.2%}}<extra></extra>",
        )
    figure.update_layout(
        barmode="stack", yaxis={"title": {"text": "fraction of tokens"}, "tickformat": ".0%"}, height=420
    )
    # A few sweeps get narrow bars, because a single bar must not fill the plot.
    figure.update_layout(bargap=max(0.35, 1 - 0.12 * len(shown)), xaxis={"type": "category"})
    return Figure(
        id="recipe",
        title="Baseline mix over time",
        note="One bar per sweep, labeled with the date on which its last run ended.",
        described=f"Stacked bars of {formatting.count(len(names), 'source')} in the baselines of {formatting.count(len(shown), 'sweep')}.",
        spec=plain_spec(figure),
        columns=("date", "sweep", "baseline", "source", "weight"),
        rows=[
            [_date(verdict), verdict.sweep, sweeps[verdict.sweep].baseline if verdict.sweep in sweeps else "", *weight]
            for verdict in shown
            for weight in sorted(verdict.weights.items())
        ],
    )


def _score_figures(dated: Sequence[VerdictSummary]) -> list[Figure]:
    """Plot the baselines' scores by date, with a separate plot for each scale and metric.

    Scores at different scales are not comparable.
    """
    groups: dict[tuple[str, str], list[VerdictSummary]] = {}
    for verdict in dated:
        for metric in sorted({metric for _, metric in verdict.scores}):
            groups.setdefault((verdict.scale, metric), []).append(verdict)
    return [
        _score_figure(place, scale, metric, shown)
        for place, ((scale, metric), shown) in enumerate(sorted(groups.items()))
    ]


def _score_figure(place: int, scale: str, metric: str, shown: Sequence[VerdictSummary]) -> Figure:
    import plotly.graph_objects as go

    tasks = sorted({task for verdict in shown for task, name in verdict.scores if name == metric})
    parts = {task for task in tasks for whole in tasks if task.startswith(f"{whole}_")}
    # Held-out text is first, because it is the recipe's main target. Subtasks, such as MMLU subjects, are last.
    tasks.sort(key=lambda task: (not task.startswith(VALIDATION), task in parts, task))
    figure = go.Figure()
    for number, task in enumerate(tasks[:DRAWN]):
        points = [(verdict, verdict.scores[task, metric]) for verdict in shown if (task, metric) in verdict.scores]
        color = CANDIDATES[number % len(CANDIDATES)]
        figure.add_scatter(
            x=[text(_label(verdict)) for verdict, _ in points],
            y=[short(value) for _, value in points],
            mode="lines+markers",
            line={"color": color, "width": 1.6, "dash": DASHES[number // len(CANDIDATES) % len(DASHES)]},
            marker={"color": color, "size": 8, "symbol": SYMBOLS[number % len(SYMBOLS)]},
            name=text(formatting.shortened(task.removeprefix(VALIDATION), 40)),
            hovertemplate=f"{text(formatting.shortened(task, 40))}: %{{y:.4g}}<br>%{{x}}<extra></extra>",
        )
    figure.update_layout(xaxis={"type": "category"}, height=360)
    figure.update_layout(yaxis={"title": {"text": formatting.metric_name(metric)}})
    if metric in FRACTIONS:
        figure.update_layout(yaxis={"tickformat": ".1%"})
    more = f" {len(tasks) - DRAWN} more tasks are in the CSV file." if len(tasks) > DRAWN else ""
    return Figure(
        id=f"scores-{place}",
        title=f"{formatting.metric_name(metric)[0].upper()}{formatting.metric_name(metric)[1:]} of the baselines",
        note=f"{scale}.{more}",
        described=f"{formatting.metric_name(metric)} of {formatting.count(len(tasks), 'task')} by date.",
        spec=plain_spec(figure),
        columns=("date", "sweep", "scale", "task", "metric", "value"),
        rows=[
            [_date(verdict), verdict.sweep, scale, task, metric, verdict.scores[task, metric]]
            for verdict in shown
            for task in tasks
            if (task, metric) in verdict.scores
        ],
    )
