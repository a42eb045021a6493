"""Run one job of a sweep or an audit: `python -m assay.launch.slurm.job SUBMISSION BATCH`.

The batch defines the work of the job, and the array index selects the runs or shards of this task. The job therefore
needs no file that is written after sbatch. A requeued job repeats the same work.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.errors import NotFound, SchedulerError
from assay.core.lease import LeaseTimes
from assay.core.processes import ProcessIdentity
from assay.launch.early_stopping import apply_stopping_policy
from assay.launch.local.process_pool import RunProcesses
from assay.launch.local.run_loop import RunLoop, alone
from assay.launch.local.run_output import log_to_stderr
from assay.launch.local.worker import use_benchmarks, worker_environment
from assay.launch.seed_stages import submit_next_stage
from assay.launch.slurm.batches import ArrayTask, Ledger
from assay.launch.slurm.commands import Unreachable, run
from assay.launch.slurm.finalize import finish_submission
from assay.launch.slurm.monitor import MonitorResult, monitor_submission
from assay.launch.slurm.ranks import Leader, Rank, follow_leader
from assay.launch.slurm.sbatch import job_of_this_process, request_resources, signal_seconds
from assay.plan.frozen_workspace import frozen_workspace
from assay.store.runs import Failure
from assay.store.submissions import SubmissionDirectory, Worker, done_elsewhere, recorded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assay.config.cluster import Cluster, Slurm
    from assay.store.submissions import SubmittedRun

log = logging.getLogger("assay.launch.slurm.job")  # __name__ is __main__ in a job

SIGNAL_SLACK_SECONDS = 65.0
"""Maximum seconds from the signal to the time limit. SLURM checks every 30 s, and signals up to a minute early."""
MARGIN_SECONDS = 5.0
"""Assumed seconds between the start of a job and the first line of this program."""
MAX_IDLE_RESTARTS = 3
"""Number of consecutive jobs without progress that reach their time limit, before their runs are marked as failed."""
MONITOR_WAITS_SECONDS = (5.0, 10.0, 20.0, 40.0)
"""Seconds between passes of a monitor job, while accounting is late or another process holds the monitor lease."""

OUTAGE_PAUSE_SECONDS = 10.0
"""Seconds between attempts of a monitor job that gets no answer from SLURM."""
OUTAGE_TIME_FRACTION = 0.8
"""Fraction of the monitor job's time limit during which the job repeats these attempts."""


def main(folder: str, number: int) -> int:
    """Perform one task of a batch, and return the exit code."""
    log_to_stderr()
    directory = SubmissionDirectory(Path(folder))
    batch = Ledger(directory).batch(number)
    task = ArrayTask(batch, int(os.environ.get("SLURM_ARRAY_TASK_ID", "0")), job_of_this_process())
    match batch.kind:
        case "prepare":
            _prepare(directory)
        case "runs":
            _train(directory, task)
        case "monitor":
            _monitor(directory)
        case "shards" | "merge":
            from assay.launch.slurm.audit.job import run_audit_job

            return run_audit_job(directory.path, task)
    return 0


def _prepare(directory: SubmissionDirectory) -> None:
    """Build tokenizer and corpora, once for all runs."""
    from assay.plan.prepare import prepare_corpora

    submission = directory.read()
    prepare_corpora(frozen_workspace(submission).sources, sorted(submission.digests))


def _monitor(directory: SubmissionDirectory) -> None:
    """Monitor the runs, stop candidates early, and publish the verdict after all runs ended.

    Candidates are stopped only if the policy allows early stopping. If the policy has stages, the job submits the next
    stage.
    """
    if directory.closed is None:
        apply_stopping_policy(directory)
    result = _monitor_once(directory)
    for seconds in MONITOR_WAITS_SECONDS:
        if result.acted and not result.actions.get("wait"):
            break
        time.sleep(seconds)
        result = _monitor_once(directory)
    if result.over and directory.closed is None:
        # Submit the next stage first: a job that is killed in between leaves the submission open for the next monitor job.
        _submit_next_stage(directory)
        finish_submission(directory)


def _submit_next_stage(directory: SubmissionDirectory) -> None:
    """Submit the next stage of the sweep, if the policy has stages; repeat the step after errors of SLURM.

    After the last attempt, the error is logged and not raised, because the submission must be closed with its verdict.
    `assay submit` repeats the step.
    """
    for seconds in (*MONITOR_WAITS_SECONDS, None):
        try:
            submit_next_stage(directory)
        except Exception:
            log.exception("the next stage could not be submitted; `assay submit` repeats this step")
            if seconds is not None:
                time.sleep(seconds)
        else:
            return


def _monitor_once(directory: SubmissionDirectory) -> MonitorResult:
    """Run one pass of the monitor; repeat it while SLURM does not answer.

    The repetition is necessary because no other monitor job may follow this job.
    """
    submission = directory.read()
    cluster = submission.frozen_study().cluster
    until = time.monotonic() + 60 * request_resources(cluster, "monitor").minutes * OUTAGE_TIME_FRACTION
    while True:
        try:
            # Wait for the lease: its holder may have just died on another machine, and no other job may follow.
            return monitor_submission(
                directory,
                elsewhere=partial(done_elsewhere, directory.store, submission),
                patience=LeaseTimes.from_environment().patience,
            )
        except Unreachable as error:
            if time.monotonic() >= until:
                raise
            log.warning("%s This job retries in %.0f s.", error.what, OUTAGE_PAUSE_SECONDS)
            time.sleep(OUTAGE_PAUSE_SECONDS)


def _train(directory: SubmissionDirectory, task: ArrayTask) -> None:
    """Train and evaluate the runs of one task, as rank 0 or as another rank."""
    submission = directory.read()
    study = submission.frozen_study()
    cluster, slurm = study.cluster, study.cluster.slurm
    assert slurm is not None, "a submission for a cluster"
    name, rank = task.worker, Rank.from_environment()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    os.environ.update(worker_environment(cluster, task.index, os.environ))
    turns = directory.path / "turns" / f"{name}.json"
    if slurm.ranks > 1 and rank.rank > 0:
        with _StopRequest(cluster).listening() as stop:
            follow_leader(directory, turns, rank, children=RunProcesses(grace_seconds=slurm.grace_seconds), asked=stop)
        return
    runs = [run for run in submission.runs if run.fingerprint in task.items]
    me = _worker(directory, name, runs)
    use_benchmarks(submission, study)
    with recorded(directory, me), _StopRequest(cluster).listening() as stop:
        leader = Leader(turns, rank) if slurm.ranks > 1 else None
        RunLoop(
            directory,
            me,
            runs,
            asked=stop,
            places=assign_gpus(slurm, visible, len(runs)),
            patient=True,
            turn=leader.turn if leader else alone,
            grace_seconds=slurm.grace_seconds,
        ).work()
        if leader:
            leader.end()
    if stop():
        _requeue(directory, me, runs, stop)


def _worker(directory: SubmissionDirectory, name: str, runs: Sequence[SubmittedRun]) -> Worker:
    """Build the worker record of this job, and continue the record of an earlier start."""
    now, before = time.time(), directory.worker(name)
    me = Worker(
        name=name,
        process=ProcessIdentity.of(os.getpid()),
        job=job_of_this_process(),
        started=now,
        progress=_progress(directory, runs),
    )
    if before is None:
        return me
    last = before.ended or directory.last_activity(name, before.job, before.runs)
    spent = before.spent + max(0.0, last - before.started)
    return replace(me, spent=spent, idle_restarts=before.idle_restarts)


def _progress(directory: SubmissionDirectory, runs: Sequence[SubmittedRun]) -> float:
    """Return the progress of runs, where training and evaluation of a run count 1 each."""
    evaluation, total = directory.read().evaluation.fingerprint, 0.0
    for entry in runs:
        folder = directory.store.run(entry.fingerprint)
        status = folder.status()
        if folder.evaluated(evaluation):
            total += 2.0
        elif folder.trained:
            total += 1.0
        elif status.steps:
            total += status.step / status.steps
    return total


def assign_gpus(slurm: Slurm, visible: str, runs: int) -> list[dict[str, str]]:
    """Return environment variables that assign a job's GPUs to its concurrent runs.

    Args:
        slurm: the profile.
        visible: the job's CUDA_VISIBLE_DEVICES.
        runs: number of runs of the job. Runs share a GPU only if there are more runs than GPUs.
    """
    names = [name for name in visible.split(",") if name]
    count = max(1, min(slurm.at_once, runs))
    if slurm.ranks > 1 or not names:
        return [{} for _ in range(count)]
    return [{"CUDA_VISIBLE_DEVICES": names[number % len(names)]} for number in range(count)]


class _StopRequest:
    """Condition for the job to stop: a signal, or the approaching time limit.

    SLURM sends SIGTERM on preemption and `scancel`. SLURM sends SIGUSR2 before the time limit, up to a minute early.
    With a limit of a few minutes no time would be left. Near the limit, the job therefore uses its own clock and
    ignores SIGUSR2. Long before the limit, SIGUSR2 means a shortened limit, or preemption on clusters that send SIGUSR2
    instead of SIGTERM (`preempt_send_user_signal`). The job then stops.

    If a job is suspended, its clock stops. SLURM moves the time limit by the same period, and resumes the job with
    SIGCONT.
    """

    def __init__(self, cluster: Cluster, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the clock.

        Args:
            cluster: profile of the job.
            clock: returns seconds.
        """
        began = float(os.environ.get("SLURM_JOB_START_TIME") or time.time() - MARGIN_SECONDS)
        self._grace = signal_seconds(cluster)
        left = request_resources(cluster, "runs").minutes * 60 - self._grace - (time.time() - began)
        self._clock, self._last_check = clock, clock()
        self._deadline = self._last_check + left
        self.terminated = False
        self.warned = False

    def __call__(self) -> bool:
        """Return whether the job must stop. The job calls this function twice per second."""
        self._last_check = self._clock()
        return self.terminated or self.warned or self.time_limit_reached

    @property
    def time_limit_reached(self) -> bool:
        """Whether the time limit is the reason for the stop."""
        return not (self.terminated or self.warned) and self._clock() >= self._deadline

    @contextlib.contextmanager
    def listening(self) -> Iterator[_StopRequest]:
        """Handle the signals during the block."""
        handlers = {
            signal.SIGTERM: self._stop,
            signal.SIGINT: self._stop,
            signal.SIGUSR2: self._warn,
            signal.SIGCONT: self._continue,
        }
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: Any) -> None:
        del number, frame
        self.terminated = True

    def _warn(self, number: int, frame: Any) -> None:
        del number, frame
        if self._deadline - self._clock() > SIGNAL_SLACK_SECONDS:
            self.warned = True

    def _continue(self, number: int, frame: Any) -> None:
        del number, frame
        now = self._clock()
        self._deadline += now - self._last_check
        self._last_check = now


def _requeue(directory: SubmissionDirectory, me: Worker, runs: Sequence[SubmittedRun], stop: _StopRequest) -> None:
    """Requeue this job after its time limit or preemption.

    SLURM does not requeue a preempted job that exits by itself, because the job counts as COMPLETED. This function does
    not requeue a cancelled job. If a job reached its limit several times without progress, its runs are marked as
    failed.
    """
    evaluation = directory.read().evaluation.fingerprint
    unfinished = [entry for entry in runs if not directory.store.run(entry.fingerprint).evaluated(evaluation)]
    if not unfinished or (stop.terminated and not _is_preempted(me.job)):
        return
    if stop.time_limit_reached:
        idle = me.idle_restarts + 1 if _progress(directory, runs) <= me.progress else 0
        directory.record_worker(replace(me, ended=time.time(), idle_restarts=idle))
        if idle >= MAX_IDLE_RESTARTS:
            for entry in unfinished:
                _fail(directory, entry)
            return
    log.info("%s; requeue to continue from the checkpoints", "time limit" if stop.time_limit_reached else "preemption")
    try:
        run(["scontrol", "requeue", me.job], timeout=30.0)
    except (NotFound, SchedulerError) as error:
        # Some clusters have no scontrol on their nodes. The monitor job then resubmits the runs.
        log.warning("cannot requeue this job: %s", error)


def _is_preempted(job: str) -> bool:
    """Return whether SLURM is preempting a job, instead of cancelling the job for a user."""
    try:
        output = run(["scontrol", "show", "job", "--oneliner", job], timeout=30.0)
    except (NotFound, SchedulerError) as error:
        log.warning("cannot check whether this job is preempted: %s", error)
        return False
    fields = dict(field.split("=", 1) for field in output.split() if "=" in field)
    return fields.get("JobState") == "RUNNING" and fields.get("PreemptTime", "None") not in {"None", "Unknown", "N/A"}


def _fail(directory: SubmissionDirectory, entry: SubmittedRun) -> None:
    folder = directory.store.run(entry.fingerprint)
    with folder.claim() as held:
        if held:
            message = f"{MAX_IDLE_RESTARTS} consecutive jobs reached their time limit without progress."
            failure = Failure(kind="time limit", message=f"{message} Raise cluster.timeout_hours.", log=str(folder.log))
            folder.fail(failure)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
