"""Many comparisons at once: what to make of the smallest p of a family.

Two short formulas of our own, tested against `statsmodels.stats.multitest.multipletests`, which collects all garbage at every
call: 50 ms each, where a calibration judges thousands of studies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Rule = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down adjusted p-values: the chance of any false claim in the family stays below alpha.

    The k-th smallest of m is multiplied by m - k + 1, and is no smaller than the one before it.

    Args:
        p: the family's p-values; NaN is not a member, and stays NaN.

    >>> holm([0.03, 0.01, float("nan")])
    [0.03, 0.02, nan]
    """
    return _adjusted(p, lambda ranked: np.maximum.accumulate(ranked * np.arange(len(ranked), 0, -1)))


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's (1995) adjusted p-values: of what falls below q, on average at most a share q is false.

    The k-th smallest of m is multiplied by m / k, and is no larger than the one after it.

    Args:
        p: the p-values shown together; NaN is not a member, and stays NaN.

    >>> benjamini_hochberg([0.03, 0.01, float("nan")])
    [0.03, 0.02, nan]
    """

    def step_up(ranked: NDArray[np.float64]) -> NDArray[np.float64]:
        scaled = ranked * len(ranked) / np.arange(1, len(ranked) + 1)
        return np.minimum.accumulate(scaled[::-1])[::-1]

    return _adjusted(p, step_up)


def _adjusted(p: Sequence[float], rule: Rule) -> list[float]:
    """Apply a rule for ascending p-values to those that are known."""
    adjusted = np.array(p, dtype=float)
    members = np.flatnonzero(~np.isnan(adjusted))
    ranked = members[np.argsort(adjusted[members], kind="stable")]
    adjusted[ranked] = np.minimum(rule(adjusted[ranked]), 1.0)
    return [float(value) for value in adjusted]
