"""A worker: takes a submission's runs in turn until nothing is left for it.

The one entry point that submitit is given, with a path and a number: what is pickled is a name, never code.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import AssayError
from assay.evaluate.offline import use_mirror
from assay.files import exclusive
from assay.launch.attempt import attempt_here, log_to_stderr
from assay.launch.records import SubmissionDirectory, Worker, recorded
from assay.launch.rounds import Rounds
from assay.processes import ProcessIdentity
from assay.study import Study

if TYPE_CHECKING:
    from assay.settings import Cluster

log = logging.getLogger(__name__)

GPUS = "ASSAY_GPUS"
"""The submitter's CUDA_VISIBLE_DEVICES, or `all`; submitit's local executor empties the variable itself."""

POLL_SECONDS = 0.5
"""How often a worker looks whether its run ended or was called off: one `stat` of a file that is rarely there."""


def work(folder: str, number: int) -> None:
    """Be a worker of a submission.

    Args:
        folder: the submission's folder.
        number: which of its workers this is.
    """
    directory = SubmissionDirectory(Path(folder))
    submission = directory.read()
    study = Study.parse(submission.study)
    cluster = study.cluster
    me = Worker(
        name=str(number),
        process=ProcessIdentity.of(os.getpid()),
        job=os.environ.get("SUBMITIT_LOCAL_JOB_ID", cluster.executor),
        started=time.time(),
    )
    with recorded(directory, me):
        if cluster.executor == "debug":
            _work_here(directory)
            return
        log_to_stderr()
        os.environ.update(worker_environment(cluster, number, os.environ))
        if submission.evaluation.tasks and study.paths.benchmarks is not None:
            with contextlib.suppress(AssayError):  # no mirror there: a run's failure, recorded when it comes to that
                use_mirror(study.paths.resolve(study.paths.benchmarks))
        with _stop_on_signals() as asked, _slot(directory, cluster, asked) as mine:
            if mine:
                # Workers that begin together begin with different runs, and don't fetch the same one to find it taken.
                first = number % len(submission.runs)
                runs = (*submission.runs[first:], *submission.runs[:first])
                Rounds(directory, me, runs, asked=asked).work()


def worker_environment(cluster: Cluster, number: int, inherited: Mapping[str, str]) -> dict[str, str]:
    """The variables of a worker's runs: threads, memory, GPUs.

    They are set before the server is started that runs are forked from, so that the allocator and the numerical
    libraries, which read them once, see them.

    Args:
        cluster: where the worker runs; its `environment` has the last word.
        number: which worker of the submission; the GPUs go round by it.
        inherited: the worker's own environment.
    """
    threads = ("OMP", "MKL", "OPENBLAS", "NUMBA", "RAYON")
    variables = {f"{library}_NUM_THREADS": str(cluster.cpus_per_worker) for library in threads}
    # The tokenizers warn of every fork where this is not said.
    variables["TOKENIZERS_PARALLELISM"] = "true" if cluster.cpus_per_worker > 1 else "false"
    # Asked whether there is a GPU, torch begins to use it, which a process that others are forked from must not;
    # asked this way, it looks at the driver only.
    variables["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    if GPUS in inherited or cluster.device == "cpu":
        variables["CUDA_VISIBLE_DEVICES"] = _gpus(cluster.device, number, inherited.get(GPUS, ""))
    return {**variables, **cluster.environment}


def _gpus(device: str, number: int, visible: str) -> str:
    if device == "cpu":
        return ""
    if visible == "all":
        found = sorted(int(path.name.removeprefix("nvidia")) for path in Path("/dev").glob("nvidia[0-9]*"))
        names = [str(index) for index in found]
    else:
        names = [name for name in visible.split(",") if name]
    return names[number % len(names)] if names and ":" not in device else ",".join(names)


def _work_here(directory: SubmissionDirectory) -> None:
    """Do all runs in this process, one after the other; an exception goes through to whoever debugs."""
    submission = directory.read()
    for run in submission.runs:
        if not directory.store.run(run.fingerprint).evaluated(submission.evaluation.fingerprint):
            attempt_here(directory, run.fingerprint)


@contextlib.contextmanager
def _stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Note the signals that ask a job to stop, in place of submitit's handlers, which end or requeue the process.

    SIGTERM is `assay cancel`'s, and a machine's that shuts down; SIGUSR2 is submitit's when the time is nearly up.
    """
    asked = False

    def note(number: int, frame: Any) -> None:
        nonlocal asked
        del number, frame
        asked = True

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _slot(directory: SubmissionDirectory, cluster: Cluster, asked: Callable[[], bool]) -> Iterator[bool]:
    """Be one of the cluster's `width` workers on this machine; further ones, of any sweep of the store, wait.

    More of them than cores would only share the same cores, and each would need its memory.

    Yields:
        Whether a place was had; not if the worker was asked to stop while it waited.
    """
    folder = directory.store.root / "slots" / socket.gethostname()
    while not asked() and not directory.all_called_off:
        for number in range(cluster.width):
            with exclusive(folder / str(number), wait=False) as held:
                if held:
                    yield True
                    return
        time.sleep(POLL_SECONDS)
    yield False
