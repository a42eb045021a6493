"""Test many guardrails jointly: their mean, and a limit for each.

To show for each of many guardrails that its loss is below its margin has little power: at three seeds and margins of two
SDs of a run, a single unchanged guardrail passes in 49% of studies, and ten unchanged guardrails all pass in 0-5%. The
joint rule requires three statements instead:

- The mean loss over all guardrails, each divided by its margin, is below one margin (one-sided test at alpha).
- The estimated loss of every guardrail is below its margin.
- Each guardrail's loss is below `guardrail_limit` margins (one-sided tests at alpha, all of which must be significant, so no
  adjustment is necessary; Berger 1982).

Ten unchanged guardrails then pass in 62-88% of studies. The rule accepts more: a loss of exactly one margin on one of ten
guardrails passes in 35-43% of studies, of one and a half margins in 9%, and of two margins in under 1%
(`benchmarks/aggregate.py`). A loss of one margin on all guardrails passes in at most alpha of studies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from assay.analysis.comparison import Comparison
from assay.config.aggregate import JOINT
from assay.config.policy import Policy
from assay.config.reason import Code, Reason


@dataclass(frozen=True, kw_only=True)
class JointGuardrails:
    """The joint test of all guardrails with signal.

    Attributes:
        n_guardrails: number of guardrails.
        mean_loss: mean loss, in margins; NaN if unknown.
        mean_bound: upper confidence bound of the mean loss at level 1 - alpha, in margins.
        p_mean: p-value of a mean loss of at least one margin.
        worst: task of the guardrail with the largest estimated loss in margins.
        worst_metric: metric of this guardrail.
        worst_loss: estimated loss of this guardrail, in margins.
        worst_bound: upper confidence bound of this loss at level 1 - alpha, in margins.
        largest_bound: largest upper confidence bound of any guardrail, in margins.
        limit: the policy's `guardrail_limit`.
        holds: whether the rule is fulfilled.
    """

    n_guardrails: int
    mean_loss: float
    mean_bound: float
    p_mean: float
    worst: str
    worst_metric: str
    worst_loss: float
    worst_bound: float
    largest_bound: float
    limit: float
    holds: bool

    @property
    def known(self) -> bool:
        """Whether the noise of the mean and of all guardrails is known."""
        return math.isfinite(self.p_mean) and math.isfinite(self.largest_bound)


def tested_margin(c: Comparison, policy: Policy) -> float:
    """Return the loss that a guardrail's test must exclude under the policy's rule."""
    joint = policy.guardrail_rule == "joint" and c.task != JOINT
    return c.margin * (policy.guardrail_limit if joint else 1.0)


def apply_joint_rule(comparisons: Sequence[Comparison], policy: Policy) -> JointGuardrails | None:
    """Apply the joint rule to one candidate's comparisons; None if the policy has another rule or no guardrail has signal."""
    guardrails = [c for c in comparisons if c.role == "guardrail" and c.task != JOINT and c.signal != "no signal"]
    if policy.guardrail_rule != "joint" or not guardrails:
        return None
    mean = next((c for c in comparisons if c.task == JOINT), None)
    worst = min(guardrails, key=lambda c: c.gain / c.margin if math.isfinite(c.gain) else math.inf)
    bounds = [c.loss_bound / c.margin for c in guardrails]
    alpha = policy.alpha
    return JointGuardrails(
        n_guardrails=len(guardrails),
        mean_loss=-mean.gain if mean is not None else math.nan,
        mean_bound=mean.loss_bound if mean is not None else math.nan,
        p_mean=mean.p_noninferior if mean is not None else math.nan,
        worst=worst.task,
        worst_metric=worst.metric,
        worst_loss=-worst.gain / worst.margin,
        worst_bound=worst.loss_bound / worst.margin,
        largest_bound=math.nan if any(map(math.isnan, bounds)) else max(bounds),
        limit=policy.guardrail_limit,
        holds=mean is not None
        and mean.votes
        and mean.p_noninferior <= alpha
        and all(fits(c, alpha) for c in guardrails),
    )


def fits(c: Comparison, alpha: float) -> bool:
    """Report whether a guardrail's estimate is within its margin and its loss is shown to be below the limit."""
    return c.votes and c.gain > -c.margin and c.p_limit <= alpha


def joint_reason(joint: JointGuardrails, policy: Policy) -> Reason:
    """State the joint test, with the worst guardrail and its bound."""
    names = ("n_guardrails", "mean_loss", "mean_bound", "p_mean", "worst_loss", "worst_bound", "largest_bound", "limit")
    figures = {name: getattr(joint, name) for name in names} | {"level": 1 - policy.alpha}
    code = Code.JOINT_WITHIN_MARGIN if joint.holds else Code.JOINT_NOT_SHOWN
    if not joint.holds:
        figures["failed"] = _failed(joint, policy.alpha)
    return Reason(code=code, subject=joint.worst, metric=joint.worst_metric, figures=figures)


def _failed(joint: JointGuardrails, alpha: float) -> tuple[str, ...]:
    """Return the parts of the rule that do not hold: `mean`, `estimate` and `limit`."""
    holds = {
        "mean": joint.p_mean <= alpha,
        "estimate": joint.worst_loss < 1,
        "limit": joint.largest_bound <= joint.limit,
    }
    return tuple(part for part, holding in holds.items() if not holding)
