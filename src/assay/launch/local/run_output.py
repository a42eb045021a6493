"""Redirect the output of a run's process: log records, progress, and output of C libraries."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from assay.core.lease import LeaseLost
from assay.core.processes import this_host

log = logging.getLogger(__name__)


def log_to_stderr() -> None:
    """Print assay's log records and the warnings of other packages to standard error."""
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.WARNING, force=True)
    logging.getLogger("assay").setLevel(logging.INFO)


@contextlib.contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Redirect all output of this process to a file in the run's directory.

    The output includes crash tracebacks. After the process has lost the run's lease, its output returns to the previous
    destination.
    """
    before = os.dup(2)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    _redirect(handle)
    os.close(handle)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    faulthandler.enable(file=2)
    log_to_stderr()
    log.info("--- attempt on %s, process %d", this_host(), os.getpid())
    try:
        yield
    except LeaseLost:
        _redirect(before)
        raise
    finally:
        os.close(before)


def _redirect(handle: int) -> None:
    for number in (1, 2):
        os.dup2(handle, number)


class ProgressLog:
    """Progress reports in the log, at the start and the end of each build.

    Args:
        check: called before each report. An exception of `check` ends the work.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._begun: set[str] = set()

    def __call__(self, name: str, fraction: float) -> None:
        """Report the completed fraction of a build."""
        self._check()
        if fraction < 1 and name not in self._begun:
            self._begun.add(name)
            log.info("%s: begun", name)
        elif fraction >= 1 and name in self._begun:
            self._begun.remove(name)
            log.info("%s: done", name)
