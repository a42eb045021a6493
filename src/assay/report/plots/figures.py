"""Make all plots of a sweep's page, each with its data as a downloadable table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.report.plots.composition import plot_compositions
from assay.report.plots.curves import plot_interim_scores, plot_source_losses, plot_training
from assay.report.plots.forest import plot_effects

if TYPE_CHECKING:
    from assay.report.model import Report
    from assay.report.plots.base import Figure


def plot_report(report: Report) -> dict[str, list[Figure]]:
    """Return all plots of a report by section of the page."""
    return {
        "mixes": plot_compositions(report),
        "effects": plot_effects(report),
        "curves": plot_training(report),
        "sources": plot_source_losses(report),
        "scores": plot_interim_scores(report),
    }
