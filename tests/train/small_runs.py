"""Runs that take a second: a model of a few thousand parameters, and text that it can learn from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from assay.recipe import Optimiser, ProxyModel, RunSpec, StageSpec
from assay.store import RunDirectory, Status

if TYPE_CHECKING:
    from pathlib import Path

VOCABULARY = 64
SHAPE = ProxyModel(
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
ADAMW = Optimiser(
    name="tiny",
    peak_lr=1e-2,
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


class EpochStart(NamedTuple):
    """As `assay.corpus.loader` tells of one."""

    source: str
    epoch: int
    position: int


def make_spec(*, steps: int = 40, weights: dict[str, float] | None = None, **changes: Any) -> RunSpec:
    """A small run; `changes` are fields of its spec."""
    weights = {"code": 0.25, "web": 0.75} if weights is None else weights
    spec = RunSpec(
        model=SHAPE,
        vocabulary=VOCABULARY,
        tokenizer="t",
        corpora=dict.fromkeys(weights, "c"),
        stages=(StageSpec(name="main", weights=weights, steps=steps),),
        optimiser=ADAMW,
        batch_sequences=4,
        seed=0,
    )
    return replace(spec, **changes)


def make_run(folder: Path, spec: RunSpec) -> RunDirectory:
    """The folder of a run, made."""
    run = RunDirectory(folder / spec.fingerprint)
    run.create(spec, {})
    return run


class Cycles:
    """Stands in for `SequenceReader`: any position's sequence at once, from two sources with rules to learn.

    In `code` a token is followed by the one 3 further on, in `web` by the one 5 further on, or, once in four times,
    by any. Sources take turns by their weights of the first stage, as far as whole sequences allow.
    """

    def __init__(self, spec: RunSpec) -> None:
        self.names = tuple(sorted(spec.corpora))
        self._length = spec.model.sequence_length
        shares = np.array([spec.stages[0].weights[name] for name in self.names])
        self._ends = np.cumsum(shares) / shares.sum()

    def _source(self, position: int) -> int:
        return int(np.searchsorted(self._ends, (position * 0.618034) % 1.0, side="right"))

    def read(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        sources = np.array([self._source(position) for position in range(start, stop)], np.int64)
        rows = []
        for position, source in zip(range(start, stop), sources.tolist(), strict=True):
            rng = np.random.default_rng([position, source])
            jumps = np.where(rng.random(self._length) < 0.75, 3 + 2 * source, rng.integers(64, size=self._length))
            rows.append(np.cumsum([rng.integers(VOCABULARY), *jumps]) % VOCABULARY)
        return np.array(rows, np.int64).reshape(-1, self._length + 1), sources

    def delivered(self, stop: int) -> dict[str, dict[str, Any]]:
        counts = np.bincount([self._source(position) for position in range(stop)], minlength=len(self.names))
        return {
            name: {"sequences": int(count), "tokens": int(count) * self._length, "documents": 1, "epochs": 0.5}
            for name, count in zip(self.names, counts, strict=True)
        }

    def epoch_starts(self, start: int, stop: int) -> list[EpochStart]:
        """The first source begins another epoch at every 50th position."""
        return [EpochStart(self.names[0], at // 50, at) for at in range(start, stop) if at % 50 == 0 and at]


def train_here(spec: RunSpec, run: RunDirectory, **settings: Any) -> Status:
    """Train with the stand-in for data; importable, so that another process can be asked to."""
    from assay.train.loop import train
    from assay.train.settings import TrainSettings

    return train(spec, run, Cycles(spec), tokenizer=None, settings=TrainSettings(**settings))
