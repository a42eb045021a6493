"""Write checkpoints in safetensors and JSON atomically, and verify them when reading."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from assay.core.errors import Damaged
from assay.core.files import read_json, replacing, write_json
from assay.core.serde import from_record, to_mapping
from assay.train.optimizer import load_state, state_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """The expected length and digest of a file."""

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Position:
    """The position of a checkpoint in its run, stored as `state.json`.

    The step alone determines the next step's data, learning rate and dropout: the data order is a function of the
    position, and training draws no random number after the initial weights.
    """

    run: str
    """Fingerprint of the run."""
    step: int
    """Number of completed steps."""
    metrics_bytes: int
    """Length of `metrics.jsonl` in bytes at this step. Later content belongs to steps that are repeated."""
    window: dict[str, Any]
    """Sums over the steps since the last record."""
    machine: dict[str, Any]
    """Conditions that affect the last bits of the weights: versions, device, threads, micro batch, ranks."""
    files: dict[str, FileRecord]
    """Length and digest of the checkpoint's other files, by name."""


def save(
    folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, position: Position, *, keep: int
) -> None:
    """Write `step-<n>/` under a folder, then delete all but the newest `keep` checkpoints.

    Raises:
        AssayError: the disk is full. Existing checkpoints stay unchanged.
    """
    weights = dict(model.named_parameters())
    with replacing(folder / f"step-{position.step}") as temporary, disk_errors():
        temporary.mkdir()
        save_file({name: tensor.detach() for name, tensor in weights.items()}, temporary / MODEL)
        save_file(state_tensors(optimizer, weights.items()), temporary / OPTIMIZER)
        files = {name: record(temporary / name) for name in (MODEL, OPTIMIZER)}
        write_json(temporary / STATE, to_mapping(position) | {"files": to_mapping(files)})
    for old in _steps(folder)[keep:]:
        # Rename before deletion: a kill during deletion then leaves no partial folder with the name of a checkpoint.
        shutil.rmtree(old.rename(old.with_name(f".{old.name}.old.tmp")))


def newest(folder: Path, run: str) -> tuple[Path, Position] | None:
    """Return the newest complete checkpoint or None; log and skip incomplete checkpoints.

    Args:
        folder: folder of the run's checkpoints.
        run: fingerprint of the run.
    """
    for path in _steps(folder):
        try:
            return path, _checked(path, run)
        except (Damaged, OSError) as error:
            log.warning("%s is incomplete or damaged, and is skipped: %s", path, error)
    return None


def load(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load the weights and the optimizer state of a checkpoint into a model and its optimizer."""
    parameters = dict(model.named_parameters())
    weights = load_file(path / MODEL)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    load_state(optimizer, parameters.items(), load_file(path / OPTIMIZER))


def clear_partial(target: Path) -> None:
    """Delete the remains of an unfinished folder of killed processes.

    The caller must hold the run's lease.
    """
    for leftover in target.parent.glob(f".{target.name}.*.tmp"):
        shutil.rmtree(leftover)


def record(path: Path) -> FileRecord:
    """Return the length and SHA-256 of a file, read from disk."""
    with path.open("rb") as handle:
        return FileRecord(bytes=path.stat().st_size, sha256=hashlib.file_digest(handle, "sha256").hexdigest())


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Convert the error by which safetensors reports a full disk to an `OSError`."""
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), str(error)) from error


def disk_full(error: BaseException | None) -> bool:
    """Return whether a full disk or an exhausted quota caused an error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False


def _steps(folder: Path) -> list[Path]:
    """List the checkpoint folders, newest first."""
    steps = [
        (int(match[1]), path) for path in folder.glob("step-*") if (match := re.fullmatch(r"step-(\d+)", path.name))
    ]
    return [path for _, path in sorted(steps, reverse=True)]


def _checked(path: Path, run: str) -> Position:
    position = from_record(Position, read_json(path / STATE), where=str(path / STATE))
    if position.run != run:
        raise Damaged(f"{path / STATE}: the checkpoint belongs to run {position.run[:12]}; expected run {run[:12]}.")
    for name in (MODEL, OPTIMIZER):
        if name not in position.files or record(path / name) != position.files[name]:
            raise Damaged(
                f"{path / name}: the file is missing from the checkpoint's record, or differs from the record."
            )
    return position
