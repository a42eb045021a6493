"""What SLURM says of jobs: whether they are in the queue, how they ended, and what both together mean.

The controller remembers a job for some minutes after its end (`MinJobAge`, 300 s by default), and says at once how it
ended. Accounting knows for ever, but late: by 0.5 to 5 s on a quiet cluster, by hours where slurmdbd was down. So the
controller is asked first, in one call for all jobs, and accounting only about those that it has forgotten.

A number is not one job's for ever: a controller that crashes within some 5 s of sbatch's answer has not saved the job
yet, and gives its number to another. Where names are given with the numbers, jobs of other names are not meant.
"""

from __future__ import annotations

import datetime
import logging
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from assay.launch.slurm.commands import Refused, SlurmError, Unreachable, run
from assay.launch.slurm.notation import hosts
from assay.launch.slurm.seen import (
    ENDED,
    ENVIRONMENT,
    SACCT_FORMAT,
    SQUEUE_FORMAT,
    Seen,
    from_sacct,
    from_squeue,
    newest,
)

__all__ = [
    "AT_A_TERMINAL",
    "PATIENT",
    "Kind",
    "Patience",
    "Records",
    "Seen",
    "Settled",
    "find_by_name",
    "in_accounting",
    "in_queue",
    "settle",
]

log = logging.getLogger(__name__)


class Patience(NamedTuple):
    """How long an answer is waited for.

    Attributes:
        seconds: for one command. Without a controller, clients give up by themselves after `MessageTimeout`, 10 s by
            default; without a database, sacct does after some 55 s.
        attempts: how often the controller is asked.
    """

    seconds: float
    attempts: int


PATIENT = Patience(60.0, 3)
AT_A_TERMINAL = Patience(10.0, 1)
"""For people who look: what is not known in time is shown as not known."""

ARRAYS_AT_ONCE = 500
"""That one sacct is asked for; a command line holds some ten thousand."""
LOOK_BACK_SECONDS = 7 * 86400.0
"""How far accounting is searched for a name: it has no index of them."""

Jobs = Mapping[str, str] | Collection[str]
"""Jobs, tasks, or arrays, of which all tasks are meant; with their names, if it is a mapping."""

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


class Records(dict[str, Seen]):
    """What is on record of jobs that have left the queue, by job."""

    complete: bool = False
    """Whether what is missing here, or has no end, will stay so: nothing is on its way to accounting any more."""


def in_queue(jobs: Jobs, *, user: str | None = None, patience: Patience = PATIENT) -> dict[str, Seen]:
    """The jobs that are in the queue: waiting, held, running, suspended, or being cleaned up.

    Args:
        jobs: which.
        user: whose they are, by name or number; left out, this process's.
        patience: how long to wait for answers.

    Returns:
        By job, and each task of an array by itself.

    Raises:
        Unreachable: the controller does not answer.
    """
    return {seen.job: seen for seen in _meant(_squeue(user, patience), jobs) if seen.state not in ENDED}


def in_accounting(jobs: Jobs, *, user: str | None = None, patience: Patience = PATIENT) -> Records:
    """How jobs ended that have left the queue: by the controller's memory, and by accounting where that has forgotten.

    Args:
        jobs: which; tasks rather than arrays, of which nobody can say whether all tasks are there.
        user: whose they are, by name or number; left out, this process's.
        patience: how long to wait for answers.

    Returns:
        The newest record of each job that has one.

    Raises:
        Unreachable: the controller does not answer. Where accounting doesn't, the records are not complete.
    """
    found = Records((seen.job, seen) for seen in _meant(_squeue(user, patience), jobs))
    forgotten = [job for job in jobs if job not in found]
    if not forgotten:
        return found
    try:
        # By array: a task that was cancelled before it began is found in no other way.
        records = _sacct("--jobs", sorted({job.split("_")[0] for job in forgotten}), patience=patience)
    except Unreachable as error:
        log.warning("accounting does not answer: %s", error.what)
        return found
    for job, seen in newest(_meant(records or (), jobs)).items():
        found.setdefault(job, seen)
    lacking = [job for job in forgotten if job not in found or found[job].state not in ENDED]
    found.complete = bool(lacking) and (records is None or _nothing_on_its_way(patience))
    return found


def find_by_name(name: str, *, since: float | None = None, user: str | None = None) -> list[str]:
    """The numbers of the jobs and arrays of this name, the oldest first.

    Args:
        name: all of it; of ASCII without commas, which every database keeps as it is.
        since: when they were submitted at the earliest, in seconds since the epoch, for accounting; left out, a week ago.
        user: whose they are, by name or number; left out, this process's.

    Raises:
        Unreachable: the controller does not answer; or it knows of none, and accounting does not answer.
    """
    found = [seen for seen in _squeue(user, PATIENT) if seen.name == name]
    if not found:
        begin = f"now-{LOOK_BACK_SECONDS:.0f}seconds" if since is None else _time(since - CLOCK_SECONDS)
        states = "PD,R,S,CD,CA,F,TO,NF,PR,BF,DL,OOM,RQ"  # named, or those that were never to begin are left out
        window = ("--endtime=now", f"--starttime={begin}", f"--state={states}")
        found = [seen for seen in _sacct("--name", [name], *window) or () if seen.name == name]
    return sorted({seen.job.split("_")[0] for seen in found}, key=int)


CLOCK_SECONDS = 600.0
"""By which the clocks of two machines may differ."""


def _time(moment: float) -> str:
    return datetime.datetime.fromtimestamp(moment, tz=datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _meant(rows: Iterable[Seen], jobs: Jobs) -> Iterator[Seen]:
    names = {job: _plain(name) for job, name in jobs.items()} if isinstance(jobs, Mapping) else {}
    wanted = set(jobs)
    for seen in rows:
        asked = seen.job if seen.job in wanted else seen.job.split("_")[0]
        if asked in wanted and (asked not in names or names[asked] == _plain(seen.name)):
            yield seen


def _plain(name: str) -> str:
    """A name as any database has it: one for Latin letters keeps question marks instead of others."""
    return re.sub(r"[^ -~]", "?", name)


def _squeue(user: str | None, patience: Patience) -> list[Seen]:
    """All of a user's jobs that the controller knows, those that have ended too.

    Not by number: for one job that it has forgotten squeue fails, and for several it fetches everybody's. With
    `--array-unique`: else one task that is held or was requeued makes all that wait look so; and `--array`, of 22.05 at
    least, leaves out the last task of what it abbreviates as "1-199:2".
    """
    which = ("--all", "--states=all", "--array-unique", f"--user={user or os.getuid()}")
    command = ["squeue", "--noheader", *which, SQUEUE_FORMAT]
    return from_squeue(run(command, timeout=patience.seconds, attempts=patience.attempts, environment=ENVIRONMENT))


def _sacct(by: str, values: Sequence[str], *options: str, patience: Patience = PATIENT) -> list[Seen] | None:
    """All records of some jobs; ``None`` where no accounts are kept."""
    records: list[Seen] = []
    command = ["sacct", "--allocations", "--duplicates", "--noheader", *SACCT_FORMAT, *options]
    for first in range(0, len(values), ARRAYS_AT_ONCE):
        asked = f"{by}={','.join(values[first : first + ARRAYS_AT_ONCE])}"
        try:
            records += from_sacct(run([*command, asked], timeout=patience.seconds, environment=ENVIRONMENT))
        except Refused as error:
            if "accounting storage is disabled" in error.what:
                return None
            raise
    return records


def _nothing_on_its_way(patience: Patience) -> bool:
    """Whether the controller has told accounting all that there is to tell."""
    try:
        printed = run(["sdiag"], timeout=patience.seconds, environment=ENVIRONMENT)
    except SlurmError as error:
        log.warning("whether accounting is up to date cannot be told: %s", error.what)
        return False
    return re.search(r"DBD Agent queue size:\s*0\b", printed) is not None


# --- both together


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What became of one job, or what it is about."""

    kind: Kind
    final: bool
    """Whether SLURM is through with it."""
    words: str
    """For people."""
    seen: Seen | None
    """What it is told from."""

    @property
    def node(self) -> str | None:
        """Where it happened; ``None`` where that is several nodes, or none."""
        names = hosts(self.seen.nodes) if self.seen is not None else []
        return names[0] if len(names) == 1 else None


def settle(queued: Seen | None, recorded: Seen | None, *, complete: bool = False) -> Settled:
    """What becomes of a job.

    It is over once it is absent from the queue and its newest record has an end: accounting has the end of a job that is
    requeued or still being cleaned up, too.

    Args:
        queued: from `in_queue`.
        recorded: from `in_accounting`, asked afterwards.
        complete: whether those records were.
    """
    seen = queued or recorded
    if seen is not None and (seen.state in ENDED or seen.source == "squeue"):
        kind = _kind(seen)
        return Settled(kind=kind, final=seen.state in ENDED, words=_words(kind, seen), seen=seen)
    record = "nothing is on record of it" if seen is None else f"its last record says {seen.state}"
    if complete:
        return Settled(kind="vanished", final=True, words=f"left the queue, and {record}", seen=seen)
    return Settled(kind="unknown", final=False, words=f"left the queue, and so far {record}", seen=seen)


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


def _kind(seen: Seen) -> Kind:
    kind = _KINDS.get(seen.state, "unknown")
    if kind == "pending":
        if seen.reason == "DependencyNeverSatisfied":
            return "never_satisfied"
        if "held" in seen.reason.lower() or seen.reason in {"JobHoldMaxRequeue", "BadConstraints"}:
            return "held"
        return "requeued" if seen.restarts else "pending"
    # A job that is to make room and ends well by itself, after its grace and before it is killed, is a TIMEOUT to SLURM:
    # its end had been moved.
    took, limit = seen.elapsed_seconds, seen.limit_seconds
    if seen.state == "TIMEOUT" and took is not None and limit is not None and took < limit:
        return "preempted"
    if kind == "cancelled" and seen.reason == ("DependencyNeverSatisfied" if seen.source == "squeue" else "Dependency"):
        return "never_satisfied" if seen.cancelled_by is None else kind  # by --kill-on-invalid-dep, or by somebody
    # A controller that begins anew, without its old state, has accounting end all jobs that it had running.
    if kind == "cancelled" and seen.source == "sacct" and seen.cancelled_by is None:
        return "vanished"
    return kind


_WORDS: Mapping[Kind, str] = {
    "pending": "waits in the queue{because}",
    "held": "held by {holder}: scontrol release {seen.job}",
    "never_satisfied": "can never start: a job that it depends on did not end well",
    "requeued": "was requeued{times} and waits in the queue{because}",
    "running": "runs{on}",
    "suspended": "is suspended{on}",
    "completing": "is being cleaned up{on}",
    "completed": "ended well{on}",
    "preempted": "had to make room for another job{on}",
    "node_failed": "lost its node{on}",
    "out_of_memory": "needed more memory than it had asked for{on}",
    "timed_out": "reached its time limit{on}",
    "cancelled": "was cancelled{by}{on}",
    "vanished": "was lost by the controller{on}",
    "failed": "{how}{on}{because}",
    "unknown": "is {seen.state}{on}{because}, which is new here",
}
_HOLDERS = {"JobHeldUser": "the user", "JobHeldAdmin": "an administrator"}


def _words(kind: Kind, seen: Seen) -> str:
    return _WORDS[kind].format(
        seen=seen,
        on=f" on {seen.nodes}" if seen.nodes else "",
        because=f": {seen.reason}" if seen.reason else "",
        times=f" {seen.restarts} times" if seen.restarts > 1 else "",
        holder=_HOLDERS.get(seen.reason, f"SLURM ({seen.reason or seen.state})"),
        by="" if seen.cancelled_by is None else f" by user {seen.cancelled_by}",
        how=f"was killed by signal {seen.signal}" if seen.signal else f"ended with exit code {seen.exit_code}",
    )
