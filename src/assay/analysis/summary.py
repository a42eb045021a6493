"""Summarize a verdict as one reason: what was tested, the result with its size and uncertainty, and the decision.

`report` renders the reason as one sentence, which is the first line of every view of the verdict.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from assay.config.aggregate import JOINT, is_aggregate
from assay.config.reason import Code, Reason

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from assay.analysis.comparison import Comparison
    from assay.analysis.stats.target import TargetEffect
    from assay.plan.registration import RegistrationState

_SHOWN = ("effect", "ci_low", "ci_high", "level", "n_seeds", "effect_percent", "better", "claim", "role")
_ORDER = ("ACCEPT", "REJECT", "BLOCKED", "INCONCLUSIVE")


def summarize(
    *,
    candidate: str,
    baseline: str,
    decision: str,
    registration: RegistrationState | None,
    comparisons: Sequence[Comparison],
    target: TargetEffect | None,
    reasons: Sequence[Reason],
    scope: Sequence[Reason],
) -> Reason:
    """Summarize the verdict on one candidate; the arguments are those of `assay.analysis.gate.Verdict`.

    The subject and the metric of the reason are those of the comparison that carries the decision: the prediction at the
    target if there is one; else the significant loss for a REJECT; else the primary metric with the smallest p-value.
    """
    figures: dict[str, Any] = {
        "candidate": candidate,
        "baseline": baseline,
        "decision": decision,
        "registration": registration.state if registration is not None and registration.marked else "",
    }
    stopped = next((reason for reason in scope if reason.code is Code.SCOPE_STOPPED_EARLY), None)
    if stopped is not None:
        figures["stopped_at"] = stopped.figures["fraction"]
    if decision == "BLOCKED":
        return Reason(code=Code.SUMMARY, figures=figures)
    lost = decision == "REJECT" and any(reason.code is Code.WORSE for reason in reasons)
    if target is not None and not target.problem and not lost:
        return _at_target(target, figures)
    # At the target, only guardrails vote with their proxy scores.
    voting = ("primary", "guardrail") if target is None or target.problem else ("guardrail",)
    c = _decisive([c for c in comparisons if c.role in voting], decision=decision)
    if c is None or math.isnan(c.effect):
        return Reason(code=Code.SUMMARY, figures=figures)
    figures |= {name: getattr(c, name) for name in _SHOWN}
    if len(c.baseline_seeds) != len(c.candidate_seeds):
        figures["arm_seeds"] = [len(c.baseline_seeds), len(c.candidate_seeds)]
    return Reason(code=Code.SUMMARY, subject=c.task, metric=c.metric, figures=figures | _guardrails(comparisons))


def summarize_sweep(summaries: Sequence[Reason], *, baseline: str, decision: str, running: int) -> Reason:
    """Summarize the verdicts on all candidates.

    The cause is the summary of one candidate: the first accepted one, else the first rejected, blocked or undecided one.

    Args:
        summaries: the summaries of the candidates, at least one.
        baseline: the mix to compare with.
        decision: the decision on the sweep.
        running: number of runs in progress.
    """
    decisions = [summary.figures["decision"] for summary in summaries]
    counts = {name: decisions.count(name) for name in _ORDER if name in decisions}
    figures = {
        "candidates": len(summaries),
        "baseline": baseline,
        "decision": decision,
        "counts": counts,
        "running": running,
    }
    first = min(summaries, key=lambda summary: _ORDER.index(summary.figures["decision"]))
    return Reason(code=Code.SWEEP_SUMMARY, figures=figures, causes=(first,))


def _at_target(target: TargetEffect, figures: dict[str, Any]) -> Reason:
    known = {name: getattr(target, name) for name in ("effect", "ci_low", "ci_high", "level", "scale", "better")}
    more: dict[str, Any] = {"n_seeds": min(target.n_seeds)}
    if len(set(target.n_seeds)) > 1:
        more["arm_seeds"] = list(target.n_seeds)
    return Reason(code=Code.SUMMARY, subject=target.task, metric=target.metric, figures=figures | known | more)


def _decisive(comparisons: Sequence[Comparison], *, decision: str) -> Comparison | None:
    """Return the comparison that carries the decision, among those of voting metrics; None without one."""
    primaries = [c for c in comparisons if c.role == "primary"]
    worse = [c for c in comparisons if c.claim == "worse"]
    if decision == "REJECT" and worse:
        return min(worse, key=lambda c: c.p_claim)
    return min(primaries, key=_p_or_last, default=None)


def _p_or_last(c: Comparison) -> float:
    return math.inf if math.isnan(c.p_claim) else c.p_claim


def _guardrails(comparisons: Collection[Comparison]) -> dict[str, int]:
    """Count the guardrails, and those shown to stay within their margin, or within the limit of the joint rule."""
    guardrails = [c for c in comparisons if c.role == "guardrail" and not is_aggregate(c.task)]
    alpha = [1 - c.level for c in guardrails]
    joint = [c for c in comparisons if c.task == JOINT]
    if any(not c.p_claim <= 1 - c.level for c in joint):  # one test for all guardrails shows none of them to hold
        return {"guardrails": len(guardrails), "guardrails_held": 0}
    held = [
        c
        for c, most in zip(guardrails, alpha, strict=True)
        if c.claim == "not worse" and c.p_claim <= most and c.gain > -c.margin
    ]
    return {"guardrails": len(guardrails), "guardrails_held": len(held)}
