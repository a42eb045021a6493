"""Read and write the records of a sweep's submissions: runs, workers and cancellations.

A submission is a folder::

    sweeps/<name>/submissions/<id>/submission.json      the submission, written before any process starts
                                   jobs.json            the processes that submitit started for it
                                   batches/<n>.json     on a cluster: a job array, written before sbatch
                                   workers/<name>.json  a worker, during and after its work
                                   cancelled.json       the runs that workers must not start or continue
                                   submitit/            submitit's own files and the workers' logs
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

from assay.config.study import Study
from assay.config.suite import EvaluationSpec
from assay.core.errors import Damaged
from assay.core.files import exclusive, read_json, write_json
from assay.core.lease import Lease, LeaseTimes, holding, seems_held
from assay.core.lease_files import LeaseGenerations
from assay.core.processes import ProcessIdentity
from assay.core.serde import from_record, to_mapping
from assay.store.runs import RunDirectory, Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SubmittedRun:
    """A run of a submission."""

    fingerprint: str
    mix: str
    seed: int

    @property
    def label(self) -> str:
        """Display name of the run within its sweep."""
        return f"{self.mix} s{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Submission:
    """The content of a submission: its runs, study and cluster, recorded before any job starts."""

    id: str
    sweep: str
    created: float
    """Seconds since the epoch."""
    cluster: str
    executor: Literal["local", "debug", "slurm"]
    workers: int
    code: str
    """Digest of the code snapshot that the jobs run."""
    digests: dict[str, str]
    """Digests of the sources by name, at the submission."""
    runs: tuple[SubmittedRun, ...]
    """The runs, in the order in which workers process them."""
    evaluation: EvaluationSpec
    """The evaluation of every run of the submission."""
    study: dict[str, Any]
    """The study as plain values, from which jobs parse the study."""
    planned: tuple[SubmittedRun, ...] = ()
    """All runs of the sweep at the submission, including finished runs. Earlier versions of assay did not record
    them."""
    planned_seconds: float | None = None
    """Predicted duration in seconds, summed over the runs."""

    def frozen_study(self, **sections: Any) -> Study:
        """Parse the study as it was submitted.

        Args:
            sections: configuration sections that replace the submitted sections.

        Raises:
            AssayError: another version of assay wrote the study, or the record is damaged.
        """
        return Study.parse({**self.study, **sections})


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A worker of a submission."""

    name: str
    """Number of the worker on this machine. On a cluster, batch and array index, as in `b1-17`."""
    process: ProcessIdentity
    job: str
    """Job id of the worker from submitit or SLURM."""
    started: float
    runs: tuple[str, ...] = ()
    """Fingerprints of the worker's current runs."""
    ended: float | None = None
    spent: float = 0.0
    """Seconds that earlier jobs at the same array index used before SLURM requeued them."""
    progress: float = 0.0
    """Completed fraction of the runs at the start, summed over runs. Jobs that repeatedly make no progress end."""
    idle_restarts: int = 0
    """Consecutive restarts without progress."""


@dataclass(frozen=True, kw_only=True)
class Cancellation:
    """The cancelled runs of a submission."""

    at: float
    runs: tuple[str, ...] | None
    """Fingerprints of the cancelled runs; None for all runs."""

    def covers(self, fingerprint: str) -> bool:
        """Return whether a run is cancelled."""
        return self.runs is None or fingerprint in self.runs


@dataclass(frozen=True, kw_only=True)
class Closed:
    """The end of a submission on a cluster."""

    at: float
    decision: str | None
    """Decision of the gate; None without a decision."""


class SubmissionDirectory:
    """The folder of a submission."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lease: Lease | None = None

    @property
    def store(self) -> Store:
        """The store that contains the folder."""
        return Store(self.path.parents[3])

    @property
    def submitit(self) -> Path:
        """Folder of submitit's files and the workers' output."""
        return self.path / "submitit"

    def create(self, submission: Submission) -> None:
        """Write the submission atomically."""
        write_json(self.path / "submission.json", to_mapping(submission))

    def read(self) -> Submission:
        """Read the submission."""
        path = self.path / "submission.json"
        return from_record(Submission, read_json(path), where=str(path))

    def check_records(self) -> Submission:
        """Read and check all records of the submission, except the workers' records.

        Workers' records are read on demand.

        Returns:
            The submission.

        Raises:
            Damaged: a record is damaged, or another version of assay wrote it.
        """
        submission = self.read()
        self.jobs()
        _ = self.cancellation, self.closed
        return submission

    def runs(self) -> list[RunDirectory]:
        """List the folders of the submission's runs, in order."""
        return [self.store.run(run.fingerprint) for run in self.read().runs]

    # --- processes

    def record_jobs(self, processes: Collection[ProcessIdentity]) -> None:
        """Record the processes that were started for the submission."""
        write_json(self.path / "jobs.json", [to_mapping(process) for process in processes])

    def jobs(self) -> list[ProcessIdentity]:
        """List the processes that were started for the submission."""
        path = self.path / "jobs.json"
        with contextlib.suppress(FileNotFoundError):
            plain = read_json(path)
            if not isinstance(plain, list):
                raise Damaged(
                    f"{path}: {type(plain).__name__} is invalid; expected a list of processes.",
                    fix="Restore the file, or move it away.",
                )
            return [from_record(ProcessIdentity, process, where=str(path)) for process in plain]
        return []

    def record_worker(self, worker: Worker) -> None:
        """Record the current state of a worker."""
        write_json(self.path / "workers" / f"{worker.name}.json", to_mapping(worker))

    def worker(self, name: str) -> Worker | None:
        """Read a worker's record; return None if the record does not exist or is damaged."""
        path = self.path / "workers" / f"{name}.json"
        try:
            return from_record(Worker, read_json(path), where=str(path))
        except FileNotFoundError:
            return None
        except Damaged as error:  # the leases of the worker's runs still show its activity
            log.warning("%s", error)
            return None

    def workers(self) -> list[Worker]:
        """List all workers that ever started, by name, without those with a damaged record."""
        names = sorted(path.stem for path in (self.path / "workers").glob("*.json") if not path.name.startswith("."))
        return [worker for name in names if (worker := self.worker(name)) is not None]

    def last_activity(self, name: str, job: str, runs: Collection[str]) -> float:
        """Return when a worker that recorded no end was last active, in seconds since the epoch.

        A killed worker leaves its record as it was at the start of its last run. The leases of its runs show how long the worker
        lived after that, to within `LeaseTimes.beat`; a successor in another job does not count.

        Args:
            name: name of the worker.
            job: its SLURM job.
            runs: fingerprints of the runs in its record.
        """
        recorded = (self.path / "workers" / f"{name}.json").stat().st_mtime
        touches = (LeaseGenerations(self.store.run(run).path).last_touch(job) for run in runs)
        return max([recorded, *(touch for touch in touches if touch is not None)])

    @property
    def on_cluster(self) -> bool:
        """Whether the submission's runs are jobs of a cluster."""
        return (self.path / "batches").is_dir()

    @property
    def live(self) -> bool:
        """Whether a process certainly still works on the submission.

        Processes on other machines do not count, because their state is unknown. On a cluster, a submission is live
        until the last monitor job closes the submission.
        """
        if self.on_cluster:
            return self.closed is None
        processes = [*self.jobs(), *(worker.process for worker in self.workers() if worker.ended is None)]
        return any(process.alive for process in processes)

    # --- on a cluster

    @contextlib.contextmanager
    def hold_monitor_lease(self, patience: float | None = None) -> Iterator[bool]:
        """Hold the submission's lease as its only monitor; yield whether the lease is held.

        Args:
            patience: maximum seconds to observe a monitor on another machine; see `lease.acquire`. By default, the
                function does not observe a monitor that seems alive, and observes a monitor that seems dead until its
                lease is stale.
        """
        if patience is None:
            patience = 0.0 if seems_held(self.path) else LeaseTimes.from_environment().patience
        with holding(self.path, patience=patience) as lease:
            before, self._lease = self._lease, lease or self._lease
            try:
                yield lease is not None
            finally:
                self._lease = before

    def check(self) -> None:
        """Verify that a monitor still holds the submission's lease.

        Raises:
            LeaseLost: another process has taken over, or may have; the caller must not submit any more.
        """
        if self._lease is not None:
            self._lease.check()

    def close(self, closed: Closed) -> None:
        """Record that the submission has ended."""
        self.check()
        write_json(self.path / "closed.json", to_mapping(closed))

    @property
    def closed(self) -> Closed | None:
        """The end of the submission; None while the submission is open."""
        path = self.path / "closed.json"
        with contextlib.suppress(FileNotFoundError):
            return from_record(Closed, read_json(path), where=str(path))
        return None

    def job_log(self, job: str) -> Path:
        """Return the path of a job's output by SLURM's job id."""
        return self.submitit / f"{job}_0_log.out"

    # --- cancellation

    def cancel(self, runs: Collection[str] | None) -> None:
        """Cancel runs by fingerprint, or all runs with None. Earlier cancellations remain valid."""
        with exclusive(self.path / "cancelled.lock", wait=True):
            before = self.cancellation
            if before is not None and (before.runs is None or runs is None):
                runs = None
            elif before is not None and before.runs is not None and runs is not None:
                runs = {*before.runs, *runs}
            cancellation = Cancellation(at=time.time(), runs=None if runs is None else tuple(sorted(runs)))
            write_json(self.path / "cancelled.json", to_mapping(cancellation))

    @property
    def cancellation(self) -> Cancellation | None:
        """The cancelled runs; None if no run is cancelled."""
        path = self.path / "cancelled.json"
        with contextlib.suppress(FileNotFoundError):
            return from_record(Cancellation, read_json(path), where=str(path))
        return None

    @property
    def all_cancelled(self) -> bool:
        """Whether all runs are cancelled."""
        cancellation = self.cancellation
        return cancellation is not None and cancellation.runs is None

    def uncancelled_runs(self) -> list[SubmittedRun]:
        """List the runs that are not cancelled."""
        cancellation = self.cancellation
        return [run for run in self.read().runs if cancellation is None or not cancellation.covers(run.fingerprint)]

    def is_cancelled(self, fingerprint: str) -> bool:
        """Return whether a run of the submission is cancelled."""
        cancellation = self.cancellation
        return cancellation is not None and cancellation.covers(fingerprint)


def submissions(store: Store, sweep: str) -> list[SubmissionDirectory]:
    """List a sweep's submissions, the oldest first; log and skip unreadable records.

    The run leases of a skipped submission still show whether its workers are active.
    """
    directories = []
    for path in (store.sweep(sweep) / "submissions").glob("*/submission.json"):
        directory = SubmissionDirectory(path.parent)
        try:
            created = directory.check_records().created
        except Damaged as error:
            log.warning(
                "%s. This submission is damaged, or another version of assay wrote it. assay skips the submission and lists its runs"
                " by their own records. Only `assay cancel` of the other version stops the submission's workers.",
                error.what.rstrip("."),
            )
            continue
        directories.append((created, path.parent.name, directory))
    return [directory for _, _, directory in sorted(directories, key=itemgetter(0, 1))]


@contextlib.contextmanager
def recorded(directory: SubmissionDirectory, worker: Worker) -> Iterator[Worker]:
    """Record a worker at the start of the block, and its end time at the end of the block."""
    directory.record_worker(worker)
    try:
        yield worker
    finally:
        directory.record_worker(replace(worker, runs=(), ended=time.time()))


def runs_in_progress(store: Store, sweep: str, evaluation: str) -> set[str]:
    """Return the unfinished runs, by fingerprint, that a sweep's live workers have or will take."""
    fingerprints = set()
    for directory in submissions(store, sweep):
        if directory.live and directory.read().evaluation.fingerprint == evaluation:
            runs = (store.run(run.fingerprint) for run in directory.uncancelled_runs())
            fingerprints |= {run.fingerprint for run in runs if not run.status().ended}
    return fingerprints


def done_elsewhere(store: Store, submission: Submission) -> set[str]:
    """Return the runs that earlier open cluster submissions of other sweeps contain.

    The result has fingerprints. The earliest submission performs a run, so that no two submissions wait for each other.
    """
    fingerprints: set[str] = set()
    for path in sorted((store.root / "sweeps").glob("*/submissions/*/batches")):
        directory = SubmissionDirectory(path.parent)
        try:
            if directory.path.name == submission.id or not directory.live:
                continue
            other = directory.read()
        except Damaged:  # damaged or of another version; the leases of the runs still show their activity
            continue
        if (other.created, other.id) < (submission.created, submission.id) and (
            other.evaluation.fingerprint == submission.evaluation.fingerprint
        ):
            fingerprints |= {run.fingerprint for run in directory.uncancelled_runs()}
    return fingerprints
