"""Sentences for the reasons about aggregates, joint guardrails and the candidates of a sweep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from assay.config.reason import Code, Reason
from assay.report.reason_phrases import (
    effect,
    metrics_named,
    percent,
    plural,
    probability,
    seed_list,
    size,
    these_seeds,
)

if TYPE_CHECKING:
    from assay.report.reason_phrases import Render, RenderWithCauses

BASES = {
    "history": "the SDs between seeds are those of the history",
    "arms": "the SDs between seeds are estimated from all arms",
}


def _scope_aggregate(reason: Reason) -> str:
    figures = reason.figures
    kind = "weighted mean" if figures["weighted"] else "mean"
    head = f"{reason.subject} is the {kind} of {plural(figures['n_parts'], 'task')}"
    if figures["basis"] == "none":
        return f"{head} in their own unit."
    raised = ""
    if figures["factor"] > 1:
        raised = f", so its variance is multiplied by {figures['factor']:.2f}"
    return f"{head} in seed SDs: {BASES[figures['basis']]}{raised}."


def _worst_part(reason: Reason) -> str:
    figures = reason.figures
    unit = f" ({figures['gain']:+.2f} seed SDs)" if figures["unit"] == "seed_sds" else ""
    own = effect(reason)
    if figures["ci_low"] is None:
        own = f"The effect is {size(reason, 'effect', sign=True)}, with unknown noise."
    return (
        f"The task with the lowest gain in {figures['aggregate']} is {reason.name}{unit}. {own}"
        f" {figures['n_worse']} of {figures['n_parts']} tasks are worse in their estimates."
    )


def _parts_at_chance(reason: Reason) -> str:
    metrics, parts = metrics_named(reason), reason.figures["n_parts"]
    return f"{len(reason.figures['metrics'])} of {parts} tasks of {reason.subject} have no signal and only add noise: {metrics}."


def _seeds_excluded(reason: Reason) -> str:
    figures = reason.figures
    seeds = figures["seeds"]
    return (
        f"{figures['aggregate']} excludes {seed_list(seeds)} of {reason.subject}, because {metrics_named(reason)} has no score"
        f" for {these_seeds(seeds)}."
    )


def _unknown(reason: Reason) -> str:
    why = "do not differ between seeds" if reason.figures["constant"] else "have too few seeds"
    return (
        f"{reason.subject} cannot be formed, because the scores of these tasks {why}: {metrics_named(reason)}. Their SD between"
        " seeds is unknown."
    )


def _change(loss: float | None) -> str:
    """Format a loss in margins as a change, which is negative for a loss."""
    return "unknown" if loss is None else f"{-loss:+.2f}"


def _failed(reason: Reason) -> str:
    """Name the parts of the joint rule that are not shown; empty for reasons of earlier versions."""
    failed = {
        "mean": "the mean loss is not shown to be below one margin",
        "estimate": f"the estimated loss of {reason.name} is not below its margin",
        "limit": f"not every loss is shown to be below {reason.figures['limit']:g} margins",
    }
    parts = [failed[part] for part in reason.figures.get("failed", ())]
    return f" The policy's joint rule fails, because {' and '.join(parts)}." if parts else ""


def _joint(reason: Reason) -> str:
    figures = reason.figures
    at_least = f"at {percent(figures['level'])} at least"
    count = plural(figures["n_guardrails"], "guardrail")
    shown = "shows" if reason.code is Code.JOINT_WITHIN_MARGIN else "does not show"
    return (
        f"The joint test of {count} {shown} that their losses are acceptable. Their mean change is {_change(figures['mean_loss'])} margins ({at_least}"
        f" {_change(figures['mean_bound'])}, non-inferiority p {probability(figures['p_mean'])}). The worst estimate is that of"
        f" {reason.name}, {_change(figures['worst_loss'])} margins ({at_least} {_change(figures['worst_bound'])}). The lowest"
        f" bound of any guardrail is {_change(figures['largest_bound'])} margins, and the policy's limit is -{figures['limit']:g}.{_failed(reason)}"
    )


def _controlled(reason: Reason) -> str:
    figures = reason.figures
    each, final = figures["each"], figures.get("final", figures["each"])
    together = f"The error rate of {percent(figures['alpha'])} holds for all {figures['candidates']} candidates together: each candidate"
    if math.isclose(each, final):
        return f"{together} was evaluated at {100 * each:.3g}% (Bonferroni)."
    return (
        f"{together} has {100 * each:.3g}% (Bonferroni). The final verdict uses {100 * final:.3g}%, and interim analyses or"
        " earlier stages use the remaining part."
    )


SENTENCES: Mapping[Code, Render] = {
    Code.SCOPE_AGGREGATE: _scope_aggregate,
    Code.AGGREGATE_WORST_PART: _worst_part,
    Code.AGGREGATE_PARTS_AT_CHANCE: _parts_at_chance,
    Code.AGGREGATE_SEEDS_EXCLUDED: _seeds_excluded,
    Code.AGGREGATE_CONSTANT: lambda r: (
        f"The scores of {metrics_named(r)} do not differ between seeds. In {r.subject}, they are divided by the SD of the"
        " other tasks with this metric."
    ),
    Code.AGGREGATE_UNKNOWN: _unknown,
    Code.JOINT_WITHIN_MARGIN: _joint,
    Code.JOINT_NOT_SHOWN: _joint,
    Code.CANDIDATES_CONTROLLED: _controlled,
}

WITH_CAUSES: Mapping[Code, RenderWithCauses] = {}
