"""What all plots share: a figure with its data, the look of each mix, and rows with names.

A mix has one colour and one symbol in every plot, the baseline a neutral one. Colours are those of Okabe and Ito
(2008), which stay apart for colour-blind readers; the page swaps each for a lighter one on a dark ground.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assay.publish import words

if TYPE_CHECKING:
    from assay.publish.report import Report

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
    folded: bool = False
    """Whether it is out of the way until somebody opens it."""


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


def label_rows(figure: Any, rows: Sequence[tuple[str, bool]], *, height: int) -> None:
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


def plain_spec(figure: Any) -> dict[str, Any]:
    """A figure's data and layout as plain values; its theme is the page's."""
    spec: dict[str, Any] = figure.to_plotly_json()
    spec["layout"].pop("template", None)
    return spec


def short(value: float | None) -> float | None:
    """Six digits: finer than any screen, and half the page's size."""
    return None if value is None else float(f"{value:.6g}")
