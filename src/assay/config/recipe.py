"""Define the recipe of an experiment, and the spec of a run.

A recipe has a proxy, a budget, an optimizer, a batch and stages.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from assay.config.sources import check_name
from assay.core.errors import ConfigError
from assay.core.fingerprint import SHORT, fingerprint
from assay.core.serde import to_mapping

TRAINER_VERSION = 2
"""Version of the trainer. The version increases when a spec would train other weights than before. assay then reuses no
older runs."""


def _positive(where: str, **values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(
                f"{where}: `{name}` {value} is invalid; expected a finite number above 0.",
                fix=f"Set `{name}` to a number above 0.",
            )


def _fraction(where: str, **values: float) -> None:
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ConfigError(
                f"{where}: `{name}` {value} is invalid; expected a number from 0 to 1.",
                fix=f"Set `{name}` to a number from 0 to 1.",
            )


@dataclass(frozen=True, kw_only=True)
class ProxyModel:
    """Shape of the proxy: a Llama model that is small enough to train many times."""

    name: str
    """Name of the preset. The name does not affect a run's identity."""
    hidden_size: int
    """Width of the residual stream."""
    intermediate_size: int
    """Width of the feed-forward layers."""
    layers: int
    """Number of transformer layers."""
    heads: int
    """Number of attention heads. `hidden_size` / `heads` must be an even integer."""
    kv_heads: int
    """Number of key and value heads. `heads` must be a multiple of this number."""
    tie_embeddings: bool
    """Whether input and output embeddings share weights."""
    rope_theta: float
    """Base of the rotary position embedding."""
    sequence_length: int
    """Number of tokens of a training sequence, and of the longest context in evaluations."""

    def __post_init__(self) -> None:
        where = f"proxy {self.name!r}"
        _positive(where, hidden_size=self.hidden_size, intermediate_size=self.intermediate_size, layers=self.layers)
        _positive(where, heads=self.heads, kv_heads=self.kv_heads, sequence_length=self.sequence_length)
        _positive(where, rope_theta=self.rope_theta)
        if self.hidden_size % (2 * self.heads):
            raise ConfigError(
                f"{where}: `hidden_size` {self.hidden_size} is invalid with {self.heads} heads; expected a multiple of"
                f" {2 * self.heads}.",
                fix="Change hidden_size or heads: rotary embeddings need an even head size (hidden_size / heads).",
            )
        if self.heads % self.kv_heads:
            raise ConfigError(
                f"{where}: `kv_heads` {self.kv_heads} is invalid; expected a divisor of `heads`, which is {self.heads}.",
                fix=f"Set `kv_heads` to {self.heads}, or to another divisor of `heads`.",
            )

    def parameters(self, vocabulary: int) -> int:
        """Count the trainable parameters for a vocabulary, including embeddings."""
        head = self.hidden_size // self.heads
        attention = 2 * self.hidden_size * self.hidden_size + 2 * self.hidden_size * head * self.kv_heads
        layer = attention + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size
        embeddings = vocabulary * self.hidden_size * (1 if self.tie_embeddings else 2)
        return embeddings + self.layers * layer + self.hidden_size

    def flops_per_token(self, vocabulary: int) -> float:
        """Return the training FLOPs per token: 6 N + 12 layers x hidden x sequence.

        The formula is from PaLM, appendix B.
        """
        head = vocabulary * self.hidden_size
        matmul = self.parameters(vocabulary) - head * (1 if self.tie_embeddings else 2) + head
        return 6 * matmul + 12 * self.layers * self.hidden_size * self.sequence_length


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Settings of AdamW and of the learning-rate schedule."""

    name: str
    """Name of the preset. The name does not affect a run's identity."""
    peak_lr: float
    """Highest learning rate."""
    schedule: Literal["cosine", "wsd", "linear", "constant"]
    """Shape of the learning rate after warmup."""
    warmup: float
    """Length of the warmup, in which the learning rate rises linearly from 0."""
    decay: float
    """Length of the final linear decay of the learning rate, as a fraction of the steps. Only the schedule `wsd` uses
    it."""
    final_lr: float
    """Final learning rate, as a fraction of `peak_lr`."""
    beta1: float
    """Decay rate of AdamW's first moment."""
    beta2: float
    """Decay rate of AdamW's second moment."""
    epsilon: float
    """Constant that AdamW adds to the denominator of its update."""
    weight_decay: float
    """Decoupled weight decay."""
    gradient_clip: float
    """Maximum norm of the gradient; 0 disables clipping."""

    def __post_init__(self) -> None:
        where = f"optimizer {self.name!r}"
        _positive(where, peak_lr=self.peak_lr, epsilon=self.epsilon)
        _fraction(
            where, warmup=self.warmup, decay=self.decay, final_lr=self.final_lr, beta1=self.beta1, beta2=self.beta2
        )
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0 and self.gradient_clip >= 0):
            raise ConfigError(
                f"{where}: `weight_decay` {self.weight_decay} or `gradient_clip` {self.gradient_clip} is invalid; expected finite"
                " numbers of at least 0.",
                fix="Set the invalid value to 0 or a positive number.",
            )

    def lr(self, step: int, steps: int) -> float:
        """Return the learning rate of a step of `steps` steps. The first step is 0."""
        warmup = round(self.warmup * steps)
        if step < warmup:
            return self.peak_lr * (step + 1) / warmup
        floor = self.final_lr
        done = (step + 1 - warmup) / max(1, steps - warmup)
        match self.schedule:
            case "cosine":
                factor = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))
            case "linear":
                factor = 1 - (1 - floor) * done
            case "wsd":
                decay = max(1, round(self.decay * steps))
                factor = 1 - (1 - floor) * max(0.0, (step + 1 - (steps - decay)) / decay)
            case "constant":
                factor = 1.0
        return self.peak_lr * factor


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Number of training tokens of a run. Give exactly one of `tokens` and `tokens_per_parameter`."""

    tokens: int | None = None
    """Training tokens of a run."""
    tokens_per_parameter: float | None = None
    """Training tokens per model parameter. The value 20 follows Hoffmann et al. 2022."""

    def __post_init__(self) -> None:
        if (self.tokens is None) == (self.tokens_per_parameter is None):
            raise ConfigError(
                "budget: the number of given keys is invalid; expected exactly one of `tokens` and `tokens_per_parameter`.",
                fix="Set the other key to null: budget.tokens=null budget.tokens_per_parameter=20.",
            )
        amount = self.tokens if self.tokens is not None else self.tokens_per_parameter
        _positive("budget", tokens=amount or 0)

    def resolve(self, parameters: int) -> int:
        """Return the budget in tokens for a number of parameters."""
        if self.tokens is not None:
            return self.tokens
        return round((self.tokens_per_parameter or 0) * parameters)


@dataclass(frozen=True, kw_only=True)
class BatchSize:
    """Number of sequences per optimizer step and per forward pass."""

    sequences: int
    """Sequences of one optimizer step, over all devices."""
    micro: int
    """Number of sequences per forward pass on one device. Gradients are accumulated over the rest of the batch. The
    number does not affect a run's identity."""

    def __post_init__(self) -> None:
        _positive("batch", sequences=self.sequences, micro=self.micro)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of a run that trains on its own mix."""

    name: str
    """Name of the stage in training records and on pages."""
    fraction: float
    """Fraction of the run's tokens."""
    mix: str | None = None
    """Mix of the stage. Null selects the mix of the run's arm."""
    anneal: bool = False
    """Whether the learning rate falls linearly to 0 from its value at the end of the previous stage."""

    def __post_init__(self) -> None:
        check_name("stage", self.name)
        if not 0 < self.fraction <= 1:
            raise ConfigError(
                f"stage {self.name!r}: `fraction` {self.fraction} is invalid; expected a number above 0 and at most 1.",
                fix="Set `fraction` to a number above 0 and at most 1.",
            )


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """A stage with resolved weights and steps."""

    name: str
    """Name of the stage."""
    weights: dict[str, float]
    """Weight of each source; they sum to 1."""
    steps: int
    """Optimizer steps of the stage."""
    anneal: bool = False
    """Whether the learning rate falls linearly to 0 from its value at the end of the previous stage."""


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """Everything that determines the final weights of a run, and nothing else.

    The fields contain no path, host, user or time. Equal specs identify one run.
    """

    model: ProxyModel
    """Shape of the model."""
    vocabulary: int
    """Size of the tokenizer's vocabulary."""
    tokenizer: str
    """Identity of the tokenizer."""
    corpora: dict[str, str]
    """Identity of each source's corpus, by name of the source."""
    stages: tuple[StageSpec, ...]
    """Stages with weights and steps."""
    optimizer: Optimizer
    """Optimizer and learning rate."""
    batch_sequences: int
    """Sequences of one optimizer step, over all devices."""
    seed: int
    """Seed of the initialization and of the data order."""
    trainer: int = TRAINER_VERSION
    """Version of the trainer."""
    pools: dict[str, int] | None = None
    """Number of tokens to which a source is shrunk, by source; `None` if all sources are whole."""
    dropout: float = 0.0
    """Fraction of the embeddings and of each layer's output that training drops (see `assay.train.model`)."""

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ConfigError(
                f"run spec: `dropout` {self.dropout} is invalid; expected a number of at least 0 and below 1."
            )
        used = {name for stage in self.stages for name in stage.weights}
        if used != set(self.corpora):
            raise ConfigError(
                f"run spec: corpora {sorted(self.corpora)} is invalid; expected the stages' sources {sorted(used)}."
            )
        if self.pools is not None and not (self.pools and used >= set(self.pools)):
            raise ConfigError(
                f"run spec: pools {sorted(self.pools)} is invalid; expected some of the stages' sources {sorted(used)}."
            )
        for name, tokens in (self.pools or {}).items():
            _positive("run spec: pools", **{name: tokens})

    @property
    def identity(self) -> dict[str, object]:
        """The plain values that the fingerprint covers, without names of presets."""
        plain: dict[str, Any] = to_mapping(self)
        for part in ("model", "optimizer"):
            del plain[part]["name"]
        if self.pools is None:  # runs on whole sources have the same fingerprints as in versions without pools
            del plain["pools"]
        if not self.dropout:  # likewise for versions without dropout
            del plain["dropout"]
        return plain

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the identity, 64 hexadecimal digits."""
        return fingerprint("run", self.identity)

    @property
    def short(self) -> str:
        """The first digits of the fingerprint, for display."""
        return self.fingerprint[:SHORT]

    @property
    def steps(self) -> int:
        """Number of optimizer steps of the run."""
        return sum(stage.steps for stage in self.stages)

    @property
    def tokens_per_step(self) -> int:
        """Number of tokens of one optimizer step, over all devices."""
        return self.batch_sequences * self.model.sequence_length

    @property
    def tokens(self) -> int:
        """Number of tokens of the whole run."""
        return self.steps * self.tokens_per_step

    def steps_at(self, fractions: Iterable[float]) -> tuple[int, ...]:
        """Return the ascending step counts at fractions of the run, without the run's end."""
        return tuple(sorted({max(1, round(fraction * self.steps)) for fraction in fractions} - {self.steps}))

    def stages_until(self, done: int) -> tuple[StageSpec, ...]:
        """Return the stages of the first `done` steps, with the last stage shortened."""
        starts = itertools.accumulate((stage.steps for stage in self.stages), initial=0)
        return tuple(
            replace(stage, steps=min(done - start, stage.steps))
            for stage, start in zip(self.stages, starts, strict=False)
            if start < done
        )

    def lr(self, step: int) -> float:
        """Return the learning rate of a step.

        The learning rate follows the optimizer's schedule, with linear decay to 0 in annealing stages.
        """
        main = sum(stage.steps for stage in self.stages if not stage.anneal)
        start, before = 0, 0
        for stage in self.stages:
            if step < start + stage.steps:
                if not stage.anneal:
                    return self.optimizer.lr(before + step - start, main)
                peak = self.optimizer.lr(before - 1, main) if before else self.optimizer.peak_lr
                return peak * (1 - (step - start + 1) / stage.steps)
            start += stage.steps
            before += 0 if stage.anneal else stage.steps
        raise ConfigError(f"step {step} is invalid; expected a step below {self.steps}, the steps of the run.")


def split_steps(stages: tuple[Stage, ...], steps: int) -> tuple[int, ...]:
    """Split `steps` into whole steps of each stage, in proportion to stage fractions.

    Raises:
        ConfigError: the fractions do not sum to 1, or a stage would get no step.
    """
    if abs(math.fsum(stage.fraction for stage in stages) - 1) > 1e-6:
        total = math.fsum(stage.fraction for stage in stages)
        raise ConfigError(
            f"stages: the fractions sum to {total:g}; expected a sum of 1.",
            fix="Change `fraction` of the stages to a sum of 1.",
        )
    ends, total = [], 0.0
    for stage in stages:
        total += stage.fraction
        ends.append(round(total * steps))
    counts = tuple(end - start for start, end in zip([0, *ends], ends, strict=False))
    for stage, count in zip(stages, counts, strict=True):
        if count < 1:
            raise ConfigError(
                f"stage {stage.name!r}: `fraction` {stage.fraction:g} is invalid; expected at least one of the run's {steps} steps.",
                fix="Raise the budget, or `fraction` of the stage.",
            )
    return counts
