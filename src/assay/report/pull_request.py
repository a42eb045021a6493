"""Render verdicts on external results and on branches as Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from assay.core.serde import json_shape
from assay.report import formatting, headline
from assay.report.markdown import code, decision_lines, escape, headlines, mark, registration, summary
from assay.report.reason_text import label, paragraph, text, with_fix

if TYPE_CHECKING:
    from assay.analysis.gate import SweepVerdict
    from assay.config.diff import MixChange, SweepChange
    from assay.plan.plan import Plan

ERROR, INCONCLUSIVE = 2, 3
_WORST_FIRST = ("BLOCKED", "REJECT", "ERROR", "INCONCLUSIVE", "ACCEPT")
_CODES = {"BLOCKED": 4, "REJECT": 1, "ERROR": ERROR, "INCONCLUSIVE": INCONCLUSIVE, "ACCEPT": 0}
WEIGHTS = 8
"""Maximum number of listed changed weights per mix. `assay mix diff` shows all weights."""


@json_shape(
    {
        "sweep": "change.sweep",
        "new": "change.new",
        "settings": "change.settings",
        "mixes": lambda review: [change.mix for change in review.change.mixes],
        "candidates": "change.candidates",
        "runs": "runs",
        "in_place": "in_place",
        "merged": "merged",
        "problem": "problem",
        "verdict": "verdict",
    }
)
@dataclass(frozen=True, kw_only=True)
class SweepReview:
    """The verdict on a sweep that a branch changes."""

    change: SweepChange
    plan: Plan | None
    verdict: SweepVerdict | None
    """Verdict on the candidates that the branch changes."""
    problem: str | None = None
    """The error that prevented a verdict."""
    in_place: str | None = None
    """The edited baseline that the verdict compares with its previous version; None without such a baseline."""
    merged: str | None = None
    """Submitted candidate that the edited baseline now equals. The verdict is then the verdict on the submitted
    runs."""

    @property
    def decision(self) -> str:
        """The worst decision of the sweep's candidates, or ERROR."""
        return "ERROR" if self.verdict is None else str(self.verdict.decision)

    @property
    def runs(self) -> dict[str, dict[str, list[str]]]:
        """Seeds with results, and reasons for missing seeds, by changed candidate or control."""
        by_mix: dict[str, dict[str, list[str]]] = {}
        if self.plan is None:
            return by_mix
        arms = {*self.change.candidates, *map(self.plan.sweep.control, self.change.candidates)}
        for run in (run for run in self.plan.runs if run.mix in arms):
            seeds = by_mix.setdefault(run.mix, {"there": [], "missing": []})
            if run.status == "reuse":
                seeds["there"].append(str(run.seed))
            else:
                seeds["missing"].append(f"{run.seed} ({run.status}: {'; '.join(map(with_fix, run.reasons))})")
        return by_mix


@json_shape(
    {"verdict": "decision", "since": "revision"}
    | {name: name for name in ("base", "uncommitted", "mixes", "sources", "unasked", "sweeps", "notes")}
)
@dataclass(frozen=True, kw_only=True)
class Review:
    """The changes of a branch since a revision, and their verdicts."""

    revision: str
    base: str
    """The commit at which the branch diverged from the revision."""
    uncommitted: tuple[str, ...] = ()
    mixes: tuple[MixChange, ...] = ()
    sources: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)
    sweeps: tuple[SweepReview, ...] = ()
    only: str | None = None
    """The only reviewed sweep, if the user named a sweep."""
    notes: tuple[str, ...] = ()

    @property
    def unasked(self) -> tuple[str, ...]:
        """Added or changed mixes that no sweep contains."""
        mixes = {change.mix for sweep in self.sweeps for change in sweep.change.mixes}
        unused = [change.mix for change in self.mixes if change.kind != "removed" and change.mix not in mixes]
        return () if self.only is not None else tuple(unused)

    @property
    def decision(self) -> str | None:
        """The worst decision.

        The decision is INCONCLUSIVE for a mix without a sweep, and None without changes.
        """
        decisions = {*(sweep.decision for sweep in self.sweeps), *(["INCONCLUSIVE"] if self.unasked else [])}
        return next((decision for decision in _WORST_FIRST if decision in decisions), None)

    @property
    def exit_code(self) -> int:
        """The exit code of `assay gate branch`."""
        return 0 if self.decision is None else _CODES[self.decision]


def render_external_verdict(verdict: SweepVerdict, *, results: str, notes: Sequence[str]) -> str:
    """Render the verdict on external results as GitHub-flavored Markdown.

    Args:
        verdict: the verdict on all candidates.
        results: the name of the external results.
        notes: descriptions of omitted data.
    """
    parts = [
        f"## {verdict.decision}{mark(verdict)}: {code(results)}",
        summary(verdict),
        f"External results, baseline {code(verdict.baseline)}, policy {code(verdict.policy)}.",
        registration(verdict),
        *_candidates(verdict),
        *map(escape, notes),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def render_branch(review: Review) -> str:
    """Render the changes of a branch and their verdicts as GitHub-flavored Markdown."""
    since = f"since {code(review.revision)} ({code(review.base)})"
    if not (review.mixes or review.sources or review.sweeps):
        scope = f" of sweep {code(review.only)}" if review.only else ""
        return f"No mix, source or sweep{scope} has changed {since}, so there is no verdict.\n"
    parts = [
        f"## {review.decision or 'NO VERDICT'}: {formatting.count(len(review.mixes), 'mix', 'mixes')} changed {since}",
        _mixes(review),
        *(f"- Source {code(name)}: {escape('; '.join(changes))}" for name, changes in review.sources.items()),
        *(_unasked(name) for name in review.unasked),
        *(part for sweep in review.sweeps for part in _sweep(sweep)),
        *(f"**Note:** {escape(note)}" for note in review.notes),
        *([f"**Not committed:** {escape(', '.join(review.uncommitted))}"] if review.uncommitted else []),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _candidates(verdict: SweepVerdict) -> list[str]:
    """Return each candidate's verdict and the note on several candidates, as paragraphs."""
    alone = len(verdict.candidates) == 1
    paragraphs = [
        "\n".join(
            [f"### {candidate.decision}{mark(candidate)}: {code(name)}", "", *decision_lines(candidate, alone=alone)]
        )
        for name, candidate in verdict.candidates.items()
    ]
    mixes = [f"**{label(reason).capitalize()}:** {escape(text(reason))}" for reason in verdict.mixes]
    return [*paragraphs, *([escape(paragraph(verdict.note))] if verdict.note else []), *mixes]


def _unasked(mix: str) -> str:
    return f"- INCONCLUSIVE: no sweep contains {code(mix)}. Add it to a sweep in `sweeps/` to get a verdict."


def _mixes(review: Review) -> str:
    if not review.mixes:
        return ""
    rows = ["| mix | | weights | sweeps |", "| --- | --- | --- | --- |"]
    for change in review.mixes:
        changes = [sweep.change for sweep in review.sweeps if sweep.in_place is None]
        sweeps = [each.sweep for each in changes if change.mix in {mix.mix for mix in each.mixes}]
        cells = (code(change.mix), change.kind, _weights(change), ", ".join(map(code, sweeps)) or formatting.NOTHING)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _weights(change: MixChange) -> str:
    if change.kind == "removed":
        return formatting.NOTHING
    names = [
        name
        for name in sorted({*change.before, *change.after})
        if change.kind == "added" or abs(change.before.get(name, 0.0) - change.after.get(name, 0.0)) > 1e-12
    ]
    parts = [
        f"{code(name)} {formatting.percent(change.after.get(name, 0.0))}"
        if change.kind == "added"
        else f"{code(name)} {formatting.percent(change.before.get(name, 0.0))} \N{RIGHTWARDS ARROW} {formatting.percent(change.after.get(name, 0.0))}"
        for name in names[:WEIGHTS]
    ]
    parts += [f"{len(names) - WEIGHTS} more"] if len(names) > WEIGHTS else []
    parts += [f"the declaration of source {code(name)} changed" for name in change.sources]
    return ", ".join(parts) or "weights in proportion to tokens, or another limit on epochs"


def _sweep(sweep: SweepReview) -> list[str]:
    change = sweep.change
    why = [
        *(["the sweep is new"] if change.new else []),
        *([f"changed: {', '.join(change.settings)}"] if change.settings else []),
        *([f"mixes: {', '.join(mix.mix for mix in change.mixes)}"] if change.mixes else []),
    ]
    if sweep.in_place is not None:
        what = f"{code(sweep.in_place)} against its previous version, in sweep {code(change.sweep)}"
        parts = [
            f"## {sweep.decision}{mark(sweep.verdict)}: {what}",
            summary(sweep.verdict),
            "The branch edits this baseline in place.",
        ]
    else:
        decision = sweep.decision if sweep.verdict is None else headline.state_and_decision(sweep.verdict)
        parts = [f"## {decision}{mark(sweep.verdict)}: sweep {code(change.sweep)}", escape("; ".join(why))]
        parts += [summary(sweep.verdict), headlines(sweep.verdict)]
        if sweep.merged is not None:
            parts.append(
                f"The edited baseline equals the submitted candidate {code(sweep.merged)}. The verdict is that of the submitted runs."
            )
    if "policy" in change.settings and not change.new:
        parts.append("**The policy changed:** a verdict by a policy that was chosen after the results proves little.")
    if sentence := registration(sweep.verdict):
        parts.append(sentence)
    if sweep.problem is not None:
        return [*parts, f"No verdict: {escape(sweep.problem)}"]
    parts.append(_runs(sweep))
    return [*parts, *(_candidates(sweep.verdict) if sweep.verdict else ())]


def _runs(sweep: SweepReview) -> str:
    rows = ["| mix | seeds with results | missing |", "| --- | --- | --- |"]
    for mix, runs in sweep.runs.items():
        missing = (
            escape(formatting.shortened("; ".join(runs["missing"]), 300)) if runs["missing"] else formatting.NOTHING
        )
        rows.append(f"| {code(mix)} | {', '.join(runs['there']) or formatting.NOTHING} | {missing} |")
    lacking = sum(len(runs["missing"]) for runs in sweep.runs.values())
    if lacking:
        rows += ["", f"To train the missing runs: {code(f'assay submit sweep={sweep.change.sweep}')}"]
    return "\n".join(rows)
