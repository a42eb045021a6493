"""Calling off a sweep's runs: workers are told by a file, and by a signal where they are on this machine."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assay.errors import AssayError
from assay.files import exclusive
from assay.launch.children import GRACE_SECONDS
from assay.launch.records import Closed, SubmissionDirectory, SubmittedRun, Worker, submissions
from assay.store import ENDED

if TYPE_CHECKING:
    from assay.store import Store

WAIT_SECONDS = GRACE_SECONDS + 30
POLL_SECONDS = 0.1
ASK_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Cancelled:
    """What came of calling off."""

    submissions: tuple[str, ...]
    """Those that were still at work, or had runs left."""
    stopped: tuple[str, ...]
    """Labels of the runs that are now cancelled; submitting again goes on from their last checkpoints."""
    kept: tuple[str, ...]
    """Labels of runs that had ended before."""
    still_running: tuple[str, ...]
    """Labels of runs that somebody still holds: they take longer to stop, or another sweep wants them too."""
    elsewhere: tuple[str, ...]
    """Machines whose workers cannot be seen from here; they stop when they next look."""


def cancel(
    store: Store,
    sweep: str,
    *,
    mix: str | None = None,
    runs: Collection[str] | None = None,
    wait_seconds: float = WAIT_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Cancelled:
    """Stop a sweep's workers, or some of its runs; what is finished is kept.

    Args:
        store: where the sweep is.
        sweep: its name.
        mix: only the runs of this mix.
        runs: only these, by fingerprint.
        wait_seconds: how long to wait until they have stopped. They write a checkpoint first, and are killed if that
            takes them too long.
        clock: seconds, for the wait.
    """
    some = mix is not None or runs is not None
    chosen: dict[str, SubmittedRun] = {}
    told: list[SubmissionDirectory] = []
    unwritten: AssayError | None = None
    with exclusive(store.sweep(sweep) / "lock", wait=True):  # a submission that is being started is called off whole
        for directory in submissions(store, sweep):
            mine = [
                run
                for run in directory.wanted()
                if (mix is None or run.mix == mix) and (runs is None or run.fingerprint in runs)
            ]
            left = [run for run in mine if store.run(run.fingerprint).status().state not in ENDED]
            if mine and (left or directory.live):
                try:
                    directory.cancel([run.fingerprint for run in mine] if some else None)
                except AssayError as error:  # a full disk must not keep workers from being stopped
                    unwritten = error
                told.append(directory)
            chosen |= {run.fingerprint: run for run in mine}
    here = [directory for directory in told if not directory.on_cluster]
    workers = [worker for directory in here for worker in directory.workers() if worker.ended is None]
    if not some:
        for worker in workers:
            worker.process.send(signal.SIGTERM)
    jobs = _Jobs([directory for directory in told if directory.on_cluster], chosen if some else None)
    until = clock() + wait_seconds
    while clock() < until and (
        jobs.left or (_held(store, workers, chosen) if some else any(directory.live for directory in here))
    ):
        time.sleep(POLL_SECONDS)
    if unwritten is not None:
        stopped = (
            "Nothing was stopped." if some else "The workers were told to stop; the runs are not marked as cancelled."
        )
        raise AssayError(f"{unwritten.what} {stopped}", fix=unwritten.fix)
    done = _settle(store, told, workers, list(chosen.values()))
    if not some:
        jobs.close()
    return done


class _Jobs:
    """The jobs of submissions to a cluster that are called off."""

    def __init__(self, directories: Sequence[SubmissionDirectory], runs: Collection[str] | None) -> None:
        from assay.launch.slurm.cancel import take_back

        self._runs = runs
        self._open = [directory for directory in directories if directory.live]
        for directory in self._open:
            take_back(directory, runs)
        self._left = list(self._open)
        self._next = 0.0

    @property
    def left(self) -> bool:
        """Whether SLURM still has one of them; it is asked every two seconds."""
        from assay.launch.slurm.cancel import in_queue_still

        if self._left and time.monotonic() >= self._next:
            self._left = [directory for directory in self._left if in_queue_still(directory, self._runs)]
            self._next = time.monotonic() + ASK_SECONDS
        return bool(self._left)

    def close(self) -> None:
        """Mark the submissions as over."""
        for directory in self._open:
            directory.close(Closed(at=time.time(), decision=None))


def _held(store: Store, workers: Sequence[Worker], fingerprints: Collection[str]) -> bool:
    """Whether a worker of ours, and not another sweep's, still holds one of the runs."""
    taken = {run for worker in workers if worker.process.alive for run in worker.runs}
    return any(fingerprint in taken and store.run(fingerprint).claimed for fingerprint in fingerprints)


def _settle(
    store: Store, told: Sequence[SubmissionDirectory], workers: Sequence[Worker], runs: Sequence[SubmittedRun]
) -> Cancelled:
    """Mark what nobody works on as cancelled, and report."""
    stopped: list[str] = []
    kept: list[str] = []
    running: list[str] = []
    for run in runs:
        folder = store.run(run.fingerprint)
        if folder.status().state in ENDED:
            kept.append(run.label)
            continue
        with folder.claim() as held:
            if held:
                folder.update(state="cancelled", finished=time.time())
        (stopped if held else running).append(run.label)
    return Cancelled(
        submissions=tuple(directory.path.name for directory in told),
        stopped=tuple(stopped),
        kept=tuple(kept),
        still_running=tuple(running),
        elsewhere=tuple(sorted({worker.process.host for worker in workers if not worker.process.here})),
    )
