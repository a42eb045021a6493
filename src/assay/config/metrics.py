"""Define the known metrics: direction, unit, display name, chance level and item storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower"]
Kind = Literal["accuracy", "fraction", "loss", "other"]


@dataclass(frozen=True, kw_only=True)
class MetricFacts:
    """Facts about a metric that are known before any measurement."""

    kind: Kind = "other"
    """`accuracy`: fraction of items, with a chance level; `fraction`: between 0 and 1, without a chance level; `loss`: lower is
    better, without a chance level; `other`: higher is better, in its own unit."""
    label: str | None = None
    """Display name; None displays the metric's name."""
    unit: str = ""
    """Unit after a value; empty for none. Differences of accuracies and fractions are in percentage points."""
    item_mean: bool = False
    """Whether a score is the (weighted) mean of items that the evaluation stores under the metric's name."""
    least: float | None = None
    """Lower bound of the metric; None without a known bound."""

    @property
    def better(self) -> Better:
        """The direction of improvement."""
        return "lower" if self.kind == "loss" else "higher"


BITS_PER_BYTE = "bits_per_byte"

METRICS = {
    "acc": MetricFacts(kind="accuracy", label="accuracy", item_mean=True),
    "acc_norm": MetricFacts(kind="accuracy", label="accuracy, by length", item_mean=True),
    "acc_bytes": MetricFacts(kind="accuracy"),
    "acc_mutual_info": MetricFacts(kind="accuracy"),
    "exact_match": MetricFacts(kind="fraction"),
    "f1": MetricFacts(kind="fraction"),
    BITS_PER_BYTE: MetricFacts(kind="loss", label="bits per byte", unit="bits per byte", item_mean=True, least=0.0),
    # A perplexity is the exponential of a mean loss, which is at least 0.
    **dict.fromkeys(("byte_perplexity", "word_perplexity", "perplexity"), MetricFacts(kind="loss", least=1.0)),
    **dict.fromkeys(("nll", "brier_score", "mse", "ter"), MetricFacts(kind="loss", least=0.0)),
    "loss": MetricFacts(kind="loss"),
    "seed_sds": MetricFacts(label="seed SDs", unit="seed SDs"),
    "margins": MetricFacts(label="margins", unit="margins"),
}

LOSSES = frozenset(name for name, facts in METRICS.items() if facts.kind == "loss")
"""Metrics where lower is better, without a chance level."""

WITH_CHANCE_LEVEL = frozenset(name for name, facts in METRICS.items() if facts.kind == "accuracy")
"""Metrics with a chance level."""

FRACTIONS = frozenset(name for name, facts in METRICS.items() if facts.kind in ("accuracy", "fraction"))
"""Metrics between 0 and 1. Values are displayed in percent, and differences in percentage points."""

ITEM_METRICS = tuple(name for name, facts in METRICS.items() if facts.item_mean)
"""Metrics whose items an evaluation stores."""

_UNKNOWN = MetricFacts()


def without_filter(metric: str) -> str:
    """Remove the name of lm-eval's answer filter from a metric.

    >>> without_filter("exact_match,strict-match"), without_filter("acc")
    ('exact_match', 'acc')
    """
    return metric.partition(",")[0]


def metric_facts(metric: str) -> MetricFacts:
    """Return the facts about a metric.

    For an unknown metric, higher is better, and there is no unit or chance level.

    >>> metric_facts("bits_per_byte").better, metric_facts("bleu").better
    ('lower', 'higher')
    """
    return METRICS.get(metric, _UNKNOWN)
