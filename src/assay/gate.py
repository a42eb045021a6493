"""The decision: comparisons and a policy in, a verdict with its reasons out.

ACCEPT
    A primary metric (or all, as the policy says) is better by more than its margin, none is worse, and every guardrail that
    has signal is shown to stay within its margin.
REJECT
    A primary metric is worse, or a guardrail is worse by more than its margin.
INCONCLUSIVE
    Neither was shown; what it would take is said.

Where the policy names a target and there is a history of other mixes at both scales, better and worse are those of the target, as
`assay.stats.target` foretells it: the primaries are then only shown, and the guardrails hold as before.

BLOCKED
    Something that was used is tainted. No figure changes that.

What "shown" means, and at which error rate, is in `assay.compare`. A metric at chance decides nothing: it neither carries an ACCEPT nor
stands in its way, and is listed. A guardrail whose noise is unknown does stand in its way: a guard that cannot see guards nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from assay import advice, reasons
from assay.compare import Comparison, compare
from assay.errors import AssayError, did_you_mean
from assay.stats.checkpoints import average_last
from assay.stats.frames import SCORE_KEY, Results, require_frame, seed_order, with_columns, with_proxy_scale
from assay.stats.target import TargetEffect, foretell
from assay.stats.transfer import Reliability
from assay.suite import Criterion, Policy

if TYPE_CHECKING:
    import pandas as pd

    from assay.registered import Standing


class Decision(StrEnum):
    """What the gate says."""

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


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The decision on one change.

    Attributes:
        candidate: the changed mix.
        baseline: what it was measured against.
        decision: ACCEPT, REJECT, INCONCLUSIVE or BLOCKED.
        reasons: sentences with names, figures and units, the most important first.
        comparisons: all that was measured, voting or not.
        needed: what it would take to decide; empty where it is decided.
        scope: what the verdict is about.
        options: the ways to decide with what each costs, where it is inconclusive; `needed` has them in words.
        target: what is foretold of the target; None without a target or a history.
        registration: how it stands to what was fixed before the results; None where nobody said.
    """

    candidate: str
    baseline: str
    decision: Decision
    reasons: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    needed: tuple[str, ...]
    scope: str
    options: tuple[advice.Option, ...] = ()
    target: TargetEffect | None = None
    registration: Standing | None = None

    @property
    def reliability(self) -> Reliability | None:
        """How often the proxy foretold the target's winner in the history; None where there is none to say."""
        return self.target.reliability if self.target else None

    @property
    def regressed(self) -> tuple[Comparison, ...]:
        """What falls by more than noise, at a false discovery rate of the policy's alpha; the worst, in units of noise, first."""
        clear = [c for c in self.comparisons if c.gain < 0 and c.q <= 1 - c.level]
        return tuple(sorted(clear, key=lambda c: c.gain / c.spread))

    @property
    def worst(self) -> Comparison | None:
        """What is lost most in units of noise, be it noise or not; None where noise is unknown."""
        known = [c for c in self.comparisons if c.spread > 0]
        return min(known, key=lambda c: c.gain / c.spread, default=None)

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "target": self.target.to_mapping() if self.target else None,
            "regressed": [f"{c.task} {c.metric}" for c in self.regressed],
            "worst": f"{self.worst.task} {self.worst.metric}" if self.worst else None,
            "verdict": str(self.decision),
            "candidate": self.candidate,
            "baseline": self.baseline,
            "reasons": list(self.reasons),
            "needed": list(self.needed),
            "options": [option.to_mapping() for option in self.options],
            "scope": self.scope,
            "registration": self.registration.to_mapping() if self.registration else None,
            "comparisons": [comparison.to_mapping() for comparison in self.comparisons],
        }


@dataclass(frozen=True, kw_only=True)
class SweepVerdict:
    """The decisions on all candidates of a sweep.

    Attributes:
        baseline: what they were measured against.
        policy: name of the policy.
        candidates: each one's verdict, by mix.
        note: what judging several at once means for the error rate; empty for one.
        registration: how it stands to what was fixed before the results; None where nobody said.
        missing: planned runs that are in none of the figures, by mix: which seeds, and why.
    """

    baseline: str
    policy: str
    candidates: dict[str, Verdict] = field(hash=False)
    note: str
    registration: Standing | None = None
    missing: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)

    def under(self, registration: Standing) -> SweepVerdict:
        """The same, saying how it stands to what was fixed before the results: by itself, and in each one's scope."""
        marked = {
            name: replace(one, registration=registration, scope=f"{one.scope}; {registration.state}")
            for name, one in self.candidates.items()
        }
        return replace(self, registration=registration, candidates=marked)

    @property
    def decision(self) -> Decision:
        """The worst of the candidates': BLOCKED, REJECT, INCONCLUSIVE, ACCEPT; so 0 as exit code means that all may be merged."""
        found = {verdict.decision for verdict in self.candidates.values()}
        return next(decision for decision in _WORST_FIRST if decision in found)

    @property
    def exit_code(self) -> int:
        """What `assay gate` exits with."""
        return EXIT_CODES[self.decision]

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "verdict": str(self.decision),
            "baseline": self.baseline,
            "policy": self.policy,
            "note": self.note,
            "registration": self.registration.to_mapping() if self.registration else None,
            "candidates": {name: verdict.to_mapping() for name, verdict in self.candidates.items()},
            "missing": {mix: list(why) for mix, why in self.missing.items()},
        }


def decide(
    results: pd.DataFrame,
    policy: Policy,
    *,
    baseline: str,
    candidate: str,
    history: pd.DataFrame | None = None,
    items: pd.DataFrame | None = None,
    blocked: Sequence[str] = (),
    missing: Mapping[str, Sequence[str]] | None = None,
    setting: advice.Setting | None = None,
) -> Verdict:
    """Judge one change.

    Args:
        results: one row for each `mix, seed, task, metric` with its `value` (see `assay.compare.compare`).
        policy: what the gate requires, fixed before the results were in.
        baseline: the mix to measure against.
        candidate: the changed mix.
        history: results of other mixes at the proxy's and the target's scale, with the same columns and `scale`. Rows of the judged
            mixes in it are left out.
        items: the questions behind the results, where known.
        blocked: why the change must not be judged by its figures, such as a finding in a source; sentences.
        missing: planned runs without a result, by mix: which seed, and what became of it, such as `seed 2 failed (diverged)`.
        setting: what a run costs, and past runs that show what more tokens or a larger proxy do: for what it would take to
            decide. Left out, tokens are the results' own, and the history is the past.

    Raises:
        AssayError: the tables cannot be judged as they are, or a name in the call or the policy is not in them.
    """
    require_frame(results, "results")
    if len(results):  # where all is blocked or nothing finished, there may not even be columns
        results = with_columns(results, [*SCORE_KEY, "value"], "results")
    if history is not None:
        history = with_columns(history, [*SCORE_KEY, "value"], "history")
    baseline, candidate = str(baseline), str(candidate)  # a mix may be called 7, as a number
    policy = with_proxy_scale(policy.at_the_end, results)
    results, items = average_last(results, policy.average.last, items=items)
    arms = (_arm(results, baseline, missing), _arm(results, candidate, missing))
    # A blocked change, or one whose runs all failed, may have nothing to compare: that is a verdict, not an error.
    empty = [arm for arm in arms if not arm.present and (blocked or arm.missing)]
    asked = policy if history is not None else _without_history(policy, results)
    target = None
    if history is not None and policy.target is not None and not (blocked or empty):
        target = foretell(results, policy, policy.target, history, baseline=baseline, candidate=candidate)
    found: tuple[Comparison, ...] = ()
    if not empty:
        found = tuple(compare(results, asked, items=items, history=history, baseline=baseline, candidates=[candidate]))
    if blocked:
        decision, why, needed = Decision.BLOCKED, list(blocked), list[str]()
    elif empty:
        decision, why = Decision.INCONCLUSIVE, [arm.too_few(policy.min_seeds) for arm in empty]
        needed = [f"{policy.min_seeds} finished seeds of each mix, the same seeds."]
    else:
        decision, why, needed = _Case(asked, found, arms, target).decide()
        judged = results[results["mix"].astype(str).isin([baseline, candidate])]
        why += Results(judged, scale=policy.proxy_scale).uneven_budgets(baseline, candidate)
    ways: tuple[advice.Option, ...] = ()
    if decision is Decision.INCONCLUSIVE and found:
        beside = advice.beside(results, asked, (baseline, candidate), setting, history=history)
        present = (len(arms[0].present), len(arms[1].present))
        ways = advice.options(found, asked, beside, target=target, present=present)
        told = [*map(reasons.option, ways)]
        needed = [*told, *needed] if target is not None else [*needed, *told]
    return Verdict(
        candidate=candidate,
        baseline=baseline,
        decision=decision,
        reasons=tuple(why),
        comparisons=found,
        needed=tuple(needed),
        scope=reasons.scope(policy, target),
        options=ways,
        target=target,
    )


def gate(
    results: pd.DataFrame,
    policy: Policy,
    *,
    baseline: str,
    candidates: Sequence[str],
    history: pd.DataFrame | None = None,
    items: pd.DataFrame | None = None,
    blocked: Mapping[str, Sequence[str]] | None = None,
    missing: Mapping[str, Sequence[str]] | None = None,
    setting: advice.Setting | None = None,
) -> SweepVerdict:
    """Judge every candidate of a sweep; the arguments are those of `decide`.

    Args:
        results: as for `decide`, of all mixes.
        policy: as for `decide`.
        baseline: as for `decide`.
        candidates: the changed mixes, at least one.
        history: as for `decide`.
        items: as for `decide`.
        blocked: reasons by mix; those of the baseline block every candidate.
        missing: as for `decide`.
        setting: as for `decide`.

    Raises:
        AssayError: as for `decide`; there is no candidate; `blocked` names a mix that is not judged.
    """
    blocked = blocked or {}
    if not candidates:
        raise AssayError("there is no candidate to judge.", fix="Name at least one mix besides the baseline.")
    for mix in blocked:
        if mix not in {baseline, *candidates}:
            raise AssayError(
                f"blocked names {mix!r}, which is not judged. {did_you_mean(mix, [baseline, *candidates])}"
            )
    verdicts = {
        candidate: decide(
            results,
            policy,
            baseline=baseline,
            candidate=candidate,
            history=history,
            items=items,
            blocked=[*blocked.get(baseline, ()), *blocked.get(candidate, ())],
            missing=missing,
            setting=setting,
        )
        for candidate in candidates
    }
    note = (
        ""
        if len(verdicts) == 1
        else (
            f"{len(verdicts)} candidates were judged, each with an error rate of {policy.alpha:.0%}: were none of them any"
            f" different from {baseline}, {len(verdicts) * policy.alpha:.2g} wrong verdicts were to be expected."
        )
    )
    return SweepVerdict(baseline=baseline, policy=policy.name, candidates=verdicts, note=note)


@dataclass(frozen=True)
class _Case:
    """One change before the gate."""

    policy: Policy
    comparisons: tuple[Comparison, ...]
    arms: tuple[reasons.Seeds, reasons.Seeds]
    target: TargetEffect | None = None

    def decide(self) -> tuple[Decision, list[str], list[str]]:
        """The decision, why, and what it would take."""
        if self.target is not None:
            return self._at_target(self.target)
        primaries = [c for c in self.comparisons if c.role == "primary"]
        guardrails = [c for c in self.comparisons if c.role == "guardrail"]
        worse = [c for c in (*primaries, *guardrails) if self._worse(c)]
        better = [c for c in primaries if self._better(c)]
        held = [c for c in guardrails if self._held(c)]
        aside = [reasons.silent(c) for c in (*primaries, *guardrails) if c.signal == "no signal"]
        survivors = [*reasons.falls(self.comparisons, self.policy.alpha), *reasons.survivors(self.arms)]
        if not primaries:
            why = ["The policy names no primary metric, and its target's was not measured at the proxy."]
            return (
                Decision.INCONCLUSIVE,
                [*why, *aside],
                ["A history of other mixes at both scales, or a primary metric."],
            )
        if worse:
            why = [*map(reasons.worse, worse), *map(reasons.better, better), *aside, *survivors]
            return Decision.REJECT, why, []
        enough = bool(better) if self.policy.require == "any" else len(better) == len(primaries)
        unsure = [c for c in primaries if c not in better and c.signal != "no signal"]
        # A guardrail at chance has nothing to say; one that was not measured well enough has, but could not.
        unguarded = [c for c in guardrails if c not in held and c.signal != "no signal"]
        if enough and not unguarded:
            also = reasons.undecided(unsure, self.policy)
            why = [*map(reasons.better, better), *map(reasons.held, held), *also, *aside, *survivors]
            return Decision.ACCEPT, why, []
        waiting = [*([] if enough else unsure), *unguarded]
        short = reasons.too_few_seeds(waiting, self.arms, self.policy)
        why = [*short, *reasons.undecided(waiting, self.policy), *map(reasons.better, better), *aside]
        why += [] if short else survivors
        mute = [c for c in primaries if c.signal == "no signal"]
        if len(mute) == len(primaries):
            why = ["No primary metric has signal at this proxy size: nothing can carry a decision.", *why]
        elif mute and self.policy.require == "all":
            why = [
                "The policy requires every primary metric to improve, and not all have signal at this proxy size.",
                *why,
            ]
        return Decision.INCONCLUSIVE, why, reasons.needed(waiting, self.comparisons, self.policy)

    def _at_target(self, target: TargetEffect) -> tuple[Decision, list[str], list[str]]:
        """The same where the target decides."""
        guardrails = [c for c in self.comparisons if c.role == "guardrail"]
        broken = [c for c in guardrails if self._worse(c)]
        held = [c for c in guardrails if self._held(c)]
        unguarded = [c for c in guardrails if c not in held and c.signal != "no signal"]
        told = reasons.foretold(target, baseline=self.arms[0].mix, candidate=self.arms[1].mix)
        aside = [reasons.silent(c) for c in guardrails if c.signal == "no signal"]
        aside += [*reasons.falls(self.comparisons, self.policy.alpha), *reasons.survivors(self.arms)]
        if broken or target.winner == "baseline":
            return Decision.REJECT, [*map(reasons.worse, broken), *told, *aside], []
        if target.winner == "candidate" and not unguarded:
            return Decision.ACCEPT, [*told, *map(reasons.held, held), *aside], []
        needed = [] if target.winner == "candidate" else reasons.target_needed(target, self.policy)
        needed += reasons.needed(unguarded, self.comparisons, self.policy) if unguarded else []
        return Decision.INCONCLUSIVE, [*told, *reasons.undecided(unguarded, self.policy), *aside], needed

    def _worse(self, c: Comparison) -> bool:
        bar = c.margin if c.role == "guardrail" else 0.0
        return c.votes and c.gain < -bar and c.p_adjusted <= self.policy.alpha

    def _better(self, c: Comparison) -> bool:
        return c.votes and c.gain > c.margin and c.p_adjusted <= self.policy.alpha

    def _held(self, c: Comparison) -> bool:
        return c.votes and c.p_noninferior <= self.policy.alpha


def _arm(results: pd.DataFrame, mix: str, missing: Mapping[str, Sequence[str]] | None) -> reasons.Seeds:
    rows = results[results["mix"].astype(str) == mix] if "mix" in results and "seed" in results else results[:0]
    present = rows["seed"].drop_duplicates().tolist() if len(rows) else []
    return reasons.Seeds(mix, tuple(sorted(present, key=seed_order)), tuple((missing or {}).get(mix, ())))


def _without_history(policy: Policy, results: pd.DataFrame) -> Policy:
    """The policy as it can be judged at the proxy alone: the target's metric stands in where no primary is named."""
    target = policy.target
    if policy.primary or target is None or not {"task", "metric"} <= set(results.columns):
        return policy
    if not ((results["task"] == target.task) & (results["metric"] == target.metric)).any():
        return policy
    stands_in = Criterion(task=target.task, metric=target.metric, better=target.better)
    guardrails = tuple(c for c in policy.guardrails if (c.task, c.metric) != (target.task, target.metric))
    return replace(policy, primary=(stands_in,), guardrails=guardrails)
