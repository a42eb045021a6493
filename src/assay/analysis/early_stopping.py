"""Run interim analyses of candidates in training, to decide which candidates can stop.

An interim analysis is a verdict of the gate on the scores at one fraction of the token budget. Each analysis has a fraction of
alpha that was fixed in advance (see `assay.analysis.stats.sequential`). Over all interim analyses and the final verdict, a change
without any effect therefore gets a wrong verdict with probability at most alpha, for any number of analyses and any stopping rule.

The guarantee applies to the analyzed tokens: a significant difference exists at that point of training. The guarantee
does not cover the end of training, because learning curves drift and some cross. Two results concern the end of
training, and both need a history:

- The persistence is the fraction of past differences of similar size that lasted to the end of training
  (`assay.analysis.stats.early_signal`). The policy can set a minimum.
- If the policy has a target, the verdict predicts the target from the scores of past mixes at the same fraction of
  their budget.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from assay.analysis.excluded_scores import CODES as EXCLUDED
from assay.analysis.gate import Decision, Verdict, decide
from assay.analysis.stats.aggregate_score import can_resolve
from assay.analysis.stats.early_signal import NEAR, Persistence, count_persistence
from assay.analysis.stats.history import HistoryTable
from assay.analysis.stats.results_table import ResultsTable
from assay.analysis.stats.sequential import TOLERANCE, ConfidenceSequence, combine_analyses, schedule
from assay.analysis.stats.tables import Metric, Seed, scale_key, scale_keys, seed_order, with_proxy_scale
from assay.config.one_arm_sources import Trained
from assay.config.policy import Averaging, Criterion, EarlyStopping, Policy
from assay.config.reason import Code, Reason
from assay.core.errors import ConfigError, NotFound, did_you_mean
from assay.core.serde import json_shape

if TYPE_CHECKING:
    import pandas as pd

    from assay.analysis.comparison import Comparison
    from assay.analysis.stats.sequential import Schedule

STATED = frozenset(
    {
        *EXCLUDED,
        Code.UNIT_CONVERTED,
        Code.ONE_ARM_PRIMARY,
        Code.BASELINE_ONLY_PRIMARY,
        Code.DROPPED_SOURCE_UNGUARDED,
        Code.SEEDS_UNSHARED,
        Code.OUTLIER_SEED,
    }
)
"""Codes of reasons that an interim analysis repeats from its verdict: excluded, converted, dependent, unpaired and outlying
scores."""

Outcome = Literal["winner", "loser", "open"]


class Advice(StrEnum):
    """Recommended action for a candidate in training."""

    WINNER = "STOP as winner"
    LOSER = "STOP as loser"
    GO_ON = "GO ON"
    ENDED = "ENDED"


@json_shape({name: name for name in ("fraction", "tokens", "alpha", "outcome", "waiting", "persistence", "verdict")})
@dataclass(frozen=True, kw_only=True)
class InterimAnalysis:
    """One interim analysis of a candidate.

    Attributes:
        fraction: planned fraction of the token budget.
        tokens: trained tokens of a run at the analysis; NaN if no checkpoint has complete scores yet.
        alpha: false-positive rate of this analysis.
        verdict: the gate's verdict at these tokens; None if the gate cannot decide yet.
        outcome: `winner`, `loser` or `open` at these tokens, as the verdict implies.
        persistence: how often past differences lasted to the end of training, for the primary metrics and the metrics
            behind the outcome.
        waiting: why there is no verdict yet, or why the outcome does not stop the candidate; None if neither applies.
    """

    fraction: float
    tokens: float = math.nan
    alpha: float
    verdict: Verdict | None = None
    outcome: Outcome = "open"
    persistence: tuple[Persistence, ...] = ()
    waiting: Reason | None = None


@json_shape(
    {
        "candidate": "candidate",
        "baseline": "baseline",
        "advice": "advice",
        "stop": "early_stopping.stop",
        "budget_tokens": "budget_tokens",
        "reasons": lambda result: list(result.reasons()),
        "analyses": "analyses",
        "intervals": lambda result: result.sequences(),
    }
)
@dataclass(frozen=True, kw_only=True)
class InterimResult:
    """All interim analyses of one candidate.

    Attributes:
        candidate: the changed mix.
        baseline: the mix to compare with.
        budget_tokens: tokens of a complete run.
        early_stopping: the policy's stopping rule.
        alpha: joint false-positive rate of all interim analyses and the final verdict.
        analyses: all planned analyses in order; the last analysis is at the end of training.
    """

    candidate: str
    baseline: str
    budget_tokens: float
    early_stopping: EarlyStopping
    alpha: float
    analyses: tuple[InterimAnalysis, ...]

    @cached_property
    def stopped(self) -> InterimAnalysis | None:
        """The first analysis that stops the candidate; later analyses do not revoke the stop."""
        stopping = {"none": (), "losers": ("loser",), "both": ("loser", "winner")}[self.early_stopping.stop]
        return next((a for a in self.analyses[:-1] if a.outcome in stopping and not a.waiting), None)

    @property
    def advice(self) -> Advice:
        """The recommended action, from the first stopping analysis or else from the state of training."""
        if self.stopped is not None:
            return Advice.LOSER if self.stopped.outcome == "loser" else Advice.WINNER
        return Advice.ENDED if self.analyses[-1].verdict is not None else Advice.GO_ON

    @property
    def latest(self) -> InterimAnalysis | None:
        """The last analysis that has a verdict."""
        return next((analysis for analysis in reversed(self.analyses) if analysis.verdict is not None), None)

    @property
    def joint_alpha(self) -> float:
        """Joint false-positive rate of the intervals of `sequences`.

        If the policy stops no candidate, the rate covers the interim analyses only, and the final verdict has its own alpha.
        """
        return self.alpha * self.early_stopping.alpha_fraction if self.early_stopping.stop == "none" else self.alpha

    def sequences(self) -> dict[Metric, ConfidenceSequence]:
        """Return always-valid intervals of every metric that may vote, over the analyses so far."""
        compared: dict[Metric, list[tuple[InterimAnalysis, Comparison]]] = {}
        for analysis in self.analyses[:-1] if self.early_stopping.stop == "none" else self.analyses:
            for c in analysis.verdict.comparisons if analysis.verdict is not None else ():
                if c.role != "monitor":
                    compared.setdefault((c.task, c.metric), []).append((analysis, c))
        return {
            metric: combine_analyses(
                [analysis.tokens for analysis, _ in pairs],
                [c for _, c in pairs],
                [analysis.alpha / self.joint_alpha for analysis, _ in pairs],
                level=1 - self.joint_alpha,
            )
            for metric, pairs in compared.items()
        }

    def reasons(self) -> tuple[Reason, ...]:
        """Return the advice and its basis as reasons, the most important first."""
        joint = Reason(code=Code.INTERVALS_JOINT, figures={"level": 1 - self.joint_alpha})
        latest = self.latest
        verdict = latest.verdict if latest is not None else None
        stated = [reason for reason in (verdict.reasons if verdict is not None else ()) if reason.code in STATED]
        return (*_explain_advice(self), *stated, joint)


def analyze_interim(
    frame: pd.DataFrame | ResultsTable,
    policy: Policy,
    *,
    baseline: str,
    candidate: str,
    budget_tokens: float,
    history: pd.DataFrame | HistoryTable | None = None,
    past: pd.DataFrame | HistoryTable | None = None,
    seeds: Collection[Seed] | None = None,
    trained: Trained | None = None,
) -> InterimResult:
    """Run the policy's interim analyses of a candidate in training.

    The policy defines one analysis for each of its fractions of the budget. An analysis uses the first token count, at
    or after its fraction, at which every replicate of both arms has scores. Until then the analysis waits, because an
    analysis of some replicates would be an additional test.

    Args:
        frame: long results of the two arms with `tokens`, with several token counts per run.
        policy: requirements of the gate; `early_stopping` defines the interim analyses and the outcomes that stop a candidate.
        baseline: the mix to compare with.
        candidate: the changed mix.
        budget_tokens: tokens of a complete run.
        history: results of other mixes, as for `assay.analysis.gate.decide`, with several token counts per run. Each
            analysis uses the history at its own fraction of the budget.
        past: long results with several token counts per run, for the estimate of the persistence (default: `history`).
        seeds: the replicates to wait for (default: the replicates of either arm in the table).
        trained: the sources that each arm trains on, as for `assay.analysis.gate.decide`.

    Raises:
        AssayError: a table is invalid, a mix is not in it, or a mix was trained on more tokens than the budget.
    """
    table = ResultsTable.of(frame)
    rows = table.checkpoints
    baseline, candidate, policy = str(baseline), str(candidate), with_proxy_scale(policy, rows)
    if policy.proxy_scale is not None and "scale" in rows and rows["scale"].notna().any():
        rows = rows[scale_keys(rows["scale"]) == scale_key(policy.proxy_scale)]
    for mix, arm in ((baseline, "baseline"), (candidate, "candidate")):
        if mix not in set(rows["mix"]):
            raise NotFound(f"the {arm} {mix!r} has no results. {did_you_mean(mix, sorted(set(rows['mix'])))}")
    rows = rows[rows["mix"].isin([baseline, candidate])]
    if rows["tokens"].max() > budget_tokens * (1 + TOLERANCE):
        raise ConfigError(
            f"budget: {budget_tokens:,.0f} tokens is invalid; expected at least the {rows['tokens'].max():,.0f} tokens that"
            " runs were trained on.",
            fix="Pass the token budget of a complete run.",
        )
    history = None if history is None else HistoryTable.of(history)
    analyzer = _InterimAnalyzer(
        rows=rows,
        policy=policy,
        baseline=baseline,
        candidate=candidate,
        budget=float(budget_tokens),
        history=history,
        past=HistoryTable.of(past) if past is not None else history,
        seeds=frozenset(seeds if seeds is not None else rows["seed"]),
        conversions=table.conversions,
        trained=trained or {},
    )
    return InterimResult(
        candidate=candidate,
        baseline=baseline,
        budget_tokens=float(budget_tokens),
        early_stopping=policy.early_stopping,
        alpha=policy.alpha,
        analyses=tuple(analyzer.analyses()),
    )


@dataclass(frozen=True, kw_only=True)
class _InterimAnalyzer:
    """One candidate, its baseline, and the available history."""

    rows: pd.DataFrame
    policy: Policy
    baseline: str
    candidate: str
    budget: float
    history: HistoryTable | None
    past: HistoryTable | None
    seeds: frozenset[Seed]
    conversions: tuple[Reason, ...]
    trained: Trained

    @property
    def schedule(self) -> Schedule:
        return schedule(self.policy.early_stopping.interim_analyses, self.policy.early_stopping.alpha_fraction)

    def analyses(self) -> Iterator[InterimAnalysis]:
        """Yield each planned analysis; the last one has the alpha of the final verdict."""
        plan = self.schedule
        for i, (fraction, weight) in enumerate(zip(plan.fractions, plan.weights, strict=True)):
            is_last = i == len(plan.fractions) - 1
            alpha = self.policy.at_the_end.alpha if is_last else self.policy.alpha * weight
            yield self._analyze(i, InterimAnalysis(fraction=fraction, alpha=alpha))

    def _analyze(self, number: int, planned: InterimAnalysis) -> InterimAnalysis:
        fractions = self.rows["tokens"] / self.budget
        reached = self.rows[[self.schedule.analysis_at(fraction) == number for fraction in fractions]]
        tokens, problem = self._first_complete(reached)
        if tokens is None:
            return replace(planned, waiting=problem)
        # A policy's average over the last checkpoints applies to the end. An earlier analysis uses one checkpoint.
        averaged = number == len(self.schedule.fractions) - 1 and self.policy.average.last > 1
        rows = self.rows if averaged else reached[reached["tokens"] == tokens]
        return self._decide(rows, replace(planned, tokens=tokens))

    def _first_complete(self, rows: pd.DataFrame) -> tuple[float | None, Reason | None]:
        """Return the first token count with scores of every replicate, or the missing runs."""
        if rows.empty:
            return None, Reason(code=Code.NOTHING_SCORED)
        lacking: list[str] = []
        for tokens in sorted(rows["tokens"].unique()):
            scored = rows[rows["tokens"] == tokens]
            lacking = [name for mix in (self.baseline, self.candidate) for name in self._lacking(scored, mix)]
            if not lacking:
                return float(tokens), None
        return None, Reason(code=Code.WAITING_FOR_RUNS, figures={"runs": lacking})

    def _lacking(self, rows: pd.DataFrame, mix: str) -> list[str]:
        """Return the replicates of a mix without scores, or the mix if all replicates lack scores."""
        left = self.seeds - set(rows.loc[rows["mix"] == mix, "seed"])
        return [mix] if left == self.seeds else [f"{mix} seed {seed}" for seed in sorted(left, key=seed_order)]

    def _decide(self, rows: pd.DataFrame, planned: InterimAnalysis) -> InterimAnalysis:
        policy, unscored = self._policy(rows, planned.alpha)
        fraction = planned.tokens / self.budget
        history, history_problem = self._history(fraction)
        if policy is None:
            return replace(planned, waiting=Reason(code=Code.PRIMARY_NOT_SCORED))
        verdict = decide(
            ResultsTable(rows, self.conversions),
            policy,
            baseline=self.baseline,
            candidate=self.candidate,
            history=history,
            trained=self.trained,
        )
        outcome = _outcome(verdict)
        waiting = None
        if outcome == "winner" and unscored:
            metrics = [{"task": c.task, "metric": c.metric} for c in unscored]
            waiting = Reason(code=Code.GUARDRAIL_NOT_SCORED, figures={"metrics": metrics})
        if outcome != "open" and history_problem is not None:
            waiting = history_problem
        persistence = self._persistence(verdict, outcome, fraction)
        if outcome != "open" and waiting is None:
            waiting = self._persistence_problem(persistence, verdict, outcome)
        return replace(planned, verdict=verdict, outcome=outcome, persistence=persistence, waiting=waiting)

    def _policy(self, rows: pd.DataFrame, alpha: float) -> tuple[Policy | None, list[Criterion]]:
        """Return the policy at this analysis's alpha, limited to scored metrics, and the unscored criteria."""
        scored = set(zip(rows["task"], rows["metric"], strict=True))
        unscored = [c for c in (*self.policy.primary, *self.policy.guardrails) if (c.task, c.metric) not in scored]
        primary = tuple(c for c in self.policy.primary if c not in unscored)
        own = self.policy.aggregate
        if own is not None and not can_resolve(own, frozenset(scored)):
            return None, unscored
        if own is None and not primary and (self.policy.primary or self.policy.target is None):
            return None, unscored
        guardrails = tuple(c for c in self.policy.guardrails if c not in unscored)
        policy = replace(
            self.policy, primary=primary, guardrails=guardrails, alpha=alpha, early_stopping=EarlyStopping()
        )
        return policy if len(set(rows["tokens"])) > 1 else replace(policy, average=Averaging()), unscored

    def _history(self, fraction: float) -> tuple[HistoryTable | None, Reason | None]:
        """Return the history at this fraction of the budget, or why no prediction is possible."""
        if self.history is None:
            return None, None
        if "tokens" in self.history.frame:
            near = self.history.once(_at_fraction, fraction=fraction, scale=self._scale)
        else:
            near = self.history if fraction >= 1 - TOLERANCE else HistoryTable(self.history.frame[:0])
        if self.policy.target is None or not near.frame.empty:
            return (None if near.frame.empty else near), None
        figures = {"fraction": fraction, "scale": self.policy.target.scale}
        return None, Reason(code=Code.HISTORY_LACKS_CHECKPOINT, figures=figures)

    @property
    def _scale(self) -> Any:
        if self.policy.proxy_scale is not None or "scale" not in self.rows:
            return self.policy.proxy_scale
        return next(iter(self.rows["scale"].dropna()), None)

    def _persistence(self, verdict: Verdict, outcome: Outcome, fraction: float) -> tuple[Persistence, ...]:
        """Return how often past differences lasted to the end of training, by metric."""
        if self.past is None or "tokens" not in self.past.frame or fraction >= 1 - TOLERANCE:
            return ()
        counted = {(c.task, c.metric): c for c in verdict.comparisons if c.role == "primary"}
        counted |= {(c.task, c.metric): c for c in decisive_comparisons(verdict, outcome)}
        return tuple(
            count_persistence(
                self.past.frame,
                task=task,
                metric=metric,
                fraction=fraction,
                effect=c.effect,
                noise=c.noise / math.sqrt(2),
                scale=self._scale,
                without={self.baseline, self.candidate},
            )
            for (task, metric), c in counted.items()
        )

    def _persistence_problem(
        self, persistence: Sequence[Persistence], verdict: Verdict, outcome: Outcome
    ) -> Reason | None:
        """Return why the persistence is below the policy's minimum; None if the persistence is sufficient."""
        least = self.policy.early_stopping.min_persistence
        decisive = {(c.task, c.metric) for c in decisive_comparisons(verdict, outcome)}
        required = [signal for signal in persistence if (signal.task, signal.metric) in decisive] or list(persistence)
        if least == 0:
            return None
        if not required:
            return Reason(code=Code.PERSISTENCE_NO_HISTORY, figures={"least": least})
        worst = min(required, key=lambda signal: -1.0 if math.isnan(signal.persisted) else signal.persisted)
        if worst.persisted >= least:
            return None
        figures = {"least": least, "persisted": worst.persisted, "n_pairs": worst.n_pairs, "problem": worst.problem}
        return Reason(code=Code.PERSISTENCE_TOO_LOW, subject=worst.task, metric=worst.metric, figures=figures)


def decisive_comparisons(verdict: Verdict, outcome: Outcome) -> list[Comparison]:
    """Return the significant comparisons that cause an outcome; empty if the target decided."""
    alpha, decisive = 1 - min((c.level for c in verdict.comparisons), default=1.0), []
    for c in verdict.comparisons:
        bar = c.margin if (c.role == "guardrail") == (outcome == "loser") else 0.0
        gain = c.gain if outcome == "winner" else -c.gain
        significant = c.votes and gain > bar and c.p_adjusted <= alpha
        if outcome != "open" and significant and (outcome == "loser" or c.role == "primary"):
            decisive.append(c)
    return decisive


def _outcome(verdict: Verdict) -> Outcome:
    return {Decision.ACCEPT: "winner", Decision.REJECT: "loser"}.get(verdict.decision, "open")  # type: ignore[return-value]  # mypy widens the literals


def _at_fraction(history: pd.DataFrame, fraction: float, *, scale: Any) -> HistoryTable:
    """Select the checkpoint nearest to a budget fraction at the proxy; elsewhere, the last checkpoint."""
    import pandas as pd

    if "scale" in history and scale is not None:
        near = scale_keys(history["scale"]) == scale_key(scale)
    else:
        near = history["tokens"].notna()
    key = [name for name in ("mix", "seed", "scale") if name in history]
    last = history.groupby(key, dropna=False)["tokens"].transform("max")
    distance = (history["tokens"] / last - fraction).abs()
    nearest = distance.groupby([history[name] for name in key], dropna=False).transform("min")
    early: pd.DataFrame = history[near & (distance == nearest) & (nearest <= NEAR * fraction)]
    return HistoryTable(early if early.empty else pd.concat([early, history[~near & (history["tokens"] == last)]]))


def _explain_advice(result: InterimResult) -> Iterator[Reason]:
    """Yield the advice, and the evidence of past runs for the advice."""
    analysis = result.stopped or result.latest
    if analysis is None:
        pending = next((planned for planned in result.analyses if planned.waiting is not None), None)
        if pending is not None and pending.waiting is not None:
            yield Reason(code=Code.INTERIM_PENDING, figures={"fraction": pending.fraction}, causes=(pending.waiting,))
        return
    assert analysis.verdict is not None, "an analysis that stops, or the latest with a verdict"
    figures = {
        "outcome": analysis.outcome,
        "fraction": analysis.tokens / result.budget_tokens,
        "tokens": analysis.tokens,
        "alpha": analysis.alpha,
        "verdict": str(analysis.verdict.decision),
    }
    if result.stopped is not None:
        code = Code.INTERIM_STOPS
    elif analysis.outcome == "open":
        code = Code.INTERIM_NOT_SIGNIFICANT
    else:
        code = Code.INTERIM_ENDED if analysis is result.analyses[-1] else Code.INTERIM_CONTINUES
    allowed = Reason(code=Code.STOPPING_NOT_ALLOWED, subject=result.early_stopping.stop)
    causes = (analysis.waiting or allowed,) if code is Code.INTERIM_CONTINUES else ()
    yield Reason(code=code, subject=result.candidate, figures=figures, causes=causes)
    yield from analysis.verdict.reasons[:3]
    yield from (signal.reason for signal in analysis.persistence)
    if not analysis.persistence and analysis is not result.analyses[-1]:
        yield Reason(code=Code.PERSISTENCE_WITHOUT_HISTORY)
