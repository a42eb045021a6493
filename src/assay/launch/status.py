"""Where a sweep stands, read from the records of its runs and workers; and how people see it."""

from __future__ import annotations

import heapq
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.launch.curve import losses
from assay.launch.logs import line_that_matters
from assay.launch.records import Worker, submissions
from assay.launch.slurm.view import look as look_at_jobs
from assay.store import ACTIVE, DAMAGED, ENDED, Failure, Status
from assay.structure import to_mapping

if TYPE_CHECKING:
    from assay.launch.slurm.view import Hours, JobsView
    from assay.plan import Plan, PlannedRun
    from assay.store import Store

EACH = 48
"""More runs than that are summed up by mix, and only those at work are listed, and their losses read."""
BEGUN = frozenset({"preparing", "training", "evaluating"})
LEFT = frozenset({"queued", "trained", "stale", "cancelled", "failed"})
"""States in which a run that no submission has waits for somebody to submit again."""
LOGS_READ = 20
"""Causes whose logs are looked into; a sweep that fails in more ways than that is not read line by line."""


@dataclass(frozen=True, kw_only=True)
class RunProgress:
    """One run of a sweep as people should read it."""

    mix: str
    seed: int
    fingerprint: str | None
    state: str
    """`queued`, `preparing`, `training`, `trained` (its evaluation is missing), `evaluating`, `done`, `failed`,
    `diverged`, `cancelled`, `refused`; `stale` says that it was begun and nobody works on it any more."""
    step: int = 0
    steps: int = 0
    tokens: int = 0
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    """Of its own work, without waiting for a worker; ``None`` where it isn't known or nothing is left."""
    sent: bool = False
    """Whether live workers have it, or will come to it."""
    attempt: int = 0
    updated: float | None = None
    host: str | None = None
    pid: int | None = None
    job: str | None = None
    """What SLURM calls its job."""
    words: str | None = None
    """What SLURM says of it, for people."""
    failure: Failure | None = None
    """Why it ended without a result; or, in any state, that its status cannot be read."""
    losses: tuple[float, ...] = ()
    """How its training loss fell, in nats a token, at a few evenly spaced places; of the runs that are listed."""

    @property
    def label(self) -> str:
        """What people call the run inside its sweep."""
        return f"{self.mix} s{self.seed}"

    @property
    def share(self) -> float:
        """Of its training that is done, between 0 and 1."""
        return self.step / self.steps if self.steps else 0.0

    @property
    def looked_at(self) -> bool:
        """Whether it is scored on its way, and goes on training afterwards."""
        return self.state == "evaluating" and self.step < self.steps


@dataclass(frozen=True, kw_only=True)
class WorkerProgress:
    """One worker that has not said that it ended."""

    submission: str
    name: str
    host: str
    pid: int
    alive: bool | None
    """``None`` where it is on another machine."""
    runs: tuple[str, ...]
    """Labels of the runs that it works on."""


@dataclass(frozen=True, kw_only=True)
class FailureGroup:
    """Runs that failed for one cause."""

    kind: str
    message: str
    runs: tuple[str, ...]
    """Their labels."""
    log: str | None
    """The log of the first of them."""
    line: str | None
    """The line of that log that matters."""


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """A sweep's jobs on a cluster."""

    running: int
    waiting: int
    problem: str | None
    """Why SLURM could not be asked; states are then what the runs' own records say."""


@dataclass(frozen=True, kw_only=True)
class SweepProgress:
    """A sweep at one moment."""

    sweep: str
    now: float
    runs: tuple[RunProgress, ...]
    workers: tuple[WorkerProgress, ...]
    failures: tuple[FailureGroup, ...]
    tokens_per_second: float
    """Of all runs that train now, together."""
    seconds_left: float | None
    """Until the workers there are have done all that was sent; ``None`` where that can't be told."""
    at_least: bool
    """Whether no evaluation was measured yet, so that times left cover the training only."""
    starting: int = 0
    """Workers that were started and have not begun yet."""
    jobs: Jobs | None = None
    """``None`` where it was never submitted to a cluster."""
    hours: Hours | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Runs by state."""
        return dict(Counter(run.state for run in self.runs))

    @property
    def active(self) -> bool:
        """Whether anybody works on it, or is about to."""
        return (
            self.starting > 0
            or (self.jobs is not None and self.jobs.running + self.jobs.waiting > 0)
            or any(worker.alive for worker in self.workers)
            or any(run.state in BEGUN for run in self.runs)
        )

    @property
    def left_behind(self) -> tuple[RunProgress, ...]:
        """Runs that are not done and that nobody will come to unless they are submitted (again)."""
        return tuple(run for run in self.runs if run.state in LEFT and not run.sent)

    @property
    def complete(self) -> bool:
        """Whether every run is there to be judged."""
        return all(run.state == "done" for run in self.runs)

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, for machines."""
        plain: dict[str, Any] = {field.name: to_mapping(getattr(self, field.name)) for field in fields(self)}
        return {**plain, "counts": self.counts, "active": self.active, "complete": self.complete}


def overview(store: Store, plan: Plan, *, now: float) -> SweepProgress:
    """Where each run of a plan stands.

    One small file is read for each run, and locks are looked at only for those that say they are at work.

    Args:
        store: where the runs are.
        plan: the sweep's plan; made once, it serves for any number of looks.
        now: seconds since the epoch.
    """
    live = _Live.read(store, plan.sweep.name)
    looks = [_look(store, run, plan.evaluation, live) for run in plan.runs]
    unfinished = [look.fingerprint for look in looks if look.fingerprint and look.state not in {"done", "diverged"}]
    jobs = look_at_jobs(store, plan.sweep.name, unfinished, now=now)
    if jobs is not None:
        looks = [_with_job(look, jobs) for look in looks]
    speeds = _Speeds.measure(looks)
    runs = _with_losses(store, tuple(_progress(look, speeds, live, now=now) for look in looks))
    return SweepProgress(
        sweep=plan.sweep.name,
        now=now,
        runs=runs,
        workers=live.workers,
        failures=_failures(runs),
        tokens_per_second=sum(run.tokens_per_second or 0.0 for run in runs if run.state == "training"),
        seconds_left=_makespan(runs, _hands(live, jobs, runs)),
        at_least=speeds.evaluate is None,
        starting=live.starting,
        jobs=None if jobs is None else Jobs(running=jobs.running, waiting=jobs.waiting, problem=jobs.problem),
        hours=None if jobs is None else jobs.hours,
    )


def _with_losses(store: Store, runs: tuple[RunProgress, ...]) -> tuple[RunProgress, ...]:
    """The runs, those that are listed with how their losses fell."""
    few = len(runs) <= EACH
    listed = [i for i, run in enumerate(runs) if few or run.state in BEGUN][:EACH]
    read = {i: losses(store.run(key).metrics) for i in listed if (key := runs[i].fingerprint) is not None}
    return tuple(replace(run, losses=read[i]) if read.get(i) else run for i, run in enumerate(runs))


def _hands(live: _Live, jobs: JobsView | None, runs: Sequence[RunProgress]) -> int:
    """Runs that can be worked on at the same time now."""
    if jobs is not None:
        return max(jobs.running, sum(run.state in BEGUN for run in runs))
    return live.starting + sum(worker.alive is True for worker in live.workers)


def _with_job(look: _Look, jobs: JobsView) -> _Look:
    """A run in the light of its job: the record says what it did, SLURM why it doesn't do it now."""
    job = jobs.of_runs.get(look.fingerprint or "")
    if job is None or look.state not in {"queued", "trained", "stale", *BEGUN}:
        return look
    state = look.state
    if job.kind in {"suspended", "held"}:
        state = job.kind
    elif job.kind == "never_satisfied":
        state = "held"
    elif state in {"stale", "queued", "trained"} and not job.final:
        working = job.kind == "running" and look.fingerprint in jobs.at_work
        state = "preparing" if working else look.state if look.state == "trained" else "queued"
    elif state == "stale":
        state = "queued"  # whoever looks after the sweep sends it again, or gives it up
    turn = job.kind == "running" and state in {"queued", "trained"}
    words = f"waits its turn in a job that {job.words}" if turn else job.words
    return look._replace(state=state, job=job.seen.job if job.seen else None, words=words)


class _Live(NamedTuple):
    """What the submissions that still have workers are about."""

    workers: tuple[WorkerProgress, ...]
    starting: int
    sent: frozenset[str]
    at_work: frozenset[str]

    @classmethod
    def read(cls, store: Store, sweep: str) -> _Live:
        """Look at a sweep's submissions; of those that ended only the newest is told of, with workers that died."""
        workers: list[WorkerProgress] = []
        starting, sent, at_work = 0, set[str](), set[str]()
        directories = submissions(store, sweep)
        for directory in directories:
            live = directory.live
            if not live and directory is not directories[-1]:
                continue
            # Of a cluster's jobs SLURM tells; there may be thousands.
            submission, begun = directory.read(), [] if directory.on_cluster else directory.workers()
            labels = {run.fingerprint: run.label for run in submission.runs}
            workers += [_worker_progress(submission.id, worker, labels) for worker in begun if worker.ended is None]
            if live:
                called_off = directory.cancellation
                runs = {run.fingerprint for run in submission.runs}
                sent |= runs if called_off is None else {run for run in runs if not called_off.covers(run)}
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


class _Look(NamedTuple):
    """A planned run, and what was found of it."""

    planned: PlannedRun
    fingerprint: str | None
    state: str
    status: Status
    job: str | None = None
    words: str | None = None


def _look(store: Store, planned: PlannedRun, evaluation: str, live: _Live) -> _Look:
    fingerprint = planned.fingerprint
    if fingerprint is None:
        return _Look(planned, None, "refused", Status(state="queued"))
    run = store.run(fingerprint)
    status = run.status()
    state: str = status.state
    if run.evaluated(evaluation):
        state = "done"
    elif planned.status == "refused" and state not in ENDED:
        state = "refused"
    elif state == "done":
        state = "trained"
    elif state in ACTIVE and not run.claimed:
        state = "stale"
    if state in {"queued", "trained", "stale"} and fingerprint in live.at_work:
        state = "preparing"
    return _Look(planned, fingerprint, state, status)


class _Speeds(NamedTuple):
    """What runs of this sweep have cost so far: medians, since a machine may be busy with other things for a while."""

    tokens_per_second: float | None
    evaluate: float | None

    @classmethod
    def measure(cls, looks: Sequence[_Look]) -> _Speeds:
        """Read the speeds off the runs' statuses."""
        rates, evaluations = [], []
        for _, _, state, status, _, _ in looks:
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


def _progress(look: _Look, speeds: _Speeds, live: _Live, *, now: float) -> RunProgress:
    planned, fingerprint, state, status, job, words = look
    return RunProgress(
        mix=planned.mix,
        seed=planned.seed,
        fingerprint=fingerprint,
        state=state,
        step=status.step,
        steps=status.steps or (planned.spec.steps if planned.spec else 0),
        tokens=status.tokens,
        tokens_per_second=status.tokens_per_second,
        seconds_left=_seconds_left(look, speeds, now=now),
        sent=fingerprint in live.sent and state not in {"failed", "diverged"},
        attempt=status.attempt,
        updated=status.updated or None,
        host=status.host,
        pid=status.pid,
        job=job,
        words=words,
        failure=status.failure if state in {"failed", "diverged"} or _damaged(status.failure) else None,
    )


def _damaged(failure: Failure | None) -> bool:
    return failure is not None and failure.kind == DAMAGED


def _seconds_left(look: _Look, speeds: _Speeds, *, now: float) -> float | None:
    planned, _, state, status, _, _ = look
    evaluate = speeds.evaluate or 0.0
    if planned.spec is None or state in {"done", "refused", "diverged"}:
        return None
    if state == "evaluating" and status.step >= status.steps:
        return None if speeds.evaluate is None else max(0.0, evaluate - (now - status.updated))
    if state == "trained":
        return speeds.evaluate
    rate = (status.tokens_per_second if state == "training" else None) or speeds.tokens_per_second
    if rate is None:
        return planned.seconds  # from runs of other sweeps, where the plan knows any
    # Looks are scored on the way; what they have taken so far is not to come.
    since = now - status.updated if state == "evaluating" else 0.0
    return (planned.spec.tokens - status.tokens) / rate + max(0.0, evaluate - status.evaluate_seconds - since)


def _makespan(runs: Iterable[RunProgress], workers: int) -> float | None:
    """When the last worker ends, each taking the next run as soon as it is free, those at work going first."""
    once = {run.fingerprint: run for run in runs if run.state in BEGUN or (run.sent and run.state in LEFT)}
    todo = sorted(once.values(), key=lambda run: run.state not in BEGUN)
    if not todo or workers == 0 or any(run.seconds_left is None for run in todo):
        return None
    free = [0.0] * workers
    for run in todo:
        heapq.heapreplace(free, free[0] + (run.seconds_left or 0.0))
    return max(free)


def _failures(runs: Iterable[RunProgress]) -> tuple[FailureGroup, ...]:
    """Failures by cause, the most frequent first; messages that differ in numbers alone are one cause."""
    groups: dict[tuple[str, str], list[RunProgress]] = {}
    for run in runs:
        if run.failure is not None:
            cause = "" if _damaged(run.failure) else re.sub(r"\d+", "#", run.failure.message)
            groups.setdefault((run.failure.kind, cause), []).append(run)
    found: list[FailureGroup] = []
    for members in sorted(groups.values(), key=len, reverse=True):
        failure = members[0].failure
        assert failure is not None, "grouped by it"
        line = line_that_matters(Path(failure.log)) if failure.log and len(found) < LOGS_READ else None
        labels = tuple(run.label for run in members)
        found.append(FailureGroup(kind=failure.kind, message=failure.message, runs=labels, log=failure.log, line=line))
    return tuple(found)
