"""What a design can show, before it runs: for each metric of the policy the smallest effect that it would find.

It is the verdict's own arithmetic (`Comparison.mde`) on noise that is known from elsewhere: the standard error of so many paired
seeds and of the questions, their degrees of freedom, and alpha as it will be shared among the primaries. How well the noise
is known beforehand is told beside it; it does not make the effect larger, as the test to come measures its own noise.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from assay.compare import compare
from assay.errors import AssayError
from assay.stats.frames import Metric
from assay.stats.moderated import NOTHING, Prior, shrink
from assay.stats.paired import Estimate, Part
from assay.stats.power import POWER, power, smallest_detectable
from assay.stats.replicates import Noise
from assay.suite import Criterion, Policy, Role

if TYPE_CHECKING:
    import pandas as pd

UNKNOWN = "unknown, no past replicates of this proxy"


@dataclass(frozen=True, kw_only=True)
class Detectable:
    """What a design would find on one metric; figures in the metric's unit, NaN where unknown.

    Attributes:
        task: as in the policy.
        metric: as in the policy.
        role: `primary` or `guardrail`.
        margin: the policy's bar.
        n_seeds: replicates of each mix.
        smallest: the difference that would be found with probability 0.8.
        holds: guardrails: the chance to show that the margin holds, where nothing changes.
        noise: SD over seeds of paired differences that this rests on.
        noise_df: degrees of freedom behind that SD.
        item_variance: part of a difference's variance that is the choice of questions.
        basis: where the noise is known from.
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
    basis: str = UNKNOWN

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON, where NaN is null."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in vars(self).items()
        }


def detectable(
    policy: Policy,
    *,
    n_seeds: int,
    noise: Mapping[Metric, Noise],
    where: str,
    prior: Mapping[Metric, Prior] | None = None,
) -> tuple[Detectable, ...]:
    """What a sweep would find on each primary and guardrail of its policy.

    Args:
        policy: what will judge it.
        n_seeds: replicates of each mix, paired.
        noise: by metric, from past replicates.
        where: what those are, in words: `the store`, `the table`.
        prior: by metric, what the history will be counted in with (`assay.stats.history.noise_by_metric`); where there are no past
            replicates besides, the noise is taken from it.
    """
    policy = policy.at_the_end  # what looks on the way may spend of alpha, the verdict at the end has not
    primaries = _primaries(policy)
    share = len(primaries) if policy.require == "any" else 1
    found = []
    roles: tuple[tuple[Role, tuple[Criterion, ...]], ...] = (("primary", primaries), ("guardrail", policy.guardrails))
    for role, criteria in roles:
        for criterion in criteria:
            name = (criterion.task, criterion.metric)
            known, past = noise.get(name), (prior or {}).get(name, NOTHING)
            tail = policy.alpha / 2 / (share if role == "primary" else 1)
            found.append(
                _one(criterion, role, known, past, n_seeds=n_seeds, where=where, alpha=policy.alpha, tail=tail)
            )
    return tuple(found)


def _one(
    criterion: Criterion,
    role: Role,
    known: Noise | None,
    past: Prior,
    *,
    n_seeds: int,
    where: str,
    alpha: float,
    tail: float,
) -> Detectable:
    blank = Detectable(
        task=criterion.task, metric=criterion.metric, role=role, margin=criterion.margin, n_seeds=n_seeds
    )
    bases = (
        [f"{known.n_runs} runs of {known.n_mixes} mix{'es' * (known.n_mixes != 1)} in {where}"]
        if known is not None
        else []
    )
    bases += ["the history"] if past.df > 0 else []
    if not bases:
        return blank
    sd = known.sd if known is not None else math.sqrt(2 * past.variance)
    about = replace(
        blank,
        noise=sd,
        noise_df=known.df if known is not None else past.df,
        item_variance=known.item_variance if known is not None else 0.0,
        basis=" and ".join(bases),
    )
    if n_seeds <= 1:
        return replace(about, basis=f"{about.basis}; one seed shows no noise of its own")
    estimate = _expected(sd, known, past, n_seeds)
    return replace(
        about,
        smallest=smallest_detectable(se=estimate.se, df=estimate.df(tail), tail=tail),
        holds=power(criterion.margin, se=estimate.se, df=estimate.df(alpha), tail=alpha)
        if role == "guardrail"
        else math.nan,
    )


def _expected(sd: float, known: Noise | None, past: Prior, n_seeds: int) -> Estimate:
    """The estimate that the design will give, with an effect of 0."""
    prior = past._replace(variance=2 * past.variance) if past.df > 0 else past
    variance, df = shrink(sd**2, n_seeds - 1, prior)
    parts = [Part(variance / n_seeds, df)]
    if known is not None and known.item_variance > 0:
        parts.append(Part(known.item_variance, max((known.n_items or 2) - 1, 1)))
    return Estimate(effect=0.0, parts=tuple(parts), noise=sd, n_seeds=n_seeds)


def with_questions(
    noise: Mapping[Metric, Noise], scores: pd.DataFrame, items: pd.DataFrame, policy: Policy
) -> dict[Metric, Noise]:
    """The noise with what the choice of questions adds, as it was between past mixes.

    Questions differ the more in what a change does to them, the more it does; the median over pairs of mixes is taken.

    Args:
        noise: by metric, of the seeds.
        scores: long results of past runs, of one evaluation.
        items: their questions.
        policy: whose metrics are looked at.
    """
    asked = tuple(replace(c, margin=0.0) for c in (*_primaries(policy), *policy.guardrails))
    asked = tuple(c for c in asked if (c.task, c.metric) in noise)
    if not asked or items.empty or scores.empty:
        return dict(noise)
    every = Policy(name="past", primary=asked, alpha=policy.alpha, min_seeds=2)
    names = [(c.task, c.metric) for c in asked]
    scores, items = (
        table[[pair in names for pair in zip(table["task"], table["metric"], strict=True)]] for table in (scores, items)
    )
    mixes = [str(mix) for mix in items["mix"].drop_duplicates()]
    runs = set(zip(items["mix"], items["seed"], strict=True))
    scores = scores[[run in runs for run in zip(scores["mix"], scores["seed"], strict=True)]]
    seen: dict[Metric, list[tuple[float, int | None]]] = {}
    for first, second in itertools.pairwise(mixes):
        try:
            compared = compare(scores, every, baseline=first, candidates=[second], items=items)
        except AssayError:
            continue  # two that cannot be compared, as arms of other budgets, say nothing of a third
        for c in compared:
            if c.n_seeds > 1:
                seen.setdefault((c.task, c.metric), []).append((c.item_variance, c.n_items))
    return {
        name: one._replace(item_variance=statistics.median(v for v, _ in seen[name]), n_items=seen[name][0][1])
        if name in seen
        else one
        for name, one in noise.items()
    }


def _primaries(policy: Policy) -> tuple[Criterion, ...]:
    """Those of the policy; its target's metric where it names none, as at the proxy that is judged instead."""
    if policy.primary or policy.target is None:
        return policy.primary
    target = policy.target
    return (Criterion(task=target.task, metric=target.metric, better=target.better),)


def sized(found: Detectable, value: float) -> str:
    """A figure of it for people; a dash where it is unknown."""
    from assay.stats.signal import ACCURACIES

    if not math.isfinite(value):
        return "-"
    return f"{100 * value:.2f} pt" if found.metric in ACCURACIES else f"{value:.4f}"


def cautions(found: tuple[Detectable, ...], policy: Policy) -> list[str]:
    """What the figures mean for the design, where it is bad news."""
    told = []
    if found and found[0].n_seeds < policy.min_seeds:
        told.append(
            f"the policy asks for {policy.min_seeds} seeds of each mix: with {found[0].n_seeds} no verdict is given."
        )
    weak = [f"{one.task} {one.metric} ({one.holds:.0%})" for one in found if one.holds < POWER]
    if weak:
        told.append(
            "margins that this design would too seldom show to hold, even if nothing changes there: "
            f"{', '.join(weak)}. More seeds or a wider margin would."
        )
    return told
