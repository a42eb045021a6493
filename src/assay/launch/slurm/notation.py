"""Parse SLURM's notation for node lists, array tasks, durations and times."""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Iterator

UTC = {"TZ": "UTC0"}
"""Environment of commands whose times `parse_time` reads. Local time is ambiguous when daylight saving time ends."""


def expand_hosts(text: str) -> list[str]:
    """Expand a list of nodes.

    >>> expand_hosts("gpu-[01-03,7],login")
    ['gpu-01', 'gpu-02', 'gpu-03', 'gpu-7', 'login']
    >>> expand_hosts("r[1-2]n[1-2]")
    ['r1n1', 'r1n2', 'r2n1', 'r2n2']
    """
    names = []
    for part in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        pieces = re.split(r"\[([^\]]*)\]", part)  # every second piece is the content of brackets
        choices = [list(_numerals(piece)) if at % 2 else [piece] for at, piece in enumerate(pieces)]
        names += ["".join(choice) for choice in itertools.product(*choices)]
    return names


def expand_tasks(job: str) -> list[str]:
    """List the array tasks that an id covers. The id of a job or a single task covers itself.

    >>> expand_tasks("1234_[0-2,8-12:2%4]")
    ['1234_0', '1234_1', '1234_2', '1234_8', '1234_10', '1234_12']

    Raises:
        ValueError: the text is not a job id.
    """
    if re.fullmatch(r"\d+(_\d+)?", job):
        return [job]
    match = re.fullmatch(r"(\d+)_\[([\d,:-]+)(?:%\d+)?\]", job)
    if match is None:
        raise ValueError(f"job id: {job!r} is invalid; expected JOB, JOB_INDEX or JOB_[INDICES]")
    return [f"{match[1]}_{index}" for index in _numerals(match[2])]


def _numerals(text: str) -> Iterator[str]:
    """Yield the numbers of "1-3,8-12:2,07" with their leading zeros."""
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)-(\d+)(?::(\d+))?", part)
        if match is None:
            yield part
            continue
        for number in range(int(match[1]), int(match[2]) + 1, int(match[3] or 1)):
            yield f"{number:0{len(match[1])}d}"


def parse_duration(text: str) -> int | None:
    """Convert a duration to seconds; return None if it is unlimited or invalid.

    >>> [parse_duration(text) for text in ("1-12:00:00", "1:30", "10 sec", "UNLIMITED")]
    [129600, 90, 10, None]
    """
    match = re.fullmatch(r"(?:(\d+)-)?(?:(?:(\d+):)?(\d+):)?(\d+)(?: sec)?", text)
    if match is None:
        return None
    days, hours, minutes, rest = (int(group or 0) for group in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def parse_time(text: str) -> float | None:
    """Convert a time printed under `UTC` to Unix seconds; return None for an unknown time.

    >>> parse_time("1970-01-02T00:00:00"), parse_time("Unknown")
    (86400.0, None)
    """
    try:
        return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC).timestamp()
    except ValueError:
        return None
