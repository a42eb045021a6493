"""Compute the probability that a design shows the claims behind an ACCEPT or a REJECT."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from assay.analysis.comparison import Comparison
from assay.analysis.joint_guardrails import tested_margin
from assay.analysis.stats.power import power_with_seeds
from assay.config.aggregate import JOINT
from assay.config.policy import Policy
from assay.config.reason import Code, Reason


class Claim(NamedTuple):
    """A claim about one metric that a verdict requires, evaluated at the estimated effect.

    Attributes:
        comparison: comparison of the metric.
        code: kind of the claim.
        sign: 1 if a gain supports the claim, -1 if a loss does.
        offset: added to the signed gain to get the distance from the tested bound.
        tail: level of the one-sided test.
    """

    comparison: Comparison
    code: Code
    sign: int
    offset: float
    tail: float

    @property
    def reason(self) -> Reason:
        """The claim as a reason."""
        return Reason(code=self.code, subject=self.comparison.task, metric=self.comparison.metric)

    @property
    def distance(self) -> float:
        """Distance of the effect beyond the tested bound; negative on the wrong side."""
        return self.sign * self.comparison.gain + self.offset

    def chance(self, n_seeds: int, *, effect: float = 1.0, noise: float = 1.0) -> float:
        """Return the probability that `n_seeds` seeds show the claim.

        Args:
            n_seeds: number of replicates of each mix.
            effect: factor of the estimated effect.
            noise: factor of the estimated noise.
        """
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
    """Return the SD of paired differences behind a comparison's interval: the moderated SD, if known."""
    return c.noise_moderated if math.isfinite(c.noise_moderated) else c.noise


@dataclass(frozen=True, kw_only=True)
class Claims:
    """The claims that an ACCEPT requires, and the claims that cause a REJECT.

    Attributes:
        better: claims that a primary metric is better. An ACCEPT requires one or all of these claims, as `require` states.
        guardrails: claims that a guardrail stays within its margin. An ACCEPT requires all of them. None if a guardrail or a
            required primary metric cannot vote.
        worse: claims that a metric is worse. Each of them causes a REJECT.
        require: whether an ACCEPT requires any or all claims of `better`.
    """

    better: tuple[Claim, ...]
    guardrails: tuple[Claim, ...] | None
    worse: tuple[Claim, ...]
    require: Literal["any", "all"]

    @property
    def all(self) -> tuple[Claim, ...]:
        """All claims, for either verdict."""
        return (*self.better, *(self.guardrails or ()), *self.worse)

    def accept(self, chance: Chance) -> float:
        """Return a lower bound on the probability of an ACCEPT (Bonferroni over the claims)."""
        if self.guardrails is None:
            return 0.0
        misses = [1 - chance(claim) for claim in self.better]
        if misses and self.require == "any":
            misses = [min(misses)]
        return max(0.0, 1 - sum(misses) - sum(1 - chance(claim) for claim in self.guardrails))

    def reject(self, chance: Chance) -> float:
        """Return a lower bound on the probability of a REJECT."""
        return max(map(chance, self.worse), default=0.0)

    def decide(self, chance: Chance) -> float:
        """Return a lower bound on the probability of an ACCEPT or a REJECT."""
        return max(self.accept(chance) if self.better else 0.0, self.reject(chance))

    def expected_claims(self, chance: Chance) -> tuple[Reason, ...]:
        """Return the claims that the more probable verdict would show."""
        if self.worse and self.reject(chance) >= self.accept(chance):
            return (max(self.worse, key=chance).reason,)
        better = (max(self.better, key=chance),) if self.better and self.require == "any" else self.better
        guards = sum(claim.comparison.task != JOINT for claim in self.guardrails or ())
        within = (Reason(code=Code.CLAIM_GUARDRAILS_HOLD, figures={"guardrails": guards}),) if guards else ()
        return (*(claim.reason for claim in better), *within)


def chance_with_seeds(n_seeds: int) -> Chance:
    """Return the function from a claim to its power with `n_seeds` seeds."""
    return lambda claim: claim.chance(n_seeds)


def deciding_primaries(comparisons: Sequence[Comparison], policy: Policy) -> list[Comparison]:
    """Return the primary metrics on which an ACCEPT depends: the aggregate alone, if one significant metric suffices."""
    primaries = [c for c in comparisons if c.role == "primary"]
    if policy.aggregate is None or policy.require == "all":
        return primaries
    return [c for c in primaries if c.task == policy.aggregate.task]


def list_claims(comparisons: Sequence[Comparison], policy: Policy, *, at_target: bool = False) -> Claims:
    """List the claims about voting metrics that a verdict requires.

    Args:
        comparisons: one candidate's comparisons.
        policy: the policy that decides.
        at_target: whether the target decides instead of the primary metrics.
    """
    voters = [c for c in comparisons if c.votes]
    primaries = deciding_primaries(voters, policy)
    guards = [c for c in comparisons if c.role == "guardrail" and c.signal != "no signal"]
    better = policy.alpha / 2 / (len(primaries) if policy.require == "any" else 1) if primaries else math.nan
    worse = policy.alpha / 2 / max(len(voters), 1)
    named = [c for c in comparisons if c.role == "primary" and c.signal != "no signal"]
    # If all primary metrics must improve, one that cannot vote prevents an ACCEPT.
    complete = bool(primaries) and (policy.require == "any" or len(named) == len(primaries))
    losers = [c for c in voters if c.task != JOINT and (not at_target or c.role == "guardrail")]
    return Claims(
        better=() if at_target else tuple(Claim(c, Code.CLAIM_BETTER, 1, -c.margin, better) for c in primaries),
        guardrails=tuple(Claim(c, Code.CLAIM_HOLDS, 1, tested_margin(c, policy), policy.alpha) for c in guards)
        if all(c.votes for c in guards) and (at_target or complete)
        else None,
        worse=tuple(
            Claim(c, Code.CLAIM_WORSE, -1, -(c.margin if c.role == "guardrail" else 0.0), worse) for c in losers
        ),
        require=policy.require,
    )
