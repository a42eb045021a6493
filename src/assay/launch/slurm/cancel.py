"""Cancel the jobs of cancelled runs."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from assay.launch.slurm.batches import Ledger
from assay.launch.slurm.queue import cancel_jobs

if TYPE_CHECKING:
    from assay.store.submissions import SubmissionDirectory


def cancel_run_jobs(directory: SubmissionDirectory, runs: Collection[str] | None) -> set[str]:
    """Cancel the jobs of runs, and return the ids of the jobs.

    Raises:
        Unreachable: SLURM does not answer.
    """
    jobs = list_queued_jobs(directory, runs)
    cancel_jobs(jobs)
    return jobs


def list_queued_jobs(directory: SubmissionDirectory, runs: Collection[str] | None) -> set[str]:
    """List the queued jobs of runs.

    The result omits jobs that also contain runs to keep. Such a job checks twice per second for cancelled runs.

    Args:
        directory: the submission.
        runs: fingerprints of the runs; None for all jobs of the submission, as array ids.
    """
    tasks = {task.job: task.items for task in Ledger(directory).queued_tasks() if task.job is not None}
    if runs is None:
        return {job.partition("_")[0] for job in tasks}
    return {job for job, items in tasks.items() if items and set(items) <= set(runs)}
