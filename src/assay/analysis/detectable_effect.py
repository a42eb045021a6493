"""Estimate the smallest effect that a design can detect, for each metric of the policy.

The estimate is available before any run of the design. The formulas are those of the verdict (`Comparison.mde`), with
the noise of past runs. They use the standard error and the degrees of freedom of paired seeds and of items, and the
division of alpha among the primary metrics. The uncertainty of the past noise is reported separately. It does not
increase the detectable effect, because the future test measures its own noise.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from assay.analysis.adjusted_tests import smallest_levels
from assay.analysis.compare import compare
from assay.analysis.stats.moderated import NOTHING, Prior, shrink
from assay.analysis.stats.paired import Estimate, Part
from assay.analysis.stats.power import POWER, power, smallest_detectable
from assay.analysis.stats.replicates import Noise
from assay.analysis.stats.sweep_model import agrees
from assay.analysis.stats.tables import Metric
from assay.config.policy import Criterion, Policy
from assay.config.reason import Code, Reason
from assay.config.suite import Role
from assay.core.errors import Damaged, NotFound, Refused

if TYPE_CHECKING:
    import pandas as pd

UNKNOWN = Reason(code=Code.NOISE_UNKNOWN)


@dataclass(frozen=True, kw_only=True)
class DetectableEffect:
    """The effect that a design can detect, in the metric's unit; NaN if unknown.

    Attributes:
        task: name of the task in the policy.
        metric: name of the metric in the policy.
        role: `primary` or `guardrail`.
        margin: the policy's margin.
        n_seeds: number of replicates per mix.
        smallest: the difference that the test detects with probability 0.8.
        holds: for guardrails, the probability that the test shows a loss within the margin if the true difference is 0; under the
            joint rule, a loss within `guardrail_limit` margins.
        noise: SD over seeds of paired differences, from past runs.
        noise_df: degrees of freedom of `noise`.
        item_variance: part of a difference's variance that is due to the choice of items.
        basis: source of the noise estimate.
    """

    task: str
    metric: str
    role: Role
    margin: float
    n_seeds: int
    smallest: float = math.nan
    holds: float = math.nan
    noise: float = math.nan
    noise_df: float = math.nan
    item_variance: float = 0.0
    basis: Reason = UNKNOWN


def compute_detectable_effects(
    policy: Policy,
    *,
    n_seeds: int,
    noise: Mapping[Metric, Noise],
    where: str,
    prior: Mapping[Metric, Prior] | None = None,
    n_arms: int = 2,
) -> tuple[DetectableEffect, ...]:
    """Compute the detectable effect on each primary metric and guardrail of a policy.

    Args:
        policy: the policy that will decide the sweep.
        n_seeds: number of paired replicates per mix.
        noise: noise between past replicates, by metric.
        where: origin of the past replicates, as text, such as `the store` or `the table`.
        prior: noise of one run from the history, by metric (`assay.analysis.stats.sweep_model.SeedPrior.best`), which
            moderates the noise as in the verdict, if both agree. For a metric without past replicates, `prior` is the
            only noise.
        n_arms: number of arms of the sweep, with the baseline. All arms inform the noise.
    """
    policy = policy.at_the_end  # interim analyses spend a fraction of alpha, which the final verdict lacks
    first = None if policy.aggregate is None else policy.aggregate.task
    primaries = _primaries(policy.with_aggregate)
    # The aggregate is tested first, at the full alpha (see `assay.analysis.aggregate`).
    n_tests = max(sum(c.task != first for c in primaries), 1) if policy.require == "any" else 1
    limit = policy.guardrail_limit if policy.guardrail_rule == "joint" else 1.0
    levels = smallest_levels(policy.alpha, primaries, policy.guardrails)
    effects = []
    roles: tuple[tuple[Role, tuple[Criterion, ...]], ...] = (("primary", primaries), ("guardrail", policy.guardrails))
    for role, criteria in roles:
        for criterion in criteria:
            name = (criterion.task, criterion.metric)
            known, past = noise.get(name), (prior or {}).get(name, NOTHING)
            tail = policy.alpha / 2 / (n_tests if role == "primary" and criterion.task != first else 1)
            effects.append(
                _effect(
                    criterion,
                    role,
                    known,
                    past,
                    n_seeds=n_seeds,
                    n_arms=n_arms,
                    where=where,
                    alpha=policy.alpha,
                    tail=tail,
                    level=levels[name],
                    limit=limit,
                )
            )
    return tuple(effects)


def _effect(
    criterion: Criterion,
    role: Role,
    known: Noise | None,
    past: Prior,
    *,
    n_seeds: int,
    n_arms: int,
    where: str,
    alpha: float,
    tail: float,
    level: float,
    limit: float,
) -> DetectableEffect:
    unknown = DetectableEffect(
        task=criterion.task, metric=criterion.metric, role=role, margin=criterion.margin, n_seeds=n_seeds
    )
    if known is None and past.df <= 0:
        return unknown
    figures = {
        "n_runs": known.n_runs if known is not None else 0,
        "n_mixes": known.n_mixes if known is not None else 0,
        "where": where,
        "history": past.df > 0,
        "n_seeds": n_seeds,
    }
    sd = known.sd if known is not None else math.sqrt(2 * past.variance)
    with_noise = replace(
        unknown,
        noise=sd,
        noise_df=known.df if known is not None else past.df,
        item_variance=known.item_variance if known is not None else 0.0,
        basis=Reason(code=Code.NOISE_FROM_RUNS, figures=figures),
    )
    if n_seeds <= 1:
        return with_noise
    estimate = _expected(sd, known, past, n_seeds=n_seeds, n_arms=n_arms, level=level)
    return replace(
        with_noise,
        smallest=smallest_detectable(se=estimate.se, df=estimate.df(tail), tail=tail),
        holds=power(criterion.margin * limit, se=estimate.se, df=estimate.df(alpha), tail=alpha)
        if role == "guardrail"
        else math.nan,
    )


def _expected(sd: float, known: Noise | None, past: Prior, *, n_seeds: int, n_arms: int, level: float) -> Estimate:
    """Return the estimate that the design is expected to give, with effect 0."""
    df = float((n_arms - 1) * (n_seeds - 1))
    variance = sd**2 / 2  # of one run
    if past.df > 0 and (known is None or agrees(variance, known.df, past, level=level)):
        variance, df = shrink(variance, df, past._replace(df=min(past.df, df)))
    parts = [Part(2 * variance / n_seeds, df)]
    if known is not None and known.item_variance > 0:
        parts.append(Part(known.item_variance, max((known.n_items or 2) - 1, 1)))
    return Estimate(effect=0.0, parts=tuple(parts), noise=sd, n_seeds=n_seeds)


def add_item_variance(
    noise: Mapping[Metric, Noise], scores: pd.DataFrame, items: pd.DataFrame, policy: Policy
) -> dict[Metric, Noise]:
    """Add the item variance between past mixes to the noise of each metric.

    The item variance grows with the effect of a change, so the function uses the median over pairs of past mixes.

    Args:
        noise: noise between seeds, by metric.
        scores: long results of past runs, of one evaluation.
        items: item scores of the past runs.
        policy: names the metrics.
    """
    criteria = tuple(replace(c, margin=0.0) for c in (*_primaries(policy), *policy.guardrails))
    criteria = tuple(c for c in criteria if (c.task, c.metric) in noise)
    if not criteria or items.empty or scores.empty:
        return dict(noise)
    past_policy = Policy(name="past", primary=criteria, alpha=policy.alpha, min_seeds=2)
    names = [(c.task, c.metric) for c in criteria]
    scores, items = (
        table[[pair in names for pair in zip(table["task"], table["metric"], strict=True)]] for table in (scores, items)
    )
    mixes = [str(mix) for mix in items["mix"].drop_duplicates()]
    runs = set(zip(items["mix"], items["seed"], strict=True))
    scores = scores[[run in runs for run in zip(scores["mix"], scores["seed"], strict=True)]]
    variances: dict[Metric, list[tuple[float, int | None]]] = {}
    for first, second in itertools.pairwise(mixes):
        try:
            compared = compare(scores, past_policy, baseline=first, candidates=[second], items=items)
        except (NotFound, Refused, Damaged):
            continue  # mixes with different budgets cannot be compared
        for c in compared:
            if c.n_seeds > 1:
                variances.setdefault((c.task, c.metric), []).append((c.item_variance, c.n_items))
    return {
        name: known._replace(
            item_variance=statistics.median(v for v, _ in variances[name]), n_items=variances[name][0][1]
        )
        if name in variances
        else known
        for name, known in noise.items()
    }


def _primaries(policy: Policy) -> tuple[Criterion, ...]:
    """Return the primary metrics, or the target's metric if the policy has no primary metric."""
    if policy.primary or policy.aggregate is not None or policy.target is None:
        return policy.primary
    target = policy.target
    return (Criterion(task=target.task, metric=target.metric, better=target.better),)


def cautions(effects: tuple[DetectableEffect, ...], policy: Policy) -> list[Reason]:
    """List the problems of a design: too few seeds, and guardrails with too little power."""
    reasons = []
    if effects and effects[0].n_seeds < policy.min_seeds:
        figures = {"min_seeds": policy.min_seeds, "n_seeds": effects[0].n_seeds}
        reasons.append(Reason(code=Code.SEEDS_BELOW_POLICY, figures=figures))
    weak = [{"task": e.task, "metric": e.metric, "power": e.holds} for e in effects if e.holds < POWER]
    if weak:
        reasons.append(Reason(code=Code.MARGINS_LACK_POWER, figures={"metrics": weak}))
    return reasons
