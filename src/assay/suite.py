"""What is measured of a run, and what the gate asks of it: suites and policies as they are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal

from assay.errors import AssayError
from assay.fingerprint import fingerprint
from assay.structure import from_mapping, to_mapping

VALIDATION = "validation/"
"""Tasks of this prefix are a source's held-out split: `validation/books`, measured in bits per byte."""

Role = Literal["primary", "guardrail", "monitor"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """An lm-eval task (or group) by the name its users know."""

    task: str
    num_fewshot: int = 0
    limit: int | None = None
    """Questions of each (sub)task: a fixed, evenly spread sample; left out, all of them."""
    chance: float | None = None
    """Accuracy of guessing; left out, one over the number of choices of each question."""

    def __post_init__(self) -> None:
        if self.num_fewshot < 0 or (self.limit is not None and self.limit < 1):
            raise AssayError(f"task {self.task!r}: num_fewshot is at least 0 and limit at least 1.")


@dataclass(frozen=True, kw_only=True)
class Suite:
    """The tasks that a run is scored on."""

    name: str
    tasks: tuple[Task, ...]
    batch_size: int
    """Part of the evaluation's identity: loglikelihoods differ in the last digits between batch sizes."""
    validation_bytes: int
    """Bytes of each source's validation split to measure bits per byte on; 0 leaves it out."""

    def __post_init__(self) -> None:
        names = [task.task for task in self.tasks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise AssayError(f"suite {self.name!r} names {', '.join(twice)} twice.")
        if self.batch_size < 1 or self.validation_bytes < 0:
            raise AssayError(f"suite {self.name!r}: batch_size is at least 1 and validation_bytes at least 0.")


@dataclass(frozen=True, kw_only=True)
class EvaluationSpec:
    """Everything that decides the scores of given weights: an identity on top of the run's."""

    tasks: tuple[Task, ...]
    batch_size: int
    validation_bytes: int
    validation: dict[str, str]
    """Identity of the corpus whose validation split is measured, by source. The same for every arm of a sweep."""
    harness: str
    """The harness and its version, which fixes the versions of its tasks: `lm_eval 0.4.13`."""
    datasets: str
    """Digest of the local mirror of the benchmarks, or `hub`."""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the fields, 64 hexadecimal digits; `chance` decides no score and is left out."""
        plain = to_mapping(self)
        for task in plain["tasks"]:
            del task["chance"]
        return fingerprint("evaluation", plain)


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One metric that the gate reads."""

    task: str
    metric: str
    better: Literal["higher", "lower"]
    margin: float = 0.0
    """In the metric's unit. Primary: an improvement has to be larger. Guardrail: a loss has to be smaller."""

    def __post_init__(self) -> None:
        if not 0 <= self.margin < float("inf"):
            raise AssayError(f"policy: the margin of {self.task} {self.metric} is {self.margin}; it is at least 0.")


@dataclass(frozen=True, kw_only=True)
class Target:
    """What the decision is really about: one metric at the scale of the big run."""

    scale: str
    task: str
    metric: str
    better: Literal["higher", "lower"]


@dataclass(frozen=True, kw_only=True)
class Early:
    """Whether candidates that still train may be stopped, and by which looks."""

    stop: Literal["none", "losers", "both"] = "none"
    """Who is stopped: nobody, who is shown to be worse, or also who is shown to be better."""
    looks: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Shares of the token budget from which on a look counts; each counts once, whoever looks how often."""
    spend: float = 0.2
    """Share of alpha that the looks have together; the verdict at the end has the rest, where somebody may be stopped."""
    held: float = 0.0
    """Least share of the history's signals of that size that held to the end; above 0, nobody is stopped without a history."""

    def __post_init__(self) -> None:
        ends = (0.0, *self.looks, 1.0)
        if not self.looks or any(low >= high for low, high in pairwise(ends)):
            raise AssayError(
                f"policy: early.looks is {list(self.looks)}; shares of the budget rise, above 0 and below 1.",
                fix="Such as `looks: [0.25, 0.5, 0.75]`.",
            )
        if not 0 < self.spend < 1:
            raise AssayError(f"policy: early.spend is {self.spend}; it is above 0 and below 1.")
        if not 0 <= self.held <= 1:
            raise AssayError(f"policy: early.held is {self.held}; it is from 0 to 1.")


@dataclass(frozen=True, kw_only=True)
class Averaging:
    """Over how many of a run's last checkpoints its scores are averaged (see `assay.stats.checkpoints`)."""

    last: int = 1
    """How many, the final weights included; 1 judges by those alone."""
    every: float = 0.05
    """Share of the run between one and the next. Results from elsewhere are averaged over the checkpoints that they have."""

    def __post_init__(self) -> None:
        if self.last < 1 or not 0 < self.every < 1 or (self.last - 1) * self.every >= 1:
            raise AssayError(
                f"policy: average is the last {self.last}, every {self.every:g} of the run.",
                fix="`last` is at least 1, `every` a share above 0, and all of them are within the run.",
            )

    @property
    def shares(self) -> tuple[float, ...]:
        """After which shares of a run it is scored for the mean, beside its end."""
        return tuple(1 - before * self.every for before in range(self.last - 1, 0, -1))


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What the gate requires, fixed before the results are in."""

    name: str
    primary: tuple[Criterion, ...] = ()
    """What has to improve at the proxy. With a target it may be empty: then that alone decides."""
    guardrails: tuple[Criterion, ...] = ()
    alpha: float
    """Family-wise error rate over everything that votes."""
    min_seeds: int
    """Replicates of a mix below which nothing is decided. With 1, a single one is judged by the noise of past runs, where known."""
    require: Literal["any", "all"] = "any"
    """Whether one primary metric has to improve (none may fall), or all of them."""
    proxy_scale: str | None = None
    """The scale to judge at, as the results' `scale` column has it; needed where the results hold several."""
    target: Target | None = None
    """Where the mix is meant to be used."""
    average: Averaging = Averaging()
    """What a run's score is: that of its final weights, or the mean over its last checkpoints."""
    early: Early = Early()
    """Looks at candidates that still train (see `assay.early`)."""

    def __post_init__(self) -> None:
        if not self.primary and self.target is None:
            raise AssayError(
                f"policy {self.name!r} has no primary metric and no target.",
                fix="Name at least one metric to improve: `primary: [{task, metric, better}]`.",
            )
        if not 0 < self.alpha < 0.5:
            raise AssayError(f"policy {self.name!r}: alpha is {self.alpha}; it is above 0 and below 0.5.")
        if self.min_seeds < 1:
            raise AssayError(f"policy {self.name!r}: min_seeds is {self.min_seeds}; it is at least 1.")
        pairs = [(c.task, c.metric) for c in (*self.primary, *self.guardrails)]
        twice = sorted({f"{task} {metric}" for task, metric in pairs if pairs.count((task, metric)) > 1})
        if twice:
            raise AssayError(f"policy {self.name!r} names {', '.join(twice)} twice.")

    def criterion(self, task: str, metric: str) -> tuple[Role, Criterion | None]:
        """The role of a metric, and its criterion if it votes."""
        for role, criteria in (("primary", self.primary), ("guardrail", self.guardrails)):
            for criterion in criteria:
                if (criterion.task, criterion.metric) == (task, metric):
                    return role, criterion  # type: ignore[return-value]  # mypy widens the literal in the tuple
        return "monitor", None

    @property
    def at_the_end(self) -> Policy:
        """The policy of the verdict on what has trained to the end: alpha without what looks before it may have spent."""
        if self.early.stop == "none":
            return self
        return replace(self, alpha=self.alpha * (1 - self.early.spend), early=Early())

    @classmethod
    def from_yaml(cls, path: Path | str) -> Policy:
        """Read a policy file; its name is the file's where it gives none.

        Raises:
            AssayError: the file is not a mapping, a key is unknown or missing, or a value is refused.
        """
        import yaml

        path = Path(path)
        try:
            plain = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise AssayError(f"policy {path} cannot be read: {error}") from None
        if not isinstance(plain, Mapping):
            raise AssayError(
                f"policy {path} holds no keys.",
                fix="It needs primary (or a target), alpha and min_seeds; guardrails if any.",
            )
        plain = {"name": path.stem, **plain}
        # Scales are names; of one that YAML reads as a number, the number is the name.
        target = plain.get("target")
        for place in (plain, target if isinstance(target, dict) else {}):
            for key in ("scale", "proxy_scale"):
                if isinstance(place.get(key), (int, float)):
                    place[key] = str(place[key])
        return from_mapping(cls, plain, where=f"policy {path}")
