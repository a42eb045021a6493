"""Select and order the comparisons of a verdict's table: an aggregate, its tasks, then the other voting metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from assay.config.aggregate import is_aggregate

if TYPE_CHECKING:
    from assay.analysis.comparison import Comparison

PARTS_SHOWN = 12
"""Maximum number of tasks of an aggregate in a table. The tasks with the lowest gains are shown."""


def voting_rows(comparisons: Sequence[Comparison], *, monitors: bool = False) -> list[Comparison]:
    """Return the comparisons that vote, with the tasks of an aggregate directly below it.

    Args:
        comparisons: comparisons of any number of candidates.
        monitors: whether to include metrics that do not vote.
    """
    parts: dict[tuple[str, str], list[Comparison]] = {}
    for c in comparisons:
        if c.part_of:
            parts.setdefault((c.candidate, c.part_of), []).append(c)
    rows: list[Comparison] = []
    for c in comparisons:
        if not c.part_of and (monitors or c.role != "monitor"):
            rows += [c, *_lowest(parts.get((c.candidate, c.task), []), all_of=monitors)]
    return rows


def _lowest(parts: Sequence[Comparison], *, all_of: bool) -> list[Comparison]:
    """Return the tasks of an aggregate: those that vote, and those with the lowest gains in its unit."""
    if all_of or len(parts) <= PARTS_SHOWN:
        return list(parts)
    silent = sorted((c for c in parts if c.role == "monitor"), key=lambda c: _known(c.part_gain))
    voting = [c for c in parts if c.role != "monitor"]
    kept = {id(c) for c in (*voting, *silent[: max(PARTS_SHOWN - len(voting), 1)])}
    return [c for c in parts if id(c) in kept]


def _known(gain: float) -> float:
    return math.inf if math.isnan(gain) else gain


def role(c: Comparison) -> str:
    """Return the role of a comparison; `part` for a task of an aggregate that does not vote itself."""
    return "part" if c.part_of and c.role == "monitor" else c.role


def indented(c: Comparison, name: str) -> str:
    """Return the name of a row, indented for a task of an aggregate."""
    return f"  {name}" if c.part_of and not is_aggregate(c.task) else name
