"""Define the known metrics: direction, unit, display name, chance level and item storage."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Better = Literal["higher", "lower"]
Kind = Literal["accuracy", "fraction", "loss", "other"]


@dataclass(frozen=True, kw_only=True)
class MetricFacts:
    """Facts about a metric that are known before any measurement."""

    kind: Kind = "other"
    """`accuracy`: fraction of items, with a chance level; `fraction`: between 0 and 1, without a chance level; `loss`: lower is
    better, without a chance level; `other`: in its own unit, with the direction in `direction`."""
    direction: Better | None = None
    """Direction of improvement of a metric of kind `other`; None if unknown."""
    label: str | None = None
    """Display name; None displays the metric's name."""
    unit: str = ""
    """Unit after a value; empty for none. Differences of accuracies and fractions are in percentage points."""
    item_mean: bool = False
    """Whether a score is the (weighted) mean of items that the evaluation stores under the metric's name."""
    least: float | None = None
    """Lower bound of the metric; None without a known bound."""

    @property
    def better(self) -> Better | None:
        """The direction of improvement; None if unknown."""
        if self.kind == "other":
            return self.direction
        return "lower" if self.kind == "loss" else "higher"


BITS_PER_BYTE = "bits_per_byte"

_HIGHER = (
    # lm-eval's metrics
    *("em", "mcc", "bleu", "bleu_max", "bleu_acc", "bleurt_max", "bleurt_acc", "chrf", "mc1", "mc2"),
    *(f"rouge{kind}{ending}" for kind in ("1", "2", "l", "lsum") for ending in ("", "_max", "_acc")),
    *(f"{unit}_level_{rule}_acc" for unit in ("prompt", "inst") for rule in ("strict", "loose")),
    # metrics of OLMES (arXiv 2406.08446) and DataDecide (arXiv 2504.11393)
    *("acc_raw", "acc_uncond", "acc_per_token", "acc_per_char", "acc_per_byte"),
    *(
        f"{name}{ending}"
        for name in ("correct_prob", "norm_correct_prob", "margin")
        for ending in ("", "_per_token", "_per_char", "_per_byte")
    ),
)

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
    **dict.fromkeys(
        ("nll", "brier_score", "mse", "rmse", "mae", "ter", "wer", "cer", "ece"), MetricFacts(kind="loss", least=0.0)
    ),
    "loss": MetricFacts(kind="loss"),
    "seed_sds": MetricFacts(direction="higher", label="seed SDs", unit="seed SDs"),
    "margins": MetricFacts(direction="higher", label="margins", unit="margins"),
    **dict.fromkeys(_HIGHER, MetricFacts(direction="higher")),
}
"""Facts by name in lowercase. Of the metrics between 0 and 1, only those of kind `accuracy` or `fraction` are checked for units."""

_SPLIT = r"(?:(?:train|training|val|valid|validation|eval|test|heldout|held_out)_)?"
_UNIT = r"(?:token|char|character|byte|word)"
FAMILIES = (
    (re.compile(rf"{_SPLIT}(?:{_UNIT}_)?(?:perplexity|ppl)(?:_per_{_UNIT})?"), MetricFacts(kind="loss", least=1.0)),
    (
        re.compile(rf"{_SPLIT}(?:bpb|bpc|bits_per_{_UNIT}(?:_corr)?|(?:nll|negative_log_likelihood)(?:_per_{_UNIT})?)"),
        MetricFacts(kind="loss", least=0.0),
    ),
    (
        re.compile(rf"{_SPLIT}(?:(?:lm|ce|xent)_)?(?:loss|cross_entropy)(?:_per_{_UNIT})?"),
        MetricFacts(kind="loss"),
    ),
    (re.compile(r"pass(?:@|_at_)\d+"), MetricFacts(direction="higher")),
)
"""Facts about names that combine a known quantity with a split of the data, a unit or a number."""

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
    """Return the facts about a metric; the direction of an unknown metric is None.

    The spelling (case, hyphens) and the name of an answer filter do not matter.

    >>> metric_facts("perplexity,none").better, metric_facts("BPB").better, metric_facts("nll_per_char").better
    ('lower', 'lower', 'lower')
    >>> metric_facts("pass@1").better, metric_facts("helpfulness").better
    ('higher', None)
    """
    return _facts(without_filter(metric))


@lru_cache(maxsize=4096)
def _facts(name: str) -> MetricFacts:
    plain = re.sub(r"[-\s]+", "_", name.strip().lower())
    known = METRICS.get(plain)
    return known or next((facts for pattern, facts in FAMILIES if pattern.fullmatch(plain)), _UNKNOWN)


def is_loss(metric: str) -> bool:
    """Return whether a metric is a known loss, so that lower is better.

    >>> is_loss("word_perplexity,none"), is_loss("acc"), is_loss("helpfulness")
    (True, False, False)
    """
    return metric_facts(metric).kind == "loss"
