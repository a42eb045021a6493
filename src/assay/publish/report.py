"""Everything that is shown of one sweep, as plain values: the page, Markdown and W&B all say what stands here."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from assay.fingerprint import SHORT
from assay.plan import TAINTED
from assay.publish.details import Details
from assay.results import delivered_problem

if TYPE_CHECKING:
    from assay.compare import Comparison
    from assay.gate import SweepVerdict
    from assay.plan import Plan, PlanStatus, Sweep
    from assay.recipe import RunSpec
    from assay.sources import ClearanceState
    from assay.store import Status
    from assay.suite import EvaluationSpec, Policy


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What the store has of one run."""

    status: Status
    labels: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    """Logged records: step, tokens, loss, bits_per_byte, lr, grad_norm, tokens_per_second, mfu."""
    delivered: Mapping[str, Any] | None = None
    scores: Sequence[Mapping[str, Any]] | None = None
    """Records of task, metric, value, n, stderr, chance; ``None`` where the sweep's evaluation is missing."""
    problem: str | None = None
    """Why a part of the record could not be read."""
    log: tuple[str, ...] = ()
    """The last lines that its process printed."""


@dataclass(frozen=True, kw_only=True)
class SourceShown:
    """A source, as people judge it."""

    name: str
    domain: str
    language: str
    licence: str | None
    clearance: ClearanceState
    refusal: str | None
    decided: str
    """Who cleared or blocked it, when, and where that can be read; empty where nobody did."""
    snapshot: datetime.date | None
    tokens: int | None
    """Training tokens, where it was tokenised."""
    description: str
    tags: tuple[str, ...] = ()
    """Of its quality and kind, as the team names them."""


@dataclass(frozen=True, kw_only=True)
class MixShown:
    """A mix of the sweep, with what it asks of every source."""

    name: str
    baseline: bool
    description: str
    arm: str
    """What the arm and its control are, where the sweep says it."""
    base: str | None
    edits: tuple[str, ...]
    """How the weights came about, in words, from the first declaration to the last edit."""
    weights: dict[str, float]
    """What is requested of a run: after caps on epochs, and over all stages."""
    capped: bool
    """Whether that differs from what was declared, by a cap on epochs or by stages with another mix."""
    tokens: dict[str, int]
    epochs: dict[str, float]
    """How often each source of known size is gone through."""
    max_epochs: float | None


@dataclass(frozen=True, kw_only=True)
class DeliveredShown:
    """What one source really gave to one run."""

    source: str
    requested: float
    delivered: float
    """Shares of the run's tokens."""
    tokens: int
    sequences: int | None
    documents: int | None
    epochs: float | None

    @property
    def off(self) -> float:
        """How far the delivered share is from the requested one."""
        return abs(self.delivered - self.requested)


@dataclass(frozen=True, kw_only=True)
class DeliveredMean:
    """What one source gave to the runs of one mix."""

    mix: str
    source: str
    requested: float
    delivered: float
    """Mean over its runs."""
    most_off: float
    """How far the run that is furthest off is from what was requested."""
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
    reasons: tuple[str, ...]
    spec: RunSpec | None
    result: RunResult | None
    """``None`` where the store has never seen the run."""
    history: tuple[Mapping[str, Any], ...]
    """The logged records in order of step; a step that was trained again after a kill stands once."""
    delivered: tuple[DeliveredShown, ...]
    scores: tuple[ScoreShown, ...]

    @property
    def label(self) -> str:
        """What people call the run inside its sweep."""
        return f"{self.mix} s{self.seed}"

    @property
    def short(self) -> str:
        """The first digits of the fingerprint."""
        return (self.fingerprint or "")[:SHORT]

    @property
    def state(self) -> str:
        """The recorded state; `refused` where the plan lets it not begin, `never run` where nothing is recorded."""
        if self.result is None:
            return "refused" if self.planned == "refused" else "never run"
        return self.result.status.state

    @property
    def taints(self) -> tuple[str, ...]:
        """The defects of its sources for which it does not vote."""
        return tuple(reason.removeprefix(TAINTED) for reason in self.reasons if reason.startswith(TAINTED))

    @property
    def evaluated(self) -> bool:
        """Whether the sweep's evaluation of this run is there."""
        return self.result is not None and self.result.scores is not None

    @property
    def seconds(self) -> float:
        """Worker time that it has taken so far, lost work included."""
        return 0.0 if self.result is None else self.result.status.train_seconds + self.result.status.evaluate_seconds

    @property
    def problem(self) -> str:
        """What went wrong, in words; empty where nothing did."""
        parts = []
        if self.result is not None:
            failure = self.result.status.failure
            if failure is not None:
                parts.append(f"{failure.kind}: {failure.message}")
            if self.result.problem:
                parts.append(self.result.problem)
            if self.spec is not None and self.result.delivered is not None:
                parts.append(delivered_problem(self.spec, {"delivered": given(self.result.delivered)}) or "")
        if self.planned == "refused":
            parts += [reason for reason in self.reasons if not any(part in reason for part in parts if part)]
        return "; ".join(part for part in parts if part)

    def last(self, key: str) -> float | None:
        """The last finite value that was logged under a name."""
        for record in reversed(self.history):
            value = finite(record.get(key))
            if value is not None:
                return value
        return None


@dataclass(frozen=True, kw_only=True)
class MeanScore:
    """A metric over the runs of one mix."""

    mix: str
    task: str
    metric: str
    mean: float
    deviation: float | None
    """Sample standard deviation over seeds; ``None`` for a single one, which shows no noise."""
    seeds: int
    n: int | None
    chance: float | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """One sweep: what was asked, found, trained on and run."""

    sweep: Sweep
    plan: Plan
    evaluation: EvaluationSpec | None
    policy: Policy | None
    budget: int
    """Tokens of a run."""
    mixes: tuple[MixShown, ...]
    """The baseline, then the candidates."""
    sources: tuple[SourceShown, ...]
    """Those that any mix uses."""
    runs: tuple[RunShown, ...]
    verdict: SweepVerdict | None
    """``None`` where nothing could be compared yet."""
    made: datetime.datetime
    versions: dict[str, str]
    """Of the programs that made it."""
    details: Details = field(default_factory=Details)
    """What is read beside the records of the runs."""

    @property
    def decision(self) -> str:
        """The sweep's verdict; `NOT JUDGED` where there is none yet."""
        return str(self.verdict.decision).upper() if self.verdict is not None else "NOT JUDGED"

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """All comparisons, by candidate; what votes in the policy's order, then the monitors."""
        if self.verdict is None:
            return ()
        verdicts = self.verdict.candidates
        return tuple(c for name in self.sweep.candidates if name in verdicts for c in verdicts[name].comparisons)

    @property
    def finished(self) -> int:
        """Runs that are trained and evaluated."""
        return sum(run.evaluated for run in self.runs)

    @property
    def spec(self) -> RunSpec | None:
        """Any run's spec, for what all runs of the sweep share."""
        return next((run.spec for run in self.runs if run.spec is not None), None)

    def mix(self, name: str) -> MixShown:
        """A mix by name."""
        return next(mix for mix in self.mixes if mix.name == name)

    def delivered_by_mix(self) -> tuple[DeliveredMean, ...]:
        """What every source gave, over the runs of each mix, in the sweep's order."""
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
        """Every metric averaged over the seeds of each mix, by task, metric and mix."""
        groups: dict[tuple[str, str, str], list[ScoreShown]] = {}
        for run in self.runs:
            for score in run.scores:
                groups.setdefault((score.task, score.metric, run.mix), []).append(score)
        order = {name: place for place, name in enumerate(self.sweep.mixes)}
        keys = sorted(groups, key=lambda key: (key[0], key[1], order[key[2]]))
        return tuple(_mean(mix, groups[task, metric, mix]) for task, metric, mix in keys)


def finite(value: Any) -> float | None:
    """The value as a float, or ``None`` where it is no finite number."""
    if type(value) is float:  # nearly all are, and a large sweep has millions
        return value if math.isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def overall_weights(spec: RunSpec) -> dict[str, float]:
    """What a run asks of each source over all its stages, as shares of its tokens."""
    total: dict[str, float] = {}
    for stage in spec.stages:
        for name, weight in stage.weights.items():
            total[name] = total.get(name, 0.0) + weight * stage.steps / spec.steps
    return total


def given(delivered: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What each source gave, by its name, out of the record of a run."""
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
