"""The plots of the mixes: what each asks of every source and kind of source, what it was given, and what was edited."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from assay.publish import words
from assay.publish.plots import Figure, label_rows, looks, plain_spec, short, text

if TYPE_CHECKING:
    from assay.publish.report import MixShown, Report, SourceShown

NONE = "none"
"""Stands for the licence or the tag of a source that has none."""
SHARED = 1e-9
"""A difference of weights below this is rounding."""

Shares = dict[tuple[str, str], float]
"""By mix and by what is added up."""


def compositions(report: Report) -> list[Figure]:
    """By source; then by domain, licence and tag, where the sources differ in it; then the edits."""
    if not report.mixes or not any(mix.weights for mix in report.mixes):
        return []
    kinds: list[_Kind] = [
        _Kind("domain", "domain", lambda source: (source.domain,)),
        _Kind("licence", "licence", lambda source: (source.licence or NONE,)),
        _Kind("quality", "tag of quality or kind", lambda source: source.tags or (NONE,)),
    ]
    found = [_by_source(report), *(_by_kind(report, kind) for kind in kinds), _edits(report)]
    return [figure for figure in found if figure is not None]


class _Kind(NamedTuple):
    name: str
    called: str
    of: Callable[[SourceShown], Sequence[str]]


def _by_source(report: Report) -> Figure:
    names = _sources_in_order(report)
    given = _delivered_means(report)

    def hover(mix: MixShown, source: str) -> str:
        epochs = mix.epochs.get(source)
        tokens = words.amount(mix.tokens.get(source, 0))
        lines = [
            f"<b>{text(words.shortened(source, 60))}</b>",
            text(words.shortened(mix.name, 60)),
            f"requested {words.share(mix.weights[source])}, {tokens} tokens",
            f"delivered {words.share(given.get((mix.name, source)))}",
        ]
        return "<br>".join(lines + ([f"{epochs:.2f} epochs"] if epochs is not None else []))

    asked = {(mix.name, source): weight for mix in report.mixes for source, weight in mix.weights.items()}
    rows = [
        [mix.name, name, mix.weights[name], mix.tokens[name], mix.epochs.get(name), given.get((mix.name, name))]
        for mix in report.mixes
        for name in names
        if name in mix.weights
    ]
    return Figure(
        id="composition",
        title="Composition by source",
        note="Bars: what is requested. Diamonds: what the finished runs were given, on average over seeds.",
        described=f"Bar chart of the share of tokens of {words.count(len(names), 'source')} in each of "
        f"{words.count(len(report.mixes), 'mix', 'mixes')}; the table below has the same figures.",
        spec=_bars(report, names, asked, given, hover),
        columns=("mix", "source", "requested", "tokens", "epochs", "delivered"),
        rows=rows,
    )


def _by_kind(report: Report, kind: _Kind) -> Figure | None:
    of = {source.name: tuple(kind.of(source)) for source in report.sources}
    asked = _added({(mix.name, source): w for mix in report.mixes for source, w in mix.weights.items()}, of)
    given = _added(_delivered_means(report), of)
    names = sorted({name for _, name in asked}, key=lambda name: (name == NONE, -_largest(asked, name), name))
    if len(names) < 2:  # one kind is no composition
        return None

    def hover(mix: MixShown, name: str) -> str:
        own = [source for source, parts in of.items() if name in parts and mix.weights.get(source)]
        lines = [
            f"<b>{text(words.shortened(name, 60))}</b>",
            text(words.shortened(mix.name, 60)),
            f"requested {words.share(asked[mix.name, name])}",
            f"delivered {words.share(given.get((mix.name, name)))}",
            f"from {text(words.shortened(', '.join(own), 80))}",
        ]
        return "<br>".join(lines)

    several = any(len(parts) > 1 for parts in of.values())
    return Figure(
        id=f"composition-{kind.name}",
        title=f"By {kind.called}",
        note="A source of several tags counts for each of them." if several else "",
        described=f"Bar chart of the share of tokens by {kind.called} in each mix; it is saved as CSV.",
        spec=_bars(report, names, asked, given, hover),
        columns=("mix", kind.name, "requested", "delivered"),
        rows=[
            [mix.name, name, asked[mix.name, name], given.get((mix.name, name))]
            for mix in report.mixes
            for name in names
            if (mix.name, name) in asked
        ],
    )


def _edits(report: Report) -> Figure | None:
    """How far each candidate's weights are from its control's, source by source."""
    arms = {mix.name: mix for mix in report.mixes}
    changed: Shares = {}
    for mix in report.mixes:
        control = arms.get(report.sweep.control(mix.name)) if not mix.baseline else None
        if control is not None:
            for name in {*mix.weights, *control.weights}:
                change = mix.weights.get(name, 0.0) - control.weights.get(name, 0.0)
                if abs(change) > SHARED:
                    changed[mix.name, name] = change
    if not changed:
        return None
    names = [name for name in _sources_in_order(report) if any(source == name for _, source in changed)]

    def hover(mix: MixShown, name: str) -> str:
        control = report.sweep.control(mix.name)
        before = arms[control].weights.get(name, 0.0)
        return (
            f"<b>{text(words.shortened(name, 60))}</b><br>{text(words.shortened(mix.name, 60))}<br>"
            f"{words.share(before)} to {words.share(mix.weights.get(name, 0.0))}"
        )

    return Figure(
        id="edits",
        title="The edit from the baseline",
        note="Share of tokens, candidate minus the mix it is compared with; sources that do not change are left out.",
        described=f"Bar chart of how the shares of {words.count(len(names), 'source')} change; it is saved as CSV.",
        spec=_bars(report, names, changed, {}, hover, axis="change of the share of tokens", tick="+.0%"),
        columns=("mix", "source", "change"),
        rows=[[mix, name, change] for (mix, name), change in changed.items()],
    )


def _bars(
    report: Report,
    names: Sequence[str],
    asked: Mapping[tuple[str, str], float],
    given: Mapping[tuple[str, str], float],
    hover: Callable[[MixShown, str], str],
    *,
    axis: str = "share of tokens",
    tick: str = ".0%",
) -> dict[str, object]:
    """Plotly's figure of one row a name and one bar a mix, with a diamond where something was delivered."""
    import plotly.graph_objects as go

    mixes = [mix for mix in report.mixes if any((mix.name, name) in asked for name in names)]
    style, band = looks(report), 0.8 / len(mixes)
    figure = go.Figure()
    for place, mix in enumerate(mixes):
        shift = (place - (len(mixes) - 1) / 2) * band
        own = [(row + shift, name) for row, name in enumerate(names) if (mix.name, name) in asked]
        figure.add_bar(
            orientation="h",
            x=[short(asked[mix.name, name]) for _, name in own],
            y=[y for y, _ in own],
            width=band * 0.92,
            name=text(words.shortened(mix.name, 60)),
            legendgroup=mix.name,
            marker_color=style[mix.name].colour,
            hovertext=[hover(mix, name) for _, name in own],
            hoverinfo="text",
        )
        seen = [(y, given[mix.name, name]) for y, name in own if (mix.name, name) in given]
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
            legendgroup=mix.name,
            showlegend=False,
            hoverinfo="skip",
        )
    figure.update_layout(barmode="overlay", xaxis={"title": {"text": axis}, "tickformat": tick})
    label_rows(figure, [(name, False) for name in names], height=max(26, 11 * len(mixes) + 12))
    return plain_spec(figure)


def _added(shares: Mapping[tuple[str, str], float], of: Mapping[str, Sequence[str]]) -> Shares:
    """Shares of sources added up by what they are."""
    parts: dict[tuple[str, str], list[float]] = {}
    for (mix, source), value in shares.items():
        for name in of.get(source, (NONE,)):
            parts.setdefault((mix, name), []).append(value)
    return {key: math.fsum(values) for key, values in parts.items()}


def _largest(shares: Mapping[tuple[str, str], float], name: str) -> float:
    return max(value for (_, other), value in shares.items() if other == name)


def _sources_in_order(report: Report) -> list[str]:
    domains = {source.name: source.domain for source in report.sources}
    weights: dict[str, float] = {}
    for mix in report.mixes:
        for name, weight in mix.weights.items():
            weights[name] = max(weight, weights.get(name, 0.0))
    return sorted(weights, key=lambda name: (domains.get(name, ""), -weights[name], name))


def _delivered_means(report: Report) -> Shares:
    shares: dict[tuple[str, str], list[float]] = {}
    for run in report.runs:
        for part in run.delivered:
            shares.setdefault((run.mix, part.source), []).append(part.delivered)
    return {key: math.fsum(values) / len(values) for key, values in shares.items()}
