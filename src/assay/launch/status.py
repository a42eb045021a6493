"""Read the status of a sweep from the records of its runs and workers."""

from __future__ import annotations

import heapq
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from assay.core.serde import json_shape
from assay.launch.logs import line_that_matters
from assay.launch.slurm.status import read_jobs
from assay.launch.sparkline import losses
from assay.plan.seed_stages import HELD
from assay.store.runs import DAMAGED, FAILED, Failure, Status
from assay.store.submissions import Worker, submissions

if TYPE_CHECKING:
    from assay.launch.slurm.status import JobHours, JobsView
    from assay.plan.plan import Plan, PlannedRun
    from assay.store.runs import Store

MAX_LISTED = 48
"""Maximum number of runs to list. With more runs, the status shows counts by mix, and lists active runs only."""
BEGUN = frozenset({"preparing", "training", "evaluating"})
LEFT = frozenset({"queued", "trained", "stale", "cancelled", "failed"})
"""States in which a run without a live submission needs another `assay submit`."""
LOGS_READ = 20
"""Maximum number of failure groups whose logs are read."""


@dataclass(frozen=True, kw_only=True)
class RunProgress:
    """The status of a run of a sweep."""

    mix: str
    seed: int
    fingerprint: str | None
    state: str
    """`queued`, `preparing`, `training`, `trained` (not evaluated), `evaluating`, `done`, `failed`, `diverged`,
    `cancelled`, `refused`; `later` or `skipped` for runs of later stages (see `assay.plan.seed_stages`); `stale` if the run was started and no process works on the run any more."""
    step: int = 0
    steps: int = 0
    tokens: int = 0
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    """Seconds of the run's own work, without the wait for a worker; None if unknown or if no work is left."""
    sent: bool = False
    """Whether a live worker has the run or will take the run."""
    attempt: int = 0
    updated: float | None = None
    host: str | None = None
    pid: int | None = None
    job: str | None = None
    """SLURM's id of the run's job."""
    words: str | None = None
    """SLURM's state of the job, as text."""
    failure: Failure | None = None
    """Why the run ended without a result, or why its status cannot be read."""
    losses: tuple[float, ...] = ()
    """Training losses in nats per token at a few evenly spaced places, for listed runs."""

    @property
    def label(self) -> str:
        """Display name of the run within its sweep."""
        return f"{self.mix} s{self.seed}"

    @property
    def share(self) -> float:
        """Completed fraction of the run's training, between 0 and 1."""
        return self.step / self.steps if self.steps else 0.0

    @property
    def interim(self) -> bool:
        """Whether an interim evaluation runs, after which training continues."""
        return self.state == "evaluating" and self.step < self.steps


@dataclass(frozen=True, kw_only=True)
class WorkerProgress:
    """A worker that has not recorded its end."""

    submission: str
    name: str
    host: str
    pid: int
    alive: bool | None
    """Whether the worker's process is alive; None if the worker is on another machine."""
    runs: tuple[str, ...]
    """Labels of the worker's current runs."""


@dataclass(frozen=True, kw_only=True)
class FailureGroup:
    """Runs that failed for the same cause."""

    kind: str
    message: str
    runs: tuple[str, ...]
    """Labels of the runs."""
    log: str | None
    """Path of the log of the first run."""
    line: str | None
    """The decisive line of the log."""


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """A sweep's jobs on a cluster."""

    running: int
    waiting: int
    problem: str | None
    """Why SLURM did not answer; states then come from the runs' own records."""


@json_shape(add=["counts", "active", "complete", "state"])
@dataclass(frozen=True, kw_only=True)
class SweepProgress:
    """The status of a sweep at one moment."""

    sweep: str
    now: float
    runs: tuple[RunProgress, ...]
    workers: tuple[WorkerProgress, ...]
    failures: tuple[FailureGroup, ...]
    tokens_per_second: float
    """Tokens per second, summed over all runs in training."""
    seconds_left: float | None
    """Seconds until the workers have finished all their runs; None if unknown."""
    at_least: bool
    """Whether the remaining times omit evaluations, because no evaluation time is known yet."""
    starting: int = 0
    """Number of started workers that have not recorded their start."""
    jobs: Jobs | None = None
    """Jobs on a cluster; None if the sweep was never submitted to a cluster."""
    hours: JobHours | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Number of runs by state."""
        return dict(Counter(run.state for run in self.runs))

    @property
    def active(self) -> bool:
        """Whether a process works on the sweep or is starting."""
        return (
            self.starting > 0
            or (self.jobs is not None and self.jobs.running + self.jobs.waiting > 0)
            or any(worker.alive for worker in self.workers)
            or any(run.state in BEGUN for run in self.runs)
        )

    @property
    def state(self) -> str:
        """`RUNNING` while a process works on the sweep or is about to start, otherwise `ENDED`."""
        return "RUNNING" if self.active else "ENDED"

    @property
    def left_behind(self) -> tuple[RunProgress, ...]:
        """Unfinished runs that no worker takes until the sweep is submitted again."""
        return tuple(run for run in self.runs if run.state in LEFT and not run.sent)

    @property
    def complete(self) -> bool:
        """Whether every needed run is done, so that the gate can decide on the sweep."""
        return all(run.state in {"done", "skipped"} for run in self.runs)


def overview(store: Store, plan: Plan, *, now: float) -> SweepProgress:
    """Read the status of each run of a plan.

    The function reads one small file per run, and the leases only of runs whose status is active.

    Args:
        store: the store of the runs.
        plan: the sweep's plan, which repeated calls can reuse.
        now: seconds since the epoch.
    """
    live = _Live.read(store, plan.sweep.name)
    states = [_run_state(store, run, plan.evaluation, live) for run in plan.runs]
    unfinished = [
        run_state.fingerprint
        for run_state in states
        if run_state.fingerprint and run_state.state not in {"done", "diverged"}
    ]
    jobs = read_jobs(store, plan.sweep.name, unfinished)
    if jobs is not None:
        states = [_with_job(run_state, jobs) for run_state in states]
    speeds = _Speeds.measure(states)
    runs = _with_losses(store, tuple(_progress(run_state, speeds, live, now=now) for run_state in states))
    return SweepProgress(
        sweep=plan.sweep.name,
        now=now,
        runs=runs,
        workers=live.workers,
        failures=_failures(runs),
        tokens_per_second=sum(run.tokens_per_second or 0.0 for run in runs if run.state == "training"),
        seconds_left=_makespan(runs, _parallel_runs(live, jobs, runs)),
        at_least=speeds.evaluate is None,
        starting=live.starting,
        jobs=None if jobs is None else Jobs(running=jobs.running, waiting=jobs.waiting, problem=jobs.problem),
        hours=None if jobs is None else jobs.hours,
    )


def _with_losses(store: Store, runs: tuple[RunProgress, ...]) -> tuple[RunProgress, ...]:
    """Add the losses of listed runs."""
    few = len(runs) <= MAX_LISTED
    listed = [i for i, run in enumerate(runs) if few or run.state in BEGUN][:MAX_LISTED]
    read = {i: losses(store.run(key).metrics) for i in listed if (key := runs[i].fingerprint) is not None}
    return tuple(replace(run, losses=read[i]) if read.get(i) else run for i, run in enumerate(runs))


def _parallel_runs(live: _Live, jobs: JobsView | None, runs: Sequence[RunProgress]) -> int:
    """Return the number of runs that can be worked on at the same time now."""
    if jobs is not None:
        return max(jobs.running, sum(run.state in BEGUN for run in runs))
    return live.starting + sum(worker.alive is True for worker in live.workers)


def _with_job(run_state: _RunState, jobs: JobsView) -> _RunState:
    """Combine the recorded progress of a run with SLURM's reason for a waiting job."""
    job = jobs.status_by_run.get(run_state.fingerprint or "")
    if job is None or run_state.state not in {"queued", "trained", "stale", *BEGUN}:
        return run_state
    state = run_state.state
    if job.kind in {"suspended", "held"}:
        state = job.kind
    elif job.kind == "never_satisfied":
        state = "held"
    elif state in {"stale", "queued", "trained"} and not job.final:
        working = job.kind == "running" and run_state.fingerprint in jobs.active_runs
        state = "preparing" if working else run_state.state if run_state.state == "trained" else "queued"
    elif state == "stale":
        state = "queued"  # the monitor job resubmits the run or abandons it
    turn = job.kind == "running" and state in {"queued", "trained"}
    words = f"waits its turn in a job that {job.text}" if turn else job.text
    return run_state._replace(state=state, job=job.record.job if job.record else None, words=words)


class _Live(NamedTuple):
    """The workers and runs of live submissions."""

    workers: tuple[WorkerProgress, ...]
    starting: int
    sent: frozenset[str]
    at_work: frozenset[str]

    @classmethod
    def read(cls, store: Store, sweep: str) -> _Live:
        """Read a sweep's live submissions, and the newest submission with dead workers."""
        workers: list[WorkerProgress] = []
        starting, sent, at_work = 0, set[str](), set[str]()
        directories = submissions(store, sweep)
        # A submission without runs only records the configuration of runs that existed already.
        newest = next((directory for directory in reversed(directories) if directory.read().runs), None)
        for directory in directories:
            live = directory.live
            if not live and directory is not newest:
                continue
            # SLURM reports the jobs of a cluster, which can be thousands.
            submission, begun = directory.read(), [] if directory.on_cluster else directory.workers()
            labels = {run.fingerprint: run.label for run in submission.runs}
            workers += [_worker_progress(submission.id, worker, labels) for worker in begun if worker.ended is None]
            if live:
                cancellation = directory.cancellation
                runs = {run.fingerprint for run in submission.runs}
                sent |= runs if cancellation is None else {run for run in runs if not cancellation.covers(run)}
                at_work |= {run for worker in begun if worker.process.alive for run in worker.runs}
                starting += max(0, submission.workers - len(begun)) if any(p.alive for p in directory.jobs()) else 0
        return cls(tuple(workers), starting, frozenset(sent), frozenset(at_work))


def _worker_progress(submission: str, worker: Worker, labels: dict[str, str]) -> WorkerProgress:
    process = worker.process
    return WorkerProgress(
        submission=submission,
        name=worker.name,
        host=process.host,
        pid=process.pid,
        alive=process.alive,
        runs=tuple(labels[run] for run in worker.runs if run in labels),
    )


class _RunState(NamedTuple):
    """The state of a planned run."""

    planned: PlannedRun
    fingerprint: str | None
    state: str
    status: Status
    job: str | None = None
    words: str | None = None


def _run_state(store: Store, planned: PlannedRun, evaluation: str, live: _Live) -> _RunState:
    fingerprint = planned.fingerprint
    if fingerprint is None:
        return _RunState(planned, None, "refused", Status(state="queued"))
    run = store.run(fingerprint)
    status = run.status()
    state: str = status.state
    if run.evaluated(evaluation):
        state = "done"
    elif planned.status in HELD and state == "queued" and fingerprint not in live.sent:
        state = planned.status
    elif planned.status == "refused" and not status.ended:
        state = "refused"
    elif state == "done":
        state = "trained"
    elif status.active and not run.claimed:
        state = "stale"
    if state in {"queued", "trained", "stale"} and fingerprint in live.at_work:
        state = "preparing"
    return _RunState(planned, fingerprint, state, status)


class _Speeds(NamedTuple):
    """Median speeds of the sweep's runs so far.

    Other work may temporarily slow a machine down.
    """

    tokens_per_second: float | None
    evaluate: float | None

    @classmethod
    def measure(cls, states: Sequence[_RunState]) -> _Speeds:
        """Compute the speeds from the runs' statuses."""
        rates, evaluations = [], []
        for _, _, state, status, _, _ in states:
            if state == "training" and status.tokens_per_second:
                rates.append(status.tokens_per_second)
            elif status.train_seconds and status.tokens:
                rates.append(status.tokens / status.train_seconds)
            if state == "done" and status.evaluate_seconds:
                evaluations.append(status.evaluate_seconds)
        return cls(
            statistics.median(rates) if rates else None,
            statistics.median(evaluations) if evaluations else None,
        )


def _progress(run_state: _RunState, speeds: _Speeds, live: _Live, *, now: float) -> RunProgress:
    planned, fingerprint, state, status, job, words = run_state
    return RunProgress(
        mix=planned.mix,
        seed=planned.seed,
        fingerprint=fingerprint,
        state=state,
        step=status.step,
        steps=status.steps or (planned.spec.steps if planned.spec else 0),
        tokens=status.tokens,
        tokens_per_second=status.tokens_per_second,
        seconds_left=_seconds_left(run_state, speeds, now=now),
        sent=fingerprint in live.sent and state not in FAILED,
        attempt=status.attempt,
        updated=status.updated or None,
        host=status.host,
        pid=status.pid,
        job=job,
        words=words,
        failure=status.failure if state in FAILED or _damaged(status.failure) else None,
    )


def _damaged(failure: Failure | None) -> bool:
    return failure is not None and failure.kind == DAMAGED


def _seconds_left(run_state: _RunState, speeds: _Speeds, *, now: float) -> float | None:
    planned, _, state, status, _, _ = run_state
    evaluate = speeds.evaluate or 0.0
    if planned.spec is None or state in {"done", "refused", "diverged", *HELD}:
        return None
    if state == "evaluating" and status.step >= status.steps:
        return None if speeds.evaluate is None else max(0.0, evaluate - (now - status.updated))
    if state == "trained":
        return speeds.evaluate
    rate = (status.tokens_per_second if state == "training" else None) or speeds.tokens_per_second
    if rate is None:
        return planned.seconds  # from runs of other sweeps, if the plan has any
    # Subtract the time that interim evaluations have already taken.
    since = now - status.updated if state == "evaluating" else 0.0
    return (planned.spec.tokens - status.tokens) / rate + max(0.0, evaluate - status.evaluate_seconds - since)


def _makespan(runs: Iterable[RunProgress], workers: int) -> float | None:
    """Return the seconds until the last worker ends, by simulation.

    Each free worker takes the next run, active runs first.
    """
    once = {run.fingerprint: run for run in runs if run.state in BEGUN or (run.sent and run.state in LEFT)}
    todo = sorted(once.values(), key=lambda run: run.state not in BEGUN)
    if not todo or workers == 0 or any(run.seconds_left is None for run in todo):
        return None
    free = [0.0] * workers
    for run in todo:
        heapq.heapreplace(free, free[0] + (run.seconds_left or 0.0))
    return max(free)


def _failures(runs: Iterable[RunProgress]) -> tuple[FailureGroup, ...]:
    """Group failures by cause, the most frequent first.

    Messages that differ only in numbers have one cause.
    """
    groups: dict[tuple[str, str], list[RunProgress]] = {}
    for run in runs:
        if run.failure is not None:
            cause = "" if _damaged(run.failure) else re.sub(r"\d+", "#", run.failure.message)
            groups.setdefault((run.failure.kind, cause), []).append(run)
    failures: list[FailureGroup] = []
    for members in sorted(groups.values(), key=len, reverse=True):
        failure = members[0].failure
        assert failure is not None, "grouped by it"
        line = line_that_matters(Path(failure.log)) if failure.log and len(failures) < LOGS_READ else None
        labels = tuple(run.label for run in members)
        failures.append(
            FailureGroup(kind=failure.kind, message=failure.message, runs=labels, log=failure.log, line=line)
        )
    return tuple(failures)
