"""Show the stages of a sweep whose seeds are trained in stages, in `assay plan` and `assay submit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay.cli.console import console
from assay.plan.run_range import run_range
from assay.plan.seed_stages import stages_of
from assay.report.formatting import duration, level_percent
from assay.report.reason_phrases import plural

if TYPE_CHECKING:
    from assay.plan.plan import Plan
    from assay.plan.workspace import Workspace
    from assay.store.stage_decisions import StageDecision


def to_mapping(space: Workspace, plan: Plan) -> Mapping[str, Any] | None:
    """Return the stages, their levels, and the least and most runs as plain values; None without stages."""
    stages = stages_of(space.study.policy, plan.sweep)
    if stages is None:
        return None
    return {
        "stages": list(stages.stages),
        "levels": list(space.study.policy.stage_levels(len(plan.sweep.candidates))),
        "spending": stages.spending,
        "stop": stages.stop,
        "runs": run_range(plan)._asdict(),
    }


def show(space: Workspace, plan: Plan) -> None:
    """Print the stages, their levels, and the least and most runs; nothing without stages."""
    stages = stages_of(space.study.policy, plan.sweep)
    if stages is None:
        return
    levels = space.study.policy.stage_levels(len(plan.sweep.candidates))
    each = ", ".join(
        f"{plural(seeds, 'seed')} at {level_percent(level)}" for seeds, level in zip(stages.stages, levels, strict=True)
    )
    runs = run_range(plan)
    cost = ""
    if runs.least_seconds is not None and runs.most_seconds is not None:
        cost = f", {duration(runs.least_seconds)} to {duration(runs.most_seconds)} of workers for the missing runs"
    console.print(
        f"stages: {each} ({stages.spending}, stop: {stages.stop}). {runs.least} to {runs.most} runs{cost}",
        markup=False,
        soft_wrap=True,
    )


def show_decisions(decisions: Sequence[StageDecision]) -> None:
    """Print the decisions of stages that were completed since the last submission."""
    for decision in decisions:
        following = "no further seeds" if decision.final else "the next stage follows"
        console.print(
            f"stage {decision.stage}: {decision.candidate} {decision.decision} at a level of {level_percent(decision.level)}; {following}",
            markup=False,
            soft_wrap=True,
        )
