"""Detect damaged code blocks: line numbers in the text, lost line ends, lost indentation."""

from __future__ import annotations

import re

from assay.audit.detectors import line_numbers
from assay.audit.detectors.document import Hit, Text

CODE_SYMBOLS = 0.05
"""Minimum symbol ratio of code."""
BYTES_A_LINE = 400
"""Minimum mean line length of code without line ends."""
FEWEST_LINES = 20
INDENTED = 0.02
"""Maximum fraction of indented lines in code without indentation."""
OPENING = 0.08
"""Minimum fraction of lines that open a code block."""

_OPENS = re.compile(rb"(?m)^[^\n#]*(?:[{(]|:)[ \t]*\r?\n(?=\S)")


def line_number_gutter(text: Text) -> Hit | None:
    """Find line-number gutters; see `assay.audit.detectors.line_numbers`."""
    runs = line_numbers.find(text.data)
    if not runs:
        return None
    longest = max(runs, key=lambda run: run.numbers)
    ordered = [longest, *(run for run in runs if run is not longest)]
    rule = longest.rule.name.lower()
    return Hit(
        spans=tuple((run.start, run.stop) for run in ordered),
        note=f"{longest.first} to {longest.last}, {rule.replace('_', ' ')}",
        rule=rule,
    )


def lost_newlines(text: Text) -> Hit | None:
    """Detect code without line ends: long lines with a high symbol ratio."""
    size = len(text.data)
    if not text.is_code or size < 1000 or text.profile["symbols"] < CODE_SYMBOLS * size:
        return None
    lines = text.lines[0]
    if size < BYTES_A_LINE * (lines + 1):
        return None
    return Hit(spans=(), note=f"{size // max(1, lines)} bytes a line")


def lost_indentation(text: Text) -> Hit | None:
    """Detect code without indentation whose lines open blocks."""
    if not text.is_code:
        return None
    lines, indented = text.lines
    if lines < FEWEST_LINES or indented > INDENTED * lines:
        return None
    spans = [match.span() for match in _OPENS.finditer(text.data)]
    return Hit(spans=tuple(spans[:5]), note=f"{len(spans)} blocks") if len(spans) >= OPENING * lines else None
