"""Optional parts of `assay compare`: average ranks, effects by subject of a task, and effects by source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from assay.analysis.breakdowns import Parts, Ranks
    from assay.analysis.comparison import Comparison
    from assay.analysis.gate import SweepVerdict
    from assay.analysis.verdict import RegisteredSweep

SUBJECTS_OF = "mmlu"
METRIC = "acc"


class Breakdown(StrEnum):
    """The groups by which effects are broken down."""

    SUBJECT = "subject"
    SOURCE = "source"


By = Annotated[
    Breakdown | None,
    typer.Option(
        "--by", help="Break effects down by `subject` (MMLU subjects and categories) or by `source` (bits per byte)."
    ),
]
WithRanks = Annotated[
    bool, typer.Option("--ranks", help="Also print the average rank of each mix over the suite's tasks.")
]


@dataclass(frozen=True, kw_only=True)
class ComparisonExtras:
    """The requested parts of the output. Parts that the user did not request are empty."""

    ranks: Ranks | None = None
    parts: dict[str, Parts]
    """Effects by subject, for each candidate."""
    sources: Mapping[str, Sequence[Comparison]]
    """Effects by source, for each candidate."""

    def to_mapping(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        from assay.report.reason_text import to_json

        plain: dict[str, Any] = {} if self.ranks is None else {"average_ranks": to_json(self.ranks)}
        if self.parts:
            plain["by_subject"] = to_json(self.parts)
        if self.sources:
            plain["by_source"] = to_json(self.sources)
        return plain


NOTHING = ComparisonExtras(parts={}, sources={})


def break_down(case: RegisteredSweep, verdict: SweepVerdict, by: Breakdown | None, *, ranks: bool) -> ComparisonExtras:
    """Compute the requested parts.

    Args:
        case: the evaluated sweep.
        verdict: its verdict, whose comparisons are broken down.
        by: the value of --by.
        ranks: the value of --ranks.

    Raises:
        AssayError: no score can be broken down or ranked.
    """
    from assay.analysis.breakdowns import average_ranks, by_part, by_source
    from assay.analysis.results import collect

    if by is None and not ranks:
        return NOTHING
    results = collect(case.space.store, case.plan)
    candidates = verdict.candidates
    average = None
    if ranks:
        every = [c for candidate in candidates.values() for c in candidate.comparisons]
        mixes = [verdict.baseline, *candidates]
        average = average_ranks(results.scores, every, mixes=list(dict.fromkeys(mixes)))
    parts = {}
    if by == Breakdown.SUBJECT:
        members = categories(SUBJECTS_OF)
        parts = {
            name: by_part(
                results.scores,
                results.items,
                case.space.study.policy,
                baseline=candidate.baseline,
                candidate=name,
                task=SUBJECTS_OF,
                metric=METRIC,
                members=members,
            )
            for name, candidate in candidates.items()
        }
    by_name = candidates.items() if by == Breakdown.SOURCE else ()
    sources = {name: by_source(candidate.comparisons) for name, candidate in by_name}
    return ComparisonExtras(ranks=average, parts=parts, sources=sources)


def categories(task: str) -> dict[str, list[str]]:
    """Return the groups of a task in lm-eval with the parts of each, such as MMLU's four categories."""
    from assay.evaluate.task_index import load_catalog

    catalog = load_catalog()
    names = {name for name in catalog.groups if name.startswith(f"{task}_")}
    whole = set(catalog.leaves(task))
    return {name: leaves for name in sorted(names) if (leaves := catalog.leaves(name)) and set(leaves) < whole}


def views(extras: ComparisonExtras) -> list[RenderableType]:
    """Render the requested parts for a terminal."""
    from rich.text import Text

    from assay.report.terminal.extras import ranks_view
    from assay.report.terminal.verdict import comparisons_view

    shown: list[RenderableType] = [] if extras.ranks is None else [ranks_view(extras.ranks)]
    for name, parts in extras.parts.items():
        note = "the p of each claim bounds the false discovery rate, within categories and within subjects"
        shown.append(Text(f"{name}: {parts.task} by category, then by subject, worst first ({note})"))
        shown += [comparisons_view([*parts.categories, *parts.subjects])]
    for name, comparisons in extras.sources.items():
        shown += [Text(f"{name}: bits per byte by source, worst first"), comparisons_view(comparisons)]
    return shown
