"""Metrics that depend on which arm trains on a source.

The held-out documents of a source resemble its training documents. A metric on them improves if an arm trains on the source,
regardless of the rest of the change. As a primary metric it shows nothing about the change. Conversely, the effect
of dropping a source is measured only if a metric on the source's held-out documents votes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from assay.config.policy import Policy
from assay.config.reason import Code, Reason
from assay.config.suite import VALIDATION

Trained = Mapping[str, Collection[str]]
"""The sources that each arm trains on, by mix."""


def one_arm_tasks(trained: Trained, baseline: str, candidate: str) -> frozenset[str]:
    """Return the tasks on held-out documents of sources that only the candidate trains on; empty if the sources are unknown."""
    if baseline not in trained or candidate not in trained:
        return frozenset()
    return frozenset(f"{VALIDATION}{name}" for name in set(trained[candidate]) - set(trained[baseline]))


def one_arm_reasons(
    policy: Policy, trained: Trained, baseline: str, candidate: str, *, predictor: Sequence[tuple[str, str]] = ()
) -> list[Reason]:
    """State which primary metrics one arm's sources decide by construction, and which dropped sources nothing guards.

    Args:
        policy: the voting metrics.
        trained: the sources of both arms. If they are unknown, only metrics on held-out text of a source are stated.
        baseline: the mix to compare with.
        candidate: the changed mix.
        predictor: the tasks and metrics that predict the target.
    """
    arms = {"baseline": baseline, "candidate": candidate}
    primaries = list(predictor) or list(policy.primary_metrics)
    if not primaries and policy.target is not None:
        primaries = [(policy.target.task, policy.target.metric)]
    if baseline not in trained or candidate not in trained:
        return [
            Reason(code=Code.ONE_ARM_UNKNOWN, subject=task, metric=metric, figures=arms)
            for task, metric in primaries
            if policy.exclude_one_arm_sources and task.startswith(VALIDATION)
        ]
    added, dropped = (
        one_arm_tasks(trained, first, second) for first, second in ((baseline, candidate), (candidate, baseline))
    )
    reasons = [
        Reason(
            code=Code.ONE_ARM_PRIMARY if task in added else Code.BASELINE_ONLY_PRIMARY,
            subject=task,
            metric=metric,
            figures={**arms, "excluded": policy.exclude_one_arm_sources and task in added},
        )
        for task, metric in primaries
        if task in added | dropped
    ]
    guarded = {c.task for c in (*policy.primary, *policy.guardrails)} | {task for task, _ in primaries}
    unguarded = sorted(task.removeprefix(VALIDATION) for task in dropped - guarded)
    if unguarded:
        reasons.append(
            Reason(code=Code.DROPPED_SOURCE_UNGUARDED, subject=candidate, figures={**arms, "sources": unguarded})
        )
    return reasons
