"""The page's plots: plotly figures of a report, each with its numbers as a table to download."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from assay.publish import words
from assay.publish.forest import effects
from assay.publish.plots import Figure, label_rows, looks, plain_spec, short, text
from assay.publish.report import Report, RunShown, finite

POINTS = 60_000
"""Of all curves of one plot together: above that a page gets slow to open, and no eye sees the difference."""


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
            x=[short(mix.weights[name]) for name in own],
            y=ys,
            width=band * 0.92,
            name=text(words.shortened(mix.name, 60)),
            marker_color=style[mix.name].colour,
            hovertext=hover,
            hoverinfo="text",
        )
        seen = [(y, given[mix.name, name]) for y, name in zip(ys, own, strict=True) if (mix.name, name) in given]
        figure.add_scatter(
            x=[short(value) for _, value in seen],
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
    label_rows(figure, [(name, False) for name in names], height=max(26, 11 * count + 12))
    return Figure(
        id="composition",
        title="Composition",
        note="Bars: what is requested. Diamonds: what the finished runs were given, on average over seeds.",
        described=f"Bar chart of the share of tokens of {words.count(len(names), 'source')} in each of "
        f"{words.count(count, 'mix', 'mixes')}; the table below has the same figures.",
        spec=plain_spec(figure),
        columns=("mix", "source", "requested", "tokens", "epochs", "delivered"),
        rows=rows,
    )


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
            x=[short(x) for x, _ in kept],
            y=[short(y) for _, y in kept],
            mode="lines" if len(kept) > 1 else "markers",
            line={"color": look.colour, "width": 1.5, "dash": look.dash},
            opacity=0.85,
            name=text(words.shortened(run.mix, 60)),
            legendgroup=run.mix,
            showlegend=run.mix not in named,
            hovertemplate=f"{text(words.shortened(run.mix, 40))} s{run.seed}<br>%{{x:.3s}} tokens: %{{y:.4g}}<extra></extra>",
        )
        named.add(run.mix)
        rows += [[run.mix, run.seed, run.short, short(x), short(y)] for x, y in kept]
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
        spec=plain_spec(figure),
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


def figures(report: Report) -> dict[str, list[Figure]]:
    """All plots of a report, by the section of the page that they belong to."""
    mixes = composition(report)
    return {"mixes": [] if mixes is None else [mixes], "effects": effects(report), "curves": curves(report)}
