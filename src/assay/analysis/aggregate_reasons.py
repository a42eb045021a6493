"""State what an aggregate hides: its worst part, parts without signal, and excluded seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from assay.analysis.aggregate import AggregatedTables
from assay.analysis.comparison import Comparison
from assay.config.reason import Code, Reason


def describe_aggregate(
    tables: AggregatedTables, comparisons: Sequence[Comparison], *, mixes: Sequence[str]
) -> list[Reason]:
    """State the worst part of the aggregate, parts without signal, excluded seeds and constant parts.

    Args:
        tables: the tables with the aggregate.
        comparisons: one candidate's comparisons.
        mixes: baseline and candidate.
    """
    reasons = [reason for mix in mixes for reason in tables.excluded.get(mix, ())]
    reasons += tables.problems
    own = tables.aggregate
    if own is None:
        return reasons
    parts = [c for c in comparisons if c.part_of == own.task]
    known = [(c, gain) for c in parts if math.isfinite(gain := c.part_gain)]
    if known:
        worst, gain = min(known, key=lambda pair: pair[1])
        figures = {
            **{name: getattr(worst, name) for name in ("effect", "ci_low", "ci_high", "level", "n_seeds")},
            "aggregate": own.task,
            "unit": own.result_metric,
            "gain": gain,
            "n_parts": len(tables.parts),
            "n_worse": sum(value < 0 for _, value in known),
        }
        reasons.append(Reason(code=Code.AGGREGATE_WORST_PART, subject=worst.task, metric=worst.metric, figures=figures))
    silent = [{"task": c.task, "metric": c.metric} for c in parts if c.signal == "no signal"]
    if silent:
        figures = {"metrics": silent, "n_parts": len(tables.parts)}
        reasons.append(
            Reason(code=Code.AGGREGATE_PARTS_AT_CHANCE, subject=own.task, metric=own.result_metric, figures=figures)
        )
    return reasons
