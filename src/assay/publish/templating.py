"""What all pages of HTML are made with: the templates, the policy that keeps them from the network, and packed parts."""

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

from assay.publish import words
from assay.publish.flips import LISTED
from assay.publish.plots import DARK
from assay.publish.report import finite

if TYPE_CHECKING:
    from assay.publish.plots import Figure

LONG = 160
"""Characters of an error message that a table shows before it folds the rest away."""


def policy(*, scripts: Iterable[str], forms: bool = False) -> str:
    """The content security policy of a page: these scripts run, and nothing is fetched.

    Args:
        scripts: the digests of the scripts that may run.
        forms: whether a form may be sent to where the page is from.
    """
    allowed = " ".join(f"'sha256-{one}'" for one in scripts)
    # Plotly sets inline styles, and renders its PNG through a blob; nothing else is let in.
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; "
        f"form-action '{'self' if forms else 'none'}'"
    )


class Library(NamedTuple):
    """Plotly's JavaScript.

    Attributes:
        packed: gzip, then base64: 2.0 MB in the page instead of 4.8.
        digest: of the unpacked script, for the page's policy.
    """

    packed: str
    digest: str


@functools.cache
def library() -> Library:
    """Plotly as pages carry it; packed once."""
    from plotly.offline import get_plotlyjs

    code: str = get_plotlyjs()
    return Library(packed(code), digest(code))


def digest(script: str) -> str:
    """Base64 of a script's SHA-256, as policies name it."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


class Data(NamedTuple):
    """What the page's script works on; tables are apart, since a page that is only looked at needs none of them.

    Attributes:
        plots: plotly's figures, and the colours of the dark theme.
        tables: each plot's figures as rows.
    """

    plots: str
    tables: str


def packed_figures(drawn: Iterable[Figure]) -> Data:
    """Plots and their tables, as a page carries them."""
    shown = list(drawn)
    plots = {"dark": DARK, "figures": {figure.id: figure.spec for figure in shown}}
    tables = {figure.id: [figure.columns, *figure.rows] for figure in shown}
    return Data(*(packed(json.dumps(part, allow_nan=False, separators=(",", ":"))) for part in (plots, tables)))


def packed(content: str) -> str:
    """Text as the page's script unpacks it: gzip, then base64, which holds nothing that could be markup."""
    return base64.b64encode(gzip.compress(content.encode(), compresslevel=6, mtime=0)).decode()


@functools.cache
def environment() -> Environment:
    """The templates; whatever they show is escaped, and a name that they miss is an error."""
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
        "clock": words.clock,
        "metric": words.metric_name,
        "shortened": words.shortened,
        "finite": finite,
        "breakable": breakable,
        "quoted": lambda name: quote(str(name), safe=""),
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


def breakable(name: str) -> Markup:
    """A name that a narrow column breaks after its slashes and underscores, not within a word.

    >>> breakable("validation/<b>_x")
    Markup('validation/<wbr>&lt;b&gt;_<wbr>x')
    """
    return Markup(re.sub(r"([/_])", r"\1<wbr>", str(escape(name))))  # noqa: S704  # it was escaped


def file_text(name: str) -> str:
    """A file beside the templates, as it is."""
    templates = environment()
    assert templates.loader is not None
    return templates.loader.get_source(templates, name)[0]


def lines(value: object) -> list[str]:
    """One or several statements as a list, the empty ones left out."""
    if value is None:
        return []
    parts = [value] if isinstance(value, str) else list(value)  # type: ignore[call-overload]  # a sequence of statements otherwise
    return [str(part) for part in parts if str(part).strip()]
