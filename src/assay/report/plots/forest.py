"""Plot every effect with its interval, its seeds and the policy's margin, by role."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay.config.metrics import FRACTIONS, metric_facts
from assay.config.suite import VALIDATION
from assay.report import formatting
from assay.report.model import Report, finite
from assay.report.plots.base import BASELINE, FAINT, Figure, MixStyle, label_rows, mix_styles, plain_spec, short, text

if TYPE_CHECKING:
    from assay.analysis.comparison import Comparison
    from assay.config.metrics import Better


FURTHER = 2.5
"""Maximum ratio of the range of all comparisons to the range of voting comparisons.

Above this ratio, the axis covers only the range of voting comparisons.
"""
DRAWN = 400
"""Maximum number of comparisons in one plot. With 1,900, the plot had 33,000 pixels and Chromium took 28 s."""
DOTS = 4_000
"""Maximum number of seed dots in one plot. A plot with more seeds shows only intervals."""


def plot_effects(report: Report) -> list[Figure]:
    """Draw a forest plot per metric and direction of improvement, with effects, intervals, and seeds as dots.

    An effect is candidate minus baseline. Parts of a suite task, such as MMLU's subjects, have separate, collapsed
    plots.
    """
    whole = {task.task for task in report.evaluation.tasks} if report.evaluation else set()
    groups: dict[tuple[bool, str, bool, Better | None], list[Comparison]] = {}
    for comparison in report.comparisons:
        held_out = comparison.task.startswith(VALIDATION)
        part = bool(whole) and comparison.role == "monitor" and not held_out and comparison.task not in whole
        key = (part, comparison.metric, held_out, comparison.better)
        groups.setdefault(key, []).append(comparison)
    # Comparisons are sorted: voting metrics first, in the policy's order. A group takes the place of its first member,
    # and parts come last.
    ordered = sorted(groups.items(), key=lambda item: item[0][0])
    return [_forest(report, group, place, parts=key[0]) for place, (key, group) in enumerate(ordered)]


def _forest(report: Report, comparisons: Sequence[Comparison], place: int, *, parts: bool) -> Figure:
    import plotly.graph_objects as go

    metric, better = comparisons[0].metric, comparisons[0].better
    held_out = comparisons[0].task.startswith(VALIDATION)
    every, comparisons = comparisons, _clearest(comparisons)
    seeds = sum(len(c.differences) for c in comparisons) <= DOTS
    rows = _forest_rows(comparisons)
    at = {label: row for row, (label, _) in enumerate(rows)}
    style = mix_styles(report)
    names = [name for name in report.sweep.candidates if any(c.candidate == name for c in comparisons)]
    figure = go.Figure()
    for number, name in enumerate(names):
        shift = (number - (len(names) - 1) / 2) * 0.66 / len(names)
        own = [c for c in comparisons if c.candidate == name]
        for signal in ("ok", "unknown", "no signal"):
            part = [c for c in own if c.signal == signal]
            _add_estimates(figure, part, [at[c.task, c.role] + shift for c in part], name, style[name], seeds=seeds)
    _add_margins(figure, comparisons, at)
    window = _window(comparisons)
    if window is not None:
        beyond = [c for c in comparisons if not window[0] <= (_scaled(finite(c.effect), c) or 0.0) <= window[1]]
        _add_beyond(figure, beyond, [at[c.task, c.role] for c in beyond], window)
        figure.update_layout(xaxis={"range": window})
    labels = [(_row_label(label, comparisons), label[0] is None) for label, _ in rows]
    label_rows(figure, labels, height=max(30, 17 * len(names) + 12))
    arrow = {
        "higher": "better \N{RIGHTWARDS ARROW}",
        "lower": "\N{LEFTWARDS ARROW} better",
        None: "direction of improvement unknown",
    }[better]
    what = formatting.metric_name(metric)
    if metric == "bits_per_byte":
        what += " of held-out text" if held_out else " of the right answer"
    unit = "points" if metric in FRACTIONS else text(formatting.shortened(formatting.metric_name(metric), 20))
    unusual = f", {better} is better" if better not in (None, metric_facts(metric).better) else ""
    axis = f"candidate {formatting.MINUS} baseline, {unit} ({arrow})"
    figure.update_layout(xaxis={"title": {"text": axis}, "zeroline": True})
    return Figure(
        id=f"effects-{place}",
        title=f"{what[0].upper()}{what[1:]}{', by parts of tasks' if parts else ''}{unusual}",
        note=_note(every, comparisons, cut=window is not None, seeds=seeds),
        described=f"Forest plot of {formatting.count(len(comparisons), 'comparison')} in {what}; "
        "the table of comparisons has the same figures.",
        spec=plain_spec(figure),
        columns=(
            "candidate",
            "task",
            "metric",
            "role",
            "effect",
            "ci_low",
            "ci_high",
            "p_claim",
            "claim",
            "signal",
            "seeds",
        ),
        rows=[_forest_row(c) for c in every],
        folded=parts,
    )


def _clearest(comparisons: Sequence[Comparison]) -> Sequence[Comparison]:
    """Select at most `DRAWN` comparisons: voting tasks first, then the clearest effects.

    The clearest effects are the largest effects relative to their noise.
    """
    if len(comparisons) <= DRAWN:
        return comparisons
    size: dict[str, float] = {}
    for c in comparisons:
        effect, low, high = (finite(value) for value in (c.effect, c.ci_low, c.ci_high))
        width = high - low if high is not None and low is not None else 0.0
        clear = abs(effect or 0.0) / width if width > 0 else 0.0
        size[c.task] = max(size.get(c.task, 0.0), math.inf if c.role != "monitor" else clear)
    most = max(1, DRAWN * len(size) // len(comparisons))
    kept = set(sorted(size, key=lambda task: -size[task])[:most]) | {
        t for t, value in size.items() if value == math.inf
    }
    return [c for c in comparisons if c.task in kept]


def _note(every: Sequence[Comparison], drawn: Sequence[Comparison], *, cut: bool, seeds: bool) -> str:
    """Describe the comparisons or seeds that the plot omits, and where the reader can see them."""
    tasks, shown = (len({c.task for c in part}) for part in (every, drawn))
    return " ".join(
        sentence
        for sentence, applies in (
            (
                f"Of {tasks} tasks, the {shown} with the largest effects for their noise are drawn; the CSV has all.",
                shown < tasks,
            ),
            ("Seeds are too many to draw; the CSV has them.", not seeds),
            ("The axis is cut to the metrics that vote: double-click the plot to see all.", cut),
        )
        if applies
    )


def _window(comparisons: Sequence[Comparison]) -> list[float] | None:
    """Return the axis range of voting comparisons if monitors exceed it by far, else None."""

    def reach(shown: Sequence[Comparison]) -> tuple[float, float]:
        ends = [_scaled(finite(x), c) for c in shown for x in (c.effect, c.ci_low, c.ci_high, c.margin, -c.margin)]
        known = [x for x in ends if x is not None]
        return min([0.0, *known]), max([0.0, *known])

    voting = [c for c in comparisons if c.role != "monitor"]
    (low, high), (least, most) = reach(voting), reach(comparisons)
    if not voting or most - least <= FURTHER * (high - low):
        return None
    slack = 0.12 * (high - low)
    return [low - slack, high + slack]


def _add_beyond(figure: Any, comparisons: Sequence[Comparison], ys: Sequence[float], window: Sequence[float]) -> None:
    """Write the effects outside the axis range at the edges of the plot."""
    for side, edge in zip((-1, 1), window, strict=True):
        part = [(c, y) for c, y in zip(comparisons, ys, strict=True) if (c.effect > 0) == (side > 0)]
        rows = sorted({y for _, y in part})
        labels = {y: [formatting.signed(c.metric, finite(c.effect)) for c, row in part if row == y] for y in rows}
        if rows:
            arrow = "\N{BLACK LEFT-POINTING SMALL TRIANGLE}" if side < 0 else "\N{BLACK RIGHT-POINTING SMALL TRIANGLE}"
            figure.add_scatter(
                x=[edge] * len(rows),
                y=rows,
                mode="text",
                text=[f"{arrow} {', '.join(labels[y])}" for y in rows],
                textposition="middle right" if side < 0 else "middle left",
                textfont={"size": 11, "color": FAINT},
                showlegend=False,
                hoverinfo="skip",
            )


def _forest_row(c: Comparison) -> list[Any]:
    seeds = " ".join(f"{seed}:{value:.6g}" for seed, value in seed_differences(c).items())
    figures = [finite(value) for value in (c.effect, c.ci_low, c.ci_high, c.p_claim)]
    return [c.candidate, c.task, c.metric, c.role, *figures, c.claim, c.signal, seeds]


def seed_differences(comparison: Comparison) -> dict[str, float]:
    """Return the finite differences of single seeds by seed."""
    values = {str(seed): finite(value) for seed, value in comparison.differences.items()}
    return {seed: value for seed, value in values.items() if value is not None}


Row = tuple[str | None, str]
"""A task and its role; without a task, the heading of a role."""


def _forest_rows(comparisons: Sequence[Comparison]) -> list[tuple[Row, bool]]:
    rows: list[tuple[Row, bool]] = []
    for role in ("primary", "guardrail", "monitor"):
        tasks = list(dict.fromkeys(c.task for c in comparisons if c.role == role))
        if tasks:
            rows.append(((None, role), True))
            rows += [((task, role), False) for task in tasks]
    return rows


def _row_label(row: Row, comparisons: Sequence[Comparison]) -> str:
    task, role = row
    if task is None:
        return {"primary": "Primary", "guardrail": "Guardrails", "monitor": "Monitors"}[role]
    name = task.removeprefix(VALIDATION)
    silent = all(c.signal == "no signal" for c in comparisons if c.task == task)
    return formatting.shortened(name, 30) + (" (no signal)" if silent else "")


def _add_estimates(
    figure: Any, comparisons: Sequence[Comparison], ys: Sequence[float], name: str, look: MixStyle, *, seeds: bool
) -> None:
    """Draw estimates, intervals and optionally seeds of one candidate's comparisons with the same signal state."""
    if not comparisons:
        return
    state = comparisons[0].signal
    color = FAINT if state == "no signal" else look.color
    dots = [(value, y) for c, y in zip(comparisons, ys, strict=True) for value in seed_differences(c).values()]
    if seeds:
        figure.add_scatter(
            x=[_scaled(value, comparisons[0]) for value, _ in dots],
            y=[y + 0.13 for _, y in dots],
            mode="markers",
            marker={"size": 4, "color": color, "opacity": 0.65},
            legendgroup=name,
            showlegend=False,
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=[_scaled(finite(c.effect), c) for c in comparisons],
        y=list(ys),
        error_x=_interval_bars(comparisons, color),
        mode="markers",
        marker={"size": 9, "symbol": look.symbol + ("" if state == "ok" else "-open"), "color": color},
        name=text(formatting.shortened(name, 60)) + {"ok": "", "unknown": ": signal unknown"}.get(state, ": no signal"),
        legendgroup=name,
        hovertext=[_forest_hover(c) for c in comparisons],
        hoverinfo="text",
    )


def _interval_bars(comparisons: Sequence[Comparison], color: str) -> dict[str, Any]:
    # Without an interval (a single seed), there is no bar. A bar of length 0 would suggest certainty. The hover text
    # states "no interval".
    def reach(c: Comparison, end: float | None) -> float:
        bound, effect = finite(end), finite(c.effect)
        return 0.0 if bound is None or effect is None else abs(bound - effect)

    return {
        "type": "data",
        "symmetric": False,
        "array": [_scaled(reach(c, c.ci_high), c) for c in comparisons],
        "arrayminus": [_scaled(reach(c, c.ci_low), c) for c in comparisons],
        "color": color,
        "thickness": 1.6,
        "width": 0,
    }


def _add_margins(figure: Any, comparisons: Sequence[Comparison], at: Mapping[Row, int]) -> None:
    """Draw a tick at the margin of each metric.

    A gain of a primary metric must exceed the margin. A loss of a guardrail must not exceed it.
    """
    margins: dict[Row, float] = {}
    for c in comparisons:
        if c.margin and c.role != "monitor":
            good = 1 if c.better == "higher" else -1
            margins[c.task, c.role] = c.margin * (good if c.role == "primary" else -good)
    if not margins:
        return
    figure.add_scatter(
        x=[_scaled(value, comparisons[0]) for value in margins.values()],
        y=[at[row] for row in margins],
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 22, "color": BASELINE, "line": {"width": 2, "color": BASELINE}},
        name="margin of the policy",
        hovertext=[
            f"{text(row[0])}: margin {formatting.signed(comparisons[0].metric, value)}"
            for row, value in margins.items()
        ],
        hoverinfo="text",
    )


def _forest_hover(c: Comparison) -> str:
    bounds = formatting.interval(c.metric, finite(c.ci_low), finite(c.ci_high))
    lines = [
        f"<b>{text(formatting.shortened(c.task, 60))}</b>, {c.role}",
        text(formatting.shortened(c.candidate, 60)),
        f"effect {formatting.signed(c.metric, finite(c.effect))} ({formatting.change(c)})",
        f"{c.level:.0%} interval {bounds}" if bounds != formatting.NOTHING else "no interval: too few seeds",
        f"p {formatting.probability(finite(c.p_claim))} (claim: {formatting.claim(c)})"
        + ("" if c.votes else "; does not vote"),
        f"{formatting.count(c.n_seeds, 'seed')}, {formatting.count(c.n_items or 0, 'item')}",
    ]
    if c.signal != "ok":
        lines += [
            text(part)
            for part in _wrapped(f"{'no signal' if c.signal == 'no signal' else 'signal unknown'}: {c.signal_reason}")
        ]
    return "<br>".join(lines)


def _scaled(value: float | None, comparison: Comparison) -> float | None:
    """Convert a difference to its display unit: percentage points for accuracies."""
    return short(None if value is None else value * (100 if comparison.metric in FRACTIONS else 1))


def _wrapped(message: str, width: int = 60) -> list[str]:
    return textwrap.wrap(message, width)[:4] or [""]
