"""Define the content of a sweep's report as plain values for all views."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from assay.analysis.results import delivered_problem
from assay.core.fingerprint import SHORT
from assay.report.details import Details
from assay.report.reason_text import text, with_fix

if TYPE_CHECKING:
    from assay.analysis.comparison import Comparison
    from assay.analysis.gate import SweepVerdict
    from assay.config.policy import Policy
    from assay.config.reason import Reason
    from assay.config.recipe import RunSpec
    from assay.config.sources import ClearanceState
    from assay.config.suite import EvaluationSpec
    from assay.config.sweep import Sweep
    from assay.plan.plan import Plan, PlanStatus
    from assay.store.runs import Status


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The store's record of one run."""

    status: Status
    labels: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    """Logged records with step, tokens, loss, bits_per_byte, lr, grad_norm, tokens_per_second and mfu."""
    delivered: Mapping[str, Any] | None = None
    scores: Sequence[Mapping[str, Any]] | None = None
    """Records with task, metric, value, n, stderr and chance; None if the sweep's evaluation is missing."""
    problem: str | None = None
    """Error of the unreadable parts of the record; None without errors."""
    log: tuple[str, ...] = ()
    """The last lines that the run's process printed."""


@dataclass(frozen=True, kw_only=True)
class SourceShown:
    """The facts about a source that a report shows."""

    name: str
    domain: str
    language: str
    license: str | None
    clearance: ClearanceState
    refusal: Reason | None
    decided: str
    """Person, date and reference of the clearance decision; empty without a decision."""
    snapshot: datetime.date | None
    tokens: int | None
    """Number of training tokens; None if the source is not tokenized."""
    description: str
    tags: tuple[str, ...] = ()
    """Labels for quality and kind, from the source's declaration."""


@dataclass(frozen=True, kw_only=True)
class MixShown:
    """A mix of the sweep, with its weight, tokens and epochs of every source."""

    name: str
    baseline: bool
    description: str
    arm: str
    """Description of the arm and its control; empty without an arm declaration."""
    base: str | None
    edits: tuple[str, ...]
    """Descriptions of the edits that lead to the weights, in order."""
    weights: dict[str, float]
    """Requested weights of a run, over all stages, after the limits on epochs."""
    capped: bool
    """Whether a limit on epochs, or stages with another mix, change the declared weights."""
    tokens: dict[str, int]
    epochs: dict[str, float]
    """Number of passes over each source of known size."""
    max_epochs: float | None


@dataclass(frozen=True, kw_only=True)
class DeliveredShown:
    """The tokens that one source delivered to one run."""

    source: str
    requested: float
    delivered: float
    """Delivered fraction of the run's tokens."""
    tokens: int
    sequences: int | None
    documents: int | None
    epochs: float | None

    @property
    def off(self) -> float:
        """Absolute difference between the delivered and the requested fraction."""
        return abs(self.delivered - self.requested)


@dataclass(frozen=True, kw_only=True)
class DeliveredMean:
    """The tokens that one source delivered to the runs of one mix."""

    mix: str
    source: str
    requested: float
    delivered: float
    """Mean delivered fraction over the runs of the mix."""
    most_off: float
    """Largest absolute difference between the requested and the delivered fraction of a run."""
    runs: int


@dataclass(frozen=True, kw_only=True)
class ScoreShown:
    """One metric of one run."""

    task: str
    metric: str
    value: float
    n: int | None
    stderr: float | None
    chance: float | None


@dataclass(frozen=True, kw_only=True)
class RunShown:
    """One run of the sweep."""

    mix: str
    seed: int
    fingerprint: str | None
    planned: PlanStatus
    reasons: tuple[Reason, ...]
    taints: tuple[Reason, ...]
    """Defects of the run's sources, which exclude the run from the verdict."""
    spec: RunSpec | None
    result: RunResult | None
    """Record of the run; None if the store has no record."""
    history: tuple[Mapping[str, Any], ...]
    """The logged records in order of step. A step that was repeated after a kill occurs once."""
    delivered: tuple[DeliveredShown, ...]
    scores: tuple[ScoreShown, ...]

    @property
    def label(self) -> str:
        """The name of the run within its sweep."""
        return f"{self.mix} s{self.seed}"

    @property
    def short(self) -> str:
        """The first digits of the fingerprint; empty without a fingerprint."""
        return (self.fingerprint or "")[:SHORT]

    @property
    def state(self) -> str:
        """The recorded state of the run.

        Without a record, the state is the planned action if the plan refuses the run or holds it back for a later
        stage, and `never run` otherwise.
        """
        if self.result is None:
            return self.planned if self.planned in {"refused", "later", "skipped"} else "never run"
        return self.result.status.state

    @property
    def evaluated(self) -> bool:
        """Whether the store has the sweep's evaluation of this run."""
        return self.result is not None and self.result.scores is not None

    @property
    def seconds(self) -> float:
        """Worker time so far in seconds, including lost work."""
        return 0.0 if self.result is None else self.result.status.train_seconds + self.result.status.evaluate_seconds

    @property
    def problem(self) -> str:
        """The run's errors as text; empty without errors."""
        parts = []
        if self.result is not None:
            failure = self.result.status.failure
            if failure is not None:
                parts.append(f"{failure.kind}: {failure.message}")
            if self.result.problem:
                parts.append(self.result.problem)
            if self.spec is not None and self.result.delivered is not None:
                off = delivered_problem(self.spec, {"delivered": delivered_sources(self.result.delivered)})
                parts += [] if off is None else [text(off)]
        if self.planned == "refused":
            reasons = map(with_fix, self.reasons)
            parts += [reason for reason in reasons if not any(part in reason for part in parts if part)]
        return "; ".join(part for part in parts if part)

    def last(self, key: str) -> float | None:
        """Return the last finite logged value of a key."""
        for record in reversed(self.history):
            value = finite(record.get(key))
            if value is not None:
                return value
        return None


@dataclass(frozen=True, kw_only=True)
class MeanScore:
    """Mean of a metric over the runs of one mix."""

    mix: str
    task: str
    metric: str
    mean: float
    deviation: float | None
    """Sample standard deviation over seeds; None for a single seed."""
    seeds: int
    n: int | None
    chance: float | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """The report of one sweep: question, plan, mixes, sources, runs and verdict."""

    sweep: Sweep
    plan: Plan
    evaluation: EvaluationSpec | None
    policy: Policy | None
    budget: int
    """Number of tokens of a run."""
    mixes: tuple[MixShown, ...]
    """The baseline, then the candidates."""
    sources: tuple[SourceShown, ...]
    """The sources of all mixes."""
    runs: tuple[RunShown, ...]
    verdict: SweepVerdict | None
    """Verdict of the gate; None if no comparison is possible yet."""
    made: datetime.datetime
    versions: dict[str, str]
    """Versions of the packages that made the report."""
    details: Details = field(default_factory=Details)
    """Data from other files than the records of the runs."""

    @property
    def decision(self) -> str:
        """The sweep's decision; `NO VERDICT` without a verdict."""
        return str(self.verdict.decision).upper() if self.verdict is not None else "NO VERDICT"

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """All comparisons by candidate, with voting metrics in the policy's order before monitor metrics."""
        if self.verdict is None:
            return ()
        verdicts = self.verdict.candidates
        return tuple(c for name in self.sweep.candidates if name in verdicts for c in verdicts[name].comparisons)

    @property
    def finished(self) -> int:
        """Number of trained and evaluated runs."""
        return sum(run.evaluated for run in self.runs)

    @property
    def spec(self) -> RunSpec | None:
        """The first run spec, for settings that all runs of the sweep have in common."""
        return next((run.spec for run in self.runs if run.spec is not None), None)

    def mix(self, name: str) -> MixShown:
        """Return a mix by name."""
        return next(mix for mix in self.mixes if mix.name == name)

    def delivered_by_mix(self) -> tuple[DeliveredMean, ...]:
        """Average the delivered mix over the runs of each mix, in the sweep's order."""
        groups: dict[tuple[str, str], list[DeliveredShown]] = {}
        for run in self.runs:
            for part in run.delivered:
                groups.setdefault((run.mix, part.source), []).append(part)
        order = {name: place for place, name in enumerate(self.sweep.mixes)}
        return tuple(
            DeliveredMean(
                mix=mix,
                source=source,
                requested=parts[0].requested,
                delivered=math.fsum(part.delivered for part in parts) / len(parts),
                most_off=max(part.off for part in parts),
                runs=len(parts),
            )
            for (mix, source), parts in sorted(groups.items(), key=lambda item: (order[item[0][0]], item[0][1]))
        )

    def mean_scores(self) -> tuple[MeanScore, ...]:
        """Average every metric over the seeds of each mix, sorted by task, metric and mix."""
        groups: dict[tuple[str, str, str], list[ScoreShown]] = {}
        for run in self.runs:
            for score in run.scores:
                groups.setdefault((score.task, score.metric, run.mix), []).append(score)
        order = {name: place for place, name in enumerate(self.sweep.mixes)}
        keys = sorted(groups, key=lambda key: (key[0], key[1], order[key[2]]))
        return tuple(_mean(mix, groups[task, metric, mix]) for task, metric, mix in keys)


def finite(value: Any) -> float | None:
    """Return the value as a float; None if the value is not a finite number."""
    if type(value) is float:  # the fast case, because a large sweep has millions of values
        return value if math.isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def overall_weights(spec: RunSpec) -> dict[str, float]:
    """Return the requested fraction of a run's tokens by source, over all stages of the run."""
    total: dict[str, float] = {}
    for stage in spec.stages:
        for name, weight in stage.weights.items():
            total[name] = total.get(name, 0.0) + weight * stage.steps / spec.steps
    return total


def delivered_sources(delivered: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the record of each source's delivered amount by name, from a run's record."""
    return dict(delivered.get("delivered") or {})


def _mean(mix: str, scores: Sequence[ScoreShown]) -> MeanScore:
    values = [score.value for score in scores]
    mean = math.fsum(values) / len(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    return MeanScore(
        mix=mix,
        task=scores[0].task,
        metric=scores[0].metric,
        mean=mean,
        deviation=math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else None,
        seeds=len(values),
        n=scores[0].n,
        chance=scores[0].chance,
    )
