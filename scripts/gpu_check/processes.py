"""Processes of jobs: forked from a server that has imported torch and transformers, as assay's workers do it."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from assay.core.processes import keep_socket_paths_short
from assay.launch.local.stop_request import end_with_parent
from scripts.gpu_check.jobs import Figures, Job, Place, perform

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess

PRELOADED = ["assay.train.loop", "assay.corpus.loader", "transformers"]
LOG_LINES = 15
ENVIRONMENT = {
    # By default torch initializes the GPU to detect it, after which a forked process cannot use it.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Nothing is downloaded.
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
}


class JobResult(NamedTuple):
    """The end of a job.

    Attributes:
        figures: what it measured; empty if it failed.
        problem: why it failed, with the end of its log; `None` if it did not.
    """

    figures: Figures
    problem: str | None


class JobProcesses:
    """Starter of job processes. Creating it sets the environment, which the server of the processes inherits."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._started = 0
        os.environ.update(ENVIRONMENT)
        # Every check compiles anew, so that the time to the first step does not depend on earlier checks.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(place.work / "inductor")
        os.environ["TRITON_CACHE_DIR"] = str(place.work / "triton")
        # Only one GPU is used, also by transformers' Trainer, which spreads a batch over all visible ones.
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        for library in ("OMP", "MKL", "OPENBLAS"):
            os.environ.setdefault(f"{library}_NUM_THREADS", str(place.threads))
        paths = [path for path in sys.path if path]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
        keep_socket_paths_short()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)

    def run(self, jobs: Sequence[Job], *, seconds: float) -> list[JobResult]:
        """Run jobs at the same time; kill those that have not ended after a number of seconds."""
        began = time.monotonic()
        started = [self._start(job) for job in jobs]
        try:
            late = _wait_until([process for process, _ in started], began + seconds)
        finally:
            for process, _ in started:
                _kill(process)  # also the helpers of a job that has ended
        return [_result(process, folder, seconds if process in late else None) for process, folder in started]

    def _start(self, job: Job) -> tuple[ForkServerProcess, Path]:
        self._started += 1
        folder = self._place.work / "jobs" / str(self._started)
        folder.mkdir(parents=True)
        process = self._context.Process(target=_work, args=(job, self._place, str(folder)))
        process.start()
        return process, folder


def _work(job: Job, place: Place, folder: str) -> None:
    """Perform a job in its own process and process group; its output goes to a file."""
    os.setpgid(0, 0)  # helpers that it starts, such as compilers, are killed together with it
    end_with_parent()
    log = os.open(Path(folder) / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    try:
        figures = perform(job, place)
    except BaseException:  # noqa: BLE001  # the process's outermost handler: the log has every error
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    (Path(folder) / "figures.json").write_text(json.dumps(figures), encoding="utf-8")
    os._exit(0)  # without waiting for threads of libraries


def _wait_until(processes: list[ForkServerProcess], deadline: float) -> list[ForkServerProcess]:
    """Wait for processes to end; return those that have not ended at the deadline."""
    left = list(processes)
    while left and (seconds := deadline - time.monotonic()) > 0:
        ended = wait([process.sentinel for process in left], timeout=seconds)
        left = [process for process in left if process.sentinel not in ended]
    return left


def _kill(process: ForkServerProcess) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)
    process.kill()
    process.join()


def _result(process: ForkServerProcess, folder: Path, late: float | None) -> JobResult:
    """Read what a job left; `late` is the time limit that it exceeded."""
    file, log = folder / "figures.json", folder / "log"
    if late is None and process.exitcode == 0:
        return JobResult(json.loads(file.read_text(encoding="utf-8")), None)
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    reason = f"ended with code {process.exitcode}" if late is None else f"stopped after {late:.0f} s, its time limit"
    return JobResult({}, "\n".join([reason, *lines[-LOG_LINES:]]))
