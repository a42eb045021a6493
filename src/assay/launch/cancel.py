"""Cancel a sweep's runs through a file that workers read, and through signals.

Only workers on this machine get a signal.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assay.core.errors import Damaged, Refused
from assay.core.files import exclusive
from assay.launch.local.process_pool import GRACE_SECONDS
from assay.store.submissions import Closed, SubmissionDirectory, SubmittedRun, Worker, submissions

if TYPE_CHECKING:
    from assay.store.runs import Store

WAIT_SECONDS = GRACE_SECONDS + 30
POLL_SECONDS = 0.1
QUEUE_SECONDS = 2.0
"""Seconds between two queries of SLURM's queue."""


@dataclass(frozen=True, kw_only=True)
class Cancelled:
    """The outcome of a cancellation."""

    submissions: tuple[str, ...]
    """Submissions that were active or had unfinished runs."""
    stopped: tuple[str, ...]
    """Labels of the cancelled runs. After another submission, these runs resume from their last checkpoints."""
    kept: tuple[str, ...]
    """Labels of runs that had already ended."""
    still_running: tuple[str, ...]
    """Labels of runs that a process still holds: the run takes longer to stop, or another sweep needs the run."""
    elsewhere: tuple[str, ...]
    """Other machines with workers. These workers stop when they next read the cancellation."""


def cancel(
    store: Store,
    sweep: str,
    *,
    mix: str | None = None,
    runs: Collection[str] | None = None,
    wait_seconds: float = WAIT_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Cancelled:
    """Stop all runs of a sweep, or some of its runs; keep finished runs.

    Args:
        store: the store of the sweep.
        sweep: the name of the sweep.
        mix: the only mix whose runs are cancelled (default: all mixes).
        runs: fingerprints of the only runs to cancel (default: all runs).
        wait_seconds: maximum wait in seconds until the runs have stopped. The runs write a checkpoint first. A run that
            takes too long is killed.
        clock: returns seconds, for the wait.
    """
    selective = mix is not None or runs is not None
    chosen: dict[str, SubmittedRun] = {}
    cancelled: list[SubmissionDirectory] = []
    unwritten: Refused | Damaged | None = None
    with exclusive(store.sweep(sweep) / "lock", wait=True):  # a starting submission is cancelled as a whole
        for directory in submissions(store, sweep):
            matching = [
                run
                for run in directory.uncancelled_runs()
                if (mix is None or run.mix == mix) and (runs is None or run.fingerprint in runs)
            ]
            unfinished = [run for run in matching if not store.run(run.fingerprint).status().ended]
            if matching and (unfinished or directory.live):
                try:
                    directory.cancel([run.fingerprint for run in matching] if selective else None)
                except (
                    Refused,
                    Damaged,
                ) as error:  # a full disk or a damaged record must not prevent stopping workers
                    unwritten = error
                cancelled.append(directory)
            chosen |= {run.fingerprint: run for run in matching}
    local = [directory for directory in cancelled if not directory.on_cluster]
    workers = [worker for directory in local for worker in directory.workers() if worker.ended is None]
    if not selective:
        for worker in workers:
            worker.process.send(signal.SIGTERM)
    jobs = _CancelledJobs([directory for directory in cancelled if directory.on_cluster], chosen if selective else None)
    until = clock() + wait_seconds
    while clock() < until and (
        jobs.left or (_held(store, workers, chosen) if selective else any(directory.live for directory in local))
    ):
        time.sleep(POLL_SECONDS)
    if unwritten is not None:
        stopped = (
            "Nothing was stopped."
            if selective
            else "The workers were signaled to stop; the runs are not marked as cancelled."
        )
        raise type(unwritten)(f"{unwritten.what} {stopped}", fix=unwritten.fix)
    outcome = _mark_cancelled(store, cancelled, workers, list(chosen.values()))
    if not selective:
        jobs.close()
    return outcome


class _CancelledJobs:
    """The SLURM jobs of cancelled submissions."""

    def __init__(self, directories: Sequence[SubmissionDirectory], runs: Collection[str] | None) -> None:
        from assay.launch.slurm.cancel import cancel_run_jobs

        self._runs = runs
        self._open = [directory for directory in directories if directory.live]
        for directory in self._open:
            cancel_run_jobs(directory, runs)
        self._left = list(self._open)
        self._next = 0.0

    @property
    def left(self) -> bool:
        """Whether SLURM still lists a cancelled job, queried every two seconds."""
        from assay.launch.slurm.cancel import list_queued_jobs

        if self._left and time.monotonic() >= self._next:
            self._left = [directory for directory in self._left if list_queued_jobs(directory, self._runs)]
            self._next = time.monotonic() + QUEUE_SECONDS
        return bool(self._left)

    def close(self) -> None:
        """Close the submissions."""
        for directory in self._open:
            directory.close(Closed(at=time.time(), decision=None))


def _held(store: Store, workers: Sequence[Worker], fingerprints: Collection[str]) -> bool:
    """Return whether a worker of this sweep still holds one of the runs."""
    active = {run for worker in workers if worker.process.alive for run in worker.runs}
    return any(fingerprint in active and store.run(fingerprint).claimed for fingerprint in fingerprints)


def _mark_cancelled(
    store: Store, cancelled: Sequence[SubmissionDirectory], workers: Sequence[Worker], runs: Sequence[SubmittedRun]
) -> Cancelled:
    """Mark the runs that no process holds as cancelled, and return the outcome."""
    stopped: list[str] = []
    kept: list[str] = []
    running: list[str] = []
    for run in runs:
        folder = store.run(run.fingerprint)
        if folder.status().ended:
            kept.append(run.label)
        else:
            (stopped if folder.cancel() else running).append(run.label)
    return Cancelled(
        submissions=tuple(directory.path.name for directory in cancelled),
        stopped=tuple(stopped),
        kept=tuple(kept),
        still_running=tuple(running),
        elsewhere=tuple(sorted({worker.process.host for worker in workers if not worker.process.on_this_host})),
    )
