"""Provide templates, the content security policy, and packed data for all HTML pages."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from assay.report import formatting, headline, reason_text
from assay.report.flips import LISTED
from assay.report.model import finite
from assay.report.plots.base import DARK

if TYPE_CHECKING:
    from assay.report.plots.base import Figure

LONG = 160
"""Maximum characters of an error message in a table. The rest is collapsed."""


def policy(*, scripts: Iterable[str], forms: bool = False) -> str:
    """Return a content security policy that allows the given scripts and no requests.

    Args:
        scripts: digests of the allowed scripts.
        forms: whether forms may be submitted to the page's own server.
    """
    allowed = " ".join(f"'sha256-{script}'" for script in scripts)
    # Plotly sets inline styles and renders PNG images through a blob. All other content is blocked.
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; "
        f"form-action '{'self' if forms else 'none'}'"
    )


class Library(NamedTuple):
    """Plotly's JavaScript.

    Attributes:
        packed: the script as gzip in base64, 2.0 MB instead of 4.8 MB.
        digest: digest of the unpacked script for the page's policy.
    """

    packed: str
    digest: str


@functools.cache
def library() -> Library:
    """Return plotly's script, packed once per process."""
    from plotly.offline import get_plotlyjs

    code: str = get_plotlyjs()
    return Library(packed(code), digest(code))


def digest(script: str) -> str:
    """Return the SHA-256 of a script in base64, as content security policies require."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


class Data(NamedTuple):
    """The packed input of the page's script. Tables are separate, because only downloads need them.

    Attributes:
        plots: plotly figures and the colors of the dark theme.
        tables: the data of each plot as rows.
    """

    plots: str
    tables: str


def packed_figures(figures: Iterable[Figure]) -> Data:
    """Pack plots and their tables."""
    all_figures = list(figures)
    plots = {"dark": DARK, "figures": {figure.id: figure.spec for figure in all_figures}}
    tables = {figure.id: [figure.columns, *figure.rows] for figure in all_figures}
    return Data(*(packed(json.dumps(part, allow_nan=False, separators=(",", ":"))) for part in (plots, tables)))


def packed(content: str) -> str:
    """Compress text with gzip and encode it in base64, which contains no markup."""
    return base64.b64encode(gzip.compress(content.encode(), compresslevel=6, mtime=0)).decode()


@functools.cache
def environment() -> Environment:
    """Return the template environment, which escapes values and rejects undefined names."""
    templates = Environment(
        loader=PackageLoader("assay.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "amount": formatting.amount,
        "fraction": formatting.fraction,
        "plain": lambda value: formatting.score("", value),
        "probability": formatting.probability,
        "duration": formatting.duration,
        "moment": formatting.moment,
        "clock": formatting.clock,
        "metric": formatting.metric_name,
        "reason": reason_text.text,
        "texts": reason_text.texts,
        "fix": reason_text.fix,
        "paragraph": reason_text.paragraph,
        "scope_text": reason_text.scope_text,
        "shortened": formatting.shortened,
        "title_of": headline.state_and_decision,
        "headline": lambda verdict: headline.candidates(verdict, lambda name: formatting.shortened(name, 64)),
        "running": headline.running,
        "finite": finite,
        "breakable": breakable,
        "quoted": lambda name: quote(str(name), safe=""),
    }
    templates.globals |= {
        "count": formatting.count,
        "interval": formatting.interval,
        "metric_score": formatting.score,
        "signed": formatting.signed,
        "signed_percent": formatting.signed_percent,
        "signed_sds": formatting.signed_sds,
        "claim": formatting.claim,
        "size": formatting.size,
        "change": formatting.change,
        "lines": lines,
        "LONG": LONG,
        "LISTED": LISTED,
        "NOTHING": formatting.NOTHING,
    }
    return templates


def breakable(name: str) -> Markup:
    """Return an escaped name with optional line breaks after slashes and underscores.

    >>> breakable("validation/<b>_x")
    Markup('validation/<wbr>&lt;b&gt;_<wbr>x')
    """
    return Markup(re.sub(r"([/_])", r"\1<wbr>", str(escape(name))))  # noqa: S704  # the name is escaped


def file_text(name: str) -> str:
    """Return the text of a file in the templates folder."""
    templates = environment()
    assert templates.loader is not None
    return templates.loader.get_source(templates, name)[0]


def lines(value: object) -> list[str]:
    """Return the non-empty texts of a string or a sequence; an empty list for None."""
    if value is None:
        return []
    parts = [value] if isinstance(value, str) else list(value)  # type: ignore[call-overload]  # a sequence of statements otherwise
    return [str(part) for part in parts if str(part).strip()]
