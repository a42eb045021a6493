"""Read the jobs of a sweep for `assay status`: job status by run, and compute hours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from assay.config.cluster import Cluster
from assay.core.errors import AssayError, Damaged
from assay.core.files import read_json
from assay.core.serde import from_record
from assay.launch.slurm.batches import Ledger
from assay.launch.slurm.queue import INTERACTIVE
from assay.launch.slurm.reconcile import query_run_statuses
from assay.store.submissions import SubmissionDirectory, submissions

if TYPE_CHECKING:
    from assay.launch.slurm.queue import JobStatus
    from assay.store.runs import Store


@dataclass(frozen=True, kw_only=True)
class JobHours:
    """Compute hours of a sweep's jobs, over all its submissions."""

    unit: str
    """`GPU` or `CPU`."""
    spent: float
    """Hours of all jobs so far, including failed jobs."""
    planned: float | None
    """Hours predicted at the submission; None if no speed was known."""


@dataclass(frozen=True, kw_only=True)
class JobsView:
    """The jobs of a sweep's submissions to a cluster."""

    status_by_run: Mapping[str, JobStatus] = field(default_factory=dict)
    """Job status of each run, by fingerprint."""
    active_runs: frozenset[str] = frozenset()
    """Fingerprints of runs that a job is working on, according to the job's own record."""
    running: int = 0
    waiting: int = 0
    """Number of jobs with runs of the sweep, without monitor jobs."""
    problem: str | None = None
    """Why SLURM could not be queried; None if SLURM answered."""
    hours: JobHours | None = None


def read_jobs(store: Store, sweep: str, unfinished: Iterable[str]) -> JobsView | None:
    """Query SLURM for a sweep's unfinished runs; return None without a submission to a cluster.

    Args:
        store: the store of the sweep.
        sweep: name of the sweep.
        unfinished: fingerprints of the unfinished runs.
    """
    directories = [directory for directory in submissions(store, sweep) if directory.on_cluster]
    if not directories:
        return None
    status_by_run: dict[str, JobStatus] = {}
    active_runs, problem, wanted = set[str](), None, set(unfinished)
    costs = []
    for directory in directories:
        cost, busy = _cost(directory)
        costs.append(cost)
        if directory.closed is None and problem is None:
            active_runs |= busy
            try:
                status_by_run |= query_run_statuses(Ledger(directory), wanted, patience=INTERACTIVE)
            except AssayError as error:
                problem = error.what
    jobs = {
        status.record.job: status.kind
        for status in status_by_run.values()
        if status.record is not None and not status.final
    }
    running = sum(kind in {"running", "completing", "suspended"} for kind in jobs.values())
    return JobsView(
        status_by_run=status_by_run,
        active_runs=frozenset(active_runs),
        running=running,
        waiting=len(jobs) - running,
        problem=problem,
        hours=_sum_hours(costs),
    )


def _cost(directory: SubmissionDirectory) -> tuple[JobHours, set[str]]:
    """Return the compute hours of one submission, and the runs that its jobs work on."""
    submission = directory.read()
    cluster = from_record(Cluster, submission.study["cluster"], where=f"submission {submission.id}: cluster")
    slurm = cluster.slurm
    assert slurm is not None, "a submission for a cluster"
    gpus = slurm.nodes * slurm.gpus
    width = gpus or cluster.cpus_per_worker * max(slurm.ranks, slurm.at_once)
    spent, busy = 0.0, set[str]()
    for path in (directory.path / "workers").glob("[!.]*.json"):
        with contextlib.suppress(Damaged, FileNotFoundError, KeyError):
            worker = read_json(path)
            last = worker["ended"]
            if last is None:  # active or killed
                # Not the current time: a preempted job is idle until its restart, and a lost job has a successor.
                last = directory.last_activity(path.stem, worker["job"], worker["runs"])
                busy |= set(worker["runs"])
            spent += worker["spent"] + max(0.0, last - worker["started"])
    planned = submission.planned_seconds
    hours = JobHours(
        unit="GPU" if gpus else "CPU",
        spent=spent * width / 3600,
        planned=None if planned is None else planned * width / slurm.at_once / 3600,
    )
    return hours, busy


def _sum_hours(costs: Sequence[JobHours]) -> JobHours:
    planned = [cost.planned for cost in costs if cost.planned is not None]
    return JobHours(
        unit=costs[-1].unit,
        spent=sum(cost.spent for cost in costs),
        planned=sum(planned) if len(planned) == len(costs) else None,
    )
