"""One experiment: mix, proxy model, token budget, optimiser and stages; and the run that trains it with one seed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from assay.errors import AssayError
from assay.fingerprint import SHORT, fingerprint
from assay.sources import check_name
from assay.structure import to_mapping

TRAINER_VERSION = 1
"""Raised whenever the same spec would end with other weights; then nothing older is reused."""


def _positive(where: str, **values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise AssayError(f"{where}: {name} is {value}.", fix=f"{name} is a finite number above 0.")


def _share(where: str, **values: float) -> None:
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise AssayError(f"{where}: {name} is {value}.", fix=f"{name} is between 0 and 1.")


@dataclass(frozen=True, kw_only=True)
class ProxyModel:
    """The shape of a Llama model, small enough to train often."""

    name: str
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    tie_embeddings: bool
    rope_theta: float
    sequence_length: int
    """Tokens of one training sequence, and the longest context that is evaluated."""

    def __post_init__(self) -> None:
        where = f"proxy {self.name!r}"
        _positive(where, hidden_size=self.hidden_size, intermediate_size=self.intermediate_size, layers=self.layers)
        _positive(where, heads=self.heads, kv_heads=self.kv_heads, sequence_length=self.sequence_length)
        _positive(where, rope_theta=self.rope_theta)
        if self.hidden_size % (2 * self.heads):
            raise AssayError(
                f"{where}: hidden_size {self.hidden_size} does not split into {self.heads} heads of an even size.",
                fix="Rotary embeddings need hidden_size / heads to be a whole, even number.",
            )
        if self.heads % self.kv_heads:
            raise AssayError(f"{where}: {self.heads} heads do not share {self.kv_heads} kv_heads evenly.")

    def parameters(self, vocabulary: int) -> int:
        """Trainable parameters for a vocabulary, embeddings included."""
        head = self.hidden_size // self.heads
        attention = 2 * self.hidden_size * self.hidden_size + 2 * self.hidden_size * head * self.kv_heads
        layer = attention + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size
        embeddings = vocabulary * self.hidden_size * (1 if self.tie_embeddings else 2)
        return embeddings + self.layers * layer + self.hidden_size

    def flops_per_token(self, vocabulary: int) -> float:
        """Training operations a token, forward and backward: 6 N + 12 layers x hidden x sequence (PaLM, appendix B)."""
        head = vocabulary * self.hidden_size
        matmul = self.parameters(vocabulary) - head * (1 if self.tie_embeddings else 2) + head
        return 6 * matmul + 12 * self.layers * self.hidden_size * self.sequence_length


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """AdamW and the learning rate over the run."""

    name: str
    peak_lr: float
    schedule: Literal["cosine", "wsd", "linear", "constant"]
    warmup: float
    """Share of the steps over which the rate rises linearly from 0."""
    decay: float
    """WSD only: share of the steps at the end over which the rate falls linearly."""
    final_lr: float
    """The last rate, as a share of the peak."""
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    gradient_clip: float
    """Largest norm of the gradient; 0 leaves it as it is."""

    def __post_init__(self) -> None:
        where = f"optimiser {self.name!r}"
        _positive(where, peak_lr=self.peak_lr, epsilon=self.epsilon)
        _share(where, warmup=self.warmup, decay=self.decay, final_lr=self.final_lr, beta1=self.beta1, beta2=self.beta2)
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0 and self.gradient_clip >= 0):
            raise AssayError(f"{where}: weight_decay and gradient_clip are at least 0.")

    def lr(self, step: int, steps: int) -> float:
        """The learning rate of one of `steps` optimiser steps, the first being step 0."""
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
    """How many tokens a run trains on: so many, or so many for each parameter."""

    tokens: int | None = None
    tokens_per_parameter: float | None = None

    def __post_init__(self) -> None:
        if (self.tokens is None) == (self.tokens_per_parameter is None):
            raise AssayError(
                "budget: give exactly one of `tokens` and `tokens_per_parameter`.",
                fix="Set the other to null: budget.tokens=null budget.tokens_per_parameter=20.",
            )
        given = self.tokens if self.tokens is not None else self.tokens_per_parameter
        _positive("budget", tokens=given or 0)

    def resolve(self, parameters: int) -> int:
        """The budget in tokens for a model of so many parameters."""
        if self.tokens is not None:
            return self.tokens
        return round((self.tokens_per_parameter or 0) * parameters)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one optimiser step sees."""

    sequences: int
    micro: int
    """Sequences that go through the model at once on one device; the rest is accumulated. Not part of identity."""

    def __post_init__(self) -> None:
        _positive("batch", sequences=self.sequences, micro=self.micro)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stretch of the run with a mix of its own, as it is written."""

    name: str
    share: float
    """Share of the run's tokens."""
    mix: str | None = None
    """The mix of this stage; left out, it is the mix that is being tested."""
    anneal: bool = False
    """Whether the learning rate falls linearly to 0 from what it was at the end of the stage before."""

    def __post_init__(self) -> None:
        check_name("stage", self.name)
        if not 0 < self.share <= 1:
            raise AssayError(f"stage {self.name!r}: share is {self.share}.", fix="A share is above 0 and at most 1.")


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """A stage, resolved: its weights and its steps."""

    name: str
    weights: dict[str, float]
    steps: int
    anneal: bool = False


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """Everything that decides which weights a run ends with; and nothing else.

    Its fields are literals: no path, no host, no user, no time. Equal specs are the same run, whoever asks.
    """

    model: ProxyModel
    vocabulary: int
    tokenizer: str
    """Identity of the tokenizer."""
    corpora: dict[str, str]
    """Identity of each source's corpus, by the source's name."""
    stages: tuple[StageSpec, ...]
    optimiser: Optimiser
    batch_sequences: int
    seed: int
    trainer: int = TRAINER_VERSION
    pools: dict[str, int] | None = None
    """By source, to how many of its tokens it is shrunk; the others are whole. `None` where all are."""
    dropout: float = 0.0
    """Share of the embeddings, and of what each layer adds, that is dropped in training (see `assay.train.model`)."""

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise AssayError(f"run spec: dropout is {self.dropout}; it is at least 0 and below 1.")
        used = {name for stage in self.stages for name in stage.weights}
        if used != set(self.corpora):
            raise AssayError(f"run spec: corpora are {sorted(self.corpora)}, the stages' sources {sorted(used)}.")
        if self.pools is not None and not (self.pools and used >= set(self.pools)):
            raise AssayError(f"run spec: pools are of {sorted(self.pools)}, the stages' sources {sorted(used)}.")
        for name, tokens in (self.pools or {}).items():
            _positive("run spec: pools", **{name: tokens})

    @property
    def identity(self) -> dict[str, object]:
        """The plain values that the fingerprint covers; names of presets bear no identity."""
        plain: dict[str, Any] = to_mapping(self)
        for part in ("model", "optimiser"):
            del plain[part]["name"]
        if self.pools is None:  # so that runs on whole sources are those that they were before there were pools
            del plain["pools"]
        if not self.dropout:  # and those without dropout
            del plain["dropout"]
        return plain

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the identity, 64 hexadecimal digits."""
        return fingerprint("run", self.identity)

    @property
    def short(self) -> str:
        """The first digits of the fingerprint, for people."""
        return self.fingerprint[:SHORT]

    @property
    def steps(self) -> int:
        """Optimiser steps of the run."""
        return sum(stage.steps for stage in self.stages)

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one optimiser step, over all devices."""
        return self.batch_sequences * self.model.sequence_length

    @property
    def tokens(self) -> int:
        """Tokens of the whole run."""
        return self.steps * self.tokens_per_step

    def steps_at(self, shares: Iterable[float]) -> tuple[int, ...]:
        """After which steps these shares of the run are done, the earliest first; its end is not among them."""
        return tuple(sorted({max(1, round(share * self.steps)) for share in shares} - {self.steps}))

    def stages_until(self, done: int) -> tuple[StageSpec, ...]:
        """The stages as far as they got in so many steps; those that had not begun are left out."""
        starts = itertools.accumulate((stage.steps for stage in self.stages), initial=0)
        return tuple(
            replace(stage, steps=min(done - start, stage.steps))
            for stage, start in zip(self.stages, starts, strict=False)
            if start < done
        )

    def lr(self, step: int) -> float:
        """The learning rate of a step: the optimiser's schedule, then down to 0 in stages that anneal."""
        main = sum(stage.steps for stage in self.stages if not stage.anneal)
        start, before = 0, 0
        for stage in self.stages:
            if step < start + stage.steps:
                if not stage.anneal:
                    return self.optimiser.lr(before + step - start, main)
                peak = self.optimiser.lr(before - 1, main) if before else self.optimiser.peak_lr
                return peak * (1 - (step - start + 1) / stage.steps)
            start += stage.steps
            before += 0 if stage.anneal else stage.steps
        raise AssayError(f"step {step} is past the run's {self.steps} steps.")


def split_steps(stages: tuple[Stage, ...], steps: int) -> tuple[int, ...]:
    """Whole steps for each stage, in proportion to the shares, summing to `steps`.

    Raises:
        AssayError: the shares do not sum to 1, or a stage would get no step.
    """
    if abs(math.fsum(stage.share for stage in stages) - 1) > 1e-6:
        raise AssayError(
            f"stages: the shares sum to {math.fsum(s.share for s in stages):g}.", fix="Make them sum to 1."
        )
    ends, total = [], 0.0
    for stage in stages:
        total += stage.share
        ends.append(round(total * steps))
    counts = tuple(end - start for start, end in zip([0, *ends], ends, strict=False))
    for stage, count in zip(stages, counts, strict=True):
        if count < 1:
            raise AssayError(f"stage {stage.name!r} gets none of the run's {steps} steps.", fix="Raise the budget.")
    return counts
