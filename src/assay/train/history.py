"""What a run tells while it trains: records by tokens in `metrics.jsonl`, and whether they are those of a healthy run."""

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

    from assay.train.device import Team
    from assay.train.settings import SpikeRule


class Totals(NamedTuple):
    """Sums over a window, over all ranks.

    Attributes:
        steps: optimiser steps.
        losses: nats, by source.
        sequences: by source.
        norms: sum of the gradient's norms.
        first_bad: steps into the window at which the gradient was not finite, or `None`.
    """

    steps: int
    losses: np.ndarray
    sequences: np.ndarray
    norms: float
    first_bad: int | None

    @property
    def loss(self) -> float:
        """Mean nats of a sequence."""
        return float(self.losses.sum() / self.sequences.sum())

    @property
    def finite(self) -> bool:
        """Whether every loss and gradient was a number."""
        return self.first_bad is None and bool(np.isfinite(self.losses).all())


@dataclass
class Window:
    """What was seen since the last record; stays on the device until it is asked for, so that no step waits."""

    sources: int
    """How many sources there are."""
    _before: Totals | None = None
    _losses: list[torch.Tensor] = field(default_factory=list)
    _owners: list[np.ndarray] = field(default_factory=list)
    _norms: list[torch.Tensor] = field(default_factory=list)

    def add(self, losses: Sequence[torch.Tensor], owners: np.ndarray, norm: torch.Tensor) -> None:
        """Take in one step.

        Args:
            losses: of this rank's sequences, in nats summed over each; in order, in as many parts as you like.
            owners: index of the source that each sequence came from.
            norm: of the gradient over all ranks.
        """
        self._losses += losses
        self._owners.append(owners)
        self._norms.append(norm)

    def totals(self, team: Team) -> Totals:
        """The sums so far, over all ranks; every rank has to ask at the same step."""
        norms = torch.stack(self._norms).double().cpu().numpy() if self._norms else np.zeros(0)
        sums = torch.zeros(2, self.sources, dtype=torch.float64)
        if self._losses:
            owners, losses = np.concatenate(self._owners), torch.cat(self._losses).double().cpu().numpy()
            sums[0] = torch.from_numpy(np.bincount(owners, losses, self.sources))
            sums[1] = torch.from_numpy(np.bincount(owners, minlength=self.sources))
        if self._before is not None and team.leads:
            sums += torch.from_numpy(np.stack([self._before.losses, self._before.sequences]))
        team.sum([sums])
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
        """Begin the next window."""
        self.resume(None)

    def resume(self, totals: Totals | None) -> None:
        """Begin where an earlier window stood."""
        self._before = totals
        self._losses, self._owners, self._norms = [], [], []


def totals_to_json(totals: Totals) -> dict[str, Any]:
    """The sums of finite values, for a checkpoint; floats survive JSON to the last bit."""
    return {
        "steps": totals.steps,
        "losses": totals.losses.tolist(),
        "sequences": totals.sequences.tolist(),
        "norms": totals.norms,
    }


def totals_from_json(plain: Mapping[str, Any]) -> Totals:
    """What `totals_to_json` gave."""
    losses, sequences = np.array(plain["losses"], np.float64), np.array(plain["sequences"], np.float64)
    return Totals(plain["steps"], losses, sequences, plain["norms"], None)


class MetricsFile:
    """`metrics.jsonl`, which one process writes and anyone may read meanwhile.

    Args:
        path: the file; made where it is missing.
        keep_bytes: its length at the checkpoint that training goes on from; what is after it tells of steps that
            will be done again, and is dropped.
    """

    def __init__(self, path: Path, *, keep_bytes: int) -> None:
        self._path = path
        with path.open("ab") as handle:
            if handle.tell() > keep_bytes:
                handle.truncate(keep_bytes)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record."""
        with self._path.open("ab") as handle:
            handle.write(json.dumps(record, allow_nan=False, separators=(",", ":")).encode() + b"\n")

    def sync(self) -> int:
        """Make sure that all of it is on the disk; returns its length in bytes."""
        with self._path.open("ab") as handle:
            os.fsync(handle.fileno())
            return handle.tell()


class SpikeWatch:
    """Tells from the losses of a run whether it has diverged.

    The bar is the lowest median of `window` records in a row that the stage has seen, and no higher than the loss
    of guessing every token alike; plus `nats`, or, where records are noisy, 6 standard deviations as their median
    absolute deviation estimates them. Noise, a single spike, and a mix whose sources differ by several nats do not
    stay above it for `records` in a row; a learning rate that is too high does.

    Attributes:
        rule: the numbers above.
        bar: the loss above which a record counts, in nats.
    """

    bar: float

    def __init__(self, rule: SpikeRule, *, vocabulary: int) -> None:
        self.rule = rule
        self._uniform = math.log(vocabulary)
        self._stage: str | None = None

    def see(self, stage: str, loss: float) -> bool:
        """Take in a record; returns whether the run is to be given up.

        Args:
            stage: the name of its stage; another mix may well have another loss, so the watch begins anew with each.
            loss: nats a token.
        """
        rule = self.rule
        if stage != self._stage:
            self._stage, self._above, self.bar = stage, 0, self._uniform + rule.nats
            self._recent: deque[float] = deque(maxlen=rule.records + rule.window)
        self._recent.append(loss)
        if len(self._recent) == rule.records + rule.window:
            # The newest `records` are on trial, so they do not set the bar.
            seen = list(self._recent)[: rule.window]
            middle = statistics.median(seen)
            noise = 1.4826 * statistics.median([abs(value - middle) for value in seen])
            self.bar = min(self.bar, middle + max(rule.nats, 6 * noise))
        self._above = self._above + 1 if loss > self.bar else 0
        return self._above >= rule.records
