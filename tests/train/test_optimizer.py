from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from assay.config.recipe import Optimizer
from assay.core.serde import from_mapping
from assay.train.model import build, sequence_losses
from assay.train.optimizer import adamw, load_state, set_lr, state_tensors
from tests.train.small_runs import ADAMW, SHAPE, VOCABULARY

OPTIMIZERS = sorted((Path(__file__).parents[2] / "conf" / "optim").glob("*.yaml"))


def _some_gradients(model: torch.nn.Module, step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    gradients = {}
    for name, parameter in model.named_parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
        gradients[name] = parameter.grad.clone()
    return gradients


def test_adamw_matches_the_formula_of_its_paper() -> None:
    """Loshchilov and Hutter 2019, algorithm 2, in float64: bias-corrected moments, and decay apart from them."""
    model = build(SHAPE, VOCABULARY, seed=0)
    spec = replace(ADAMW, weight_decay=0.3, epsilon=1e-6)
    optimizer = adamw(model, spec)
    weights = {name: p.detach().double().numpy().copy() for name, p in model.named_parameters()}
    first = {name: np.zeros_like(value) for name, value in weights.items()}
    second = {name: np.zeros_like(value) for name, value in weights.items()}
    for step, lr in enumerate((0.01, 0.02, 0.005), start=1):
        gradients = _some_gradients(model, step)
        set_lr(optimizer, lr)
        optimizer.step()
        for name, value in weights.items():
            gradient = gradients[name].double().numpy()
            first[name] = spec.beta1 * first[name] + (1 - spec.beta1) * gradient
            second[name] = spec.beta2 * second[name] + (1 - spec.beta2) * gradient**2
            mean, square = first[name] / (1 - spec.beta1**step), second[name] / (1 - spec.beta2**step)
            decay = spec.weight_decay if value.ndim > 1 else 0.0
            weights[name] = value - lr * (mean / (np.sqrt(square) + spec.epsilon) + decay * value)
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(parameter.detach().numpy(), weights[name], rtol=1e-4, atol=2e-6, err_msg=name)


def test_matrices_decay_and_gains_do_not() -> None:
    model = build(SHAPE, VOCABULARY, seed=0)
    decay = {id(p): group["weight_decay"] for group in adamw(model, ADAMW).param_groups for p in group["params"]}
    assert len(decay) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert decay[id(parameter)] == (0.0 if "norm" in name else ADAMW.weight_decay), name


def test_state_survives_a_round_trip_to_the_last_bit() -> None:
    """A restored optimizer takes the same next steps as the saved one."""
    tokens = torch.randint(VOCABULARY, (4, 17), generator=torch.Generator().manual_seed(0))

    def steps(model: torch.nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            sequence_losses(model, tokens[:, :-1], tokens[:, 1:]).sum().backward()
            optimizer.step()

    one = build(SHAPE, VOCABULARY, seed=0)
    kept = adamw(one, ADAMW)
    steps(one, kept, 3)
    other = build(SHAPE, VOCABULARY, seed=1)
    restored = adamw(other, ADAMW)
    other.load_state_dict(one.state_dict())
    saved = {name: tensor.clone() for name, tensor in state_tensors(kept, one.named_parameters()).items()}
    load_state(restored, other.named_parameters(), saved)
    steps(one, kept, 3)
    steps(other, restored, 3)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("path", OPTIMIZERS, ids=lambda path: path.stem)
def test_packaged_optimizers_are_read_and_named_after_their_file(path: Path) -> None:
    optimizer = from_mapping(Optimizer, yaml.safe_load(path.read_text()), where=path.name)
    assert optimizer.name == path.stem
    rates = [optimizer.lr(step, 200) for step in range(200)]
    assert max(rates) == pytest.approx(optimizer.peak_lr)
    assert rates[-1] == pytest.approx(
        optimizer.peak_lr * (1 if optimizer.schedule == "constant" else optimizer.final_lr)
    )


def test_there_are_packaged_optimizers() -> None:
    assert {path.stem for path in OPTIMIZERS} >= {"cosine", "wsd", "small_lr"}
