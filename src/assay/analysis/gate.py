"""Decide on a change: return a verdict with reasons, from comparisons and a policy.

ACCEPT
    A primary metric (or all primary metrics, depending on the policy) is better by more than its margin. No primary
    metric is worse. Every guardrail with signal is shown to stay within its margin.
REJECT
    A primary metric is worse, or a guardrail is worse by more than its margin.
INCONCLUSIVE
    The results support neither an ACCEPT nor a REJECT. The verdict lists the data that would decide.
BLOCKED
    The change uses a tainted source, so no result can lead to another decision.

If the policy names a target, and a history has other mixes at both scales, `better` and `worse` refer to the target
metric. `assay.analysis.stats.target` predicts this metric. The primary metrics are then only reported, and the
guardrails still apply.

`assay.analysis.adjusted_tests` defines the tests and their error rates. A metric at chance level in the baseline is listed but has no
vote: the metric neither supports an ACCEPT nor causes a REJECT. If its score declines significantly, and by more than its margin,
it prevents an ACCEPT. A guardrail with unknown noise prevents an ACCEPT, because the guardrail cannot detect a regression.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from assay.analysis import explanations, next_steps
from assay.analysis.aggregate import AggregatedTables, AggregateShown, with_aggregate
from assay.analysis.aggregate_reasons import describe_aggregate
from assay.analysis.compare import compare_arms, sweep_noise, with_primary_of_target
from assay.analysis.comparison import Comparison
from assay.analysis.directions import direction_reasons
from assay.analysis.excluded_scores import CODES as EXCLUDED
from assay.analysis.excluded_scores import broken_metrics, list_excluded_scores, with_excluded_scores
from assay.analysis.joint_guardrails import JointGuardrails, apply_joint_rule, fits, joint_reason
from assay.analysis.noise_reasons import find_outliers, list_noise_reasons, list_outliers, without_runs
from assay.analysis.stats.history import HistoryTable
from assay.analysis.stats.item_table import ItemTable
from assay.analysis.stats.results_table import ResultsTable
from assay.analysis.stats.tables import Metric, with_proxy_scale
from assay.analysis.stats.target import TargetEffect, predict_target
from assay.analysis.stats.transfer import Reliability
from assay.analysis.stats.units import require_possible
from assay.analysis.summary import summarize, summarize_sweep
from assay.config.aggregate import JOINT, is_aggregate
from assay.config.one_arm_sources import Trained, one_arm_reasons, one_arm_tasks
from assay.config.policy import Policy
from assay.config.reason import Code, Reason
from assay.core.errors import ConfigError, NotFound, Refused, did_you_mean
from assay.core.serde import json_shape

if TYPE_CHECKING:
    import pandas as pd

    from assay.plan.registration import RegistrationState
    from assay.store.early_stops import Stop


class Decision(StrEnum):
    """Decision of the gate."""

    ACCEPT = "ACCEPT"
    REJECT = "REJECT"
    INCONCLUSIVE = "INCONCLUSIVE"
    BLOCKED = "BLOCKED"


EXIT_CODES: Mapping[Decision, int] = {
    Decision.ACCEPT: 0,
    Decision.REJECT: 1,
    Decision.INCONCLUSIVE: 3,
    Decision.BLOCKED: 4,
}
"""Exit codes of `assay gate`; 2 is a usage error."""

_WORST_FIRST = (Decision.BLOCKED, Decision.REJECT, Decision.INCONCLUSIVE, Decision.ACCEPT)


@json_shape(
    {
        "summary": "summary",
        "target": "target",
        "regressed": lambda verdict: [f"{c.task} {c.metric}" for c in verdict.regressed],
        "worst": lambda verdict: f"{verdict.worst.task} {verdict.worst.metric}" if verdict.worst else None,
        "verdict": "decision",
        **{name: name for name in ("candidate", "baseline", "reasons", "needed", "options", "scope", "registration")},
        "aggregate": "aggregate",
        "guardrails_joint": "guardrails_joint",
        "comparisons": "comparisons",
    }
)
@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The decision on one change.

    Attributes:
        candidate: the changed mix.
        baseline: the mix to compare with.
        decision: ACCEPT, REJECT, INCONCLUSIVE or BLOCKED.
        reasons: reasons for the decision, with the most important reason first.
        comparisons: comparisons of every measured metric, with or without a vote.
        needed: further data that would decide; empty if the change is decided.
        scope: whether the verdict applies to the proxy or the target, and further limits of the verdict.
        options: next steps that would decide, with their costs; empty unless inconclusive. `needed` has them as reasons.
        target: the prediction at the target; None without a target or a history.
        registration: differences between the policy and the policy registered before the results; None if unknown.
        aggregate: weights and SDs of the policy's aggregate; None without one.
        guardrails_joint: the joint test of all guardrails; None if the policy tests each guardrail.
    """

    candidate: str
    baseline: str
    decision: Decision
    reasons: tuple[Reason, ...]
    comparisons: tuple[Comparison, ...]
    needed: tuple[Reason, ...]
    scope: tuple[Reason, ...]
    options: tuple[next_steps.Option, ...] = ()
    target: TargetEffect | None = None
    registration: RegistrationState | None = None
    aggregate: AggregateShown | None = None
    guardrails_joint: JointGuardrails | None = None

    @property
    def summary(self) -> Reason:
        """What was tested, the result with its size and uncertainty, and the decision."""
        return summarize(
            candidate=self.candidate,
            baseline=self.baseline,
            decision=str(self.decision),
            registration=self.registration,
            comparisons=self.comparisons,
            target=self.target,
            reasons=self.reasons,
            scope=self.scope,
        )

    @property
    def reliability(self) -> Reliability | None:
        """How often the proxy predicted the target's winner in the history; None without a prediction."""
        return self.target.reliability if self.target else None

    @property
    def regressed(self) -> tuple[Comparison, ...]:
        """Metrics that regress at a false discovery rate of alpha.

        The metric with the largest loss in SDs of noise is first.
        """
        clear = [c for c in self.comparisons if c.gain < 0 and c.q <= 1 - c.level]
        return tuple(sorted(clear, key=lambda c: c.gain / c.spread))

    @property
    def worst(self) -> Comparison | None:
        """The comparison with the largest loss in SDs of noise, significant or not; None if the noise is unknown."""
        known = [c for c in self.comparisons if c.spread > 0 and c.better is not None and not is_aggregate(c.task)]
        return min(known, key=lambda c: c.gain / c.spread, default=None)


@json_shape(
    {"summary": "summary", "verdict": "decision"}
    | {
        name: name
        for name in (
            "baseline",
            "policy",
            "note",
            "mixes",
            "registration",
            "candidates",
            "missing",
            "state",
            "running",
        )
    }
)
@dataclass(frozen=True, kw_only=True)
class SweepVerdict:
    """The decisions on all candidates of a sweep.

    Attributes:
        baseline: the mix to compare with.
        policy: name of the policy.
        candidates: verdicts by mix.
        note: how several candidates raise the error rate, and the text that the tokenizer loses; often empty.
        registration: differences between the policy and the policy registered before the results; None if unknown.
        missing: seeds of excluded planned runs by mix, with the causes.
        mixes: differences between the mixes as written and as trained.
        running: labels of unfinished runs that a worker has or will take, such as `more_web s0`.
    """

    baseline: str
    policy: str
    candidates: dict[str, Verdict] = field(hash=False)
    note: tuple[Reason, ...]
    registration: RegistrationState | None = None
    missing: Mapping[str, Sequence[Reason]] = field(default_factory=dict, hash=False)
    mixes: tuple[Reason, ...] = ()
    running: tuple[str, ...] = ()

    @property
    def summary(self) -> Reason:
        """The decisions on the candidates, with the size and uncertainty of the decisive effects."""
        return summarize_sweep(
            [verdict.summary for verdict in self.candidates.values()],
            baseline=self.baseline,
            decision=str(self.decision),
            running=len(self.running),
        )

    @property
    def state(self) -> str:
        """`RUNNING` while runs of the sweep are in progress, otherwise `ENDED`."""
        return "RUNNING" if self.running else "ENDED"

    def with_registration(self, registration: RegistrationState) -> SweepVerdict:
        """Return the verdict with its registration status, also in the scope of each candidate."""
        scope = Reason(code=Code.SCOPE_REGISTRATION, subject=registration.state)
        marked = {
            name: replace(verdict, registration=registration, scope=(*verdict.scope, scope))
            for name, verdict in self.candidates.items()
        }
        return replace(self, registration=registration, candidates=marked)

    @property
    def decision(self) -> Decision:
        """The worst decision among the candidates. With exit code 0, all candidates may be merged."""
        decisions = {verdict.decision for verdict in self.candidates.values()}
        return next(decision for decision in _WORST_FIRST if decision in decisions)

    @property
    def exit_code(self) -> int:
        """Exit code of `assay gate`."""
        return EXIT_CODES[self.decision]


def decide(
    results: pd.DataFrame | ResultsTable,
    policy: Policy,
    *,
    baseline: str,
    candidate: str,
    history: pd.DataFrame | HistoryTable | None = None,
    items: pd.DataFrame | ItemTable | None = None,
    blocked: Sequence[Reason] = (),
    missing: Mapping[str, Sequence[Reason]] | None = None,
    context: next_steps.DecisionContext | None = None,
    stop: Stop | None = None,
    trained: Trained | None = None,
    name_outliers: bool = True,
) -> Verdict:
    """Decide on one change.

    Args:
        results: one row for each `mix, seed, task, metric` with its `value` (see `assay.analysis.compare.compare`).
        policy: requirements of the gate, fixed before the results.
        baseline: the mix to compare with.
        candidate: the changed mix.
        history: results of other mixes at the proxy's and the target's scale, with the same columns and `scale`. The gate ignores
            rows of the compared mixes.
        items: scores of single items, if known.
        blocked: reasons that block the change regardless of its results, such as a finding in a source.
        missing: seeds of planned runs without a result by mix, with the causes.
        context: cost of a run, and past runs that show the effect of more tokens or a larger proxy; used for the next steps
            (default: the results' tokens and the history).
        stop: the interim analysis that stopped the candidate. The outcome of this analysis is the decision, unless the
            candidate is blocked or was trained to the end.
        trained: the sources that each arm trains on; unknown for external results.
        name_outliers: whether to name outlying runs, with the decision without them.

    Raises:
        AssayError: a table is invalid, or a name in the call or the policy is not in the tables.
    """
    results = ResultsTable.of(results)
    history = None if history is None else HistoryTable.of(history)
    baseline, candidate = str(baseline), str(candidate)  # a mix may be named by a number
    policy = with_proxy_scale(policy.at_the_end, results.frame)
    results, items = results.averaged(policy.average.last, items, required=(baseline, candidate))
    unaveraged = _unaveraged(results, policy)
    arms = (_arm(results, baseline, missing), _arm(results, candidate, missing))
    # A blocked change, or one whose runs all failed, can lack results: its verdict needs none.
    empty = [arm for arm in arms if not arm.present and (blocked or arm.missing)]
    effective = policy if history is not None else with_primary_of_target(policy, results)
    target = None
    if history is not None and policy.target is not None and not (blocked or empty):
        target = predict_target(results, policy, policy.target, history, baseline=baseline, candidate=candidate)
    comparisons: tuple[Comparison, ...] = ()
    excluded: list[Reason] = []
    parts: list[Reason] = []
    tables: AggregatedTables | None = None
    own, plain, plain_history = results.of_mixes((baseline, candidate)), results, history
    if not empty:
        require_possible(own)
        if history is not None:
            history = results.fitting(history, baseline=baseline, scale=policy.proxy_scale)
        comparisons = tuple(
            compare_arms(results, effective, items=items, history=history, baseline=baseline, candidates=[candidate])
        )
        tables = with_aggregate(results, history, effective, baseline=baseline)  # the tables that the comparisons used
        results, history, effective = tables.results, tables.history, tables.policy
        parts = describe_aggregate(tables, comparisons, mixes=(baseline, candidate))
        excluded = list_excluded_scores(results.scores_at(policy.proxy_scale), baseline, candidate, known=missing or {})
    if blocked:
        decision, reasons, needed = Decision.BLOCKED, list(blocked), list[Reason]()
    elif empty:
        decision, reasons = Decision.INCONCLUSIVE, [arm.too_few(policy.min_seeds) for arm in empty]
        needed = [explanations.need_seeds(policy.min_seeds)]
    else:
        voters = {(c.task, c.metric) for c in comparisons if c.role != "monitor"}
        voters |= set(_deciding(target))
        rule = _DecisionRule(
            effective,
            comparisons,
            arms,
            target,
            broken=broken_metrics(excluded) & voters,
            one_arm=_one_arm(policy, trained or {}, baseline, candidate),
            joint=apply_joint_rule(comparisons, effective),
            aggregate_unknown=tuple(r for r in parts if r.code is Code.AGGREGATE_UNKNOWN),
        )
        decision, reasons, needed = rule.decide()
        reasons += results.scores_at(policy.proxy_scale).uneven_budgets(baseline, candidate)
    by_construction = one_arm_reasons(effective, trained or {}, baseline, candidate, predictor=_deciding(target))
    first = [r for r in by_construction if r.figures.get("excluded") and decision is Decision.INCONCLUSIVE]
    reasons = [*first, *reasons, *(reason for reason in by_construction if reason not in first)]
    reasons += [
        *(reason for reason in parts if reason not in reasons),
        *excluded,
        *unaveraged,
        *direction_reasons(comparisons, policy, target),
        *_conversions(results, history, {baseline, candidate}),
        *_excluded_history(history, target),
    ]
    if comparisons and not blocked:
        reasons += list_noise_reasons(comparisons)
        if name_outliers:
            noise = sweep_noise(results, effective, baseline=baseline, candidates=[candidate], history=history)
            outliers = find_outliers(noise, effective, candidate)

            def decide_without() -> tuple[str, bool]:
                try:
                    other = decide(
                        without_runs(plain, outliers), policy, baseline=baseline, candidate=candidate, history=plain_history,
                        items=items, missing=missing, context=context, trained=trained, name_outliers=False,
                    )  # fmt: skip
                except (
                    Refused
                ):  # without these runs, the arms are unpaired, and their seeds have different token budgets
                    return Decision.INCONCLUSIVE, True
                return other.decision, any(
                    c.n_seeds < policy.min_seeds for c in other.comparisons if c.role != "monitor"
                )

            reasons += list_outliers(outliers, decision, decide_without, arms=(baseline, candidate))
    options: tuple[next_steps.Option, ...] = ()
    # More runs replace neither a score that is not finite, nor an independent primary metric, nor a metric's signal.
    other = {Code.NEED_FINITE_SCORES, Code.NEED_INDEPENDENT_PRIMARY, Code.NEED_DECLINE_EXAMINED} & {
        need.code for need in needed
    }
    if decision is Decision.INCONCLUSIVE and comparisons and not other:
        # Runs with more tokens do not fit the compared runs, but show what more tokens change.
        every = (
            None if plain_history is None else with_aggregate(plain, plain_history, policy, baseline=baseline).history
        )
        rows = results.of_mixes((baseline, candidate))
        context = next_steps.complete_context(rows, effective, (baseline, candidate), context, history=every)
        present = (len(arms[0].present), len(arms[1].present))
        options = next_steps.list_options(comparisons, effective, context, target=target, present=present)
        steps = [*map(explanations.option, options)]
        needed = [*steps, *needed] if target is not None else [*needed, *steps]
    verdict = Verdict(
        candidate=candidate,
        baseline=baseline,
        decision=decision,
        reasons=tuple(reasons),
        comparisons=comparisons,
        needed=tuple(needed),
        scope=(*explanations.scope(policy, target), *(tables.scope if tables is not None else ())),
        options=options,
        target=target,
        aggregate=tables.shown if tables is not None else None,
        guardrails_joint=apply_joint_rule(comparisons, effective),
    )
    return _stopped(verdict, stop) if stop is not None and candidate in (missing or {}) else verdict


def _one_arm(policy: Policy, trained: Trained, baseline: str, candidate: str) -> frozenset[str]:
    """Return the tasks that cannot cause an ACCEPT alone, and the aggregate if it contains one of them."""
    if not policy.exclude_one_arm_sources:
        return frozenset()
    tasks = one_arm_tasks(trained, baseline, candidate)
    own = policy.aggregate
    return tasks if own is None or tasks.isdisjoint(own.parts) else tasks | {own.task}


def _conversions(results: ResultsTable, history: HistoryTable | None, arms: AbstractSet[str]) -> list[Reason]:
    """Return reasons for the values of the arms and the history that were converted to another unit."""
    own = [reason for reason in results.conversions if not arms.isdisjoint(reason.figures["mixes"])]
    return [*own, *(() if history is None else history.conversions)]


def _unaveraged(results: ResultsTable, policy: Policy) -> list[Reason]:
    """Return the reason that names mixes without the checkpoints of the policy's average; empty without such mixes."""
    if not results.excluded:
        return []
    figures = {"mixes": list(results.excluded), "last": policy.average.last}
    return [Reason(code=Code.MIXES_NOT_AVERAGED, figures=figures)]


def _excluded_history(history: HistoryTable | None, target: TargetEffect | None) -> list[Reason]:
    """Return reasons for past mixes that do not fit the compared runs, without those that the prediction already states."""
    stated = () if target is None else target.notes
    return [reason for reason in (() if history is None else history.excluded) if reason not in stated]


def _without_repeated(aside: Sequence[Reason], declining: Sequence[Comparison]) -> list[Reason]:
    """Remove the reasons for no signal of metrics whose decline states them."""
    stated = {explanations.no_signal(c) for c in declining}
    return [reason for reason in aside if reason not in stated]


def _deciding(target: TargetEffect | None) -> tuple[Metric, ...]:
    """Return the metrics that decide at the target: those of the predictor."""
    if target is None:
        return ()
    return target.predictor_metrics or ((target.task, target.metric),)


def _stopped(verdict: Verdict, stop: Stop) -> Verdict:
    """Return the decision of the interim analysis that stopped the candidate.

    A blocked candidate stays blocked.
    """
    kept = (*EXCLUDED, Code.UNIT_CONVERTED, Code.RUNS_EXCLUDED, Code.DIRECTION_UNUSUAL)
    reasons = (stop.reason, *stop.reasons, *(reason for reason in verdict.reasons if reason.code in kept))
    if verdict.decision == Decision.BLOCKED:
        return replace(verdict, reasons=(*verdict.reasons, *reasons))
    figures = {"tokens": stop.tokens, "fraction": stop.fraction}
    return replace(
        verdict,
        decision=Decision.REJECT if stop.outcome == "loser" else Decision.ACCEPT,
        reasons=reasons,
        needed=(),
        options=(),
        scope=(Reason(code=Code.SCOPE_STOPPED_EARLY, figures=figures),),
    )


def gate(
    results: pd.DataFrame | ResultsTable,
    policy: Policy,
    *,
    baseline: str,
    candidates: Sequence[str],
    history: pd.DataFrame | HistoryTable | None = None,
    items: pd.DataFrame | ItemTable | None = None,
    blocked: Mapping[str, Sequence[Reason]] | None = None,
    missing: Mapping[str, Sequence[Reason]] | None = None,
    context: next_steps.DecisionContext | None = None,
    stops: Mapping[str, Stop] | None = None,
    trained: Trained | None = None,
    n_candidates: int | None = None,
) -> SweepVerdict:
    """Decide on every candidate of a sweep. The arguments are those of `decide`.

    Args:
        results: as for `decide`, of all mixes.
        policy: as for `decide`.
        baseline: as for `decide`.
        candidates: the changed mixes, at least one.
        history: as for `decide`.
        items: as for `decide`.
        blocked: blocking reasons by mix; a reason of the baseline blocks every candidate.
        missing: as for `decide`.
        context: as for `decide`.
        stops: how interim analyses stopped candidates, by mix.
        trained: as for `decide`.
        n_candidates: number of candidates of the whole sweep, over which a policy with `candidates: all` controls the error rate
            (default: the number of `candidates`).

    Raises:
        AssayError: as for `decide`; there is no candidate; `blocked` names an unknown mix.
    """
    blocked = blocked or {}
    if not candidates:
        raise ConfigError(
            "candidates: the list is empty; expected at least one mix.", fix="Pass a mix other than the baseline."
        )
    for mix in blocked:
        if mix not in {baseline, *candidates}:
            raise NotFound(
                f"blocked: {mix!r} is invalid; expected the baseline or a candidate."
                f" {did_you_mean(mix, [baseline, *candidates])}"
            )
    number = len(candidates) if n_candidates is None else n_candidates
    together, policy = policy, policy.for_candidates(number)
    # The candidates share these tables: validate, average and index them once.
    results = ResultsTable.of(results)
    history = None if history is None else HistoryTable.of(history)
    if context is not None and context.past is not None:
        context = replace(context, past=next_steps.as_table(context.past))
    results, items = results.averaged(policy.average.last, items, required=[str(baseline), *map(str, candidates)])
    items = None if items is None else ItemTable.of(items)
    policy = with_proxy_scale(policy, results.frame)
    # Runs of a blocked mix inform no other verdict, not even as noise.
    allowed = without_mixes(results, [mix for mix in blocked if mix != baseline])
    verdicts = {
        candidate: decide(
            results if candidate in blocked else allowed,
            policy,
            baseline=baseline,
            candidate=candidate,
            history=history,
            items=items,
            blocked=[*blocked.get(baseline, ()), *blocked.get(candidate, ())],
            missing=missing,
            context=context,
            stop=(stops or {}).get(candidate),
            trained=trained,
        )
        for candidate in candidates
    }
    counted = number if together.candidates == "all" else len(verdicts)
    note = candidates_note(together, counted, subject=baseline) if counted > 1 else ()
    reasons = [reason for verdict in verdicts.values() for reason in verdict.reasons]
    return SweepVerdict(
        baseline=baseline,
        policy=policy.name,
        candidates=verdicts,
        note=note,
        missing=with_excluded_scores(missing or {}, reasons),
    )


def without_mixes(results: ResultsTable, mixes: Sequence[str]) -> ResultsTable:
    """Return the results without some mixes; the table itself if it has none of them."""
    if not mixes or "mix" not in results.frame:
        return results
    others = ~results.frame["mix"].astype(str).isin(mixes)
    return results if others.all() else results.select(others)


def candidates_note(policy: Policy, number: int, *, subject: str) -> tuple[Reason, ...]:
    """State the error rate over all candidates of a sweep.

    Args:
        policy: the policy as registered, with alpha before the division among candidates.
        number: number of candidates.
        subject: the baseline.
    """
    if policy.candidates == "all":
        final = policy.at_the_end.alpha / number
        figures = {"candidates": number, "alpha": policy.alpha, "each": policy.alpha / number, "final": final}
        return (Reason(code=Code.CANDIDATES_CONTROLLED, subject=subject, figures=figures),)
    figures = {"candidates": number, "alpha": policy.alpha, "expected": number * policy.alpha}
    return (Reason(code=Code.SEVERAL_CANDIDATES, subject=subject, figures=figures),)


@dataclass(frozen=True)
class _DecisionRule:
    """The decision rule, applied to one change."""

    policy: Policy
    comparisons: tuple[Comparison, ...]
    arms: tuple[explanations.ArmSeeds, explanations.ArmSeeds]
    target: TargetEffect | None = None
    broken: frozenset[Metric] = frozenset()
    """Voting metrics, and the target's metric, with scores that are not finite."""
    one_arm: frozenset[str] = frozenset()
    """Tasks that alone cannot cause an ACCEPT, because they improve by construction."""
    joint: JointGuardrails | None = None
    """The joint test of all guardrails; None if each guardrail is tested."""
    aggregate_unknown: tuple[Reason, ...] = ()
    """Why the policy's aggregate cannot be formed; empty if it can, or if the policy names none."""

    def decide(self) -> tuple[Decision, list[Reason], list[Reason]]:
        """Return the decision, its reasons, and the data that would decide."""
        if self.target is not None:
            return self._at_target(self.target)
        primaries = [c for c in self.comparisons if c.role == "primary"]
        guardrails = [c for c in self.comparisons if c.role == "guardrail"]
        worse = [c for c in (*primaries, *guardrails) if self._worse(c)]
        better = [c for c in primaries if self._better(c)]
        within = [c for c in guardrails if self._within_margin(c)]
        aside = [explanations.no_signal(c) for c in (*primaries, *guardrails) if c.signal == "no signal"]
        notes = [*explanations.regressions(self.comparisons, self.policy.alpha), *explanations.excluded_runs(self.arms)]
        if not primaries and self.aggregate_unknown and not worse:
            reasons = [*self.aggregate_unknown, *aside, *notes]
            return Decision.INCONCLUSIVE, reasons, [explanations.need_seeds(max(self.policy.min_seeds, 2))]
        if not primaries and not self.aggregate_unknown:
            reasons = [Reason(code=Code.NO_PRIMARY), *aside]
            return Decision.INCONCLUSIVE, reasons, [Reason(code=Code.NEED_HISTORY_OR_PRIMARY)]
        if worse:
            reasons = [*map(explanations.worse, worse), *map(explanations.better, better), *aside, *notes]
            return Decision.REJECT, reasons, []
        carrying = [c for c in better if c.task not in self.one_arm]
        enough = (
            bool(carrying)
            and not self.aggregate_unknown
            and (self.policy.require == "any" or len(better) == len(primaries))
        )
        unsure = [c for c in primaries if c not in better and c.signal != "no signal"]
        # A guardrail at chance level carries no information. A guardrail that was measured too imprecisely prevents an ACCEPT.
        unguarded = [c for c in guardrails if c not in within and c.signal != "no signal"]
        broken = [c for c in primaries if self._is_broken(c)]
        declining = self._declining(primaries + guardrails, without_noise=enough)
        if enough and not unguarded and not broken and not declining:
            also = explanations.undecided(unsure, self.policy)
            passed = [*map(explanations.better, better), *self._passed(within)]
            return Decision.ACCEPT, [*passed, *also, *aside, *notes], []
        waiting = [*(broken if enough else unsure), *unguarded]
        short = explanations.too_few_seeds(waiting, self.arms, self.policy)
        aside = _without_repeated(aside, declining)
        reasons = [*short, *map(explanations.declines_without_signal, declining)]
        reasons += [*self._not_shown(waiting), *map(explanations.better, better), *aside]
        reasons += [] if short else notes
        without_signal = [c for c in primaries if c.signal == "no signal"]
        if len(without_signal) == len(primaries):
            reasons = [Reason(code=Code.NO_PRIMARY_WITH_SIGNAL), *reasons]
        elif without_signal and self.policy.require == "all":
            reasons = [Reason(code=Code.PRIMARIES_WITHOUT_SIGNAL), *reasons]
        return Decision.INCONCLUSIVE, reasons, self._needed(waiting, declining)

    def _at_target(self, target: TargetEffect) -> tuple[Decision, list[Reason], list[Reason]]:
        """Return the decision at the target, its reasons, and the data that would decide."""
        guardrails = [c for c in self.comparisons if c.role == "guardrail"]
        broken = [c for c in guardrails if self._worse(c)]
        within = [c for c in guardrails if self._within_margin(c)]
        unguarded = [c for c in guardrails if c not in within and c.signal != "no signal"]
        prediction = explanations.predicted(target, baseline=self.arms[0].mix, candidate=self.arms[1].mix)
        aside = [explanations.no_signal(c) for c in guardrails if c.signal == "no signal"]
        aside += [
            *explanations.regressions(self.comparisons, self.policy.alpha),
            *explanations.excluded_runs(self.arms),
        ]
        if broken or target.winner == "baseline":
            return Decision.REJECT, [*map(explanations.worse, broken), *prediction, *aside], []
        known = self.broken.isdisjoint(_deciding(target))
        declining = self._declining(guardrails, without_noise=target.winner == "candidate")
        blocked = bool(unguarded or declining) or not known or self._by_construction(target)
        if target.winner == "candidate" and not blocked:
            return Decision.ACCEPT, [*prediction, *self._passed(within), *aside], []
        needed = [] if target.winner == "candidate" else explanations.target_needed(target, self.policy)
        needed += self._needed(unguarded, declining) if blocked else []
        undecided = [*map(explanations.declines_without_signal, declining), *self._not_shown(unguarded)]
        return Decision.INCONCLUSIVE, [*prediction, *undecided, *_without_repeated(aside, declining)], needed

    def _needed(self, waiting: Sequence[Comparison], declining: Sequence[Comparison]) -> list[Reason]:
        whole = [c for c in waiting if not self._is_broken(c)]
        finite = [Reason(code=Code.NEED_FINITE_SCORES)] if self.broken else []
        deciding = {c.task for c in self.comparisons if c.role == "primary"}
        if self._by_construction(self.target) if self.target is not None else deciding and deciding <= self.one_arm:
            finite.append(Reason(code=Code.NEED_INDEPENDENT_PRIMARY))
        finite += map(explanations.need_decline_examined, declining)
        return [*finite, *explanations.needed(whole, self.comparisons, self.policy)]

    def _by_construction(self, target: TargetEffect) -> bool:
        """Whether a metric of the predictor improves by construction."""
        return any(task in self.one_arm for task, _ in _deciding(target))

    def _is_broken(self, c: Comparison) -> bool:
        return (c.task, c.metric) in self.broken

    def _worse(self, c: Comparison) -> bool:
        bar = c.margin if c.role == "guardrail" else 0.0
        return c.votes and c.gain < -bar and c.p_adjusted <= self.policy.alpha

    def _better(self, c: Comparison) -> bool:
        return c.votes and c.gain > c.margin and c.p_adjusted <= self.policy.alpha

    def _declining(self, voters: Sequence[Comparison], *, without_noise: bool) -> list[Comparison]:
        """Return the metrics without signal whose score declines significantly, and by more than the tolerated loss.

        Such a metric has no vote, but the decline contradicts that it is unaffected. The test is one-sided at alpha without
        adjustment, as for non-inferiority.

        Args:
            voters: primary metrics and guardrails.
            without_noise: whether the estimate alone counts if the noise is unknown.
        """
        silent = [c for c in voters if c.signal == "no signal"]
        beyond = [c for c in silent if c.gain < -(c.margin if c.role == "guardrail" else 0.0)]
        return [c for c in beyond if c.p / 2 <= self.policy.alpha or (without_noise and math.isnan(c.p))]

    def _within_margin(self, c: Comparison) -> bool:
        if self.joint is not None and c.task != JOINT:
            return fits(c, self.policy.alpha)
        return c.votes and c.p_noninferior <= self.policy.alpha

    def _passed(self, within: Sequence[Comparison]) -> list[Reason]:
        """State that the guardrails stay within their margins: one reason for each, or one for all."""
        if self.joint is None:
            return [*map(explanations.within_margin, within)]
        return [joint_reason(self.joint, self.policy)]

    def _not_shown(self, waiting: Sequence[Comparison]) -> list[Reason]:
        """State why metrics are undecided, with one reason for all guardrails that are tested jointly."""
        if self.joint is None:
            return explanations.undecided(waiting, self.policy)
        if self.joint.holds or not self.joint.known:
            return explanations.undecided(waiting, self.policy)
        others = [c for c in waiting if c.role != "guardrail" or not c.votes]
        return [*explanations.undecided(others, self.policy), joint_reason(self.joint, self.policy)]


def _arm(results: ResultsTable, mix: str, missing: Mapping[str, Sequence[Reason]] | None) -> explanations.ArmSeeds:
    return explanations.ArmSeeds(mix, tuple(results.seeds_by_mix.get(mix, ())), tuple((missing or {}).get(mix, ())))
