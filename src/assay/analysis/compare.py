"""Compare candidates with a baseline, metric by metric.

A comparison is the effect of one change on one metric. The gate combines the comparisons into a verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.analysis.adjusted_tests import adjust_tests, smallest_levels
from assay.analysis.aggregate import AggregatedTables, with_aggregate
from assay.analysis.comparison import Comparison
from assay.analysis.stats import signal
from assay.analysis.stats.evaluation_columns import require_equal_chance
from assay.analysis.stats.history import (
    HistoryTable,
    past_signal_by_metric,
    ranges_by_metric,
)
from assay.analysis.stats.item_table import ItemTable, PairedItems
from assay.analysis.stats.joint_mean import MEAN, joint_table
from assay.analysis.stats.moderated import ALONE
from assay.analysis.stats.paired import NEGLIGIBLE, Estimate, Part, among_items, crossed, over_seeds
from assay.analysis.stats.past_scores import ValueRange
from assay.analysis.stats.results_table import ResultsTable
from assay.analysis.stats.score_table import Scores, ScoreTable
from assay.analysis.stats.signal import PastSignal, Signal
from assay.analysis.stats.sweep_model import PairNoise, SeedPrior
from assay.analysis.stats.sweep_noise import SweepNoise, seed_priors_by_metric
from assay.analysis.stats.tables import Metric, Seed, seed_order, with_proxy_scale
from assay.analysis.stats.units import DECLARE, find_gap
from assay.config.aggregate import is_aggregate
from assay.config.metrics import FRACTIONS, is_loss, without_filter
from assay.config.policy import Criterion, Policy
from assay.core.errors import ConfigError, Damaged, NotFound, Refused, did_you_mean

if TYPE_CHECKING:
    import pandas as pd


def compare(
    results: pd.DataFrame | ResultsTable,
    policy: Policy,
    *,
    baseline: str,
    items: pd.DataFrame | ItemTable | None = None,
    candidates: Sequence[str] | None = None,
    history: pd.DataFrame | HistoryTable | None = None,
    n_candidates: int | None = None,
) -> list[Comparison]:
    """Compare mixes with a baseline on every metric that both have.

    The comparisons are those of `assay.analysis.gate.gate` on the same tables: with the alpha of the final verdict, with the
    target's metric as primary if the policy names no other and there is no history, and with a history that excludes
    only the two compared mixes, except for the noise, which excludes all mixes of `results`.

    Effects are paired by seed, because the arms of a seed share the initial weights and the order of shared documents. Arms
    with different seeds are compared by their means. The variance comes from all comparable mixes of `results`. With
    `items`, effects are also paired by item, and the interval applies to new items of the same kind. Without `items`,
    the interval applies to the evaluated items only and is narrower (see `assay.analysis.stats.paired`).

    Args:
        results: one row per `mix, seed, task, metric` with its `value`; `scale`, `tokens`, `n`, `stderr` and `chance` optional.
        policy: the voting metrics, with margins and alpha.
        baseline: the mix to compare with.
        items: one row per `mix, seed, task, metric, item` with its `value`; `group` and `weight` optional.
        candidates: the mixes to compare, in this order (default: all but the baseline).
        history: results of other mixes with replicates at the proxy scale. Their noise moderates the variances if it
            agrees with the results.
        n_candidates: as for `assay.analysis.gate.gate`: the number of candidates among which a policy with
            `candidates: all` divides alpha (default: the number of compared mixes).

    Returns:
        By candidate: primaries and guardrails in the policy's order, then monitors by task and metric.

    Raises:
        AssayError: the tables are invalid (see `assay.analysis.stats.tables`), or lack a mix or a metric
            of the policy.
    """
    results = ResultsTable.of(results)
    if policy.candidates == "all" and n_candidates is None:
        n_candidates = len(candidates) if candidates is not None else _count_others(results, policy, str(baseline))
    policy = policy.for_candidates(n_candidates or 1).at_the_end
    effective = policy if history is not None else with_primary_of_target(policy, results)
    return compare_arms(
        results, effective, baseline=baseline, items=items, candidates=candidates, history=history, refuse_broken=True
    )


def compare_arms(
    results: pd.DataFrame | ResultsTable,
    policy: Policy,
    *,
    baseline: str,
    items: pd.DataFrame | ItemTable | None = None,
    candidates: Sequence[str] | None = None,
    history: pd.DataFrame | HistoryTable | None = None,
    refuse_broken: bool = False,
) -> list[Comparison]:
    """Compare mixes like `compare`, but remove the vote of metrics with scores that are not finite.

    Args:
        results: as for `compare`.
        policy: as for `compare`.
        baseline: as for `compare`.
        items: as for `compare`.
        candidates: as for `compare`.
        history: as for `compare`.
        refuse_broken: whether to refuse scores of voting metrics that are not finite.
    """
    results = ResultsTable.of(results)
    baseline, policy = str(baseline), with_proxy_scale(policy, results.frame)
    compared = None if candidates is None else [baseline, *map(str, candidates)]
    results, items = results.averaged(policy.average.last, items, required=compared)
    if history is not None:
        history = results.fitting(HistoryTable.of(history), baseline=baseline, scale=policy.proxy_scale)
    aggregated = with_aggregate(results, history, policy, baseline=baseline)
    results, history, policy = aggregated.results, aggregated.history, aggregated.policy
    table, item_table = results.scores_at(policy.proxy_scale), None if items is None else ItemTable.of(items)
    table.require(baseline, "baseline")
    names = [*map(str, candidates)] if candidates is not None else [m for m in table.mixes if m != baseline]
    _require_margins(policy, results)
    if history is not None:
        history = HistoryTable.of(history)
        results.require_units_of(history)
    noise = sweep_noise(results, policy, baseline=baseline, candidates=names, history=history)
    scale = policy.proxy_scale if policy.proxy_scale is not None else results.first_scale
    comparisons: list[Comparison] = []
    for candidate in names:
        table.require(candidate, "candidate")
        if candidate == baseline:
            raise ConfigError(
                f"mix {baseline!r} is both baseline and candidate; expected two different mixes.",
                fix="Name another candidate.",
            )
        table.require_same_budget(baseline, candidate)
        table.require_same_settings(baseline, candidate)
        # Only the two compared mixes are excluded, so that the history of a pair is the same with any other candidates.
        others: dict[str, Any] = {"proxy_scale": scale, "without": [baseline, candidate]}
        pair = _Pair(
            results=table,
            items=item_table,
            policy=policy,
            baseline=baseline,
            candidate=candidate,
            noise=noise,
            past_signals={} if history is None else past_signal_by_metric(history, **others),
            past_ranges={} if history is None else ranges_by_metric(history, **others),
            refuse_broken=refuse_broken,
            aggregated=aggregated,
        )
        comparisons += pair.comparisons()
    return comparisons


def _count_others(results: ResultsTable, policy: Policy, baseline: str) -> int:
    """Return the number of mixes at the proxy scale, without the baseline."""
    rows = results.rows_at(with_proxy_scale(policy, results.frame).proxy_scale)
    return sum(str(mix) != baseline for mix in rows["mix"].unique())


def with_primary_of_target(policy: Policy, results: ResultsTable) -> Policy:
    """Return the policy with the target's metric as primary, if it names no primary metric and the results have this metric."""
    target = policy.target
    if (
        policy.primary
        or policy.aggregate is not None
        or target is None
        or (target.task, target.metric) not in results.metrics
    ):
        return policy
    primary = Criterion(task=target.task, metric=target.metric, better=target.better)
    guardrails = tuple(c for c in policy.guardrails if (c.task, c.metric) != (target.task, target.metric))
    return replace(policy, primary=(primary,), guardrails=guardrails)


def sweep_noise(
    results: ResultsTable,
    policy: Policy,
    *,
    baseline: str,
    candidates: Sequence[str],
    history: pd.DataFrame | HistoryTable | None = None,
) -> SweepNoise:
    """Return the noise of comparisons with a baseline; the arguments are those of `compare`."""
    table, priors = results.scores_at(policy.proxy_scale), dict[Metric, SeedPrior]()
    if history is not None:
        scale = policy.proxy_scale if policy.proxy_scale is not None else results.first_scale
        # The sweep's own arms would count twice.
        without = {baseline, *candidates, *table.mixes}
        priors = seed_priors_by_metric(history, proxy_scale=scale, without=without)
    levels = smallest_levels(policy.alpha, policy.primary, policy.guardrails)
    return SweepNoise(table, baseline, priors, min_seeds=policy.min_seeds, levels=levels)


LARGEST_MARGIN = 0.1
"""Smallest margin that is refused for values that were converted from percent: it was probably meant in percentage points."""


def _require_margins(policy: Policy, results: ResultsTable) -> None:
    """Refuse margins that are in percent although the values are fractions.

    Raises:
        ConfigError: names the criterion.
    """
    converted = {
        (named["task"], named["metric"])
        for reason in results.conversions
        if reason.figures["unit"] == "percent" and "column" not in reason.figures
        for named in reason.figures["metrics"]
    }
    for criterion in (*policy.primary, *policy.guardrails):
        in_percent = (criterion.task, criterion.metric) in converted
        if not in_percent and without_filter(criterion.metric) not in FRACTIONS:
            continue
        most = LARGEST_MARGIN if in_percent else 1.0
        if criterion.margin >= most:
            because = ", because the table is in percent and its values were converted" if in_percent else ""
            raise ConfigError(
                f"policy {policy.name!r}: margin {criterion.margin:g} of {criterion.task} {criterion.metric} is invalid;"
                f" expected a fraction below {most:g}{because}.",
                fix="Write the margin as a fraction of 1: 0.01 is one percentage point.",
            )


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """A candidate with its baseline."""

    results: ScoreTable
    items: ItemTable | None
    policy: Policy
    baseline: str
    candidate: str
    noise: SweepNoise
    past_signals: Mapping[Metric, PastSignal]
    past_ranges: Mapping[Metric, ValueRange]
    refuse_broken: bool
    aggregated: AggregatedTables

    def comparisons(self) -> list[Comparison]:
        """Compare all metrics and adjust for multiplicity."""
        measured = [self._measure(task, metric) for task, metric in self._metrics()]
        measured = self._with_joint_mean(self._with_parts(measured))
        return adjust_tests(measured, self.policy)

    def _with_parts(self, measured: list[tuple[Comparison, Estimate]]) -> list[tuple[Comparison, Estimate]]:
        """Measure the aggregate again with the item variance of its parts, and mark the parts."""
        own, members = self.aggregated.metric, set(self.aggregated.members)
        if own is None:
            return measured
        parts = {(c.task, c.metric): c for c, _ in measured if (c.task, c.metric) in members}
        silent = bool(parts) and all(c.signal == "no signal" for c in parts.values())
        complete = []
        for c, estimate in measured:
            if (c.task, c.metric) in parts:
                gain = self.aggregated.standardized_gain(c.task, c.metric, c.effect)
                complete.append((replace(c, part_of=own[0], part_gain=gain), estimate))
            elif (c.task, c.metric) == own:
                items = {
                    (part.task, part.metric): _item_part(known)
                    for part, known in measured
                    if (part.task, part.metric) in parts and part.item_variance > 0
                }
                final, adjusted = self._measure(*own, adjust=partial(self.aggregated.adjust, items=items))
                if silent:
                    reason = "none of its tasks has signal"
                    final = replace(final, signal="no signal", signal_reason=reason, votes=False)
                complete.append((final, adjusted))
            else:
                complete.append((c, estimate))
        return complete

    def _with_joint_mean(self, measured: list[tuple[Comparison, Estimate]]) -> list[tuple[Comparison, Estimate]]:
        """Insert the mean of the guardrails with signal before the guardrails, if the policy tests them jointly."""
        known = [(c, own) for c, own in measured if c.role == "guardrail" and c.signal != "no signal"]
        guards = [c for c, _ in known]
        if self.policy.guardrail_rule == "each" or not guards:
            return measured
        criteria = [c for c in self.policy.guardrails if (c.task, c.metric) in {(g.task, g.metric) for g in guards}]
        table = joint_table(self.results, criteria, baseline=self.baseline, mixes=self._joint_arms(guards))
        if table is None or self.candidate not in table.mixes:
            return measured
        level = {(MEAN.task, MEAN.metric): self.policy.alpha}
        noise = SweepNoise(table, self.baseline, {}, min_seeds=self.policy.min_seeds, levels=level)
        pair = replace(self, results=table, items=None, noise=noise, policy=replace(self.policy, guardrails=(MEAN,)))
        items = [(g, _item_part(own)) for g, own in known if g.item_variance > 0]
        # Metrics of one task share its items, so that their SDs are added. The items of different tasks are independent.
        by_task: dict[str, float] = {}
        for g, part in items:
            by_task[g.task] = by_task.get(g.task, 0.0) + math.sqrt(part.variance) / g.margin
        variance = math.fsum(sd**2 for sd in by_task.values()) / len(guards) ** 2

        def adjust(estimate: Estimate) -> Estimate:
            if not estimate.parts or not items:
                return estimate
            return estimate._replace(parts=(*estimate.parts, Part(variance, min(part.df for _, part in items))))

        mean = pair._measure(MEAN.task, MEAN.metric, adjust=adjust)  # noqa: SLF001 - the same class
        place = next(i for i, (c, _) in enumerate(measured) if c.role == "guardrail")
        return [*measured[:place], mean, *measured[place:]]

    def _joint_arms(self, guards: Sequence[Comparison]) -> list[str]:
        """Return the mixes whose scores of all guardrails are comparable with the baseline's, in the table's order."""
        arms = [set(self.noise.model((g.task, g.metric), self.candidate).arms) for g in guards]
        return [mix for mix in self.results.mixes if all(mix in own for own in arms)]

    def _metrics(self) -> list[tuple[str, str]]:
        both = set(self.results.metrics(self.baseline)) & set(self.results.metrics(self.candidate))
        voters = [(c.task, c.metric) for c in (*self.policy.primary, *self.policy.guardrails)]
        every = self.results.every_metric
        for task, metric in voters:
            if (task, metric) not in every:
                hint = did_you_mean(f"{task} {metric}", [" ".join(pair) for pair in every])
                raise NotFound(
                    f"policy {self.policy.name!r} names {task} {metric}, but no run has this score. {hint}",
                    fix="Evaluate the runs with this metric, or remove the metric from the policy.",
                )
        return [*voters, *sorted(both - set(voters))]

    def _measure(
        self, task: str, metric: str, *, adjust: Callable[[Estimate], Estimate] = lambda estimate: estimate
    ) -> tuple[Comparison, Estimate]:
        role, criterion = self.policy.criterion(task, metric)
        a, b = (self.results.scores(mix, task, metric) for mix in (self.baseline, self.candidate))
        votes = role != "monitor"
        broken = self._broken(task, metric, a, b) if votes else ""
        if votes or without_filter(metric) in FRACTIONS:
            self._require_one_unit(task, metric, a, b)
        if None not in (a.n_items, b.n_items) and a.n_items != b.n_items:
            raise Refused(
                f"{task} {metric}: {self.baseline} answered {a.n_items} items and {self.candidate} answered {b.n_items}.",
                fix="Evaluate both mixes with one version of the suite.",
            )
        require_equal_chance(task, metric, {self.baseline: a.chance, self.candidate: b.chance})
        noise = self.noise.compare(self.candidate, (task, metric))
        used = self._used_seeds(a, b, noise)
        if noise.pairing == "unpaired":
            self.results.require_even_seeds(dict(zip((self.baseline, self.candidate), used, strict=True)))
        n_seeds = min(map(len, used))
        paired = None
        if self.items is not None and n_seeds:
            scores, arms = (a.by_seed, b.by_seed), {"baseline": self.baseline, "candidate": self.candidate}
            paired = self.items.paired(scores, task, metric, seeds=used[0], candidate_seeds=used[1], **arms)
        estimate, doubt = _estimate(metric, a, b, used=used, paired=paired, noise=noise)
        if n_seeds == 1:
            doubt = _single_doubt(noise, self.noise.priors.get((task, metric)))
        doubt = broken or doubt
        estimate = adjust(estimate)
        self._require_fractions(task, metric, a, b)
        current = self._signal(task, metric, a, b) if n_seeds else Signal("unknown", "the arms share no seed")
        combined = signal.with_past(
            current, self.past_signals.get((task, metric)), n_seeds=n_seeds, guards=role == "guardrail"
        )
        interval = estimate.interval(1 - self.policy.alpha)
        enough = n_seeds >= self.policy.min_seeds
        comparison = Comparison(
            candidate=self.candidate,
            baseline=self.baseline,
            task=task,
            metric=metric,
            role=role,
            better=self.policy.direction(task, metric),
            margin=criterion.margin if criterion else 0.0,
            effect=estimate.effect,
            ci_low=interval.low,
            ci_high=interval.high,
            level=interval.level,
            p=estimate.p_two_sided(),
            p_adjusted=math.nan,
            p_noninferior=math.nan,
            baseline_mean=_mean(a, used[0]),
            candidate_mean=_mean(b, used[1]),
            n_seeds=n_seeds,
            n_items=estimate.n_items,
            noise=estimate.noise,
            mde=math.nan,
            signal="unknown" if broken or (doubt and combined.state == "ok") else combined.state,
            signal_reason=doubt if doubt and (broken or combined.state != "no signal") else combined.reason,
            differences={seed: b.by_seed[seed] - a.by_seed[seed] for seed in noise.shared},
            noise_df=estimate.parts[0].df if estimate.parts else math.nan,
            noise_moderated=_sd_of_two_runs(estimate, used),
            item_variance=estimate.parts[1].variance if len(estimate.parts) > 1 else 0.0,
            pairing=noise.pairing,
            baseline_seeds=tuple(used[0]),
            candidate_seeds=tuple(used[1]),
            noise_sources={"pair": noise.own_df, "sweep": noise.sweep_df, "history": noise.history_df},
            noise_apart=noise.apart,
            noise_apart_arms=noise.apart_arms,
            noise_between=noise.between,
            noise_ratio=noise.ratio,
            history_ratio=noise.history_ratio,
            votes=votes and combined.state != "no signal" and enough and bool(estimate.parts) and not broken,
        )
        return comparison, estimate

    def _signal(self, task: str, metric: str, a: Scores, b: Scores) -> Signal:
        """Return whether the baseline is above chance level. The chance level and the items are equal in both arms."""
        if is_aggregate(task):
            return signal.aggregate_signal()
        items = None if self.items is None else self.items.of_arm(a.by_seed, task, metric, mix=self.baseline)
        current = signal.signal_of_baseline(
            metric,
            [*a.by_seed.values()],
            chance=a.chance if a.chance is not None else b.chance,
            n_items=a.n_items if a.n_items is not None else b.n_items,
            items=items,
        )
        if is_loss(metric) or (a.chance is None) == (b.chance is None):
            return current
        recorded = self.candidate if a.chance is None else self.baseline
        return current._replace(reason=f"{current.reason}; only the runs of {recorded} record the chance level")

    def _used_seeds(self, a: Scores, b: Scores, noise: PairNoise) -> tuple[list[Seed], list[Seed]]:
        """Return the seeds of baseline and candidate behind the effect, in the table's order."""
        if noise.pairing == "unpaired":
            return sorted(a.by_seed, key=seed_order), sorted(b.by_seed, key=seed_order)
        return [*noise.shared], [*noise.shared]

    def _broken(self, task: str, metric: str, a: Scores, b: Scores) -> str:
        """Return the scores of a voting metric that are not finite; empty if all scores are finite."""
        parts = []
        for mix, scores in ((self.baseline, a), (self.candidate, b)):
            for seed, value in scores.broken.items():
                if self.refuse_broken:
                    raise Damaged(
                        f"{task} {metric} of {mix} seed {seed}: {value} is invalid; expected a finite number.",
                        fix="Evaluate the run again, or remove its row, so that the seed counts as missing.",
                    )
                parts.append(f"the score of {mix} seed {seed} is {value}")
        return ", ".join(parts)

    def _require_fractions(self, task: str, metric: str, a: Scores, b: Scores) -> None:
        """Refuse values above 1 with a chance level. They are in percent, and nothing declares it."""
        if (a.chance is None and b.chance is None) or is_loss(metric):
            return
        largest = max((*a.by_seed.values(), *b.by_seed.values()), default=0.0)
        if largest > 1:
            raise Refused(
                f"{task} {metric} is {largest:g} and has a chance level; expected a fraction of 1.", fix=DECLARE
            )

    def _require_one_unit(self, task: str, metric: str, a: Scores, b: Scores) -> None:
        """Refuse values of a metric that appear to be in percent and in fractions (see `assay.analysis.stats.units`)."""
        if is_aggregate(task) or is_loss(metric) or (a.unit is not None and b.unit is not None):
            return
        n_items = a.n_items if a.n_items is not None else b.n_items
        values = np.array([*a.by_seed.values(), *b.by_seed.values()], dtype=float)
        gap = find_gap(values, n_items)
        if gap is not None:
            places = [self._place(value, a, b) for value in gap]
            raise Refused(
                f"{task} {metric} is {gap[0]:g} for {places[0]} and {gap[1]:g} for {places[1]}, a factor of"
                f" {gap[1] / gap[0]:.0f}: percent and fractions appear to be mixed.",
                fix=DECLARE,
            )
        past = self.past_ranges.get((task, metric))
        if past is not None and past.is_apart(values):
            raise Refused(
                f"{task} {metric} is {values.min():g} to {values.max():g} for {self.baseline} and {self.candidate}, but"
                f" {past.low:g} to {past.high:g} in the history: percent and fractions appear to be mixed.",
                fix=DECLARE,
            )

    def _place(self, value: float, a: Scores, b: Scores) -> str:
        seed = a.seed_of(value)
        return f"{self.candidate} seed {b.seed_of(value)}" if seed is None else f"{self.baseline} seed {seed}"


def _estimate(
    metric: str,
    a: Scores,
    b: Scores,
    *,
    used: tuple[list[Seed], list[Seed]],
    paired: PairedItems | None,
    noise: PairNoise,
) -> tuple[Estimate, str]:
    """Estimate the effect with the variance of the sweep. Also return why its noise is unknown, or an empty text."""
    n_items = a.n_items if a.n_items is not None else b.n_items
    n_seeds = min(map(len, used))
    if not n_seeds:
        return Estimate(math.nan, (), math.nan, 0, n_items), "the arms share no seed"
    arms = [[scores.by_seed[seed] for seed in seeds] for scores, seeds in zip((a, b), used, strict=True)]
    scale = max(abs(value) for values in arms for value in values)
    if noise.pairing == "unpaired" or n_seeds == 1:
        estimate = _by_means(noise, n_seeds, paired)
        estimate = estimate if paired is not None else estimate._replace(n_items=n_items)
        constant = noise.own_df > 0 and noise.own_sd <= NEGLIGIBLE * scale
        if constant:
            estimate = estimate._replace(parts=())
    elif paired is not None:
        estimate = crossed(
            paired.candidate - paired.baseline, weights=paired.weights, clusters=paired.clusters, scale=scale
        )
    else:
        estimate = over_seeds(np.subtract(arms[1], arms[0]), scale=scale)._replace(n_items=n_items)
    if n_seeds < 2:
        return estimate, ""
    if not estimate.parts:
        return (
            estimate,
            f"the {n_seeds} seeds differ by the same amount to the last digit, which leaves their noise unknown",
        )
    for name, values in zip(("baseline", "candidate"), arms, strict=True):
        # Accuracies move in steps of one item and may coincide; losses of independent runs never do.
        if is_loss(metric) and max(values) - min(values) <= NEGLIGIBLE * scale:
            reason = f"the {name} has an equal score for all {len(values)} seeds, as copies of one run would"
            return estimate._replace(parts=()), reason
    if noise.pairing != "unpaired" and noise.sweep_df + noise.history_df > 0:
        estimate = estimate._replace(parts=(Part(noise.variance, noise.df), *estimate.parts[1:]))
    return estimate, ""


def _by_means(noise: PairNoise, n_seeds: int, paired: PairedItems | None) -> Estimate:
    """Estimate the difference of two arms' means, with the items' variance between the arms' mean items.

    The items' part also contains the noise of runs on each item, which makes the sum conservative.
    """
    n_items = None if paired is None else paired.baseline.shape[1]
    measured = noise.own_sd if n_seeds > 1 else math.nan
    if not noise.df > 0:
        return Estimate(noise.effect, (), measured, n_seeds, n_items)
    item_part = None
    if paired is not None:
        means = paired.candidate.mean(axis=0) - paired.baseline.mean(axis=0)
        item_part = among_items(means, weights=paired.weights, clusters=paired.clusters)
    seed_part = Part(noise.variance, noise.df)
    parts = (seed_part,) if item_part is None else (seed_part, item_part)
    return Estimate(noise.effect, parts, measured, n_seeds, n_items)


def _item_part(estimate: Estimate) -> Part:
    """Return the variance component of an effect from the choice of items, with the degrees of freedom of its clusters."""
    return estimate.parts[1]


def _single_doubt(noise: PairNoise, prior: SeedPrior | None) -> str:
    """Return why the noise of an arm with one seed is unknown; an empty text if it is known."""
    if noise.df > 0:
        return ""
    if noise.history_ratio > 0:
        return (
            "one seed shows no noise, and the history is not used, because the noise of the other seeds is"
            f" {noise.history_ratio:.2g} times that of the history"
        )
    seen = 0.0 if prior is None else prior.unpaired.seen
    known = f"the history's replicates provide {seen:g} of the {ALONE} degrees of freedom that this requires"
    return f"one seed shows no noise, and {known if seen else 'there is no history of replicates'}"


def _sd_of_two_runs(estimate: Estimate, used: tuple[list[Seed], list[Seed]]) -> float:
    """Return the SD of the difference of two runs from the variance of the difference of two means; NaN if unknown."""
    if not estimate.parts:
        return math.nan
    return math.sqrt(2 * estimate.parts[0].variance / sum(1 / len(seeds) for seeds in used))


def _mean(scores: Scores, seeds: list[Seed]) -> float:
    return sum(scores.by_seed[seed] for seed in seeds) / len(seeds) if seeds else math.nan
