"""Audits on a cluster as `assay audit --status` shows them: what was looked at, and what SLURM says of the jobs."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from assay.errors import AssayError
from assay.launch.logs import line_that_matters
from assay.launch.slurm.audit_records import FailedShard, audits, seen
from assay.launch.slurm.queue import AT_A_TERMINAL, in_accounting, in_queue, settle
from assay.structure import to_mapping

if TYPE_CHECKING:
    from assay.launch.slurm.audit_records import AuditDirectory
    from assay.launch.slurm.queue import Settled
    from assay.store import Store

State = Literal["under way", "audited", "incomplete", "ended", "unknown"]
"""The last two: no job of it is in the queue, and none has said what it came to; or SLURM could not be asked."""
FINE = frozenset({"completed"})
LOGS_READ = 20


@dataclass(frozen=True, kw_only=True)
class SourceShards:
    """How much of a source was looked at."""

    shards: int
    done: int
    bytes: int
    """As stored."""
    bytes_done: int


@dataclass(frozen=True, kw_only=True)
class AuditJob:
    """One task of an array, or the job that sums up."""

    job: str
    """SLURM's name of it."""
    kind: str
    """`shards` or `merge`."""
    state: str
    """`pending`, `running`, `completed`, `failed`, ...; `unknown` where nothing is known."""
    words: str
    shards: int
    done: int
    log: str | None
    line: str | None
    """The line of its log that matters, of a job that did not end well."""


@dataclass(frozen=True, kw_only=True)
class AuditView:
    """An audit at one moment."""

    id: str
    created: float
    """Seconds since the epoch."""
    cluster: str
    state: State
    sources: Mapping[str, SourceShards]
    jobs: tuple[AuditJob, ...]
    failed: tuple[FailedShard, ...]
    """What jobs could not get through, and nobody has since."""
    problem: str | None
    """Why SLURM could not be asked."""

    @property
    def shards(self) -> int:
        """Of all sources."""
        return sum(one.shards for one in self.sources.values())

    @property
    def done(self) -> int:
        """Of these, that were looked at."""
        return sum(one.done for one in self.sources.values())

    @property
    def counts(self) -> dict[str, int]:
        """Jobs that look at files, by state."""
        return dict(Counter(job.state for job in self.jobs if job.kind == "shards"))

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, for machines."""
        plain = {field.name: to_mapping(getattr(self, field.name)) for field in dataclasses.fields(self)}
        return {**plain, "shards": self.shards, "done": self.done, "counts": self.counts}


def newest_audits(store: Store, count: int) -> list[AuditView]:
    """The audits that were sent to a cluster last, the newest first."""
    return [view(directory) for directory in audits(store)[:count]]


def view(directory: AuditDirectory) -> AuditView:
    """Look at an audit's shards, and ask SLURM of its jobs."""
    submission = directory.submission
    looked = seen(directory.store, submission.shards)
    over = directory.closed is not None and directory.closed.outcome == "audited"
    settled, problem = ({}, None) if over else _settled(directory)
    closed = directory.closed  # after SLURM was asked: it may have ended meanwhile
    jobs = _jobs(directory, looked, settled)
    state: State = "ended"
    if closed is not None:
        state = closed.outcome
    elif problem is not None:
        state = "unknown"
    elif any(job.kind == "merge" and not settled[job.job].final for job in jobs if job.job in settled):
        state = "under way"
    return AuditView(
        id=submission.id,
        created=submission.created,
        cluster=submission.cluster.name,
        state=state,
        sources={name: _of_source(directory, name, looked) for name in submission.sources},
        jobs=tuple(jobs),
        failed=tuple(one for one in directory.failed() if not looked.get(one.key)),
        problem=problem,
    )


def _of_source(directory: AuditDirectory, name: str, looked: Mapping[str, bool]) -> SourceShards:
    mine = [shard for shard in directory.submission.shards if shard.source == name]
    done = [shard for shard in mine if looked[shard.key]]
    return SourceShards(
        shards=len(mine),
        done=len(done),
        bytes=sum(shard.size for shard in mine),
        bytes_done=sum(shard.size for shard in done),
    )


def _settled(directory: AuditDirectory) -> tuple[dict[str, Settled], str | None]:
    """What SLURM says of each task, by its name; and why it could not be asked."""
    batches = directory.batches
    keys = batches.jobs()
    tasks = {
        f"{handed.job}_{index}": batch.key
        for batch in batches.batches()
        if (handed := batches.handed(batch)) is not None
        for index in range(len(batch.tasks))
    }
    try:
        queue = in_queue(keys, patience=AT_A_TERMINAL) if keys else {}
        gone = {job: key for job, key in tasks.items() if job not in queue}
        records = in_accounting(gone, patience=AT_A_TERMINAL) if gone else {}
    except AssayError as error:
        return {}, error.what
    complete = getattr(records, "complete", False)
    return {job: settle(queue.get(job), records.get(job), complete=complete) for job in tasks}, None


def _jobs(directory: AuditDirectory, looked: Mapping[str, bool], settled: Mapping[str, Settled]) -> list[AuditJob]:
    batches, read = directory.batches, 0
    made = []
    for batch in batches.batches():
        handed = batches.handed(batch)
        for index, task in enumerate(batch.tasks) if handed is not None else ():
            job = f"{handed.job}_{index}"  # type: ignore[union-attr]  # asked before
            done, about, log = sum(looked.get(key, False) for key in task), settled.get(job), directory.job_log(job)
            all_done = done == len(task) and batch.kind == "shards"
            state = "completed" if all_done else "unknown" if about is None else about.kind
            wrong = about is not None and about.final and state not in FINE and read < LOGS_READ
            read += wrong
            made.append(
                AuditJob(
                    job=job,
                    kind=batch.kind,
                    state=state,
                    words="" if all_done or about is None else about.words,
                    shards=len(task),
                    done=done,
                    log=str(log) if log.exists() else None,
                    line=line_that_matters(log) if wrong else None,
                )
            )
    return made
