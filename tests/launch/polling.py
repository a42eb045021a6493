"""Polling for the progress of other processes, with a timeout."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from assay.store.submissions import submissions

if TYPE_CHECKING:
    from collections.abc import Callable

    from assay.store.runs import RunDirectory, Status, Store

LONGEST = 240.0
"""Seconds; on an idle machine, each wait takes less than 15."""


def until(condition: Callable[[], object], what: str) -> None:
    """Return once a condition holds; fail after a timeout."""
    end = time.monotonic() + LONGEST
    while not condition():
        assert time.monotonic() < end, f"waited {LONGEST:.0f} s for: {what}"
        time.sleep(0.02)


def until_state(run: RunDirectory, *states: str) -> Status:
    """Return the status of a run once it is in one of these states."""
    until(lambda: run.status().state in states, f"{run.fingerprint[:8]} to be {' or '.join(states)}")
    return run.status()


def until_quiet(store: Store, sweep: str = "tiny") -> None:
    """Return once a sweep has no live worker."""
    until(lambda: not any(directory.live for directory in submissions(store, sweep)), "the workers to end")


def end_workers(store: Store, sweep: str = "tiny") -> None:
    """Kill all processes that a test has left running."""
    for directory in submissions(store, sweep):
        directory.cancel(None)
        for process in [*directory.jobs(), *(worker.process for worker in directory.workers())]:
            if process.pid != os.getpid():  # the debug executor's worker is this process
                process.send(signal.SIGKILL)
    until_quiet(store, sweep)
