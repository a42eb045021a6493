"""Form the mean of all guardrails of a run, each in units of its margin."""

from __future__ import annotations

import math
from collections.abc import Sequence

from assay.analysis.stats.score_table import ScoreTable
from assay.config.aggregate import JOINT, MARGINS
from assay.config.policy import Criterion

MEAN = Criterion(task=JOINT, metric=MARGINS, better="higher", margin=1.0)
"""Criterion of the mean of all guardrails in units of their margins."""


def joint_table(
    table: ScoreTable, guardrails: Sequence[Criterion], *, baseline: str, mixes: Sequence[str]
) -> ScoreTable | None:
    """Return the mean of the guardrails of each run, in units of their margins; None if no run has all of them.

    Args:
        table: the scores of all arms.
        guardrails: guardrails with margins above 0.
        baseline: the mix whose mean score counts as 0.
        mixes: the mixes to include: those that can be compared with the baseline.
    """
    import pandas as pd

    rows = []
    for mix in mixes:
        scores = [table.scores(mix, c.task, c.metric).by_seed for c in guardrails]
        for seed in scores[0]:
            if all(seed in by_seed for by_seed in scores):
                terms = [
                    (by_seed[seed] if c.better == "higher" else -by_seed[seed]) / c.margin
                    for by_seed, c in zip(scores, guardrails, strict=True)
                ]
                rows.append((mix, seed, math.fsum(terms) / len(terms)))
    own = [value for mix, _, value in rows if mix == baseline]
    if not own:
        return None
    center = math.fsum(own) / len(own)
    values = [(mix, seed, JOINT, MARGINS, value - center) for mix, seed, value in rows]
    return ScoreTable(pd.DataFrame(values, columns=["mix", "seed", "task", "metric", "value"]))
