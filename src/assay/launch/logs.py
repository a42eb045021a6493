"""Find the logs of runs and of their jobs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from assay.core.errors import NotFound
from assay.core.log_tail import last_lines
from assay.store.runs import RunDirectory, Store


def log_of(store: Store, run: str | RunDirectory) -> Path:
    """Return the path of the log of a run's process, or else of its SLURM job.

    Args:
        store: the store of the run.
        run: the run, or the first digits of its fingerprint.

    Raises:
        AssayError: the prefix matches no run or several runs, or the run has no log yet.
    """
    folder = store.find(run) if isinstance(run, str) else run
    if folder.log.exists():
        return folder.log
    jobs = [path for path in _job_logs(store, folder.fingerprint) if path.exists()]
    if not jobs:
        raise NotFound(
            f"run {folder.fingerprint[:12]} has no log. Either no worker has started the run, or the"
            " debug executor ran it and printed to its own terminal.",
            fix="Show the state of the run with `assay status`.",
        )
    return jobs[-1]


def _job_logs(store: Store, fingerprint: str) -> Iterator[Path]:
    """List the logs of the jobs that were assigned a run, the oldest first."""
    from assay.launch.slurm.batches import Ledger
    from assay.store.submissions import SubmissionDirectory

    for path in sorted((store.root / "sweeps").glob("*/submissions/*/batches"), key=lambda path: path.parent.name):
        directory = SubmissionDirectory(path.parent)
        task = Ledger(directory).newest_tasks().get(fingerprint)
        if task is not None and task.job is not None:
            yield directory.job_log(task.job)


def line_that_matters(log: Path) -> str | None:
    """Return the last line that names an exception, or else the last line; None if empty."""
    printed = last_lines(log, 200)
    lines = [line for line in printed if not _AFTERMATH.match(line)] or printed
    errors = [line for line in lines if _EXCEPTION.match(line)]
    return (errors or lines)[-1] if lines else None


OWN_ERROR = re.compile(r"^assay\.(?:\w+\.)+[A-Z]\w*: ")
"""Pattern of the class name of an assay error, which a traceback prints before the message."""
_EXCEPTION = re.compile(
    rf"{OWN_ERROR.pattern}|[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)\b|Fatal Python error|\w+: error:"
)
_AFTERMATH = re.compile(
    r"srun: (?:error: .*: (?:Exited with exit code|Terminated|Killed)|launch/|got SIG|forcing|Force|Job step aborted)"
    r"|slurmstepd.*: error: \*\*\* STEP "
)
"""SLURM's messages after a program failed. They concern the program and the processes that SLURM then ends."""
