"""Render verdicts and comparisons for the terminal, with columns that fit its width."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from assay.report import formatting, headline
from assay.report.model import finite
from assay.report.reason_text import label, paragraph, scope_text, text
from assay.report.voting_rows import indented, role, voting_rows

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

    from assay.analysis.comparison import Comparison
    from assay.analysis.gate import SweepVerdict, Verdict
    from assay.config.reason import Reason
    from assay.plan.registration import RegistrationState

STYLES = {"ACCEPT": "bold green", "REJECT": "bold red", "INCONCLUSIVE": "bold yellow", "BLOCKED": "bold magenta"}
SIGNS = {"ACCEPT": "+", "REJECT": "x", "INCONCLUSIVE": "?", "BLOCKED": "!"}
"""Signs that show the decision without color."""

CHART = 23
"""Width of the chart in columns. The width is odd, so that 0 has a column, and no wider than most intervals."""
AXIS = "worse \N{RIGHTWARDS ARROW} better"
OUTLYING = 4.0
WIDEST, WIDER, WIDE, NARROW = 166, 132, 116, 66
"""Minimum terminal widths for the measured means, the relative effects, a separate chart column, and a column of p-values."""


def verdict_view(verdict: SweepVerdict, *, monitors: bool = False) -> RenderableType:
    """Render a sweep's verdict: a summary, then each candidate's decision, reasons, needs and voting comparisons.

    Args:
        verdict: the verdict.
        monitors: whether to show monitor metrics, which do not vote.
    """
    mark = f" ({verdict.registration.state})" if verdict.registration and verdict.registration.marked else ""
    several = headline.candidates(verdict)
    head = f"{f'  {several}' if several else ''}  policy {verdict.policy}, baseline {verdict.baseline}"
    first = Text.assemble(_decision(str(verdict.decision)), (mark, "bold red"), head, overflow="fold")
    running = [Text(headline.running(verdict), style="bold cyan")] if verdict.running else []
    parts: list[RenderableType] = [*running, Text(text(verdict.summary), style="bold"), Text(""), first]
    if verdict.registration is not None:
        parts.append(registration_view(verdict.registration))
    parts += [Text(f"{label(reason)}: {text(reason)}", style="yellow") for reason in verdict.mixes]
    alone = len(verdict.candidates) == 1
    for candidate in verdict.candidates.values():
        other = candidate.baseline if candidate.baseline != verdict.baseline else None
        parts += [Text(""), _candidate(candidate, monitors=monitors, control=other, alone=alone)]
    if verdict.note:
        parts += [Text(""), Text(paragraph(verdict.note), style="dim")]
    return Group(*parts)


def registration_view(registration: RegistrationState) -> RenderableType:
    """Render whether policy and suite were fixed before the results, with changes in red."""
    style = "bold red" if registration.marked else "yellow" if registration.configured else "dim"
    return Text(paragraph(registration.reasons), style=style)


def missing_view(missing: Mapping[str, Sequence[Reason]]) -> RenderableType:
    """Render the planned runs without results by reason, each with its mixes."""
    by_reason: dict[Reason, list[str]] = {}
    for mix, reasons in missing.items():
        for reason in reasons:
            by_reason.setdefault(reason, []).append(mix)
    # The sentence of a reason with a subject names the mix.
    lines = [
        _item("-", text(reason) if reason.subject else f"{', '.join(mixes)}: {text(reason)}")
        for reason, mixes in by_reason.items()
    ]
    return Group(Text("missing from these results:", style="yellow"), *lines)


def comparisons_view(comparisons: Sequence[Comparison]) -> RenderableType:
    """Render comparisons as a table with as many columns as fit the terminal."""
    return _Comparisons(tuple(comparisons)) if comparisons else Text("nothing to compare yet", style="dim")


class _Comparisons:
    """A table that chooses its columns by the available width."""

    def __init__(self, comparisons: tuple[Comparison, ...]) -> None:
        self._comparisons = comparisons

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        del console
        table = _table(self._comparisons, options.max_width)
        if options.ascii_only:
            table.box = None  # rich's vertical bars between columns would resemble the 0 of a chart
            table.padding = (0, 2, 0, 0)
        yield table


def _decision(decision: str) -> Text:
    return Text(f"{SIGNS[decision]} {decision}", style=STYLES[decision])


def _candidate(verdict: Verdict, *, monitors: bool, control: str | None, alone: bool) -> RenderableType:
    mark = f" ({verdict.registration.state})" if verdict.registration and verdict.registration.marked else ""
    decision = _decision(str(verdict.decision))
    name = Text.assemble(decision, (mark, "bold red"), "  ", (verdict.candidate, "bold"), overflow="fold")
    if control is not None:
        name.append(f"  against {control}")
    lines: list[RenderableType] = [name]
    if not alone:
        lines.append(_item(" ", text(verdict.summary), style="bold"))
    lines += [_item("-", text(reason)) for reason in verdict.reasons]
    lines += [_item(">", f"to decide: {text(need)}") for need in verdict.needed]
    lines.append(_item(" ", scope_text(verdict.scope), style="dim"))
    shown = voting_rows(verdict.comparisons, monitors=monitors)
    if shown:
        lines.append(Padding(comparisons_view(shown), (1, 0, 0, 2)))
    return Group(*lines)


def _item(sign: str, sentence: str, *, style: str = "") -> RenderableType:
    row = Table.grid(padding=(0, 1))
    row.add_column(width=3, justify="right")
    row.add_column(overflow="fold")
    row.add_row(Text(sign, style="dim"), Text(sentence, style=style))
    return row


class _Column(NamedTuple):
    """The name of a column, and the function that formats its cells."""

    name: str
    cell: Callable[[Comparison], str]
    justify: Literal["left", "right"] = "right"


EFFECT = _Column("effect", lambda c: formatting.signed(c.metric, finite(c.effect)))
INTERVAL = _Column("interval", lambda c: formatting.interval(c.metric, finite(c.ci_low), finite(c.ci_high)))
P = _Column("p", lambda c: formatting.probability(finite(c.p_claim)))
CLAIM = _Column("claim", formatting.claim, "left")
RELATIVE = (
    _Column("relative", lambda c: formatting.signed_percent(finite(c.effect_percent))),
    _Column("in SDs", lambda c: formatting.signed_sds(finite(c.effect_sds))),
)
ROLE = _Column("role", role, "left")
MEASURED = (
    _Column("baseline", lambda c: formatting.score(c.metric, finite(c.baseline_mean))),
    _Column("candidate", lambda c: formatting.score(c.metric, finite(c.candidate_mean))),
    _Column("seeds", lambda c: str(c.n_seeds)),
    _Column("items", lambda c: formatting.NOTHING if c.n_items is None else f"{c.n_items:,}"),
)


def _table(comparisons: Sequence[Comparison], width: int) -> Table:
    """Build the table, with the chart in a separate column or below the interval.

    The chart is below the interval in a narrow terminal.
    """
    return _wide(comparisons, width) if width >= WIDE else _narrow(comparisons, width)


def _wide(comparisons: Sequence[Comparison], width: int) -> Table:
    scales = _scales(comparisons)
    small = _Column(AXIS.center(CHART), lambda c: chart(c, scales[_scale_of(c)]), "left")
    relative, measured = RELATIVE if width >= WIDER else (), MEASURED if width >= WIDEST else ()
    columns = (EFFECT, *relative, INTERVAL, P, CLAIM, ROLE, small, *measured)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("task and metric", overflow="fold")
    for column in columns:
        table.add_column(column.name, justify=column.justify, no_wrap=True)
    for c in comparisons:
        table.add_row(Text(_name(c)), *(Text(column.cell(c)) for column in columns), style=_style(c))
    return table


def _narrow(comparisons: Sequence[Comparison], width: int) -> Table:
    """Build two lines per comparison: role below name, chart below interval, claim below its p-value."""
    scales = _scales(comparisons)
    figures = (EFFECT, INTERVAL, P) if width >= NARROW else (EFFECT, INTERVAL)
    cells = {column: [column.name, *map(column.cell, comparisons)] for column in figures}
    if P in figures:
        cells[P] = ["p of\nclaim", *(f"{P.cell(c)}\n{CLAIM.cell(c)}" for c in comparisons)]
    widths = {column: max(len(line) for cell in cells[column] for line in cell.split("\n")) for column in figures}
    widths[INTERVAL] = max(widths[INTERVAL], CHART)
    below = [AXIS.center(CHART), *(chart(c, scales[_scale_of(c)]) for c in comparisons)]
    # Padded here, because rich strips spaces at the right end of a chart, which would misalign its 0.
    cells[INTERVAL] = [
        f"{ends:>{widths[INTERVAL]}}\n{line:>{widths[INTERVAL]}}"
        for ends, line in zip(cells[INTERVAL], below, strict=True)
    ]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("task and metric\n  role" + ("" if P in figures else ", p of claim"), overflow="fold")
    for column in figures:
        justify: Literal["left", "right"] = "left" if column is INTERVAL else "right"
        table.add_column(cells[column][0], justify=justify, no_wrap=True)
    room = width - sum(widths.values()) - 2 * len(figures)
    for c, *shown in zip(comparisons, *(cells[column][1:] for column in figures), strict=True):
        detail = role(c) if P in figures else f"{role(c)}, {P.cell(c)} {CLAIM.cell(c)}"
        table.add_row(_two_lines(c, detail, room=room), *map(Text, shown), style=_style(c))
    return table


def _two_lines(c: Comparison, detail: str, *, room: int) -> Text:
    """Put task and metric on the first line, and the detail on the second line.

    If the first line is full, the metric moves to the second line, before the detail.
    """
    first, second = _name(c), detail
    if len(first) > room:
        first = indented(c, c.task)
        second = f"{_name(c).removeprefix(f'{first} ')}, {detail}"
    return Text.assemble(first, "\n", (f"  {second}", "dim"))


def _name(c: Comparison) -> str:
    return indented(c, f"{c.task} {c.metric}") + ("" if c.signal == "ok" else f" ({_signal(c)})")


def _style(c: Comparison) -> str:
    return "dim" if c.signal == "no signal" else ""


def _signal(c: Comparison) -> str:
    return "no signal" if c.signal == "no signal" else "signal unknown"


def _scale_of(c: Comparison) -> tuple[str, bool]:
    """Return the group of comparisons with a common chart scale: by metric, monitors separately."""
    return c.metric, c.role == "monitor"


def _scales(comparisons: Sequence[Comparison]) -> dict[tuple[str, bool], float]:
    """Return the range of each group's charts, so that charts in a group are comparable.

    Tasks with few items have intervals of 100 points, which would shrink all other intervals to dots at 0. No chart
    therefore extends further than `OUTLYING` times the median.
    """
    reaches: dict[tuple[str, bool], list[float]] = {}
    for c in comparisons:
        ends = [abs(value) for value in map(finite, (c.effect, c.ci_low, c.ci_high)) if value is not None]
        reaches.setdefault(_scale_of(c), []).append(max(ends, default=0.0))
    return {key: min(max(values), OUTLYING * statistics.median(values) or math.inf) for key, values in reaches.items()}


def chart(c: Comparison, scale: float) -> str:
    """Draw an interval in one line of text.

    Zero is in the middle, and improvements are to the right. An arrow marks an end of the interval outside the chart. A metric
    without a known direction of improvement has an empty chart.

    Args:
        c: the comparison.
        scale: distance of the chart's ends from zero, in the metric's unit.
    """
    effect, ends = finite(c.effect), [finite(c.ci_low), finite(c.ci_high)]
    cells = [" "] * CHART
    middle = CHART // 2
    cells[middle] = "\N{BOX DRAWINGS LIGHT VERTICAL}"
    if effect is None or not scale or c.better is None:
        return "".join(cells)
    sign = 1 if c.better == "higher" else -1

    def place(value: float) -> int:
        return middle + round(sign * max(-scale, min(scale, value)) / scale * middle)

    known = [end for end in ends if end is not None]
    if len(known) == len(ends):
        low, high = sorted(map(place, known))
        for column in range(low, high + 1):
            crossed = column == middle
            cells[column] = (
                "\N{BOX DRAWINGS LIGHT VERTICAL AND HORIZONTAL}" if crossed else "\N{BOX DRAWINGS LIGHT HORIZONTAL}"
            )
    cells[place(effect)] = "\N{BLACK CIRCLE}"
    for value in (effect, *known):
        if abs(value) > scale * (1 + 1e-9):
            further = sign * value > 0
            cells[-1 if further else 0] = (
                "\N{BLACK RIGHT-POINTING SMALL TRIANGLE}" if further else "\N{BLACK LEFT-POINTING SMALL TRIANGLE}"
            )
    return "".join(cells)
