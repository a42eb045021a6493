"""State the assumptions behind the power and cost of designs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from assay.analysis.design_noise import RunSize, primaries
from assay.analysis.stats.design_grid import MEAN
from assay.analysis.stats.power import POWER, noise_at_most
from assay.config.reason import Code, Reason

if TYPE_CHECKING:
    from assay.analysis.design_table import Axes, Design, DesignPlace, Effect
    from assay.config.policy import Policy


FEW_DF = 10
"""Degrees of freedom below which the true SD may exceed the measured one by more than a quarter (80% confidence)."""


def design_notes(
    places: Sequence[DesignPlace],
    policy: Policy,
    axes: Axes,
    *,
    effect: Effect | None,
    designs: Sequence[Design],
    budget: float | None,
) -> list[Reason]:
    """List the assumptions behind the figures of the table."""
    return [
        *_effect_notes(places, policy, effect),
        *_noise_notes(places, policy, axes),
        *_cost_notes(places, designs),
        *_verdict_notes(policy, axes, designs, budget),
    ]


def _effect_notes(places: Sequence[DesignPlace], policy: Policy, effect: Effect | None) -> list[Reason]:
    notes = []
    if effect is None:
        metrics = [{"task": c.task, "metric": c.metric, "effect": 2 * c.margin} for c in primaries(policy)]
        notes.append(Reason(code=Code.DESIGN_EFFECT_FROM_MARGIN, figures={"metrics": metrics}))
    if len(places) > 1:
        notes.append(Reason(code=Code.DESIGN_EFFECT_CONSTANT))
    return notes


def _noise_notes(places: Sequence[DesignPlace], policy: Policy, axes: Axes) -> list[Reason]:
    notes = []
    criteria = [(c.task, c.metric) for c in primaries(policy)]
    names = [*criteria, *([MEAN] if "mean" in axes.decides and len(criteria) > 1 else [])]
    unknown = [name for name in names if any(name not in place.noise for place in places)]
    if unknown:
        notes.append(Reason(code=Code.DESIGN_NOISE_UNKNOWN, figures={"metrics": [" ".join(name) for name in unknown]}))
    assumed: dict[tuple[RunSize, str, bool], dict[RunSize, None]] = {}
    known = [noise for place in places for noise in place.noise.values()]
    for noise in known:
        if noise.assumed:
            assumed.setdefault((noise.measured_at, noise.origin, noise.same_evaluation), {})[noise.scale] = None
    for (measured_at, origin, same), scales in assumed.items():
        figures = {
            "scales": [scale._asdict() for scale in scales],
            "measured_at": measured_at._asdict(),
            "origin": origin,
            "same_evaluation": same,
        }
        notes.append(Reason(code=Code.DESIGN_NOISE_ASSUMED, figures=figures))
    if any(not noise.same_evaluation and not noise.assumed for noise in known):
        notes.append(Reason(code=Code.DESIGN_OTHER_EVALUATION))
    few = {f"{noise.task} {noise.metric}": noise.noise.df for noise in known if noise.noise.df < FEW_DF}
    if few:
        factor = noise_at_most(1.0, min(few.values()) + 1)
        figures = {"metrics": sorted(few), "df": min(few.values()), "factor": factor}
        notes.append(Reason(code=Code.DESIGN_NOISE_UNCERTAIN, figures=figures))
    if axes.correlation is not None:
        notes.append(Reason(code=Code.DESIGN_CORRELATION_GIVEN, figures={"correlation": axes.correlation}))
    elif "shared" in axes.couplings:
        unshared = {f"{noise.task} {noise.metric}" for noise in known if not noise.noise.shared}
        unshared |= {" ".join(name) for name in unknown if name != MEAN}
        if unshared:
            notes.append(Reason(code=Code.DESIGN_CORRELATION_UNKNOWN, figures={"metrics": sorted(unshared)}))
    return notes


def _cost_notes(places: Sequence[DesignPlace], designs: Sequence[Design]) -> list[Reason]:
    notes = []
    unknown = sorted({p.space.study.proxy.name for p in places if p.speed.tokens_per_second is None})
    if unknown:
        notes.append(Reason(code=Code.DESIGN_HOURS_UNKNOWN, figures={"proxies": unknown}))
    without = sorted(
        {
            p.space.study.proxy.name
            for p in places
            if p.speed.tokens_per_second is not None and p.speed.evaluate_seconds is None
        }
    )
    if without:
        notes.append(Reason(code=Code.DESIGN_EVALUATION_TIME_UNKNOWN, figures={"proxies": without}))
    refused = max(design.refused for design in designs)
    if refused:
        notes.append(Reason(code=Code.DESIGN_RUNS_REFUSED, figures={"runs": refused}))
    return notes


def _verdict_notes(policy: Policy, axes: Axes, designs: Sequence[Design], budget: float | None) -> list[Reason]:
    notes = [Reason(code=Code.DESIGN_PRIMARY_ONLY, figures={"guardrails": len(policy.guardrails)})]
    if policy.average.last > 1:
        notes.append(Reason(code=Code.DESIGN_FINAL_WEIGHTS, figures={"last": policy.average.last}))
    if policy.target is not None:
        notes.append(Reason(code=Code.DESIGN_PROXY_ONLY, figures={"scale": policy.target.scale}))
    if "separate" in axes.couplings:
        notes.append(Reason(code=Code.DESIGN_SEPARATE_SEEDS))
    if "mean" in axes.decides:
        notes.append(Reason(code=Code.DESIGN_MEAN, figures={"metrics": len(primaries(policy))}))
    few = min(len(design.seeds) for design in designs)
    if few < policy.min_seeds:
        figures = {"min_seeds": policy.min_seeds, "n_seeds": few}
        notes.append(Reason(code=Code.SEEDS_BELOW_POLICY, figures=figures))
    if not any("cheapest" in design.marks for design in designs):
        notes.append(Reason(code=Code.DESIGN_NONE_REACHES_POWER, figures={"power": POWER}))
    if budget is not None and not any("budget" in design.marks for design in designs):
        notes.append(Reason(code=Code.DESIGN_NONE_IN_BUDGET, figures={"hours": budget}))
    return notes
