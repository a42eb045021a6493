"""Assemble the report of a sweep from values, without reading files."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay.report.details import Details
from assay.report.model import (
    DeliveredShown,
    MixShown,
    Report,
    RunResult,
    RunShown,
    ScoreShown,
    SourceShown,
    delivered_sources,
    finite,
    overall_weights,
)

if TYPE_CHECKING:
    from assay.analysis.gate import SweepVerdict
    from assay.config.mixes import Mix
    from assay.config.policy import Policy
    from assay.config.recipe import RunSpec
    from assay.config.sources import Source
    from assay.config.suite import EvaluationSpec
    from assay.config.sweep import Sweep
    from assay.plan.plan import Plan, PlannedRun


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
    details: Details | None = None,
) -> Report:
    """Assemble the report of a sweep, without reading files.

    Args:
        sweep: the sweep.
        plan: plan of the sweep, with the states of its runs.
        mixes: the resolved mixes by name, at least those of the sweep.
        sources: all declared sources by name.
        tokens: training tokens of each tokenized source.
        budget: number of tokens of a run.
        runs: records of the store by fingerprint. Runs without a record are absent.
        verdict: verdict of the gate; None if no run is finished.
        evaluation: tasks and settings that score every run; None if every mix is refused.
        policy: policy of the gate.
        made: time of the report, for display only.
        versions: versions of the packages by name.
        details: data from other files than the records of the runs (default: none).
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
        details=details or Details(),
    )


def _show_source(source: Source, tokens: Mapping[str, int]) -> SourceShown:
    decision = source.clearance
    parts = [decision.by or "", decision.date.isoformat() if decision.date else "", decision.reference or ""]
    return SourceShown(
        name=source.name,
        domain=source.domain,
        language=source.language,
        license=source.license,
        clearance=source.effective_clearance,
        refusal=source.refusal,
        decided=", ".join(part for part in parts if part),
        snapshot=source.snapshot,
        tokens=tokens.get(source.name),
        description=source.description,
        tags=source.tags,
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


def _show_run(planned: PlannedRun, runs: Mapping[str, RunResult]) -> RunShown:
    result = runs.get(planned.fingerprint) if planned.fingerprint else None
    return RunShown(
        mix=planned.mix,
        seed=planned.seed,
        fingerprint=planned.fingerprint,
        planned=planned.status,
        reasons=planned.reasons,
        taints=planned.taints,
        spec=planned.spec,
        result=result,
        history=_in_order(result.history) if result else (),
        delivered=_show_delivered(result.delivered, planned.spec) if result and result.delivered else (),
        scores=_show_scores(result.scores) if result and result.scores else (),
    )


def _in_order(history: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    # A run that was killed after a checkpoint repeats the steps since the checkpoint, and logs them again.
    by_step = {record["step"]: record for record in history if isinstance(record.get("step"), int)}
    return tuple(by_step[step] for step in sorted(by_step))


def _show_delivered(delivered: Mapping[str, Any], spec: RunSpec | None) -> tuple[DeliveredShown, ...]:
    sources = delivered_sources(delivered)
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
