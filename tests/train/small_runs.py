"""Runs that take a second: a model of a few thousand parameters, and text with rules that it can learn."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from assay.config.recipe import RunSpec, StageSpec
from assay.store.runs import RunDirectory, Status
from tests.helpers.recipe import ADAMW, MODEL

if TYPE_CHECKING:
    from pathlib import Path

VOCABULARY = 64
SHAPE = MODEL


class EpochStart(NamedTuple):
    """The start of an epoch, as `assay.corpus.loader` describes it."""

    source: str
    epoch: int
    position: int


def make_spec(*, steps: int = 40, weights: dict[str, float] | None = None, **changes: Any) -> RunSpec:
    """Return a small run; `changes` are fields of its spec."""
    weights = {"code": 0.25, "web": 0.75} if weights is None else weights
    spec = RunSpec(
        model=SHAPE,
        vocabulary=VOCABULARY,
        tokenizer="t",
        corpora=dict.fromkeys(weights, "c"),
        stages=(StageSpec(name="main", weights=weights, steps=steps),),
        optimizer=ADAMW,
        batch_sequences=4,
        seed=0,
    )
    return replace(spec, **changes)


def make_run(folder: Path, spec: RunSpec) -> RunDirectory:
    """Create the folder of a run."""
    run = RunDirectory(folder / spec.fingerprint)
    run.create(spec, {})
    return run


class Cycles:
    """A stand-in for `SequenceReader`: the sequence of any position, from two sources with rules to learn.

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
        """Start another epoch of the first source at every 50th position."""
        return [EpochStart(self.names[0], at // 50, at) for at in range(start, stop) if at % 50 == 0 and at]


def train_here(spec: RunSpec, run: RunDirectory, **settings: Any) -> Status:
    """Train with the stand-in data; importable, so that another process can call it."""
    from assay.config.training import TrainSettings
    from assay.train.loop import train

    return train(spec, run, Cycles(spec), tokenizer=None, settings=TrainSettings(**settings))
