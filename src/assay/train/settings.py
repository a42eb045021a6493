"""How runs are trained where they are trained. Nothing here is part of a run's identity; nothing heavy is imported."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from assay.errors import AssayError


@dataclass(frozen=True, kw_only=True)
class SpikeRule:
    """When a loss that is still a number is given up on."""

    nats: float = 1.0
    """How far above the best that the stage had reached."""
    records: int = 10
    """For how many records in a row. With the default of 200 records a run that is 5% of it."""
    window: int = 20
    """Records whose median counts as reached."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.nats) and self.nats > 0 and self.records >= 1 and self.window >= 1):
            raise AssayError(f"spike rule: {self}.", fix="nats is above 0, records and window are at least 1.")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What a machine and its users may choose."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, or one GPU as `cuda:0`."""
    threads: int = 1
    """Of the CPU. One a process, and one process a core, does the most work: two threads give 1.3-1.9 times one."""
    micro_batch: int = 8
    """Sequences that go through the model at once on each device; the rest of the batch is accumulated."""
    checkpoint_seconds: float = 300.0
    """The most work that a kill costs."""
    checkpoint_steps: int | None = None
    """Checkpoints after so many steps too, whatever the time."""
    keep_checkpoints: int = 2
    """The newest, and one before it in case the newest is damaged."""
    records: int = 200
    """History records in the whole run, each over the steps since the last."""
    spike: SpikeRule = field(default_factory=SpikeRule)
    looks: tuple[float, ...] = ()
    """Shares of the run's steps after which its weights are kept and scored as the final ones are, so that others can
    look at it while it trains. They decide nothing of the final weights."""
    keep_looks: bool = False
    """Whether the weights of looks stay once they are scored, for suites that are still to come."""
    compile: bool = False
    """`torch.compile` the model: 1.1 to 1.4 times the speed on a CPU, after 30 to 100 s."""

    def __post_init__(self) -> None:
        for name in ("threads", "micro_batch", "checkpoint_steps", "keep_checkpoints", "records"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise AssayError(f"train settings: {name} is {value}.", fix=f"{name} is at least 1.")
        if not self.checkpoint_seconds > 0:
            raise AssayError(f"train settings: checkpoint_seconds is {self.checkpoint_seconds}.", fix="It is above 0.")
        for share in self.looks:
            if not 0 < share < 1:
                raise AssayError(
                    f"train settings: looks has {share:g}.",
                    fix="A look is a share of the run, above 0 and below 1; the final weights are scored anyway.",
                )
        if len(set(self.looks)) < len(self.looks):
            raise AssayError(f"train settings: looks names one twice: {', '.join(f'{s:g}' for s in self.looks)}.")
