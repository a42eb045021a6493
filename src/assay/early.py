"""Looks at candidates that still train: who can be stopped, at which error rate, and how often such a signal held to the end.

A look is a verdict of the gate on scores at one share of the token budget, at the share of alpha that was fixed for it (see
`assay.stats.sequential`). So over all looks and the verdict at the end a change without any effect gets a wrong verdict with probability
alpha at most, however often and for whatever reason somebody looks.

What that guarantees is about the tokens that were looked at: a difference that is called there is one there. That it lasts is
not guaranteed by any interval, as curves drift and some cross. Two things speak of the end, and both need a history: how often past
signals of this size held (`assay.stats.held`), below which the policy may forbid to stop; and, where the policy has a target, the
verdict itself, which then foretells the target from past mixes' scores at the same share of their budget.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from assay.errors import AssayError, did_you_mean
from assay.gate import Decision, Verdict, decide
from assay.stats.frames import SCORE_KEY, Metric, Seed, scale_key, seed_order, with_columns, with_proxy_scale
from assay.stats.held import NEAR, Held, how_often
from assay.stats.sequential import TOLERANCE, ConfidenceSequence, over_looks, schedule
from assay.suite import Averaging, Criterion, Early, Policy

if TYPE_CHECKING:
    import pandas as pd

    from assay.compare import Comparison
    from assay.stats.sequential import Schedule

Outcome = Literal["winner", "loser", "open"]


class Advice(StrEnum):
    """What to do with a candidate that still trains."""

    WINNER = "STOP as winner"
    LOSER = "STOP as loser"
    GO_ON = "GO ON"
    ENDED = "ENDED"


@dataclass(frozen=True, kw_only=True)
class LookedAt:
    """One look.

    Attributes:
        share: of the budget, as the policy has it.
        tokens: that were really trained; NaN where nothing was scored there yet.
        alpha: the look's own.
        verdict: the gate's at these tokens; None where it cannot be judged yet.
        outcome: what the verdict says of the candidate at these tokens.
        held: of the primary metrics, and what else carries the outcome: how often such a signal held to the end.
        waiting: why there is no verdict yet, or why an outcome stops nobody; empty where there is no such reason.
    """

    share: float
    tokens: float = math.nan
    alpha: float
    verdict: Verdict | None = None
    outcome: Outcome = "open"
    held: tuple[Held, ...] = ()
    waiting: str = ""

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "share": self.share,
            "tokens": None if math.isnan(self.tokens) else self.tokens,
            "alpha": self.alpha,
            "outcome": self.outcome,
            "waiting": self.waiting,
            "held": [one.to_mapping() for one in self.held],
            "verdict": None if self.verdict is None else self.verdict.to_mapping(),
        }


@dataclass(frozen=True, kw_only=True)
class Look:
    """Everything that looks at one candidate came to.

    Attributes:
        candidate: the changed mix.
        baseline: what it was measured against.
        budget_tokens: of a run.
        early: the policy's rule of stopping.
        alpha: of all looks and the verdict at the end together.
        looks: every look that counts, in order; the last is the end.
    """

    candidate: str
    baseline: str
    budget_tokens: float
    early: Early
    alpha: float
    looks: tuple[LookedAt, ...]

    @cached_property
    def stopped(self) -> LookedAt | None:
        """The first look that stops the candidate under the policy; later ones do not take it back."""
        wanted = {"none": (), "losers": ("loser",), "both": ("loser", "winner")}[self.early.stop]
        return next((one for one in self.looks[:-1] if one.outcome in wanted and not one.waiting), None)

    @property
    def advice(self) -> Advice:
        """What to do: the first look that stops decides, then whether it has trained to the end."""
        if self.stopped is not None:
            return Advice.LOSER if self.stopped.outcome == "loser" else Advice.WINNER
        return Advice.ENDED if self.looks[-1].verdict is not None else Advice.GO_ON

    @property
    def latest(self) -> LookedAt | None:
        """The last look that there is a verdict of."""
        return next((one for one in reversed(self.looks) if one.verdict is not None), None)

    @property
    def together(self) -> float:
        """The error of all intervals together. Where nobody is stopped, the verdict at the end has alpha for itself."""
        return self.alpha * self.early.spend if self.early.stop == "none" else self.alpha

    def sequences(self) -> dict[Metric, ConfidenceSequence]:
        """Always-valid intervals of every metric that may vote, over the looks so far."""
        found: dict[Metric, list[tuple[LookedAt, Comparison]]] = {}
        for one in self.looks[:-1] if self.early.stop == "none" else self.looks:
            for c in one.verdict.comparisons if one.verdict is not None else ():
                if c.role != "monitor":
                    found.setdefault((c.task, c.metric), []).append((one, c))
        return {
            metric: over_looks(
                [one.tokens for one, _ in seen],
                [c for _, c in seen],
                [one.alpha / self.together for one, _ in seen],
                level=1 - self.together,
            )
            for metric, seen in found.items()
        }

    def sentences(self) -> tuple[str, ...]:
        """What was seen and what it means, the most important first."""
        return (*_said(self), _guarantee(self))

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "candidate": self.candidate,
            "baseline": self.baseline,
            "advice": str(self.advice),
            "stop": self.early.stop,
            "budget_tokens": self.budget_tokens,
            "sentences": list(self.sentences()),
            "looks": [one.to_mapping() for one in self.looks],
            "intervals": {
                f"{task} {metric}": {
                    name: [None if isinstance(v, float) and not math.isfinite(v) else v for v in values]
                    for name, values in found._asdict().items()
                    if name != "level"
                }
                | {"level": found.level}
                for (task, metric), found in self.sequences().items()
            },
        }


def look(
    frame: pd.DataFrame,
    policy: Policy,
    *,
    baseline: str,
    candidate: str,
    budget_tokens: float,
    history: pd.DataFrame | None = None,
    past: pd.DataFrame | None = None,
    seeds: Collection[Seed] | None = None,
) -> Look:
    """Look at a candidate that still trains.

    A look counts once for each of the policy's shares of the budget: with the first scores at or after that share that both arms
    have of every replicate. Until then it waits, as a look at whoever is first would be another look.

    Args:
        frame: long results of the two arms with `tokens`, several for a run.
        policy: what the gate requires; `early` has the looks and who may be stopped.
        baseline: the mix to measure against.
        candidate: the changed mix.
        budget_tokens: what a run is trained on in all.
        history: as for `assay.gate.decide`, with `tokens`, several for a run: each look learns from the past at its share.
        past: where to count how often signals held; long results with several `tokens` for a run. Left out, `history`.
        seeds: the replicates that are to be waited for; left out, those of either arm in the table.

    Raises:
        AssayError: a table cannot be judged as it is, a mix is not in it, or it was trained on more than the budget.
    """
    rows = with_columns(frame, [*SCORE_KEY, "tokens", "value"], "results")
    baseline, candidate, policy = str(baseline), str(candidate), with_proxy_scale(policy, rows)
    if policy.proxy_scale is not None and "scale" in rows and rows["scale"].notna().any():
        rows = rows[rows["scale"].map(scale_key) == scale_key(policy.proxy_scale)]
    for mix, what in ((baseline, "baseline"), (candidate, "candidate")):
        if mix not in set(rows["mix"]):
            raise AssayError(f"the {what} {mix!r} has no results. {did_you_mean(mix, sorted(set(rows['mix'])))}")
    rows = rows[rows["mix"].isin([baseline, candidate])]
    if rows["tokens"].max() > budget_tokens * (1 + TOLERANCE):
        raise AssayError(
            f"runs were trained on {rows['tokens'].max():,.0f} tokens, more than the budget of {budget_tokens:,.0f}.",
            fix="Give the budget that the runs have.",
        )
    case = _Looking(
        rows=rows,
        policy=policy,
        baseline=baseline,
        candidate=candidate,
        budget=float(budget_tokens),
        history=history,
        past=past if past is not None else history,
        seeds=frozenset(seeds if seeds is not None else rows["seed"]),
    )
    return Look(
        candidate=candidate,
        baseline=baseline,
        budget_tokens=float(budget_tokens),
        early=policy.early,
        alpha=policy.alpha,
        looks=tuple(case.looks()),
    )


@dataclass(frozen=True, kw_only=True)
class _Looking:
    """One candidate, its baseline, and what is known of the past."""

    rows: pd.DataFrame
    policy: Policy
    baseline: str
    candidate: str
    budget: float
    history: pd.DataFrame | None
    past: pd.DataFrame | None
    seeds: frozenset[Seed]

    @property
    def schedule(self) -> Schedule:
        return schedule(self.policy.early.looks, self.policy.early.spend)

    def looks(self) -> Iterator[LookedAt]:
        """Each of the policy's looks; the end has what the verdict at the end has."""
        plan = self.schedule
        for i, (share, weight) in enumerate(zip(plan.shares, plan.weights, strict=True)):
            at_end = i == len(plan.shares) - 1
            alpha = self.policy.at_the_end.alpha if at_end else self.policy.alpha * weight
            yield self._look(i, LookedAt(share=share, alpha=alpha))

    def _look(self, number: int, place: LookedAt) -> LookedAt:
        shares = self.rows["tokens"] / self.budget
        mine = self.rows[[self.schedule.look_at(share) == number for share in shares]]
        tokens, problem = self._first_complete(mine)
        if tokens is None:
            return replace(place, waiting=problem)
        # A policy that averages over the last checkpoints means those of the end; on the way there is one for each look.
        averaged = number == len(self.schedule.shares) - 1 and self.policy.average.last > 1
        rows = self.rows if averaged else mine[mine["tokens"] == tokens]
        return self._judged(rows, replace(place, tokens=tokens))

    def _first_complete(self, rows: pd.DataFrame) -> tuple[float | None, str]:
        """The first token count that every replicate of both arms has scores at; or who is missing."""
        if rows.empty:
            return None, "nothing was scored there yet"
        lacking: list[str] = []
        for tokens in sorted(rows["tokens"].unique()):
            there = rows[rows["tokens"] == tokens]
            lacking = [name for mix in (self.baseline, self.candidate) for name in self._lacking(there, mix)]
            if not lacking:
                return float(tokens), ""
        more = f" and {len(lacking) - 4} more" if len(lacking) > 4 else ""
        return None, f"waits for {', '.join(lacking[:4])}{more}"

    def _lacking(self, rows: pd.DataFrame, mix: str) -> list[str]:
        """Replicates of a mix that have no scores; the mix itself where none has."""
        left = self.seeds - set(rows.loc[rows["mix"] == mix, "seed"])
        return [mix] if left == self.seeds else [f"{mix} seed {seed}" for seed in sorted(left, key=seed_order)]

    def _judged(self, rows: pd.DataFrame, place: LookedAt) -> LookedAt:
        policy, blind = self._policy(rows, place.alpha)
        share = place.tokens / self.budget
        history, lacking = self._history(share)
        if policy is None:
            return replace(place, waiting="no primary metric was scored there")
        verdict = decide(rows, policy, baseline=self.baseline, candidate=self.candidate, history=history)
        outcome = _outcome(verdict)
        waiting = ""
        if outcome == "winner" and blind:
            waiting = f"{', '.join(f'{c.task} {c.metric}' for c in blind)} was not scored there, and has to hold"
        if outcome != "open" and lacking:
            waiting = lacking
        held = self._held(verdict, outcome, share)
        if outcome != "open" and not waiting:
            waiting = self._not_sure_enough(held, verdict, outcome)
        return replace(place, verdict=verdict, outcome=outcome, held=held, waiting=waiting)

    def _policy(self, rows: pd.DataFrame, alpha: float) -> tuple[Policy | None, list[Criterion]]:
        """The policy at this look's alpha, of what was scored there; and what was not."""
        there = set(zip(rows["task"], rows["metric"], strict=True))
        blind = [c for c in (*self.policy.primary, *self.policy.guardrails) if (c.task, c.metric) not in there]
        primary = tuple(c for c in self.policy.primary if c not in blind)
        if not primary and (self.policy.primary or self.policy.target is None):
            return None, blind
        guardrails = tuple(c for c in self.policy.guardrails if c not in blind)
        policy = replace(self.policy, primary=primary, guardrails=guardrails, alpha=alpha, early=Early())
        return policy if len(set(rows["tokens"])) > 1 else replace(policy, average=Averaging()), blind

    def _history(self, share: float) -> tuple[pd.DataFrame | None, str]:
        """The history with the judged scale's runs as they were at this share of their budget; and what it lacks for the target."""
        if self.history is None:
            return None, ""
        if "tokens" in self.history:
            near = _at_share(self.history, share, scale=self._scale)
        else:
            near = self.history if share >= 1 - TOLERANCE else self.history[:0]
        if self.policy.target is None or not near.empty:
            return (near if not near.empty else None), ""
        return (
            None,
            f"the history has no scores near {share:.0%} of the budget to foretell {self.policy.target.scale} from",
        )

    @property
    def _scale(self) -> Any:
        if self.policy.proxy_scale is not None or "scale" not in self.rows:
            return self.policy.proxy_scale
        return next(iter(self.rows["scale"].dropna()), None)

    def _held(self, verdict: Verdict, outcome: Outcome, share: float) -> tuple[Held, ...]:
        """How often the past's signals held, metric by metric."""
        if self.past is None or "tokens" not in self.past or share >= 1 - TOLERANCE:
            return ()
        asked = {(c.task, c.metric): c for c in verdict.comparisons if c.role == "primary"}
        asked |= {(c.task, c.metric): c for c in carrying(verdict, outcome)}
        return tuple(
            how_often(
                self.past,
                task=task,
                metric=metric,
                share=share,
                effect=c.effect,
                noise=c.noise / math.sqrt(2),
                scale=self._scale,
                without={self.baseline, self.candidate},
            )
            for (task, metric), c in asked.items()
        )

    def _not_sure_enough(self, held: Sequence[Held], verdict: Verdict, outcome: Outcome) -> str:
        """Why the past does not allow to stop, where the policy asks it."""
        least = self.policy.early.held
        carried = {(c.task, c.metric) for c in carrying(verdict, outcome)}
        asked = [one for one in held if (one.task, one.metric) in carried] or list(held)
        if least == 0:
            return ""
        if not asked:
            return f"the policy asks that {least:.0%} of past signals held, and there is no history"
        worst = min(asked, key=lambda one: -1.0 if math.isnan(one.held) else one.held)
        if worst.held >= least:
            return ""
        seen = worst.problem if math.isnan(worst.held) else f"{worst.held:.0%} of {worst.n_pairs} pairs did"
        return f"the policy asks that {least:.0%} of past signals like {worst.task} {worst.metric} held: {seen}"


def carrying(verdict: Verdict, outcome: Outcome) -> list[Comparison]:
    """The comparisons that an outcome rests on: what is shown to be better, or worse; none where the target decided."""
    alpha, found = 1 - min((c.level for c in verdict.comparisons), default=1.0), []
    for c in verdict.comparisons:
        bar = c.margin if (c.role == "guardrail") == (outcome == "loser") else 0.0
        gain = c.gain if outcome == "winner" else -c.gain
        shown = c.votes and gain > bar and c.p_adjusted <= alpha
        if outcome != "open" and shown and (outcome == "loser" or c.role == "primary"):
            found.append(c)
    return found


def _outcome(verdict: Verdict) -> Outcome:
    return {Decision.ACCEPT: "winner", Decision.REJECT: "loser"}.get(verdict.decision, "open")  # type: ignore[return-value]  # mypy widens the literals


def _at_share(history: pd.DataFrame, share: float, *, scale: Any) -> pd.DataFrame:
    """Past runs of the judged scale at the checkpoint nearest to a share of their budget, others at their last one."""
    import pandas as pd

    if "scale" in history and scale is not None:
        near = history["scale"].map(scale_key) == scale_key(scale)
    else:
        near = history["tokens"].notna()
    key = [name for name in ("mix", "seed", "scale") if name in history]
    last = history.groupby(key, dropna=False)["tokens"].transform("max")
    distance = (history["tokens"] / last - share).abs()
    nearest = distance.groupby([history[name] for name in key], dropna=False).transform("min")
    early: pd.DataFrame = history[near & (distance == nearest) & (nearest <= NEAR * share)]
    return early if early.empty else pd.concat([early, history[~near & (history["tokens"] == last)]])


def _said(found: Look) -> Iterator[str]:
    """The advice in words, and what the past says to it."""
    shown = found.stopped or found.latest
    if shown is None:
        waiting = next((one for one in found.looks if one.waiting), None)
        yield f"Nothing to look at yet: at {waiting.share:.0%} of the budget {waiting.waiting}." if waiting else ""
        return
    assert shown.verdict is not None, "a look that stops, or the latest with a verdict"
    where = f"{shown.tokens / found.budget_tokens:.0%} of the budget ({shown.tokens:,.0f} tokens)"
    if found.stopped is not None:
        yield f"Stopped by the look at {where} as a {shown.outcome}."
    elif shown.outcome == "open":
        yield f"At {where} neither better nor worse is shown at this look's {shown.alpha:.2%} of error."
    elif shown is found.looks[-1]:
        yield f"Trained to the end: the verdict is {shown.verdict.decision}."
    else:
        why = shown.waiting or f"the policy stops {'nobody' if found.early.stop == 'none' else 'only losers'} early"
        yield f"A {shown.outcome} at {where}, but {why}."
    yield from shown.verdict.reasons[:3]
    for one in shown.held:
        yield one.sentence
    if not shown.held and shown is not found.looks[-1]:
        yield "How often such a signal holds to the end is not known: no history with several checkpoints a run is named."


def _guarantee(found: Look) -> str:
    return (
        f"Each interval is about the tokens of its look; all of them hold together with {1 - found.together:.0%}, however often"
        " somebody looks. That a difference lasts to the end is not part of that."
    )
