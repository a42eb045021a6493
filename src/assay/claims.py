"""What would have to be shown of a change for an ACCEPT or a REJECT, and how likely a design is to show it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from assay.compare import Comparison
from assay.stats.power import power_with_seeds
from assay.suite import Policy


class Claim(NamedTuple):
    """Something that would have to be shown of one metric, if its effect is what it looks like.

    Attributes:
        comparison: of the metric.
        says: in words.
        sign: 1 where a gain speaks for it, -1 where a loss does.
        offset: what is added to the gain, so counted, to give the distance from the bar that is tested.
        tail: level of the test.
    """

    comparison: Comparison
    says: str
    sign: int
    offset: float
    tail: float

    @property
    def distance(self) -> float:
        """How far the effect lies beyond the bar; below 0 on the wrong side of it."""
        return self.sign * self.comparison.gain + self.offset

    def chance(self, n_seeds: int, *, effect: float = 1.0, noise: float = 1.0) -> float:
        """The chance that so many seeds show it, with the effect and the noise so many times what they are."""
        c = self.comparison
        distance, sd = self.sign * c.gain * effect + self.offset, noise_of(c) * noise
        if not (distance > 0 and sd > 0):
            return 0.0
        prior = max(c.noise_df - (c.n_seeds - 1), 0.0) if math.isfinite(c.noise_df) else 0.0
        return power_with_seeds(
            distance, n_seeds=n_seeds, noise=sd, tail=self.tail, item_variance=c.item_variance, prior_df=prior
        )


Chance = Callable[[Claim], float]


def noise_of(c: Comparison) -> float:
    """The SD of a comparison's paired differences that its interval rests on."""
    return c.noise_moderated if math.isfinite(c.noise_moderated) else c.noise


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What would make an ACCEPT, and what a REJECT.

    Attributes:
        better: primaries that would have to be shown to be better: one of them, or all.
        held: guardrails that would all have to be shown to hold; None where one of them, or a primary that has to, cannot vote.
        worse: each would be a REJECT.
        require: of `better`.
    """

    better: tuple[Claim, ...]
    held: tuple[Claim, ...] | None
    worse: tuple[Claim, ...]
    require: Literal["any", "all"]

    @property
    def every(self) -> tuple[Claim, ...]:
        """All of them, whichever verdict they would carry."""
        return (*self.better, *(self.held or ()), *self.worse)

    def accept(self, chance: Chance) -> float:
        """At least this is the chance of an ACCEPT (Bonferroni): what is lacking of each claim's adds up."""
        if self.held is None:
            return 0.0
        lacking = [1 - chance(claim) for claim in self.better]
        if lacking and self.require == "any":
            lacking = [min(lacking)]
        return max(0.0, 1 - sum(lacking) - sum(1 - chance(claim) for claim in self.held))

    def reject(self, chance: Chance) -> float:
        """At least this is the chance of a REJECT."""
        return max(map(chance, self.worse), default=0.0)

    def decide(self, chance: Chance) -> float:
        """At least this is the chance of either."""
        return max(self.accept(chance) if self.better else 0.0, self.reject(chance))

    def shown(self, chance: Chance) -> str:
        """Which claims those would be, in words."""
        if self.worse and self.reject(chance) >= self.accept(chance):
            return max(self.worse, key=chance).says
        better = (max(self.better, key=chance),) if self.better and self.require == "any" else self.better
        guards = len(self.held or ())
        held = [f"{guards} guardrail{'s' * (guards != 1)} hold{'s' * (guards == 1)}"] if guards else []
        return " and ".join([*(claim.says for claim in better), *held])


def by_seeds(n_seeds: int) -> Chance:
    """The chance that so many seeds show a claim."""
    return lambda claim: claim.chance(n_seeds)


def claims(comparisons: Sequence[Comparison], policy: Policy, *, at_target: bool = False) -> Claims:
    """What would have to be shown of the metrics with a say.

    Args:
        comparisons: one candidate's.
        policy: what judges it.
        at_target: whether the target decides in the place of the primaries.
    """
    voters = [c for c in comparisons if c.votes]
    primaries = [c for c in voters if c.role == "primary"]
    guards = [c for c in comparisons if c.role == "guardrail" and c.signal != "no signal"]
    better = policy.alpha / 2 / (len(primaries) if policy.require == "any" else 1) if primaries else math.nan
    worse = policy.alpha / 2 / max(len(voters), 1)
    named = [c for c in comparisons if c.role == "primary" and c.signal != "no signal"]
    # Where all primaries have to improve, one that cannot vote keeps an ACCEPT away.
    complete = bool(primaries) and (policy.require == "any" or len(named) == len(primaries))
    losers = [c for c in voters if not at_target or c.role == "guardrail"]
    return Claims(
        better=()
        if at_target
        else tuple(Claim(c, f"{c.task} {c.metric} is better", 1, -c.margin, better) for c in primaries),
        held=tuple(Claim(c, f"{c.task} {c.metric} holds", 1, c.margin, policy.alpha) for c in guards)
        if all(c.votes for c in guards) and (at_target or complete)
        else None,
        worse=tuple(
            Claim(c, f"{c.task} {c.metric} is worse", -1, -(c.margin if c.role == "guardrail" else 0.0), worse)
            for c in losers
        ),
        require=policy.require,
    )
