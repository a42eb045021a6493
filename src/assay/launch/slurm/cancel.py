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
    jobs = _arrays(directory) if runs is None else _tasks(directory, set(runs))
    there = in_queue(jobs) if jobs else {}
    found = sorted({job.split("_")[0] for job in there} if runs is None else set(jobs) & there.keys())
    for first in range(0, len(found), AT_ONCE):
        run(["scancel", *found[first : first + AT_ONCE]], timeout=COMMAND_SECONDS)
    return found


def in_queue_still(directory: SubmissionDirectory, runs: Collection[str] | None) -> bool:
    """Whether SLURM still has one of those jobs."""
    jobs = _arrays(directory) if runs is None else _tasks(directory, set(runs))
    return bool(jobs) and any(job in jobs or runs is None for job in in_queue(jobs))


def _arrays(directory: SubmissionDirectory) -> list[str]:
    ledger = Ledger(directory)
    return [handed.job for batch in ledger.batches() if (handed := ledger.handed(batch))]


def _tasks(directory: SubmissionDirectory, runs: set[str]) -> list[str]:
    """The tasks none of whose runs goes on."""
    ledger, found = Ledger(directory), []
    for batch in ledger.batches():
        handed = ledger.handed(batch)
        if handed is not None:
            found += [f"{handed.job}_{i}" for i, task in enumerate(batch.tasks) if task and set(task) <= runs]
    return found
