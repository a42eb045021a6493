"""Monitor a submission on a cluster: recover lost jobs, and resubmit runs of ended jobs.

`submit` calls the monitor, and so do the monitor jobs of the sweep. One monitor job depends on all other jobs, and one
runs periodically. Several processes may call the monitor at the same time. Only the holder of the monitor lease acts.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.errors import SchedulerError
from assay.core.lease import LeaseLost, LeaseTimes
from assay.launch.slurm.batches import Ledger
from assay.launch.slurm.commands import run
from assay.launch.slurm.corpus_job import (
    CorpusJobState,
    decide_after_corpus_job,
    find_runs_without_corpora,
    read_corpus_job,
)
from assay.launch.slurm.queue import cancel_jobs, query_queue
from assay.launch.slurm.reconcile import RunDecision, RunState, decide_run, read_run_states
from assay.launch.slurm.sbatch import job_of_this_process, submit_arrays, submit_batch
from assay.store.runs import Failure
from assay.store.submissions import Closed, SubmissionDirectory

if TYPE_CHECKING:
    from assay.config.cluster import Cluster, Slurm
    from assay.store.submissions import Submission

log = logging.getLogger(__name__)

COMMAND_SECONDS = 30.0
AT_ONCE = 64
"""Number of runs that are marked as failed concurrently. Each of them may wait until a lease is stale."""
SOON_MINUTES = 2.0
"""Minutes until the next monitor job if the outcome of a job is not known yet."""


@dataclass(frozen=True, kw_only=True)
class MonitorResult:
    """Actions of one call of the monitor."""

    acted: bool
    """Whether this process held the monitor lease and acted."""
    actions: dict[str, int]
    """Number of runs by action."""
    over: bool = False
    """Whether the submission needs no further action."""


def monitor_submission(
    directory: SubmissionDirectory,
    *,
    elsewhere: Callable[[], Iterable[str]] = tuple,
    patience: float | None = None,
) -> MonitorResult:
    """Check all runs of a submission once, and act on each run.

    The monitor resubmits, fails or keeps each run, and schedules the next monitor job.

    Args:
        directory: the submission.
        elsewhere: returns the fingerprints of the runs that open submissions of other sweeps train.
        patience: seconds to wait for a lease holder on another machine, as in
            `SubmissionDirectory.hold_monitor_lease`.

    Raises:
        AssayError: SLURM does not answer, or rejected a job.
    """
    try:
        with directory.hold_monitor_lease(patience) as held:
            if not held:
                return MonitorResult(acted=False, actions={})
            if directory.closed is not None:
                return MonitorResult(acted=True, actions={}, over=True)
            return _Monitor(directory).run(elsewhere())
    except LeaseLost as lost:
        log.warning("%s This process submits no more jobs.", lost)
        return MonitorResult(acted=False, actions={})


class _Monitor:
    """One pass over a submission by the holder of its monitor lease."""

    def __init__(self, directory: SubmissionDirectory) -> None:
        self.directory = directory
        self.ledger = Ledger(directory)
        self.submission = directory.read()
        self.cluster: Cluster = self.submission.frozen_study().cluster
        assert self.cluster.slurm is not None, "a submission for a cluster"
        self.slurm: Slurm = self.cluster.slurm
        self._missing: set[str] = set()
        self._corpus_job: CorpusJobState | None = None

    def run(self, elsewhere: Iterable[str]) -> MonitorResult:
        for batch in self.ledger.recover():
            submit_batch(self.ledger, batch, self.cluster)
        decisions = self._decide(read_run_states(self.ledger, elsewhere=elsewhere))
        by_action: dict[str, list[RunDecision]] = {}
        for decision in decisions:
            by_action.setdefault(decision.action, []).append(decision)
        for action, group in by_action.items():
            log.info("%s: %d runs (%s)", action, len(group), _summary(group))
        for job in _jobs(by_action.get("release", ())):
            try:
                run(["scontrol", "release", job], timeout=COMMAND_SECONDS)
            except SchedulerError as error:
                log.warning("scontrol release %s: %s", job, error)
        self._cancel_idle_jobs(decisions)
        claimed = self._fail_all(by_action.get("fail", ()))
        resubmitted = by_action.get("resubmit", [])
        self._resubmit(resubmitted)
        over = not resubmitted and not claimed and not ({"keep", "wait", "release"} & by_action.keys())
        if not over:
            active = [decision.run_state.status.job for decision in by_action.get("keep", ())]
            self._schedule_next(soon=claimed or "wait" in by_action, active_jobs={job for job in active if job})
        counts = {action: len(group) for action, group in by_action.items()}
        return MonitorResult(acted=True, actions=counts, over=over)

    def _cancel_idle_jobs(self, decisions: Sequence[RunDecision]) -> None:
        """Cancel queued jobs whose runs are all finished."""
        finished = {"done", "cancel", "fail"}
        needed = set(_jobs([decision for decision in decisions if decision.action not in finished]))
        idle = [
            decision
            for decision in decisions
            if decision.action == "cancel" or (decision.action == "fail" and decision.queued)
        ]
        try:
            cancel_jobs(set(_jobs(idle)) - needed)
        except SchedulerError as error:
            log.warning("scancel: %s", error)

    def _decide(self, run_states: Sequence[RunState]) -> list[RunDecision]:
        retries = self.ledger.count_retries()
        decisions = [
            decide_run(run_state, retries=retries.get(run_state.run.fingerprint, {}), slurm=self.slurm)
            for run_state in run_states
        ]
        inactive = [decision.fingerprint for decision in decisions if decision.action in {"resubmit", "fail"}]
        self._missing = find_runs_without_corpora(self.directory, inactive)
        self._corpus_job = read_corpus_job(self.ledger) if self._missing else None
        return [
            decide_after_corpus_job(
                decision,
                self._corpus_job,
                missing=decision.fingerprint in self._missing,
                retries=retries.get(decision.fingerprint, {}),
                slurm=self.slurm,
            )
            if decision.action in {"resubmit", "fail"}
            else decision
            for decision in decisions
        ]

    def _ensure_corpus_job(self, decisions: Sequence[RunDecision]) -> list[str]:
        """Return the corpus job on which runs with missing corpora depend; resubmit it if needed."""
        if self._corpus_job is None or not self._missing & {decision.fingerprint for decision in decisions}:
            return []
        if self._corpus_job.job is not None:
            return [self._corpus_job.job]
        return [submit_batch(self.ledger, self.ledger.declare("prepare"), self.cluster)]

    def _resubmit(self, decisions: Sequence[RunDecision]) -> None:
        """Resubmit runs. If the cause requires it, a run gets a separate job."""
        if not decisions:
            return
        alone = [decision for decision in decisions if decision.cause is not None and decision.cause.alone]
        shared = [decision for decision in decisions if decision not in alone]
        corpus_jobs = self._ensure_corpus_job(decisions)
        for group, size in ((shared, self.slurm.runs_per_job), (alone, 1)):
            submit_runs(
                self.ledger,
                self.cluster,
                [decision.fingerprint for decision in group],
                size=size,
                causes={decision.fingerprint: decision.cause.kind for decision in group if decision.cause},
                exclude=self._bad_nodes(decisions),
                after_success=tuple(corpus_jobs),
            )

    def _bad_nodes(self, decisions: Iterable[RunDecision]) -> tuple[str, ...]:
        """List the nodes to avoid: those of earlier batches and the newly failed nodes."""
        nodes = {node for batch in self.ledger.batches() for node in batch.exclude}
        for decision in decisions:
            job_status = decision.run_state.job_status
            if decision.cause is not None and decision.cause.bad_node and job_status is not None and job_status.node:
                nodes.add(job_status.node)
        return tuple(sorted(nodes))

    def _fail_all(self, decisions: Sequence[RunDecision]) -> bool:
        """Mark runs as failed concurrently; return whether another process claimed a run."""
        if not decisions:
            return False
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return not all(list(pool.map(self._fail, decisions)))

    def _fail(self, decision: RunDecision) -> bool:
        """Mark a run as failed with the cause; return whether its lease was free."""
        assert decision.cause is not None, "part of the decision"
        folder, kind = self.directory.store.run(decision.fingerprint), decision.cause.kind
        # If a process was killed on another machine, its lease is free only when the lease is stale.
        patience = LeaseTimes.from_environment().patience
        if kind == "cancelled":
            return folder.cancel(patience)
        with folder.claim(patience) as held:
            if not held:
                return False
            failure = folder.status().failure
            retries = self.ledger.count_retries().get(decision.fingerprint, Counter())[kind]
            reason = failure.message if failure is not None else decision.text
            attempts = f" It was tried {retries + 1} times." if retries else ""
            message = f"{reason or kind}.{attempts}".replace("..", ".")
            path = decision.log or (folder.log if folder.log.exists() else self._job_log(decision))
            folder.fail(Failure(kind=kind, message=message, log=None if path is None else str(path)))
            return True

    def _job_log(self, decision: RunDecision) -> Path | None:
        task = decision.run_state.task
        if task is None or task.job is None:
            return None
        path = self.directory.job_log(task.job)
        return path if path.exists() else None

    def _schedule_next(self, *, soon: bool, active_jobs: set[str]) -> None:
        """Submit the missing monitor jobs: one after the current jobs, and the periodic job.

        Args:
            soon: whether the outcome of a job is not known yet.
            active_jobs: jobs that currently train runs of this submission. The first monitor job also waits for jobs of
                other sweeps among these jobs.
        """
        this_job = job_of_this_process()
        own = self.ledger.jobs()  # with names, because SLURM may reuse the id of one of these jobs
        alive = {job.partition("_")[0] for job in query_queue(own) if job != this_job}
        current = [job for job in self.ledger.jobs("runs", "prepare") if job in alive]
        others = [job for job in active_jobs if job.partition("_")[0] not in own]
        current += sorted(query_queue(others))
        monitors = [batch for batch in self.ledger.batches() if batch.kind == "monitor"]
        queued = [batch for batch in monitors if self.ledger.job(batch) in alive]
        if current and not any(set(current) <= set(batch.after) for batch in queued):
            submit_batch(self.ledger, self.ledger.declare("monitor", after=tuple(current)), self.cluster)
        minutes = SOON_MINUTES if soon and not self.slurm.monitor_minutes else self.slurm.monitor_minutes
        if minutes and not any(not batch.after for batch in queued):
            delay = min(minutes, SOON_MINUTES) if soon else minutes
            submit_batch(self.ledger, self.ledger.declare("monitor", begin_minutes=delay), self.cluster)


def submit_runs(
    ledger: Ledger[SubmissionDirectory], cluster: Cluster, fingerprints: Sequence[str], *, size: int, **options: Any
) -> list[str]:
    """Submit runs as job arrays, and return the job ids of the arrays.

    Args:
        ledger: ledger of the submission.
        cluster: profile of the cluster.
        fingerprints: the runs.
        size: number of runs per job.
        **options: further arguments of `submit_arrays`.
    """
    tasks = list(split_runs(ledger.directory.read(), fingerprints, size))
    store = ledger.directory.store
    return submit_arrays(
        ledger, "runs", tasks, cluster, requeue=lambda fingerprint: store.run(fingerprint).requeue(), **options
    )


def split_runs(submission: Submission, fingerprints: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    """Split runs in the submission's order into the work of single jobs."""
    wanted = set(fingerprints)
    order = [run.fingerprint for run in submission.runs if run.fingerprint in wanted]
    for first in range(0, len(order), size):
        yield tuple(order[first : first + size])


def close_submission(directory: SubmissionDirectory, *, decision: str | None) -> None:
    """Close a submission, and cancel its remaining monitor jobs."""
    directory.close(Closed(at=time.time(), decision=decision))
    this_job = job_of_this_process().partition("_")[0]
    with contextlib.suppress(SchedulerError):  # a remaining monitor job detects the closed submission and ends
        cancel_jobs({job.partition("_")[0] for job in query_queue(Ledger(directory).jobs())} - {this_job})


def _jobs(decisions: Sequence[RunDecision]) -> list[str]:
    tasks = [decision.run_state.task for decision in decisions]
    return sorted({task.job for task in tasks if task is not None and task.job is not None})


def _summary(decisions: Sequence[RunDecision]) -> str:
    reasons = Counter(decision.cause.kind if decision.cause else decision.text for decision in decisions)
    return ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(4) if reason) or "as expected"
