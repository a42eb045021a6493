"""Estimate the smallest detectable effects of a sweep or of external results from past runs."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from assay.analysis.aggregate import with_aggregate
from assay.analysis.detectable_effect import DetectableEffect, add_item_variance, compute_detectable_effects
from assay.analysis.external.selection import with_labels
from assay.analysis.external.verdict import history
from assay.analysis.past_runs import of_one_evaluation, past_items, past_runs, past_scores
from assay.analysis.stats.aggregate_score import can_resolve
from assay.analysis.stats.replicates import Noise, replicate_noise
from assay.analysis.stats.results_table import ResultsTable
from assay.analysis.stats.sweep_noise import seed_priors_by_metric

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from assay.analysis.stats.moderated import Prior
    from assay.analysis.stats.tables import Metric
    from assay.config.policy import Policy
    from assay.plan.plan import Plan
    from assay.plan.workspace import Workspace


def detectable_in_sweep(space: Workspace, plan: Plan) -> tuple[DetectableEffect, ...]:
    """Estimate the detectable effects of a sweep from the store's comparable runs and the history.

    As in a verdict, the history excludes the baseline and one candidate, here the first one.
    """
    policy = space.study.policy.for_candidates(len(plan.sweep.candidates))
    past = history(space.study, space.store)
    scale = with_labels(policy).proxy_scale or space.runs.parameters
    noise, scores = _store_noise(space, plan.evaluation)
    return compute_detectable_effects(
        policy,
        n_seeds=len(plan.sweep.seeds),
        noise=noise | _aggregate_noise(scores, policy),
        where="the store",
        prior=None if past is None else _priors(past, scale, plan.sweep.mixes),
        n_arms=len(plan.sweep.mixes),
    )


def detectable_in_table(
    frame: pd.DataFrame, policy: Policy, *, n_seeds: int, past: pd.DataFrame | None, arms: Sequence[str]
) -> tuple[DetectableEffect, ...]:
    """Estimate the detectable effects of external results from their replicates and from the history.

    Args:
        frame: the results at one scale.
        policy: the policy of the verdict.
        n_seeds: number of seeds that both arms have.
        past: the history; None without one.
        arms: the baseline and the candidate of a verdict. The history's noise excludes them and all mixes of the table.
    """
    scale, mixes = frame["scale"].iloc[0], {*arms, *frame["mix"].astype(str)}
    return compute_detectable_effects(
        policy,
        n_seeds=n_seeds,
        noise=replicate_noise(frame) | _aggregate_noise(frame, policy),
        where="the table",
        prior=None if past is None else _priors(past, scale, mixes),
        n_arms=max(len(mixes), 2),
    )


def _priors(past: pd.DataFrame, scale: Any, mixes: Collection[str]) -> dict[Metric, Prior]:
    priors = seed_priors_by_metric(past, proxy_scale=scale, without=mixes)
    return {metric: prior.best for metric, prior in priors.items()}


def _aggregate_noise(scores: pd.DataFrame, policy: Policy) -> dict[Metric, Noise]:
    """Return the noise of the policy's aggregate in past runs; empty if the runs lack a task of the aggregate.

    The variance has the factor of estimated SDs. The variance from the choice of items is not included.
    """
    own = policy.aggregate
    if (
        own is None
        or scores.empty
        or not can_resolve(own, frozenset(zip(scores["task"], scores["metric"], strict=True)))
    ):
        return {}
    tables = with_aggregate(ResultsTable.of(scores), None, policy, baseline=str(scores["mix"].iloc[0]))
    if tables.metric is None:
        return {}
    noise = replicate_noise(tables.results.frame).get(tables.metric)
    return {} if noise is None else {tables.metric: noise._replace(sd=noise.sd * math.sqrt(tables.factor))}


def _store_noise(space: Workspace, evaluation: str) -> tuple[dict[Metric, Noise], pd.DataFrame]:
    comparable = [past for past in past_runs(space, evaluation=evaluation) if past.comparable]
    runs = of_one_evaluation(comparable, evaluation)
    scores = past_scores(runs)
    noise = add_item_variance(replicate_noise(scores), scores, past_items(runs), space.study.policy)
    return noise, scores
