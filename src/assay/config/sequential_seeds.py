"""Define group-sequential plans over replicates: the seeds of a sweep are trained in stages.

After each stage, the gate decides on each candidate at the level that an alpha-spending function assigns to the stage
(Lan and DeMets 1983). Undecided candidates get the seeds of the next stage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Literal

from assay.core.errors import ConfigError

Spending = Literal["obrien_fleming", "pocock"]
LEAST_LEVEL = 1e-6
"""Smallest level of a stage. A stage with a smaller level decides nothing with a few seeds."""


def spend_obrien_fleming(alpha: float, information: float) -> float:
    """Return the alpha that is spent up to a fraction of the seeds, for boundaries like those of O'Brien and Fleming.

    The function is 2 - 2 Phi(z / sqrt(t)), with the two-sided quantile z of alpha (Lan and DeMets 1983, section 2).

    Args:
        alpha: total alpha, two-sided.
        information: fraction of the planned seeds, above 0 and at most 1.

    >>> round(spend_obrien_fleming(0.05, 0.4), 4), round(spend_obrien_fleming(0.05, 1.0), 4)
    (0.0019, 0.05)
    """
    quantile = NormalDist().inv_cdf(1 - alpha / 2)
    return math.erfc(quantile / math.sqrt(2 * information))  # 2 - 2 Phi(x) is erfc(x / sqrt(2))


def spend_pocock(alpha: float, information: float) -> float:
    """Return the alpha that is spent up to a fraction of the seeds, for boundaries like those of Pocock.

    The function is alpha log(1 + (e - 1) t) (Lan and DeMets 1983, section 2).

    Args:
        alpha: total alpha.
        information: fraction of the planned seeds, above 0 and at most 1.

    >>> round(spend_pocock(0.05, 0.4), 4), round(spend_pocock(0.05, 1.0), 4)
    (0.0262, 0.05)
    """
    return alpha * math.log(1 + (math.e - 1) * information)


SPENDING: Mapping[Spending, Callable[[float, float], float]] = {
    "obrien_fleming": spend_obrien_fleming,
    "pocock": spend_pocock,
}


@dataclass(frozen=True, kw_only=True)
class SequentialSeeds:
    """Stages in which the seeds of a sweep are trained, with a decision on each candidate after each stage."""

    stages: tuple[int, ...]
    """Number of seeds per mix after each stage, ascending, for example `[2, 3, 5]`. The last number is the number of seeds
    of the sweep."""
    spending: Spending = "obrien_fleming"
    """Alpha-spending function (Lan and DeMets 1983). `obrien_fleming` spends little alpha in early stages, and `pocock` spends
    more."""
    stop: Literal["both", "losers"] = "both"
    """Decisions that end a candidate before the last stage: `both` (ACCEPT and REJECT), or `losers` (only REJECT)."""

    def __post_init__(self) -> None:
        ascending = all(low < high for low, high in pairwise(self.stages))
        if len(self.stages) < 2 or self.stages[0] < 1 or not ascending:
            raise ConfigError(
                f"policy: sequential_seeds.stages {list(self.stages)} is invalid; expected at least two ascending numbers of"
                " seeds.",
                fix="Write for example `stages: [2, 3, 5]`, or `sequential_seeds: null` for a sweep without stages.",
            )

    def spent(self, alpha: float) -> tuple[float, ...]:
        """Return the alpha that is spent up to each stage; the last value is `alpha`."""
        function = SPENDING[self.spending]
        return tuple(function(alpha, seeds / self.stages[-1]) for seeds in self.stages)

    def levels(self, alpha: float) -> tuple[float, ...]:
        """Return the level of each stage: the alpha that the stage adds to the spent alpha.

        The levels sum to `alpha`. By the union bound, the probability of any wrong decision is at most `alpha`, for any
        dependence between the stages and any test that is valid at each level.

        >>> [round(level, 4) for level in SequentialSeeds(stages=(2, 3, 5)).levels(0.05)]
        [0.0019, 0.0095, 0.0386]
        """
        return tuple(after - before for before, after in pairwise((0.0, *self.spent(alpha))))
