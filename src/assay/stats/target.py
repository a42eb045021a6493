"""The verdict that matters: which of two mixes wins at the target scale, foretold from the proxy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from assay.stats import history as past
from assay.stats.frames import SCORE_KEY, at_scale, with_columns
from assay.stats.moderated import ALONE, shrink
from assay.stats.paired import NEGLIGIBLE
from assay.stats.power import MOST_SEEDS, fewest, power
from assay.stats.transfer import FEWEST, Reliability, Transfer, fit
from assay.suite import Policy, Target

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from assay.stats.history import History, Predictor
    from assay.stats.moderated import Prior

Winner = Literal["candidate", "baseline", "unknown"]


@dataclass(frozen=True, kw_only=True)
class TargetEffect:
    """Candidate minus baseline at the target scale, as foretold from the proxy.

    What cannot be known is NaN.

    Attributes:
        scale: the target's.
        task: the target's.
        metric: the target's.
        better: the direction of improvement.
        winner: who wins at the target, where it is sure enough.
        effect: foretold difference, in the metric's unit.
        ci_low: lower end of its interval.
        ci_high: upper end.
        level: the interval's nominal coverage.
        chance_other: chance that the other one wins.
        allowed: what that chance may be for a verdict.
        p_noise: two-sided p of seed noise alone making the difference at the proxy.
        noise_df: degrees of freedom of that noise: the seeds' of both arms, and what the history's replicates count for.
        proxy_effect: difference at the proxy that it rests on.
        smallest: the proxy difference from which on the history allows a verdict.
        predictor: what was read at the proxy.
        n_seeds: replicates of baseline and candidate.
        reliability: how often past rankings held; None where the history is too small to say.
        problem: why nothing can be said of the target; empty where something can.
        notes: what was left out of the history.
        best_chance: what `chance_other` would be, were the difference at the proxy what it looks like and free of noise: no number
            of seeds makes it less.
        seeds: the fewest replicates of each mix with which a difference that is as it looks would decide, with probability 0.8;
            None where no number up to 100 would do.
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
    n_seeds: tuple[int, int] = (0, 0)
    reliability: Reliability | None = None
    problem: str = ""
    notes: tuple[str, ...] = ()
    best_chance: float = math.nan
    seeds: int | None = None

    @property
    def gain(self) -> float:
        """The effect, counted so that better is positive."""
        return self.effect if self.better == "higher" else -self.effect

    @property
    def own(self) -> bool:
        """Whether the target's own metric was read at the proxy."""
        return self.predictor == f"{self.task} {self.metric}"

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON, where NaN is null."""
        plain = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in vars(self).items()
        }
        told = self.reliability._asdict() if self.reliability else None
        return {**plain, "n_seeds": list(self.n_seeds), "notes": list(self.notes), "reliability": told}


def foretell(
    results: pd.DataFrame, policy: Policy, target: Target, history: pd.DataFrame, *, baseline: str, candidate: str
) -> TargetEffect:
    """Foretell the target's difference of two mixes from their proxy runs and from other mixes' past.

    Two things are asked of a verdict. The difference at the proxy has to be more than the noise of seeds makes (a moderated t
    test at alpha, see `assay.stats.moderated`), so that a mix against itself is decided in at most alpha of cases. And the
    chance that the other one wins at the target has to be at most what leaves alpha of all verdicts wrong: alpha, or what the least
    sure of the past pairs that are further apart than most have (`assay.stats.transfer.Transfer.allowed`).

    Args:
        results: long results of the judged mixes at the proxy scale, that `assay.compare.compare` accepts.
        policy: alpha, the fewest seeds, and the proxy scale.
        target: what the decision is about.
        history: long results of other mixes at both scales.
        baseline: the mix to measure against.
        candidate: the changed mix.

    Raises:
        AssayError: one of the tables cannot be read as it is.
    """
    table = _judged(results, policy, (baseline, candidate))
    scale = policy.proxy_scale if policy.proxy_scale is not None else _only_scale(table)
    known = past.read(history, target=target, proxy_scale=scale, without=(baseline, candidate))
    case = _Case(policy, target, known)
    predictor = known.predictor(target, _measured_on_both(table, baseline, candidate))
    if predictor is None:
        return case.unknown("no metric was measured both on the judged mixes and on the history's mixes at the proxy")
    arms = predictor.scores(table)
    empty = np.empty(0)
    return case.judge(predictor, arms.get(baseline, empty), arms.get(candidate, empty))


@dataclass(frozen=True)
class _Case:
    """One question about the target."""

    policy: Policy
    target: Target
    history: History

    def judge(self, predictor: Predictor, a: NDArray[np.float64], b: NDArray[np.float64]) -> TargetEffect:
        seeds = (len(a), len(b))
        past_scores = predictor.scores(self.history.proxy)
        mixes = [mix for mix in self.history.target if mix in past_scores]
        if len(mixes) < FEWEST:
            return self.unknown(
                f"the history has {len(mixes)} other mix{'es' * (len(mixes) != 1)} with {predictor.name} at the proxy and"
                f" {self.target.task} {self.target.metric} at {self.target.scale}, too few to learn from: at least {FEWEST}",
                n_seeds=seeds,
            )
        learnt = fit([past_scores[mix].mean() for mix in mixes], [self.history.target[mix] for mix in mixes])
        if learnt is None:
            return self.unknown("most of the history's mixes have one and the same score", n_seeds=seeds)
        if min(seeds) < self.policy.min_seeds:
            return self.unknown(
                f"the verdict needs {self.policy.min_seeds} seeds of each mix, and there are {seeds[0]} and {seeds[1]}",
                n_seeds=seeds,
                reliability=learnt.reliability,
            )
        noise = past.noise_of(past_scores)
        if sum(seeds) == 2 and not noise.stands_alone:
            return self.unknown(
                f"one seed of each mix shows no noise, and the history's replicates at the proxy give it {noise.seen:g} of the {ALONE}"
                " degrees of freedom that takes",
                n_seeds=seeds,
                reliability=learnt.reliability,
            )
        return self._foretold(predictor, learnt, a=a, b=b, prior=noise, usual=past.spread(past_scores, mixes))

    def _foretold(
        self,
        predictor: Predictor,
        learnt: Transfer,
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
                f"all seeds have one and the same {predictor.name}: are they copies of one run?",
                n_seeds=(len(a), len(b)),
                reliability=learnt.reliability,
            )
        # The history's errors hold the noise of its own seeds; only what the judged pair has beyond that comes on top.
        extra = 0.0 if math.isnan(usual) else max(0.0, of_pair - 2 * usual)
        interval = learnt.interval(difference, 1 - alpha, extra=extra)
        other = learnt.chance_other(difference, extra=extra)
        p_noise = _two_sided(difference / math.sqrt(of_pair), df)
        effect = learnt.slope * difference
        allowed = learnt.allowed(alpha)
        sure = other <= allowed and p_noise <= alpha
        bar = learnt.interval(0.0, 1 - 2 * allowed, extra=extra).high / abs(learnt.slope) if learnt.slope else math.inf
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
            n_seeds=(len(a), len(b)),
            reliability=learnt.reliability,
            notes=self.history.notes,
            best_chance=learnt.chance_other(difference),
            seeds=_seeds_to_decide(
                learnt, difference, variance=variance, prior_df=prior.df, usual=usual, alpha=alpha, allowed=allowed
            ),
        )

    def unknown(
        self, problem: str, *, n_seeds: tuple[int, int] = (0, 0), reliability: Reliability | None = None
    ) -> TargetEffect:
        """That nothing can be said, and why."""
        return TargetEffect(
            **vars(self.target),
            level=1 - self.policy.alpha,
            problem=problem,
            n_seeds=n_seeds,
            reliability=reliability,
            notes=self.history.notes,
        )


def _pooled(a: NDArray[np.float64], b: NDArray[np.float64], prior: Prior) -> tuple[float, float]:
    """The variance of one run of the two arms, shrunk towards the history's, and its degrees of freedom."""
    df = len(a) + len(b) - 2
    own = float(((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum()) / df if df else math.nan
    return shrink(own, df, prior)


def _seeds_to_decide(
    learnt: Transfer, difference: float, *, variance: float, prior_df: float, usual: float, alpha: float, allowed: float
) -> int | None:
    """With how many seeds of each mix both questions would be answered, if the difference at the proxy is as it looks.

    Both ask that the difference seen is large: by the t test, and by what the history allows with noise of so many seeds. The
    chance of the harder one is that of both.
    """
    from scipy.special import ndtr

    if not learnt.slope or not variance > 0:
        return None

    def chance(n: int) -> float:
        of_pair = 2 * variance / n
        extra = 0.0 if math.isnan(usual) else max(0.0, of_pair - 2 * usual)
        bar = learnt.interval(0.0, 1 - 2 * allowed, extra=extra).high / abs(learnt.slope)
        se, df = math.sqrt(of_pair), 2 * n - 2 + prior_df
        seen = power(abs(difference), se=se, df=df, tail=alpha / 2) if df > 0 else 0.0
        return min(seen, float(ndtr((abs(difference) - bar) / se)))

    return fewest(chance, most=MOST_SEEDS)


def _two_sided(t: float, df: float) -> float:
    from scipy.special import stdtr

    return 2 * float(stdtr(df, -abs(t)))


def _judged(results: pd.DataFrame, policy: Policy, mixes: Sequence[str]) -> pd.DataFrame:
    """The judged mixes' finite rows at the proxy."""
    table: pd.DataFrame = at_scale(with_columns(results, [*SCORE_KEY, "value"], "results"), policy.proxy_scale)
    found: pd.DataFrame = table[table["mix"].isin(mixes) & np.isfinite(table["value"])]
    return found


def _only_scale(table: pd.DataFrame) -> Any:
    """The table's scale; None where it has no such column."""
    return next(iter(table["scale"].dropna()), None) if "scale" in table else None


def _measured_on_both(table: pd.DataFrame, baseline: str, candidate: str) -> set[tuple[str, str]]:
    by_mix = [
        set(zip(rows["task"], rows["metric"], strict=True))
        for rows in (table[table["mix"] == mix] for mix in (baseline, candidate))
    ]
    return by_mix[0] & by_mix[1]
