"""Handle stop requests for the process of a run, and end the process with its worker."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing.connection import wait
from typing import Any

PR_SET_PDEATHSIG = 1
"""prctl(2)."""


class StopRequested(BaseException):
    """Raised after a stop request, during work that the next attempt repeats.

    This class is not an `Exception`, because only the entry point of the process may catch it.
    """


class StopRequest:
    """A request to stop this process.

    Training polls the request after each step. All other work ends at once.
    """

    def __init__(self) -> None:
        self.received = False
        self._at_once = True

    def __call__(self) -> bool:
        """Return whether the process must stop."""
        return self.received

    def listen(self) -> None:
        """Handle SIGTERM as a stop request. A signal that arrived since the fork counts.

        The worker receives the other signals of a job. If the runs must stop, the worker sends SIGTERM.
        """
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # see `assay.launch.local.preload`

    def _note(self, number: int, frame: Any) -> None:
        del number, frame
        first, self.received = not self.received, True
        # Raise once: both SLURM and the worker send the signal, and the cleanup after the first signal must complete.
        if self._at_once and first:
            raise StopRequested

    @contextlib.contextmanager
    def polled(self) -> Iterator[None]:
        """Let the block poll for the request, and raise after the block instead of at once."""
        self._at_once = False
        try:
            yield
        finally:
            self._at_once = True
        if self.received:
            raise StopRequested


def end_with_parent() -> None:
    """Let the kernel kill this process when its worker ends.

    Otherwise a stale process could write next to a second attempt. The kernel reports the end of the server that forked
    this process. The closed pipe of the worker reports the worker's end.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    parent = multiprocessing.parent_process()
    assert parent is not None, "multiprocessing started this process"

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()
