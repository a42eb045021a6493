"""Dropout masks are a function of the seed, the sequence and the place; interruptions do not change them."""

from __future__ import annotations

import multiprocessing
import signal
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from assay.core.errors import AssayError
from assay.train.dropout import Dropout, sequence_keys
from assay.train.model import build, sequence_losses
from tests.train.small_runs import SHAPE, VOCABULARY, make_run, make_spec, train_here

if TYPE_CHECKING:
    from pathlib import Path

    from assay.config.recipe import RunSpec
    from assay.store.runs import RunDirectory

CPU = torch.device("cpu")


def masks(rate: float, *, seed: int = 0, first: int = 0, count: int = 4, place: int = 0) -> torch.Tensor:
    """Apply dropout to a tensor of ones."""
    return Dropout(rate, sequence_keys(seed, first, count, CPU))(torch.ones(count, 64, 48), place)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_dropped_fraction_equals_the_rate_and_the_mean_is_preserved(rate: float) -> None:
    left = masks(rate, count=32)
    assert (left == 0).float().mean().item() == pytest.approx(rate, abs=0.005)  # 98,304 values: 3 SD are 0.005
    assert left.mean().item() == pytest.approx(1.0, abs=0.03)
    assert left.unique().tolist() == pytest.approx([0.0, 1 / (1 - rate)])


def test_sequences_seeds_and_places_drop_independently() -> None:
    first = (masks(0.5) == 0).double().flatten()
    for other in (
        masks(0.5, seed=1),
        masks(0.5, first=4),
        masks(0.5, place=1),
        masks(0.5).flip(1),
        masks(0.5).roll(1, 2),
    ):
        both = torch.stack([first, (other == 0).double().flatten()])
        assert abs(torch.corrcoef(both)[0, 1].item()) < 0.03  # 12,288 values: 3 SD are 0.027


def test_a_mask_does_not_depend_on_the_other_sequences_of_the_batch() -> None:
    whole = masks(0.3, first=8, count=4)
    assert torch.equal(whole[2:], masks(0.3, first=10, count=2))


def test_the_hash_is_splitmix64s() -> None:
    def reference(bits: int) -> int:
        bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB % 2**64
        return bits ^ (bits >> 31)

    start = reference((7 + 0x9E3779B97F4A7C15) % 2**64)
    expected = [reference((start + 0x9E3779B97F4A7C15 * position) % 2**64) for position in (5, 6)]
    assert [key % 2**64 for key in sequence_keys(7, 5, 2, CPU).tolist()] == expected


def test_layers_without_dropout_equal_those_of_transformers() -> None:
    model = build(SHAPE, VOCABULARY, seed=3)
    tokens = torch.randint(VOCABULARY, (3, 17), generator=torch.Generator().manual_seed(0))
    keys = sequence_keys(0, 0, 3, CPU)
    with torch.no_grad():
        plain = sequence_losses(model, tokens[:, :-1], tokens[:, 1:])
        nothing = sequence_losses(model, tokens[:, :-1], tokens[:, 1:], Dropout(0.0, keys))
        some = sequence_losses(model, tokens[:, :-1], tokens[:, 1:], Dropout(0.3, keys))
    torch.testing.assert_close(nothing, plain, rtol=0, atol=0)
    assert not torch.allclose(some, plain)


def weights(run: RunDirectory) -> dict[str, torch.Tensor]:
    return load_file(run.model / "model.safetensors")


def test_dropout_zero_keeps_the_fingerprint_of_a_run_without_dropout() -> None:
    assert "dropout" not in make_spec().identity
    assert make_spec(dropout=0.1).identity["dropout"] == 0.1
    assert make_spec(dropout=0.1).fingerprint != make_spec().fingerprint
    with pytest.raises(AssayError, match="`dropout` 1.0 is invalid"):
        make_spec(dropout=1.0)


def test_micro_batches_change_no_mask(tmp_path: Path) -> None:
    spec = make_spec(steps=10, dropout=0.2)
    results = []
    for micro in (4, 1):
        run = make_run(tmp_path / str(micro), spec)
        train_here(spec, run, micro_batch=micro)
        results.append(weights(run))
    without = make_run(tmp_path / "without", make_spec(steps=10))
    train_here(make_spec(steps=10), without, micro_batch=4)
    for name, values in results[0].items():
        torch.testing.assert_close(values, results[1][name], rtol=1e-3, atol=1e-4)
    assert any(not torch.allclose(values, results[0][name], atol=1e-3) for name, values in weights(without).items())


def test_a_killed_run_continues_with_the_same_masks(tmp_path: Path) -> None:
    spec = make_spec(steps=80, dropout=0.2)
    alone, killed = make_run(tmp_path / "alone", spec), make_run(tmp_path / "killed", spec)
    train_here(spec, alone, checkpoint_steps=3)
    _kill_on_the_way(spec, killed)
    assert train_here(spec, killed, checkpoint_steps=3).state == "trained"
    assert (killed.model / "model.safetensors").read_bytes() == (alone.model / "model.safetensors").read_bytes()


def _kill_on_the_way(spec: RunSpec, run: RunDirectory) -> None:
    """Send SIGKILL after the first checkpoint and before the last step."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_train_and_dawdle, args=(spec, run))
    process.start()
    while process.is_alive() and not list(run.checkpoints.glob("step-*/*.json")):
        process.join(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (run.model / "model.safetensors").exists()


def _train_and_dawdle(spec: RunSpec, run: RunDirectory) -> None:
    """Train to the middle, then wait to be killed."""
    import threading

    asked = 0

    def wait() -> bool:
        nonlocal asked
        asked += 1
        if asked > spec.steps // 2:
            threading.Event().wait()
        return False

    from assay.config.training import TrainSettings
    from assay.train.loop import train
    from tests.train.small_runs import Cycles

    train(spec, run, Cycles(spec), tokenizer=None, settings=TrainSettings(checkpoint_steps=3), should_stop=wait)
