"""A job as SLURM shows it, read from the rows that squeue and sacct print."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from assay.launch.slurm.notation import UTC, moment, seconds, tasks

log = logging.getLogger(__name__)

ENDED = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "TIMEOUT",
}
"""SLURM's words for a job that is over. To the controller a job that will run again is PENDING; accounting says
NODE_FAIL or PREEMPTED for some 5 s, and then has a second record."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One job, or one task of an array, as SLURM shows it."""

    job: str
    """`1234`, or `1234_7` for a task."""
    state: str
    """In SLURM's own word."""
    reason: str = ""
    """Why it waits, is held, or failed."""
    nodes: str = ""
    """Where it runs, or ran; empty where it didn't."""
    restarts: int = 0
    """How often it was requeued; in accounting, how many records it has before this one."""
    exit_code: int | None = None
    """What its script ended with; ``None`` before that."""
    signal: int | None = None
    """What killed its script; 0 for nothing."""
    name: str
    submitted: float | None = None
    """Seconds since the epoch; when it was requeued last, if it was."""
    start: float | None = None
    """Seconds since the epoch; ``None`` where it has not begun, whatever SLURM forecasts."""
    elapsed_seconds: int | None = None
    limit_seconds: int | None = None
    """What it may take; ``None`` for no limit."""
    cancelled_by: str | None = None
    """Number of the user who cancelled it, where accounting knows."""
    source: Literal["squeue", "sacct"]


BETWEEN = "\x1f"
"""Stands between the fields: nobody types it into a job's name."""
ENVIRONMENT = {**UTC, "SLURM_BITSTR_LEN": "0"}
"""Of both commands. Without the second, the tasks of an array are cut off after 64 characters."""

# The name comes last: whatever it holds moves no other field.
_SQUEUE = (
    *("JobArrayID", "State", "Reason", "NodeList", "RestartCnt"),
    *("exit_code", "SubmitTime", "StartTime", "TimeUsed", "TimeLimit", "Name"),
)
_SACCT = (
    *("JobID", "State", "Reason", "NodeList", "ExitCode"),
    *("Submit", "Start", "ElapsedRaw", "TimelimitRaw", "JobName"),
)

SQUEUE_FORMAT = "--Format=" + ",".join(f"{field}:0{BETWEEN}" for field in _SQUEUE)
"""Fields as wide as they are (`:0`; left out, they are cut off after 20 characters), and what comes after each."""
SACCT_FORMAT = ("--parsable2", f"--delimiter={BETWEEN}", f"--format={','.join(_SACCT)}")


def from_squeue(printed: str) -> list[Seen]:
    """The jobs that squeue printed, each task of an array by itself; lines that make no sense are passed over."""
    return _read("squeue", printed, len(_SQUEUE), _of_squeue)


def from_sacct(printed: str) -> list[Seen]:
    """The records that sacct printed, each task of an array by itself; lines that make no sense are passed over."""
    return _read("sacct", printed, len(_SACCT), _of_sacct)


def newest(records: Iterable[Seen]) -> dict[str, Seen]:
    """Each job's newest record of several, with how many there were before: every requeue begins one."""
    found: dict[str, Seen] = {}
    counts = Counter[str]()
    for record in records:
        counts[record.job] += 1
        before = found.get(record.job)
        if before is None or (record.submitted or 0.0) >= (before.submitted or 0.0):
            found[record.job] = record
    return {job: replace(record, restarts=counts[job] - 1) for job, record in found.items()}


def _read(program: str, printed: str, width: int, read: Callable[[Sequence[str]], Seen]) -> list[Seen]:
    rows: list[tuple[list[str], Seen]] = []
    senseless: list[str] = []
    for line in printed.split("\n"):
        fields = line.split(BETWEEN, width - 1)
        try:
            if len(fields) == width:
                rows.append((tasks(fields[0]), read(fields)))
            elif line:  # a name with a line break in it leaves its second line here
                senseless.append(line)
        except ValueError:
            senseless.append(line)
    for line in senseless:
        _warn_once(program, line)
    rows.sort(key=lambda row: len(row[0]), reverse=True)  # stable: a task's own record counts after its array's
    return [replace(seen, job=job) if job != seen.job else seen for jobs, seen in rows for job in jobs]


@lru_cache(maxsize=1000)
def _warn_once(program: str, line: str) -> None:
    """Warn of a line; the queue is looked at again and again, and it is still there."""
    log.warning("%s: a line that makes no sense: %r", program, line)


def _of_squeue(row: Sequence[str]) -> Seen:
    job, state, reason, nodes, restarts, status, submitted, start, elapsed, limit, name = row
    began = moment(start) if nodes else None  # without a node, a forecast, or when it was cancelled
    ended = _word(state) in ENDED
    return Seen(
        job=job,
        state=state,
        reason=_blank(reason),
        nodes=nodes,
        restarts=int(restarts),
        exit_code=int(status) >> 8 & 0xFF if ended else None,  # as wait(2) gives it
        signal=int(status) & 0x7F if ended else None,
        name=name.removesuffix(BETWEEN),
        submitted=moment(submitted),
        start=began,
        elapsed_seconds=None if began is None else seconds(elapsed),
        limit_seconds=seconds(limit),
        source="squeue",
    )


def _of_sacct(row: Sequence[str]) -> Seen:
    job, words, reason, nodes, status, submitted, start, elapsed, limit, name = row
    state, _, by = words.partition(" by ")
    code, _, signal = status.partition(":")
    nodes = "" if nodes == "None assigned" else nodes
    began = moment(start) if nodes else None
    ended = _word(state) in ENDED
    return Seen(
        job=job,
        state=state,
        reason=_blank(reason) if began is None else "",  # of what has begun, it is why that had waited
        nodes=nodes,
        exit_code=int(code) if ended else None,
        signal=int(signal) if ended else None,
        name=name,
        submitted=moment(submitted),
        start=began,
        elapsed_seconds=None if began is None else int(elapsed),
        limit_seconds=60 * int(limit) if limit.isdigit() else None,
        cancelled_by=by or None,
        source="sacct",
    )


def _word(state: str) -> str:
    if not re.fullmatch(r"[A-Z_]+", state):
        raise ValueError(f"{state!r} is no state")
    return state


def _blank(reason: str) -> str:
    return "" if reason == "None" else reason
