"""Render interim analyses for the terminal: advice, reasons, and always-valid intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from assay.report import formatting
from assay.report.model import finite
from assay.report.reason_text import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from assay.analysis.early_stopping import InterimResult

STYLES = {
    "STOP as winner": "bold green",
    "STOP as loser": "bold red",
    "GO ON": "bold yellow",
    "ENDED": "bold",
}


def interim_view(results: Sequence[InterimResult]) -> RenderableType:
    """Render the interim analysis of every candidate."""
    parts: list[RenderableType] = []
    for analysis in results:
        parts += [*([Text("")] if parts else []), _candidate(analysis)]
    return Group(*parts)


def _candidate(analysis: InterimResult) -> RenderableType:
    advice = str(analysis.advice)
    lines: list[RenderableType] = [
        Text.assemble(
            (advice, STYLES[advice]),
            "  ",
            (analysis.candidate, "bold"),
            f" against {analysis.baseline}",
            overflow="fold",
        )
    ]
    for reason in analysis.reasons():
        row = Table.grid(padding=(0, 1))
        row.add_column(width=3, justify="right")
        row.add_column(overflow="fold")
        row.add_row(Text("-", style="dim"), Text(text(reason)))
        lines.append(row)
    if analysis.sequences():
        lines.append(Padding(_table(analysis), (1, 0, 0, 2)))
    return Group(*lines)


def _table(analysis: InterimResult) -> Table:
    """Render a row for each voting metric and analysis so far."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("task and metric", overflow="fold")
    for name in ("at", "effect", f"interval ({1 - analysis.joint_alpha:.0%})", "p, all analyses"):
        table.add_column(name, justify="right", no_wrap=not name.startswith("interval"))
    for (task, metric), sequence in analysis.sequences().items():
        for i, tokens in enumerate(sequence.at):
            table.add_row(
                Text(f"{task} {metric}" if i == 0 else ""),
                Text(f"{tokens / analysis.budget_tokens:.0%}"),
                Text(formatting.signed(metric, finite(sequence.estimate[i]))),
                Text(formatting.interval(metric, finite(sequence.low[i]), finite(sequence.high[i]))),
                Text(formatting.probability(finite(sequence.p[i]))),
            )
    return table
