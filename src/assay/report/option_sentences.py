"""Sentences for the next steps after an inconclusive verdict: needs, options with their cost, and power analysis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from assay.config.reason import Code, Reason
from assay.report.formatting import amount
from assay.report.reason_phrases import chance, duration, metric_list, plural, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assay.report.reason_phrases import Render, RenderWithCauses

CLAIMS = {"holds": "stays within its margin", "worse": "is worse", "better": "is better"}


def _need_independent_runs(reason: Reason) -> str:
    if reason.figures["n_seeds"] == 1:
        return f"{reason.name} needs a second seed of each mix, or a history with replicates."
    return f"{reason.name} needs scores of independent runs, one run for each seed."


def _need_seeds_to_show(reason: Reason) -> str:
    figures = reason.figures
    at_most, n_seeds = figures["at_most"], figures["n_seeds"]
    most = f"more than {figures['most']}" if at_most is None else f"up to {at_most}"
    claim = f"that {reason.name} {CLAIMS[figures['claim']]}"
    source = f"{n_seeds} seeds understate" if n_seeds > 1 else "the history understates"
    return (
        f"About {plural(figures['likely'], 'seed')} of each mix would show {claim}, if effect and noise are as estimated. The"
        f" estimated standard deviation of the noise is {size(reason, 'noise')}. If {source} the noise, {most} seeds are needed."
    )


def _seeds_do_not_suffice(reason: Reason) -> str:
    remedy = "More items" if reason.figures["items"] else "A metric with less noise or a larger proxy"
    return f"Even {plural(reason.figures['most'], 'seed')} of each mix do not suffice for {reason.name}. {remedy} may suffice."


def _seeds_cannot_decide_target(reason: Reason) -> str:
    figures = reason.figures
    return (
        "More seeds suffice only if these seeds show a larger difference at the proxy. Even without seed noise, the"
        f" predicted winner loses at {figures['scale']} with a probability of {chance(figures['best_chance'])}. The"
        f" policy allows {chance(figures['allowed'])}."
    )


def _need_nearer_proxy(reason: Reason) -> str:
    figures = reason.figures
    smallest, seen = size(reason, "smallest"), size_of_difference(reason)
    return (
        f"A proxy closer to {figures['scale']} is needed. The history requires a difference of {smallest} at this"
        f" proxy, but the two mixes differ by {seen}. More seeds do not change the required difference."
    )


def size_of_difference(reason: Reason) -> str:
    """Format the difference at the proxy without its sign."""
    return size(reason, "proxy_effect").removeprefix("-")


def _option(reason: Reason, causes: Sequence[str]) -> str:
    figures, runs = reason.figures, reason.figures["runs"]
    costs = [plural(runs, "new run")] if runs else ["no new runs"]
    if figures["tokens"]:
        costs.append(f"{amount(figures['tokens'])} tokens")
    if figures["worker_seconds"] is not None:
        costs.append(f"{duration(figures['worker_seconds'])} of worker time")
    elif runs:
        costs.append("worker time unknown")
    power = "unknown" if figures["power"] is None else f"{figures['power']:.0%}"
    what, *basis = causes
    return ". ".join([what, f"Cost: {', '.join(costs)}", f"Probability of a decision: {power}", *basis]) + "."


def _more_seeds(reason: Reason, causes: Sequence[str]) -> str:
    claims = f", to show that {' and '.join(causes)}" if causes else ""
    return f"Train {plural(reason.figures['n_seeds'], 'seed')} of each mix ({reason.figures['more']} more){claims}"


def _guardrails_hold(reason: Reason) -> str:
    count = reason.figures["guardrails"]
    return f"{plural(count, 'guardrail')} {'stays within its margin' if count == 1 else 'stay within their margins'}"


def _more_tokens(reason: Reason) -> str:
    tokens = reason.figures["tokens"]
    if "factor" not in reason.figures:
        return f"Train runs of {amount(tokens)} tokens"
    return "Train runs of twice the tokens" + ("" if tokens is None else f", {amount(tokens)} each")


def _larger_proxy(reason: Reason) -> str:
    figures = reason.figures
    if "scale" in figures:
        return f"Train a proxy of {figures['scale']}"
    parameters = figures["parameters"]
    if "factor" in figures:
        number = "" if parameters is None else f", {amount(parameters)}"
        return f"Train a proxy of twice the parameters{number}, on twice the tokens"
    return f"Train a proxy of {amount(parameters)} parameters on {amount(figures['tokens'])} tokens"


def _noise_from_runs(reason: Reason) -> str:
    figures = reason.figures
    bases = []
    if figures["n_runs"]:
        mixes = f"{figures['n_mixes']} mix{'es' * (figures['n_mixes'] != 1)}"
        bases.append(f"{figures['n_runs']} runs of {mixes} in {figures['where']}")
    bases += ["the history"] if figures["history"] else []
    single = " A single seed of each mix shows no noise." if figures["n_seeds"] <= 1 else ""
    return f"estimated from {' and '.join(bases)}.{single}"


def _margins_lack_power(reason: Reason) -> str:
    weak = [f"{metric_list([metric])} (power {metric['power']:.0%})" for metric in reason.figures["metrics"]]
    return (
        "This design has little power to show that these guardrails stay within their margins, even if the candidate"
        f" changes nothing: {', '.join(weak)}. Add seeds or widen the margins."
    )


SENTENCES: Mapping[Code, Render] = {
    Code.NEED_SEEDS: lambda r: (
        f"Each mix needs {r.figures['n_seeds']} finished seeds"
        f"{', and both mixes need the same seeds' if r.figures['shared'] else ''}."
    ),
    Code.NEED_FINITE_SCORES: lambda _: (
        "All seeds need finite scores. Evaluate or train the named seeds again, or remove these seeds from all arms."
    ),
    Code.NEED_INDEPENDENT_PRIMARY: lambda _: (
        "The policy needs a primary metric that does not depend on a source that only one arm trains on, such as a"
        " benchmark or the held-out text of a source with `role: validation`."
    ),
    Code.NEED_SIGNAL: lambda _: (
        "The policy needs a primary metric with signal, such as bits per byte of the correct answers, or the sweep"
        " needs a larger proxy."
    ),
    Code.NEED_DECLINE_EXAMINED: lambda r: (
        f"Examine the decline of {r.name} with a larger proxy or more items, which give the metric signal."
    ),
    Code.NEED_INDEPENDENT_RUNS: _need_independent_runs,
    Code.NEED_SEEDS_TO_SHOW: _need_seeds_to_show,
    Code.SEEDS_DO_NOT_SUFFICE: _seeds_do_not_suffice,
    Code.WORSE_THAN_MARGIN_SO_FAR: lambda r: (
        f"The estimated decline of {r.name} is larger than its margin of {size(r, 'margin')}. More seeds will more"
        " likely confirm this decline than refute it."
    ),
    Code.GAIN_BELOW_MARGIN_SO_FAR: lambda r: (
        f"The estimated gain of {r.name} is below its margin of {size(r, 'margin')}. More seeds do not change the"
        " expected gain."
    ),
    Code.NEED_HISTORY_OR_PRIMARY: lambda _: (
        "A primary metric is needed, or a history with other mixes at the proxy and the target scale."
    ),
    Code.NEED_LARGER_HISTORY: lambda _: "The history needs more mixes like the compared mixes.",
    Code.NEED_SEEDS_AT_PROXY: lambda _: (
        "Each mix needs more seeds, because the difference at the proxy may be seed noise."
    ),
    Code.SEEDS_CANNOT_DECIDE_TARGET: _seeds_cannot_decide_target,
    Code.NEED_NEARER_PROXY: _need_nearer_proxy,
    Code.NEED_TARGET_METRIC: lambda r: (
        f"{r.name} must be measured at the proxy, or a proxy closer to {r.figures['scale']} is needed."
    ),
    Code.OTHER_METRIC: lambda _: (
        "Choose another primary metric that has signal, such as bits per byte of the correct answers."
    ),
    Code.MORE_ITEMS: lambda r: f"Score more items of {metric_list(r.figures['metrics'])}",
    Code.MORE_TOKENS: _more_tokens,
    Code.LARGER_PROXY: _larger_proxy,
    Code.TARGET_RUNS: lambda r: (
        f"Train both mixes at {r.figures['scale']}, {plural(r.figures['n_seeds'], 'seed')} of each mix."
    ),
    Code.CLAIM_BETTER: lambda r: f"{r.name} is better",
    Code.CLAIM_WORSE: lambda r: f"{r.name} is worse",
    Code.CLAIM_HOLDS: lambda r: f"{r.name} stays within its margin",
    Code.CLAIM_GUARDRAILS_HOLD: _guardrails_hold,
    Code.CLAIM_TARGET: lambda r: f"the winner in {r.name} at {r.figures['scale']} is certain enough",
    Code.BASIS_POLICY_MINIMUM: lambda _: "The policy requires this many seeds, and their result cannot be predicted.",
    Code.BASIS_ESTIMATES: lambda _: "The probability assumes that effects and noise are as estimated.",
    Code.BASIS_NO_SIGNAL: lambda _: "More seeds do not give a metric signal.",
    Code.BASIS_ITEM_NOISE: lambda _: (
        "Most of the noise comes from the choice of items, and scoring more items retrains no run."
    ),
    Code.BASIS_PAST_PROXIES: lambda r: (
        f"The probability is estimated from {r.figures['n_mixes']} past mixes that were trained at the current proxy,"
        f" the proposed proxy and {r.figures['scale']}."
    ),
    Code.BASIS_NO_PAST_PROXIES: lambda _: "The history does not show how well this proxy predicts the target.",
    Code.BASIS_PREDICTION: lambda _: (
        "The probability assumes that the predicted difference is correct, and that the noise equals that of past"
        " replicates at the target scale."
    ),
    Code.BASIS_NO_TARGET_NOISE: lambda _: "No past replicates show the noise at the target scale.",
    Code.BASIS_PAST_SPREAD: lambda r: (
        "The probability assumes that effects and noise change with tokens and proxy size as in"
        f" {r.figures['n_mixes']} past mixes."
    ),
    Code.BASIS_UNKNOWN_BY_TOKENS: lambda _: "No past runs show how effects and noise change with the number of tokens.",
    Code.BASIS_UNKNOWN_BY_SIZE: lambda _: "No past runs show how effects and noise change with proxy size.",
    Code.NOISE_UNKNOWN: lambda _: "unknown, because no past replicates of this proxy exist",
    Code.NOISE_FROM_RUNS: _noise_from_runs,
    Code.SEEDS_BELOW_POLICY: lambda r: (
        f"The policy requires {plural(r.figures['min_seeds'], 'seed')} of each mix. With"
        f" {plural(r.figures['n_seeds'], 'seed')}, no metric can decide."
    ),
    Code.MARGINS_LACK_POWER: _margins_lack_power,
}

WITH_CAUSES: Mapping[Code, RenderWithCauses] = {Code.OPTION: _option, Code.MORE_SEEDS: _more_seeds}
