"""Describe failures of runs, from an exception or from the end of the run's process."""

from __future__ import annotations

import errno
import signal
import sys
import traceback
from typing import TYPE_CHECKING

from assay.core.errors import AssayError
from assay.core.log_tail import last_lines
from assay.store.runs import Failure

if TYPE_CHECKING:
    from assay.store.runs import RunDirectory

MAX_MESSAGE = 600
"""Maximum number of characters of an exception's message in a status."""


def record_exception(run: RunDirectory, error: Exception) -> None:
    """Print an exception's traceback, and fail the run with its class and message."""
    traceback.print_exception(error)
    sys.stderr.flush()
    text = " ".join(str(error).split()) or type(error).__name__
    if len(text) > MAX_MESSAGE:
        text = text[: MAX_MESSAGE - 3] + "..."
    printed = str(run.log) if run.log.exists() else None
    run.fail(Failure(kind=_kind(error), message=text, log=printed))


def _kind(error: Exception) -> str:
    """Return a short class for grouping failures.

    torch reports lack of memory only in the message.
    """
    name, text = type(error).__name__, str(error)
    if isinstance(error, MemoryError) or name == "OutOfMemoryError" or "can't allocate memory" in text:
        return "out of memory"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "disk full"
    return "error" if isinstance(error, AssayError) else name


def failure_of_process(run: RunDirectory, code: int | None, outcome: str, *, out_of_memory: bool) -> Failure:
    """Describe the end of a process that recorded no failure.

    Args:
        run: the run of the process.
        code: exit code of the process, or minus the number of the signal that killed it; None if it never started.
        outcome: end of the process, as the predicate of a sentence.
        out_of_memory: whether the kernel killed processes for lack of memory while the process ran.
    """
    printed = last_lines(run.log, 1)
    last = f"; it last printed: {printed[-1]}" if printed else ""
    kind, message = "ended without a word", f"the run's process {outcome}"
    if code == -signal.SIGKILL and out_of_memory:
        kind, message = "out of memory", "the kernel killed it for lack of memory"
    elif code is not None and code < 0:
        kind = "killed"
    return Failure(kind=kind, message=f"{message}{last}", log=str(run.log))
