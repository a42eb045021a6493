"""Start a submission with submitit or SLURM: `python -m assay.launch.start SUBMISSION`."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import submitit

from assay.core.processes import ProcessIdentity
from assay.launch.local.worker import GPUS, work
from assay.store.submissions import SubmissionDirectory

if TYPE_CHECKING:
    from assay.config.cluster import Cluster


def start(directory: SubmissionDirectory) -> list[ProcessIdentity]:
    """Start a submission's workers on this machine. The workers outlive this process.

    Args:
        directory: the submission.

    Returns:
        submitit's processes, one per worker. Their process ids are submitit's job names.
    """
    submission = directory.read()
    # submitit's local executor hides GPUs that it does not assign. The worker assigns the caller's GPUs.
    # A worker that submits the next stage has the variable of its own submitter.
    os.environ.setdefault(GPUS, os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
    executor = submitit.LocalExecutor(folder=directory.submitit)
    executor.update_parameters(**job_parameters(submission.frozen_study().cluster))
    processes = []
    for number in range(submission.workers):
        job = executor.submit(work, str(directory.path), number)
        with contextlib.suppress(ProcessLookupError):  # the process may have ended
            processes.append(ProcessIdentity.of(int(job.job_id)))
        directory.record_jobs(processes)
    return processes


def job_parameters(cluster: Cluster) -> dict[str, float]:
    """Return the parameters of a local job in submitit's terms."""
    minutes = cluster.timeout_hours * 60
    # Two minutes to stop: a checkpoint takes seconds, and an unfinished evaluation is abandoned.
    return {"timeout_min": minutes, "signal_delay_s": min(120, int(minutes * 30))}


if __name__ == "__main__":
    _directory = SubmissionDirectory(Path(sys.argv[1]))
    if _directory.read().executor == "slurm":
        from assay.launch.slurm.submit import submit_to_cluster

        submit_to_cluster(_directory)
    else:
        start(_directory)
