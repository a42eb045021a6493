"""Return the last lines of a process's output in displayable form."""

from __future__ import annotations

import re
from pathlib import Path

CHUNK = 65_536
MAX_BYTES = 16 * CHUNK
"""Maximum number of bytes read. A longer line is truncated."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def last_lines(path: Path, count: int) -> list[str]:
    """Read the last non-blank lines of a file, without terminal control sequences.

    The result is empty if the file does not exist. A progress bar that redraws its line counts as the final state of
    the line.
    """
    try:
        with path.open("rb") as handle:
            end = handle.seek(0, 2)
            start, text = end, b""
            while start > 0 and text.count(b"\n") <= 2 * count and end - start < MAX_BYTES:
                start = max(0, start - CHUNK)
                handle.seek(start)
                text = handle.read(end - start)
    except FileNotFoundError:
        return []
    raw = text.decode("utf-8", errors="replace").split("\n")
    if start > 0:
        raw = raw[1:]  # the start is inside a line
    lines = (printable(line) for line in raw)
    return [line for line in lines if line.strip()][-count:]


def printable(line: str) -> str:
    r"""Return the final state of a redrawn line, without terminal control sequences.

    >>> printable("10%\r20%\r\x1b[31mdone\x1b[0m")
    'done'
    """
    final = line.rstrip("\r").rpartition("\r")[2]
    return _CONTROLS.sub("", _ESCAPES.sub("", final)).rstrip()
