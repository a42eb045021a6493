"""Looks at candidates that still train, in a terminal: what to do, why, and the intervals that hold over all looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from assay.publish import words
from assay.publish.report import finite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from assay.early import Look

STYLES = {
    "STOP as winner": "bold green",
    "STOP as loser": "bold red",
    "GO ON": "bold yellow",
    "ENDED": "bold",
}


def looks_view(looks: Sequence[Look]) -> RenderableType:
    """Every candidate that was looked at."""
    parts: list[RenderableType] = []
    for one in looks:
        parts += [*([Text("")] if parts else []), _candidate(one)]
    return Group(*parts)


def _candidate(found: Look) -> RenderableType:
    advice = str(found.advice)
    lines: list[RenderableType] = [
        Text.assemble(
            (advice, STYLES[advice]), "  ", (found.candidate, "bold"), f" against {found.baseline}", overflow="fold"
        )
    ]
    for sentence in found.sentences():
        row = Table.grid(padding=(0, 1))
        row.add_column(width=3, justify="right")
        row.add_column(overflow="fold")
        row.add_row(Text("-", style="dim"), Text(sentence))
        lines.append(row)
    if found.sequences():
        lines.append(Padding(_table(found), (1, 0, 0, 2)))
    return Group(*lines)


def _table(found: Look) -> Table:
    """A row for each metric that may vote and look so far."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("task and metric", overflow="fold")
    for name in ("at", "effect", f"interval ({1 - found.together:.0%})", "p, all looks"):
        table.add_column(name, justify="right", no_wrap=not name.startswith("interval"))
    for (task, metric), seen in found.sequences().items():
        for i, tokens in enumerate(seen.at):
            table.add_row(
                Text(f"{task} {metric}" if i == 0 else ""),
                Text(f"{tokens / found.budget_tokens:.0%}"),
                Text(words.signed(metric, finite(seen.estimate[i]))),
                Text(words.interval(metric, finite(seen.low[i]), finite(seen.high[i]))),
                Text(words.probability(finite(seen.p[i]))),
            )
    return table
