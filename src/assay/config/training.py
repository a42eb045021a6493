"""Define trainer settings that are not part of a run's identity.

This module imports no heavy dependency.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from assay.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SpikeRule:
    """Rule that stops a run with a loss spike as diverged."""

    nats: float = 1.0
    """Amount by which a loss must exceed the lowest median loss of the stage to count as a spike."""
    records: int = 10
    """Number of consecutive spike records after which the run is stopped. With 200 records per run, 10 are 5% of the run."""
    window: int = 20
    """Number of consecutive records over which each median is taken."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.nats) and self.nats > 0 and self.records >= 1 and self.window >= 1):
            raise ConfigError(
                f"training.spike: `nats` {self.nats}, `records` {self.records} or `window` {self.window} is invalid;"
                " expected `nats` above 0, and `records` and `window` of at least 1.",
                fix="Correct the invalid value.",
            )


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of training that do not affect a run's identity."""

    device: str = "auto"
    """Device: `auto`, `cpu`, `cuda`, or one GPU such as `cuda:0`."""
    threads: int = 1
    """CPU threads per process. For small models, use 1: two threads train only 1.3 to 1.9 times as fast as one
    thread."""
    micro_batch: int = 8
    """Number of sequences per forward pass on each device. Gradients are accumulated over the rest of the batch."""
    checkpoint_seconds: float = 300.0
    """Maximum training time between two checkpoints."""
    checkpoint_steps: int | None = None
    """Interval of checkpoints in addition to those of `checkpoint_seconds`. Null writes no additional checkpoint."""
    keep_checkpoints: int = 2
    """Number of checkpoints to keep. If the newest checkpoint is damaged, the run resumes from the previous checkpoint."""
    records: int = 200
    """Number of training-history records per run. A record covers the steps since the previous record."""
    spike: SpikeRule = field(default_factory=SpikeRule)
    """Rule that stops a run with a loss spike as diverged."""
    interim_evaluations: tuple[float, ...] = ()
    """Fractions of the run's steps, between 0 and 1, after which the weights are saved and evaluated like the final weights.
    These evaluations do not affect the final weights."""
    keep_interim_weights: bool = False
    """Whether to keep the weights of intermediate checkpoints after their evaluation, so that later suites can evaluate them."""
    compile: bool = False
    """Whether to use `torch.compile`. On a CPU it takes 30 to 100 s once, and training is then 1.1 to 1.4 times as fast."""

    def __post_init__(self) -> None:
        for name in ("threads", "micro_batch", "checkpoint_steps", "keep_checkpoints", "records"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(
                    f"training.{name} {value} is invalid; expected at least 1.", fix=f"Set `{name}` to 1 or more."
                )
        if not self.checkpoint_seconds > 0:
            raise ConfigError(
                f"training.checkpoint_seconds {self.checkpoint_seconds} is invalid; expected a number above 0.",
                fix="Set `checkpoint_seconds` to a number above 0.",
            )
        fractions = self.interim_evaluations
        for fraction in fractions:
            if not 0 < fraction < 1:
                raise ConfigError(
                    f"training.interim_evaluations: {fraction:g} is invalid; expected fractions above 0 and below 1.",
                    fix="Remove the fraction. The final weights are always evaluated.",
                )
        if len(set(fractions)) < len(fractions):
            listed = ", ".join(f"{fraction:g}" for fraction in fractions)
            raise ConfigError(
                f"training.interim_evaluations: [{listed}] is invalid; expected distinct fractions.",
                fix="Remove the duplicate.",
            )
