"""A run's accuracy by cluster: what models cannot do, and which data lies near it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("acc", "bits_per_byte")
"""Of questions with choices, and of held-out documents."""
CONFIDENCE = 0.95
TINY = 1e-18
"""Rounding, where a variance is 0."""
ROUNDING = 1e-12
"""Where a difference is 0: thirds of three seeds, summed up, may leave -1e-17, which would be shown as -0.00."""


@dataclass(frozen=True, kw_only=True)
class ArmIn:
    """One mix's score on the questions of a cluster."""

    mix: str
    value: float
    """Mean over questions of the mean over seeds; of documents, weighted by their bytes."""
    difference: float | None
    """To the baseline, on the same questions; ``None`` for the baseline."""
    margin: float | None
    """Half of the 95% interval of the difference by Student's t, over questions; ``None`` where there are fewer than two, or all differ alike.
    Clusters are many and the intervals are not adjusted for that: they show where to look and decide nothing."""


@dataclass(frozen=True, kw_only=True)
class InCluster:
    """The scores on what lies in one cluster."""

    cluster: int
    metric: str
    questions: int
    arms: tuple[ArmIn, ...]
    """The baseline first."""


def by_cluster(items: pd.DataFrame, places: pd.DataFrame, mixes: Sequence[str]) -> list[InCluster]:
    """Scores by cluster and metric.

    Args:
        items: as `assay.results.collect` gives them; only leaf tasks are looked at, so that nothing counts twice.
        places: the questions' clusters, with columns `task, key, cluster`.
        mixes: the baseline first.

    Returns:
        Clusters in order, each with the metrics that it has questions for; only questions that every mix was asked.
    """
    if items.empty or places.empty:
        return []
    held = items["task"].str.startswith("validation/")
    wanted = items[items["group"].isna() & items["metric"].isin(METRICS) & ((items["metric"] == "acc") ^ held)]
    keyed = wanted.assign(key=wanted["item"].str.partition(":")[0])
    joined = keyed.merge(places[["task", "key", "cluster"]].drop_duplicates(["task", "key"]), on=["task", "key"])
    found = []
    for key, part in joined.groupby(["cluster", "metric"], sort=True):
        cluster, metric = cast("tuple[int, str]", key)
        table = part.pivot_table(index=["task", "item"], columns="mix", values="value", aggfunc="mean")
        asked = [mix for mix in mixes if mix in table]
        table = table[asked].dropna()
        weights = part.groupby(["task", "item"])["weight"].first().loc[table.index]
        if len(table) and asked[:1] == list(mixes[:1]):
            arms = tuple(_arm(table, weights, mix, asked[0]) for mix in asked)
            found.append(InCluster(cluster=int(cluster), metric=metric, questions=len(table), arms=arms))
    return found


def _arm(table: pd.DataFrame, weights: pd.Series[float], mix: str, baseline: str) -> ArmIn:
    from scipy.stats import t

    total = float(weights.sum())
    value = float((table[mix] * weights).sum()) / total
    if mix == baseline:
        return ArmIn(mix=mix, value=value, difference=None, margin=None)
    change = table[mix] - table[baseline]
    mean = float((change * weights).sum()) / total
    mean = 0.0 if abs(mean) < ROUNDING else mean
    # The linearised variance of a ratio, as of a mean of clusters with unequal sizes; the ordinary one where weights are 1.
    n = len(change)
    spread = float((((change - mean) * weights) ** 2).sum()) * n / (n - 1) if n > 1 else None
    # All alike, as no change in any of five questions, is no proof of no noise.
    margin = (
        None if not spread or spread < TINY else float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * math.sqrt(spread) / total
    )
    return ArmIn(mix=mix, value=value, difference=mean, margin=margin)
