"""Predict from the proxy which of two mixes wins at the target scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from assay.analysis.stats import history as past
from assay.analysis.stats.moderated import ALONE, shrink
from assay.analysis.stats.paired import NEGLIGIBLE
from assay.analysis.stats.power import MOST_SEEDS, fewest, power
from assay.analysis.stats.results_table import ResultsTable
from assay.analysis.stats.tables import Metric
from assay.analysis.stats.transfer import FEWEST, Reliability, Transfer, fit
from assay.config.policy import Policy, Target

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from assay.analysis.stats.history import HistoryTable, Predictor, TransferHistory
    from assay.analysis.stats.moderated import Prior

Winner = Literal["candidate", "baseline", "unknown"]


@dataclass(frozen=True, kw_only=True)
class TargetEffect:
    """Candidate minus baseline at the target scale, predicted from the proxy.

    Unknown values are NaN.

    Attributes:
        scale: scale of the target.
        task: task of the target.
        metric: metric of the target.
        better: the direction of improvement.
        winner: the winner at the target, if certain enough.
        effect: predicted difference, in the metric's unit.
        ci_low: lower end of the interval of `effect`.
        ci_high: upper end of the interval.
        level: the interval's nominal coverage.
        chance_other: probability that the other mix wins.
        allowed: upper bound of `chance_other` for a verdict.
        p_noise: two-sided p-value of the proxy difference under seed noise alone.
        noise_df: degrees of freedom of the seed noise, from the seeds of both arms and from the history's replicates.
        proxy_effect: the proxy difference behind the prediction.
        smallest: smallest proxy difference for which the history allows a verdict.
        predictor: name of the predictor at the proxy.
        predictor_metrics: tasks and metrics of the predictor.
        n_seeds: number of replicates of the baseline and of the candidate.
        reliability: how often past rankings at the proxy held at the target; None if the history is too small.
        problem: why there is no prediction; empty with a prediction.
        notes: sentences on excluded rows of the history.
        undirected: metrics that the predictor leaves out, because their direction of improvement is unknown.
        best_chance: `chance_other` if the observed proxy difference had no noise. This is a lower bound for any number
            of seeds.
        seeds: smallest number of replicates per mix with which a true difference equal to the observed one would decide
            with probability 0.8; None if more than 100 are needed.
    """

    scale: str
    task: str
    metric: str
    better: Literal["higher", "lower"]
    winner: Winner = "unknown"
    effect: float = math.nan
    ci_low: float = math.nan
    ci_high: float = math.nan
    level: float
    chance_other: float = math.nan
    allowed: float = math.nan
    p_noise: float = math.nan
    noise_df: float = math.nan
    proxy_effect: float = math.nan
    smallest: float = math.nan
    predictor: str = ""
    predictor_metrics: tuple[Metric, ...] = ()
    n_seeds: tuple[int, int] = (0, 0)
    reliability: Reliability | None = None
    problem: str = ""
    notes: tuple[str, ...] = ()
    best_chance: float = math.nan
    seeds: int | None = None
    undirected: tuple[Metric, ...] = ()

    @property
    def gain(self) -> float:
        """The effect, signed so that an improvement is positive."""
        return self.effect if self.better == "higher" else -self.effect

    @property
    def own(self) -> bool:
        """Whether the predictor is the target's own metric."""
        return self.predictor == f"{self.task} {self.metric}"


def predict_target(
    results: pd.DataFrame | ResultsTable,
    policy: Policy,
    target: Target,
    history: pd.DataFrame | HistoryTable,
    *,
    baseline: str,
    candidate: str,
) -> TargetEffect:
    """Predict the difference of two mixes at the target from their proxy runs and the history.

    A verdict has two requirements:

    - The difference at the proxy exceeds seed noise (a moderated t test at alpha, see `assay.analysis.stats.moderated`). A mix
      compared with itself is therefore decided in at most alpha of cases.
    - The probability that the other mix wins at the target is at most a bound, so that at most alpha of all verdicts
      are wrong. The method `assay.analysis.stats.transfer.Transfer.allowed` computes the bound from the history.

    Args:
        results: long results of the compared mixes at the proxy scale, as accepted by `assay.analysis.compare.compare`.
        policy: provides alpha, the minimum number of seeds, and the proxy scale.
        target: metric and scale of the decision.
        history: long results of other mixes at both scales.
        baseline: the baseline mix.
        candidate: the changed mix.

    Raises:
        AssayError: a table is invalid.
    """
    table = _proxy_rows(results, policy, (baseline, candidate))
    scale = policy.proxy_scale if policy.proxy_scale is not None else _only_scale(table)
    known = past.read_history(history, target=target, proxy_scale=scale, without=(baseline, candidate))
    prediction = _Prediction(policy, target, known)
    measured = _measured_on_both(table, baseline, candidate)
    predictor = known.predictor(target, measured, direction=policy.direction)
    if predictor is None:
        return prediction.unknown(
            "no metric was measured both on the compared mixes and on the history's mixes at the proxy"
        )
    if not predictor.weights:
        effect = prediction.unknown("the direction of improvement of the metrics at the proxy is unknown")
        return replace(effect, undirected=predictor.undirected)
    arms = predictor.scores(table)
    empty = np.empty(0)
    effect = prediction.predict(predictor, arms.get(baseline, empty), arms.get(candidate, empty))
    return replace(effect, undirected=predictor.undirected)


@dataclass(frozen=True)
class _Prediction:
    """A prediction of the target effect under a policy."""

    policy: Policy
    target: Target
    history: TransferHistory

    def predict(self, predictor: Predictor, a: NDArray[np.float64], b: NDArray[np.float64]) -> TargetEffect:
        seeds = (len(a), len(b))
        past_scores = predictor.scores(self.history.proxy)
        mixes = [mix for mix in self.history.target if mix in past_scores]
        if len(mixes) < FEWEST:
            return self.unknown(
                f"the history has {len(mixes)} other mix{'es' * (len(mixes) != 1)} with {predictor.name} at the proxy and"
                f" {self.target.task} {self.target.metric} at {self.target.scale}, too few to learn from: at least {FEWEST}",
                n_seeds=seeds,
            )
        learned = fit([past_scores[mix].mean() for mix in mixes], [self.history.target[mix] for mix in mixes])
        if learned is None:
            return self.unknown("most of the history's mixes have equal scores", n_seeds=seeds)
        if min(seeds) < self.policy.min_seeds:
            return self.unknown(
                f"the verdict needs {self.policy.min_seeds} seeds of each mix, and there are {seeds[0]} and {seeds[1]}",
                n_seeds=seeds,
                reliability=learned.reliability,
            )
        noise = past.noise_of(past_scores)
        if sum(seeds) == 2 and not noise.stands_alone:
            return self.unknown(
                f"one seed of each mix shows no noise, and the history's replicates at the proxy provide {noise.seen:g} of the {ALONE}"
                " degrees of freedom that this requires",
                n_seeds=seeds,
                reliability=learned.reliability,
            )
        return self._known(predictor, learned, a=a, b=b, prior=noise, usual=past.seed_variance(past_scores, mixes))

    def _known(
        self,
        predictor: Predictor,
        learned: Transfer,
        *,
        a: NDArray[np.float64],
        b: NDArray[np.float64],
        prior: Prior,
        usual: float,
    ) -> TargetEffect:
        alpha, difference = self.policy.alpha, float(b.mean() - a.mean())
        variance, df = _pooled(a, b, prior)
        of_pair = variance * (1 / len(a) + 1 / len(b))
        several = len(a) + len(b) > 2
        if several and max(np.ptp(a), np.ptp(b)) <= NEGLIGIBLE * max(np.abs(a).max(), np.abs(b).max()):
            return self.unknown(
                f"all seeds have an equal {predictor.name}, as copies of one run would",
                n_seeds=(len(a), len(b)),
                reliability=learned.reliability,
            )
        # The history's errors contain the noise of its own seeds. Only the excess noise of the compared pair is added.
        extra = 0.0 if math.isnan(usual) else max(0.0, of_pair - 2 * usual)
        interval = learned.interval(difference, 1 - alpha, extra=extra)
        other = learned.chance_other(difference, extra=extra)
        p_noise = _two_sided(difference / math.sqrt(of_pair), df)
        effect = learned.slope * difference
        allowed = learned.allowed(alpha)
        sure = other <= allowed and p_noise <= alpha
        bar = (
            learned.interval(0.0, 1 - 2 * allowed, extra=extra).high / abs(learned.slope) if learned.slope else math.inf
        )
        upwards = (effect > 0) == (self.target.better == "higher")
        return TargetEffect(
            **vars(self.target),
            winner="unknown" if not sure else "candidate" if upwards else "baseline",
            effect=effect,
            ci_low=interval.low,
            ci_high=interval.high,
            level=interval.level,
            chance_other=other,
            allowed=allowed,
            p_noise=p_noise,
            noise_df=df,
            proxy_effect=difference,
            smallest=bar,
            predictor=predictor.name,
            predictor_metrics=tuple(predictor.weights),
            n_seeds=(len(a), len(b)),
            reliability=learned.reliability,
            notes=self.history.notes,
            best_chance=learned.chance_other(difference),
            seeds=_seeds_to_decide(
                learned, difference, variance=variance, prior_df=prior.df, usual=usual, alpha=alpha, allowed=allowed
            ),
        )

    def unknown(
        self, problem: str, *, n_seeds: tuple[int, int] = (0, 0), reliability: Reliability | None = None
    ) -> TargetEffect:
        """Return an effect without a prediction, with the reason."""
        return TargetEffect(
            **vars(self.target),
            level=1 - self.policy.alpha,
            problem=problem,
            n_seeds=n_seeds,
            reliability=reliability,
            notes=self.history.notes,
        )


def _pooled(a: NDArray[np.float64], b: NDArray[np.float64], prior: Prior) -> tuple[float, float]:
    """Return the variance of a run with its degrees of freedom.

    The variance is pooled over the arms and shrunk toward the history's variance.
    """
    df = len(a) + len(b) - 2
    own = float(((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum()) / df if df else math.nan
    return shrink(own, df, prior)


def _seeds_to_decide(
    learned: Transfer,
    difference: float,
    *,
    variance: float,
    prior_df: float,
    usual: float,
    alpha: float,
    allowed: float,
) -> int | None:
    """Return the number of seeds per mix that meets both requirements of `predict_target`.

    The true proxy difference is assumed equal to the observed difference. The requirements are the t test and the bound
    from the history. The probability to meet both requirements is taken as that of the harder requirement.
    """
    from scipy.special import ndtr

    if not learned.slope or not variance > 0:
        return None

    def chance(n: int) -> float:
        of_pair = 2 * variance / n
        extra = 0.0 if math.isnan(usual) else max(0.0, of_pair - 2 * usual)
        bar = learned.interval(0.0, 1 - 2 * allowed, extra=extra).high / abs(learned.slope)
        se, df = math.sqrt(of_pair), 2 * n - 2 + prior_df
        detected = power(abs(difference), se=se, df=df, tail=alpha / 2) if df > 0 else 0.0
        return min(detected, float(ndtr((abs(difference) - bar) / se)))

    return fewest(chance, most=MOST_SEEDS)


def _two_sided(t: float, df: float) -> float:
    from scipy.special import stdtr

    return 2 * float(stdtr(df, -abs(t)))


def _proxy_rows(results: pd.DataFrame | ResultsTable, policy: Policy, mixes: Sequence[str]) -> pd.DataFrame:
    """Return the compared mixes' finite rows at the proxy."""
    table = ResultsTable.of(results).rows_of_mixes_at(policy.proxy_scale, mixes)
    rows: pd.DataFrame = table[np.isfinite(table["value"])]
    return rows


def _only_scale(table: pd.DataFrame) -> Any:
    """Return the table's scale; None for a table without scales."""
    return next(iter(table["scale"].dropna()), None) if "scale" in table else None


def _measured_on_both(table: pd.DataFrame, baseline: str, candidate: str) -> set[tuple[str, str]]:
    by_mix = [
        set(zip(rows["task"], rows["metric"], strict=True))
        for rows in (table[table["mix"] == mix] for mix in (baseline, candidate))
    ]
    return by_mix[0] & by_mix[1]
