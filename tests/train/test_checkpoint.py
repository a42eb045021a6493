from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from assay.core.errors import AssayError
from assay.train import checkpoint
from assay.train.model import build
from assay.train.optimizer import MOMENTS, adamw
from tests.train.small_runs import ADAMW, SHAPE, VOCABULARY


class Trained:
    """Return a model and an optimizer after one step."""

    def __init__(self, seed: int = 0) -> None:
        self.model = build(SHAPE, VOCABULARY, seed=seed)
        self.optimizer = adamw(self.model, ADAMW)
        for parameter in self.model.parameters():
            parameter.grad = torch.ones_like(parameter)
        self.optimizer.step()

    def save(self, folder: Path, step: int, keep: int = 2) -> None:
        position = checkpoint.Position(run="r", step=step, metrics_bytes=0, window={}, machine={}, files={})
        checkpoint.save(folder, self.model, self.optimizer, position, keep=keep)

    def tensors(self) -> list[torch.Tensor]:
        moments = [self.optimizer.state[p][name] for p in self.model.parameters() for name in MOMENTS]
        return [*self.model.parameters(), *moments]


def _steps(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_weights_and_moments_are_restored_to_the_last_bit(tmp_path: Path) -> None:
    saved, other = Trained(seed=0), Trained(seed=1)
    saved.save(tmp_path, 3)
    path, position = checkpoint.newest(tmp_path, "r")
    checkpoint.load(path, other.model, other.optimizer)
    assert position.step == 3
    assert all(torch.equal(a, b) for a, b in zip(saved.tensors(), other.tensors(), strict=True))


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    trained = Trained()
    for step in (2, 9, 10, 100):
        trained.save(tmp_path, step)
    assert _steps(tmp_path) == ["step-10", "step-100"]


@pytest.mark.parametrize("file", [checkpoint.MODEL, checkpoint.OPTIMIZER, checkpoint.STATE])
def test_a_truncated_checkpoint_is_skipped_with_a_warning(
    tmp_path: Path, file: str, caplog: pytest.LogCaptureFixture
) -> None:
    trained = Trained()
    trained.save(tmp_path, 1)
    trained.save(tmp_path, 2)
    damaged = tmp_path / "step-2" / file
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    path, position = checkpoint.newest(tmp_path, "r")
    assert (path.name, position.step) == ("step-1", 1)
    assert "step-2 is incomplete or damaged" in caplog.text


def test_a_flipped_bit_is_detected(tmp_path: Path) -> None:
    Trained().save(tmp_path, 1)
    weights = tmp_path / "step-1" / checkpoint.MODEL
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert checkpoint.newest(tmp_path, "r") is None


@pytest.mark.parametrize("file", [checkpoint.MODEL, checkpoint.OPTIMIZER, checkpoint.STATE])
def test_a_checkpoint_without_a_file_is_skipped(tmp_path: Path, file: str) -> None:
    Trained().save(tmp_path, 1)
    (tmp_path / "step-1" / file).unlink()
    assert checkpoint.newest(tmp_path, "r") is None


def test_a_checkpoint_of_another_run_is_skipped(tmp_path: Path) -> None:
    Trained().save(tmp_path, 1)
    assert checkpoint.newest(tmp_path, "another") is None


def test_a_full_disk_is_reported_and_leaves_the_earlier_checkpoint_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """safetensors reports it with an error class of its own, and the error number in the message."""
    trained = Trained()
    trained.save(tmp_path, 1)

    def full(_: object, path: Path) -> None:
        path.write_bytes(b"the first part")
        raise safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(AssayError, match="the disk is full") as error:
        trained.save(tmp_path, 2)
    assert checkpoint.disk_full(error.value)
    assert _steps(tmp_path) == ["step-1"]
    assert checkpoint.newest(tmp_path, "r")[1].step == 1


def test_other_errors_are_not_taken_for_a_full_disk() -> None:
    assert not checkpoint.disk_full(AssayError("a misspelled source"))
    assert not checkpoint.disk_full(PermissionError(13, "Permission denied"))


def test_only_unfinished_folders_of_killed_processes_are_removed(tmp_path: Path) -> None:
    Trained().save(tmp_path, 1)
    (tmp_path / ".step-2.abc.tmp").mkdir()
    (tmp_path / ".step-2.abc.tmp" / checkpoint.MODEL).write_bytes(b"half")
    (tmp_path / ".status.json.abc.tmp").write_text("{")  # another process may be about to rename it
    checkpoint.clear_partial(tmp_path / "step-*")
    assert _steps(tmp_path) == [".status.json.abc.tmp", "step-1"]


def test_a_checkpoint_is_safetensors_and_json_and_nothing_else(tmp_path: Path) -> None:
    """Loading a pickle could execute code."""
    Trained().save(tmp_path, 1)
    files = {path.name for path in (tmp_path / "step-1").iterdir()}
    assert files == {checkpoint.MODEL, checkpoint.OPTIMIZER, checkpoint.STATE}
    json.loads((tmp_path / "step-1" / checkpoint.STATE).read_text())
    for name in (checkpoint.MODEL, checkpoint.OPTIMIZER):
        safetensors.torch.load_file(tmp_path / "step-1" / name)
