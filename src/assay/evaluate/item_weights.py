"""Item values and weights of metrics that are a weighted mean of their items, such as bits per byte of documents.

lm-eval logs such an item as a pair: a loglikelihood and the bytes of its text, or a value and its weight. Only values and
weights that reproduce lm-eval's score are kept, so that comparisons by item describe the reported metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

AGREE = 1e-6
"""Relative tolerance between lm-eval's score and the weighted mean of the items."""


class WeightedItems(NamedTuple):
    """One metric of all items of a task.

    Attributes:
        values: value of each item.
        weights: weight of each item; the score is the weighted mean of the values.
    """

    values: list[float]
    weights: list[float]

    @property
    def mean(self) -> float:
        """The weighted mean; NaN without any weight."""
        total = math.fsum(self.weights)
        weighted = math.fsum(value * weight for value, weight in zip(self.values, self.weights, strict=True))
        return weighted / total if total > 0 else math.nan


def weighted_items(logged: Sequence[Any], score: Any) -> WeightedItems | None:
    """Return values and weights of items if their weighted mean equals the score; ``None`` otherwise.

    Args:
        logged: lm-eval's record of the metric for each item: a number, or a pair of numbers.
        score: lm-eval's score of the task.

    >>> weighted_items([1, 0, 0, 1], 0.5)
    WeightedItems(values=[1.0, 0.0, 0.0, 1.0], weights=[1.0, 1.0, 1.0, 1.0])
    >>> weighted_items([(1.0, 3.0), (0.0, 1.0)], 0.75)
    WeightedItems(values=[1.0, 0.0], weights=[3.0, 1.0])
    >>> weighted_items([1, 0, 1], 0.5) is None
    True
    """
    for read in (_plain, _value_and_weight, _sum_and_weight, _bits_and_bytes):
        items = _read(logged, read)
        if items is not None and math.isclose(items.mean, score, rel_tol=AGREE, abs_tol=1e-9):
            return items
    return None


def as_number(value: Any) -> float | None:
    """Return a number or truth value as a float; ``None`` for other values."""
    import numpy as np

    return float(value) if isinstance(value, (bool, int, float, np.number, np.bool_)) else None


def pair(logged: Any) -> tuple[float, float] | None:
    """Return a logged pair of numbers, whose second is not negative; ``None`` for other values."""
    if not isinstance(logged, (tuple, list)) or len(logged) != 2:  # a pair
        return None
    first, second = as_number(logged[0]), as_number(logged[1])
    return None if first is None or second is None or not second >= 0 else (first, second)


def _read(logged: Sequence[Any], read: Callable[[Any], tuple[float, float] | None]) -> WeightedItems | None:
    items = [read(entry) for entry in logged]
    known = [item for item in items if item is not None]
    if not known or len(known) < len(items):
        return None
    return WeightedItems([value for value, _ in known], [weight for _, weight in known])


def _plain(logged: Any) -> tuple[float, float] | None:
    value = as_number(logged)
    return None if value is None else (value, 1.0)


def _value_and_weight(logged: Any) -> tuple[float, float] | None:
    return pair(logged)


def _sum_and_weight(logged: Any) -> tuple[float, float] | None:
    both = pair(logged)
    return None if both is None else (both[0] / both[1] if both[1] else 0.0, both[1])


def _bits_and_bytes(logged: Any) -> tuple[float, float] | None:
    both = pair(logged)
    return None if both is None else (-both[0] / math.log(2) / both[1] if both[1] else 0.0, both[1])
