"""The page: one self-contained HTML file of a report, that opens from disk and asks nothing of any network.

Everything that came from outside (names, errors, licences) passes jinja2's autoescape or stands packed in a data block;
and should any of it ever become markup, the page's content security policy names by their hash the only two
scripts that may run, and allows no request at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.publish import words
from assay.publish.figures import figures
from assay.publish.plots import DARK, looks
from assay.publish.templating import digest, environment, file_text, library, packed_figures, policy

if TYPE_CHECKING:
    from assay.publish.flips import Flips
    from assay.publish.report import Report

ROWS = 600
"""Rows up to which a table that nobody reads to its end is whole; above that a page gets slow to open."""
LOGS, LINE = 60, 300
"""Runs whose log ends a page holds, and characters of a line: some 200 kB at most."""


def render(report: Report) -> str:
    """The page of a report, whole, as HTML."""
    drawn, script, plotly = figures(report), file_text("page.js"), library()
    text: str = (
        environment()
        .get_template("page.html")
        .render(
            report=report,
            figures=drawn,
            data=packed_figures(figure for part in drawn.values() for figure in part),
            dark=DARK,
            looks=looks(report),
            voting=[c for c in report.comparisons if c.role != "monitor"],
            logs=_logs(report),
            flips=sorted(report.details.flips, key=_turned)[:ROWS],
            ROWS=ROWS,
            style=file_text("page.css"),
            script=script,
            library=plotly.packed,
            policy=policy(scripts=(digest(script), plotly.digest)),
        )
    )
    return text


def _turned(one: Flips) -> tuple[float, str, str]:
    """Sorts first where the most questions flip beyond what seeds do among themselves."""
    beyond = (one.gained + one.lost - (one.by_chance or 0.0)) / max(1, one.questions)
    return -beyond, one.candidate, one.task


def _logs(report: Report) -> dict[str, list[str]]:
    """The ends of the runs' logs: of all where they are few, else of those that did not end well first."""
    told = [run for run in report.runs if run.result is not None and run.result.log]
    told.sort(key=lambda run: run.evaluated)  # a stable sort: the sweep's order stays otherwise
    return {
        run.label: [words.shortened(line, LINE) for line in run.result.log]
        for run in told[:LOGS]
        if run.result is not None
    }
