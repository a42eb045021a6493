"""What a run's process printed, from the end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from assay.errors import AssayError
from assay.store import RunDirectory, Store
from assay.tails import last_lines


def log_of(store: Store, run: str | RunDirectory) -> Path:
    """The file that a run's process printed to; of a run that has none, what its job on a cluster printed.

    Args:
        store: where the run is.
        run: the run, or the first digits of its fingerprint.

    Raises:
        AssayError: no run, or more than one, begins so; or it has printed nothing yet.
    """
    folder = store.find(run) if isinstance(run, str) else run
    if folder.log.exists():
        return folder.log
    jobs = [path for path in _job_logs(store, folder.fingerprint) if path.exists()]
    if not jobs:
        raise AssayError(
            f"run {folder.fingerprint[:12]} has no log: no worker has taken it up yet, or the debug executor did, which prints to its own terminal.",
            fix="`assay status` tells where it stands.",
        )
    return jobs[-1]


def _job_logs(store: Store, fingerprint: str) -> Iterator[Path]:
    """What the jobs that had a run print to, the oldest first."""
    from assay.launch.records import SubmissionDirectory
    from assay.launch.slurm.ledger import Ledger

    for path in sorted((store.root / "sweeps").glob("*/submissions/*/batches"), key=lambda path: path.parent.name):
        directory = SubmissionDirectory(path.parent)
        place = Ledger(directory).places().get(fingerprint)
        if place is not None and place.job is not None:
            yield directory.job_log(place.job)


def line_that_matters(log: Path) -> str | None:
    """The last line of a log that names an exception, or else the last line; ``None`` where there is none."""
    printed = last_lines(log, 200)
    lines = [line for line in printed if not _AFTERMATH.match(line)] or printed
    errors = [line for line in lines if _EXCEPTION.match(line)]
    return (errors or lines)[-1] if lines else None


_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)\b|Fatal Python error|\w+: error:")
_AFTERMATH = re.compile(
    r"srun: (?:error: .*: (?:Exited with exit code|Terminated|Killed)|launch/|got SIG|forcing|Force|Job step aborted)"
    r"|slurmstepd.*: error: \*\*\* STEP "
)
"""What SLURM says of a program that had ended badly, and of those that it then ends."""
