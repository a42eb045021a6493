"""Candidate minus baseline, metric by metric: results and a policy in, named comparisons out.

One comparison answers one question about one change, and the gate adds them up. Which tests count together as a family
is decided here, as it has to agree with the `p_adjusted` that people see:

- *Better* (what ACCEPT rests on): the primaries' tests that the gain exceeds the margin, Holm over the primaries where
  any of them may carry the verdict. Where all have to, no adjustment is due, as all must pass (Berger 1982).
- *Worse* (what REJECT rests on): the primaries' tests that something is lost, and the guardrails' that more than the margin is;
  one of them is enough, so Holm over all that vote.
- *Not worse* (guardrails): that the loss stays within the margin, one-sided at alpha. All must pass: no adjustment.

Each of the first two takes half of alpha, so that a change without any effect gets a wrong verdict of either kind with
probability alpha at most. The family is one candidate's, not the sweep's: each verdict is on one change, and must not
turn when somebody adds another mix to the sweep. What that leaves for a sweep of many is said in `SweepVerdict`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from assay.errors import AssayError, did_you_mean
from assay.stats import multiplicity, power, signal
from assay.stats.checkpoints import average_last
from assay.stats.frames import Items, Metric, PairedItems, Results, Scores, Seed, require_frame, with_proxy_scale
from assay.stats.history import noise_by_metric, worth_by_metric
from assay.stats.moderated import ALONE, NOTHING, Prior, shrink
from assay.stats.paired import NEGLIGIBLE, Estimate, Part, among_items, crossed, over_seeds
from assay.stats.signal import LOSSES, Signal, Worth
from assay.suite import Policy, Role

if TYPE_CHECKING:
    import pandas as pd

Better = Literal["higher", "lower"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Candidate against baseline on one metric of one task.

    Figures are in the metric's own unit. What cannot be known is NaN, never 0.

    Attributes:
        candidate: name of the changed mix.
        baseline: name of the mix it is measured against.
        task: as in the suite; `validation/<source>` for a source's held-out split.
        metric: such as `acc` or `bits_per_byte`.
        role: `primary` and `guardrail` may vote, a `monitor` is only shown.
        better: the direction of improvement.
        margin: the policy's bar; 0 for monitors.
        effect: candidate minus baseline, mean over the shared seeds.
        ci_low: lower end of the effect's interval.
        ci_high: upper end.
        level: the interval's nominal coverage, 1 - alpha.
        p: two-sided p of no effect; below alpha exactly where the interval leaves out 0.
        p_adjusted: of those that vote, the p of the claim that the effect's direction allows (primary: better by more than
            the margin, or worse; guardrail: worse by more than the margin), doubled for two directions and adjusted by
            Holm within its family; at most alpha where the claim is made. NaN where it does not vote. Monitors: `p`
            by Benjamini and Hochberg, over the candidate's monitors.
        p_noninferior: guardrails: one-sided p that the loss exceeds the margin; at most alpha where it does not. Else NaN.
        baseline_mean: mean score of the baseline over the shared seeds.
        candidate_mean: mean score of the candidate over them.
        n_seeds: seeds that both arms have, paired.
        n_items: questions or documents; None where they are not known.
        noise: SD over seeds of the paired differences, as it was measured; NaN for one seed.
        noise_df: degrees of freedom behind the noise that the interval rests on: the shared seeds less one, and what the
            history's replicates count for, towards whose noise it is then drawn (see `assay.stats.moderated`).
        noise_moderated: the SD that the interval rests on: `noise`, drawn towards the history's where there is one.
        mde: effect that this design would find with probability 0.8, at alpha shared among the primaries.
        signal: `ok`, `no signal` (at chance, or by the history hardly any difference between mixes: decides nothing) or `unknown`.
        signal_reason: why, with figures.
        differences: candidate minus baseline by seed.
        item_variance: part of the effect's variance that comes from the choice of questions; more seeds do not reduce it.
        votes: whether the gate counts it.
        q: `p` by Benjamini and Hochberg over all of the candidate's comparisons: of those shown with q below a bound, on average
            at most that share is noise.
    """

    candidate: str
    baseline: str
    task: str
    metric: str
    role: Role
    better: Better
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

    @property
    def gain(self) -> float:
        """The effect, counted so that better is positive."""
        return self.effect if self.better == "higher" else -self.effect

    @property
    def spread(self) -> float:
        """The noise as it was measured; for one seed, that of past runs. NaN where neither is known."""
        return self.noise_moderated if math.isnan(self.noise) else self.noise

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON, where NaN is null."""
        plain = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in vars(self).items()
        }
        return {**plain, "differences": {str(seed): value for seed, value in self.differences.items()}}


def compare(
    results: pd.DataFrame,
    policy: Policy,
    *,
    baseline: str,
    items: pd.DataFrame | None = None,
    candidates: Sequence[str] | None = None,
    history: pd.DataFrame | None = None,
) -> list[Comparison]:
    """Compare mixes with a baseline on every metric that both have.

    Effects are paired by seed (the arms of a seed start from one initialisation and see shared documents in one order), and
    by question where `items` are given. Without items an interval is about these questions; with them, about
    questions of their kind, which is wider (see `assay.stats.paired`).

    Args:
        results: one row for each `mix, seed, task, metric` with its `value`; `scale`, `tokens`, `n`, `stderr` and `chance` where known.
        policy: what votes, with margins and alpha.
        baseline: the mix to measure against.
        items: one row for each `mix, seed, task, metric, item` with its `value`; `group` and `weight` where known.
        candidates: the mixes to judge, in this order; left out, all but the baseline.
        history: results of other mixes with replicates at the proxy scale: what they show of the noise is counted with these seeds.

    Returns:
        By candidate: primaries and guardrails in the policy's order, then monitors by task and metric.

    Raises:
        AssayError: the tables cannot be compared as they are (see `assay.stats.frames`), a mix is not in them, or a metric
            of the policy is not.
    """
    require_frame(results, "results")
    baseline, policy = str(baseline), with_proxy_scale(policy, results)
    results, items = average_last(results, policy.average.last, items=items)
    table, questions = Results(results, scale=policy.proxy_scale), Items(items)
    table.require(baseline, "baseline")
    judged = [*map(str, candidates)] if candidates is not None else [m for m in table.mixes if m != baseline]
    noise: dict[Metric, Prior] = {}
    worth: dict[Metric, Worth] = {}
    if history is not None:
        others = {"proxy_scale": _scale(results, policy), "without": [baseline, *judged]}
        noise, worth = noise_by_metric(history, **others), worth_by_metric(history, **others)
    found: list[Comparison] = []
    for candidate in judged:
        table.require(candidate, "candidate")
        if candidate == baseline:
            raise AssayError(f"{baseline!r} is both baseline and candidate.", fix="Name another candidate.")
        table.require_same_budget(baseline, candidate)
        table.require_same_questions(baseline, candidate)
        found += _Pair(table, questions, policy, baseline, candidate, noise, worth).comparisons()
    return found


@dataclass(frozen=True)
class _Pair:
    """One candidate and its baseline."""

    results: Results
    items: Items
    policy: Policy
    baseline: str
    candidate: str
    noise: Mapping[Metric, Prior]
    worth: Mapping[Metric, Worth]

    def comparisons(self) -> list[Comparison]:
        """All of them, adjusted for one another."""
        measured = [self._measure(task, metric) for task, metric in self._metrics()]
        return _adjusted(measured, self.policy)

    def _metrics(self) -> list[tuple[str, str]]:
        both = set(self.results.metrics(self.baseline)) & set(self.results.metrics(self.candidate))
        voters = [(c.task, c.metric) for c in (*self.policy.primary, *self.policy.guardrails)]
        every = {pair for mix in self.results.mixes for pair in self.results.metrics(mix)}
        for task, metric in voters:
            if (task, metric) not in every:
                hint = did_you_mean(f"{task} {metric}", [" ".join(pair) for pair in every])
                raise AssayError(
                    f"policy {self.policy.name!r} names {task} {metric}, which no run was scored on. {hint}"
                )
        return [*voters, *sorted(both - set(voters))]

    def _measure(self, task: str, metric: str) -> tuple[Comparison, Estimate]:
        role, criterion = self.policy.criterion(task, metric)
        a, b = (self.results.scores(mix, task, metric) for mix in (self.baseline, self.candidate))
        if role != "monitor":
            self._refuse_broken(task, metric, a, b)
        if None not in (a.n_items, b.n_items) and a.n_items != b.n_items:
            raise AssayError(
                f"{task} {metric}: {self.baseline} was asked {a.n_items} questions and {self.candidate} {b.n_items}.",
                fix="Evaluate both with one suite.",
            )
        seeds = [seed for seed in self.results.seeds(self.baseline) if seed in a.by_seed and seed in b.by_seed]
        paired = self.items.paired(
            self.results, task, metric, baseline=self.baseline, candidate=self.candidate, seeds=seeds
        )
        estimate, doubt = _estimate(metric, a, b, seeds, paired)
        prior = self.noise.get((task, metric), NOTHING)
        if len(seeds) == 1:
            estimate, doubt = _single(estimate, prior, paired)
        else:
            estimate = _moderated(estimate, prior)
        worth = signal.by_past(_signal(metric, a, b, paired), self.worth.get((task, metric)), n_seeds=len(seeds))
        interval = estimate.interval(1 - self.policy.alpha)
        enough = len(seeds) >= self.policy.min_seeds
        known = Comparison(
            candidate=self.candidate,
            baseline=self.baseline,
            task=task,
            metric=metric,
            role=role,
            better=criterion.better if criterion else ("lower" if metric in LOSSES else "higher"),
            margin=criterion.margin if criterion else 0.0,
            effect=estimate.effect,
            ci_low=interval.low,
            ci_high=interval.high,
            level=interval.level,
            p=estimate.p_two_sided(),
            p_adjusted=math.nan,
            p_noninferior=math.nan,
            baseline_mean=_mean(a, seeds),
            candidate_mean=_mean(b, seeds),
            n_seeds=len(seeds),
            n_items=estimate.n_items,
            noise=estimate.noise,
            mde=math.nan,
            signal="unknown" if doubt and worth.state == "ok" else worth.state,
            signal_reason=doubt if doubt and worth.state != "no signal" else worth.reason,
            differences={seed: b.by_seed[seed] - a.by_seed[seed] for seed in seeds},
            noise_df=estimate.parts[0].df if estimate.parts else math.nan,
            noise_moderated=math.sqrt(estimate.parts[0].variance * len(seeds)) if estimate.parts else math.nan,
            item_variance=estimate.parts[1].variance if len(estimate.parts) > 1 else 0.0,
            votes=role != "monitor" and worth.state != "no signal" and enough and bool(estimate.parts),
        )
        return known, estimate

    def _refuse_broken(self, task: str, metric: str, a: Scores, b: Scores) -> None:
        for mix, scores in ((self.baseline, a), (self.candidate, b)):
            for seed, value in scores.broken.items():
                raise AssayError(
                    f"{task} {metric} of {mix} seed {seed} is {value}: not a number to judge by.",
                    fix="Evaluate the run again, or leave its row out: its seed then counts as missing.",
                )


def _estimate(metric: str, a: Scores, b: Scores, seeds: list[Seed], paired: PairedItems | None) -> tuple[Estimate, str]:
    """The effect, and why its noise cannot be known, if so."""
    n_items = a.n_items if a.n_items is not None else b.n_items
    if not seeds:
        return Estimate(math.nan, (), math.nan, 0, n_items), "the arms share no seed"
    scale = max(abs(scores.by_seed[seed]) for scores in (a, b) for seed in seeds)
    if paired is not None:
        estimate = crossed(
            paired.candidate - paired.baseline, weights=paired.weights, clusters=paired.clusters, scale=scale
        )
    else:
        differences = [b.by_seed[seed] - a.by_seed[seed] for seed in seeds]
        estimate = over_seeds(differences, scale=scale)._replace(n_items=n_items)
    if len(seeds) < 2:
        return estimate, ""
    if not estimate.parts:
        return (
            estimate,
            f"the {len(seeds)} seeds differ by the same amount to the last digit: their noise cannot be seen",
        )
    for name, scores in (("baseline", a), ("candidate", b)):
        values = [scores.by_seed[seed] for seed in seeds]
        # Accuracies move in steps of one question and may coincide; losses of independent runs never do.
        if metric in LOSSES and max(values) - min(values) <= NEGLIGIBLE * scale:
            reason = f"the {name} has one and the same score for all {len(seeds)} seeds: are they copies of one run?"
            return estimate._replace(parts=()), reason
    return estimate, ""


def _single(estimate: Estimate, prior: Prior, paired: PairedItems | None) -> tuple[Estimate, str]:
    """The effect of one replicate with the noise that past runs show, and why that is not known, if so."""
    if not prior.stands_alone:
        known = f"the history's replicates give it {prior.seen:g} of the {ALONE} degrees of freedom that takes"
        return estimate, f"one seed shows no noise, and {known if prior.seen else 'no history of replicates does'}"
    questions = None
    if paired is not None:
        questions = among_items(
            (paired.candidate - paired.baseline)[0], weights=paired.weights, clusters=paired.clusters
        )
    seed = Part(2 * prior.variance, prior.df)
    return estimate._replace(parts=(seed,) if questions is None else (seed, questions)), ""


def _moderated(estimate: Estimate, prior: Prior) -> Estimate:
    """The estimate with its seeds' variance drawn towards what past runs show of the noise.

    A paired difference is that of two runs, so its variance is taken for twice that of one. Where seeds are shared it may
    be less, by at most 5% in public audits.
    """
    if prior.df == 0 or not estimate.parts:
        return estimate
    seeds, *others = estimate.parts
    variance, df = shrink(seeds.variance * estimate.n_seeds, seeds.df, prior._replace(variance=2 * prior.variance))
    return estimate._replace(parts=(Part(variance / estimate.n_seeds, df), *others))


def _scale(results: pd.DataFrame, policy: Policy) -> Any:
    """The scale that is judged; None where nothing says it."""
    if policy.proxy_scale is not None or "scale" not in results:
        return policy.proxy_scale
    return next(iter(results["scale"].dropna()), None)


def _signal(metric: str, a: Scores, b: Scores, paired: PairedItems | None) -> Signal:
    chance = max((c for c in (a.chance, b.chance) if c is not None), default=None)
    if metric in LOSSES:
        return signal.of_loss()
    if chance is None:
        return Signal("unknown", "no chance level is given to test against")
    values = [*a.by_seed.values(), *b.by_seed.values()]
    if not values:
        return Signal("unknown", "there are no scores")
    if paired is not None:
        import numpy as np

        return signal.from_items(
            np.vstack([paired.baseline, paired.candidate]), chance=chance, clusters=paired.clusters
        )
    return signal.from_scores(values, chance=chance, n_items=a.n_items if a.n_items is not None else b.n_items)


def _adjusted(measured: list[tuple[Comparison, Estimate]], policy: Policy) -> list[Comparison]:
    """Fill in what depends on the candidate's other comparisons."""
    # Who is not in a family enters it as NaN, and comes out as NaN.
    better = [_claim(c, e, bar=c.margin) if c.votes and c.role == "primary" else math.nan for c, e in measured]
    worse = [_claim(c, e, bar=-_tolerated(c), worse=True) if c.votes else math.nan for c, e in measured]
    monitors = [c.p if c.role == "monitor" else math.nan for c, _ in measured]
    sharing = 1 if policy.require == "all" else max(1, sum(not math.isnan(p) for p in better))
    if policy.require == "any":
        better = multiplicity.holm(better)
    worse, shown = multiplicity.holm(worse), multiplicity.benjamini_hochberg(monitors)
    every = multiplicity.benjamini_hochberg([c.p for c, _ in measured])
    found = []
    for (known, estimate), up, down, monitor, q in zip(measured, better, worse, shown, every, strict=True):
        tail = policy.alpha / 2 / (sharing if known.role == "primary" else 1)
        claim = up if known.role == "primary" and known.gain > 0 else down
        guards = known.votes and known.role == "guardrail"
        found.append(
            replace(
                known,
                p_adjusted=monitor if known.role == "monitor" else claim,
                p_noninferior=_p_of_gain(known, estimate, above=-known.margin) if guards else math.nan,
                q=q,
                mde=power.smallest_detectable(se=estimate.se, df=estimate.df(tail), tail=tail),
            )
        )
    return found


def _tolerated(c: Comparison) -> float:
    """The loss that is shrugged off: a guardrail's margin. A primary's margin is about gains."""
    return c.margin if c.role == "guardrail" else 0.0


def _claim(c: Comparison, estimate: Estimate, *, bar: float, worse: bool = False) -> float:
    """P of a gain that is beyond the bar only by noise, doubled as half of alpha is for the other direction."""
    return min(1.0, 2 * (_p_of_gain(c, estimate, below=bar) if worse else _p_of_gain(c, estimate, above=bar)))


def _p_of_gain(c: Comparison, estimate: Estimate, *, above: float | None = None, below: float | None = None) -> float:
    """One-sided p for the gain being above, or below, a bar."""
    bar = above if above is not None else below
    assert bar is not None
    rising = (above is not None) == (c.better == "higher")
    on_effect = bar if c.better == "higher" else -bar
    return estimate.p_above(on_effect) if rising else estimate.p_below(on_effect)


def _mean(scores: Scores, seeds: list[Seed]) -> float:
    return sum(scores.by_seed[seed] for seed in seeds) / len(seeds) if seeds else math.nan
