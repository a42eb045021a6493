"""Keep the ledger of a submission's job arrays: SLURM job ids and the work of each task.

A batch is one job array. The ledger records the batch under a unique job name before sbatch is called. If the job id
was not recorded, the ledger looks up the name in SLURM. An array task reads its work from the batch. The task therefore
needs no file that is written after sbatch. Sweeps and audits use the same ledger.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

from assay.core.files import read_json, write_json
from assay.core.serde import from_record, to_mapping
from assay.launch.slurm.queue import PATIENT, JobStatus, Patience, find_jobs_by_name, query_job_statuses, query_queue

if TYPE_CHECKING:
    from assay.store.runs import Store

log = logging.getLogger(__name__)

JobKind = Literal["prepare", "runs", "monitor", "shards", "merge"]
"""Kinds of jobs.

Jobs of a sweep: `prepare` builds tokenizer and corpora. `runs` trains and evaluates. `monitor` resubmits lost jobs and
publishes the verdict. Jobs of an audit: `shards` scans. `merge` combines the results."""


@dataclass(frozen=True, kw_only=True)
class JobBatch:
    """One declared job array."""

    number: int
    kind: JobKind
    key: str
    """Job name, unique among all batches."""
    created: float
    tasks: tuple[tuple[str, ...], ...] = ((),)
    """Work of each task: fingerprints of runs or keys of shards; empty for a job of the whole submission."""
    after: tuple[str, ...] = ()
    """Jobs that must end before this batch starts, in any state (`afterany`)."""
    after_success: tuple[str, ...] = ()
    """Jobs that must succeed before this batch starts (`afterok`). If one of them fails, this batch never runs."""
    begin_minutes: float = 0.0
    """Minutes before the job may start."""
    exclude: tuple[str, ...] = ()
    """Nodes to avoid."""
    causes: dict[str, str] = field(default_factory=dict)
    """Retry causes of resubmitted runs, by fingerprint."""


@dataclass(frozen=True, kw_only=True)
class JobId:
    """Record of the job id that SLURM assigned to a batch."""

    job: str
    at: float


@dataclass(frozen=True)
class ArrayTask:
    """One task of a batch."""

    batch: JobBatch
    index: int
    job: str | None
    """SLURM's id of the task, `JOB_INDEX`; None if no job id of the batch is recorded."""

    @property
    def items(self) -> tuple[str, ...]:
        """Fingerprints of the task's runs, or keys of its shards."""
        return self.batch.tasks[self.index]

    @property
    def worker(self) -> str:
        """Name of the worker of the task."""
        return f"b{self.batch.number}-{self.index}"


class SubmissionRecord(Protocol):
    """Record of a submission."""

    @property
    def code(self) -> str:
        """Digest of the code snapshot that the jobs run."""


class JobDirectory(Protocol):
    """Folder of a submission that runs as SLURM jobs."""

    path: Path

    @property
    def store(self) -> Store:
        """Store that contains the submission."""

    @property
    def submitit(self) -> Path:
        """Folder of scripts and job logs."""

    def read(self) -> SubmissionRecord:
        """Read the record of the submission."""

    def check(self) -> None:
        """Raise LeaseLost if another process has taken over the submission."""


D = TypeVar("D", bound=JobDirectory)


class Ledger(Generic[D]):
    """The batches of one submission.

    Only the holder of `SubmissionDirectory.hold_monitor_lease` may write to the ledger of a sweep.
    """

    def __init__(self, directory: D) -> None:
        self.directory = directory
        self.folder = directory.path / "batches"

    # --- records

    def batches(self) -> list[JobBatch]:
        """Read all batches in the order of declaration."""
        return [self.batch(number) for number in self._numbers()]

    def batch(self, number: int) -> JobBatch:
        """Read one batch."""
        path = self.folder / f"{number}.json"
        return from_record(JobBatch, read_json(path), where=str(path))

    def _numbers(self) -> list[int]:
        return sorted(int(path.stem) for path in self.folder.glob("[0-9]*.json") if path.name.count(".") == 1)

    def declare(self, kind: JobKind, tasks: Sequence[Sequence[str]] = ((),), **options: Any) -> JobBatch:
        """Record a job array before submitting it to SLURM.

        Args:
            kind: kind of the jobs.
            tasks: work of each task.
            **options: further fields of `JobBatch`.

        Raises:
            LeaseLost: another process has taken over the submission.
        """
        self.directory.check()
        number, path = max(self._numbers(), default=0) + 1, self.directory.path
        name = re.sub(
            r"[^A-Za-z0-9_.-]+", "_", path.parents[1].name
        )  # some characters have a meaning in SLURM's commands
        key = f"assay-{name}-{path.name}-{kind}{number}"
        work = tuple(tuple(task) for task in tasks)
        batch = JobBatch(number=number, kind=kind, key=key, created=time.time(), tasks=work, **options)
        write_json(self.folder / f"{number}.json", to_mapping(batch))
        return batch

    def job(self, batch: JobBatch) -> str | None:
        """Read the job id of a batch; return None if no job id is recorded."""
        path = self.folder / f"{batch.number}.job.json"
        with contextlib.suppress(FileNotFoundError):
            return from_record(JobId, read_json(path), where=str(path)).job
        return None

    def record(self, batch: JobBatch, job: str) -> str:
        """Record the job id of a batch, and return it."""
        write_json(self.folder / f"{batch.number}.job.json", to_mapping(JobId(job=job, at=time.time())))
        return job

    def jobs(self, *kinds: JobKind) -> dict[str, str]:
        """Map recorded job ids to job names (default: for all kinds of batches)."""
        batches = [batch for batch in self.batches() if not kinds or batch.kind in kinds]
        return {job: batch.key for batch in batches if (job := self.job(batch)) is not None}

    def tasks(self) -> list[ArrayTask]:
        """List the tasks of all batches, the oldest first."""
        numbers = [(batch, self.job(batch)) for batch in self.batches()]
        return [
            ArrayTask(batch, index, job and f"{job}_{index}")
            for batch, job in numbers
            for index in range(len(batch.tasks))
        ]

    def newest_tasks(self) -> dict[str, ArrayTask]:
        """Map each run, by fingerprint, to the newest task that contains it."""
        return {item: task for task in self.tasks() for item in task.items}

    def count_retries(self) -> dict[str, Counter[str]]:
        """Count the resubmissions of each run, by retry cause."""
        counts: dict[str, Counter[str]] = {}
        for batch in self.batches():
            for fingerprint, cause in batch.causes.items():
                counts.setdefault(fingerprint, Counter())[cause] += 1
        return counts

    # --- reconciliation with SLURM

    def recover(self) -> list[JobBatch]:
        """Look up batches without a job id in SLURM by name; return the batches that SLURM does not know.

        Raises:
            Unreachable: SLURM does not answer.
        """
        unknown = []
        for batch in self.batches():
            if self.job(batch) is None:
                if jobs := find_jobs_by_name(batch.key, since=batch.created):
                    self.record(batch, jobs[0])
                    log.info("%s: recovered job id %s", batch.key, jobs[0])
                else:
                    unknown.append(batch)
        return unknown

    def queued_tasks(self) -> list[ArrayTask]:
        """List the tasks that are in SLURM's queue.

        Raises:
            Unreachable: SLURM does not answer.
        """
        queue = query_queue(self.jobs())
        return [task for task in self.tasks() if task.job in queue]

    def states(
        self, tasks: Collection[ArrayTask], *, accounted: Collection[str] | None = None, patience: Patience = PATIENT
    ) -> dict[str, JobStatus]:
        """Query the statuses of tasks, by `ArrayTask.job`.

        Args:
            tasks: tasks to query; the result omits tasks without a job id.
            accounted: job ids of the tasks to query in accounting (default: all tasks).
            patience: timeout and number of attempts.

        Raises:
            Unreachable: SLURM does not answer.
        """
        names = {task.job: task.batch.key for task in tasks if task.job is not None}
        return query_job_statuses(names, accounted=accounted, patience=patience)
