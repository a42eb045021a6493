"""Record the training history by tokens in `metrics.jsonl`, and detect divergence."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from assay.config.training import SpikeRule
    from assay.train.device import DistributedContext


class Totals(NamedTuple):
    """Sums over the steps of a window and over all ranks.

    Attributes:
        steps: number of optimizer steps.
        losses: total loss in nats, by source.
        sequences: number of sequences, by source.
        norms: sum of the gradient norms.
        first_bad: index within the window, from 0, of the first step with a non-finite gradient; None if there is none.
    """

    steps: int
    losses: np.ndarray
    sequences: np.ndarray
    norms: float
    first_bad: int | None

    @property
    def loss(self) -> float:
        """Mean loss of a sequence in nats."""
        return float(self.losses.sum() / self.sequences.sum())

    @property
    def finite(self) -> bool:
        """Whether every loss and gradient norm is finite."""
        return self.first_bad is None and bool(np.isfinite(self.losses).all())


@dataclass
class Window:
    """Losses and norms since the last record, kept on the device until requested.

    Steps therefore need no synchronization.
    """

    sources: int
    """Number of sources."""
    _before: Totals | None = None
    _losses: list[torch.Tensor] = field(default_factory=list)
    _owners: list[np.ndarray] = field(default_factory=list)
    _norms: list[torch.Tensor] = field(default_factory=list)

    def add(self, losses: Sequence[torch.Tensor], owners: np.ndarray, norm: torch.Tensor) -> None:
        """Add one step.

        Args:
            losses: loss in nats, summed over each sequence of this rank, in order and in any number of parts.
            owners: index of the source of each sequence.
            norm: gradient norm over all ranks.
        """
        self._losses += losses
        self._owners.append(owners)
        self._norms.append(norm)

    def totals(self, context: DistributedContext) -> Totals:
        """Sum the window over all ranks. Every rank must call this collective operation at the same step."""
        norms = torch.stack(self._norms).double().cpu().numpy() if self._norms else np.zeros(0)
        sums = torch.zeros(2, self.sources, dtype=torch.float64)
        if self._losses:
            owners, losses = np.concatenate(self._owners), torch.cat(self._losses).double().cpu().numpy()
            sums[0] = torch.from_numpy(np.bincount(owners, losses, self.sources))
            sums[1] = torch.from_numpy(np.bincount(owners, minlength=self.sources))
        if self._before is not None and context.is_main:
            sums += torch.from_numpy(np.stack([self._before.losses, self._before.sequences]))
        context.all_reduce_([sums])
        bad = np.flatnonzero(~np.isfinite(norms))
        before = self._before
        return Totals(
            steps=len(norms) + (before.steps if before else 0),
            losses=sums[0].numpy(),
            sequences=sums[1].numpy(),
            norms=float(norms.sum()) + (before.norms if before else 0.0),
            first_bad=int(bad[0]) + (before.steps if before else 0) if bad.size else None,
        )

    def clear(self) -> None:
        """Start the next window."""
        self.resume(None)

    def resume(self, totals: Totals | None) -> None:
        """Restart the window from the sums of an earlier attempt."""
        self._before = totals
        self._losses, self._owners, self._norms = [], [], []


def totals_to_json(totals: Totals) -> dict[str, Any]:
    """Convert finite sums to JSON values for a checkpoint, exactly to the last bit."""
    return {
        "steps": totals.steps,
        "losses": totals.losses.tolist(),
        "sequences": totals.sequences.tolist(),
        "norms": totals.norms,
    }


def totals_from_json(plain: Mapping[str, Any]) -> Totals:
    """Convert the result of `totals_to_json` back."""
    losses, sequences = np.array(plain["losses"], np.float64), np.array(plain["sequences"], np.float64)
    return Totals(plain["steps"], losses, sequences, plain["norms"], None)


class MetricsFile:
    """The file `metrics.jsonl`, written by one process and readable by others at any time.

    Args:
        path: the file; created if missing.
        keep_bytes: length of the file at the checkpoint from which training resumes. Later content is truncated,
            because its steps are repeated.
    """

    def __init__(self, path: Path, *, keep_bytes: int) -> None:
        self._path = path
        with path.open("ab") as handle:
            if handle.seek(0, os.SEEK_END) > keep_bytes:
                handle.truncate(keep_bytes)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record."""
        with self._path.open("ab") as handle:
            handle.write(json.dumps(record, allow_nan=False, separators=(",", ":")).encode() + b"\n")

    def sync(self) -> int:
        """Flush the file to disk; return its length in bytes."""
        with self._path.open("ab") as handle:
            os.fsync(handle.fileno())
            return handle.seek(0, os.SEEK_END)


class SpikeWatch:
    """Divergence detection from the losses of a run.

    A run has diverged if the losses of `records` consecutive records exceed a threshold. For each window of `window`
    earlier records in the stage, a candidate threshold is the median plus a distance. The distance is `nats` or 6
    standard deviations, the larger of the two. The median absolute deviation estimates the standard deviation. The
    threshold is the lowest candidate, and at most `nats` above the loss of a uniform prediction over the vocabulary.

    With a learning rate that is too high, the loss exceeds the threshold. Noise, a single spike, and a mix whose
    sources differ by several nats do not exceed the threshold for `records` consecutive records.

    Attributes:
        rule: `nats`, `records` and `window`.
        bar: the threshold in nats.
    """

    bar: float

    def __init__(self, rule: SpikeRule, *, vocabulary: int) -> None:
        self.rule = rule
        self._uniform = math.log(vocabulary)
        self._stage: str | None = None

    def see(self, stage: str, loss: float) -> bool:
        """Add a record; return whether the run has diverged.

        Args:
            stage: name of the record's stage. Detection restarts with each stage, because another mix may have another
                loss.
            loss: loss in nats per token.
        """
        rule = self.rule
        if stage != self._stage:
            self._stage, self._above, self.bar = stage, 0, self._uniform + rule.nats
            self._recent: deque[float] = deque(maxlen=rule.records + rule.window)
        self._recent.append(loss)
        if len(self._recent) == rule.records + rule.window:
            # The newest `records` are under test, so they do not affect the threshold.
            seen = list(self._recent)[: rule.window]
            middle = statistics.median(seen)
            noise = 1.4826 * statistics.median([abs(value - middle) for value in seen])
            self.bar = min(self.bar, middle + max(rule.nats, 6 * noise))
        self._above = self._above + 1 if loss > self.bar else 0
        return self._above >= rule.records
