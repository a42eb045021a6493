"""How SLURM writes lists of nodes, tasks of an array, durations and times."""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Iterator

UTC = {"TZ": "UTC0"}
"""For the environment of commands whose times are read with `moment`: SLURM prints local time, which an autumn night repeats."""


def hosts(text: str) -> list[str]:
    """The names in a list of nodes.

    >>> hosts("gpu-[01-03,7],login")
    ['gpu-01', 'gpu-02', 'gpu-03', 'gpu-7', 'login']
    >>> hosts("r[1-2]n[1-2]")
    ['r1n1', 'r1n2', 'r2n1', 'r2n2']
    """
    names = []
    for part in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        pieces = re.split(r"\[([^\]]*)\]", part)  # every second one was in brackets
        choices = [list(_numerals(piece)) if at % 2 else [piece] for at, piece in enumerate(pieces)]
        names += ["".join(choice) for choice in itertools.product(*choices)]
    return names


def tasks(job: str) -> list[str]:
    """The tasks that one line about an array stands for; a job, or a single task, stands for itself.

    >>> tasks("1234_[0-2,8-12:2%4]")
    ['1234_0', '1234_1', '1234_2', '1234_8', '1234_10', '1234_12']

    Raises:
        ValueError: it is no job's number.
    """
    if re.fullmatch(r"\d+(_\d+)?", job):
        return [job]
    match = re.fullmatch(r"(\d+)_\[([\d,:-]+)(?:%\d+)?\]", job)
    if match is None:
        raise ValueError(f"{job!r} is no job's number")
    return [f"{match[1]}_{index}" for index in _numerals(match[2])]


def _numerals(text: str) -> Iterator[str]:
    """The numbers of "1-3,8-12:2,07", as wide as they are written."""
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)-(\d+)(?::(\d+))?", part)
        if match is None:
            yield part
            continue
        for number in range(int(match[1]), int(match[2]) + 1, int(match[3] or 1)):
            yield f"{number:0{len(match[1])}d}"


def seconds(text: str) -> int | None:
    """A duration in seconds; ``None`` where it is unlimited, or none at all.

    >>> seconds("1-12:00:00"), seconds("1:30"), seconds("10 sec"), seconds("UNLIMITED")
    (129600, 90, 10, None)
    """
    match = re.fullmatch(r"(?:(\d+)-)?(?:(?:(\d+):)?(\d+):)?(\d+)(?: sec)?", text)
    if match is None:
        return None
    days, hours, minutes, rest = (int(group or 0) for group in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def moment(text: str) -> float | None:
    """A time, printed under `UTC`, in seconds since the epoch; ``None`` where SLURM knows none.

    >>> moment("1970-01-02T00:00:00"), moment("Unknown")
    (86400.0, None)
    """
    try:
        return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC).timestamp()
    except ValueError:
        return None
