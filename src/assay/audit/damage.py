"""Text that was damaged: read in the wrong charset, binary, cut, or next to nothing."""

from __future__ import annotations

import re

from assay.audit import words
from assay.audit.text import Hit, Text

MOST = 20
"""Places of a document that are kept."""
NEAR_EMPTY = 40
"""Bytes."""
HUGE = 5_000_000
"""Bytes."""

_REPLACEMENT = b"\xef\xbf\xbd"
_MOJIBAKE = re.compile(
    b"\xc3\x83\xc2[\x80-\xbf]|\xc3\x82\xc2[\x80-\xbf]|\xc3\xa2\xe2\x82\xac|\xc3\xaf\xc2\xbb\xc2\xbf|(?:\xc3[\x90\x91]\xc2[\x80-\xbf]){3}"
)
"""UTF-8 that was read as Latin-1 or Windows-1252 and written again: an e with an accent as two letters, quotes as three."""
_CONTROLS = re.compile(b"[\x00-\x08\x0e-\x1a\x1c-\x1f]|\xc2[\x80-\x84\x86-\x9f]")
_CUT = re.compile(
    r"(?i)(?:\[(?:\.\.\.|…|truncated|read more)\]|(?:read|show|view|see) more\W{0,4}|continue reading\W{0,4}|\(truncated\))\s*\Z"
)


def near_empty(text: Text) -> Hit | None:
    """Next to no text; nothing is learnt from it."""
    if text.profile["letters"] >= NEAR_EMPTY:
        return None
    size = len(text.data.strip())
    return Hit(spans=(), note=f"{size} bytes") if size < NEAR_EMPTY else None


def huge(text: Text) -> Hit | None:
    """More than a text has."""
    return Hit(spans=(), note=f"{len(text.data):,} bytes") if len(text.data) >= HUGE else None


def replacement(text: Text) -> Hit | None:
    """U+FFFD: what a byte was is lost."""
    if "replacement" not in text.marks:
        return None
    at = text.data.find(_REPLACEMENT)
    return Hit(spans=((at, at + len(_REPLACEMENT)),), note=f"{text.data.count(_REPLACEMENT)} times")


def mojibake(text: Text) -> Hit | None:
    """Characters that were read in the wrong charset and written again, two of them at least."""
    if "mojibake" not in text.marks:
        return None
    found = [match.span() for match in _MOJIBAKE.finditer(text.data)]
    return Hit(spans=tuple(found[:MOST]), note=f"{len(found)} times") if len(found) >= 2 else None


def controls(text: Text) -> Hit | None:
    """Control characters that no text has by right."""
    # U+0080 to U+009F are two bytes, of which the first begins no-break spaces and signs of degrees as well.
    count = text.profile["controls"] + (words.late_controls(text.bytes) if text.profile["c2"] else 0)
    found = _CONTROLS.search(text.data) if count else None
    return Hit(spans=(found.span(),), note=f"{count} times") if found else None


def truncated(text: Text) -> Hit | None:
    """An end such as `read more`."""
    found = _CUT.search(text.text[-60:])
    if not found:
        return None
    start = len(text.data) - len(text.text[-60:][found.start() :].encode())
    return Hit(spans=((start, len(text.data)),))
