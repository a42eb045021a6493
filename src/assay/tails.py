"""The end of what a process printed, as lines to show."""

from __future__ import annotations

import re
from pathlib import Path

CHUNK = 65_536
MOST = 16 * CHUNK
"""Bytes that are read at most; a line that is longer than this is cut."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a file that aren't blank, without what would steer a terminal; none where there is no file.

    A progress bar that was drawn over itself counts as the line it ended as.
    """
    try:
        with path.open("rb") as handle:
            end = handle.seek(0, 2)
            start, text = end, b""
            while start > 0 and text.count(b"\n") <= 2 * count and end - start < MOST:
                start = max(0, start - CHUNK)
                handle.seek(start)
                text = handle.read(end - start)
    except FileNotFoundError:
        return []
    raw = text.decode("utf-8", errors="replace").split("\n")
    if start > 0:
        raw = raw[1:]  # begun somewhere inside
    shown = (printable(line) for line in raw)
    return [line for line in shown if line.strip()][-count:]


def printable(line: str) -> str:
    r"""A line without what would steer a terminal; of one that was drawn over itself, what it ended as.

    >>> printable("10%\r20%\r\x1b[31mdone\x1b[0m")
    'done'
    """
    drawn = line.rstrip("\r").rpartition("\r")[2]
    return _CONTROLS.sub("", _ESCAPES.sub("", drawn)).rstrip()
