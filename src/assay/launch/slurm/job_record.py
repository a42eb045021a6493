"""Parse the rows that squeue and sacct print into job records."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from assay.launch.slurm.notation import UTC, expand_tasks, parse_duration, parse_time

log = logging.getLogger(__name__)

END_STATES = {
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
"""States of an ended job.

For a job that will run again, the controller reports PENDING. Accounting reports NODE_FAIL or PREEMPTED for about 5 s,
and then has a second record."""


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """One job, or one task of an array, as squeue or sacct reports it."""

    job: str
    """Id of the job: `1234`, or `1234_7` for an array task."""
    state: str
    """SLURM's name of the state."""
    reason: str = ""
    """Why the job is pending, held or failed."""
    nodes: str = ""
    """Nodes on which the job runs or ran; empty if the job did not run."""
    restarts: int = 0
    """Number of requeues. In accounting, the number of earlier records."""
    exit_code: int | None = None
    """Exit code of the script; None before the end of the script."""
    signal: int | None = None
    """Number of the signal that killed the script; 0 for no signal."""
    name: str
    submitted: float | None = None
    """Time of submission or of the last requeue, in seconds since the epoch."""
    elapsed_seconds: int | None = None
    limit_seconds: int | None = None
    """Time limit in seconds; None for no limit."""
    cancelled_by: str | None = None
    """Id of the user who cancelled the job; None if accounting has no id."""
    source: Literal["squeue", "sacct"]


SEPARATOR = "\x1f"
"""Separator of the fields, a character that does not occur in job names."""
QUERY_ENVIRONMENT = {**UTC, "SLURM_BITSTR_LEN": "0"}
"""Environment of both commands. Without `SLURM_BITSTR_LEN`, the task list of an array has at most 64 characters."""

# The name is the last field, so that separators in the name shift no other field.
_SQUEUE = (
    *("JobArrayID", "State", "Reason", "NodeList", "RestartCnt"),
    *("exit_code", "SubmitTime", "StartTime", "TimeUsed", "TimeLimit", "Name"),
)
_SACCT = (
    *("JobID", "State", "Reason", "NodeList", "ExitCode"),
    *("Submit", "Start", "ElapsedRaw", "TimelimitRaw", "JobName"),
)

SQUEUE_FORMAT = "--Format=" + ",".join(f"{field}:0{SEPARATOR}" for field in _SQUEUE)
"""Fields at full width (`:0`), each followed by the separator. The default width is 20 characters."""
SACCT_FORMAT = ("--parsable2", f"--delimiter={SEPARATOR}", f"--format={','.join(_SACCT)}")


def parse_squeue(printed: str) -> list[JobRecord]:
    """Parse the output of squeue into one record per job or array task.

    Malformed lines are skipped with a warning.
    """
    return _read("squeue", printed, len(_SQUEUE), _of_squeue)


def parse_sacct(printed: str) -> list[JobRecord]:
    """Parse the output of sacct into one record per job or array task.

    Malformed lines are skipped with a warning.
    """
    return _read("sacct", printed, len(_SACCT), _of_sacct)


def select_newest(records: Iterable[JobRecord]) -> dict[str, JobRecord]:
    """Select the newest record of each job, and count the earlier records as restarts.

    Every requeue starts a new record.
    """
    latest: dict[str, JobRecord] = {}
    counts = Counter[str]()
    for record in records:
        counts[record.job] += 1
        before = latest.get(record.job)
        if before is None or (record.submitted or 0.0) >= (before.submitted or 0.0):
            latest[record.job] = record
    return {job: replace(record, restarts=counts[job] - 1) for job, record in latest.items()}


def _read(program: str, printed: str, width: int, read: Callable[[Sequence[str]], JobRecord]) -> list[JobRecord]:
    rows: list[tuple[list[str], JobRecord]] = []
    malformed: list[str] = []
    for line in printed.split("\n"):
        fields = line.split(SEPARATOR, width - 1)
        try:
            if len(fields) == width:
                rows.append((expand_tasks(fields[0]), read(fields)))
            elif line:  # the second line of a job name with a line break
                malformed.append(line)
        except ValueError:
            malformed.append(line)
    for line in malformed:
        _warn_once(program, line)
    rows.sort(key=lambda row: len(row[0]), reverse=True)  # stable sort: a task's own record is after its array's
    return [replace(record, job=job) if job != record.job else record for jobs, record in rows for job in jobs]


@lru_cache(maxsize=1000)
def _warn_once(program: str, line: str) -> None:
    """Log a malformed line once, although each later query returns the line again."""
    log.warning("%s: malformed line: %r", program, line)


def _of_squeue(row: Sequence[str]) -> JobRecord:
    job, state, reason, nodes, restarts, status, submitted, start, elapsed, limit, name = row
    began = parse_time(start) if nodes else None  # without a node, a predicted start or the time of cancellation
    ended = _word(state) in END_STATES
    return JobRecord(
        job=job,
        state=state,
        reason=_blank(reason),
        nodes=nodes,
        restarts=int(restarts),
        exit_code=int(status) >> 8 & 0xFF if ended else None,  # a status of wait(2)
        signal=int(status) & 0x7F if ended else None,
        name=name.removesuffix(SEPARATOR),
        submitted=parse_time(submitted),
        elapsed_seconds=None if began is None else parse_duration(elapsed),
        limit_seconds=parse_duration(limit),
        source="squeue",
    )


def _of_sacct(row: Sequence[str]) -> JobRecord:
    job, state_and_user, reason, nodes, status, submitted, start, elapsed, limit, name = row
    state, _, by = state_and_user.partition(" by ")
    code, _, signal = status.partition(":")
    nodes = "" if nodes == "None assigned" else nodes
    began = parse_time(start) if nodes else None
    ended = _word(state) in END_STATES
    return JobRecord(
        job=job,
        state=state,
        reason=_blank(reason) if began is None else "",  # a started job has the reason why it was pending
        nodes=nodes,
        exit_code=int(code) if ended else None,
        signal=int(signal) if ended else None,
        name=name,
        submitted=parse_time(submitted),
        elapsed_seconds=None if began is None else int(elapsed),
        limit_seconds=60 * int(limit) if limit.isdigit() else None,
        cancelled_by=by or None,
        source="sacct",
    )


def _word(state: str) -> str:
    if not re.fullmatch(r"[A-Z_]+", state):
        raise ValueError(f"job state: {state!r} is invalid; expected upper-case letters and underscores")
    return state


def _blank(reason: str) -> str:
    return "" if reason == "None" else reason
