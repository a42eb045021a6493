"""Compare designs of a sweep (seeds, candidates, tokens, proxy, coupling, aggregate) by cost and power.

A design's power is the probability that the verdict's test of the primary metrics is significant for a true gain. The
cost counts only the runs that the store does not have yet. `plan designs` prints the comparison.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from assay.analysis.design_noise import NoiseSource, noise_at, noise_sources, primaries
from assay.analysis.design_notes import design_notes
from assay.analysis.design_table import (
    Axes,
    ComparedDesigns,
    Coupling,
    Decides,
    Design,
    DesignPlace,
    DesignTable,
    Effect,
    MetricPower,
    mark_designs,
)
from assay.analysis.external.selection import with_labels
from assay.analysis.stats.design_grid import MEAN, UNIT_NOISE, Layout, RunNoise, design_power, smallest_gain
from assay.config.compose import compose
from assay.config.metrics import FRACTIONS, without_filter
from assay.config.override import split_override
from assay.config.policy import Criterion, Policy
from assay.config.reason import Code
from assay.config.study import Study
from assay.core.errors import ConfigError, Refused
from assay.plan.speed import estimate_speed
from assay.plan.workspace import Workspace

if TYPE_CHECKING:
    from assay.config.cluster import Cluster
    from assay.config.sweep import Sweep
    from assay.plan.plan import PlannedRun

SEEDS = (2, 3, 5)
"""Numbers of seeds that are compared in addition to the sweep's own."""
MOST_DESIGNS = 400
"""Maximum number of designs in one table."""


def compare_designs(
    space: Workspace, overrides: Sequence[str], axes: Axes, *, effect: Effect | None, budget: float | None = None
) -> ComparedDesigns:
    """Compare the designs that the axes combine.

    Args:
        space: the study, with a sweep.
        overrides: the overrides that compose the study.
        axes: values to combine.
        effect: the true gain of each primary metric; None derives the gain from the policy's margins.
        budget: available hours, in the unit of the cluster (`DesignTable.hours_unit`).

    Raises:
        ConfigError: a value is invalid, or no effect is known.
        Refused: a budget is given, but the time of a run is unknown.
    """
    study, sweep = space.study, space.study.require_sweep()
    policy = study.policy.at_the_end
    require_effect(policy, effect)
    if "mean" in axes.decides and len(primaries(policy)) < 2:
        raise ConfigError(
            f"--aggregate: 'mean' is invalid for policy {policy.name!r} with one primary metric; expected at least two.",
            fix="Omit --aggregate.",
        )
    counts, candidates = _counts(sweep, axes)
    scales = list(itertools.product(axes.proxies or (None,), axes.tokens or (None,)))
    designs_per_scale = len(counts) * len(candidates) * len(axes.couplings) * len(axes.decides)
    if len(scales) * designs_per_scale > MOST_DESIGNS:
        raise ConfigError(
            f"plan designs: {len(scales) * designs_per_scale} designs is invalid; expected at most {MOST_DESIGNS}.",
            fix="Give fewer values of --seeds, --candidates, --tokens or --proxy.",
        )
    seeds = extended_seeds(sweep, max(counts))
    places = _places(space, overrides, scales, seeds, mean="mean" in axes.decides)
    unit, devices = devices_per_run(study.cluster)
    if budget is not None and any(place.speed.tokens_per_second is None for place in places):
        raise Refused(
            f"--budget: {budget:g} hours cannot be applied, because the time of a run is unknown.",
            fix="Measure this machine with `assay doctor`, or omit --budget.",
        )
    designs: list[Design] = []
    for place in places:
        for number, n, coupling, decides in itertools.product(candidates, counts, axes.couplings, axes.decides):
            layout = Layout(arms=number + 1, seeds=n, shared=coupling == "shared")
            cost = _cost_of(place, sweep, number, seeds[:n], coupling)
            metrics = _metric_powers(
                place,
                policy.for_candidates(number),
                layout,
                decides=decides,
                effect=effect,
                correlation=axes.correlation,
            )
            designs.append(
                Design(
                    row=len(designs) + 1,
                    scale=place.scale,
                    n_candidates=number,
                    seeds=seeds[:n],
                    coupling=coupling,
                    decides=decides,
                    runs=cost.runs,
                    reused=cost.reused,
                    reused_candidates=cost.reused_candidates,
                    refused=cost.refused,
                    hours=None if cost.seconds is None else cost.seconds * devices / 3600,
                    flops=cost.flops,
                    power=_power_of_verdict([metric.power for metric in metrics], policy, decides),
                    metrics=metrics,
                )
            )
    marked = mark_designs(designs, min_seeds=policy.min_seeds, budget=budget)
    table = DesignTable(
        sweep=sweep.name,
        alpha=policy.alpha,
        require=policy.require,
        budget=budget,
        hours_unit=unit,
        speed={place.space.study.proxy.name: place.speed.basis for place in places},
        designs=tuple(marked),
        noise=tuple(known for place in places for known in place.noise.values()),
        notes=tuple(design_notes(places, policy, axes, effect=effect, designs=marked, budget=budget)),
    )
    return ComparedDesigns(
        table=table, space=space, overrides_by_scale={place.scale: place.overrides for place in places}
    )


def require_effect(policy: Policy, effect: Effect | None) -> None:
    """Raise an error if no effect is known, or if one effect does not fit the primary metrics."""
    criteria = primaries(policy)
    names = [f"{c.task} {c.metric}" for c in criteria if c.margin <= 0]
    if effect is None and names:
        raise ConfigError(
            f"policy {policy.name!r}: the smallest relevant gain of {', '.join(names)} is unknown, because no margin is set;"
            " expected a margin above 0, or the option --effect.",
            fix="Add `--effect 0.01` (the metric's unit) or `--effect 2sd` (SDs between seeds of one mix).",
        )
    if effect is None or effect.unit == "sd":
        return
    units = {"fraction" if without_filter(c.metric) in FRACTIONS else without_filter(c.metric) for c in criteria}
    if len(units) > 1:
        raise ConfigError(
            f"--effect: {effect.value:g} is invalid, because the primary metrics have different units: {', '.join(sorted(units))}.",
            fix="Give the effect in SDs between seeds, such as `--effect 2sd`.",
        )
    for c in criteria:
        if effect.value <= c.margin:
            raise ConfigError(
                f"--effect: {effect.value:g} is invalid; expected more than the margin {c.margin:g} of {c.task} {c.metric}, because"
                " the gate accepts only a gain beyond the margin.",
                fix="Raise --effect, or lower the margin.",
            )


def _counts(sweep: Sweep, axes: Axes) -> tuple[list[int], list[int]]:
    """Return the numbers of seeds and of candidates to compare, ascending."""
    counts = sorted(set(axes.seeds or (*SEEDS, len(sweep.seeds))))
    own = len(sweep.candidates)
    candidates = sorted(set(axes.candidates or (own,)))
    if sweep.arms and candidates != [own]:
        raise ConfigError(
            f"--candidates: {candidates} is invalid for sweep {sweep.name!r}, whose arms are compared with each other;"
            f" expected {own}.",
            fix="Omit --candidates.",
        )
    return counts, candidates


def extended_seeds(sweep: Sweep, n: int) -> tuple[int, ...]:
    """Return `n` seeds: those of the sweep first, then the next larger integers."""
    first = max(sweep.seeds) + 1
    return (*sweep.seeds, *range(first, first + max(0, n - len(sweep.seeds))))[:n]


def devices_per_run(cluster: Cluster) -> tuple[Literal["GPU", "CPU", "worker"], float]:
    """Return the unit of hours on a cluster, and how many of it one run occupies."""
    if cluster.gpus_per_run > 0:
        return "GPU", cluster.gpus_per_run
    if cluster.slurm is None and cluster.device.startswith("cuda"):
        return "GPU", 1.0
    if cluster.slurm is None and cluster.device == "auto":
        return "worker", 1.0
    return "CPU", float(cluster.cpus_per_worker)


def _places(
    space: Workspace,
    overrides: Sequence[str],
    scales: Iterable[tuple[str | None, int | None]],
    seeds: tuple[int, ...],
    *,
    mean: bool,
) -> list[DesignPlace]:
    """Plan all arms and seeds at each proxy and budget."""
    places: list[DesignPlace] = []
    sources: list[NoiseSource] | None = None
    for proxy, tokens in scales:
        chosen = scale_overrides(overrides, proxy, tokens)
        study = compose(chosen, root=Path(space.study.paths.root))
        sweep = {**study.raw["sweep"], "seeds": list(seeds)}
        at_scale = Workspace(Study.parse({**study.raw, "sweep": sweep}))
        plan = at_scale.planner.plan()
        if sources is None:
            sources = noise_sources(space, plan.evaluation)
        own_proxy = at_scale.study.proxy == space.study.proxy
        label = with_labels(space.study.policy).proxy_scale if own_proxy else None
        known = noise_at(at_scale.runs, sources, label=label, mean=mean)
        places.append(
            DesignPlace(
                space=at_scale,
                overrides=tuple(chosen),
                plan=plan,
                speed=estimate_speed(at_scale.runs, at_scale.store),
                noise={(noise.task, noise.metric): noise for noise in known},
            )
        )
    return places


def scale_overrides(overrides: Sequence[str], proxy: str | None, tokens: int | None) -> list[str]:
    """Return overrides with another proxy and budget; None keeps the study's own."""
    replaced = {"proxy"} if proxy is not None else set()
    replaced |= {"budget.tokens", "budget.tokens_per_parameter", "budget"} if tokens is not None else set()
    kept = [override for override in overrides if split_override(override).key not in replaced]
    kept += [f"proxy={proxy}"] if proxy is not None else []
    kept += [f"budget.tokens={tokens}", "budget.tokens_per_parameter=null"] if tokens is not None else []
    return kept


class _DesignCost(NamedTuple):
    """Cost of the runs that a design needs.

    Attributes:
        runs: number of runs to do.
        reused: number of runs that are complete or in progress.
        reused_candidates: number of complete runs of candidates.
        refused: number of the runs to do that the plan refuses.
        seconds: worker time in seconds; None if no speed is known.
        flops: training FLOPs.
    """

    runs: int
    reused: int
    reused_candidates: int
    refused: int
    seconds: float | None
    flops: float


def _cost_of(
    place: DesignPlace, sweep: Sweep, n_candidates: int, seeds: Sequence[int], coupling: Coupling
) -> _DesignCost:
    """Count the runs of a design. With separate seeds, only the baseline's runs can be reused."""
    mixes = sweep.mixes[: n_candidates + 1] if coupling == "shared" else (sweep.baseline,)
    planned = [run for run in place.plan.runs if run.mix in mixes and run.seed in seeds]
    unique = {run.fingerprint or run.label: run for run in planned}
    todo = [run for run in unique.values() if run.status in ("todo", "refused")]
    new = (n_candidates + 1 - len(mixes)) * len(seeds)
    speed, budget = place.speed, place.space.runs.budget
    full = None
    if speed.tokens_per_second is not None:
        full = budget / speed.tokens_per_second + (speed.evaluate_seconds or 0.0)
    seconds = None if full is None else new * full + sum(_seconds(run, full) for run in todo)
    untrained = new + sum(not _is_trained(run) for run in todo)
    return _DesignCost(
        runs=len(todo) + new,
        reused=len(unique) - len(todo),
        reused_candidates=sum(run.status == "reuse" and run.mix != sweep.baseline for run in unique.values()),
        refused=sum(run.status == "refused" for run in todo),
        seconds=seconds,
        flops=untrained * budget * place.space.runs.flops_per_token,
    )


def _seconds(run: PlannedRun, full: float) -> float:
    return full if run.seconds is None else run.seconds


def _is_trained(run: PlannedRun) -> bool:
    return any(reason.code is Code.EVALUATION_MISSING for reason in run.reasons)


def _metric_powers(
    place: DesignPlace,
    policy: Policy,
    layout: Layout,
    *,
    decides: Decides,
    effect: Effect | None,
    correlation: float | None,
) -> tuple[MetricPower, ...]:
    """Compute the power of each test of a design, with alpha split as in the verdict."""
    criteria = primaries(policy)

    def measured(name: tuple[str, str]) -> RunNoise | None:
        known = place.noise.get(name)
        if known is None:
            return None
        return known.noise if correlation is None else known.noise.with_correlation(correlation)

    if decides == "mean":
        return (_mean_power(criteria, measured, layout, effect, tail=policy.alpha / 2),)
    tail = policy.alpha / 2 / (len(criteria) if policy.require == "any" else 1)
    unit_noise = UNIT_NOISE if correlation is None else UNIT_NOISE.with_correlation(correlation)
    return tuple(
        _one_power(c, measured((c.task, c.metric)), unit_noise, layout, effect=effect, tail=tail) for c in criteria
    )


def _one_power(
    c: Criterion,
    noise: RunNoise | None,
    unit_noise: RunNoise,
    layout: Layout,
    *,
    effect: Effect | None,
    tail: float,
) -> MetricPower:
    if noise is not None:
        gain = gain_of(c, effect, sd=noise.sd)
        return MetricPower(
            task=c.task,
            metric=c.metric,
            unit="metric",
            effect=gain,
            power=design_power(gain, noise=noise, layout=layout, tail=tail, margin=c.margin),
            smallest=smallest_gain(noise=noise, layout=layout, tail=tail, margin=c.margin),
            correlation=noise.correlation,
        )
    # A margin in the metric's unit has no known size in SDs.
    comparable = effect is not None and effect.unit == "sd" and c.margin == 0
    gain = effect.value if effect is not None and comparable else math.nan
    return MetricPower(
        task=c.task,
        metric=c.metric,
        unit="sd",
        effect=gain,
        power=design_power(gain, noise=unit_noise, layout=layout, tail=tail),
        smallest=smallest_gain(noise=unit_noise, layout=layout, tail=tail) if c.margin == 0 else math.nan,
        correlation=unit_noise.correlation,
    )


def gain_of(criterion: Criterion, effect: Effect | None, *, sd: float) -> float:
    """Return the true gain of a metric in its own unit; twice the margin if no effect is given.

    At a true gain of one margin, the verdict's test has power alpha / 2 for any design.
    """
    if effect is None:
        return 2 * criterion.margin
    return effect.value * (sd if effect.unit == "sd" else 1.0)


def _mean_power(
    criteria: Sequence[Criterion],
    measured: Callable[[tuple[str, str]], RunNoise | None],
    layout: Layout,
    effect: Effect | None,
    *,
    tail: float,
) -> MetricPower:
    """Compute the power of the mean of the standardized gains, in SDs of single runs."""
    noise, parts = measured(MEAN), [(c, measured((c.task, c.metric))) for c in criteria]
    known = [(c, part.sd) for c, part in parts if part is not None]
    if noise is None or len(known) < len(parts):
        nothing = math.nan
        return MetricPower(
            task=MEAN[0],
            metric=MEAN[1],
            unit="sd",
            effect=nothing,
            power=nothing,
            smallest=nothing,
            correlation=nothing,
        )
    gain = sum(gain_of(c, effect, sd=sd) / sd for c, sd in known) / len(known)
    margin = sum(c.margin / sd for c, sd in known) / len(known)
    return MetricPower(
        task=MEAN[0],
        metric=MEAN[1],
        unit="sd",
        effect=gain,
        power=design_power(gain, noise=noise, layout=layout, tail=tail, margin=margin),
        smallest=smallest_gain(noise=noise, layout=layout, tail=tail, margin=margin),
        correlation=noise.correlation,
    )


def _power_of_verdict(powers: Sequence[float], policy: Policy, decides: Decides) -> float:
    """Return a lower bound on the probability that the primary metrics are significant, as in `decision_power`."""
    if any(math.isnan(power) for power in powers):
        known = [power for power in powers if not math.isnan(power)]
        return max(known) if known and policy.require == "any" and decides == "each" else math.nan
    if policy.require == "any":
        return max(powers)
    return max(0.0, 1 - sum(1 - power for power in powers))
