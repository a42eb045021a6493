"""Format the headline of a sweep's verdict: state, decision, and the candidates of each decision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assay.analysis.gate import SweepVerdict

LISTED = 3
"""Maximum number of candidates that a headline names for one decision."""
_WORDS = {"ACCEPT": "accepted", "REJECT": "rejected", "BLOCKED": "blocked", "INCONCLUSIVE": "inconclusive"}


def state_and_decision(verdict: SweepVerdict | None) -> str:
    """Return the decision, after RUNNING while runs of the sweep are in progress."""
    if verdict is None:
        return "NO VERDICT"
    return f"RUNNING, {verdict.decision} so far" if verdict.running else str(verdict.decision)


def candidates(verdict: SweepVerdict, name: Callable[[str], str] = str) -> str:
    """List the candidates of each decision, such as `1 of 3 accepted: docs_for_man; 2 rejected: a, b`.

    Args:
        verdict: the verdict. The text is empty for a single candidate, whose decision is that of the sweep.
        name: formats the name of a candidate.
    """
    if len(verdict.candidates) < 2:
        return ""
    by_decision: dict[str, list[str]] = {}
    for mix, decided in verdict.candidates.items():
        by_decision.setdefault(str(decided.decision), []).append(name(mix))
    accepted = by_decision.pop("ACCEPT", [])
    parts = [f"{len(accepted)} of {len(verdict.candidates)} accepted" + _listed(accepted)]
    parts += [
        f"{len(by_decision[key])} {word}{_listed(by_decision[key])}"
        for key, word in _WORDS.items()
        if key in by_decision
    ]
    return "; ".join(parts)


def running(verdict: SweepVerdict) -> str:
    """List the runs in progress; empty if no run is in progress."""
    if not verdict.running:
        return ""
    noun = "run has" if len(verdict.running) == 1 else "runs have"
    return f"RUNNING: {len(verdict.running)} {noun} no result yet{_listed(verdict.running)}. The verdict may change."


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f": {', '.join(names[:LISTED])}{more}" if names else ""
