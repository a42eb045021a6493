"""Everything that is shown of one sweep, as plain values: the page, Markdown and W&B all say what stands here."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from assay.fingerprint import SHORT
from assay.results import delivered_problem

if TYPE_CHECKING:
    from assay.compare import Comparison
    from assay.gate import SweepVerdict
    from assay.mixes import Mix
    from assay.plan import Plan, PlannedRun, PlanStatus, Sweep
    from assay.recipe import RunSpec
    from assay.sources import ClearanceState, Source
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
    def evaluated(self) -> bool:
        """Whether the sweep's evaluation of this run is there."""
        return self.result is not None and self.result.scores is not None

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

    def mean_scores(self) -> tuple[MeanScore, ...]:
        """Every metric averaged over the seeds of each mix, by task, metric and mix."""
        groups: dict[tuple[str, str, str], list[ScoreShown]] = {}
        for run in self.runs:
            for score in run.scores:
                groups.setdefault((score.task, score.metric, run.mix), []).append(score)
        order = {name: place for place, name in enumerate(self.sweep.mixes)}
        keys = sorted(groups, key=lambda key: (key[0], key[1], order[key[2]]))
        return tuple(_mean(mix, groups[task, metric, mix]) for task, metric, mix in keys)


def make_report(
    *,
    sweep: Sweep,
    plan: Plan,
    mixes: Mapping[str, Mix],
    sources: Mapping[str, Source],
    tokens: Mapping[str, int],
    budget: int,
    runs: Mapping[str, RunResult],
    verdict: SweepVerdict | None,
    evaluation: EvaluationSpec | None,
    policy: Policy | None,
    made: datetime.datetime,
    versions: Mapping[str, str],
) -> Report:
    """Bring together what is shown of a sweep; takes values, reads nothing.

    Args:
        sweep: the study.
        plan: what is done of it and what is not.
        mixes: the resolved mixes, by name; at least the sweep's.
        sources: all declared sources, by name.
        tokens: training tokens of each source that was tokenised.
        budget: tokens of a run.
        runs: what the store has, by fingerprint; runs it has never seen are left out.
        verdict: the gate's, or ``None`` where nothing is finished.
        evaluation: what every run is scored on, or ``None`` where every mix is refused.
        policy: what the gate required.
        made: when; shown, and nothing else.
        versions: of the programs, by name.
    """
    shown = tuple(_show_run(planned, runs) for planned in plan.runs)
    mixes_shown = tuple(
        _show_mix(mixes[name], plan, baseline=name == sweep.baseline, budget=budget, tokens=tokens)
        for name in sweep.mixes
        if name in mixes
    )
    used = {name for mix in mixes_shown for name in mix.weights}
    used |= {part.source for run in shown for part in run.delivered}
    return Report(
        sweep=sweep,
        plan=plan,
        evaluation=evaluation,
        policy=policy,
        budget=budget,
        mixes=mixes_shown,
        sources=tuple(_show_source(sources[name], tokens) for name in sorted(used) if name in sources),
        runs=shown,
        verdict=verdict,
        made=made,
        versions=dict(versions),
    )


def finite(value: Any) -> float | None:
    """The value as a float, or ``None`` where it is no finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _show_source(source: Source, tokens: Mapping[str, int]) -> SourceShown:
    decision = source.clearance
    parts = [decision.by or "", decision.date.isoformat() if decision.date else "", decision.reference or ""]
    return SourceShown(
        name=source.name,
        domain=source.domain,
        language=source.language,
        licence=source.licence,
        clearance=source.effective_clearance,
        refusal=source.refusal,
        decided=", ".join(part for part in parts if part),
        snapshot=source.snapshot,
        tokens=tokens.get(source.name),
        description=source.description,
    )


def _show_mix(mix: Mix, plan: Plan, *, baseline: bool, budget: int, tokens: Mapping[str, int]) -> MixShown:
    spec = next((run.spec for run in plan.runs if run.mix == mix.name and run.spec is not None), None)
    weights = mix.weights if spec is None else overall_weights(spec)
    available = {**tokens, **((spec and spec.pools) or {})}
    edits = [step.edit for step in (mix.steps if mix.base is None else mix.steps[1:])]
    return MixShown(
        name=mix.name,
        baseline=baseline,
        description=mix.description,
        arm=plan.sweep.arm(mix.name).about,
        base=mix.base,
        edits=tuple(edits or ["unchanged"]),
        weights=dict(weights),
        capped=any(abs(weights.get(s, 0.0) - mix.weights.get(s, 0.0)) > 1e-9 for s in {*weights, *mix.weights}),
        tokens={name: round(weight * budget) for name, weight in weights.items()},
        epochs={name: weight * budget / available[name] for name, weight in weights.items() if available.get(name)},
        max_epochs=mix.max_epochs,
    )


def overall_weights(spec: RunSpec) -> dict[str, float]:
    """What a run asks of each source over all its stages, as shares of its tokens."""
    total: dict[str, float] = {}
    for stage in spec.stages:
        for name, weight in stage.weights.items():
            total[name] = total.get(name, 0.0) + weight * stage.steps / spec.steps
    return total


def _show_run(planned: PlannedRun, runs: Mapping[str, RunResult]) -> RunShown:
    result = runs.get(planned.fingerprint) if planned.fingerprint else None
    return RunShown(
        mix=planned.mix,
        seed=planned.seed,
        fingerprint=planned.fingerprint,
        planned=planned.status,
        reasons=planned.reasons,
        spec=planned.spec,
        result=result,
        history=_in_order(result.history) if result else (),
        delivered=_show_delivered(result.delivered, planned.spec) if result and result.delivered else (),
        scores=_show_scores(result.scores) if result and result.scores else (),
    )


def _in_order(history: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    # A run that was killed between a checkpoint and the last logged step trains, and logs, those steps again.
    by_step = {record["step"]: record for record in history if isinstance(record.get("step"), int)}
    return tuple(by_step[step] for step in sorted(by_step))


def given(delivered: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What each source gave, by its name, out of the record of a run."""
    return dict(delivered.get("delivered") or {})


def _show_delivered(delivered: Mapping[str, Any], spec: RunSpec | None) -> tuple[DeliveredShown, ...]:
    sources = given(delivered)
    requested = overall_weights(spec) if spec is not None else delivered.get("requested") or {}
    counts = {name: int(part.get("tokens") or 0) for name, part in sources.items()}
    total = sum(counts.values()) or 1
    return tuple(
        DeliveredShown(
            source=name,
            requested=float(requested.get(name, 0.0)),
            delivered=counts.get(name, 0) / total,
            tokens=counts.get(name, 0),
            sequences=_whole(sources.get(name, {}).get("sequences")),
            documents=_whole(sources.get(name, {}).get("documents")),
            epochs=finite(sources.get(name, {}).get("epochs")),
        )
        for name in sorted({*sources, *requested})
    )


def _show_scores(scores: Sequence[Mapping[str, Any]]) -> tuple[ScoreShown, ...]:
    shown = [
        ScoreShown(
            task=str(score["task"]),
            metric=str(score["metric"]),
            value=float(score["value"]),
            n=_whole(score.get("n")),
            stderr=finite(score.get("stderr")),
            chance=finite(score.get("chance")),
        )
        for score in scores
        if finite(score.get("value")) is not None
    ]
    return tuple(sorted(shown, key=lambda score: (score.task, score.metric)))


def _whole(value: Any) -> int | None:
    number = finite(value)
    return None if number is None else round(number)


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
