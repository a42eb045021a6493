"""Checkpoints: safetensors and JSON, put in place whole, and never believed unread."""

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

from assay.errors import AssayError
from assay.files import read_json, replacing, write_json
from assay.structure import from_mapping, to_mapping
from assay.train.optimiser import load_state, state_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

MODEL, OPTIMISER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """What a file has to be."""

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a checkpoint stands in its run; `state.json`.

    The next step's data, learning rate and noise follow from the step alone: the order of the data is a function
    of the position, and nothing in training draws a random number after the first weights.
    """

    run: str
    """Fingerprint of the run."""
    step: int
    """Steps done."""
    metrics_bytes: int
    """Length of `metrics.jsonl` at this step; what is after it belongs to work that was lost."""
    window: dict[str, Any]
    """What was counted since the last record."""
    machine: dict[str, Any]
    """What the last bits depend on: versions, device, threads, micro batch, ranks."""
    files: dict[str, FileRecord]
    """The checkpoint's other files."""


def save(
    folder: Path, model: torch.nn.Module, optimiser: torch.optim.Optimizer, position: Position, *, keep: int
) -> None:
    """Write `step-<n>/` under a folder, then remove all but the newest `keep`.

    Raises:
        AssayError: the disk is full; the checkpoints that were there are untouched.
    """
    weights = dict(model.named_parameters())
    with replacing(folder / f"step-{position.step}") as temporary, disk_errors():
        temporary.mkdir()
        save_file({name: tensor.detach() for name, tensor in weights.items()}, temporary / MODEL)
        save_file(state_tensors(optimiser, weights.items()), temporary / OPTIMISER)
        files = {name: record(temporary / name) for name in (MODEL, OPTIMISER)}
        write_json(temporary / STATE, to_mapping(position) | {"files": to_mapping(files)})
    for old in _steps(folder)[keep:]:
        # Renamed first: a kill in the middle of removing leaves nothing that looks like a checkpoint.
        shutil.rmtree(old.rename(old.with_name(f".{old.name}.old.tmp")))


def newest(folder: Path, run: str) -> tuple[Path, Position] | None:
    """The newest checkpoint that is whole, or `None`; those that are not are named in the log and passed over.

    Args:
        folder: the run's checkpoints.
        run: fingerprint of the run.
    """
    for path in _steps(folder):
        try:
            return path, _checked(path, run)
        except (AssayError, OSError) as error:
            log.warning("%s is not whole and is passed over: %s", path, error)
    return None


def load(path: Path, model: torch.nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Put a checkpoint's weights and moments into a model and its optimiser."""
    parameters = dict(model.named_parameters())
    weights = load_file(path / MODEL)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    load_state(optimiser, parameters.items(), load_file(path / OPTIMISER))


def clear_partial(target: Path) -> None:
    """Remove what kills left of a folder that was never put in place; only for the one who holds the run's lock."""
    for leftover in target.parent.glob(f".{target.name}.*.tmp"):
        shutil.rmtree(leftover)


def record(path: Path) -> FileRecord:
    """A file's length and SHA-256, read back from it."""
    with path.open("rb") as handle:
        return FileRecord(bytes=path.stat().st_size, sha256=hashlib.file_digest(handle, "sha256").hexdigest())


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Let safetensors' report of a full disk be the `OSError` that it was."""
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), str(error)) from error


def disk_full(error: BaseException | None) -> bool:
    """Whether a full disk, or a quota that is used up, is behind an error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False


def _steps(folder: Path) -> list[Path]:
    """The folders that are called checkpoints, newest first."""
    found = [
        (int(match[1]), path) for path in folder.glob("step-*") if (match := re.fullmatch(r"step-(\d+)", path.name))
    ]
    return [path for _, path in sorted(found, reverse=True)]


def _checked(path: Path, run: str) -> Position:
    position = from_mapping(Position, read_json(path / STATE), where=str(path / STATE))
    if position.run != run:
        raise AssayError(f"{path / STATE} belongs to run {position.run[:12]}.")
    for name in (MODEL, OPTIMISER):
        if name not in position.files or record(path / name) != position.files[name]:
            raise AssayError(f"{path / name} is not the file that was written.")
    return position
