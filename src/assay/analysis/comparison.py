"""The effect of one change on one metric, with its interval, p-values and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from assay.analysis.claims import ClaimResult, claim, in_seed_sds, relative_to_baseline
from assay.analysis.stats import signal
from assay.analysis.stats.sweep_model import Pairing
from assay.analysis.stats.tables import Seed
from assay.config.aggregate import MARGINS, SEED_SDS
from assay.config.metrics import Better
from assay.config.suite import Role
from assay.core.serde import json_shape


@json_shape(add=("claim", "p_claim", "effect_percent", "effect_sds", "noninferiority_bound"))
@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Candidate against baseline on one metric of one task.

    Values are in the metric's own unit. Unknown values are NaN, never 0.

    Attributes:
        candidate: name of the changed mix.
        baseline: name of the mix to compare with.
        task: name of the task in the suite, or `validation/<source>` for a source's held-out split.
        metric: name of the metric, such as `acc` or `bits_per_byte`.
        role: `primary`, `guardrail` or `monitor`. Only primary metrics and guardrails can vote.
        better: the direction of improvement; None if unknown, for monitors only.
        margin: the policy's margin, in the metric's unit; 0 for monitors.
        effect: mean of the candidate minus mean of the baseline, over the shared seeds, or over all seeds of each arm if
            `pairing` is `unpaired`.
        ci_low: lower end of the effect's interval.
        ci_high: upper end of the effect's interval.
        level: the interval's nominal coverage, 1 - alpha.
        p: two-sided p-value for no effect. It is below alpha if and only if the interval excludes 0.
        p_adjusted: adjusted p-value. For voting metrics, it tests the claim in the effect's direction. For a primary,
            the claim is a gain beyond the margin, or any loss. For a guardrail, the claim is a loss beyond the margin.
            The p-value is doubled for the two directions and adjusted by Holm within its family. The claim holds if
            `p_adjusted` is at most alpha. `p_adjusted` is NaN for primaries and guardrails without a vote. For
            monitors, it is `p` adjusted by Benjamini and Hochberg over the candidate's monitors.
        p_noninferior: for guardrails, the one-sided p-value of the non-inferiority test. It is at most alpha if the
            candidate is non-inferior. NaN for other roles.
        baseline_mean: mean score of the baseline over the used seeds.
        candidate_mean: mean score of the candidate over the used seeds.
        n_seeds: number of paired seeds; for unpaired seeds, the number of seeds of the arm with fewer seeds.
        n_items: number of items or documents; None if unknown.
        noise: SD of the difference of two runs, as measured on this pair; NaN for one seed.
        noise_df: degrees of freedom of `noise_moderated`: the sum of `noise_sources`, unless items contribute.
        noise_moderated: SD of the difference of two runs behind the interval, from the pair, all arms of the sweep, and
            the history (see `assay.analysis.stats.sweep_model`).
        mde: minimum detectable effect at power 0.8, with alpha split among the primary metrics.
        signal: `ok`, `no signal` or `unknown`. A metric has no signal at chance level, or if past mixes differ too
            little. A metric without signal has no vote.
        signal_reason: a sentence with figures that explains `signal`.
        differences: candidate minus baseline by seed.
        item_variance: the effect's variance component from the choice of items; more seeds do not reduce it.
        votes: whether the gate uses the comparison.
        pairing: `paired` if both arms have equal seeds; `partial` if only the shared seeds are used; `unpaired` if the
            means over all seeds of each arm are compared.
        baseline_seeds: seeds of the baseline behind the effect.
        candidate_seeds: seeds of the candidate behind the effect.
        noise_sources: degrees of freedom of the noise by source: `pair`, `sweep` and `history`.
        noise_apart: whether the arms' noise differs from that of the other arms, so that only the pair's is used.
        noise_apart_arms: the arms whose noise differs.
        noise_between: whether the noise differs between the two arms, and not from that of other arms.
        noise_ratio: SD of this pair divided by the SD of the other arms of the sweep; NaN if unknown. If `noise_between`, SD of the
            noisier arm divided by the SD of the other one.
        history_ratio: SD of pair and sweep divided by the SD of the history; NaN without a history.
        q: `p` adjusted by Benjamini and Hochberg over all comparisons of the candidate. Among the comparisons with q at
            most x, the expected fraction of false discoveries is at most x.
        part_of: task of the aggregate that contains this metric; empty if none does.
        part_gain: the gain in the aggregate's unit, such as seed SDs; NaN outside an aggregate.
        loss_bound: for voting guardrails, the upper confidence bound of the loss at the one-sided level 1 - alpha.
        p_limit: under the policy's joint rule, the one-sided p-value of a loss of at least `guardrail_limit` margins.
    """

    candidate: str
    baseline: str
    task: str
    metric: str
    role: Role
    better: Better | None
    margin: float
    effect: float
    ci_low: float
    ci_high: float
    level: float
    p: float
    p_adjusted: float
    p_noninferior: float
    baseline_mean: float
    candidate_mean: float
    n_seeds: int
    n_items: int | None
    noise: float
    mde: float
    signal: signal.State
    signal_reason: str
    differences: dict[Seed, float] = field(hash=False)
    item_variance: float
    votes: bool
    q: float = math.nan
    noise_df: float = math.nan
    noise_moderated: float = math.nan
    pairing: Pairing = "paired"
    baseline_seeds: tuple[Seed, ...] = ()
    candidate_seeds: tuple[Seed, ...] = ()
    noise_sources: dict[str, float] = field(default_factory=dict, hash=False)
    noise_apart: bool = False
    noise_apart_arms: tuple[str, ...] = ()
    noise_between: bool = False
    noise_ratio: float = math.nan
    history_ratio: float = math.nan
    part_of: str = ""
    part_gain: float = math.nan
    loss_bound: float = math.nan
    p_limit: float = math.nan

    @property
    def gain(self) -> float:
        """The effect with its sign set so that an improvement is positive; NaN if the direction is unknown."""
        if self.better is None:
            return math.nan
        return self.effect if self.better == "higher" else -self.effect

    @property
    def spread(self) -> float:
        """The measured noise, or the noise of past runs for one seed; NaN if unknown."""
        return self.noise_moderated if math.isnan(self.noise) else self.noise

    @property
    def noninferiority_bound(self) -> float:
        """For voting guardrails, the one-sided confidence bound of the effect toward a loss, at `level`; NaN for other roles.

        The candidate is non-inferior if and only if the bound is within the margin.
        """
        return -self.loss_bound if self.better == "higher" else self.loss_bound

    @property
    def claim(self) -> str:
        """The claim of the verdict about this comparison (see `assay.analysis.claims`)."""
        return self._claim.name

    @property
    def p_claim(self) -> float:
        """The p-value of the claim, the one that sentences and tables show; NaN without a vote."""
        return self._claim.p

    @property
    def _claim(self) -> ClaimResult:
        return claim(
            role=self.role,
            votes=self.votes,
            gain=self.gain,
            margin=self.margin,
            alpha=1 - self.level,
            p_adjusted=self.p_adjusted,
            p_noninferior=self.p_noninferior,
            p_limit=self.p_limit,
        )

    @property
    def effect_percent(self) -> float:
        """The effect in percent of the baseline's mean; NaN for a mean of 0, as in means of standardized scores."""
        if self.metric in (SEED_SDS, MARGINS):
            return math.nan
        return relative_to_baseline(self.effect, self.baseline_mean)

    @property
    def effect_sds(self) -> float:
        """The effect in SDs of the paired differences between seeds (`noise_moderated`); NaN if unknown."""
        return in_seed_sds(self.effect, self.noise_moderated)
