"""Adjust the p-values of one candidate's comparisons, by family of tests.

- *Better* (the basis of ACCEPT): tests that the gain of a primary metric exceeds its margin. If one significant primary
  metric suffices for the verdict, the p-values are adjusted by Holm over the primary metrics. If all primary metrics must
  pass, no adjustment is necessary (Berger 1982).
- *Worse* (the basis of REJECT): tests of a loss of a primary metric, and of a loss of a guardrail beyond its margin. One
  significant test suffices, so the p-values are adjusted by Holm over all voting metrics.
- *Not worse* (guardrails): tests of non-inferiority, one-sided at alpha: the loss stays within the margin. All guardrails
  must pass, so no adjustment is necessary.

If the policy has an aggregate and one significant primary metric suffices, the aggregate is tested first, without an adjustment. The
single primary metrics are tested only if it is better (`assay.analysis.aggregate`).

Alpha is split in half between *Better* and *Worse*. A change without any effect therefore gets a wrong verdict with
probability at most alpha. A family contains the tests of one candidate only, so an additional mix in the sweep changes
no adjustment; it changes the estimate of the noise (`assay.analysis.stats.sweep_model`). `SweepVerdict` reports how several candidates raise the error rate of a sweep.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from assay.analysis.comparison import Comparison
from assay.analysis.stats import multiplicity, power
from assay.analysis.stats.paired import Estimate
from assay.analysis.stats.tables import Metric
from assay.config.aggregate import JOINT
from assay.config.policy import Criterion, Policy


def adjust_tests(measured: list[tuple[Comparison, Estimate]], policy: Policy) -> list[Comparison]:
    """Fill in the values that depend on the candidate's other comparisons."""
    # A metric outside a family has a NaN as p-value, which the adjustment keeps.
    better = [_claim(c, e, bar=c.margin) if c.votes and c.role == "primary" else math.nan for c, e in measured]
    worse = [
        _claim(c, e, bar=-_tolerated(c), worse=True) if c.votes and c.task != JOINT else math.nan for c, e in measured
    ]
    monitors = [c.p if c.role == "monitor" else math.nan for c, _ in measured]
    first = None if policy.aggregate is None else policy.aggregate.task
    alone = [math.nan if c.task == first else p for (c, _), p in zip(measured, better, strict=True)]
    sharing = 1 if policy.require == "all" else max(1, sum(not math.isnan(p) for p in alone))
    if policy.require == "any" and first is None:
        better = multiplicity.holm(better)
    elif policy.require == "any":
        gate = next((p for (c, _), p in zip(measured, better, strict=True) if c.task == first), math.nan)
        alone = multiplicity.after_gatekeeper(gate, alone)
        better = [gate if c.task == first else p for (c, _), p in zip(measured, alone, strict=True)]
    worse, shown = multiplicity.holm(worse), multiplicity.benjamini_hochberg(monitors)
    every = multiplicity.benjamini_hochberg([math.nan if c.task == JOINT else c.p for c, _ in measured])
    adjusted = []
    for (known, estimate), up, down, monitor, q in zip(measured, better, worse, shown, every, strict=True):
        tail = policy.alpha / 2 / (sharing if known.role == "primary" and known.task != first else 1)
        claim = up if known.role == "primary" and known.gain > 0 else down
        guards = known.votes and known.role == "guardrail"
        adjusted.append(
            replace(
                known,
                p_adjusted=monitor if known.role == "monitor" else claim,
                p_noninferior=_p_of_gain(known, estimate, above=-known.margin) if guards else math.nan,
                loss_bound=estimate.critical(policy.alpha) * estimate.se - known.gain if guards else math.nan,
                p_limit=_p_of_gain(known, estimate, above=-policy.guardrail_limit * known.margin)
                if guards and policy.guardrail_rule == "joint" and known.task != JOINT
                else math.nan,
                q=q,
                mde=power.smallest_detectable(se=estimate.se, df=estimate.df(tail), tail=tail),
            )
        )
    return adjusted


def smallest_levels(alpha: float, primary: Sequence[Criterion], guardrails: Sequence[Criterion]) -> dict[Metric, float]:
    """Return the level at which the claim about a voting metric may have to be significant, two-sided.

    It is the first step of Holm's adjustment: over the primary metrics for a primary metric, because its gain is the
    basis of ACCEPT, and over all voting metrics for a guardrail.
    """
    levels = {(c.task, c.metric): alpha / (len(primary) + len(guardrails)) for c in guardrails}
    return levels | {(c.task, c.metric): alpha / len(primary) for c in primary}


def _tolerated(c: Comparison) -> float:
    """Return the tolerated loss: the margin of a guardrail, and 0 for a primary metric.

    The margin of a primary metric applies to gains.
    """
    return c.margin if c.role == "guardrail" else 0.0


def _claim(c: Comparison, estimate: Estimate, *, bar: float, worse: bool = False) -> float:
    """Return the p-value of a gain beyond a bound, doubled for the two directions."""
    return min(1.0, 2 * (_p_of_gain(c, estimate, below=bar) if worse else _p_of_gain(c, estimate, above=bar)))


def _p_of_gain(c: Comparison, estimate: Estimate, *, above: float | None = None, below: float | None = None) -> float:
    """Return the one-sided p-value of the gain being above, or below, a bar."""
    bar = above if above is not None else below
    assert bar is not None
    assert c.better is not None, "the policy states the direction of a voting metric"
    rising = (above is not None) == (c.better == "higher")
    on_effect = bar if c.better == "higher" else -bar
    return estimate.p_above(on_effect) if rising else estimate.p_below(on_effect)
