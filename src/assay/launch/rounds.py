"""Rounds over runs: what a worker does with those that it has, side by side and one after the other."""

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

from assay.launch.attempt import FINAL
from assay.launch.children import GRACE_SECONDS, Children
from assay.launch.records import SubmissionDirectory, SubmittedRun, Worker

log = logging.getLogger(__name__)

PAUSE_SECONDS = 2.0
"""Between looks at runs that somebody else has."""
POLL_SECONDS = 0.2


Turns = Callable[[SubmittedRun], AbstractContextManager[Mapping[str, str]]]


def alone(run: SubmittedRun) -> AbstractContextManager[Mapping[str, str]]:
    """A run that one process does."""
    del run
    return nullcontext({})


class Rounds:
    """Goes over runs until nothing is left to be done here; what others gave up meanwhile is done in a later round."""

    def __init__(
        self,
        directory: SubmissionDirectory,
        me: Worker,
        runs: Sequence[SubmittedRun],
        *,
        asked: Callable[[], bool],
        places: Sequence[Mapping[str, str]] = ({},),
        patient: bool = False,
        turn: Turns = alone,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        """Get ready.

        Args:
            directory: the submission.
            me: the worker, whose record says what it is at.
            runs: what it may do, in this order.
            asked: whether it is to stop.
            places: environment variables of each of the runs that are done side by side.
            patient: whether to wait for runs that somebody else has: they may be given up. On one machine the
                other workers see to that; a job's runs are nobody else's.
            turn: what has to be around each run, and the variables that its process gets from there.
            grace_seconds: what a run has to stop in.
        """
        self.directory = directory
        self.submission = directory.read()
        self.me = me
        self.runs = tuple(runs)
        self.asked = asked
        self.patient = patient
        self.turn = turn
        self.children = Children(grace_seconds=grace_seconds)
        self._places: queue.SimpleQueue[Mapping[str, str]] = queue.SimpleQueue()
        for place in places:
            self._places.put(place)
        self._at_once = len(places)
        self._tried: set[str] = set()
        self._now: tuple[str, ...] = ()
        self._writing = threading.Lock()

    def work(self) -> None:
        """Go round until nothing is left, or until asked to stop."""
        while not self._stopped():
            if not self._round():
                if not (self.patient and any(map(self._left, self.runs))):
                    return
                self._pause()

    def _round(self) -> bool:
        with ThreadPoolExecutor(self._at_once) as pool:
            return any(list(pool.map(self._take, self.runs)))

    def _take(self, run: SubmittedRun) -> bool:
        """Do a run, if it is to be done; returns whether it was."""
        if self._stopped() or not self._left(run) or self.directory.store.run(run.fingerprint).claimed:
            return False
        place = self._places.get()
        try:
            self._record(*self._now, run.fingerprint)
            log.info("%s %s begins", run.label, run.fingerprint[:12])
            stop = partial(self._stop_asked, run.fingerprint)
            with self.turn(run) as more:
                ended = self.children.attempt(self.directory, run, stop=stop, environment={**place, **more})
            log.info("%s %s %s", run.label, run.fingerprint[:12], ended)
            self._record(*(other for other in self._now if other != run.fingerprint))
        finally:
            self._places.put(place)
        if ended.busy:
            return False
        self._tried.add(run.fingerprint)
        return True

    def _record(self, *now: str) -> None:
        with self._writing:
            self._now = now
            self.directory.record_worker(replace(self.me, runs=now))

    def _left(self, run: SubmittedRun) -> bool:
        """Whether a run is to be done, and was not tried here; one that failed waits for whoever submits again."""
        folder = self.directory.store.run(run.fingerprint)
        return not (
            run.fingerprint in self._tried
            or self._called_off(run.fingerprint)
            or folder.evaluated(self.submission.evaluation.fingerprint)
            or folder.status().state in FINAL
        )

    def _pause(self) -> None:
        until = time.monotonic() + PAUSE_SECONDS
        while time.monotonic() < until and not self._stopped():
            time.sleep(POLL_SECONDS)

    def _stop_asked(self, fingerprint: str) -> bool:
        return self.asked() or self._called_off(fingerprint)

    def _stopped(self) -> bool:
        return self.asked() or self.directory.all_called_off

    def _called_off(self, fingerprint: str) -> bool:
        called_off = self.directory.cancellation
        return called_off is not None and called_off.covers(fingerprint)
