"""State which directions of improvement a verdict uses against the usual ones, and which it lacks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from assay.config.metrics import metric_facts
from assay.config.reason import Code, Reason

if TYPE_CHECKING:
    from assay.analysis.comparison import Comparison
    from assay.analysis.stats.tables import Metric
    from assay.analysis.stats.target import TargetEffect
    from assay.config.policy import Policy


def direction_reasons(
    comparisons: Sequence[Comparison], policy: Policy, target: TargetEffect | None = None
) -> list[Reason]:
    """Return reasons for unusual, unknown and unused directions of improvement.

    Args:
        comparisons: comparisons of one candidate.
        policy: requirements of the gate.
        target: the prediction at the target, if there is one.
    """
    declared = {(c.task, c.metric): c.better for c in comparisons}
    if policy.target is not None:
        declared[policy.target.task, policy.target.metric] = policy.target.better
    unusual = [
        Reason(code=Code.DIRECTION_UNUSUAL, subject=task, metric=metric, figures={"better": better})
        for (task, metric), better in declared.items()
        if better is not None and metric_facts(metric).better not in (None, better)
    ]
    unknown = [(c.task, c.metric) for c in comparisons if c.better is None]
    reasons = [*unusual, *_named(Code.DIRECTION_UNKNOWN, unknown)]
    if unused := policy.unused_directions(declared):
        reasons.append(Reason(code=Code.DIRECTIONS_UNUSED, subject=policy.name, figures={"keys": unused}))
    if target is not None:
        reasons += _named(Code.PREDICTOR_LACKS_DIRECTIONS, target.undirected)
    return reasons


def _named(code: Code, metrics: Iterable[Metric]) -> list[Reason]:
    named = [{"task": task, "metric": metric} for task, metric in metrics]
    return [Reason(code=code, figures={"metrics": named})] if named else []
