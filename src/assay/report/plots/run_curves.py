"""Plot the training curves of a single run by tokens, from the records of its metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from assay.report.plots.base import CANDIDATES, DASHES, Figure, plain_spec, short, text
from assay.report.plots.curves import DRAWN, Points, finite_points, late_range, thinned

METRICS = (
    ("loss", "Training loss", "loss (nats per token)", True),
    ("bits_per_byte", "Training bits per byte", "bits per byte", True),
    ("lr", "Learning rate", "learning rate", False),
    ("grad_norm", "Gradient norm", "gradient norm", True),
    ("tokens_per_second", "Speed", "tokens per second", False),
)
"""Key, title and axis of each plot, and whether the axis omits the initial drop."""


def plot_run(history: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """Plot loss, loss by source, bits per byte, learning rate, gradient norm and speed; omit what was not logged.

    Args:
        history: records of the run's metrics in any order. A resumed run may log a step twice; the last record counts.
    """
    by_step = {record["step"]: record for record in history if isinstance(record.get("step"), int)}
    records = [by_step[step] for step in sorted(by_step)]
    tokens = [record.get("tokens") for record in records]
    figures = []
    for key, title, axis, skips_start in METRICS:
        points = finite_points(tokens, [record.get(key) for record in records])
        figures += _plot({key: points}, key, title, axis, skips_start=skips_start)
        if key == "loss":
            losses = _losses_by_source(records, tokens)
            figures += _plot(losses, "loss_by_source", "Training loss by source", axis, skips_start=True)
    return figures


def _losses_by_source(records: Sequence[Mapping[str, Any]], tokens: Sequence[Any]) -> dict[str, Points]:
    losses = [record.get("loss_by_source") for record in records]
    logged = [loss if isinstance(loss, Mapping) else {} for loss in losses]
    names = sorted({str(name) for loss in logged for name in loss})
    return {name: finite_points(tokens, [loss.get(name) for loss in logged]) for name in names}


def _plot(series: Mapping[str, Points], key: str, title: str, axis: str, *, skips_start: bool) -> list[Figure]:
    """Draw one line for each series that has points; return no figure without any."""
    import plotly.graph_objects as go

    drawn = {name: thinned(points, DRAWN) for name, points in series.items() if len(points.tokens)}
    if not drawn:
        return []
    figure = go.Figure()
    for place, (name, points) in enumerate(drawn.items()):
        xs, ys = ([short(value) for value in part.tolist()] for part in points)
        figure.add_scatter(
            x=xs,
            y=ys,
            mode="markers" if len(xs) == 1 else "lines",
            line={
                "color": CANDIDATES[place % len(CANDIDATES)],
                "width": 1.8,
                "dash": DASHES[place // len(CANDIDATES) % len(DASHES)],
            },
            name=text(name),
            showlegend=len(drawn) > 1,
            hovertemplate="%{x:.3s} tokens: %{y:.4g}<extra></extra>",
        )
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": "tokens"}, "tickformat": "~s", "rangemode": "tozero"},
        "yaxis": {"title": {"text": axis}},
        "height": 360,
    }
    window = late_range(list(drawn.values())) if skips_start else None
    if window is not None:
        layout["yaxis"]["range"] = window
    figure.update_layout(**layout)
    return [
        Figure(
            id=f"curve-{key.replace('_', '-')}",
            title=title,
            note=""
            if window is None
            else "The axis omits the range of the first tenth of the run: double-click to see all.",
            described=f"{title} by tokens; the table has all values.",
            spec=plain_spec(figure),
            columns=("series", "tokens", "value"),
            rows=[
                [name, short(x), short(y)]
                for name, points in drawn.items()
                for x, y in zip(points.tokens.tolist(), points.values.tolist(), strict=True)
            ],
        )
    ]
