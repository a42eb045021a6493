"""Adjust p-values for multiple comparisons.

The tests compare both functions with `statsmodels.stats.multitest.multipletests`. That function runs a full garbage
collection of 50 ms per call, and a calibration evaluates thousands of studies.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Rule = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def holm(p: Sequence[float]) -> list[float]:
    """Adjust p-values by Holm's (1979) step-down procedure, which controls the family-wise error rate.

    The k-th smallest of m p-values is multiplied by m - k + 1, and is no smaller than the previous result.

    Args:
        p: the p-values of the family. NaN entries are not members of the family and stay NaN.

    >>> holm([0.03, 0.01, float("nan")])
    [0.03, 0.02, nan]
    """
    return _adjusted(p, lambda ranked: np.maximum.accumulate(ranked * np.arange(len(ranked), 0, -1)))


def after_gatekeeper(first: float, others: Sequence[float]) -> list[float]:
    """Adjust p-values that are tested only if a first test is significant: a fixed sequence, then Holm's procedure.

    The first test needs no adjustment, and the others are significant only if the first one is (Westfall and Krishen 2001; Dmitrienko
    and Tamhane 2007, serial gatekeeping). The family-wise error rate is that of a single level.

    Args:
        first: p-value of the first test. NaN is a test without a result, after which no other test is significant.
        others: p-values of the other tests. NaN entries are not members of the family and stay NaN.

    >>> after_gatekeeper(0.02, [0.03, 0.01, float("nan")])
    [0.03, 0.02, nan]
    >>> after_gatekeeper(float("nan"), [0.01])
    [1.0]
    """
    bar = 1.0 if math.isnan(first) else first
    return [p if math.isnan(p) else max(p, bar) for p in holm(others)]


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Adjust p-values by Benjamini and Hochberg's (1995) procedure, which controls the false discovery rate.

    The k-th smallest of m p-values is multiplied by m / k, and is no larger than the next result.

    Args:
        p: the p-values that are reported together. NaN entries are not members of the family and stay NaN.

    >>> benjamini_hochberg([0.03, 0.01, float("nan")])
    [0.03, 0.02, nan]
    """

    def step_up(ranked: NDArray[np.float64]) -> NDArray[np.float64]:
        scaled = ranked * len(ranked) / np.arange(1, len(ranked) + 1)
        return np.minimum.accumulate(scaled[::-1])[::-1]

    return _adjusted(p, step_up)


def _adjusted(p: Sequence[float], rule: Rule) -> list[float]:
    """Apply a rule for ascending p-values to those that are not NaN."""
    adjusted = np.array(p, dtype=float)
    members = np.flatnonzero(~np.isnan(adjusted))
    ranked = members[np.argsort(adjusted[members], kind="stable")]
    adjusted[ranked] = np.minimum(rule(adjusted[ranked]), 1.0)
    return [float(value) for value in adjusted]
