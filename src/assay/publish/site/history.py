"""Across sweeps: how the recipe and its scores moved over time, and which questions have been settled, by which sweep."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from assay.publish import words
from assay.publish.plots import CANDIDATES, DASHES, SYMBOLS, Figure, plain_spec, short, text
from assay.suite import VALIDATION

if TYPE_CHECKING:
    from assay.publish.site.values import Judged, SweepKnown

DRAWN = 12
"""Scores that are drawn of one scale: more lines than that nobody tells apart; all are in the CSV."""
MOVED = 1e-9
"""A difference of weights below this is rounding."""


class Asked(NamedTuple):
    """A question and what came of it.

    Attributes:
        sweep: where it was asked.
        known: the sweep; None where it is not declared here.
        judged: what it came to.
        settled: whether every candidate was accepted or rejected.
    """

    sweep: str
    known: SweepKnown | None
    judged: Judged
    settled: bool


class Move(NamedTuple):
    """How the baseline of one sweep differs from that of the one before.

    Attributes:
        sweep: the later one.
        when: seconds since the epoch.
        baseline: its baseline.
        before: the baseline before; empty for the first.
        changes: by source, the difference of the share of tokens, the largest first.
    """

    sweep: str
    when: float | None
    baseline: str
    before: str
    changes: tuple[tuple[str, float], ...]


class History(NamedTuple):
    """All of it.

    Attributes:
        figures: the recipe and its scores by date.
        questions: the newest first.
        moves: of the baseline, the oldest first.
    """

    figures: list[Figure]
    questions: list[Asked]
    moves: list[Move]


def history(sweeps: Mapping[str, SweepKnown], judged: Sequence[Judged]) -> History:
    """What the sweeps of a store tell together.

    Args:
        sweeps: by name.
        judged: what they came to; those that could not be judged are left out of the plots.
    """
    dated = sorted((one for one in judged if one.when is not None), key=lambda one: one.when or 0.0)
    questions = [Asked(one.sweep, sweeps.get(one.sweep), one, one.settled) for one in reversed(dated)]
    found = [_recipe(dated, sweeps), *_scores(dated)]
    return History([figure for figure in found if figure is not None], questions, _moves(dated, sweeps))


def _date(one: Judged) -> str:
    return datetime.datetime.fromtimestamp(one.when or 0.0, datetime.UTC).strftime("%Y-%m-%d %H:%M")


def _label(one: Judged) -> str:
    return f"{_date(one)[:10]} {words.shortened(one.sweep, 24)}"


def _moves(dated: Sequence[Judged], sweeps: Mapping[str, SweepKnown]) -> list[Move]:
    found: list[Move] = []
    before: Mapping[str, float] = {}
    for one in dated:
        known = sweeps.get(one.sweep)
        if not one.weights or known is None:
            continue
        changes = {name: one.weights.get(name, 0.0) - before.get(name, 0.0) for name in {*one.weights, *before}}
        moved = sorted(
            ((n, c) for n, c in changes.items() if abs(c) > MOVED), key=lambda part: (-abs(part[1]), part[0])
        )
        if not found or moved:
            previous = found[-1].baseline if found else ""
            found.append(Move(one.sweep, one.when, known.baseline, previous, tuple(moved)))
        before = one.weights
    return found


def _recipe(dated: Sequence[Judged], sweeps: Mapping[str, SweepKnown]) -> Figure | None:
    """The baseline's weights, a bar a sweep, in the order in which the sweeps ended."""
    import plotly.graph_objects as go

    shown = [one for one in dated if one.weights]
    if not shown:
        return None
    largest: dict[str, float] = {}
    for one in shown:
        for name, weight in one.weights.items():
            largest[name] = max(weight, largest.get(name, 0.0))
    names = sorted(largest, key=lambda name: (-largest[name], name))
    figure = go.Figure()
    for place, name in enumerate(names):
        figure.add_bar(
            x=[text(_label(one)) for one in shown],
            y=[short(one.weights.get(name, 0.0)) for one in shown],
            name=text(words.shortened(name, 40)),
            marker={"color": CANDIDATES[place % len(CANDIDATES)], "line": {"width": 1, "color": "white"}},
            opacity=1.0 - 0.25 * (place // len(CANDIDATES) % 3),
            hovertemplate=f"{text(words.shortened(name, 40))}: %{{y:.2%}}<extra></extra>",
        )
    figure.update_layout(barmode="stack", yaxis={"title": {"text": "share of tokens"}, "tickformat": ".0%"}, height=420)
    # A single bar as wide as the plot is a wall of colour.
    figure.update_layout(bargap=max(0.35, 1 - 0.12 * len(shown)), xaxis={"type": "category"})
    return Figure(
        id="recipe",
        title="The baseline mix over time",
        note="A bar is the baseline of a sweep, by the day on which its last run ended.",
        described=f"Stacked bars of {words.count(len(names), 'source')} in the baselines of {words.count(len(shown), 'sweep')}.",
        spec=plain_spec(figure),
        columns=("date", "sweep", "baseline", "source", "weight"),
        rows=[
            [_date(one), one.sweep, sweeps[one.sweep].baseline if one.sweep in sweeps else "", name, weight]
            for one in shown
            for name, weight in sorted(one.weights.items())
        ],
    )


def _scores(dated: Sequence[Judged]) -> list[Figure]:
    """The baselines' scores by date; one plot for each scale and metric, since others cannot be compared."""
    groups: dict[tuple[str, str], list[Judged]] = {}
    for one in dated:
        for metric in sorted({metric for _, metric in one.scores}):
            groups.setdefault((one.scale, metric), []).append(one)
    return [
        _score(place, scale, metric, shown) for place, ((scale, metric), shown) in enumerate(sorted(groups.items()))
    ]


def _score(place: int, scale: str, metric: str, shown: Sequence[Judged]) -> Figure:
    import plotly.graph_objects as go

    tasks = sorted({task for one in shown for task, name in one.scores if name == metric})
    parts = {task for task in tasks for whole in tasks if task.startswith(f"{whole}_")}
    # The held-out sources first: they are what the recipe is about; parts of tasks, such as MMLU's subjects, last.
    tasks.sort(key=lambda task: (not task.startswith(VALIDATION), task in parts, task))
    figure = go.Figure()
    for number, task in enumerate(tasks[:DRAWN]):
        points = [(one, one.scores[task, metric]) for one in shown if (task, metric) in one.scores]
        colour = CANDIDATES[number % len(CANDIDATES)]
        figure.add_scatter(
            x=[text(_label(one)) for one, _ in points],
            y=[short(value) for _, value in points],
            mode="lines+markers",
            line={"color": colour, "width": 1.6, "dash": DASHES[number // len(CANDIDATES) % len(DASHES)]},
            marker={"color": colour, "size": 8, "symbol": SYMBOLS[number % len(SYMBOLS)]},
            name=text(words.shortened(task.removeprefix(VALIDATION), 40)),
            hovertemplate=f"{text(words.shortened(task, 40))}: %{{y:.4g}}<br>%{{x}}<extra></extra>",
        )
    figure.update_layout(xaxis={"type": "category"}, height=360)
    figure.update_layout(yaxis={"title": {"text": words.metric_name(metric)}})
    if metric in words.ACCURACIES:
        figure.update_layout(yaxis={"tickformat": ".1%"})
    more = f" {len(tasks) - DRAWN} more tasks are in the CSV." if len(tasks) > DRAWN else ""
    return Figure(
        id=f"scores-{place}",
        title=f"{words.metric_name(metric)[0].upper()}{words.metric_name(metric)[1:]} of the baselines",
        note=f"{scale}.{more}",
        described=f"{words.metric_name(metric)} of {words.count(len(tasks), 'task')} by date.",
        spec=plain_spec(figure),
        columns=("date", "sweep", "scale", "task", "metric", "value"),
        rows=[
            [_date(one), one.sweep, scale, task, metric, one.scores[task, metric]]
            for one in shown
            for task in tasks
            if (task, metric) in one.scores
        ],
    )
