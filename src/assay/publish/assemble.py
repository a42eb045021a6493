"""From what is known of a sweep to its report: values in, values out."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay.publish.details import Details
from assay.publish.report import (
    DeliveredShown,
    MixShown,
    Report,
    RunResult,
    RunShown,
    ScoreShown,
    SourceShown,
    finite,
    given,
    overall_weights,
)

if TYPE_CHECKING:
    from assay.gate import SweepVerdict
    from assay.mixes import Mix
    from assay.plan import Plan, PlannedRun, Sweep
    from assay.recipe import RunSpec
    from assay.sources import Source
    from assay.suite import EvaluationSpec, Policy


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
        details: what is read beside the records of the runs; left out, nothing of it is shown.
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
        licence=source.licence,
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
