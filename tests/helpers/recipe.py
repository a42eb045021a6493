"""The smallest model and optimizer of tests; a test that needs others replaces single fields."""

from __future__ import annotations

from assay.config.recipe import Optimizer, ProxyModel

MODEL = ProxyModel(
    name="tiny",
    hidden_size=16,
    intermediate_size=32,
    layers=2,
    heads=2,
    kv_heads=1,
    tie_embeddings=True,
    rope_theta=10_000.0,
    sequence_length=16,
)
ADAMW = Optimizer(
    name="tiny",
    peak_lr=0.01,
    schedule="cosine",
    warmup=0.1,
    decay=0.0,
    final_lr=0.1,
    beta1=0.9,
    beta2=0.95,
    epsilon=1e-8,
    weight_decay=0.1,
    gradient_clip=1.0,
)
