"""Fit the noise of every metric of a sweep once, for all candidates.

The arms of a metric's model are the mixes of the table that can be compared with the baseline: equal token budgets,
evaluation settings and item counts (see `assay.analysis.stats.sweep_model`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.analysis.stats.history import HistoryTable
from assay.analysis.stats.seed_prior import learn_seed_prior
from assay.analysis.stats.sweep_model import USUAL_LEVEL, Outlier, PairNoise, SeedPrior, SweepModel
from assay.analysis.stats.tables import SCORE_KEY, Metric, Seed, last_checkpoints, plain_seed, scale_key, scale_keys
from assay.core.errors import Refused

if TYPE_CHECKING:
    import pandas as pd

    from assay.analysis.stats.score_table import Scores, ScoreTable


class SweepNoise:
    """Noise of the comparisons of one sweep with one baseline.

    Attributes:
        table: the scores of all arms.
        baseline: the mix to compare with.
        priors: noise of the history, by metric.
        min_seeds: minimum number of shared seeds for a paired analysis of arms with different seeds.
        levels: smallest two-sided level of the tests of a metric; `USUAL_LEVEL` for other metrics.
    """

    def __init__(
        self,
        table: ScoreTable,
        baseline: str,
        priors: Mapping[Metric, SeedPrior],
        *,
        min_seeds: int,
        levels: Mapping[Metric, float],
    ) -> None:
        """Take the scores of all arms; models are fitted at first use and kept with the table."""
        self.table = table
        self.baseline = baseline
        self.priors = priors
        self.min_seeds = min_seeds
        self.levels = levels

    def compare(self, candidate: str, metric: Metric) -> PairNoise:
        """Estimate the effect of a candidate on a metric, with the variance from all sources."""
        return self.model(metric, candidate).compare(
            self.baseline,
            candidate,
            self.priors.get(metric),
            least_shared=self.min_seeds,
            level=self.levels.get(metric, USUAL_LEVEL),
        )

    def model(self, metric: Metric, candidate: str) -> SweepModel:
        """Return the model of a metric; `candidate` is always an arm, even if other arms differ from it."""
        return self._shared(metric).including(candidate, self.table.scores(candidate, *metric).by_seed)

    def _shared(self, metric: Metric) -> SweepModel:
        return self.table.derive(("sweep model", self.baseline, metric), lambda: self._model(metric))

    def weighted(self, weights: Mapping[Metric, float], candidate: str) -> SweepModel:
        """Return the model of a weighted sum of metrics; arms have the seeds with all metrics.

        Args:
            weights: weight of each metric, at least one.
            candidate: a mix that is always an arm.
        """

        def scores(mix: str) -> dict[Seed, float]:
            of = [(weight, self.table.scores(mix, *metric).by_seed) for metric, weight in weights.items()]
            seeds = [seed for seed in of[0][1] if all(seed in by_seed for _, by_seed in of)]
            return {seed: sum(weight * by_seed[seed] for weight, by_seed in of) for seed in seeds}

        def model() -> SweepModel:
            arms = set.intersection(*(set(self._shared(metric).arms) for metric in weights))
            ordered = [mix for mix in self.table.mixes if mix in arms and mix != self.baseline]
            found = {mix: scores(mix) for mix in (self.baseline, *ordered)}
            return SweepModel.of({mix: own for mix, own in found.items() if own or mix == self.baseline})

        key = ("weighted sweep model", self.baseline, tuple(weights.items()))
        return self.table.derive(key, model).including(candidate, scores(candidate))

    def outliers(self, metric: Metric, candidate: str) -> tuple[Outlier, ...]:
        """Return the outliers of a metric among all arms; a history that agrees widens or narrows the bounds."""
        prior = self.priors.get(metric, SeedPrior())
        model = self.model(metric, candidate)
        return self.table.derive(("outliers", self.baseline, metric, prior, model.arms), lambda: model.outliers(prior))

    def _model(self, metric: Metric) -> SweepModel:
        own = self.table.scores(self.baseline, *metric)
        arms = {self.baseline: own.by_seed}
        for mix in self.table.derive(("comparable mixes", self.baseline), self._comparable):
            scores = self.table.scores(mix, *metric)
            if scores.by_seed and _same_evaluation(own, scores):
                arms[mix] = scores.by_seed
        return SweepModel.of(arms)

    def _comparable(self) -> tuple[str, ...]:
        return tuple(mix for mix in self.table.mixes if mix != self.baseline and self._is_comparable(mix))

    def _is_comparable(self, mix: str) -> bool:
        try:
            self.table.require_same_budget(self.baseline, mix)
            self.table.require_same_settings(self.baseline, mix)
        except Refused:
            return False
        return True


def _same_evaluation(first: Scores, second: Scores) -> bool:
    """Report whether two mixes have the same number of items and the same declared unit."""
    counts = {n for n in (first.n_items, second.n_items) if n is not None}
    units = {unit for unit in (first.unit, second.unit) if unit is not None}
    return len(counts) < 2 and len(units) < 2


def seed_priors_by_metric(
    history: pd.DataFrame | HistoryTable, *, proxy_scale: Any, without: Collection[str]
) -> dict[Metric, SeedPrior]:
    """Learn each metric's noise from past mixes, with and without the seeds' common part.

    Args:
        history: long past results; rows of other scales are ignored.
        proxy_scale: the scale under comparison; with None, a table of several scales yields no prior.
        without: the compared mixes, which the prior must not use.
    """
    return HistoryTable.of(history).once(_seed_priors, proxy_scale=proxy_scale, without=without)


def _seed_priors(frame: pd.DataFrame, *, proxy_scale: Any, without: Collection[str] = ()) -> dict[Metric, SeedPrior]:
    scales = scale_keys(frame["scale"]) if "scale" in frame else None
    if scales is not None and proxy_scale is not None:
        frame = frame[scales == scale_key(proxy_scale)]
    elif scales is not None and len(set(scales)) > 1:
        return {}
    rows = frame[~frame["mix"].isin(list(without)) & np.isfinite(frame["value"].to_numpy(dtype=float))]
    if "tokens" in rows and rows.duplicated(SCORE_KEY).any():
        rows = last_checkpoints(rows)
    priors = {}
    for (task, metric), group in rows.groupby(["task", "metric"], sort=False):
        by_mix: dict[str, dict[Any, float]] = {}
        columns = (group[name].tolist() for name in ("mix", "seed", "value"))
        for mix, seed, value in zip(*columns, strict=True):
            by_mix.setdefault(str(mix), {})[plain_seed(seed)] = value
        priors[str(task), str(metric)] = learn_seed_prior(by_mix)
    return priors
