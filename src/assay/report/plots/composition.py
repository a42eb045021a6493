"""Plot requested and delivered weights of mixes by source and kind of source, and edits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from assay.report import formatting
from assay.report.plots.base import Figure, label_rows, mix_styles, plain_spec, short, text

if TYPE_CHECKING:
    from assay.report.model import MixShown, Report, SourceShown

NONE = "none"
"""Label for sources without a license or a tag."""
ROUNDING = 1e-9
"""Maximum difference of weights that counts as a rounding error."""

Fractions = dict[tuple[str, str], float]
"""Fractions of tokens by mix and by source or kind of source."""


def plot_compositions(report: Report) -> list[Figure]:
    """Plot the compositions of mixes and the edits of candidates.

    The function plots compositions by source. Plots by domain, license and tag follow if sources differ in that
    property.
    """
    if not report.mixes or not any(mix.weights for mix in report.mixes):
        return []
    kinds: list[_Kind] = [
        _Kind("domain", "domain", lambda source: (source.domain,)),
        _Kind("license", "license", lambda source: (source.license or NONE,)),
        _Kind("quality", "tag of quality or kind", lambda source: source.tags or (NONE,)),
    ]
    candidates = [_by_source(report), *(_by_kind(report, kind) for kind in kinds), _edits(report)]
    return [figure for figure in candidates if figure is not None]


class _Kind(NamedTuple):
    name: str
    label: str
    values: Callable[[SourceShown], Sequence[str]]


def _by_source(report: Report) -> Figure:
    names = _sources_in_order(report)
    delivered = _delivered_means(report)

    def hover(mix: MixShown, source: str) -> str:
        epochs = mix.epochs.get(source)
        tokens = formatting.amount(mix.tokens.get(source, 0))
        lines = [
            f"<b>{text(formatting.shortened(source, 60))}</b>",
            text(formatting.shortened(mix.name, 60)),
            f"requested {formatting.fraction(mix.weights[source])}, {tokens} tokens",
            f"delivered {formatting.fraction(delivered.get((mix.name, source)))}",
        ]
        return "<br>".join(lines + ([f"{epochs:.2f} epochs"] if epochs is not None else []))

    requested = {(mix.name, source): weight for mix in report.mixes for source, weight in mix.weights.items()}
    rows = [
        [mix.name, name, mix.weights[name], mix.tokens[name], mix.epochs.get(name), delivered.get((mix.name, name))]
        for mix in report.mixes
        for name in names
        if name in mix.weights
    ]
    return Figure(
        id="composition",
        title="Composition by source",
        note="Bars: requested. Diamonds: delivered to the finished runs, mean over seeds.",
        described=f"Bar chart of the fraction of tokens of {formatting.count(len(names), 'source')} in each of "
        f"{formatting.count(len(report.mixes), 'mix', 'mixes')}; the table below has the same figures.",
        spec=_bars(report, names, requested, delivered, hover),
        columns=("mix", "source", "requested", "tokens", "epochs", "delivered"),
        rows=rows,
    )


def _by_kind(report: Report, kind: _Kind) -> Figure | None:
    kinds = {source.name: tuple(kind.values(source)) for source in report.sources}
    requested = _sum_by_kind(
        {(mix.name, source): w for mix in report.mixes for source, w in mix.weights.items()}, kinds
    )
    delivered = _sum_by_kind(_delivered_means(report), kinds)
    names = sorted({name for _, name in requested}, key=lambda name: (name == NONE, -_largest(requested, name), name))
    if len(names) < 2:  # one kind leaves no comparison
        return None

    def hover(mix: MixShown, name: str) -> str:
        sources = [source for source, parts in kinds.items() if name in parts and mix.weights.get(source)]
        lines = [
            f"<b>{text(formatting.shortened(name, 60))}</b>",
            text(formatting.shortened(mix.name, 60)),
            f"requested {formatting.fraction(requested[mix.name, name])}",
            f"delivered {formatting.fraction(delivered.get((mix.name, name)))}",
            f"from {text(formatting.shortened(', '.join(sources), 80))}",
        ]
        return "<br>".join(lines)

    several = any(len(parts) > 1 for parts in kinds.values())
    return Figure(
        id=f"composition-{kind.name}",
        title=f"By {kind.label}",
        note="A source with several tags counts for each of them." if several else "",
        described=f"Bar chart of the fraction of tokens by {kind.label} in each mix; the data can be saved as CSV.",
        spec=_bars(report, names, requested, delivered, hover),
        columns=("mix", kind.name, "requested", "delivered"),
        rows=[
            [mix.name, name, requested[mix.name, name], delivered.get((mix.name, name))]
            for mix in report.mixes
            for name in names
            if (mix.name, name) in requested
        ],
    )


def _edits(report: Report) -> Figure | None:
    """Plot the differences between the weights of each candidate and its control by source."""
    arms = {mix.name: mix for mix in report.mixes}
    changed: Fractions = {}
    for mix in report.mixes:
        control = arms.get(report.sweep.control(mix.name)) if not mix.baseline else None
        if control is not None:
            for name in {*mix.weights, *control.weights}:
                change = mix.weights.get(name, 0.0) - control.weights.get(name, 0.0)
                if abs(change) > ROUNDING:
                    changed[mix.name, name] = change
    if not changed:
        return None
    names = [name for name in _sources_in_order(report) if any(source == name for _, source in changed)]

    def hover(mix: MixShown, name: str) -> str:
        control = report.sweep.control(mix.name)
        before = arms[control].weights.get(name, 0.0)
        return (
            f"<b>{text(formatting.shortened(name, 60))}</b><br>{text(formatting.shortened(mix.name, 60))}<br>"
            f"{formatting.fraction(before)} to {formatting.fraction(mix.weights.get(name, 0.0))}"
        )

    return Figure(
        id="edits",
        title="The edit from the baseline",
        note="Fraction of tokens, candidate minus its control. Sources that do not change are omitted.",
        described=f"Bar chart of changed fractions of {formatting.count(len(names), 'source')}; the data can be saved as "
        "CSV.",
        spec=_bars(report, names, changed, {}, hover, axis="change in fraction of tokens", tick="+.0%"),
        columns=("mix", "source", "change"),
        rows=[[mix, name, change] for (mix, name), change in changed.items()],
    )


def _bars(
    report: Report,
    names: Sequence[str],
    requested: Mapping[tuple[str, str], float],
    delivered: Mapping[tuple[str, str], float],
    hover: Callable[[MixShown, str], str],
    *,
    axis: str = "fraction of tokens",
    tick: str = ".0%",
) -> dict[str, object]:
    """Return a plot with a row per name, a bar per mix, and diamonds for delivered values."""
    import plotly.graph_objects as go

    mixes = [mix for mix in report.mixes if any((mix.name, name) in requested for name in names)]
    style, band = mix_styles(report), 0.8 / len(mixes)
    figure = go.Figure()
    for place, mix in enumerate(mixes):
        shift = (place - (len(mixes) - 1) / 2) * band
        bars = [(row + shift, name) for row, name in enumerate(names) if (mix.name, name) in requested]
        figure.add_bar(
            orientation="h",
            x=[short(requested[mix.name, name]) for _, name in bars],
            y=[y for y, _ in bars],
            width=band * 0.92,
            name=text(formatting.shortened(mix.name, 60)),
            legendgroup=mix.name,
            marker_color=style[mix.name].color,
            hovertext=[hover(mix, name) for _, name in bars],
            hoverinfo="text",
        )
        diamonds = [(y, delivered[mix.name, name]) for y, name in bars if (mix.name, name) in delivered]
        figure.add_scatter(
            x=[short(value) for _, value in diamonds],
            y=[y for y, _ in diamonds],
            mode="markers",
            marker={
                "symbol": "diamond",
                "size": 7,
                "color": style[mix.name].color,
                "line": {"width": 1, "color": "white"},
            },
            legendgroup=mix.name,
            showlegend=False,
            hoverinfo="skip",
        )
    figure.update_layout(barmode="overlay", xaxis={"title": {"text": axis}, "tickformat": tick})
    label_rows(figure, [(name, False) for name in names], height=max(26, 11 * len(mixes) + 12))
    return plain_spec(figure)


def _sum_by_kind(fractions: Mapping[tuple[str, str], float], kinds: Mapping[str, Sequence[str]]) -> Fractions:
    """Sum the fractions of sources by kind."""
    parts: dict[tuple[str, str], list[float]] = {}
    for (mix, source), value in fractions.items():
        for name in kinds.get(source, (NONE,)):
            parts.setdefault((mix, name), []).append(value)
    return {key: math.fsum(values) for key, values in parts.items()}


def _largest(fractions: Mapping[tuple[str, str], float], name: str) -> float:
    return max(value for (_, other), value in fractions.items() if other == name)


def _sources_in_order(report: Report) -> list[str]:
    domains = {source.name: source.domain for source in report.sources}
    weights: dict[str, float] = {}
    for mix in report.mixes:
        for name, weight in mix.weights.items():
            weights[name] = max(weight, weights.get(name, 0.0))
    return sorted(weights, key=lambda name: (domains.get(name, ""), -weights[name], name))


def _delivered_means(report: Report) -> Fractions:
    fractions: dict[tuple[str, str], list[float]] = {}
    for run in report.runs:
        for part in run.delivered:
            fractions.setdefault((run.mix, part.source), []).append(part.delivered)
    return {key: math.fsum(values) / len(values) for key, values in fractions.items()}
