"""Loop over the runs of a worker, several of them in parallel."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

from assay.launch.local.process_pool import GRACE_SECONDS, RunProcesses
from assay.store.submissions import SubmissionDirectory, SubmittedRun, Worker

log = logging.getLogger(__name__)

PAUSE_SECONDS = 2.0
"""Seconds between two passes while other processes hold the remaining runs."""
POLL_SECONDS = 0.2


RunContext = Callable[[SubmittedRun], AbstractContextManager[Mapping[str, str]]]


def alone(run: SubmittedRun) -> AbstractContextManager[Mapping[str, str]]:
    """Provide the context of a run that one process trains."""
    del run
    return nullcontext({})


class RunLoop:
    """The loop over a worker's runs, until no run is left.

    A later pass performs runs that other processes released.
    """

    def __init__(
        self,
        directory: SubmissionDirectory,
        worker: Worker,
        runs: Sequence[SubmittedRun],
        *,
        asked: Callable[[], bool],
        places: Sequence[Mapping[str, str]] = ({},),
        patient: bool = False,
        turn: RunContext = alone,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        """Prepare the loop.

        Args:
            directory: the submission.
            worker: the worker, whose record names its current runs.
            runs: the worker's runs, in order.
            asked: returns whether the worker was requested to stop.
            places: environment variables for each parallel run.
            patient: whether to wait for runs that other processes hold, because these may release the runs. On one
                machine, the other workers continue such runs. The runs of a SLURM job have no other worker.
            turn: the context of each run, which yields variables for its process.
            grace_seconds: seconds that a run has to stop.
        """
        self.directory = directory
        self.submission = directory.read()
        self.worker = worker
        self.runs = tuple(runs)
        self.asked = asked
        self.patient = patient
        self.turn = turn
        self.processes = RunProcesses(grace_seconds=grace_seconds)
        self._places: queue.SimpleQueue[Mapping[str, str]] = queue.SimpleQueue()
        for place in places:
            self._places.put(place)
        self._parallel = len(places)
        self._attempted: set[str] = set()
        self._active: tuple[str, ...] = ()
        self._writing = threading.Lock()

    def work(self) -> None:
        """Repeat passes over the runs until none is left or a stop is requested."""
        while not self._stopped():
            if not self._perform_all():
                if not (self.patient and any(map(self._is_left, self.runs))):
                    return
                self._pause()

    def _perform_all(self) -> bool:
        """Make one pass over the runs; return whether any was attempted."""
        with ThreadPoolExecutor(self._parallel) as pool:
            return any(list(pool.map(self._perform, self.runs)))

    def _perform(self, run: SubmittedRun) -> bool:
        """Attempt a run that needs work; return whether the run was attempted."""
        if self._stopped() or not self._is_left(run) or self.directory.store.run(run.fingerprint).claimed:
            return False
        place = self._places.get()
        try:
            self._record(*self._active, run.fingerprint)
            log.info("%s %s begins", run.label, run.fingerprint[:12])
            stop = partial(self._stop_requested, run.fingerprint)
            with self.turn(run) as variables:
                outcome = self.processes.attempt(self.directory, run, stop=stop, environment={**place, **variables})
            log.info("%s %s %s", run.label, run.fingerprint[:12], outcome)
            self._record(*(other for other in self._active if other != run.fingerprint))
        finally:
            self._places.put(place)
        if outcome.busy:
            return False
        self._attempted.add(run.fingerprint)
        return True

    def _record(self, *active: str) -> None:
        with self._writing:
            self._active = active
            self.directory.record_worker(replace(self.worker, runs=active))

    def _is_left(self, run: SubmittedRun) -> bool:
        """Return whether a run needs work and was not attempted here.

        A failed run waits for another submission.
        """
        folder = self.directory.store.run(run.fingerprint)
        return not (
            run.fingerprint in self._attempted
            or self.directory.is_cancelled(run.fingerprint)
            or folder.evaluated(self.submission.evaluation.fingerprint)
            or folder.status().failed
        )

    def _pause(self) -> None:
        until = time.monotonic() + PAUSE_SECONDS
        while time.monotonic() < until and not self._stopped():
            time.sleep(POLL_SECONDS)

    def _stop_requested(self, fingerprint: str) -> bool:
        return self.asked() or self.directory.is_cancelled(fingerprint)

    def _stopped(self) -> bool:
        return self.asked() or self.directory.all_cancelled
