from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from torch.nn import functional

from assay.config.recipe import ProxyModel
from assay.core.serde import from_mapping
from assay.train.model import build, sequence_losses
from tests.train.small_runs import SHAPE, VOCABULARY

PROXIES = sorted((Path(__file__).parents[2] / "conf" / "proxy").glob("*.yaml"))


def test_initial_weights_depend_on_the_seed_alone() -> None:
    """Torch's generator and the number of threads have no effect; otherwise, arms of a replicate would not be paired."""
    threads = torch.get_num_threads()
    try:
        torch.manual_seed(1)
        torch.set_num_threads(1)
        one = build(SHAPE, VOCABULARY, seed=5).state_dict()
        torch.manual_seed(2)
        torch.set_num_threads(2)
        other = build(SHAPE, VOCABULARY, seed=5).state_dict()
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_another_seed_gives_other_initial_weights() -> None:
    one, other = (dict(build(SHAPE, VOCABULARY, seed=seed).named_parameters()) for seed in (0, 1))
    assert not any(torch.equal(one[name], other[name]) for name in one if one[name].ndim > 1)


def test_no_two_matrices_have_the_same_initial_values() -> None:
    """Each has its own random stream: layers with equal initial values would differ only by their inputs."""
    starts = [matrix for matrix in build(SHAPE, VOCABULARY, seed=0).parameters() if matrix.ndim > 1]
    assert len({round(float(matrix.detach().flatten()[0]), 9) for matrix in starts}) == len(starts)


def test_initial_weights_have_the_standard_deviation_for_the_width() -> None:
    shape = replace(SHAPE, hidden_size=128, intermediate_size=256, heads=4, kv_heads=4)
    weights = dict(build(shape, 512, seed=0).named_parameters())
    base = math.sqrt(2 / (5 * 128))
    assert float(weights["model.embed_tokens.weight"].detach().std()) == pytest.approx(base, rel=0.03)
    assert float(weights["model.layers.0.mlp.up_proj.weight"].detach().std()) == pytest.approx(base, rel=0.03)
    assert float(weights["model.layers.1.self_attn.o_proj.weight"].detach().std()) == pytest.approx(base / 2, rel=0.03)
    assert torch.equal(weights["model.norm.weight"], torch.ones(128))


@pytest.mark.parametrize("tied", [True, False])
def test_losses_equal_those_of_transformers_forward(tied: bool) -> None:
    """Calling the layers directly avoids a synchronization of the GPU and must change nothing else."""
    model = build(replace(SHAPE, tie_embeddings=tied), VOCABULARY, seed=0)
    tokens = torch.randint(VOCABULARY, (3, 17), generator=torch.Generator().manual_seed(0))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    with torch.no_grad():
        logits = model(input_ids=inputs).logits
        losses = sequence_losses(model, inputs, targets)
    reference = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(3, 16).sum(1)
    torch.testing.assert_close(losses, reference)


@pytest.mark.parametrize(("tied", "kv_heads"), [(True, 1), (False, 2)])
def test_the_parameter_count_equals_that_of_the_model(tied: bool, kv_heads: int) -> None:
    shape = replace(SHAPE, tie_embeddings=tied, kv_heads=kv_heads)
    built = sum(parameter.numel() for parameter in build(shape, VOCABULARY, seed=0).parameters())
    assert built == shape.parameters(VOCABULARY)


@pytest.mark.parametrize("path", PROXIES, ids=lambda path: path.stem)
def test_packaged_proxies_have_the_size_in_their_comment(path: Path) -> None:
    text = path.read_text()
    proxy = from_mapping(ProxyModel, yaml.safe_load(text), where=path.name)
    vocabulary = 4096 if "vocabulary of 4,096" in text else 32_768
    assert proxy.name == path.stem
    assert f"{proxy.parameters(vocabulary):,} parameters at a vocabulary of {vocabulary:,}" in text


def test_there_are_packaged_proxies() -> None:
    assert {path.stem for path in PROXIES} >= {"0.3m", "1m", "4m", "20m", "60m", "150m"}
