"""Reconcile run records with SLURM, and choose the action for each run of a submission."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from assay.launch.slurm.queue import PATIENT, JobStatus, Patience
from assay.launch.slurm.retry_policy import CAUSES_BY_STATUS, Cause, classify_failure, retry_limit

if TYPE_CHECKING:
    from assay.config.cluster import Slurm
    from assay.launch.slurm.batches import ArrayTask, Ledger
    from assay.launch.slurm.job_record import JobRecord
    from assay.store.runs import Status
    from assay.store.submissions import SubmissionDirectory, SubmittedRun

Action = Literal["done", "keep", "wait", "release", "cancel", "resubmit", "fail"]
"""Action for a run:

- `done`: the run needs no action.
- `keep`: a job works on the run, or is queued for it.
- `wait`: the outcome of the run's job is not known yet.
- `release`: SLURM holds the job after a failed launch; release the job.
- `cancel`: the run is done, but its job is still queued; cancel the job.
- `resubmit`: submit the run in a new job.
- `fail`: the retry limit is reached; mark the run as failed.
"""

LAUNCH_FAILED = "launch failed"
"""Prefix of SLURM's reason for holding a job that SLURM could not launch."""


@dataclass(frozen=True, kw_only=True)
class RunState:
    """State of a run of a submission, from its record and from SLURM."""

    run: SubmittedRun
    status: Status
    evaluated: bool
    claimed: bool
    task: ArrayTask | None
    """Newest array task of the run; None if no batch of this submission contains the run."""
    job_status: JobStatus | None
    """Status of the task; None if the record suffices and the status was not queried."""
    cancelled: bool = False
    elsewhere: bool = False
    """Whether an open submission of another sweep contains the run."""
    job_started: bool = False
    """Whether the run's failed job had started its worker."""


@dataclass(frozen=True, kw_only=True)
class RunDecision:
    """Action for one run, with its cause."""

    run_state: RunState
    action: Action
    cause: Cause | None = None
    """Cause of `resubmit` and `fail`."""
    text: str = ""
    """Explanation for users."""
    log: Path | None = None
    """Log with the error (default: the log of the run or of its job)."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the run."""
        return self.run_state.run.fingerprint

    @property
    def queued(self) -> bool:
        """Whether the job of the run is still in the queue."""
        job_status = self.run_state.job_status
        return job_status is not None and job_status.queued


def decide_run(run_state: RunState, *, retries: Mapping[str, int], slurm: Slurm) -> RunDecision:
    """Choose the action for a run.

    Args:
        run_state: state of the run.
        retries: resubmissions of the run so far, by cause.
        slurm: the profile, with its retry limits.
    """
    status, job_status = run_state.status, run_state.job_status
    queued = job_status is not None and job_status.queued
    over = run_state.evaluated or run_state.cancelled or status.state == "diverged"
    if run_state.claimed and not over:
        # The job is gone. The lease holder is a process that SLURM lost, or a process that just died and whose lease is
        # not stale.
        lost = run_state.task is not None and not queued
        return RunDecision(
            run_state=run_state, action="wait" if lost else "keep", text="another process holds its lease"
        )
    if over or (status.state == "failed" and (status.failure is None or classify_failure(status.failure) is None)):
        action: Action = "cancel" if queued and _idle(job_status) else "done"
        return RunDecision(run_state=run_state, action=action, text=_describe(job_status))
    if status.state == "cancelled" and not queued:
        return RunDecision(run_state=run_state, action="done", text="cancelled")
    if job_status is not None and not job_status.final:
        return _decide_queued(run_state, job_status, slurm)
    if run_state.elsewhere:
        return RunDecision(run_state=run_state, action="keep", text="another sweep trains it")
    cause = _cause(run_state)
    action = "fail" if retries.get(cause.kind, 0) >= retry_limit(cause.kind, slurm) else "resubmit"
    return RunDecision(run_state=run_state, action=action, cause=cause, text=_describe(job_status))


def _decide_queued(run_state: RunState, job_status: JobStatus, slurm: Slurm) -> RunDecision:
    if job_status.kind == "unknown":
        return RunDecision(run_state=run_state, action="wait", text=job_status.text)
    if job_status.kind == "held" and job_status.record is not None and _launch_failed(job_status.record):
        if job_status.record.restarts > retry_limit("launch failed", slurm):
            return RunDecision(run_state=run_state, action="fail", cause=Cause("launch failed"), text=job_status.text)
        return RunDecision(run_state=run_state, action="release", text=job_status.text)
    if job_status.kind == "never_satisfied":
        return RunDecision(run_state=run_state, action="wait", text=job_status.text)
    return RunDecision(run_state=run_state, action="keep", text=job_status.text)


def _launch_failed(record: JobRecord) -> bool:
    """Return whether SLURM itself holds a job because the job's launch failed.

    A restarted controller forgets the reason but keeps the hold, which then looks like an administrator's hold. For a
    requeued job, the function assumes a failed launch. Only an administrator can release an administrator's hold.
    """
    return LAUNCH_FAILED in record.reason.lower() or (record.reason == "JobHeldAdmin" and record.restarts > 0)


def _idle(job_status: JobStatus | None) -> bool:
    """Return whether a task is not running, so that its cancellation interrupts nothing."""
    return job_status is not None and job_status.kind in {"pending", "held", "requeued", "never_satisfied"}


def _cause(run_state: RunState) -> Cause:
    """Return why a run is unfinished and inactive."""
    failure = run_state.status.failure
    if run_state.status.state == "failed" and failure is not None and (own := classify_failure(failure)) is not None:
        return own
    if run_state.job_status is None:
        return Cause("left" if run_state.task is None else "vanished")
    cause = CAUSES_BY_STATUS.get(run_state.job_status.kind, Cause("vanished"))
    if cause.kind != "job failed" or run_state.status.ended:
        return cause
    if run_state.status.attempt or (run_state.job_started and _was_killed(run_state.job_status)):
        return Cause(
            "requeued"
        )  # the run's process had started and recorded no failure, or the run was still waiting in the job
    return cause


def _was_killed(job_status: JobStatus) -> bool:
    """Return whether a signal ended a job's script or a program in the script.

    Shells add 128 to the signal number.
    """
    return job_status.record is not None and bool(job_status.record.signal or (job_status.record.exit_code or 0) > 128)


def _describe(job_status: JobStatus | None) -> str:
    return job_status.text if job_status is not None else ""


def read_run_states(ledger: Ledger[SubmissionDirectory], *, elsewhere: Iterable[str] = ()) -> list[RunState]:
    """Read the state of every run of a submission, from its record and its job.

    Raises:
        Unreachable: SLURM does not answer.
    """
    directory = ledger.directory
    submission = directory.read()
    tasks, others, cancellation = ledger.newest_tasks(), set(elsewhere), directory.cancellation
    run_states: list[RunState] = []
    for run in submission.runs:
        folder = directory.store.run(run.fingerprint)
        run_states.append(
            RunState(
                run=run,
                status=folder.status(),
                evaluated=folder.evaluated(submission.evaluation.fingerprint),
                claimed=folder.claimed,
                task=tasks.get(run.fingerprint),
                job_status=None,
                cancelled=cancellation is not None and cancellation.covers(run.fingerprint),
                elsewhere=run.fingerprint in others,
            )
        )
    statuses = query_run_statuses(ledger, [state.run.fingerprint for state in run_states if not _ended(state)])
    run_states = [replace(state, job_status=statuses.get(state.run.fingerprint)) for state in run_states]
    return [replace(state, job_started=_job_started(directory, state)) for state in run_states]


def _job_started(directory: SubmissionDirectory, run_state: RunState) -> bool:
    if run_state.job_status is None or run_state.job_status.kind != "failed" or run_state.task is None:
        return False
    return directory.worker(run_state.task.worker) is not None


def query_run_statuses(
    ledger: Ledger[SubmissionDirectory], unfinished: Collection[str], *, patience: Patience = PATIENT
) -> dict[str, JobStatus]:
    """Query the job statuses of runs, by fingerprint.

    A finished run is included while its job is queued.

    Args:
        ledger: ledger of the submission.
        unfinished: fingerprints of the unfinished runs.
        patience: timeout and attempts.

    Raises:
        Unreachable: SLURM does not answer.
    """
    tasks, wanted = ledger.newest_tasks(), set(unfinished)
    accounted = {task.job for run, task in tasks.items() if run in wanted and task.job is not None}
    states = ledger.states(tasks.values(), accounted=accounted, patience=patience)
    known = {run: state for run, task in tasks.items() if (state := states.get(task.job or "")) is not None}
    return {run: state for run, state in known.items() if run in wanted or state.queued}


def _ended(run_state: RunState) -> bool:
    """Return whether the record of a run suffices without a query of accounting."""
    done = run_state.evaluated or run_state.cancelled or run_state.claimed
    return done or run_state.status.state == "diverged"
