"""Sentences for the assumptions and warnings of a comparison of designs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from assay.config.reason import Code, Reason
from assay.report.formatting import amount, count, decimal
from assay.report.reason_phrases import sized, some

if TYPE_CHECKING:
    from assay.report.reason_phrases import Render, RenderWithCauses


def scale_name(proxy: str, tokens: int | None) -> str:
    """Return a proxy and budget as text.

    >>> scale_name("4m", 100_000_000), scale_name("150M", None)
    ('4m with 100M tokens', '150M with an unknown number of tokens')
    """
    return f"{proxy} with {'an unknown number of' if tokens is None else amount(tokens)} tokens"


def _scale(figures: Mapping[str, Any]) -> str:
    return scale_name(figures["proxy"], figures["tokens"])


def _effect_from_margin(reason: Reason) -> str:
    gains = [f"{m['task']} {m['metric']} {sized(m['metric'], m['effect'])}" for m in reason.figures["metrics"]]
    return (
        f"No --effect is given. Power is computed for a true gain of twice the policy's margin: {some(gains)}. A true gain"
        " of exactly the margin is accepted with probability alpha / 2 under every design."
    )


def _noise_assumed(reason: Reason) -> str:
    figures = reason.figures
    scales = some([_scale(scale) for scale in figures["scales"]])
    other = "" if figures["same_evaluation"] else ", which have another evaluation"
    return (
        f"No past replicates exist for {scales}. Power assumes the noise of {_scale(figures['measured_at'])}"
        f" ({figures['origin']}{other}), without any change with proxy size or tokens."
    )


def _primary_only(reason: Reason) -> str:
    guards = reason.figures["guardrails"]
    must = f" An ACCEPT also requires that {count(guards, 'guardrail')} stay within the margins." if guards else ""
    return (
        "Power is the probability for each candidate that the primary metrics are significant, if each metric has signal and"
        f" all arms have the same noise, so that the residual variance of all arms is pooled.{must}"
    )


SENTENCES: Mapping[Code, Render] = {
    Code.DESIGN_EFFECT_FROM_MARGIN: _effect_from_margin,
    Code.DESIGN_EFFECT_CONSTANT: lambda _: (
        "Power assumes the same true gain for every proxy and number of tokens. Past runs do not show how the gain changes."
    ),
    Code.DESIGN_NOISE_UNKNOWN: lambda r: (
        f"The noise of {some(r.figures['metrics'])} is unknown, because no past replicates exist. Gains of these metrics are in"
        " SDs between seeds of one mix (sd), and assume the same SD for every proxy and number of tokens."
    ),
    Code.DESIGN_NOISE_ASSUMED: _noise_assumed,
    Code.DESIGN_NOISE_UNCERTAIN: lambda r: (
        f"Few past runs show the noise of {some(r.figures['metrics'])}. With {r.figures['df']:g} degrees of freedom, the true SD"
        f" is at most {r.figures['factor']:.1f} times the measured SD, with 80% confidence."
    ),
    Code.DESIGN_OTHER_EVALUATION: lambda _: (
        "The past runs that show the noise were evaluated with another suite, or with other data, than this sweep."
    ),
    Code.DESIGN_CORRELATION_GIVEN: lambda r: (
        f"The correlation of mixes over shared seeds is {r.figures['correlation']:g}, as given by --correlation."
    ),
    Code.DESIGN_CORRELATION_UNKNOWN: lambda r: (
        f"The correlation of mixes over shared seeds is unknown for {some(r.figures['metrics'])}, because no past mixes share"
        " seeds. Power assumes a correlation of 0. If you know the correlation, set --correlation."
    ),
    Code.DESIGN_HOURS_UNKNOWN: lambda r: (
        f"The time of a run is unknown for {some(r.figures['proxies'])}. The cheapest design is that with the fewest training"
        " FLOPs. `assay doctor` measures this machine."
    ),
    Code.DESIGN_EVALUATION_TIME_UNKNOWN: lambda r: (
        f"The time of an evaluation is unknown for {some(r.figures['proxies'])}. The hours contain only training."
    ),
    Code.DESIGN_RUNS_REFUSED: lambda r: (
        f"The plan refuses {r.figures['runs']} of the runs of a design. The runs and hours include them. `assay plan` states"
        " the reasons."
    ),
    Code.DESIGN_PRIMARY_ONLY: _primary_only,
    Code.DESIGN_FINAL_WEIGHTS: lambda r: (
        f"The policy averages the last {r.figures['last']} checkpoints. The noise is that of the final weights only, which is"
        " probably larger, so the power is probably too low."
    ),
    Code.DESIGN_PROXY_ONLY: lambda r: (
        f"The policy decides about {r.figures['scale']}. Power is about a difference at the proxy, which the gate then"
        " carries to the target with further uncertainty."
    ),
    Code.DESIGN_SEPARATE_SEEDS: lambda _: (
        "A sweep shares its seeds among all arms. A design with separate seeds cannot be written as a sweep, and reuses only"
        " runs of the baseline."
    ),
    Code.DESIGN_MEAN: lambda r: (
        f"In designs `mean`, the mean of the {r.figures['metrics']} standardized primary metrics decides alone. The policy"
        " decides so only if it names this mean."
    ),
    Code.DESIGN_NONE_REACHES_POWER: lambda r: (
        f"No design that the policy allows reaches a known power of {r.figures['power']:.0%}."
    ),
    Code.DESIGN_NONE_IN_BUDGET: lambda r: (
        f"No design that the policy allows, and whose power is known, fits into {decimal(r.figures['hours'])} hours."
    ),
}

WITH_CAUSES: Mapping[Code, RenderWithCauses] = {}
