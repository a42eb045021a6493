"""Detect mixes whose metrics have another profile than those of the history."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEWEST_MIXES = 12
"""Minimum number of past mixes for a profile."""

FEWEST_METRICS = 3
"""Minimum number of metrics for a profile."""

CAPPED = 3.0
"""Largest deviation of one metric that counts, in SDs. One failing metric is a regression, not another kind of mix."""

REFUSED = 2.0
"""Relative distance from which the history does not apply to a mix."""


def relative_distances(past: NDArray[np.float64], arms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Mahalanobis distance of each arm, relative to the largest distance of a past mix.

    Each metric's regression on the first one is removed, because the range of the predictor is checked by itself. The
    covariance is shrunk toward its diagonal by metrics / (metrics + mixes). The distance of a past mix is computed
    without this mix (a rank-one update of the inverse).

    Args:
        past: (mixes, metrics) scores of past mixes; the first column is the predictor.
        arms: (arms, metrics) scores of the compared mixes.

    Returns:
        (arms,); zeros for fewer than `FEWEST_MIXES` mixes or `FEWEST_METRICS` metrics.
    """
    mixes, metrics = past.shape
    if mixes < FEWEST_MIXES or metrics - 1 < FEWEST_METRICS:
        return np.zeros(len(arms))
    center, x = past.mean(axis=0), past[:, 0] - past[:, 0].mean()
    slopes = x @ (past - center) / max(float(x @ x), 1e-300)
    own, others = ((rows - center) - np.outer(rows[:, 0] - center[0], slopes) for rows in (past, arms))
    spreads = own.std(axis=0, ddof=2)
    kept = spreads > 1e-9 * np.abs(center).clip(1e-300)
    kept[0] = False
    if kept.sum() < FEWEST_METRICS:
        return np.zeros(len(arms))
    own, others = (np.clip(rows[:, kept] / spreads[kept], -CAPPED, CAPPED) for rows in (own, others))
    weight = kept.sum() / (kept.sum() + mixes)
    covariance = (1 - weight) * own.T @ own / (mixes - 1) + weight * np.eye(int(kept.sum()))
    inverse = np.linalg.inv(covariance)
    squared = np.einsum("ij,jk,ik->i", own, inverse, own)
    leverage = (1 - weight) * squared / (mixes - 1)
    without = squared / np.clip(1 - leverage, 0.05, None)
    distances: NDArray[np.float64] = np.sqrt(np.einsum("ij,jk,ik->i", others, inverse, others) / without.max())
    return distances
