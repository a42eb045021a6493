"""Taking back the jobs of runs that were called off."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING

from assay.launch.slurm.commands import run
from assay.launch.slurm.ledger import Ledger
from assay.launch.slurm.queue import in_queue

if TYPE_CHECKING:
    from assay.launch.records import SubmissionDirectory

log = logging.getLogger(__name__)

COMMAND_SECONDS = 60.0
AT_ONCE = 500
"""Jobs that one scancel is told of; a command line holds some ten thousand."""


def take_back(directory: SubmissionDirectory, runs: Collection[str] | None) -> list[str]:
    """Cancel the jobs of runs, or all of a submission's.

    A job whose other runs go on is left; it looks twice a second whether one of its runs was called off.

    Args:
        directory: the submission.
        runs: fingerprints; ``None`` for all of it.

    Returns:
        The jobs and tasks that were cancelled.

    Raises:
        Unreachable: SLURM does not answer.
    """
    found = sorted(_there(directory, runs))
    for first in range(0, len(found), AT_ONCE):
        run(["scancel", *found[first : first + AT_ONCE]], timeout=COMMAND_SECONDS)
    return found


def in_queue_still(directory: SubmissionDirectory, runs: Collection[str] | None) -> bool:
    """Whether SLURM still has one of those jobs."""
    return bool(_there(directory, runs))


def _there(directory: SubmissionDirectory, runs: Collection[str] | None) -> set[str]:
    """The arrays, or the tasks none of whose runs goes on, that are in the queue."""
    ledger = Ledger(directory)
    jobs = ledger.jobs()
    queue = in_queue(jobs) if jobs else {}
    if runs is None:
        return {job.partition("_")[0] for job in queue}
    chosen = set(runs)
    tasks = set[str]()
    for batch in ledger.batches():
        if handed := ledger.handed(batch):
            tasks |= {f"{handed.job}_{i}" for i, task in enumerate(batch.tasks) if task and set(task) <= chosen}
    return tasks & queue.keys()
