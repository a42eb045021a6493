"""Read the status of audits on a cluster, for `assay audit status`.

The status consists of the scanned shards and the states of the jobs.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from assay.audit.engine import pending_tasks
from assay.core.errors import NotFound, SchedulerError
from assay.core.serde import to_mapping
from assay.launch.logs import line_that_matters
from assay.launch.slurm.audit.records import FailedShard, audits
from assay.launch.slurm.queue import INTERACTIVE

if TYPE_CHECKING:
    from assay.launch.slurm.audit.records import AuditDirectory, AuditSubmission
    from assay.launch.slurm.batches import ArrayTask
    from assay.launch.slurm.queue import JobStatus
    from assay.store.runs import Store

State = Literal["under way", "audited", "incomplete", "ended", "unknown"]
"""`ended`: no job of the audit is queued, and no job recorded an outcome. `unknown`: SLURM could not be queried."""
LOGS_READ = 20
"""Maximum number of failed jobs whose log is read."""


@dataclass(frozen=True, kw_only=True)
class SourceShards:
    """Scan progress of a source."""

    shards: int
    done: int
    bytes: int
    """Size of the stored files in bytes."""
    bytes_done: int


@dataclass(frozen=True, kw_only=True)
class AuditJob:
    """One task of an array, or the job that combines the results."""

    job: str
    """SLURM's id of the job."""
    kind: str
    """`shards` or `merge`."""
    state: str
    """`pending`, `running`, `completed`, `failed`, ..., or `unknown`."""
    words: str
    shards: int
    done: int
    log: str | None
    line: str | None
    """The decisive line in the log of a failed job."""


@dataclass(frozen=True, kw_only=True)
class AuditView:
    """Status of an audit."""

    id: str
    created: float
    """Seconds since the epoch."""
    cluster: str
    state: State
    sources: Mapping[str, SourceShards]
    jobs: tuple[AuditJob, ...]
    failed: tuple[FailedShard, ...]
    """Shards that jobs could not scan and that are still unscanned."""
    problem: str | None
    """Why SLURM could not be queried; None if SLURM answered."""

    @property
    def shards(self) -> int:
        """Number of shards of all sources."""
        return sum(part.shards for part in self.sources.values())

    @property
    def done(self) -> int:
        """Number of scanned shards."""
        return sum(part.done for part in self.sources.values())

    @property
    def counts(self) -> dict[str, int]:
        """Number of scan jobs by state."""
        return dict(Counter(job.state for job in self.jobs if job.kind == "shards"))

    def to_mapping(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        plain = {field.name: to_mapping(getattr(self, field.name)) for field in dataclasses.fields(self)}
        return {**plain, "shards": self.shards, "done": self.done, "counts": self.counts}


def newest_audits(store: Store, count: int) -> list[AuditView]:
    """Read the statuses of the newest audits on a cluster, the newest first."""
    return [read_audit_status(directory) for directory in audits(store)[:count]]


def read_audit_status(directory: AuditDirectory) -> AuditView:
    """Read the scanned shards of an audit, and query SLURM for its jobs."""
    submission, closed = directory.read(), directory.closed
    states: dict[str, JobStatus] = {}
    problem, tasks = None, [task for task in directory.ledger.tasks() if task.job is not None]
    if closed is None or closed.outcome != "audited":
        try:
            states = directory.ledger.states(tasks, patience=INTERACTIVE)
        except (NotFound, SchedulerError) as error:
            problem = error.what
        closed = directory.closed  # the audit may have ended during the query
    unread = {task.key for task in pending_tasks(submission.tasks(), store=directory.store.root)}
    state: State = "ended"
    if closed is not None:
        state = closed.outcome
    elif problem is not None:
        state = "unknown"
    elif any(task.batch.kind == "merge" and not states[task.job or ""].final for task in tasks):
        state = "under way"
    return AuditView(
        id=submission.id,
        created=submission.created,
        cluster=submission.cluster.name,
        state=state,
        sources={name: _source_shards(submission, name, unread) for name in submission.sources},
        jobs=tuple(_jobs(directory, tasks, unread, states)),
        failed=tuple(failed for failed in directory.failed() if failed.key in unread),
        problem=problem,
    )


def _source_shards(submission: AuditSubmission, name: str, unread: Collection[str]) -> SourceShards:
    shards = [shard for shard in submission.shards if shard.source == name]
    done = [shard for shard in shards if shard.key not in unread]
    return SourceShards(
        shards=len(shards),
        done=len(done),
        bytes=sum(shard.size for shard in shards),
        bytes_done=sum(shard.size for shard in done),
    )


def _jobs(
    directory: AuditDirectory, tasks: Iterable[ArrayTask], unread: Collection[str], states: Mapping[str, JobStatus]
) -> Iterator[AuditJob]:
    read = 0
    for task in tasks:
        job, total = task.job or "", len(task.items)
        done, job_status, log = sum(key not in unread for key in task.items), states.get(job), directory.job_log(job)
        if done == total and task.batch.kind == "shards":
            state, words = "completed", ""
        elif job_status is not None:
            state, words = job_status.kind, job_status.text
        else:
            state, words = "unknown", ""
        bad = job_status is not None and job_status.final and state != "completed" and read < LOGS_READ
        read += bad
        yield AuditJob(
            job=job,
            kind=task.batch.kind,
            state=state,
            words=words,
            shards=total,
            done=done,
            log=str(log) if log.exists() else None,
            line=line_that_matters(log) if bad else None,
        )
