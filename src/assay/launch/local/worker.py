"""Run a worker process, which performs a submission's runs until no run is left.

submitit gets one entry point with a path and a number, so it pickles a name and no code.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.errors import NotFound
from assay.core.files import exclusive
from assay.core.processes import ProcessIdentity
from assay.evaluate.offline import use_mirror
from assay.launch.local.run_loop import RunLoop
from assay.launch.local.run_output import log_to_stderr
from assay.launch.local.run_process import debug_attempt
from assay.store.submissions import SubmissionDirectory, Worker, recorded

if TYPE_CHECKING:
    from assay.config.cluster import Cluster
    from assay.config.study import Study
    from assay.store.submissions import Submission

log = logging.getLogger(__name__)

GPUS = "ASSAY_GPUS"
"""The submitter's CUDA_VISIBLE_DEVICES, or `all`. submitit's local executor empties CUDA_VISIBLE_DEVICES."""

POLL_SECONDS = 0.5
"""Seconds between checks for the end or cancellation of a run. A check is one `stat` of a file that rarely exists."""


def work(folder: str, number: int) -> None:
    """Perform the work of one worker of a submission.

    Args:
        folder: folder of the submission.
        number: number of the worker.
    """
    directory = SubmissionDirectory(Path(folder))
    submission = directory.read()
    study = submission.frozen_study()
    cluster = study.cluster
    worker = Worker(
        name=str(number),
        process=ProcessIdentity.of(os.getpid()),
        job=os.environ.get("SUBMITIT_LOCAL_JOB_ID", cluster.executor),
        started=time.time(),
    )
    with recorded(directory, worker):
        if cluster.executor == "debug":
            for run in submission.runs:
                debug_attempt(directory, run.fingerprint)
            return
        log_to_stderr()
        os.environ.update(worker_environment(cluster, number, os.environ))
        use_benchmarks(submission, study)
        with _stop_on_signals() as stop_requested, _slot(directory, cluster, stop_requested) as has_slot:
            if has_slot:
                # Workers that start together start with different runs, so that they do not compete for one run.
                first = number % len(submission.runs)
                runs = (*submission.runs[first:], *submission.runs[:first])
                RunLoop(directory, worker, runs, asked=stop_requested).work()
            if has_slot and not stop_requested():
                _submit_next_stage(directory, study)


def _submit_next_stage(directory: SubmissionDirectory, study: Study) -> None:
    """Submit the next stage of the sweep, if the policy has stages and this worker ended the last run of a stage.

    A separate process loads the statistics. Its errors do not fail this worker, whose runs have ended well: `assay submit`
    repeats the step.
    """
    if study.policy.sequential_seeds is None:
        return
    command = [sys.executable, "-m", "assay.launch.seed_stages", str(directory.path.absolute())]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        log.error("the next stage could not be submitted (exit code %d); repeat with `assay submit`", done.returncode)


def use_benchmarks(submission: Submission, study: Study) -> None:
    """Read benchmark tasks from the study's mirror.

    If the mirror is missing, only the runs that need it fail.
    """
    if submission.evaluation.tasks and study.paths.benchmarks is not None:
        with contextlib.suppress(NotFound):
            use_mirror(study.paths.resolve(study.paths.benchmarks))


def worker_environment(cluster: Cluster, number: int, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a worker's runs: threads, memory, GPUs.

    The variables must be set before the start of the server from which runs are forked. The allocator and the numerical
    libraries read the variables only once.

    Args:
        cluster: the worker's cluster. The `environment` of the cluster overrides the other variables.
        number: number of the worker, by which GPUs are assigned round-robin.
        inherited: the worker's own environment.
    """
    threads = ("OMP", "MKL", "OPENBLAS", "NUMBA", "RAYON")
    variables = {f"{library}_NUM_THREADS": str(cluster.cpus_per_worker) for library in threads}
    # Without this variable, the tokenizers print a warning at every fork.
    variables["TOKENIZERS_PARALLELISM"] = "true" if cluster.cpus_per_worker > 1 else "false"
    # By default, torch initializes the GPU to detect it. A process with forked children must not initialize the GPU.
    # With this variable, torch only queries the driver.
    variables["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    if GPUS in inherited or cluster.device == "cpu":
        variables["CUDA_VISIBLE_DEVICES"] = _gpus(cluster.device, number, inherited.get(GPUS, ""))
    return {**variables, **cluster.environment}


def _gpus(device: str, number: int, visible: str) -> str:
    if device == "cpu":
        return ""
    if visible == "all":
        indices = sorted(int(path.name.removeprefix("nvidia")) for path in Path("/dev").glob("nvidia[0-9]*"))
        names = [str(index) for index in indices]
    else:
        names = [name for name in visible.split(",") if name]
    return names[number % len(names)] if names and ":" not in device else ",".join(names)


@contextlib.contextmanager
def _stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Record the signals that request a job to stop.

    submitit's own handlers would end or requeue the process. `assay cancel` and a machine shutdown send SIGTERM.
    submitit sends SIGUSR2 shortly before the time limit.
    """
    stop_requested = False

    def note(number: int, frame: Any) -> None:
        nonlocal stop_requested
        del number, frame
        stop_requested = True

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)}
    try:
        yield lambda: stop_requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _slot(directory: SubmissionDirectory, cluster: Cluster, stop_requested: Callable[[], bool]) -> Iterator[bool]:
    """Occupy one of the cluster's `width` worker slots on this machine, or wait for a slot.

    Workers of all sweeps of the store share the slots. More workers than slots would share the same cores, and each
    worker would need its own memory.

    Yields:
        Whether a slot is occupied; false if the worker was requested to stop while it waited.
    """
    folder = directory.store.root / "slots" / socket.gethostname()
    while not stop_requested() and not directory.all_cancelled:
        for number in range(cluster.width):
            with exclusive(folder / str(number), wait=False) as held:
                if held:
                    yield True
                    return
        time.sleep(POLL_SECONDS)
    yield False
