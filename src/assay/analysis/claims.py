"""Name the claim that a verdict makes about each comparison, with the p-value that tests this claim.

A comparison has several p-values: of a difference, of superiority or harm, and of non-inferiority. A sentence or a row of
a table refers to exactly one of them. An improving guardrail, for example, has a harm p-value of 1 and a small
non-inferiority p-value. The verdict claims that the guardrail holds, so its row shows the second p-value.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from assay.config.suite import Role

ClaimName = Literal["better", "worse", "not worse", "differs", "none"]


class ClaimResult(NamedTuple):
    """A claim about one comparison.

    Attributes:
        name: `better` or `worse` for a primary metric, by the sign of its gain: superiority by more than the margin, or
            any loss. `not worse` for a guardrail: non-inferiority within its margin, or within the limit of the joint rule. `worse` for a guardrail whose loss
            beyond its margin is significant. `differs` for a monitor metric. `none` without a vote.
        p: p-value of the claim, adjusted for multiple tests where the claim's family requires it; NaN for `none`.
    """

    name: ClaimName
    p: float


def claim(
    *,
    role: Role,
    votes: bool,
    gain: float,
    margin: float,
    alpha: float,
    p_adjusted: float,
    p_noninferior: float,
    p_limit: float = math.nan,
) -> ClaimResult:
    """Return the claim about a comparison.

    Args:
        role: role of the metric.
        votes: whether the comparison votes.
        gain: the effect, positive for an improvement, in the metric's unit.
        margin: the policy's margin, in the metric's unit.
        alpha: error rate of the tests.
        p_adjusted: adjusted p-value of superiority or harm (see `assay.analysis.comparison.Comparison`).
        p_noninferior: p-value of non-inferiority of a guardrail.
        p_limit: under the joint rule, the p-value of a loss beyond the policy's limit; NaN under other rules.
    """
    if role == "monitor":
        return ClaimResult("none" if math.isnan(p_adjusted) else "differs", p_adjusted)
    if not votes:
        return ClaimResult("none", math.nan)
    if role == "primary":
        return ClaimResult("better" if gain > 0 else "worse", p_adjusted)
    if gain < -margin and p_adjusted <= alpha:
        return ClaimResult("worse", p_adjusted)
    return ClaimResult("not worse", p_noninferior if math.isnan(p_limit) else p_limit)


def relative_to_baseline(effect: float, baseline_mean: float) -> float:
    """Return an effect in percent of the baseline's mean score; NaN for a mean of 0.

    >>> relative_to_baseline(0.01, 0.5), relative_to_baseline(-0.02, -0.5), relative_to_baseline(0.01, 0.0)
    (2.0, -4.0, nan)
    """
    return 100 * effect / abs(baseline_mean) if baseline_mean else math.nan


def in_seed_sds(effect: float, sd: float) -> float:
    """Return an effect in SDs between seeds; NaN if the SD is unknown or 0.

    >>> in_seed_sds(0.01, 0.005), in_seed_sds(0.01, float("nan"))
    (2.0, nan)
    """
    return effect / sd if sd > 0 else math.nan
