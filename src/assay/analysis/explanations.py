"""Build the reasons of a verdict. The package `report` renders the reasons as sentences.

Reasons state what comparisons show, why comparisons are undecided, and which further data would decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from assay.analysis.comparison import Comparison
from assay.analysis.decision_power import deciding_primaries, noise_of
from assay.analysis.joint_guardrails import tested_margin
from assay.analysis.next_steps import Option
from assay.analysis.stats.power import MOST_SEEDS, noise_at_most, seeds_needed
from assay.analysis.stats.tables import Seed
from assay.analysis.stats.target import TargetEffect
from assay.config.aggregate import JOINT
from assay.config.policy import Policy
from assay.config.reason import Code, Reason

EFFECT = ("effect", "ci_low", "ci_high", "level", "n_seeds")
"""Figures that every reason about an effect contains."""


@dataclass(frozen=True)
class ArmSeeds:
    """The replicates of a mix that have results, and the causes of the missing replicates."""

    mix: str
    present: tuple[Seed, ...]
    missing: tuple[Reason, ...]

    def too_few(self, required: int) -> Reason:
        """State that fewer replicates than the policy requires have results."""
        planned = max(required, len(self.present) + len(self.missing))
        figures = {"planned": planned, "present": len(self.present), "seeds": self.present}
        return Reason(code=Code.SEEDS_MISSING, subject=self.mix, figures=figures, causes=self.missing)


def statement(code: Code, c: Comparison, *names: str, **more: Any) -> Reason:
    """Build a reason about a comparison, with the named attributes of the comparison as figures."""
    figures = {name: getattr(c, name) for name in names} | more
    return Reason(code=code, subject=c.task, metric=c.metric, figures=figures)


def better(c: Comparison) -> Reason:
    """State that a primary metric improved."""
    return statement(Code.BETTER, c, *EFFECT, "margin", "p_adjusted")


def worse(c: Comparison) -> Reason:
    """State that a metric regressed."""
    return statement(Code.WORSE, c, *EFFECT, "role", "margin", "p_adjusted")


def within_margin(c: Comparison) -> Reason:
    """State that a guardrail stays within its margin."""
    return statement(Code.WITHIN_MARGIN, c, *EFFECT, "margin", "p_noninferior", "noninferiority_bound")


def no_signal(c: Comparison) -> Reason:
    """State that a metric at chance level has no vote."""
    return statement(Code.NO_SIGNAL, c, detail=c.signal_reason)


def declines_without_signal(c: Comparison) -> Reason:
    """State that a metric without signal declines by more than its margin."""
    return statement(Code.DECLINES_WITHOUT_SIGNAL, c, *EFFECT, "role", "margin", "p", detail=c.signal_reason)


def need_decline_examined(c: Comparison) -> Reason:
    """State what would explain the decline of a metric without signal."""
    return statement(Code.NEED_DECLINE_EXAMINED, c)


def undecided(waiting: Sequence[Comparison], policy: Policy) -> list[Reason]:
    """State why metrics are undecided, with one joint reason per insufficient seed count."""
    short = [c for c in waiting if c.n_seeds < policy.min_seeds]
    reasons = [_undecided(c) for c in waiting if c not in short]
    for n in sorted({c.n_seeds for c in short}):
        metrics = [_so_far(c) for c in short if c.n_seeds == n]
        figures = {"n_seeds": n, "min_seeds": policy.min_seeds, "metrics": metrics}
        reasons.append(Reason(code=Code.TOO_FEW_SHARED_SEEDS, figures=figures))
    return reasons


def _undecided(c: Comparison) -> Reason:
    if not c.votes:
        return statement(Code.NO_VOTE, c, detail=c.signal_reason)
    if c.role == "guardrail":
        return statement(Code.MARGIN_NOT_SHOWN, c, *EFFECT, "margin", "p_noninferior", "noninferiority_bound")
    return statement(Code.NOT_SIGNIFICANT, c, *EFFECT, "margin", "p_adjusted", "mde")


def _so_far(c: Comparison) -> dict[str, Any]:
    return {"task": c.task, "metric": c.metric, "effect": c.effect if c.n_seeds and c.role == "primary" else None}


def too_few_seeds(waiting: Sequence[Comparison], arms: Sequence[ArmSeeds], policy: Policy) -> list[Reason]:
    """State which seeds are missing, if that prevents a metric from voting."""
    short = [c for c in waiting if c.n_seeds < policy.min_seeds]
    if not short:
        return []
    few = [arm.too_few(policy.min_seeds) for arm in arms if len(arm.present) < policy.min_seeds]
    if few:
        return few
    first, second = arms
    shared = [seed for seed in first.present if seed in second.present]
    if len(shared) < policy.min_seeds:
        return [not_paired(first, second)]
    c = min(short, key=lambda c: c.n_seeds)
    return [statement(Code.NOT_SCORED_ON_BOTH, c, seeds=[seed for seed in shared if seed not in c.differences])]


def not_paired(first: ArmSeeds, second: ArmSeeds) -> Reason:
    """State that two mixes share too few seeds, although each mix has enough."""
    figures = {
        "baseline": first.mix,
        "candidate": second.mix,
        "baseline_seeds": first.present,
        "candidate_seeds": second.present,
        "shared": [seed for seed in first.present if seed in second.present],
    }
    return Reason(code=Code.SEEDS_NOT_PAIRED, subject=second.mix, figures=figures)


def excluded_runs(arms: Iterable[ArmSeeds]) -> list[Reason]:
    """State which runs the results exclude."""
    return [Reason(code=Code.RUNS_EXCLUDED, subject=arm.mix, causes=arm.missing) for arm in arms if arm.missing]


def needed(waiting: Sequence[Comparison], comparisons: Sequence[Comparison], policy: Policy) -> list[Reason]:
    """State the data that would decide, if effects and noise equal their estimates."""
    voters = [c for c in comparisons if c.votes]
    primaries = deciding_primaries(voters, policy)
    reasons = []
    signals = [c.signal for c in comparisons if c.role == "primary"]
    if signals and all(signal == "no signal" for signal in signals):
        reasons.append(Reason(code=Code.NEED_SIGNAL))
    if any(c.n_seeds < policy.min_seeds for c in waiting):
        reasons.append(need_seeds(policy.min_seeds))
    for c in waiting:
        if c.votes:
            tests = max(len(primaries), 1) if policy.require == "any" else 1
            margin = tested_margin(c, policy)
            reasons.append(_seeds_for(c, policy.alpha, margin, for_better=tests, for_worse=len(voters)))
        elif c.n_seeds >= policy.min_seeds:
            reasons.append(statement(Code.NEED_INDEPENDENT_RUNS, c, "n_seeds"))
    return reasons


def need_seeds(n_seeds: int, *, shared: bool = True) -> Reason:
    """State how many finished seeds each mix needs, and whether both arms share them."""
    return Reason(code=Code.NEED_SEEDS, figures={"n_seeds": n_seeds, "shared": shared})


def option(step: Option) -> Reason:
    """State a next step, with its cost and its power."""
    figures = {"runs": step.runs, "tokens": step.tokens, "worker_seconds": step.worker_seconds, "power": step.power}
    causes = (step.what,) if step.basis is None else (step.what, step.basis)
    return Reason(code=Code.OPTION, subject=step.kind, figures=figures, causes=causes)


def scope(policy: Policy, target: TargetEffect | None = None) -> tuple[Reason, ...]:
    """State the limits of a verdict: proxy or target, and the number of averaged checkpoints."""
    last = policy.average.last
    mean = (Reason(code=Code.SCOPE_CHECKPOINT_MEANS, figures={"last": last}),) if last > 1 else ()
    return (_scope(policy, target), *mean)


def _scope(policy: Policy, target: TargetEffect | None) -> Reason:
    if target is not None:
        code = Code.SCOPE_TARGET_UNKNOWN if target.problem else Code.SCOPE_TARGET
        return _on_target(code, target, **({"problem": target.problem} if target.problem else {}))
    if policy.target is None:
        return Reason(code=Code.SCOPE_PROXY)
    unanswered = policy.target
    return Reason(
        code=Code.SCOPE_PROXY, subject=unanswered.task, metric=unanswered.metric, figures={"scale": unanswered.scale}
    )


def _on_target(code: Code, target: TargetEffect, *names: str, **more: Any) -> Reason:
    figures = {"scale": target.scale} | {name: getattr(target, name) for name in names} | more
    return Reason(code=code, subject=target.task, metric=target.metric, figures=figures)


def predicted(target: TargetEffect, *, baseline: str, candidate: str) -> list[Reason]:
    """State the prediction at the target, its basis, and how often past predictions were correct."""
    return [_winner(target, baseline, candidate), *_ranking(target), *target.notes]


PREDICTION = (
    *("effect", "ci_low", "ci_high", "level", "proxy_effect", "predictor", "n_seeds"),
    *("p_noise", "noise_known", "chance_other", "allowed"),
)
"""Figures that every prediction at the target contains."""


def _winner(target: TargetEffect, baseline: str, candidate: str) -> Reason:
    if target.problem:
        return _on_target(Code.TARGET_UNKNOWN, target, "problem")
    if target.winner == "unknown":
        lead = candidate if target.gain > 0 else baseline
        return _on_target(Code.TARGET_NOT_SHOWN, target, *PREDICTION, mix=lead)
    if target.winner == "candidate":
        return _on_target(Code.TARGET_BETTER, target, *PREDICTION, mix=baseline)
    return _on_target(Code.TARGET_WORSE, target, *PREDICTION, mix=candidate)


def _ranking(target: TargetEffect) -> list[Reason]:
    past = target.reliability
    if past is None:
        return []
    return [_on_target(Code.TARGET_RANKING, target, accuracy=past.accuracy, n_pairs=past.n_pairs, n_mixes=past.n_mixes)]


def target_needed(target: TargetEffect, policy: Policy) -> list[Reason]:
    """State the data that would decide at the target."""
    if target.problem:
        enough = need_seeds(max(policy.min_seeds, 2), shared=False)
        return [enough if target.reliability and not target.misfit else Reason(code=Code.NEED_LARGER_HISTORY)]
    reasons = []
    if target.p_noise > policy.alpha and target.seeds is not None:
        reasons.append(_on_target(Code.NEED_SEEDS_AT_PROXY, target, "p_noise"))
    if target.best_chance > target.allowed:
        reasons.append(_on_target(Code.SEEDS_CANNOT_DECIDE_TARGET, target, "best_chance", "allowed"))
    if target.chance_other > target.allowed and target.predictor == f"{target.task} {target.metric}":
        reasons.append(_on_target(Code.NEED_NEARER_PROXY, target, "smallest", "proxy_effect"))
    elif target.chance_other > target.allowed:
        reasons.append(_on_target(Code.NEED_TARGET_METRIC, target))
    return reasons


def regressions(comparisons: Sequence[Comparison], alpha: float) -> list[Reason]:
    """State the worst regression and the number of regressions, which an average would hide."""
    losses = [c for c in comparisons if c.gain < 0 and c.spread > 0]
    significant = [c for c in losses if c.q <= alpha]
    if not significant:
        return []
    worst = min(significant, key=lambda c: c.gain / c.spread)
    counts = {"n_regressing": len(significant), "n_metrics": sum(c.task != JOINT for c in comparisons), "alpha": alpha}
    return [statement(Code.METRICS_REGRESS, worst, *EFFECT, **counts)]


def _seeds_for(c: Comparison, alpha: float, margin: float, *, for_better: int, for_worse: int) -> Reason:
    if c.role == "guardrail":
        claim, distance, tail = "holds", c.gain + margin, alpha
        if c.gain + c.margin <= 0:
            return statement(Code.WORSE_THAN_MARGIN_SO_FAR, c, "margin")
    elif c.gain < 0:
        claim, distance, tail = "worse", -c.gain, alpha / 2 / for_worse
    else:
        claim, distance, tail = "better", c.gain - c.margin, alpha / 2 / for_better
        if distance <= 0:
            return statement(Code.GAIN_BELOW_MARGIN_SO_FAR, c, "margin")
    estimated, prior_df = noise_of(c), max(c.noise_df - (c.n_seeds - 1), 0.0)
    likely, at_worst = (
        seeds_needed(
            distance, noise=noise, tail=tail, item_variance=c.item_variance, prior_df=prior_df, most=MOST_SEEDS
        )
        for noise in (estimated, noise_at_most(estimated, c.noise_df + 1))
    )
    if likely is None:
        items = c.item_variance > estimated**2 / c.n_seeds
        return statement(Code.SEEDS_DO_NOT_SUFFICE, c, most=MOST_SEEDS, items=items)
    likely = max(likely, c.n_seeds + 1)
    return statement(
        Code.NEED_SEEDS_TO_SHOW,
        c,
        "n_seeds",
        claim=claim,
        likely=likely,
        at_most=None if at_worst is None else max(at_worst, likely),
        most=MOST_SEEDS,
        noise=estimated,
    )
