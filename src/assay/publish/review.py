"""What a pull request shows of verdicts that are no one sweep's: imported results, and a branch's changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from assay.publish import words
from assay.publish.markdown import code, escape, judged, mark, registration

if TYPE_CHECKING:
    from assay.changes import MixChange, SweepChange
    from assay.gate import SweepVerdict
    from assay.plan import Plan

ERROR, INCONCLUSIVE = 2, 3
_WORST_FIRST = ("BLOCKED", "REJECT", "ERROR", "INCONCLUSIVE", "ACCEPT")
_CODES = {"BLOCKED": 4, "REJECT": 1, "ERROR": ERROR, "INCONCLUSIVE": INCONCLUSIVE, "ACCEPT": 0}
WEIGHTS = 8
"""Weights that are shown of a change; the others are in `assay mix diff`."""


@dataclass(frozen=True, kw_only=True)
class SweepReview:
    """A sweep that a branch touches, and what is known of it."""

    change: SweepChange
    plan: Plan | None
    verdict: SweepVerdict | None
    """On the candidates that the branch changes."""
    problem: str | None = None
    """Why it could not be judged."""
    in_place: str | None = None
    """The baseline that was edited, where it is judged against what it was."""

    @property
    def decision(self) -> str:
        """The worst of its candidates', or ERROR."""
        return "ERROR" if self.verdict is None else str(self.verdict.decision)

    @property
    def runs(self) -> dict[str, dict[str, list[str]]]:
        """Of each mix that is judged or measured against: the seeds whose results are there, and what becomes of the others."""
        found: dict[str, dict[str, list[str]]] = {}
        if self.plan is None:
            return found
        asked = {*self.change.candidates, *map(self.plan.sweep.control, self.change.candidates)}
        for run in (run for run in self.plan.runs if run.mix in asked):
            there = found.setdefault(run.mix, {"there": [], "missing": []})
            if run.status == "reuse":
                there["there"].append(str(run.seed))
            else:
                there["missing"].append(f"{run.seed} ({run.status}: {'; '.join(run.reasons)})")
        return found


@dataclass(frozen=True, kw_only=True)
class Review:
    """All that a branch changes, against a revision."""

    revision: str
    base: str
    """The commit at which the branch left it."""
    uncommitted: tuple[str, ...] = ()
    mixes: tuple[MixChange, ...] = ()
    sources: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)
    sweeps: tuple[SweepReview, ...] = ()
    only: str | None = None
    """The one sweep that was looked at, where it was named."""
    notes: tuple[str, ...] = ()

    @property
    def unasked(self) -> tuple[str, ...]:
        """Mixes that were added or changed, and that no sweep asks about."""
        asked = {change.mix for sweep in self.sweeps for change in sweep.change.mixes}
        found = [change.mix for change in self.mixes if change.kind != "removed" and change.mix not in asked]
        return () if self.only is not None else tuple(found)

    @property
    def decision(self) -> str | None:
        """The worst verdict; a mix that no sweep asks about is INCONCLUSIVE. None where there is nothing to judge."""
        found = {*(sweep.decision for sweep in self.sweeps), *(["INCONCLUSIVE"] if self.unasked else [])}
        return next((decision for decision in _WORST_FIRST if decision in found), None)

    @property
    def exit_code(self) -> int:
        """What `assay gate --since` exits with."""
        return 0 if self.decision is None else _CODES[self.decision]

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "verdict": self.decision,
            "since": self.revision,
            "base": self.base,
            "uncommitted": list(self.uncommitted),
            "mixes": [vars(change) for change in self.mixes],
            "sources": {name: list(told) for name, told in self.sources.items()},
            "unasked": list(self.unasked),
            "sweeps": [
                {
                    "sweep": one.change.sweep,
                    "new": one.change.new,
                    "settings": list(one.change.settings),
                    "mixes": [change.mix for change in one.change.mixes],
                    "candidates": list(one.change.candidates),
                    "runs": one.runs,
                    "in_place": one.in_place,
                    "problem": one.problem,
                    "verdict": None if one.verdict is None else one.verdict.to_mapping(),
                }
                for one in self.sweeps
            ],
            "notes": list(self.notes),
        }


def imported(verdict: SweepVerdict, *, results: str, notes: Sequence[str]) -> str:
    """The verdict on imported results as GitHub-flavoured Markdown.

    Args:
        verdict: on all candidates.
        results: what they were imported as.
        notes: what was left out.
    """
    parts = [
        f"## {verdict.decision}{mark(verdict)}: {code(results)}",
        f"Imported results, baseline {code(verdict.baseline)}, policy {code(verdict.policy)}.",
        registration(verdict),
        *_candidates(verdict),
        *map(escape, notes),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def branch(review: Review) -> str:
    """What a branch changes, and its verdicts, as GitHub-flavoured Markdown."""
    since = f"since {code(review.revision)} ({code(review.base)})"
    if not (review.mixes or review.sources or review.sweeps):
        looked = f" of sweep {code(review.only)}" if review.only else ""
        return f"No mix, source or sweep{looked} is changed {since}: there is nothing to judge.\n"
    parts = [
        f"## {review.decision or 'Nothing to judge'}: {words.count(len(review.mixes), 'mix', 'mixes')} changed {since}",
        _mixes(review),
        *(f"- Source {code(name)}: {escape('; '.join(told))}" for name, told in review.sources.items()),
        *(_unasked(name) for name in review.unasked),
        *(part for sweep in review.sweeps for part in _sweep(sweep)),
        *(f"**Note:** {escape(note)}" for note in review.notes),
        *([f"**Not committed:** {escape(', '.join(review.uncommitted))}"] if review.uncommitted else []),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _candidates(verdict: SweepVerdict) -> list[str]:
    """Each candidate's verdict, and what judging several means, as paragraphs."""
    found = [
        "\n".join([f"### {one.decision}{mark(one)}: {code(name)}", "", *judged(one)])
        for name, one in verdict.candidates.items()
    ]
    return [*found, *([escape(verdict.note)] if verdict.note else [])]


def _unasked(mix: str) -> str:
    return f"- INCONCLUSIVE: no sweep has {code(mix)}. Name it in one of `sweeps/` to have it judged."


def _mixes(review: Review) -> str:
    if not review.mixes:
        return ""
    rows = ["| mix | | weights | sweeps |", "| --- | --- | --- | --- |"]
    for change in review.mixes:
        asking = (one for one in review.sweeps if one.in_place is None)
        sweeps = [one.change.sweep for one in asking if change.mix in {found.mix for found in one.change.mixes}]
        cells = (code(change.mix), change.kind, _weights(change), ", ".join(map(code, sweeps)) or words.NOTHING)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _weights(change: MixChange) -> str:
    if change.kind == "removed":
        return words.NOTHING
    names = [
        name
        for name in sorted({*change.before, *change.after})
        if change.kind == "added" or abs(change.before.get(name, 0.0) - change.after.get(name, 0.0)) > 1e-12
    ]
    told = [
        f"{code(name)} {_percent(change.after.get(name, 0.0))}"
        if change.kind == "added"
        else f"{code(name)} {_percent(change.before.get(name, 0.0))} \N{RIGHTWARDS ARROW} {_percent(change.after.get(name, 0.0))}"
        for name in names[:WEIGHTS]
    ]
    told += [f"{len(names) - WEIGHTS} more"] if len(names) > WEIGHTS else []
    told += [f"source {code(name)} is declared otherwise" for name in change.sources]
    return ", ".join(told) or "in proportion to tokens, or by another cap on epochs"


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _sweep(sweep: SweepReview) -> list[str]:
    change = sweep.change
    why = [
        *(["the sweep is new"] if change.new else []),
        *([f"changed: {', '.join(change.settings)}"] if change.settings else []),
        *([f"mixes: {', '.join(one.mix for one in change.mixes)}"] if change.mixes else []),
    ]
    if sweep.in_place is not None:
        what = f"{code(sweep.in_place)} against what it was, in sweep {code(change.sweep)}"
        parts = [f"## {sweep.decision}{mark(sweep.verdict)}: {what}", "It is a baseline, and was edited in place."]
    else:
        parts = [f"## {sweep.decision}{mark(sweep.verdict)}: sweep {code(change.sweep)}", escape("; ".join(why))]
    if "policy" in change.settings and not change.new:
        parts.append(
            "**The policy is another than before:** a verdict by a policy that was chosen after the results proves little."
        )
    if told := registration(sweep.verdict):
        parts.append(told)
    if sweep.problem is not None:
        return [*parts, f"It cannot be judged: {escape(sweep.problem)}"]
    parts.append(_runs(sweep))
    return [*parts, *(_candidates(sweep.verdict) if sweep.verdict else ())]


def _runs(sweep: SweepReview) -> str:
    rows = ["| mix | seeds with results | missing |", "| --- | --- | --- |"]
    for mix, runs in sweep.runs.items():
        missing = escape(words.shortened("; ".join(runs["missing"]), 300)) if runs["missing"] else words.NOTHING
        rows.append(f"| {code(mix)} | {', '.join(runs['there']) or words.NOTHING} | {missing} |")
    lacking = sum(len(runs["missing"]) for runs in sweep.runs.values())
    if lacking:
        rows += ["", f"To make what is missing: {code(f'assay submit sweep={sweep.change.sweep}')}"]
    return "\n".join(rows)
