"""Plots of a comparison for W&B, as plotly's plain values: the effects with their intervals, and what a mix is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from assay.publish import words
from assay.publish.plots import BASELINE, CANDIDATES, FAINT, plain_spec, text
from assay.publish.report import finite

if TYPE_CHECKING:
    from assay.compare import Comparison
    from assay.publish.report import MixShown

ROWS = 80
"""Effects that one plot shows; the table beside it has all."""


def effects(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Effects in units of their own noise's interval, better to the right; those that vote first, in colour.

    Metrics have units of their own, so that each effect is drawn over half its interval: a bar that leaves out 0 is
    one whose interval does.
    """
    from plotly import graph_objects as go

    order = sorted(comparisons, key=lambda c: (not c.votes, c.task, c.metric))[:ROWS]
    figure = go.Figure()
    for votes, colour in ((True, CANDIDATES[0]), (False, FAINT)):
        group = [(c, half) for c in order if c.votes == votes and (half := (c.ci_high - c.ci_low) / 2) > 0]
        figure.add_scatter(
            x=[finite(c.gain / half) for c, half in group],
            y=[_label(c) for c, _ in group],
            error_x={"type": "constant", "value": 1, "color": colour},
            mode="markers",
            name="votes" if votes else "shown",
            marker={"color": colour, "size": 8},
            hovertext=[
                f"{words.signed(c.metric, c.effect)} ({words.interval(c.metric, c.ci_low, c.ci_high)})"
                for c, _ in group
            ],
            hoverinfo="text+y",
        )
    figure.add_vline(x=0, line_color=BASELINE)
    figure.update_layout(
        title="Effects over half their interval; right is better",
        height=120 + 22 * len(order),
        yaxis={"autorange": "reversed", "automargin": True},
    )
    return plain_spec(figure)


def mixes(shown: Sequence[MixShown]) -> dict[str, Any]:
    """What each mix asks of every source, as bars that fill the whole."""
    from plotly import graph_objects as go

    sources = sorted({name for mix in shown for name in mix.weights})
    figure = go.Figure()
    for source in sources:
        figure.add_bar(
            name=text(source),
            orientation="h",
            y=[text(words.shortened(mix.name, 40)) for mix in shown],
            x=[mix.weights.get(source, 0.0) for mix in shown],
        )
    figure.update_layout(
        barmode="stack",
        title="Requested mixes, by share of tokens",
        height=140 + 40 * len(shown),
        xaxis={"tickformat": ".0%"},
        yaxis={"autorange": "reversed", "automargin": True},
    )
    return plain_spec(figure)


def _label(c: Comparison) -> str:
    return text(words.shortened(f"{c.task} {c.metric}", 60))
