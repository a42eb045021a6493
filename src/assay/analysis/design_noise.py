"""Find the noise between runs at the proxy and budget of each design, from the store's runs or the history.

The noise at a scale is measured where replicates exist at this scale. Otherwise the noise of the nearest scale is
assumed, and each use of it is recorded. How noise changes with proxy size and tokens is not modeled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

from assay.analysis.detectable_effect import add_item_variance
from assay.analysis.external.selection import with_labels
from assay.analysis.external.verdict import history
from assay.analysis.past_runs import PastRun, of_one_evaluation, past_items, past_runs, past_scores
from assay.analysis.stats.design_grid import MEAN, UNIT_NOISE, RunNoise, mean_of_metrics, run_noise
from assay.analysis.stats.history import HistoryTable
from assay.analysis.stats.moderated import Prior
from assay.analysis.stats.replicates import Noise
from assay.analysis.stats.sweep_model import SeedPrior
from assay.analysis.stats.sweep_noise import seed_priors_by_metric
from assay.analysis.stats.tables import TOKENS_APART, Metric, scale_key, scale_keys
from assay.config.policy import Criterion, Policy
from assay.plan.speed import has_same_setup

if TYPE_CHECKING:
    import pandas as pd

    from assay.plan.run_specs import RunSpecs
    from assay.plan.workspace import Workspace


class RunSize(NamedTuple):
    """A proxy and a number of tokens.

    Attributes:
        proxy: name of the proxy, or the spelling of the scale in the history.
        tokens: tokens of a run; None if the history does not state them.
    """

    proxy: str
    tokens: int | None


@dataclass(frozen=True, kw_only=True)
class NoiseSource:
    """Past runs of one proxy, budget and optimizer, or of one scale of the history.

    Attributes:
        origin: `store` or `history`.
        scale: proxy and tokens of the runs.
        parameters: number of parameters; NaN for a scale of the history that is not a number.
        frame: scores of the runs, as a long table.
        noise: noise between these runs, by metric.
        runs: the store's runs; empty for the history.
        policy: names the metrics whose items are read.
        same_evaluation: whether the runs have the evaluation of the sweep; true for the history, whose evaluation is
            unknown.
    """

    origin: Literal["store", "history"]
    scale: RunSize
    parameters: float
    frame: pd.DataFrame
    noise: Mapping[Metric, RunNoise]
    policy: Policy
    runs: tuple[PastRun, ...] = ()
    same_evaluation: bool = True

    @cached_property
    def noise_with_items(self) -> Mapping[Metric, RunNoise]:
        """The noise of the policy's metrics with the variance from the choice of items, if the runs stored items."""
        criteria = (*primaries(self.policy), *self.policy.guardrails)
        noise = {(c.task, c.metric): self.noise[c.task, c.metric] for c in criteria if (c.task, c.metric) in self.noise}
        if not self.runs:
            return noise
        paired = {
            name: Noise(math.sqrt(2 * known.residual), known.df, known.n_mixes, known.n_runs)
            for name, known in noise.items()
        }
        measured = add_item_variance(paired, self.frame, past_items(self.runs), self.policy)
        return {
            name: known._replace(item_variance=measured[name].item_variance, n_items=measured[name].n_items)
            for name, known in noise.items()
        }


@dataclass(frozen=True, kw_only=True)
class DesignNoise:
    """The noise of one metric at the scale of a design.

    Attributes:
        task: name of the task, or the mean of the primary metrics.
        metric: name of the metric.
        scale: proxy and tokens of the design.
        noise: the noise.
        origin: `store` or `history`.
        measured_at: proxy and tokens of the runs that show the noise.
        assumed: whether the noise of another scale stands for the unknown noise at `scale`.
        same_evaluation: whether the runs have the evaluation of the sweep.
    """

    task: str
    metric: str
    scale: RunSize
    noise: RunNoise
    origin: Literal["store", "history"]
    measured_at: RunSize
    assumed: bool
    same_evaluation: bool


def primaries(policy: Policy) -> tuple[Criterion, ...]:
    """Return the primary metrics, or else the tasks of the aggregate, or the target's metric at the proxy."""
    own = policy.aggregate
    if own is not None and not policy.primary:
        parts = [(task, own.metric_of(task)) for task in own.tasks]
        return tuple(Criterion(task=task, metric=metric, better=own.direction(metric)) for task, metric in parts)
    if policy.primary or policy.target is None:
        return policy.primary
    target = policy.target
    return (Criterion(task=target.task, metric=target.metric, better=target.better),)


def noise_sources(space: Workspace, evaluation: str) -> list[NoiseSource]:
    """List the past runs that may show the noise of designs, grouped by proxy, budget and optimizer.

    Args:
        space: a study with the store and the history.
        evaluation: fingerprint of the sweep's evaluation; its results are preferred.
    """
    groups: dict[object, list[PastRun]] = {}
    for past in past_runs(space, evaluation=evaluation):
        spec = past.run.spec
        assert spec is not None, "a finished run has a spec"
        setup = (
            spec.model,
            spec.vocabulary,
            spec.batch_sequences,
            spec.steps,
            replace(spec.optimizer, weight_decay=0.0),
        )
        groups.setdefault(setup, []).append(past._replace(comparable=True))
    sources = []
    for group in groups.values():
        runs = of_one_evaluation(group, evaluation)
        spec = runs[0].run.spec
        assert spec is not None, "a finished run has a spec"
        frame = past_scores(runs)
        if noise := run_noise(frame):
            source = NoiseSource(
                origin="store",
                scale=RunSize(spec.model.name, spec.tokens),
                parameters=spec.model.parameters(spec.vocabulary),
                frame=frame,
                noise=noise,
                policy=space.study.policy,
                runs=tuple(runs),
                same_evaluation=runs[0].evaluation == evaluation,
            )
            sources.append(source)
    return sources + _history_sources(space)


def _history_sources(space: Workspace) -> list[NoiseSource]:
    past = history(space.study, space.store)
    if past is None:
        return []
    frame, mixes = HistoryTable.of(past).frame, space.study.require_sweep().mixes
    frame = frame[~frame["mix"].isin(list(mixes))]
    if "scale" not in frame:
        scale = with_labels(space.study.policy).proxy_scale or space.study.proxy.name
        parts = {scale_key(space.runs.parameters): (str(scale), frame)}
    else:
        keys = scale_keys(frame["scale"])
        parts = {key: (str(rows["scale"].iloc[0]), rows) for key, rows in frame.groupby(keys, sort=False)}
    sources = []
    for key, (label, rows) in parts.items():
        priors = seed_priors_by_metric(past, proxy_scale=key, without=mixes)
        noise = {
            metric: _with_prior(found, priors.get(metric, SeedPrior()).best)
            for metric, found in run_noise(rows).items()
        }
        tokens = int(rows["tokens"].median()) if "tokens" in rows and rows["tokens"].notna().any() else None
        if noise:
            parameters = key if isinstance(key, float) else math.nan
            sources.append(
                NoiseSource(
                    origin="history",
                    scale=RunSize(label, tokens),
                    parameters=parameters,
                    frame=rows,
                    noise=noise,
                    policy=space.study.policy,
                )
            )
    return sources


def _with_prior(noise: RunNoise, prior: Prior) -> RunNoise:
    """Return noise with the degrees of freedom that the history has in a verdict on one seed."""
    return noise._replace(prior_df=prior.df if prior.stands_alone else 0.0)


def noise_at(
    runs: RunSpecs, sources: Sequence[NoiseSource], *, label: str | None, mean: bool = False
) -> list[DesignNoise]:
    """Return the noise of each primary metric at a scale; metrics without any past replicates are left out.

    Args:
        runs: the runs of a study with the proxy and budget of a design.
        sources: past runs (`noise_sources`).
        label: spelling of the proxy's scale in the history, if the policy names one for this proxy.
        mean: whether to add the mean of the standardized primary metrics.
    """
    place = _Place(runs, label)
    criteria, ordered = primaries(runs.study.policy), sorted(sources, key=place.distance)
    known = []
    for criterion in criteria:
        name = (criterion.task, criterion.metric)
        source = next((source for source in ordered if name in source.noise), None)
        if source is not None:
            past = _past_noise(place, sources, name)
            noise = source.noise_with_items[name]._replace(prior_df=past.prior_df)
            known.append(_design_noise(name, noise, place, source))
    if mean and len(criteria) > 1:
        known += _mean_noise(place, ordered, criteria)
    return known


class _Place(NamedTuple):
    """The proxy and budget of a design.

    Attributes:
        runs: the runs of a study with this proxy and budget.
        label: spelling of the proxy's scale in the history, if the policy names one.
    """

    runs: RunSpecs
    label: str | None

    @property
    def scale(self) -> RunSize:
        """The proxy's name and the tokens of a run."""
        return RunSize(self.runs.study.proxy.name, self.runs.budget)

    def is_scale(self, source: NoiseSource) -> bool:
        """Return whether past runs have the proxy and budget of the design."""
        if source.origin == "store":
            spec = source.runs[0].run.spec
            return spec is not None and has_same_setup(self.runs, spec)
        tokens, budget = source.scale.tokens, self.runs.budget
        return self.is_size(source) and tokens is not None and abs(tokens - budget) <= TOKENS_APART * budget

    def is_size(self, source: NoiseSource) -> bool:
        """Return whether a scale of the history is the proxy: by the policy's label, or by the number of parameters.

        The verdict uses the history's noise under the same condition.
        """
        own = self.runs.parameters if self.label is None else self.label
        return bool(scale_key(source.scale.proxy) == scale_key(own))

    def distance(self, source: NoiseSource) -> tuple[int, float]:
        """Order past runs by nearness to the design: the same setup first, then nearest in size and tokens."""
        if self.is_scale(source):
            return (0, 0.0 if source.origin == "store" else 1.0)
        apart = abs(math.log((source.scale.tokens or self.runs.budget) / self.runs.budget))
        if source.origin == "history" and self.is_size(source):
            return (1, apart)
        if math.isnan(source.parameters):
            return (2, math.inf)
        return (1, apart + abs(math.log(source.parameters / self.runs.parameters)))


def _past_noise(place: _Place, sources: Sequence[NoiseSource], name: Metric) -> RunNoise:
    """Return the history's noise at this proxy, which a verdict uses; noise without degrees of freedom if none is known."""
    past = [source for source in sources if source.origin == "history" and place.is_size(source)]
    known = [source.noise[name] for source in past if name in source.noise]
    return max(known, key=lambda noise: noise.prior_df, default=UNIT_NOISE)


def _mean_noise(place: _Place, ordered: Sequence[NoiseSource], criteria: Sequence[Criterion]) -> list[DesignNoise]:
    """Return the noise of the mean of the standardized metrics, from the nearest runs that have all metrics."""
    signs = {(c.task, c.metric): 1 if c.better == "higher" else -1 for c in criteria}
    for source in ordered:
        if not signs.keys() <= source.noise.keys():
            continue
        noise = run_noise(mean_of_metrics(source.frame, source.noise, signs)).get(MEAN)
        if noise is None:
            continue
        parts = [source.noise_with_items[name] for name in signs]
        # Different tasks have different items, so their parts of the variance add.
        items = sum(part.item_variance / part.variance for part in parts) / len(parts) ** 2
        counts = [part.n_items for part in parts if part.n_items is not None]
        noise = noise._replace(item_variance=items, n_items=min(counts, default=None))
        return [_design_noise(MEAN, noise, place, source)]
    return []


def _design_noise(name: Metric, noise: RunNoise, place: _Place, source: NoiseSource) -> DesignNoise:
    return DesignNoise(
        task=name[0],
        metric=name[1],
        scale=place.scale,
        noise=noise,
        origin=source.origin,
        measured_at=source.scale,
        assumed=not place.is_scale(source),
        same_evaluation=source.same_evaluation,
    )
