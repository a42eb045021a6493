"""What `assay compare` shows beside its comparisons where it is asked: average ranks, subjects of a task, sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.errors import AssayError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from assay.compare import Comparison
    from assay.conclude import Case
    from assay.effects import Parts, Ranks
    from assay.gate import SweepVerdict

SUBJECTS_OF = "mmlu"
METRIC = "acc"


class Breakdown(StrEnum):
    """What effects are broken down by."""

    SUBJECT = "subject"
    SOURCE = "source"


By = Annotated[
    Breakdown | None,
    typer.Option("--by", help="Break effects down: by MMLU's subjects and categories, or bits per byte by source."),
]
WithRanks = Annotated[bool, typer.Option("--ranks", help="Also the average rank of each mix over the suite's tasks.")]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The effects that were asked for; what was not is empty."""

    ranks: Ranks | None = None
    parts: dict[str, Parts]
    """By candidate."""
    sources: Mapping[str, Sequence[Comparison]]
    """By candidate."""

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain: dict[str, Any] = {} if self.ranks is None else {"average_ranks": self.ranks.to_mapping()}
        if self.parts:
            plain["by_subject"] = {name: found.to_mapping() for name, found in self.parts.items()}
        if self.sources:
            plain["by_source"] = {name: [c.to_mapping() for c in found] for name, found in self.sources.items()}
        return plain


NOTHING = Asked(parts={}, sources={})


def refuse(by: Breakdown | None, *, ranks: bool) -> None:
    """Refuse for imported results what needs the questions of a store's own runs.

    Raises:
        AssayError: one of them was asked for.
    """
    if by is not None or ranks:
        raise AssayError("--by and --ranks are about a sweep's own runs.", fix="Leave them out with --results.")


def asked(case: Case, verdict: SweepVerdict, by: Breakdown | None, *, ranks: bool) -> Asked:
    """Work out what was asked for.

    Args:
        case: the sweep that was judged.
        verdict: on it, whose comparisons are broken down.
        by: of --by.
        ranks: of --ranks.

    Raises:
        AssayError: nothing was scored that could be broken down or ranked.
    """
    from assay.effects import average_ranks, by_part, by_source
    from assay.results import collect

    if by is None and not ranks:
        return NOTHING
    results = collect(case.space.store, case.plan)
    found = verdict.candidates
    standing = None
    if ranks:
        every = [c for one in found.values() for c in one.comparisons]
        mixes = [verdict.baseline, *found]
        standing = average_ranks(results.scores, every, mixes=list(dict.fromkeys(mixes)))
    parts = {}
    if by == Breakdown.SUBJECT:
        members = categories(SUBJECTS_OF)
        parts = {
            name: by_part(
                results.scores,
                results.items,
                case.space.study.policy,
                baseline=one.baseline,
                candidate=name,
                task=SUBJECTS_OF,
                metric=METRIC,
                members=members,
            )
            for name, one in found.items()
        }
    sources = {name: by_source(one.comparisons) for name, one in found.items()} if by == Breakdown.SOURCE else {}
    return Asked(ranks=standing, parts=parts, sources=sources)


def categories(task: str) -> dict[str, list[str]]:
    """The groups of a task and the parts that each stands for, as lm-eval has them: MMLU's four categories."""
    from assay.evaluate.catalogue import load_catalogue

    catalogue = load_catalogue()
    names = {name for name in catalogue.groups if name.startswith(f"{task}_")}
    whole = set(catalogue.leaves(task))
    return {name: leaves for name in sorted(names) if (leaves := catalogue.leaves(name)) and set(leaves) < whole}


def views(found: Asked) -> list[RenderableType]:
    """What was asked for, for a terminal."""
    from rich.text import Text

    from assay.publish.beside import ranks_view
    from assay.publish.terminal import comparisons_view

    shown: list[RenderableType] = [] if found.ranks is None else [ranks_view(found.ranks)]
    for name, parts in found.parts.items():
        told = "adj. p: of those below a bound at most that share is noise, within categories and within subjects"
        shown.append(Text(f"{name}: {parts.task} by category, then by subject, the worst first ({told})"))
        shown += [comparisons_view([*parts.categories, *parts.subjects])]
    for name, comparisons in found.sources.items():
        shown += [Text(f"{name}: bits per byte by source, the worst first"), comparisons_view(comparisons)]
    return shown
