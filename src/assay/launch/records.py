"""What was submitted, who works on it, and what was called off: the files of a sweep's submissions.

A submission is a folder::

    sweeps/<name>/submissions/<id>/submission.json      what to do; written before anything is started
                                   jobs.json            the processes that submitit started for it
                                   batches/<n>.json     on a cluster: an array of jobs, written before sbatch
                                   workers/<name>.json  a worker, while it works and afterwards
                                   cancelled.json       what workers leave alone from now on
                                   submitit/            submitit's own files and the workers' logs
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from assay.errors import AssayError
from assay.files import exclusive, read_json, write_json
from assay.lease import Lease, LeaseTimes, holding, looks_held
from assay.processes import ProcessIdentity
from assay.store import RunDirectory, Store
from assay.structure import from_mapping, to_mapping
from assay.suite import EvaluationSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SubmittedRun:
    """One run of a submission."""

    fingerprint: str
    mix: str
    seed: int

    @property
    def label(self) -> str:
        """What people call the run inside its sweep."""
        return f"{self.mix} s{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Submission:
    """An intent: these runs, with this study, on this cluster."""

    id: str
    sweep: str
    created: float
    """Seconds since the epoch."""
    cluster: str
    executor: Literal["local", "debug", "slurm"]
    workers: int
    code: str
    """Digest of the snapshot of assay that its jobs run."""
    digests: dict[str, str]
    """Of the sources by name, as they were when submitted."""
    runs: tuple[SubmittedRun, ...]
    """In the order in which workers take them."""
    evaluation: EvaluationSpec
    """As it was when submitted; every run of the submission gets this one."""
    study: dict[str, Any]
    """The study's plain values, from which jobs read it again."""
    planned_seconds: float | None = None
    """What its runs were expected to take, summed over them."""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One worker of a submission."""

    name: str
    """Its number on this machine; on a cluster its batch and its place in the array, as in `b1-17`."""
    process: ProcessIdentity
    job: str
    """What submitit or SLURM calls it."""
    started: float
    runs: tuple[str, ...] = ()
    """Fingerprints of the runs that it works on right now."""
    ended: float | None = None
    spent: float = 0.0
    """Seconds that earlier jobs of the same place took, until they were requeued."""
    progress: float = 0.0
    """Of its runs, in runs, when it began: a job that comes no further, time after time, is given up."""
    idle_restarts: int = 0
    """How often in a row it began where it had begun before."""


@dataclass(frozen=True, kw_only=True)
class Cancellation:
    """What was called off of a submission."""

    at: float
    runs: tuple[str, ...] | None
    """Fingerprints; ``None`` for all of it."""

    def covers(self, fingerprint: str) -> bool:
        """Whether a run was called off."""
        return self.runs is None or fingerprint in self.runs


@dataclass(frozen=True, kw_only=True)
class Closed:
    """The end of a submission on a cluster."""

    at: float
    decision: str | None
    """The gate's, where it came to one."""


class SubmissionDirectory:
    """One submission's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lease: Lease | None = None

    @property
    def store(self) -> Store:
        """The store that the folder is in."""
        return Store(self.path.parents[3])

    @property
    def submitit(self) -> Path:
        """Where submitit keeps its files and what the workers print."""
        return self.path / "submitit"

    def create(self, submission: Submission) -> None:
        """Write the intent down, whole."""
        write_json(self.path / "submission.json", to_mapping(submission))

    def read(self) -> Submission:
        """The intent."""
        path = self.path / "submission.json"
        return from_mapping(Submission, read_json(path), where=str(path))

    def check_records(self) -> None:
        """Read what says what it is and whether it is over; workers' records are looked at where they are needed.

        Raises:
            AssayError: a record is damaged, or of a version of assay that wrote it otherwise.
        """
        self.read()
        self.jobs()
        _ = self.cancellation, self.closed

    def runs(self) -> list[RunDirectory]:
        """The folders of its runs, in order."""
        return [self.store.run(run.fingerprint) for run in self.read().runs]

    # --- processes

    def record_jobs(self, processes: Collection[ProcessIdentity]) -> None:
        """Write down the processes that were started for the submission."""
        write_json(self.path / "jobs.json", [to_mapping(process) for process in processes])

    def jobs(self) -> list[ProcessIdentity]:
        """The processes that were started for it; none where it never came to that."""
        path = self.path / "jobs.json"
        with contextlib.suppress(FileNotFoundError):
            plain = read_json(path)
            if not isinstance(plain, list):
                raise AssayError(f"{path}: {type(plain).__name__} where a list of processes was expected.")
            return [from_mapping(ProcessIdentity, process, where=str(path)) for process in plain]
        return []

    def record_worker(self, worker: Worker) -> None:
        """Write down a worker, or what it does now."""
        write_json(self.path / "workers" / f"{worker.name}.json", to_mapping(worker))

    def worker(self, name: str) -> Worker | None:
        """One worker, if it ever began and its record is whole."""
        path = self.path / "workers" / f"{name}.json"
        with contextlib.suppress(FileNotFoundError, AssayError):
            return from_mapping(Worker, read_json(path), where=str(path))
        return None

    def workers(self) -> list[Worker]:
        """Every worker that ever began, in the order of their names; a damaged record is one that cannot be seen any more."""
        names = sorted(path.stem for path in (self.path / "workers").glob("*.json") if not path.name.startswith("."))
        return [worker for name in names if (worker := self.worker(name)) is not None]

    @property
    def on_cluster(self) -> bool:
        """Whether its runs are jobs of a cluster."""
        return (self.path / "batches").is_dir()

    @property
    def live(self) -> bool:
        """Whether somebody certainly still works on it: processes of other machines don't count, they may be gone.

        On a cluster it is so until it is closed, by the job that looks after it last.
        """
        if self.on_cluster:
            return self.closed is None
        processes = [*self.jobs(), *(worker.process for worker in self.workers() if worker.ended is None)]
        return any(process.alive for process in processes)

    # --- on a cluster

    @contextlib.contextmanager
    def tending(self, patience: float | None = None) -> Iterator[bool]:
        """Be the one, of all processes on all machines, who looks after it; yields whether that is so.

        Args:
            patience: seconds for which to watch one on another machine, at most: see `lease.acquire`. Left out, one
                who looks alive is not watched, and one who looks dead is, until that is sure.
        """
        if patience is None:
            patience = 0.0 if looks_held(self.path) else LeaseTimes.from_environment().patience
        with holding(self.path, patience=patience) as lease:
            before, self._lease = self._lease, lease or self._lease
            try:
                yield lease is not None
            finally:
                self._lease = before

    def check(self) -> None:
        """Make sure, if this object looks after it, that nobody else has taken that over: it may have been suspended.

        Raises:
            LeaseLost: somebody has, or may have; nothing must be sent any more.
        """
        if self._lease is not None:
            self._lease.check()

    def close(self, closed: Closed) -> None:
        """Write down that nothing is left to be done or waited for."""
        self.check()
        write_json(self.path / "closed.json", to_mapping(closed))

    @property
    def closed(self) -> Closed | None:
        """How it ended; ``None`` while it is open."""
        path = self.path / "closed.json"
        with contextlib.suppress(FileNotFoundError):
            return from_mapping(Closed, read_json(path), where=str(path))
        return None

    def job_log(self, job: str) -> Path:
        """What a job printed, by SLURM's name for it."""
        return self.submitit / f"{job}_0_log.out"

    # --- calling off

    def cancel(self, runs: Collection[str] | None) -> None:
        """Call runs off, by fingerprint, or all of it; what was called off before stays so."""
        with exclusive(self.path / "cancelled.lock", wait=True):
            before = self.cancellation
            if before is not None and (before.runs is None or runs is None):
                runs = None
            elif before is not None and before.runs is not None and runs is not None:
                runs = {*before.runs, *runs}
            called_off = Cancellation(at=time.time(), runs=None if runs is None else tuple(sorted(runs)))
            write_json(self.path / "cancelled.json", to_mapping(called_off))

    @property
    def cancellation(self) -> Cancellation | None:
        """What was called off, if anything was."""
        path = self.path / "cancelled.json"
        with contextlib.suppress(FileNotFoundError):
            return from_mapping(Cancellation, read_json(path), where=str(path))
        return None

    @property
    def all_called_off(self) -> bool:
        """Whether all of it was."""
        called_off = self.cancellation
        return called_off is not None and called_off.runs is None

    def wanted(self) -> list[SubmittedRun]:
        """Its runs without those that were called off."""
        called_off = self.cancellation
        return [run for run in self.read().runs if called_off is None or not called_off.covers(run.fingerprint)]


def submissions(store: Store, sweep: str) -> list[SubmissionDirectory]:
    """A sweep's submissions, the oldest first; one with a record that cannot be read is passed over with a warning.

    What its workers do is seen all the same, in the runs that they hold.
    """
    found = []
    for path in sorted((store.sweep(sweep) / "submissions").glob("*/submission.json")):
        directory = SubmissionDirectory(path.parent)
        try:
            directory.check_records()
        except AssayError as error:
            log.warning(
                "%s. This submission is of another version of assay, or damaged: it is passed over. Its runs are shown by their"
                " own records; only that version's `assay cancel` ends its workers.",
                error.what.rstrip("."),
            )
            continue
        found.append(directory)
    return found


def trained(run: RunDirectory) -> bool:
    """Whether a run's final weights are there."""
    return (run.model / "model.safetensors").exists()


@contextlib.contextmanager
def recorded(directory: SubmissionDirectory, worker: Worker) -> Iterator[Worker]:
    """Have a worker on record while the block lasts."""
    directory.record_worker(worker)
    try:
        yield worker
    finally:
        directory.record_worker(replace(worker, runs=(), ended=time.time()))
