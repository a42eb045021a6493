"""Code that an extractor spoilt: line numbers in it, line ends or indentation lost."""

from __future__ import annotations

import re

from assay.audit import gutters
from assay.audit.text import Hit, Text

SIGNS = 0.05
"""Share of code's signs in code."""
BYTES_A_LINE = 400
"""Of code whose line ends are lost."""
FEWEST_LINES = 20
INDENTED = 0.02
"""Share of lines that may be indented where indentation is lost."""
OPENING = 0.08
"""Share of lines that open a block."""

_OPENS = re.compile(rb"(?m)^[^\n#]*(?:[{(]|:)[ \t]*\r?\n(?=\S)")


def gutter(text: Text) -> Hit | None:
    """Line numbers of a listing; see `assay.audit.gutters`."""
    runs = gutters.find(text.data)
    if not runs:
        return None
    longest = max(runs, key=lambda run: run[4])
    ordered = [longest, *(run for run in runs if run is not longest)]
    return Hit(spans=tuple(run[:2] for run in ordered), note=f"{longest[2]} to {longest[3]}")


def lost_newlines(text: Text) -> Hit | None:
    """Code whose newlines are gone: hundreds of bytes a line, full of code's signs, over the whole document."""
    size = len(text.data)
    if not text.is_code or size < 1000 or text.profile["signs"] < SIGNS * size:
        return None
    lines = text.lines[0]
    if size < BYTES_A_LINE * (lines + 1):
        return None
    return Hit(spans=(), note=f"{size // max(1, lines)} bytes a line")


def lost_indentation(text: Text) -> Hit | None:
    """Code of which no line is indented, though lines open blocks."""
    if not text.is_code:
        return None
    lines, indented = text.lines
    if lines < FEWEST_LINES or indented > INDENTED * lines:
        return None
    found = [match.span() for match in _OPENS.finditer(text.data)]
    return Hit(spans=tuple(found[:5]), note=f"{len(found)} blocks") if len(found) >= OPENING * lines else None
