"""Sentences for the summaries of verdicts, the first line of each view."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from assay.config.reason import Code, Reason
from assay.report.reason_phrases import ends, percent, plural, sized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assay.report.reason_phrases import Render, RenderWithCauses

DECISIONS: Mapping[str, str] = {
    "ACCEPT": "the gate accepts the change (ACCEPT)",
    "REJECT": "the gate rejects the change (REJECT)",
    "INCONCLUSIVE": "the results do not decide (INCONCLUSIVE)",
    "BLOCKED": "a defect or a missing clearance blocks the change (BLOCKED)",
}
COUNTED: Mapping[str, str] = {
    "ACCEPT": "accepted",
    "REJECT": "rejected",
    "BLOCKED": "blocked",
    "INCONCLUSIVE": "undecided",
}


def _summary(reason: Reason) -> str:
    figures = reason.figures
    result = _result(reason)
    tested = f"{figures['candidate']} against {figures['baseline']}"
    return f"{tested}: {result + ', so ' if result else ''}{DECISIONS[figures['decision']]}{_mark(figures)}."


def _mark(figures: Mapping[str, Any]) -> str:
    return f"; policy and suite: {figures['registration']}" if figures["registration"] else ""


def _result(reason: Reason) -> str:
    """Describe the decisive effect; empty without a result."""
    figures = reason.figures
    if figures["decision"] == "BLOCKED":
        return ""
    if not reason.subject:
        return "there is no result of a voting metric"
    size = sized(reason.metric, figures["effect"], sign=True)
    relative = figures.get("effect_percent")
    details = [f"{relative:+.2g}% of the baseline"] if relative is not None else []
    if figures["ci_low"] is not None:
        details.append(
            f"{percent(figures['level'])} interval {ends(reason.metric, figures['ci_low'], figures['ci_high'])}"
        )
    else:
        details.append("the uncertainty is unknown")
    details.append(_seeds(figures))
    where = f" at {figures['scale']}" if "scale" in figures else ""
    verb = "is predicted to change" if "scale" in figures else "changes"
    early = f" after {percent(figures['stopped_at'])} of the tokens" if "stopped_at" in figures else ""
    result = f"{reason.name}{where} {verb} by {size}{early} ({', '.join([_direction(figures), *details])})"
    return result + _guardrails(figures)


def _seeds(figures: Mapping[str, Any]) -> str:
    """State the number of seeds; for arms with different numbers, those of both."""
    if "arm_seeds" not in figures:
        return plural(figures["n_seeds"], "seed")
    own, other = figures["arm_seeds"]
    return f"{plural(own, 'seed')} of {figures['baseline']} and {other} of {figures['candidate']}"


def _direction(figures: Mapping[str, Any]) -> str:
    effect = figures["effect"]
    if not effect:
        return "no change"
    return "better" if (effect > 0) == (figures["better"] == "higher") else "worse"


def _guardrails(figures: Mapping[str, Any]) -> str:
    number = figures.get("guardrails", 0)
    if not number:
        return ""
    held = figures["guardrails_held"]
    return f" with {held} of {number} guardrails shown to hold"


def _listing(parts: Sequence[str]) -> str:
    """Join parts of a sentence: `a`, `a and b`, or `a, b and c`."""
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def _sweep_summary(reason: Reason, causes: Sequence[str]) -> str:
    figures, (first,) = reason.figures, causes
    running = ""
    if figures["running"]:
        verb = "is" if figures["running"] == 1 else "are"
        running = f", but {plural(figures['running'], 'run')} of the sweep {verb} in progress"
    if figures["candidates"] == 1:
        return f"{first}{running}."
    counts = [
        f"{figures['counts'][key]} {'is' if figures['counts'][key] == 1 else 'are'} {word}"
        for key, word in COUNTED.items()
        if key in figures["counts"]
    ]
    return f"Of {figures['candidates']} candidates, {_listing(counts)}{running}; {first}."


SENTENCES: Mapping[Code, Render] = {Code.SUMMARY: _summary}
WITH_CAUSES: Mapping[Code, RenderWithCauses] = {Code.SWEEP_SUMMARY: _sweep_summary}
