"""Detect damaged text: wrong charset, binary data, truncation, almost no text."""

from __future__ import annotations

import re

from assay.audit.detectors import shingles
from assay.audit.detectors.document import Hit, Text

MOST = 20
"""Maximum number of reported matches per document."""
NEAR_EMPTY = 40
"""Size in bytes below which a document has almost no text."""
HUGE = 5_000_000
"""Size in bytes above which a document is larger than any normal text."""

_REPLACEMENT = b"\xef\xbf\xbd"
_MOJIBAKE = re.compile(
    b"\xc3\x83\xc2[\x80-\xbf]|\xc3\x82\xc2[\x80-\xbf]|\xc3\xa2\xe2\x82\xac|\xc3\xaf\xc2\xbb\xc2\xbf|(?:\xc3[\x90\x91]\xc2[\x80-\xbf]){3}"
)
"""Pattern of UTF-8 that was decoded as Latin-1 or Windows-1252 and encoded again.

An accented e becomes two characters, and a quotation mark becomes three.
"""
_CONTROLS = re.compile(b"[\x00-\x08\x0e-\x1a\x1c-\x1f]|\xc2[\x80-\x84\x86-\x9f]")
_CUT = re.compile(
    r"(?i)(?:\[(?:\.\.\.|…|truncated|read more)\]|(?:read|show|view|see) more\W{0,4}|continue reading\W{0,4}|\(truncated\))\s*\Z"
)


def near_empty(text: Text) -> Hit | None:
    """Detect documents with almost no text."""
    if text.profile["letters"] >= NEAR_EMPTY:
        return None
    size = len(text.data.strip())
    return Hit(spans=(), note=f"{size} bytes") if size < NEAR_EMPTY else None


def huge(text: Text) -> Hit | None:
    """Detect documents larger than any normal text."""
    return Hit(spans=(), note=f"{len(text.data):,} bytes") if len(text.data) >= HUGE else None


def replacement(text: Text) -> Hit | None:
    """Detect U+FFFD, which decoders insert for bytes that they cannot decode."""
    if "replacement" not in text.marks:
        return None
    at = text.data.find(_REPLACEMENT)
    return Hit(spans=((at, at + len(_REPLACEMENT)),), note=f"{text.data.count(_REPLACEMENT)} times")


def mojibake(text: Text) -> Hit | None:
    """Detect two or more characters that were decoded with the wrong charset."""
    if "mojibake" not in text.marks:
        return None
    spans = [match.span() for match in _MOJIBAKE.finditer(text.data)]
    return Hit(spans=tuple(spans[:MOST]), note=f"{len(spans)} times") if len(spans) >= 2 else None


def controls(text: Text) -> Hit | None:
    """Detect control characters that do not belong in text."""
    # U+0080 to U+009F are two bytes. The first byte also begins no-break spaces and degree signs.
    count = text.profile["controls"] + (shingles.late_controls(text.bytes) if text.profile["c2"] else 0)
    match = _CONTROLS.search(text.data) if count else None
    return Hit(spans=(match.span(),), note=f"{count} times") if match else None


def truncated(text: Text) -> Hit | None:
    """Detect documents that end with a truncation mark such as `read more`."""
    match = _CUT.search(text.text[-60:])
    if not match:
        return None
    start = len(text.data) - len(text.text[-60:][match.start() :].encode())
    return Hit(spans=((start, len(text.data)),))
