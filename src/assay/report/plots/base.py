"""Define figures with their data, the plot style of each mix, and labeled rows.

A mix has the same color and symbol in every plot. The baseline has a neutral color. Color-blind readers can distinguish
the palette of Okabe and Ito (2008). In dark mode, the page replaces each color by a lighter color.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assay.report import formatting

if TYPE_CHECKING:
    from assay.report.model import Report

BASELINE = "#5b6673"
FAINT = "#8b96a3"
"""Color of marks for values that decide nothing."""
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
"""Replacement colors for dark mode."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A plot with its data as a table and a description for screen readers."""

    id: str
    title: str
    note: str
    """Instructions for reading the plot, if the section does not explain it."""
    described: str
    """Description for screen readers."""
    spec: dict[str, Any]
    """Plotly's `data` and `layout`, as plain JSON values."""
    columns: tuple[str, ...]
    rows: list[list[Any]]
    folded: bool = False
    """Whether the plot is collapsed until a reader opens it."""


@dataclass(frozen=True)
class MixStyle:
    """The plot style of a mix."""

    place: int
    """Position in the sweep's order. The baseline is at 0."""
    color: str
    symbol: str
    dash: str


def mix_styles(report: Report) -> dict[str, MixStyle]:
    """Return the style of each mix.

    From the seventh candidate on, colors repeat with another symbol and dash.
    """
    styles = {report.sweep.baseline: MixStyle(0, BASELINE, SYMBOLS[0], "solid")}
    for place, name in enumerate(report.sweep.candidates):
        turn = place // len(CANDIDATES)
        symbol = SYMBOLS[(place + 1 + turn) % len(SYMBOLS)]
        styles[name] = MixStyle(place + 1, CANDIDATES[place % len(CANDIDATES)], symbol, DASHES[turn % len(DASHES)])
    return styles


def text(value: object) -> str:
    """Escape text for plotly, whose labels would render some HTML tags."""
    return html.escape(str(value), quote=False)


def label_rows(figure: Any, rows: Sequence[tuple[str, bool]], *, height: int) -> None:
    """Label horizontal rows to the left of the plot.

    The page's script moves wide labels, and all labels on narrow pages, above their rows.

    Args:
        figure: the plotly figure, which is changed in place.
        rows: labels, each with a flag whether it is a heading.
        height: pixels per row.
    """
    labels = [f"<b>{text(name)}</b>" if heading else text(formatting.shortened(name, 40)) for name, heading in rows]
    figure.update_layout(
        yaxis={
            "tickmode": "array",
            "tickvals": list(range(len(rows))),
            "ticktext": labels,
            "range": [len(rows) - 0.45, -0.55],
            "zeroline": False,
        },
        height=90 + height * len(rows),
        meta={"rows": labels, "narrow": 110 + (height + 14) * len(rows)},
    )


def plain_spec(figure: Any) -> dict[str, Any]:
    """Return a figure's data and layout as plain values, without a theme.

    The page sets the theme.
    """
    spec: dict[str, Any] = figure.to_plotly_json()
    spec["layout"].pop("template", None)
    return spec


def short(value: float | None) -> float | None:
    """Round to six significant digits, which halves the page's size without visible effect."""
    return None if value is None else float(f"{value:.6g}")
