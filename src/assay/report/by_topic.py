"""Average the scores of each mix over the items of each topic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("acc", "bits_per_byte")
"""The metric of multiple-choice items, and the metric of held-out documents."""
CONFIDENCE = 0.95
TINY = 1e-18
"""Bound below which a sum of squares is 0 up to rounding."""
ROUNDING = 1e-12
"""Bound below which a difference counts as 0. A sum of thirds over three seeds may leave -1e-17, shown as -0.00."""


@dataclass(frozen=True, kw_only=True)
class ArmTopicScore:
    """The score of one mix on the items of a topic."""

    mix: str
    value: float
    """Mean over items of the mean over seeds. Documents are weighted by their bytes."""
    difference: float | None
    """Difference from the baseline on the same items; None for the baseline."""
    margin: float | None
    """Half of the 95% interval of the difference by Student's t over items.

    None for fewer than two items, or for equal differences. The intervals are not adjusted for the number of topics.
    They are exploratory and decide nothing."""


@dataclass(frozen=True, kw_only=True)
class TopicScores:
    """The scores on the items of one topic."""

    topic: int
    """Number of the topic."""
    metric: str
    questions: int
    """Number of items."""
    arms: tuple[ArmTopicScore, ...]
    """Scores of the mixes, the baseline first."""


def score_by_topic(items: pd.DataFrame, places: pd.DataFrame, mixes: Sequence[str]) -> list[TopicScores]:
    """Average scores by topic and metric.

    Args:
        items: the items of `assay.analysis.results.collect`. Only leaf tasks are used, so that no item counts twice.
        places: the topic of each item, with columns `task, key, topic`.
        mixes: names of the mixes, the baseline first.

    Returns:
        Scores by topic and metric, in the order of topics, over the items that all mixes have answered.
    """
    if items.empty or places.empty:
        return []
    held = items["task"].str.startswith("validation/")
    wanted = items[items["group"].isna() & items["metric"].isin(METRICS) & ((items["metric"] == "acc") ^ held)]
    keyed = wanted.assign(key=wanted["item"].str.partition(":")[0])
    joined = keyed.merge(places[["task", "key", "topic"]].drop_duplicates(["task", "key"]), on=["task", "key"])
    scores = []
    for key, part in joined.groupby(["topic", "metric"], sort=True):
        topic, metric = cast("tuple[int, str]", key)
        table = part.pivot_table(index=["task", "item"], columns="mix", values="value", aggfunc="mean")
        scored = [mix for mix in mixes if mix in table]
        table = table[scored].dropna()
        weights = part.groupby(["task", "item"])["weight"].first().loc[table.index]
        if len(table) and scored[:1] == list(mixes[:1]):
            arms = tuple(_arm(table, weights, mix, scored[0]) for mix in scored)
            scores.append(TopicScores(topic=int(topic), metric=metric, questions=len(table), arms=arms))
    return scores


def _arm(table: pd.DataFrame, weights: pd.Series[float], mix: str, baseline: str) -> ArmTopicScore:
    from scipy.stats import t

    total = float(weights.sum())
    value = float((table[mix] * weights).sum()) / total
    if mix == baseline:
        return ArmTopicScore(mix=mix, value=value, difference=None, margin=None)
    change = table[mix] - table[baseline]
    mean = float((change * weights).sum()) / total
    mean = 0.0 if abs(mean) < ROUNDING else mean
    # The linearized variance of a ratio estimator. With weights of 1, it is the ordinary variance of the mean.
    n = len(change)
    spread = float((((change - mean) * weights) ** 2).sum()) * n / (n - 1) if n > 1 else None
    # Equal differences, such as no change in any of five items, do not prove an absence of noise.
    margin = (
        None if not spread or spread < TINY else float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * math.sqrt(spread) / total
    )
    return ArmTopicScore(mix=mix, value=value, difference=mean, margin=margin)
