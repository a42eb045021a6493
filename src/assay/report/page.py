"""Render a sweep's page as one self-contained HTML file without network requests.

All external text (names, errors, licenses) passes jinja2's autoescape or is packed in a data block. In addition, the
page's content security policy allows only two scripts, by their hashes, and no requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.report import formatting
from assay.report.plots.base import DARK, mix_styles
from assay.report.plots.figures import plot_report
from assay.report.templating import digest, environment, file_text, library, packed_figures, policy
from assay.report.voting_rows import voting_rows

if TYPE_CHECKING:
    from assay.report.flips import Flips
    from assay.report.model import Report

ROWS = 600
"""Maximum number of rows in the long tables. More rows make the page slow to open."""
LOGS, LINE = 60, 300
"""Maximum number of runs with a log excerpt, and of characters per line. Excerpts have about 200 kB in total."""


def render(report: Report) -> str:
    """Render the page of a report as HTML."""
    plots, script, plotly = plot_report(report), file_text("page.js"), library()
    text: str = (
        environment()
        .get_template("page.html")
        .render(
            report=report,
            figures=plots,
            data=packed_figures(figure for part in plots.values() for figure in part),
            dark=DARK,
            looks=mix_styles(report),
            voting=voting_rows(report.comparisons),
            logs=_logs(report),
            flips=sorted(report.details.flips, key=_flip_order)[:ROWS],
            ROWS=ROWS,
            style=file_text("page.css"),
            script=script,
            library=plotly.packed,
            policy=policy(scripts=(digest(script), plotly.digest)),
        )
    )
    return text


def _flip_order(flips: Flips) -> tuple[float, str, str]:
    """Return a sort key: the excess of flips over flips between seeds, largest first."""
    excess = (flips.gained + flips.lost - (flips.by_chance or 0.0)) / max(1, flips.questions)
    return -excess, flips.candidate, flips.task


def _logs(report: Report) -> dict[str, list[str]]:
    """Return the last log lines of at most `LOGS` runs, unevaluated runs first."""
    logged = [run for run in report.runs if run.result is not None and run.result.log]
    logged.sort(key=lambda run: run.evaluated)  # the stable sort otherwise keeps the sweep's order
    return {
        run.label: [formatting.shortened(line, LINE) for line in run.result.log]
        for run in logged[:LOGS]
        if run.result is not None
    }
