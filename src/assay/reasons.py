"""A verdict's sentences: what a comparison says, why it could not decide, and what it would take."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from assay.advice import Option, short
from assay.claims import noise_of
from assay.compare import Comparison
from assay.stats.frames import Seed
from assay.stats.power import MOST_SEEDS, noise_at_most, seeds_needed
from assay.stats.signal import ACCURACIES
from assay.stats.target import TargetEffect
from assay.suite import Policy


@dataclass(frozen=True)
class Seeds:
    """Which replicates there are of a mix, and what became of the others."""

    mix: str
    present: tuple[Seed, ...]
    missing: tuple[str, ...]

    def too_few(self, wanted: int) -> str:
        """That there are not enough."""
        planned = max(wanted, len(self.present) + len(self.missing))
        seen = f"only {_listed(self.present)} {'has' if len(self.present) == 1 else 'have'} results"
        why = ", ".join(self.missing) or (seen if self.present else "it has no results")
        return f"{self.mix} has {len(self.present)} of {planned} seeds: {why}."


def better(c: Comparison) -> str:
    """That a primary improved."""
    bar = f" by more than {size(c, c.margin)}" if c.margin else ""
    return f"{c.task} {c.metric} is better{bar}: {_effect(c)}, adjusted p {_p(c.p_adjusted)}."


def worse(c: Comparison) -> str:
    """That something was lost."""
    bar = f" by more than its margin of {size(c, c.margin)}" if c.role == "guardrail" else ""
    return f"{c.task} {c.metric} is worse{bar}: {_effect(c)}, adjusted p {_p(c.p_adjusted)}."


def held(c: Comparison) -> str:
    """That a guardrail holds."""
    return f"{c.task} {c.metric} stays within its margin of {size(c, c.margin)}: {_effect(c)}, p {_p(c.p_noninferior)}."


def silent(c: Comparison) -> str:
    """That a metric at chance has no vote."""
    return f"{c.task} {c.metric} has no signal and decides nothing: {c.signal_reason}."


def undecided(waiting: Sequence[Comparison], policy: Policy) -> list[str]:
    """Why metrics with a say decided nothing, in one sentence each; those short of seeds together."""
    short = [c for c in waiting if c.n_seeds < policy.min_seeds]
    found = [_undecided(c) for c in waiting if c not in short]
    for n in sorted({c.n_seeds for c in short}):
        names = ", ".join(_so_far(c) for c in short if c.n_seeds == n)
        found.append(
            f"Resting on {n} shared seed{'s' * (n != 1)}, where the policy asks for {policy.min_seeds}: {names}."
        )
    return found


def _undecided(c: Comparison) -> str:
    name = f"{c.task} {c.metric}"
    if not c.votes:
        return f"{name} decides nothing: {c.signal_reason}."
    if c.role == "guardrail":
        margin = size(c, c.margin)
        return f"{name} is not shown to stay within its margin of {margin}: {_effect(c)}, p {_p(c.p_noninferior)}."
    bar = f"better by more than {size(c, c.margin)}, or worse" if c.margin else "better or worse"
    found = f"this design would find {size(c, c.mde)} (power 0.8)"
    return f"{name} is not shown to be {bar}: {_effect(c)}, adjusted p {_p(c.p_adjusted)}; {found}."


def _so_far(c: Comparison) -> str:
    seen = f" ({size(c, c.effect, sign=True)} so far)" if c.n_seeds and c.role == "primary" else ""
    return f"{c.task} {c.metric}{seen}"


def too_few_seeds(waiting: Sequence[Comparison], arms: Sequence[Seeds], policy: Policy) -> list[str]:
    """Which seeds are missing, where that is what keeps a metric from voting."""
    short = [c for c in waiting if c.n_seeds < policy.min_seeds]
    if not short:
        return []
    few = [arm.too_few(policy.min_seeds) for arm in arms if len(arm.present) < policy.min_seeds]
    if few:
        return few
    first, second = arms
    shared = [seed for seed in first.present if seed in second.present]
    if len(shared) < policy.min_seeds:
        pairs = f"share {_listed(shared)}" if shared else "share none"
        both = f"{first.mix} has {_listed(first.present)} and {second.mix} {_listed(second.present)}"
        return [f"{both}: runs are paired by seed, and these {pairs}."]
    c = min(short, key=lambda c: c.n_seeds)
    lacking = [seed for seed in shared if seed not in c.differences]
    return [f"{c.task} {c.metric} was not scored on both arms of {_listed(lacking)}."]


def survivors(arms: Iterable[Seeds]) -> list[str]:
    """That the figures are of the runs that came through."""
    return [
        f"{arm.mix}: {', '.join(arm.missing)}; the figures are of its other seeds only." for arm in arms if arm.missing
    ]


def needed(waiting: Sequence[Comparison], comparisons: Sequence[Comparison], policy: Policy) -> list[str]:
    """What it would take to decide, were the effects and the noise what they look like."""
    voters = [c for c in comparisons if c.votes]
    primaries = [c for c in voters if c.role == "primary"]
    found = []
    signals = [c.signal for c in comparisons if c.role == "primary"]
    if signals and all(signal == "no signal" for signal in signals):
        found.append("A primary metric with signal: bits per byte of the right answers, or a larger proxy.")
    if any(c.n_seeds < policy.min_seeds for c in waiting):
        found.append(f"{policy.min_seeds} finished seeds of each mix, the same seeds.")
    for c in waiting:
        if c.votes:
            share = len(primaries) if policy.require == "any" else 1
            found.append(_seeds_for(c, policy.alpha, for_better=share, for_worse=len(voters)))
        elif c.n_seeds >= policy.min_seeds:
            runs = (
                "a second seed of each mix, or a history of replicates"
                if c.n_seeds == 1
                else "scores of independent runs"
            )
            found.append(f"{c.task} {c.metric}: {runs}{', one for each seed' * (c.n_seeds != 1)}.")
    return found


def option(way: Option) -> str:
    """A way to decide, with its cost, and how likely it would."""
    costs = [f"{way.runs:,} more run{'s' * (way.runs != 1)}"] if way.runs else ["no more runs"]
    if way.tokens:
        costs.append(f"{short(way.tokens)} tokens")
    if way.worker_seconds is not None:
        costs.append(f"{_time(way.worker_seconds)} of a worker")
    elif way.runs:
        costs.append("worker time not known")
    chance = "whether it decides is not known" if way.power is None else f"decides with a chance of {way.power:.0%}"
    return f"{way.what[0].upper()}{way.what[1:]}: {', '.join(costs)}; {chance}{': ' * bool(way.basis)}{way.basis}."


def _time(seconds: float) -> str:
    for size, unit, least in ((3600, "h", 5400), (60, "min", 90)):
        if seconds >= least:
            return f"{seconds / size:.{int(size > 60)}f} {unit}"
    return f"{seconds:.0f} s"


def scope(policy: Policy, foretold: TargetEffect | None = None) -> str:
    """What the verdict is about, and what a score is where it is a mean."""
    of = policy.average.last
    return _scope(policy, foretold) + (f"; scores are means of the last {of} checkpoints" if of > 1 else "")


def _scope(policy: Policy, foretold: TargetEffect | None) -> str:
    if foretold is not None:
        about = f"{foretold.task} {foretold.metric} at {foretold.scale}"
        if foretold.problem:
            return f"about the proxy only, as nothing can be said of {about}: {foretold.problem}"
        return f"about {about}, foretold from past mixes that were trained at both scales"
    target = f", so nothing is said of {policy.target.task} at {policy.target.scale}" if policy.target else ""
    return f"about the proxy only: no history of proxy and target pairs was given{target}"


def foretold(target: TargetEffect, *, baseline: str, candidate: str) -> list[str]:
    """What is foretold of the target, on what it rests, and how often such foretelling was right."""
    return [_winner(target, baseline, candidate), *_ranking(target), *target.notes]


def _winner(target: TargetEffect, baseline: str, candidate: str) -> str:
    about = f"{target.task} {target.metric} at {target.scale}"
    if target.problem:
        return f"Nothing can be said of {about}: {target.problem}."
    low, high = (_sized(target.metric, end, sign=True).split(" ")[0] for end in (target.ci_low, target.ci_high))
    interval = f"{_percent(target.level)} interval {low} to {high}"
    rests = (
        f"resting on {_sized(target.metric, target.proxy_effect, sign=True)} at the proxy"
        if target.predictor == f"{target.task} {target.metric}"
        else f"resting on {target.proxy_effect:+.3g} at the proxy in {target.predictor}"
    )
    noise = f"{target.n_seeds[0]} and {target.n_seeds[1]} seeds, p {_p(target.p_noise)} of seed noise alone"
    figures = f"{_sized(target.metric, target.effect, sign=True)} is foretold ({interval}), {rests} ({noise})"
    if target.winner == "unknown":
        lead = candidate if target.gain > 0 else baseline
        doubt = (
            f"the chance that {lead} does not win is {_share(target.chance_other)}, more than {_share(target.allowed)}"
        )
        seeds = "the difference at the proxy may be seed noise"
        why = doubt if target.chance_other > target.allowed else seeds
        return f"{about} is not shown to be better or worse: {figures}; {why}."
    is_better = target.winner == "candidate"
    return (
        f"{about} is {'better' if is_better else 'worse'}: {figures}; the chance that"
        f" {baseline if is_better else candidate} wins there is {_share(target.chance_other)}."
    )


def _ranking(target: TargetEffect) -> list[str]:
    told = target.reliability
    if told is None:
        return []
    pairs = f"{told.n_pairs} pairs of {told.n_mixes} mixes, each pair left out of what it was foretold from"
    return [f"In the history the proxy foretold the winner at {target.scale} of {told.accuracy:.0%} of {pairs}."]


def target_needed(target: TargetEffect, policy: Policy) -> list[str]:
    """What it would take to decide about the target."""
    if target.problem:
        seeds = max(policy.min_seeds, 2)
        return [f"{seeds} finished seeds of each mix."] if target.reliability else ["A larger history."]
    found = []
    if target.p_noise > policy.alpha and target.seeds is not None:
        found.append("More seeds of each mix: the difference at the proxy may be noise.")
    if target.best_chance > target.allowed:
        found.append(
            "No number of seeds would do, unless they show a larger difference: even without seed noise the chance that the other"
            f" one wins at {target.scale} is {_share(target.best_chance)}, and {_share(target.allowed)} is allowed."
        )
    if target.chance_other > target.allowed and target.predictor == f"{target.task} {target.metric}":
        found.append(
            f"A proxy nearer to {target.scale}: past mixes needed {_sized(target.metric, target.smallest)} between them at this"
            f" one, and these have {_sized(target.metric, abs(target.proxy_effect))}; more seeds would not change that."
        )
    elif target.chance_other > target.allowed:
        found.append(f"{target.task} {target.metric} measured at the proxy, or a proxy nearer to {target.scale}.")
    return found


def falls(comparisons: Sequence[Comparison], alpha: float) -> list[str]:
    """The worst task, and how many regress: an average must not hide them."""
    lost = [c for c in comparisons if c.gain < 0 and c.spread > 0]
    clear = [c for c in lost if c.q <= alpha]
    if not clear:
        return []
    c = min(clear, key=lambda c: c.gain / c.spread)
    seen = f"{len(clear)} of {len(comparisons)} metrics fall{'s' * (len(clear) == 1)} by more than noise"
    return [f"{seen} (false discovery rate {_percent(alpha)}); the worst is {c.task} {c.metric}: {_effect(c)}."]


def size(c: Comparison, value: float, *, sign: bool = False) -> str:
    """A figure of the comparison's metric, with its unit."""
    return _sized(c.metric, value, sign=sign)


def _share(chance: float) -> str:
    return f"{chance:.1%}" if chance >= 0.001 else "below 0.1%"


def _percent(share: float) -> str:
    """A level or an alpha with two digits of what it leaves: 95%, 99.67%, never 100%."""
    left = min(share, 1 - share)
    digits = max(1, -1 - math.floor(math.log10(left)))
    return f"{100 * share:.{digits}f}".rstrip("0").rstrip(".") + "%"


def _sized(metric: str, value: float, *, sign: bool = False) -> str:
    if metric in ACCURACIES:
        return f"{100 * value:{'+' if sign else ''}.2f} points"
    unit = " bits per byte" if metric == "bits_per_byte" else ""
    return f"{value:{'+' if sign else ''}.4{'f' if unit else 'g'}}{unit}"


def _effect(c: Comparison) -> str:
    low, high = (size(c, end, sign=True).split(" ")[0] for end in (c.ci_low, c.ci_high))
    return f"{size(c, c.effect, sign=True)} ({_percent(c.level)} interval {low} to {high}, {c.n_seeds} seed{'s' * (c.n_seeds != 1)})"


def _seeds_for(c: Comparison, alpha: float, *, for_better: int, for_worse: int) -> str:
    name = f"{c.task} {c.metric}"
    if c.role == "guardrail":
        claim, distance, tail = "stays within its margin", c.gain + c.margin, alpha
        if distance <= 0:
            return f"{name}: it looks worse than its margin; more seeds would rather show that than the opposite."
    elif c.gain < 0:
        claim, distance, tail = "is worse", -c.gain, alpha / 2 / for_worse
    else:
        claim, distance, tail = "is better", c.gain - c.margin, alpha / 2 / for_better
        if distance <= 0:
            return f"{name}: the gain looks smaller than the margin of {size(c, c.margin)}; more seeds would not change that."
    seen, borrowed = noise_of(c), c.noise_df - (c.n_seeds - 1)
    likely, at_worst = (
        seeds_needed(
            distance, noise=noise, tail=tail, item_variance=c.item_variance, prior_df=borrowed, most=MOST_SEEDS
        )
        for noise in (seen, noise_at_most(seen, c.noise_df + 1))
    )
    if likely is None:
        remedy = (
            "more questions" if c.item_variance > seen**2 / c.n_seeds else "a metric with less noise, or a larger proxy"
        )
        return f"{name}: no number of seeds up to {MOST_SEEDS} would do; {remedy} might."
    likely = max(likely, c.n_seeds + 1)
    most = f"more than {MOST_SEEDS}" if at_worst is None else f"up to {max(at_worst, likely)}"
    source = f"{c.n_seeds} seeds understate" if c.n_seeds > 1 else "the history understates"
    return (
        f"{name}: about {likely} seeds of each mix to show that it {claim}, if effect and noise are as they look;"
        f" {most} if {source} the noise (SD {size(c, seen)})."
    )


def _listed(seeds: Sequence[Seed]) -> str:
    return f"seed{'s' * (len(seeds) != 1)} {', '.join(map(str, seeds))}"


def _p(p: float) -> str:
    if math.isnan(p):
        return "unknown"
    return f"{p:.2g}" if p >= 0.0001 else "below 0.0001"
