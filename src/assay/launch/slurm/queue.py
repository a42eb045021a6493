"""Query job states from squeue and sacct, and derive a status from both.

The controller remembers a job for some minutes after its end (`MinJobAge`, 300 s by default) and reports the end state
immediately. Accounting keeps every job, but is late: 0.5 to 5 s on a quiet cluster, and hours after an outage of
slurmdbd. One squeue call therefore covers all jobs. sacct is queried only for jobs that the controller has forgotten.

Job ids are not unique over time. A controller that crashes within about 5 s of sbatch's answer has not saved the job
and reuses the id. If the caller passes names with the ids, records with other names are ignored.
"""

from __future__ import annotations

import datetime
import logging
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from assay.core.errors import SchedulerError
from assay.launch.slurm.commands import Rejected, Unreachable, run
from assay.launch.slurm.job_record import (
    END_STATES,
    QUERY_ENVIRONMENT,
    SACCT_FORMAT,
    SQUEUE_FORMAT,
    JobRecord,
    parse_sacct,
    parse_squeue,
    select_newest,
)
from assay.launch.slurm.notation import expand_hosts

log = logging.getLogger(__name__)


class Patience(NamedTuple):
    """Timeout and attempts for one query.

    Attributes:
        seconds: timeout of one command in seconds. Without a controller, the clients stop after `MessageTimeout`
            (default: 10 s). Without a database, sacct stops after about 55 s.
        attempts: maximum number of queries to the controller.
    """

    seconds: float
    attempts: int


PATIENT = Patience(60.0, 3)
INTERACTIVE = Patience(10.0, 1)
"""For interactive commands. A state that is not available in time is shown as unknown."""

ARRAYS_AT_ONCE = 500
"""Maximum number of arguments of one sacct or scancel. A command line holds about ten thousand."""
LOOK_BACK_SECONDS = 7 * 86400.0
"""Seconds of the period in which accounting is searched for a job name. Accounting has no index of names."""

Jobs = Mapping[str, str] | Collection[str]
"""Ids of jobs, array tasks, or arrays (all tasks of an array). A mapping also has their names."""

Kind = Literal[
    "pending",
    "held",
    "never_satisfied",
    "requeued",
    "running",
    "suspended",
    "completing",
    "completed",
    "preempted",
    "node_failed",
    "out_of_memory",
    "timed_out",
    "cancelled",
    "failed",
    "vanished",
    "unknown",
]


class AccountingRecords(dict[str, JobRecord]):
    """The newest records of jobs that have left the queue, by job id."""

    complete: bool = False
    """Whether missing records and missing end states are final because no update to accounting is pending."""


def query_queue(jobs: Jobs, *, patience: Patience = PATIENT) -> dict[str, JobRecord]:
    """Query the jobs that are in the queue: pending, held, running, suspended or completing.

    Args:
        jobs: jobs to query.
        patience: timeout and attempts.

    Returns:
        Records by job id. Each array task has its own record.

    Raises:
        Unreachable: the controller does not answer.
    """
    if not jobs:
        return {}
    return {record.job: record for record in _select(_squeue(patience), jobs) if record.state not in END_STATES}


def query_accounting(jobs: Jobs, *, patience: Patience = PATIENT) -> AccountingRecords:
    """Query the end states of jobs from the controller, then from accounting.

    Accounting is queried for the jobs that the controller has forgotten.

    Args:
        jobs: jobs or array tasks. Do not pass arrays, because missing records of an array's tasks cannot be detected.
        patience: timeout and attempts.

    Returns:
        The newest record of each job that has one.

    Raises:
        Unreachable: the controller does not answer. If only accounting does not answer, the records are incomplete.
    """
    records = AccountingRecords()
    if jobs:
        records.update((record.job, record) for record in _select(_squeue(patience), jobs))
    forgotten = [job for job in jobs if job not in records]
    if not forgotten:
        return records
    try:
        # A query by array is the only way to find a task that was cancelled before its start.
        accounted = _sacct("--jobs", sorted({job.split("_")[0] for job in forgotten}), patience=patience)
    except Unreachable as error:
        log.warning("accounting does not answer: %s", error.what)
        return records
    for job, record in select_newest(_select(accounted or (), jobs)).items():
        records.setdefault(job, record)
    unresolved = [job for job in forgotten if job not in records or records[job].state not in END_STATES]
    records.complete = bool(unresolved) and (accounted is None or _accounting_is_current(patience))
    return records


def find_jobs_by_name(name: str, *, since: float | None = None) -> list[str]:
    """Return the ids of the jobs and arrays with this name, the oldest first.

    Args:
        name: the full name, in ASCII without commas. Every database stores such a name unchanged.
        since: earliest submission time for the search in accounting, in seconds since the epoch (default: a week ago).

    Raises:
        Unreachable: the controller does not answer, or the controller knows no such job and accounting does not answer.
    """
    records = [record for record in _squeue(PATIENT) if record.name == name]
    if not records:
        begin = f"now-{LOOK_BACK_SECONDS:.0f}seconds" if since is None else _time(since - CLOCK_SECONDS)
        states = "PD,R,S,CD,CA,F,TO,NF,PR,BF,DL,OOM,RQ"  # without the list, sacct omits jobs that never started
        window = ("--endtime=now", f"--starttime={begin}", f"--state={states}")
        records = [record for record in _sacct("--name", [name], *window) or () if record.name == name]
    return sorted({record.job.split("_")[0] for record in records}, key=int)


def cancel_jobs(jobs: Collection[str]) -> None:
    """Cancel jobs, arrays or tasks.

    Raises:
        Unreachable: the controller does not answer.
    """
    ordered = sorted(jobs)
    for first in range(0, len(ordered), ARRAYS_AT_ONCE):
        run(["scancel", *ordered[first : first + ARRAYS_AT_ONCE]], timeout=PATIENT.seconds)


CLOCK_SECONDS = 600.0
"""Maximum clock difference between two machines in seconds."""


def _time(moment: float) -> str:
    return datetime.datetime.fromtimestamp(moment, tz=datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _select(rows: Iterable[JobRecord], jobs: Jobs) -> Iterator[JobRecord]:
    """Yield the records of the jobs, without records whose name is not the expected name."""
    names = {job: _plain(name) for job, name in jobs.items()} if isinstance(jobs, Mapping) else {}
    wanted = set(jobs)
    for record in rows:
        job = record.job if record.job in wanted else record.job.split("_")[0]
        if job in wanted and (job not in names or names[job] == _plain(record.name)):
            yield record


def _plain(name: str) -> str:
    """Normalize a name as a database with a Latin character set does.

    Such a database replaces all other characters with question marks.
    """
    return re.sub(r"[^ -~]", "?", name)


def _squeue(patience: Patience) -> list[JobRecord]:
    """Query all jobs of the user that the controller knows, including ended jobs.

    The query does not list ids. squeue fails for a single forgotten job, and fetches the jobs of all users for several
    ids. Without `--array-unique`, one held or requeued task makes all pending tasks of its array look held or requeued.
    `--array` (at least in 22.05) omits the last task of a range that it abbreviates as "1-199:2".
    """
    which = ("--all", "--states=all", "--array-unique", f"--user={os.getuid()}")
    command = ["squeue", "--noheader", *which, SQUEUE_FORMAT]
    return parse_squeue(
        run(command, timeout=patience.seconds, attempts=patience.attempts, environment=QUERY_ENVIRONMENT)
    )


def _sacct(by: str, values: Sequence[str], *options: str, patience: Patience = PATIENT) -> list[JobRecord] | None:
    """Query all accounting records of jobs; return None without accounting."""
    records: list[JobRecord] = []
    command = ["sacct", "--allocations", "--duplicates", "--noheader", *SACCT_FORMAT, *options]
    for first in range(0, len(values), ARRAYS_AT_ONCE):
        selection = f"{by}={','.join(values[first : first + ARRAYS_AT_ONCE])}"
        try:
            records += parse_sacct(run([*command, selection], timeout=patience.seconds, environment=QUERY_ENVIRONMENT))
        except Rejected as error:
            if "accounting storage is disabled" in error.what:
                return None
            raise
    return records


def _accounting_is_current(patience: Patience) -> bool:
    """Return whether the controller has no unsent updates for accounting."""
    try:
        printed = run(["sdiag"], timeout=patience.seconds, environment=QUERY_ENVIRONMENT)
    except SchedulerError as error:
        log.warning("cannot check whether accounting is up to date: %s", error.what)
        return False
    return re.search(r"DBD Agent queue size:\s*0\b", printed) is not None


# --- status from both sources


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """State or outcome of one job."""

    kind: Kind
    final: bool
    """Whether the job has ended and SLURM will not start it again."""
    text: str
    """The state as text for users."""
    record: JobRecord | None
    """Record from which the status is derived."""

    @property
    def queued(self) -> bool:
        """Whether the job is still in the queue."""
        return not self.final and self.kind != "unknown"

    @property
    def node(self) -> str | None:
        """Node of the job; None if the job has several nodes or no node."""
        names = expand_hosts(self.record.nodes) if self.record is not None else []
        return names[0] if len(names) == 1 else None


def query_job_statuses(
    jobs: Mapping[str, str], *, accounted: Collection[str] | None = None, patience: Patience = PATIENT
) -> dict[str, JobStatus]:
    """Query the statuses of jobs or tasks, from the controller first.

    Accounting is queried for jobs that have left the queue. A job has ended if it is absent from the queue and its
    newest record has an end state. The record alone is insufficient, because accounting also has an end state for a job
    that is requeued or completing.

    Args:
        jobs: names of the jobs, by job id.
        accounted: jobs to query in accounting (default: all jobs). The result omits other jobs that have left the
            queue.
        patience: timeout and attempts.

    Raises:
        Unreachable: the controller does not answer.
    """
    queue = query_queue(jobs, patience=patience)
    gone = {job: name for job, name in jobs.items() if job not in queue and (accounted is None or job in accounted)}
    records = query_accounting(gone, patience=patience)
    states = {job: interpret_record(record) for job, record in queue.items()}
    return states | {job: interpret_record(records.get(job), complete=records.complete) for job in gone}


def interpret_record(record: JobRecord | None, *, complete: bool = False) -> JobStatus:
    """Convert the record of a job to a status.

    Args:
        record: the record of `query_queue`, or else the record of `query_accounting`.
        complete: whether the records of `query_accounting` are complete.
    """
    if record is not None and (record.state in END_STATES or record.source == "squeue"):
        kind = _kind(record)
        return JobStatus(kind=kind, final=record.state in END_STATES, text=_describe(kind, record), record=record)
    summary = "has no record" if record is None else f"its last recorded state is {record.state}"
    if complete:
        return JobStatus(kind="vanished", final=True, text=f"left the queue and {summary}", record=record)
    return JobStatus(kind="unknown", final=False, text=f"left the queue and so far {summary}", record=record)


_KINDS: Mapping[str, Kind] = {
    "PENDING": "pending",
    "REQUEUED": "requeued",
    "REQUEUE_FED": "requeued",
    "REQUEUE_HOLD": "held",
    "SPECIAL_EXIT": "held",
    "RESV_DEL_HOLD": "held",
    "CONFIGURING": "running",
    "RUNNING": "running",
    "RESIZING": "running",
    "SIGNALING": "running",
    "SUSPENDED": "suspended",
    "STOPPED": "suspended",
    "COMPLETING": "completing",
    "STAGE_OUT": "completing",
    "COMPLETED": "completed",
    "PREEMPTED": "preempted",
    "NODE_FAIL": "node_failed",
    "BOOT_FAIL": "node_failed",
    "OUT_OF_MEMORY": "out_of_memory",
    "TIMEOUT": "timed_out",
    "DEADLINE": "timed_out",
    "CANCELLED": "cancelled",
    "FAILED": "failed",
}


def _kind(record: JobRecord) -> Kind:
    kind = _KINDS.get(record.state, "unknown")
    if kind == "pending":
        if record.reason == "DependencyNeverSatisfied":
            return "never_satisfied"
        if "held" in record.reason.lower() or record.reason in {"JobHoldMaxRequeue", "BadConstraints"}:
            return "held"
        return "requeued" if record.restarts else "pending"
    # SLURM reports TIMEOUT for a preempted job that exits after its grace time and before the kill. The preemption had
    # moved the job's end.
    elapsed, limit = record.elapsed_seconds, record.limit_seconds
    if record.state == "TIMEOUT" and elapsed is not None and limit is not None and elapsed < limit:
        return "preempted"
    if kind == "cancelled" and record.reason == (
        "DependencyNeverSatisfied" if record.source == "squeue" else "Dependency"
    ):
        return "never_satisfied" if record.cancelled_by is None else kind  # by --kill-on-invalid-dep, or by a user
    # If a controller starts without its old state, accounting cancels all jobs that were running.
    if kind == "cancelled" and record.source == "sacct" and record.cancelled_by is None:
        return "vanished"
    return kind


_TEXTS: Mapping[Kind, str] = {
    "pending": "is pending{because}",
    "held": "held by {holder}: scontrol release {record.job}",
    "never_satisfied": "can never start: a job that it depends on did not complete",
    "requeued": "was requeued{times} and is pending{because}",
    "running": "is running{on}",
    "suspended": "is suspended{on}",
    "completing": "is completing{on}",
    "completed": "completed{on}",
    "preempted": "was preempted{on}",
    "node_failed": "ended by node failure{on}",
    "out_of_memory": "exceeded its memory limit{on}",
    "timed_out": "reached its time limit{on}",
    "cancelled": "was cancelled{by}{on}",
    "vanished": "was lost by the controller{on}",
    "failed": "{how}{on}{because}",
    "unknown": "is in state {record.state}{on}{because}, which assay does not know",
}
_HOLDERS = {"JobHeldUser": "the user", "JobHeldAdmin": "an administrator"}


def _describe(kind: Kind, record: JobRecord) -> str:
    return _TEXTS[kind].format(
        record=record,
        on=f" on {record.nodes}" if record.nodes else "",
        because=f": {record.reason}" if record.reason else "",
        times=f" {record.restarts} times" if record.restarts > 1 else "",
        holder=_HOLDERS.get(record.reason, f"SLURM ({record.reason or record.state})"),
        by="" if record.cancelled_by is None else f" by user {record.cancelled_by}",
        how=f"was killed by signal {record.signal}" if record.signal else f"ended with exit code {record.exit_code}",
    )
