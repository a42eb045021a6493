"""Sentences for the reasons of interim analyses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from assay.config.reason import Code, Reason
from assay.report.reason_phrases import metric_list

if TYPE_CHECKING:
    from assay.report.reason_phrases import Render, RenderWithCauses

RUNS = 4
"""Maximum number of runs that a sentence lists. The sentence counts the others."""


def _where(reason: Reason) -> str:
    return f"{reason.figures['fraction']:.0%} of the budget ({reason.figures['tokens']:,.0f} tokens)"


def _waiting_for_runs(reason: Reason) -> str:
    runs = reason.figures["runs"]
    more = f" and {len(runs) - RUNS} more" if len(runs) > RUNS else ""
    return f"scores are missing for {', '.join(runs[:RUNS])}{more}"


def _persistence_too_low(reason: Reason) -> str:
    figures = reason.figures
    known = figures["persisted"] is not None
    seen = (
        f"only {figures['persisted']:.0%} of {figures['n_pairs']} similar differences persisted"
        if known
        else figures["problem"]
    )
    least = f"at least {figures['least']:.0%} of similar past differences in {reason.name}"
    return f"the policy requires that {least} persist to the end of training, but {seen}"


def _persistence(reason: Reason) -> str:
    figures = reason.figures
    apart = f"{figures['at_least']:.1f} to {figures['at_most']:.1f} SDs of noise"
    farthest = " These pairs are the farthest apart in the history. The candidate's difference is rare: "
    return (
        f"In the history, {figures['n_pairs']} pairs of {figures['n_mixes']} mixes differed in {reason.name} by"
        f" {apart} at {figures['fraction']:.0%} of the budget. Of these pairs, {figures['persisted']:.0%} ended in"
        " the same order." + (f"{farthest}{figures['problem']}." if figures["problem"] else "")
    )


SENTENCES: Mapping[Code, Render] = {
    Code.INTERIM_STOPS: lambda r: (
        f"The interim analysis at {_where(r)} stops candidate {r.subject} as a {r.figures['outcome']}."
    ),
    Code.INTERIM_NOT_SIGNIFICANT: lambda r: (
        f"At {_where(r)}, candidate {r.subject} is not significantly better or worse. The alpha of this analysis is"
        f" {r.figures['alpha']:.2%}."
    ),
    Code.INTERIM_ENDED: lambda r: f"Training is complete. The verdict is {r.figures['verdict']}.",
    Code.NOTHING_SCORED: lambda _: "no metric has been scored",
    Code.WAITING_FOR_RUNS: _waiting_for_runs,
    Code.PRIMARY_NOT_SCORED: lambda _: "no primary metric has been scored",
    Code.GUARDRAIL_NOT_SCORED: lambda r: f"scores are missing for the guardrails {metric_list(r.figures['metrics'])}",
    Code.HISTORY_LACKS_CHECKPOINT: lambda r: (
        f"the history has no scores near {r.figures['fraction']:.0%} of the budget that predict {r.figures['scale']}"
    ),
    Code.PERSISTENCE_NO_HISTORY: lambda r: (
        f"the policy requires that at least {r.figures['least']:.0%} of similar past differences persist to the end of"
        " training, but there is no history"
    ),
    Code.PERSISTENCE_TOO_LOW: _persistence_too_low,
    Code.STOPPING_NOT_ALLOWED: lambda r: (
        f"the policy stops {'no candidates' if r.subject == 'none' else 'only losers'} early"
    ),
    Code.PERSISTENCE: _persistence,
    Code.PERSISTENCE_UNKNOWN: lambda r: (
        f"It is unknown how often a difference of this size in {r.name} persists to the end of training:"
        f" {r.figures['problem']}."
    ),
    Code.PERSISTENCE_WITHOUT_HISTORY: lambda _: (
        "It is unknown how often a difference of this size persists to the end of training. The study names no"
        " history with several checkpoints per run."
    ),
    Code.INTERVALS_JOINT: lambda r: (
        "Each interval applies to the token count of its analysis. All intervals hold jointly at a confidence level of"
        f" {r.figures['level']:.0%}, for any number of analyses. The intervals make no claim about the end of training."
    ),
}

WITH_CAUSES: Mapping[Code, RenderWithCauses] = {
    Code.INTERIM_CONTINUES: lambda r, causes: (
        f"The interim analysis at {_where(r)} shows that candidate {r.subject} is a {r.figures['outcome']}. Training"
        f" continues, because {causes[0]}."
    ),
    Code.INTERIM_PENDING: lambda r, causes: (
        f"An interim analysis at {r.figures['fraction']:.0%} of the budget is not possible yet, because {causes[0]}."
    ),
}
