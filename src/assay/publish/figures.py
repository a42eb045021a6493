"""The page's plots: plotly figures of a report, each with its numbers as a table to download.

A mix has one colour and one symbol in every plot, the baseline a neutral one. Colours are those of Okabe and Ito
(2008), which stay apart for colour-blind readers; the page swaps each for a lighter one on a dark ground.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assay.publish import words
from assay.publish.report import Report, RunShown, finite
from assay.suite import VALIDATION

if TYPE_CHECKING:
    from assay.compare import Comparison

BASELINE = "#5b6673"
FAINT = "#8b96a3"
"""Of what decides nothing."""
CANDIDATES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#a67c00", "#3aa0d8")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon")
DASHES = ("solid", "dash", "dot", "dashdot")

DARK = {
    BASELINE: "#b3bdc9",
    FAINT: "#76818e",
    "#0072b2": "#5ab4f0",
    "#d55e00": "#ff8f4a",
    "#009e73": "#35cfa4",
    "#cc79a7": "#eda7cd",
    "#a67c00": "#e8bd4c",
    "#3aa0d8": "#a3d8f7",
}
"""The same colours where the ground is dark."""

POINTS = 60_000
"""Of all curves of one plot together: above that a page gets slow to open, and no eye sees the difference."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One plot, its data as a table, and what it says to who cannot see it."""

    id: str
    title: str
    note: str
    """How to read it, where the section does not say so already."""
    described: str
    """The plot in words, for screen readers."""
    spec: dict[str, Any]
    """Plotly's `data` and `layout`, as plain JSON values."""
    columns: tuple[str, ...]
    rows: list[list[Any]]


@dataclass(frozen=True)
class Look:
    """How a mix is drawn."""

    place: int
    """In the sweep's order; the baseline is 0."""
    colour: str
    symbol: str
    dash: str


def looks(report: Report) -> dict[str, Look]:
    """One look for each mix; past six candidates colours come again with another symbol and dash."""
    found = {report.sweep.baseline: Look(0, BASELINE, SYMBOLS[0], "solid")}
    for place, name in enumerate(report.sweep.candidates):
        turn = place // len(CANDIDATES)
        symbol = SYMBOLS[(place + 1 + turn) % len(SYMBOLS)]
        found[name] = Look(place + 1, CANDIDATES[place % len(CANDIDATES)], symbol, DASHES[turn % len(DASHES)])
    return found


def text(value: object) -> str:
    """Text that plotly shows as it is: its labels take a subset of HTML, and names must not become that."""
    return html.escape(str(value), quote=False)


def composition(report: Report) -> Figure | None:
    """What each mix asks of every source, and what its runs were given."""
    import plotly.graph_objects as go

    if not report.mixes:
        return None
    names = _sources_in_order(report)
    style, count = looks(report), len(report.mixes)
    band = 0.8 / count
    given = _delivered_means(report)
    figure, rows = go.Figure(), []
    for place, mix in enumerate(report.mixes):
        shift = (place - (count - 1) / 2) * band
        ys = [row + shift for row, name in enumerate(names) if name in mix.weights]
        own = [name for name in names if name in mix.weights]
        hover = [_composition_hover(report, mix.name, name, given) for name in own]
        figure.add_bar(
            orientation="h",
            x=[_short(mix.weights[name]) for name in own],
            y=ys,
            width=band * 0.92,
            name=text(words.shortened(mix.name, 60)),
            marker_color=style[mix.name].colour,
            hovertext=hover,
            hoverinfo="text",
        )
        seen = [(y, given[mix.name, name]) for y, name in zip(ys, own, strict=True) if (mix.name, name) in given]
        figure.add_scatter(
            x=[_short(value) for _, value in seen],
            y=[y for y, _ in seen],
            mode="markers",
            marker={
                "symbol": "diamond",
                "size": 7,
                "color": style[mix.name].colour,
                "line": {"width": 1, "color": "white"},
            },
            showlegend=False,
            hoverinfo="skip",
        )
        rows += [
            [mix.name, name, mix.weights[name], mix.tokens[name], mix.epochs.get(name), given.get((mix.name, name))]
            for name in own
        ]
    figure.update_layout(barmode="overlay", xaxis={"title": {"text": "share of tokens"}, "tickformat": ".0%"})
    _label_rows(figure, [(name, False) for name in names], height=max(26, 11 * count + 12))
    return Figure(
        id="composition",
        title="Composition",
        note="Bars: what is requested. Diamonds: what the finished runs were given, on average over seeds.",
        described=f"Bar chart of the share of tokens of {words.count(len(names), 'source')} in each of "
        f"{words.count(count, 'mix', 'mixes')}; the table below has the same figures.",
        spec=_plain(figure),
        columns=("mix", "source", "requested", "tokens", "epochs", "delivered"),
        rows=rows,
    )


def effects(report: Report) -> list[Figure]:
    """A forest plot for each metric: candidate minus baseline with its interval, seeds as dots."""
    groups: dict[tuple[str, bool], list[Comparison]] = {}
    for comparison in report.comparisons:
        groups.setdefault((comparison.metric, comparison.task.startswith(VALIDATION)), []).append(comparison)
    # What votes comes first and in the policy's order, so a group stands where its first member does.
    return [_forest(report, group, place) for place, group in enumerate(groups.values())]


def curves(report: Report) -> list[Figure]:
    """Loss and bits per byte by tokens, and how training went; one line a seed."""
    found = [
        _curve(report, "loss", "Training loss", "loss (nats a token)", settle=True),
        _curve(report, "bits_per_byte", "Bits per byte while training", "bits per byte", settle=True),
        _curve(report, "lr", "Learning rate", "learning rate"),
        _curve(report, "grad_norm", "Norm of the gradient", "gradient norm", settle=True),
        _curve(report, "tokens_per_second", "Speed", "tokens a second"),
    ]
    return [figure for figure in found if figure is not None]


# --- forest plots


def _forest(report: Report, comparisons: Sequence[Comparison], place: int) -> Figure:
    import plotly.graph_objects as go

    metric, better = comparisons[0].metric, comparisons[0].better
    held_out = comparisons[0].task.startswith(VALIDATION)
    rows = _forest_rows(comparisons)
    at = {label: row for row, (label, _) in enumerate(rows)}
    style = looks(report)
    names = [name for name in report.sweep.candidates if any(c.candidate == name for c in comparisons)]
    figure = go.Figure()
    for number, name in enumerate(names):
        shift = (number - (len(names) - 1) / 2) * 0.66 / len(names)
        own = [c for c in comparisons if c.candidate == name]
        for signal in ("ok", "unknown", "no signal"):
            part = [c for c in own if c.signal == signal]
            _add_estimates(figure, part, [at[c.task, c.role] + shift for c in part], name, style[name])
    _add_margins(figure, comparisons, at)
    labels = [(_row_label(label, comparisons), label[0] is None) for label, _ in rows]
    _label_rows(figure, labels, height=max(30, 17 * len(names) + 12))
    arrow = "better \N{RIGHTWARDS ARROW}" if better == "higher" else "\N{LEFTWARDS ARROW} better"
    what = words.metric_name(metric) + (" of held-out text" if held_out else "")
    unit = "points" if metric in words.ACCURACIES else text(words.shortened(words.metric_name(metric), 20))
    axis = f"candidate {words.MINUS} baseline, {unit} ({arrow})"
    figure.update_layout(xaxis={"title": {"text": axis}, "zeroline": True})
    return Figure(
        id=f"effects-{place}",
        title=f"{what[0].upper()}{what[1:]}",
        note="",
        described=f"Forest plot of {words.count(len(comparisons), 'comparison')} in {what}; "
        "the table of comparisons has the same figures.",
        spec=_plain(figure),
        columns=("candidate", "task", "metric", "role", "effect", "ci_low", "ci_high", "p_adjusted", "signal", "seeds"),
        rows=[_forest_row(c) for c in comparisons],
    )


def _forest_row(c: Comparison) -> list[Any]:
    seeds = " ".join(f"{seed}:{value:.6g}" for seed, value in seed_differences(c).items())
    figures = [finite(value) for value in (c.effect, c.ci_low, c.ci_high, c.p_adjusted)]
    return [c.candidate, c.task, c.metric, c.role, *figures, c.signal, seeds]


def seed_differences(comparison: Comparison) -> dict[str, float]:
    """The differences of single seeds that are finite numbers, by seed."""
    values = {str(seed): finite(value) for seed, value in comparison.differences.items()}
    return {seed: value for seed, value in values.items() if value is not None}


Row = tuple[str | None, str]
"""A task and its role; no task is the heading of a role."""


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
    return words.shortened(name, 30) + (" (no signal)" if silent else "")


def _add_estimates(figure: Any, comparisons: Sequence[Comparison], ys: Sequence[float], name: str, look: Look) -> None:
    """Marks, intervals and seeds of one candidate's comparisons that have one state of signal."""
    if not comparisons:
        return
    state = comparisons[0].signal
    colour = FAINT if state == "no signal" else look.colour
    dots = [(value, y) for c, y in zip(comparisons, ys, strict=True) for value in seed_differences(c).values()]
    figure.add_scatter(
        x=[_scaled(value, comparisons[0]) for value, _ in dots],
        y=[y + 0.13 for _, y in dots],
        mode="markers",
        marker={"size": 4, "color": colour, "opacity": 0.65},
        legendgroup=name,
        showlegend=False,
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=[_scaled(finite(c.effect), c) for c in comparisons],
        y=list(ys),
        error_x=_interval_bars(comparisons, colour),
        mode="markers",
        marker={"size": 9, "symbol": look.symbol + ("" if state == "ok" else "-open"), "color": colour},
        name=text(words.shortened(name, 60)) + {"ok": "", "unknown": ": signal unknown"}.get(state, ": no signal"),
        legendgroup=name,
        hovertext=[_forest_hover(c) for c in comparisons],
        hoverinfo="text",
    )


def _interval_bars(comparisons: Sequence[Comparison], colour: str) -> dict[str, Any]:
    # No interval (a single seed) is no bar; a bar of length 0 would read as certainty, so the hover says "no interval".
    def reach(c: Comparison, end: float | None) -> float:
        bound, effect = finite(end), finite(c.effect)
        return 0.0 if bound is None or effect is None else abs(bound - effect)

    return {
        "type": "data",
        "symmetric": False,
        "array": [_scaled(reach(c, c.ci_high), c) for c in comparisons],
        "arrayminus": [_scaled(reach(c, c.ci_low), c) for c in comparisons],
        "color": colour,
        "thickness": 1.6,
        "width": 0,
    }


def _add_margins(figure: Any, comparisons: Sequence[Comparison], at: Mapping[Row, int]) -> None:
    """A tick where the policy draws its line: a primary has to be beyond it, a guardrail has to stay before it."""
    seen: dict[Row, float] = {}
    for c in comparisons:
        if c.margin and c.role != "monitor":
            good = 1 if c.better == "higher" else -1
            seen[c.task, c.role] = c.margin * (good if c.role == "primary" else -good)
    if not seen:
        return
    figure.add_scatter(
        x=[_scaled(value, comparisons[0]) for value in seen.values()],
        y=[at[row] for row in seen],
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 22, "color": BASELINE, "line": {"width": 2, "color": BASELINE}},
        name="margin of the policy",
        hovertext=[
            f"{text(row[0])}: margin {words.signed(comparisons[0].metric, value)}" for row, value in seen.items()
        ],
        hoverinfo="text",
    )


def _forest_hover(c: Comparison) -> str:
    bounds = words.interval(c.metric, finite(c.ci_low), finite(c.ci_high))
    lines = [
        f"<b>{text(words.shortened(c.task, 60))}</b>, {c.role}",
        text(words.shortened(c.candidate, 60)),
        f"effect {words.signed(c.metric, finite(c.effect))} ({words.change(c)})",
        f"{c.level:.0%} interval {bounds}" if bounds != words.NOTHING else "no interval: too few seeds",
        f"adjusted p {words.probability(finite(c.p_adjusted))}" + ("" if c.votes else "; does not vote"),
        f"{words.count(c.n_seeds, 'seed')}, {words.count(c.n_items or 0, 'item')}",
    ]
    if c.signal != "ok":
        lines += [
            text(part)
            for part in _wrapped(f"{'no signal' if c.signal == 'no signal' else 'signal unknown'}: {c.signal_reason}")
        ]
    return "<br>".join(lines)


# --- curves


def _curve(report: Report, key: str, title: str, axis: str, *, settle: bool = False) -> Figure | None:
    import plotly.graph_objects as go

    series = [(run, _series(run, key)) for run in report.runs]
    drawn = [(run, points) for run, points in series if points]
    if not drawn:
        return None
    most = max(40, min(400, POINTS // len(drawn)))
    style = looks(report)
    figure, rows, named = go.Figure(), [], set()
    for run, points in drawn:
        look, kept = style[run.mix], thinned(points, most)
        figure.add_scatter(
            x=[_short(x) for x, _ in kept],
            y=[_short(y) for _, y in kept],
            mode="lines" if len(kept) > 1 else "markers",
            line={"color": look.colour, "width": 1.5, "dash": look.dash},
            opacity=0.85,
            name=text(words.shortened(run.mix, 60)),
            legendgroup=run.mix,
            showlegend=run.mix not in named,
            hovertemplate=f"{text(words.shortened(run.mix, 40))} s{run.seed}<br>%{{x:.3s}} tokens: %{{y:.4g}}<extra></extra>",
        )
        named.add(run.mix)
        rows += [[run.mix, run.seed, run.short, _short(x), _short(y)] for x, y in kept]
    figure.update_layout(
        xaxis={"title": {"text": "tokens"}, "tickformat": "~s", "rangemode": "tozero"},
        yaxis={"title": {"text": axis}},
        height=360,
    )
    stretch = max(math.ceil(len(points) / most) for _, points in drawn)
    note = "One line a seed." if stretch == 1 else f"One line a seed, each point the mean of {stretch} logged steps."
    if settle:
        window = _settled([points for _, points in drawn])
        if window is not None:
            figure.update_layout(yaxis={"range": window})
            note += " The axis leaves out the first tenth of the run: double-click the plot to see all."
    return Figure(
        id=f"curve-{key.replace('_', '-')}",
        title=title,
        note=note,
        described=f"{title} by tokens for {words.count(len(drawn), 'run')}; the last values are in the table of runs.",
        spec=_plain(figure),
        columns=("mix", "seed", "run", "tokens", key),
        rows=rows,
    )


Points = list[tuple[float, float]]


def _series(run: RunShown, key: str) -> Points:
    pairs = [(finite(record.get("tokens")), finite(record.get(key))) for record in run.history]
    return [(x, y) for x, y in pairs if x is not None and y is not None]


def thinned(points: Points, most: int) -> Points:
    """At most so many points: means over stretches of equal numbers of records, the last stretch's end kept."""
    size = math.ceil(len(points) / most)
    if size <= 1:
        return points
    stretches = [points[start : start + size] for start in range(0, len(points), size)]
    return [(part[-1][0], math.fsum(y for _, y in part) / len(part)) for part in stretches]


def _settled(series: Iterable[Points]) -> list[float] | None:
    """The range of values after the first tenth of each run, a little wider; the fall at the start would hide the rest."""
    late = [y for points in series for x, y in points if x > points[-1][0] / 10]
    if not late or min(late) == max(late):
        return None
    low, high = min(late), max(late)
    slack = (high - low) * 0.06
    return [low - slack, high + slack]


# --- composition


def _sources_in_order(report: Report) -> list[str]:
    domains = {source.name: source.domain for source in report.sources}
    weights: dict[str, float] = {}
    for mix in report.mixes:
        for name, weight in mix.weights.items():
            weights[name] = max(weight, weights.get(name, 0.0))
    return sorted(weights, key=lambda name: (domains.get(name, ""), -weights[name], name))


def _delivered_means(report: Report) -> dict[tuple[str, str], float]:
    shares: dict[tuple[str, str], list[float]] = {}
    for run in report.runs:
        for part in run.delivered:
            shares.setdefault((run.mix, part.source), []).append(part.delivered)
    return {key: math.fsum(values) / len(values) for key, values in shares.items()}


def _composition_hover(report: Report, mix: str, source: str, given: Mapping[tuple[str, str], float]) -> str:
    shown = report.mix(mix)
    epochs = shown.epochs.get(source)
    lines = [
        f"<b>{text(words.shortened(source, 60))}</b>",
        text(words.shortened(mix, 60)),
        f"requested {words.share(shown.weights[source])}, {words.amount(shown.tokens[source])} tokens",
        f"delivered {words.share(given.get((mix, source)))}",
    ]
    return "<br>".join(lines + ([f"{epochs:.2f} epochs"] if epochs is not None else []))


# --- shared


def _label_rows(figure: Any, rows: Sequence[tuple[str, bool]], *, height: int) -> None:
    """Name horizontal rows beside the plot; the page moves the names above their rows where it is narrow."""
    labels = [f"<b>{text(name)}</b>" if heading else text(words.shortened(name, 40)) for name, heading in rows]
    figure.update_layout(
        yaxis={
            "tickmode": "array",
            "tickvals": list(range(len(rows))),
            "ticktext": labels,
            "range": [len(rows) - 0.45, -0.55],
            "zeroline": False,
            "automargin": True,
        },
        height=90 + height * len(rows),
        meta={"rows": labels, "narrow": 110 + (height + 14) * len(rows)},
    )


def _plain(figure: Any) -> dict[str, Any]:
    spec: dict[str, Any] = figure.to_plotly_json()
    spec["layout"].pop("template", None)
    return spec


def _short(value: float | None) -> float | None:
    """Six digits: finer than any screen, and half the page's size."""
    return None if value is None else float(f"{value:.6g}")


def _scaled(value: float | None, comparison: Comparison) -> float | None:
    """A difference in the unit that it is spoken of: points for accuracies."""
    return _short(None if value is None else value * (100 if comparison.metric in words.ACCURACIES else 1))


def _wrapped(message: str, width: int = 60) -> list[str]:
    import textwrap

    return textwrap.wrap(message, width)[:4] or [""]


def figures(report: Report) -> dict[str, list[Figure]]:
    """All plots of a report, by the section of the page that they belong to."""
    makers: dict[str, Callable[[], list[Figure]]] = {
        "mixes": lambda: [figure for figure in [composition(report)] if figure is not None],
        "effects": lambda: effects(report),
        "curves": lambda: curves(report),
    }
    return {section: make() for section, make in makers.items()}
