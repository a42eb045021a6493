"""The page's plots: plotly figures of a report, each with its numbers as a table to download."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.publish.composition import compositions
from assay.publish.curves import by_source, scores, training
from assay.publish.forest import effects

if TYPE_CHECKING:
    from assay.publish.plots import Figure
    from assay.publish.report import Report


def figures(report: Report) -> dict[str, list[Figure]]:
    """All plots of a report, by the section of the page that they belong to."""
    return {
        "mixes": compositions(report),
        "effects": effects(report),
        "curves": training(report),
        "sources": by_source(report),
        "scores": scores(report),
    }
