"""The page: one self-contained HTML file of a report, that opens from disk and asks nothing of any network.

Everything that came from outside (names, errors, licences) passes jinja2's autoescape or stands packed in a data block;
and should any of it ever become markup, the page's content security policy names by their hash the only two
scripts that may run, and allows no request at all.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from assay.publish import words
from assay.publish.figures import figures
from assay.publish.flips import LISTED
from assay.publish.plots import DARK, Figure, looks
from assay.publish.report import finite

if TYPE_CHECKING:
    from assay.publish.report import Report

LONG = 160
"""Characters of an error message that a table shows before it folds the rest away."""
LOGS, LINE = 60, 300
"""Runs whose log ends a page holds, and characters of a line: some 200 kB at most."""


def render(report: Report) -> str:
    """The page of a report, whole, as HTML."""
    templates = _environment()
    drawn = figures(report)
    script, library = _source("page.js"), _library()
    text: str = templates.get_template("page.html").render(
        report=report,
        figures=drawn,
        data=_packed(_data(figure for part in drawn.values() for figure in part)),
        dark=DARK,
        looks=looks(report),
        voting=[c for c in report.comparisons if c.role != "monitor"],
        logs=_logs(report),
        style=_source("page.css"),
        script=script,
        library=library.packed,
        policy=_policy(script_hashes=(_hash(script), library.hash)),
    )
    return text


def _logs(report: Report) -> dict[str, list[str]]:
    """The ends of the runs' logs: of all where they are few, else of those that did not end well first."""
    told = [run for run in report.runs if run.result is not None and run.result.log]
    told.sort(key=lambda run: run.evaluated)  # a stable sort: the sweep's order stays otherwise
    return {
        run.label: [words.shortened(line, LINE) for line in run.result.log]
        for run in told[:LOGS]
        if run.result is not None
    }


def _policy(*, script_hashes: tuple[str, ...]) -> str:
    scripts = " ".join(f"'sha256-{digest}'" for digest in script_hashes)
    # Plotly sets inline styles, and renders its PNG through a blob; nothing else is let in.
    return f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"


class _Library(NamedTuple):
    """Plotly's JavaScript.

    Attributes:
        packed: gzip, then base64: 2.0 MB in the page instead of 4.8.
        hash: base64 of the SHA-256 of the unpacked script, for the page's policy.
    """

    packed: str
    hash: str


@functools.cache
def _library() -> _Library:
    from plotly.offline import get_plotlyjs

    code: str = get_plotlyjs()
    return _Library(_packed(code), _hash(code))


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _data(drawn: Iterable[Figure]) -> str:
    """What the page's script works on, as JSON: the plots, their tables, and the colours of the dark theme."""
    plots = {figure.id: {**figure.spec, "columns": figure.columns, "rows": figure.rows} for figure in drawn}
    return json.dumps({"dark": DARK, "figures": plots}, allow_nan=False, separators=(",", ":"))


def _packed(content: str) -> str:
    """Text as the page's script unpacks it: gzip, then base64, which holds nothing that could be markup."""
    return base64.b64encode(gzip.compress(content.encode(), compresslevel=9, mtime=0)).decode()


@functools.cache
def _environment() -> Environment:
    templates = Environment(
        loader=PackageLoader("assay.publish"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "amount": words.amount,
        "share": words.share,
        "plain": lambda value: words.score("", value),
        "probability": words.probability,
        "duration": words.duration,
        "moment": words.moment,
        "metric": words.metric_name,
        "shortened": words.shortened,
        "finite": finite,
    }
    templates.globals |= {
        "count": words.count,
        "interval": words.interval,
        "metric_score": words.score,
        "signed": words.signed,
        "size": words.size,
        "change": words.change,
        "lines": lines,
        "LONG": LONG,
        "LISTED": LISTED,
        "NOTHING": words.NOTHING,
    }
    return templates


def _source(name: str) -> str:
    environment = _environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def lines(value: object) -> list[str]:
    """One or several statements as a list, the empty ones left out."""
    if value is None:
        return []
    parts = [value] if isinstance(value, str) else list(value)  # type: ignore[call-overload]  # a sequence of statements otherwise
    return [str(part) for part in parts if str(part).strip()]
