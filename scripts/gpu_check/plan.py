"""Sizes of the check: models, batches, steps and seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from assay.config.recipe import Optimizer, ProxyModel
from assay.core.serde import from_mapping

CONF = Path(__file__).resolve().parents[2] / "conf"
LARGE_MEMORY = 70e9
"""Bytes of device memory from which a whole batch of 32k tokens fits into one forward pass: its logits take about 15 GB."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """A model with its batch."""

    model: ProxyModel
    sequences: int
    """Sequences per optimizer step."""
    micro: int
    """Sequences per forward pass."""
    steps: int
    """Optimizer steps of a run."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that the check does, except where."""

    loads: dict[str, Load]
    """Models to train, smallest first. The first is also resumed and evaluated."""
    packed: Load
    """Model of the runs that share the device."""
    packed_runs: int
    vocabulary: int
    """Token IDs of the models; the tokenizer may have fewer."""
    optimizer: Optimizer
    text_bytes: int
    """Size of each of the two synthetic sources."""
    tokenizer_vocabulary: int
    learned: float
    """Minimum decrease of the training loss, in nats per token."""
    validation_bytes: int
    """Bytes of held-out text per source that are scored."""
    items: int
    """Items of the local lm-eval task."""


def full_plan(memory: float | None) -> Plan:
    """Return the plan for a GPU with this many bytes of memory: the proxies 20m and 150m."""
    large = memory is None or memory >= LARGE_MEMORY
    return Plan(
        loads={
            "20m": Load(model=_proxy("20m"), sequences=32, micro=32 if large else 8, steps=300),
            "150m": Load(model=_proxy("150m"), sequences=16, micro=16 if large else 4, steps=200),
        },
        packed=Load(model=_proxy("4m"), sequences=16, micro=16, steps=200),
        packed_runs=4,
        vocabulary=32_768,
        optimizer=replace(_optimizer(), peak_lr=1e-3),
        text_bytes=2_000_000,
        tokenizer_vocabulary=4096,
        learned=1.0,
        validation_bytes=50_000,
        items=200,
    )


def tiny_plan() -> Plan:
    """Return a plan of the same steps with models of a few thousand parameters, for tests without a GPU."""
    model = ProxyModel(
        name="tiny",
        hidden_size=16,
        intermediate_size=32,
        layers=1,
        heads=2,
        kv_heads=1,
        tie_embeddings=True,
        rope_theta=10_000.0,
        sequence_length=32,
    )
    load = Load(model=model, sequences=4, micro=4, steps=12)
    return Plan(
        loads={"20m": load, "150m": replace(load, model=replace(model, layers=2), micro=2)},
        packed=replace(load, steps=8),
        packed_runs=2,
        vocabulary=512,
        optimizer=replace(_optimizer(), peak_lr=1e-2),
        text_bytes=60_000,
        tokenizer_vocabulary=300,
        learned=0.01,
        validation_bytes=2_000,
        items=8,
    )


def _proxy(name: str) -> ProxyModel:
    file = CONF / "proxy" / f"{name}.yaml"
    return from_mapping(ProxyModel, yaml.safe_load(file.read_text(encoding="utf-8")), where=str(file))


def _optimizer() -> Optimizer:
    file = CONF / "optim" / "cosine.yaml"
    return from_mapping(Optimizer, yaml.safe_load(file.read_text(encoding="utf-8")), where=str(file))
