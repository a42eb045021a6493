"""Run each run in a separate process, forked from a server that imported the libraries.

If a run's process is killed, exhausts its memory or raises an error, the worker and its other runs continue.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, NamedTuple

from assay.core.processes import keep_socket_paths_short, out_of_memory_kills
from assay.launch.local.run_failure import failure_of_process
from assay.launch.local.run_process import BUSY, FAILED, STOPPED, run_attempt, run_rank
from assay.store.submissions import SubmissionDirectory, SubmittedRun

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess

    from assay.store.runs import RunDirectory

POLL_SECONDS = 0.5
GRACE_SECONDS = 60.0
"""Seconds for a run's checkpoint after a stop request. After this time, the worker kills the run."""

PRELOADED = ("assay.launch.local.preload", "submitit.core.submission")
"""Modules that the server imports. submitit's module is the worker's main module, which each process imports again."""


class ProcessOutcome(NamedTuple):
    """The end of a run's process.

    Attributes:
        code: exit code of the process, or minus the number of the signal that ended it; None if it never started.
        stop_requested: whether the worker had requested the process to stop.
        out_of_memory: whether the kernel killed processes for lack of memory while the process ran.
    """

    code: int | None
    stop_requested: bool = False
    out_of_memory: bool = False

    @property
    def busy(self) -> bool:
        """Whether another process held the run."""
        return self.code == BUSY

    @property
    def stopped(self) -> bool:
        """Whether the process released the run for the next attempt."""
        return self.code == STOPPED or (self.stop_requested and self.code != 0)

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


class RunProcesses:
    """The processes of a worker. Threads of the worker start parallel runs."""

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
    ) -> ProcessOutcome:
        """Perform a run in a separate process, and ensure that its end is recorded.

        Args:
            directory: the submission.
            run: a run of the submission.
            stop: polled twice per second. If it returns true, the process is requested to stop, and killed after the
                grace period.
            environment: variables for this process only.
        """
        kills, folder = out_of_memory_kills(), directory.store.run(run.fingerprint)
        process = self._process(run_attempt, directory, run, environment)
        try:
            process.start()
        except (OSError, EOFError) as error:  # the server ended before its reply
            _record_end(folder, ProcessOutcome(None), f"no process could be started: {error or type(error).__name__}")
            return ProcessOutcome(None)
        outcome = self._until_ended(process, stop)._replace(out_of_memory=out_of_memory_kills() > kills)
        _record_end(folder, outcome, str(outcome))
        return outcome

    def help(
        self,
        directory: SubmissionDirectory,
        run: SubmittedRun,
        *,
        stop: Callable[[], bool],
        environment: Mapping[str, str],
    ) -> ProcessOutcome:
        """Run another rank of a run's training; see `attempt` for the arguments.

        This rank writes nothing.
        """
        process = self._process(run_rank, directory, run, environment)
        process.start()
        return self._until_ended(process, stop)

    def _process(
        self,
        target: Callable[[str, str, Mapping[str, str]], None],
        directory: SubmissionDirectory,
        run: SubmittedRun,
        environment: Mapping[str, str] | None,
    ) -> ForkServerProcess:
        arguments = (str(directory.path), run.fingerprint, dict(environment or {}))
        return self._context.Process(target=target, args=arguments, name=run.label)

    def _until_ended(self, process: ForkServerProcess, stop: Callable[[], bool]) -> ProcessOutcome:
        """Wait for the end of a process; request a stop, and kill it after the grace period.

        The stop is requested once `stop` returns true.
        """
        requested_at: float | None = None
        while not wait([process.sentinel], timeout=POLL_SECONDS):
            if requested_at is None and stop():
                requested_at = time.monotonic()
                process.terminate()
            elif requested_at is not None and time.monotonic() - requested_at > self._grace:
                process.kill()
        process.join()
        outcome = ProcessOutcome(process.exitcode, stop_requested=requested_at is not None)
        process.close()
        return outcome


def _start_server() -> None:
    """Start the server from which run processes are forked, with stop signals ignored.

    SLURM sends its signals to every process of a step. Without this setting, the signals would end the server, and with
    the server the runs, before the runs have written their checkpoints. Ignored signals stay ignored across `exec`.
    Each run handles the signals itself.
    """
    from multiprocessing import forkserver

    keep_socket_paths_short()
    if threading.current_thread() is not threading.main_thread():
        return  # only the main thread may set handlers; the server then ignores the signals after its first import
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGUSR2)}
    try:
        forkserver.ensure_running()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _record_end(folder: RunDirectory, outcome: ProcessOutcome, text: str) -> None:
    """Record the end of a process that could not record its own end."""
    if outcome.code in {0, BUSY, STOPPED}:
        return
    with folder.claim() as held:
        if not held or (outcome.code == FAILED and folder.status().failed):
            return
        if outcome.stopped:
            folder.release()
        else:
            folder.fail(failure_of_process(folder, outcome.code, text, out_of_memory=outcome.out_of_memory))


def _signal(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
