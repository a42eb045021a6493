"""A sweep's jobs as `assay status` shows them: what SLURM says of each run, and what they have cost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from assay.errors import AssayError
from assay.files import read_json
from assay.launch.records import SubmissionDirectory, submissions
from assay.launch.slurm.commands import SlurmError
from assay.launch.slurm.ledger import Ledger
from assay.launch.slurm.queue import AT_A_TERMINAL
from assay.launch.slurm.reconcile import settled

if TYPE_CHECKING:
    from assay.launch.slurm.queue import Settled
    from assay.store import Store


@dataclass(frozen=True, kw_only=True)
class Hours:
    """What a sweep's jobs cost, all its submissions together."""

    unit: str
    """`GPU` or `CPU`."""
    spent: float
    """By jobs that ran until now, whatever they came to."""
    planned: float | None
    """When it was submitted; ``None`` where no speed was known then."""


@dataclass(frozen=True, kw_only=True)
class JobsView:
    """The jobs of a sweep's submissions to a cluster."""

    of_runs: Mapping[str, Settled] = field(default_factory=dict)
    """What SLURM says of the job of each run, by fingerprint."""
    at_work: frozenset[str] = frozenset()
    """Runs that a job says it is at."""
    running: int = 0
    waiting: int = 0
    """Jobs with runs of the sweep; those that only look after it are not counted."""
    problem: str | None = None
    """Why SLURM could not be asked."""
    hours: Hours | None = None


def look(store: Store, sweep: str, unfinished: Iterable[str], *, now: float) -> JobsView | None:
    """Ask SLURM of a sweep's unfinished runs; ``None`` where it was never submitted to a cluster.

    Args:
        store: where the sweep is.
        sweep: its name.
        unfinished: fingerprints of the runs that are not at their ends.
        now: seconds since the epoch.
    """
    directories = [directory for directory in submissions(store, sweep) if directory.on_cluster]
    if not directories:
        return None
    of_runs: dict[str, Settled] = {}
    at_work, problem, wanted = set[str](), None, set(unfinished)
    costs = []
    for directory in directories:
        cost, busy = _cost(directory, now)
        costs.append(cost)
        if directory.closed is None and problem is None:
            at_work |= busy
            try:
                of_runs |= settled(Ledger(directory), wanted, patience=AT_A_TERMINAL)
            except (SlurmError, AssayError) as error:
                problem = error.what
    jobs = {one.seen.job: one.kind for one in of_runs.values() if one.seen is not None and not one.final}
    running = sum(kind in {"running", "completing", "suspended"} for kind in jobs.values())
    return JobsView(
        of_runs=of_runs,
        at_work=frozenset(at_work),
        running=running,
        waiting=len(jobs) - running,
        problem=problem,
        hours=_together(costs),
    )


def _cost(directory: SubmissionDirectory, now: float) -> tuple[Hours | None, set[str]]:
    """What one submission's jobs have cost, and what they say they are at."""
    submission = directory.read()
    profile = submission.study["cluster"]
    asked = profile.get("slurm") or {}
    gpus = asked.get("nodes", 1) * asked.get("gpus_per_node", 0)
    ranks = asked.get("nodes", 1) * asked.get("processes_per_node", 1)
    at_once = 1 if ranks > 1 else min(asked.get("runs_per_job", 1), asked.get("runs_per_gpu", 1) * max(1, gpus))
    width = gpus or profile["cpus_per_worker"] * max(ranks, at_once)
    spent, busy = 0.0, set[str]()
    for path in (directory.path / "workers").glob("[!.]*.json"):
        with contextlib.suppress(AssayError, FileNotFoundError, KeyError):
            worker = read_json(path)
            last = worker["ended"]
            if last is None:  # at work, or killed: its record is rewritten as it takes up runs
                last = now if worker["runs"] and directory.closed is None else path.stat().st_mtime
                busy |= set(worker["runs"])
            spent += worker["spent"] + max(0.0, last - worker["started"])
    planned = submission.planned_seconds
    hours = Hours(
        unit="GPU" if gpus else "CPU",
        spent=spent * width / 3600,
        planned=None if planned is None else planned * width / at_once / 3600,
    )
    return hours, busy


def _together(costs: Iterable[Hours | None]) -> Hours | None:
    known = [cost for cost in costs if cost is not None]
    if not known:
        return None
    planned = [cost.planned for cost in known if cost.planned is not None]
    return Hours(
        unit=known[-1].unit,
        spent=sum(cost.spent for cost in known),
        planned=sum(planned) if len(planned) == len(known) else None,
    )
