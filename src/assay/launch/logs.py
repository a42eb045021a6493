"""What a run's process printed, from the end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from assay.errors import AssayError
from assay.store import RunDirectory, Store

CHUNK = 65_536
MOST = 16 * CHUNK
"""Bytes that are read at most; a line that is longer than this is cut."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


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


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a file that aren't blank, without what would steer a terminal; none where there is no file.

    A progress bar that was drawn over itself counts as the line it ended as.
    """
    try:
        with path.open("rb") as handle:
            end = handle.seek(0, 2)
            start, text = end, b""
            while start > 0 and text.count(b"\n") <= 2 * count and end - start < MOST:
                start = max(0, start - CHUNK)
                handle.seek(start)
                text = handle.read(end - start)
    except FileNotFoundError:
        return []
    raw = text.decode("utf-8", errors="replace").split("\n")
    if start > 0:
        raw = raw[1:]  # begun somewhere inside
    shown = (printable(line) for line in raw)
    return [line for line in shown if line.strip()][-count:]


def printable(line: str) -> str:
    r"""A line without what would steer a terminal; of one that was drawn over itself, what it ended as.

    >>> printable("10%\r20%\r\x1b[31mdone\x1b[0m")
    'done'
    """
    drawn = line.rstrip("\r").rpartition("\r")[2]
    return _CONTROLS.sub("", _ESCAPES.sub("", drawn)).rstrip()


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
