"""Predict from the proxy which of two mixes wins at the target scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from assay.analysis.stats import history as past
from assay.analysis.stats import history_check as check
from assay.analysis.stats import profile
from assay.analysis.stats.moderated import ALONE
from assay.analysis.stats.paired import NEGLIGIBLE
from assay.analysis.stats.power import MOST_SEEDS, fewest, power
from assay.analysis.stats.results_table import ResultsTable
from assay.analysis.stats.sweep_noise import SweepNoise
from assay.analysis.stats.tables import Metric
from assay.analysis.stats.transfer import FEWEST, Reliability, Transfer, fit
from assay.config.policy import Policy, Target
from assay.config.reason import Code, Reason

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from assay.analysis.stats.history import HistoryTable, Predictor, TransferHistory
    from assay.analysis.stats.sweep_model import PairNoise, SeedPrior

Winner = Literal["candidate", "baseline", "unknown"]

MOST_OUTSIDE = 0.5
"""Largest distance of a compared mix from the history's range, in lengths of this range, for a prediction."""

SURE_DF = 4
"""Minimum degrees of freedom of seed noise for a test that may be required in addition to the history's errors."""


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
        level: the interval's nominal coverage: that of the decision, 1 - 2 `allowed`, so that the interval of a decided
            pair excludes 0. If the history allows no decision at all, the level is 1 - 2 alpha.
        chance_other: probability that the other mix wins.
        allowed: upper bound of `chance_other` for a verdict.
        p_noise: two-sided p-value of the proxy difference under seed noise alone. Without replicates, the noise is
            bounded by the history's reliability (see `noise_known`).
        noise_known: whether replicates show the seed noise. Otherwise the history has single runs, whose errors contain
            the noise, and the noise variance is at most the fraction 1 - r of the variance between mixes, with the
            correlation r of the scales, if the proxy is no noisier than the target.
        noise_df: degrees of freedom of the seed noise, from the pair, the sweep, and the history if its noise agrees.
        proxy_effect: the proxy difference behind the prediction.
        smallest: smallest proxy difference for which the history allows a verdict.
        predictor: name of the predictor at the proxy.
        predictor_metrics: tasks and metrics of the predictor.
        n_seeds: number of replicates of the baseline and of the candidate.
        reliability: how often past rankings at the proxy held at the target; None if the history is too small.
        problem: why there is no prediction; empty with a prediction.
        undirected: metrics that the predictor leaves out, because their direction of improvement is unknown.
        misfit: whether the history does not apply to the compared mixes, which more seeds do not change.
        notes: reasons for excluded rows of the history, and for a wider interval.
        alpha: the policy's error rate.
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
    misfit: bool = False
    notes: tuple[Reason, ...] = ()
    alpha: float
    noise_known: bool = True
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

    - The difference at the proxy exceeds seed noise (a t test at alpha with the noise of the sweep, see
      `assay.analysis.stats.sweep_model`). A mix
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
    known = past.read_history(
        history, target=target, proxy_scale=scale, without=(baseline, candidate), conditions=check.Conditions.of(table)
    )
    measured = _measured_on_both(table, baseline, candidate)
    predictor = known.predictor(target, measured, direction=policy.direction)
    families = {**known.families, **check.families_of(table)}
    prediction = _Prediction(policy, target, known, (families.get(baseline), families.get(candidate)))
    if predictor is None:
        return prediction.unknown(
            "no metric was measured both on the compared mixes and on comparable runs of the history's mixes at the proxy"
        )
    if not predictor.weights:
        effect = prediction.unknown("the direction of improvement of the metrics at the proxy is unknown")
        return replace(effect, undirected=predictor.undirected)
    runs = _arms(ResultsTable.of(results), policy, table, predictor, known, baseline=baseline, candidate=candidate)
    runs = replace(runs, unusual=_profiles(table, known, predictor, measured))
    return replace(prediction.predict(predictor, runs), undirected=predictor.undirected)


@dataclass(frozen=True)
class _Arms:
    """Scores of the compared mixes' runs, their noise, and the distances of their profiles from the history's."""

    a: NDArray[np.float64]
    b: NDArray[np.float64]
    noise: PairNoise
    prior: SeedPrior
    unusual: float = 0.0

    @property
    def seeds(self) -> tuple[int, int]:
        return len(self.a), len(self.b)

    @property
    def variance(self) -> float:
        """Variance of one run; NaN if unknown."""
        return self.noise.variance / (1 / len(self.a) + 1 / len(self.b))

    @property
    def means(self) -> tuple[float, float]:
        return float(self.a.mean()), float(self.b.mean())

    @property
    def difference(self) -> float:
        return float(self.b.mean() - self.a.mean())


def _arms(
    results: ResultsTable,
    policy: Policy,
    table: pd.DataFrame,
    predictor: Predictor,
    known: TransferHistory,
    *,
    baseline: str,
    candidate: str,
) -> _Arms:
    """Return the scores of the compared mixes, with the noise of the sweep (see `assay.analysis.stats.sweep_model`)."""
    sweep = SweepNoise(results.scores_at(policy.proxy_scale), baseline, {}, min_seeds=policy.min_seeds, levels={})
    model = sweep.weighted(predictor.weights, candidate)
    prior = known.seed_noise(predictor, without=model.arms)
    noise = model.compare(baseline, candidate, prior, least_shared=policy.min_seeds, level=policy.alpha)
    if noise.pairing == "partial":
        a, b = (model.scores(mix, noise.shared) for mix in (baseline, candidate))
    else:
        scores, empty = predictor.scores(table), np.empty(0)
        a, b = scores.get(baseline, empty), scores.get(candidate, empty)
    return _Arms(a, b, noise, prior)


@dataclass(frozen=True)
class _Doubt:
    """How far the compared mixes are from the history's mixes; the arguments of `Transfer.interval`."""

    outside: float = 0.0
    factor: float = 1.0


@dataclass(frozen=True)
class _Prediction:
    """A prediction of the target effect under a policy."""

    policy: Policy
    target: Target
    history: TransferHistory
    families: tuple[str | None, str | None] = (None, None)
    notes: tuple[Reason, ...] = ()

    def predict(self, predictor: Predictor, runs: _Arms) -> TargetEffect:
        seeds, past_scores = runs.seeds, self.history.scores(predictor)
        mixes = [mix for mix in self.history.target if mix in past_scores]
        mixes, notes = _kept(mixes, past_scores, self.history.target, runs)
        noted = replace(self, notes=notes)
        if len(mixes) < FEWEST:
            return noted.unknown(
                f"the history has {len(mixes)} other mix{'es' * (len(mixes) != 1)} with {predictor.name} at the proxy and"
                f" {self.target.task} {self.target.metric} at {self.target.scale}, too few to learn from: at least {FEWEST}",
                n_seeds=seeds,
            )
        x, y = [float(past_scores[mix].mean()) for mix in mixes], [self.history.target[mix] for mix in mixes]
        learned = self.history.once(("fit", *predictor.weights.items(), *mixes), lambda: fit(x, y))
        if learned is None:
            return noted.unknown("most of the history's mixes have equal scores", n_seeds=seeds)
        foreign = self._foreign(mixes)
        if foreign:
            learned = self._across_families(mixes, x, y)
            if learned is None:
                return noted.unknown(
                    f"the history has no mixes of the family {' or '.join(foreign)}, and too few other families to"
                    " estimate the error for a new family",
                    n_seeds=seeds,
                    misfit=True,
                )
            noted = replace(noted, notes=(*noted.notes, _widened("family", families=foreign)))
        problem = self._problem(predictor, learned, runs)
        misfit = bool(problem)
        if not problem and min(seeds) < self.policy.min_seeds:
            plural = "s" * (self.policy.min_seeds != 1)
            problem = f"the verdict needs {self.policy.min_seeds} seed{plural} of each mix, and there are {seeds[0]} and {seeds[1]}"
        contained = min(seeds) >= float(np.median([len(past_scores[mix]) for mix in mixes])) if min(seeds) else False
        if not problem and not runs.noise.df > 0 and not contained:
            problem = (
                f"one seed of {'each' if sum(seeds) == 2 else 'a'} mix shows no noise, and the history's replicates at the proxy"
                f" provide {runs.prior.unpaired.seen:g} of the {ALONE} degrees of freedom that this requires"
            )
        if problem:
            return noted.unknown(problem, n_seeds=seeds, reliability=learned.reliability, misfit=misfit)
        usual = past.seed_variance(past_scores, mixes)
        return noted._known(predictor, learned, runs, usual=usual, contained=contained)  # noqa: SLF001

    def _foreign(self, mixes: Sequence[str]) -> tuple[str, ...]:
        """Return the compared mixes' families without past mixes, if the history's mixes are labeled."""
        known = {self.history.families[mix] for mix in mixes if mix in self.history.families}
        if not known:
            return ()
        return tuple(dict.fromkeys(name or "(none)" for name in self.families if name not in known))

    def _across_families(self, mixes: Sequence[str], x: Sequence[float], y: Sequence[float]) -> Transfer | None:
        names = [self.history.families.get(mix, "") for mix in mixes]
        return fit(x, y, families=names, within=self.families[0] == self.families[1] is not None)

    def _problem(self, predictor: Predictor, learned: Transfer, runs: _Arms) -> str:
        """Return why the history does not apply to the compared mixes; empty if it does."""
        rising = predictor.own or self.target.better == "higher" or not learned.slope
        if learned.slope < 0 if rising else learned.slope > 0:
            return (
                f"in the history, mixes with better {predictor.name} at the proxy have worse {self.target.task}"
                f" {self.target.metric} at {self.target.scale}"
            )
        if not min(runs.seeds):
            return ""
        for name, score in zip(("baseline", "candidate"), runs.means, strict=True):
            excess = learned.excess(score)
            if excess > MOST_OUTSIDE:
                return (
                    f"the {name}'s {predictor.name} at the proxy is outside the range of the history's mixes by"
                    f" {excess:.2g} times the length of this range"
                )
        if runs.unusual > profile.REFUSED:
            return (
                f"the compared mixes are {runs.unusual:.2g} times as far from the history's mixes, over all metrics, as the"
                " most unusual of these mixes"
            )
        return ""

    def _known(
        self,
        predictor: Predictor,
        learned: Transfer,
        runs: _Arms,
        *,
        usual: float,
        contained: bool,
    ) -> TargetEffect:
        alpha, difference, (a, b) = self.policy.alpha, runs.difference, (runs.a, runs.b)
        variance, df = runs.variance, runs.noise.df
        several = len(a) + len(b) > 2
        if several and max(np.ptp(a), np.ptp(b)) <= NEGLIGIBLE * max(np.abs(a).max(), np.abs(b).max()):
            return self.unknown(
                f"all seeds have an equal {predictor.name}, as copies of one run would",
                n_seeds=(len(a), len(b)),
                reliability=learned.reliability,
            )
        if several and df > 0 and not variance > (NEGLIGIBLE * max(np.abs(a).max(), np.abs(b).max())) ** 2:
            return self.unknown(
                f"all seeds differ by the same amount of {predictor.name} to the last digit, which leaves their noise unknown",
                n_seeds=(len(a), len(b)),
                reliability=learned.reliability,
            )
        paired, unpaired = runs.prior
        if runs.noise.pairing != "unpaired" and paired.df > 0 and unpaired.variance > 0:
            # The differences of past mixes with equal seeds also lack the seeds' common part.
            usual *= min(1.0, paired.variance / unpaired.variance)
        # The history's errors contain the noise of its own seeds. Only the excess noise of the compared pair is added.
        replicated = runs.prior.unpaired.df > 0 or len(a) + len(b) - 2 >= SURE_DF
        known = df > 0 and (df >= SURE_DF or replicated or not contained)
        of_pair = variance * (1 / len(a) + 1 / len(b)) if known else learned.noise_bound
        extra = 0.0 if math.isnan(usual) or not known else max(0.0, of_pair - 2 * usual)
        doubt, notes = _doubt(learned, runs)
        interval_at = {"extra": extra, "outside": doubt.outside, "factor": doubt.factor}
        allowed = learned.allowed(alpha)
        interval = learned.interval(difference, 1 - 2 * (allowed or alpha), **interval_at)
        other = learned.chance_other(difference, **interval_at)
        p_noise = _two_sided(difference / math.sqrt(of_pair), df if known else math.inf)
        effect = learned.slope * difference
        sure = allowed > 0 and other <= allowed and (interval.low > 0 or interval.high < 0) and p_noise <= alpha
        upwards = (effect > 0) == (self.target.better == "higher")
        return TargetEffect(
            **self._question,
            winner="unknown" if not sure else "candidate" if upwards else "baseline",
            effect=effect,
            ci_low=interval.low,
            ci_high=interval.high,
            level=interval.level,
            chance_other=other,
            allowed=allowed,
            p_noise=p_noise,
            noise_df=df if known else math.nan,
            noise_known=known,
            proxy_effect=difference,
            smallest=learned.smallest(1 - 2 * allowed, extra=extra, factor=doubt.factor) if allowed else math.inf,
            predictor=predictor.name,
            predictor_metrics=tuple(predictor.weights),
            n_seeds=(len(a), len(b)),
            reliability=learned.reliability,
            notes=(*self._all_notes, *notes),
            best_chance=learned.chance_other(difference, outside=doubt.outside, factor=doubt.factor),
            seeds=_seeds_to_decide(
                learned, difference, variance=variance, noise=runs.noise, usual=usual, alpha=alpha, allowed=allowed
            ),
        )

    @property
    def _question(self) -> dict[str, Any]:
        names = ("scale", "task", "metric", "better")
        return {"alpha": self.policy.alpha} | {name: getattr(self.target, name) for name in names}

    @property
    def _all_notes(self) -> tuple[Reason, ...]:
        return (*self.history.notes, *self.notes)

    def unknown(
        self,
        problem: str,
        *,
        n_seeds: tuple[int, int] = (0, 0),
        reliability: Reliability | None = None,
        misfit: bool = False,
    ) -> TargetEffect:
        """Return an effect without a prediction, with the reason."""
        return TargetEffect(
            **self._question,
            level=1 - self.policy.alpha,
            problem=problem,
            misfit=misfit,
            n_seeds=n_seeds,
            reliability=reliability,
            notes=self._all_notes,
        )


def _kept(
    mixes: Sequence[str],
    scores: Mapping[str, NDArray[np.float64]],
    target: Mapping[str, float],
    runs: _Arms,
) -> tuple[list[str], tuple[Reason, ...]]:
    """Return the past mixes without absurd scores and without copies of the compared mixes, and reasons for the others."""
    arms = [np.sort(arm) for arm in (runs.a, runs.b) if len(arm)]
    same = {mix for mix in mixes if any(np.array_equal(np.sort(scores[mix]), arm) for arm in arms)}
    rest = [mix for mix in mixes if mix not in same]
    reasons = [check.excluded_copies_of_arms(same)] if same else []
    if len(rest) >= FEWEST:
        x = np.array([scores[mix].mean() for mix in rest])
        y = np.array([target[mix] for mix in rest])
        marked = check.absurd(x, y)
        outliers = {mix for mix, out in zip(rest, marked, strict=True) if out}
        reasons += [check.excluded_outliers(outliers)] if outliers else []
        rest, x, y = [mix for mix in rest if mix not in outliers], x[~marked], y[~marked]
        unexpected = tuple(mix for mix, out in zip(rest, check.odd(x, y), strict=True) if out)
        reasons += [_widened("unexpected", mixes=unexpected)] if unexpected else []
    return rest, tuple(reasons)


def _doubt(learned: Transfer, runs: _Arms) -> tuple[_Doubt, tuple[Reason, ...]]:
    """Return how much wider the interval is because the compared mixes differ from the history's, with reasons."""
    outside, notes = learned.outside(*runs.means), []
    if outside > 0:
        notes.append(_widened("range", fraction=outside / abs(runs.difference)))
    if runs.unusual > 1:
        notes.append(_widened("profile", factor=runs.unusual))
    return _Doubt(outside, max(1.0, runs.unusual)), tuple(notes)


def _widened(kind: str, **figures: Any) -> Reason:
    return Reason(code=Code.TARGET_WIDENED, subject=kind, figures=figures)


def _profiles(table: pd.DataFrame, known: TransferHistory, predictor: Predictor, measured: set[Metric]) -> float:
    """Return the larger relative distance of the compared mixes' profiles; 0 if unknown."""
    metrics = [metric for metric in known.common(measured) if metric not in predictor.weights or not predictor.single]
    if len(metrics) < profile.FEWEST_METRICS or not set(predictor.weights) <= set(known.columns):
        return 0.0
    means = table.groupby(["mix", "task", "metric"], sort=False)["value"].mean()
    arms: dict[str, dict[Metric, float]] = {}
    for (mix, task, metric), value in zip(means.index.tolist(), means.tolist(), strict=True):
        arms.setdefault(str(mix), {})[str(task), str(metric)] = value
    compared = {metric: np.array([scores[metric] for scores in arms.values()]) for metric in measured}

    def matrix(columns: Mapping[Metric, NDArray[np.float64]]) -> NDArray[np.float64]:
        score = sum(weight * columns[metric] for metric, weight in predictor.weights.items())
        values = np.column_stack([score, *(columns[metric] for metric in metrics)])
        whole: NDArray[np.float64] = values[np.isfinite(values).all(axis=1)]
        return whole

    past_rows = known.once(("profile", *predictor.weights.items(), *metrics), lambda: matrix(known.columns))
    return float(profile.relative_distances(past_rows, matrix(compared)).max())


def _seeds_to_decide(
    learned: Transfer,
    difference: float,
    *,
    variance: float,
    noise: PairNoise,
    usual: float,
    alpha: float,
    allowed: float,
) -> int | None:
    """Return the number of seeds per mix that meets both requirements of `predict_target`.

    The true proxy difference is assumed equal to the observed difference. The requirements are the t test and the bound
    from the history. The probability to meet both requirements is taken as that of the harder requirement.
    """
    from scipy.special import ndtr

    if not learned.slope or not variance > 0 or not allowed:
        return None
    arms = 2 if noise.pairing == "unpaired" else 1

    def chance(n: int) -> float:
        of_pair = 2 * variance / n
        extra = 0.0 if math.isnan(usual) else max(0.0, of_pair - 2 * usual)
        bar = learned.smallest(1 - 2 * allowed, extra=extra)
        if math.isinf(bar):
            return 0.0
        se, df = math.sqrt(of_pair), arms * (n - 1) + noise.sweep_df + noise.history_df
        detected = power(abs(difference), se=se, df=df, tail=alpha / 2) if df > 0 else 0.0
        return min(detected, float(ndtr((abs(difference) - bar) / se)))

    return fewest(chance, most=MOST_SEEDS)


def _two_sided(t: float, df: float) -> float:
    from scipy.special import ndtr, stdtr

    return 2 * float(ndtr(-abs(t)) if math.isinf(df) else stdtr(df, -abs(t)))


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
