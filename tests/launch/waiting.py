"""Waiting for what other processes do: until it is so, and never for ever."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from assay.launch.records import submissions

if TYPE_CHECKING:
    from collections.abc import Callable

    from assay.store import RunDirectory, Status, Store

LONGEST = 240.0
"""Seconds; on an idle machine everything that is waited for takes below 15."""


def until(condition: Callable[[], object], what: str) -> None:
    """Come back once a condition holds; fail if it takes too long."""
    end = time.monotonic() + LONGEST
    while not condition():
        assert time.monotonic() < end, f"waited {LONGEST:.0f} s for: {what}"
        time.sleep(0.02)


def until_state(run: RunDirectory, *states: str) -> Status:
    """Come back once a run is in one of these states, with its status."""
    until(lambda: run.status().state in states, f"{run.fingerprint[:8]} to be {' or '.join(states)}")
    return run.status()


def until_quiet(store: Store, sweep: str = "tiny") -> None:
    """Come back once no worker of a sweep is left."""
    until(lambda: not any(directory.live for directory in submissions(store, sweep)), "the workers to end")


def end_workers(store: Store, sweep: str = "tiny") -> None:
    """Whatever a test has left running, killed."""
    for directory in submissions(store, sweep):
        directory.cancel(None)
        for process in [*directory.jobs(), *(worker.process for worker in directory.workers())]:
            if process.pid != os.getpid():  # which is the worker, where everything was done here
                process.send(signal.SIGKILL)
    until_quiet(store, sweep)
