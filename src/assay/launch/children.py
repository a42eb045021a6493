"""The processes that do runs: one each, forked from a server that has imported the heavy libraries once.

A run's process can be killed, run out of memory or raise; the worker and its other runs go on.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, NamedTuple

from assay.launch.attempt import BUSY, FAILED, STOPPED, attempt_in_child, help_in_child
from assay.launch.records import SubmissionDirectory, SubmittedRun, trained
from assay.processes import out_of_memory_kills
from assay.store import ACTIVE, Failure
from assay.tails import last_lines

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess

    from assay.store import RunDirectory

POLL_SECONDS = 0.5
GRACE_SECONDS = 60.0
"""What a run has to write a checkpoint in, once it was asked to stop; then it is killed, and its last checkpoint counts."""

PRELOADED = ("assay.launch.preload", "submitit.core.submission")
"""submitit's module is the worker's main one, which each of its processes imports again."""


class Ended(NamedTuple):
    """How a run's process ended.

    Attributes:
        code: its exit code; minus the signal's number where a signal ended it, ``None`` where it never began.
        asked: whether the worker had asked it to stop.
        starved: whether the kernel killed something for want of memory meanwhile.
    """

    code: int | None
    asked: bool = False
    starved: bool = False

    @property
    def busy(self) -> bool:
        """Whether another process had the run."""
        return self.code == BUSY

    @property
    def stopped(self) -> bool:
        """Whether it gave the run back, to be gone on with."""
        return self.code == STOPPED or (self.asked and self.code != 0)

    def __str__(self) -> str:
        if self.busy:
            return "is another worker's"
        if self.stopped:
            return "was stopped"
        if self.code is None:
            return "could not be started"
        if self.code < 0:
            return f"was killed ({_signal(self.code)})"
        return {0: "ended", FAILED: "failed"}.get(self.code, f"ended with exit code {self.code}")


class Children:
    """A worker's processes; those of runs that are done side by side come from threads of the worker."""

    def __init__(self, *, grace_seconds: float = GRACE_SECONDS) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(PRELOADED))
        self._grace = grace_seconds
        _start_server()

    def attempt(
        self,
        directory: SubmissionDirectory,
        run: SubmittedRun,
        *,
        stop: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
    ) -> Ended:
        """Do a run in a process of its own, and see to it that its status tells how that ended.

        Args:
            directory: the submission.
            run: one of its runs.
            stop: asked twice a second; once it says so, the process is asked to stop, and killed if it doesn't.
            environment: variables of this process alone.
        """
        kills, folder = out_of_memory_kills(), directory.store.run(run.fingerprint)
        process = self._process(attempt_in_child, directory, run, environment)
        try:
            process.start()
        except (OSError, EOFError) as error:  # the server ended before it answered
            _settle(folder, Ended(None), f"no process could be started: {error or type(error).__name__}")
            return Ended(None)
        asked = self._until_ended(process, stop)
        ended = Ended(process.exitcode, asked=asked, starved=out_of_memory_kills() > kills)
        process.close()
        _settle(folder, ended, str(ended))
        return ended

    def help(
        self,
        directory: SubmissionDirectory,
        run: SubmittedRun,
        *,
        stop: Callable[[], bool],
        environment: Mapping[str, str],
    ) -> Ended:
        """Be one of the further ranks that train a run; arguments as those of `attempt`, nothing is written."""
        process = self._process(help_in_child, directory, run, environment)
        process.start()
        asked = self._until_ended(process, stop)
        ended = Ended(process.exitcode, asked=asked)
        process.close()
        return ended

    def _process(
        self,
        target: Callable[[str, str, Mapping[str, str]], None],
        directory: SubmissionDirectory,
        run: SubmittedRun,
        environment: Mapping[str, str] | None,
    ) -> ForkServerProcess:
        arguments = (str(directory.path), run.fingerprint, dict(environment or {}))
        return self._context.Process(target=target, args=arguments, name=run.label)

    def _until_ended(self, process: ForkServerProcess, stop: Callable[[], bool]) -> bool:
        """Wait for a process' end, once asked to by asking it to stop; returns whether it was."""
        asked_at: float | None = None
        while not wait([process.sentinel], timeout=POLL_SECONDS):
            if asked_at is None and stop():
                asked_at = time.monotonic()
                process.terminate()
            elif asked_at is not None and time.monotonic() - asked_at > self._grace:
                process.kill()
        process.join()
        return asked_at is not None


def _start_server() -> None:
    """Start the server that runs are forked from, deaf to what asks a job to stop.

    SLURM sends its signals to every process of a step. The server would end, and take the runs along before they
    have written their checkpoints. What is ignored stays so across `exec`; each run listens for itself.
    """
    from multiprocessing import forkserver

    if threading.current_thread() is not threading.main_thread():
        return  # only the main thread may; the server then ignores them once it has imported the first module
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGUSR2)}
    try:
        forkserver.ensure_running()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _settle(folder: RunDirectory, ended: Ended, what: str) -> None:
    """Write down the end of a process that could not do so itself."""
    if ended.code in {0, BUSY, STOPPED}:
        return
    with folder.claim() as held:
        state = folder.status().state
        if not held or (ended.code == FAILED and state in {"failed", "diverged"}):
            return
        if ended.stopped:
            if state in ACTIVE:
                folder.update(state="trained" if trained(folder) else "queued")
            return
        folder.update(state="failed", finished=time.time(), failure=_explain(folder, ended, what))


def _explain(folder: RunDirectory, ended: Ended, what: str) -> Failure:
    """What is known of a process that ended without a word."""
    said = last_lines(folder.log, 1)
    last = f"; it last printed: {said[-1]}" if said else ""
    if ended.code == -signal.SIGKILL and ended.starved:
        return Failure(
            kind="out of memory", message=f"the kernel killed it for want of memory{last}", log=str(folder.log)
        )
    kind = "killed" if ended.code is not None and ended.code < 0 else "ended without a word"
    return Failure(kind=kind, message=f"the run's process {what}{last}", log=str(folder.log))


def _signal(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
