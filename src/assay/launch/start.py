"""`python -m assay.launch.start SUBMISSION`: hands a submission to submitit, and ends."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import submitit

from assay.launch.records import SubmissionDirectory
from assay.launch.submission import job_parameters
from assay.launch.worker import GPUS, work
from assay.processes import ProcessIdentity
from assay.study import Study


def start(directory: SubmissionDirectory) -> list[ProcessIdentity]:
    """Start a submission's workers on this machine; they outlive this process.

    Args:
        directory: the submission.

    Returns:
        submitit's processes, one for each worker; their pids are submitit's names of the jobs.
    """
    submission = directory.read()
    # submitit's local executor hides all GPUs but those it is told of; the worker shares out the caller's.
    os.environ[GPUS] = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    executor = submitit.LocalExecutor(folder=directory.submitit)
    executor.update_parameters(**job_parameters(Study.parse(submission.study).cluster))
    processes = []
    for number in range(submission.workers):
        job = executor.submit(work, str(directory.path), number)
        with contextlib.suppress(ProcessLookupError):  # it may have ended already
            processes.append(ProcessIdentity.of(int(job.job_id)))
        directory.record_jobs(processes)
    return processes


if __name__ == "__main__":
    _directory = SubmissionDirectory(Path(sys.argv[1]))
    if _directory.read().executor == "slurm":
        from assay.launch.slurm.start import start_on_cluster

        start_on_cluster(_directory)
    else:
        start(_directory)
