"""Plot effects with intervals, and the composition of mixes, for W&B."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from assay.report import formatting
from assay.report.model import finite
from assay.report.plots.base import BASELINE, CANDIDATES, FAINT, plain_spec, text

if TYPE_CHECKING:
    from assay.analysis.comparison import Comparison
    from assay.report.model import MixShown

ROWS = 80
"""Maximum number of effects in one plot. The table next to the plot has all effects."""


def plot_effects(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Plot effects in units of half their interval, with improvements to the right.

    Metrics that vote are first, in color. Metrics without a known direction of improvement are left out. Division by half the interval makes metrics with different units comparable.
    A bar excludes 0 if and only if the interval does.
    """
    from plotly import graph_objects as go

    directed = [c for c in comparisons if c.better is not None]
    order = sorted(directed, key=lambda c: (not c.votes, c.task, c.metric))[:ROWS]
    figure = go.Figure()
    for votes, color in ((True, CANDIDATES[0]), (False, FAINT)):
        group = [(c, half) for c in order if c.votes == votes and (half := (c.ci_high - c.ci_low) / 2) > 0]
        figure.add_scatter(
            x=[finite(c.gain / half) for c, half in group],
            y=[_label(c) for c, _ in group],
            error_x={"type": "constant", "value": 1, "color": color},
            mode="markers",
            name="votes" if votes else "shown",
            marker={"color": color, "size": 8},
            hovertext=[
                f"{formatting.signed(c.metric, c.effect)} ({formatting.interval(c.metric, c.ci_low, c.ci_high)})"
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


def plot_mixes(shown: Sequence[MixShown]) -> dict[str, Any]:
    """Plot the requested weights of each mix as stacked bars."""
    from plotly import graph_objects as go

    sources = sorted({name for mix in shown for name in mix.weights})
    figure = go.Figure()
    for source in sources:
        figure.add_bar(
            name=text(source),
            orientation="h",
            y=[text(formatting.shortened(mix.name, 40)) for mix in shown],
            x=[mix.weights.get(source, 0.0) for mix in shown],
        )
    figure.update_layout(
        barmode="stack",
        title="Requested mixes, by fraction of tokens",
        height=140 + 40 * len(shown),
        xaxis={"tickformat": ".0%"},
        yaxis={"autorange": "reversed", "automargin": True},
    )
    return plain_spec(figure)


def _label(c: Comparison) -> str:
    return text(formatting.shortened(f"{c.task} {c.metric}", 60))
