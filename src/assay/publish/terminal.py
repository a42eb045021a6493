"""Verdicts and comparisons in a terminal: what fits is shown, at 80 columns as at 200, and nothing is cut when piped."""

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

from assay.publish import words
from assay.publish.report import finite

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

    from assay.compare import Comparison
    from assay.gate import SweepVerdict, Verdict
    from assay.registered import Standing

STYLES = {"ACCEPT": "bold green", "REJECT": "bold red", "INCONCLUSIVE": "bold yellow", "BLOCKED": "bold magenta"}
SIGNS = {"ACCEPT": "+", "REJECT": "x", "INCONCLUSIVE": "?", "BLOCKED": "!"}
"""So that the decision does not hang on colour alone."""

CHART = 23
"""Columns of the small chart; odd, so that 0 has a column of its own, and no wider than most intervals."""
AXIS = "worse \N{RIGHTWARDS ARROW} better"
OUTLYING = 4.0
WIDEST, WIDE, NARROW = 150, 116, 66
"""Columns from which on there is room for: the measured means, a column for the chart, one for the adjusted p."""


def verdict_view(verdict: SweepVerdict, *, monitors: bool = False) -> RenderableType:
    """A sweep's verdict: each candidate's decision, reasons, needs, and the comparisons that vote.

    Args:
        verdict: what the gate decided.
        monitors: whether to show what does not vote too.
    """
    mark = f" ({verdict.registration.state})" if verdict.registration and verdict.registration.marked else ""
    head = f"  policy {verdict.policy}, baseline {verdict.baseline}"
    first = Text.assemble(_decision(str(verdict.decision)), (mark, "bold red"), head, overflow="fold")
    parts: list[RenderableType] = [first]
    if verdict.registration is not None:
        parts.append(registration_view(verdict.registration))
    for candidate in verdict.candidates.values():
        other = candidate.baseline if candidate.baseline != verdict.baseline else None
        parts += [Text(""), _candidate(candidate, monitors=monitors, control=other)]
    if verdict.note:
        parts += [Text(""), Text(verdict.note, style="dim")]
    return Group(*parts)


def registration_view(registration: Standing) -> RenderableType:
    """How a verdict stands to what was fixed before the results, in a sentence that is hard to overlook where it must not be."""
    style = "bold red" if registration.marked else "yellow" if registration.configured else "dim"
    return Text(registration.sentence, style=style)


def missing_view(missing: Mapping[str, Sequence[str]]) -> RenderableType:
    """The planned runs that are in none of the figures, and why; mixes that lack the same for one reason together."""
    alike: dict[str, list[str]] = {}
    for mix, every in missing.items():
        for why in every:
            alike.setdefault(why, []).append(mix)
    lines = [_item("-", f"{', '.join(mixes)}: {why}") for why, mixes in alike.items()]
    return Group(Text("not in these figures:", style="yellow"), *lines)


def comparisons_view(comparisons: Sequence[Comparison]) -> RenderableType:
    """Comparisons of one candidate as a table that takes as many columns as there is room for."""
    return _Comparisons(tuple(comparisons)) if comparisons else Text("nothing to compare yet", style="dim")


class _Comparisons:
    """A table that looks at its room before it chooses its columns."""

    def __init__(self, comparisons: tuple[Comparison, ...]) -> None:
        self._comparisons = comparisons

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        del console
        table = _table(self._comparisons, options.max_width)
        if options.ascii_only:
            table.box = None  # rich would draw upright bars between the columns, which look like a chart's 0
            table.padding = (0, 2, 0, 0)
        yield table


def _decision(decision: str) -> Text:
    return Text(f"{SIGNS[decision]} {decision}", style=STYLES[decision])


def _candidate(verdict: Verdict, *, monitors: bool, control: str | None) -> RenderableType:
    mark = f" ({verdict.registration.state})" if verdict.registration and verdict.registration.marked else ""
    decision = _decision(str(verdict.decision))
    name = Text.assemble(decision, (mark, "bold red"), "  ", (verdict.candidate, "bold"), overflow="fold")
    if control is not None:
        name.append(f"  against {control}")
    lines: list[RenderableType] = [name]
    lines += [_item("-", reason) for reason in verdict.reasons]
    lines += [_item(">", f"to decide: {need}") for need in verdict.needed]
    lines.append(_item(" ", verdict.scope, style="dim"))
    shown = [c for c in verdict.comparisons if monitors or c.role != "monitor"]
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
    """A column of figures: its name, and a comparison's cell."""

    name: str
    cell: Callable[[Comparison], str]
    justify: Literal["left", "right"] = "right"


EFFECT = _Column("effect", lambda c: words.signed(c.metric, finite(c.effect)))
INTERVAL = _Column("interval", lambda c: words.interval(c.metric, finite(c.ci_low), finite(c.ci_high)))
ADJUSTED = _Column("adj. p", lambda c: words.probability(finite(c.p_adjusted)))
ROLE = _Column("role", lambda c: c.role, "left")
MEASURED = (
    _Column("baseline", lambda c: words.score(c.metric, finite(c.baseline_mean))),
    _Column("candidate", lambda c: words.score(c.metric, finite(c.candidate_mean))),
    _Column("seeds", lambda c: str(c.n_seeds)),
    _Column("items", lambda c: words.NOTHING if c.n_items is None else f"{c.n_items:,}"),
)


def _table(comparisons: Sequence[Comparison], width: int) -> Table:
    """As many columns as there is room for: the chart in one of its own, or below the interval."""
    return _wide(comparisons, width) if width >= WIDE else _narrow(comparisons, width)


def _wide(comparisons: Sequence[Comparison], width: int) -> Table:
    scales = _scales(comparisons)
    small = _Column(AXIS.center(CHART), lambda c: chart(c, scales[_scale_of(c)]), "left")
    columns = (EFFECT, INTERVAL, ADJUSTED, ROLE, small, *(MEASURED if width >= WIDEST else ()))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("task and metric", overflow="fold")
    for column in columns:
        table.add_column(column.name, justify=column.justify, no_wrap=True)
    for c in comparisons:
        table.add_row(Text(_name(c)), *(Text(column.cell(c)) for column in columns), style=_style(c))
    return table


def _narrow(comparisons: Sequence[Comparison], width: int) -> Table:
    """Two lines a comparison: its role below its name, its chart below its interval."""
    scales = _scales(comparisons)
    figures = (EFFECT, INTERVAL, ADJUSTED) if width >= NARROW else (EFFECT, INTERVAL)
    cells = {column: [column.name, *map(column.cell, comparisons)] for column in figures}
    widths = {column: max(map(len, cells[column])) for column in figures}
    widths[INTERVAL] = max(widths[INTERVAL], CHART)
    below = [AXIS.center(CHART), *(chart(c, scales[_scale_of(c)]) for c in comparisons)]
    # Padded here: rich would take the blanks from the right end of a chart, and its 0 out of line.
    cells[INTERVAL] = [
        f"{ends:>{widths[INTERVAL]}}\n{line:>{widths[INTERVAL]}}"
        for ends, line in zip(cells[INTERVAL], below, strict=True)
    ]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("task and metric\n  role" + ("" if ADJUSTED in figures else ", adj. p"), overflow="fold")
    for column in figures:
        justify: Literal["left", "right"] = "left" if column is INTERVAL else "right"
        table.add_column(cells[column][0], justify=justify, no_wrap=True)
    room = width - sum(widths.values()) - 2 * len(figures)
    for c, *shown in zip(comparisons, *(cells[column][1:] for column in figures), strict=True):
        told = c.role if ADJUSTED in figures else f"{c.role}, {ADJUSTED.cell(c)}"
        table.add_row(_two_lines(c, told, room=room), *map(Text, shown), style=_style(c))
    return table


def _two_lines(c: Comparison, told: str, *, room: int) -> Text:
    """What is compared in the first line, and its role in the second; a metric that finds no room goes there, too."""
    first, second = _name(c), told
    if len(first) > room:
        first, second = c.task, f"{first.removeprefix(f'{c.task} ')}, {told}"
    return Text.assemble(first, "\n", (f"  {second}", "dim"))


def _name(c: Comparison) -> str:
    return f"{c.task} {c.metric}" + ("" if c.signal == "ok" else f" ({_signal(c)})")


def _style(c: Comparison) -> str:
    return "dim" if c.signal == "no signal" else ""


def _signal(c: Comparison) -> str:
    return "no signal" if c.signal == "no signal" else "signal unknown"


def _scale_of(c: Comparison) -> tuple[str, bool]:
    """Whose charts have one scale: those of a metric, without what only is shown beside what votes."""
    return c.metric, c.role == "monitor"


def _scales(comparisons: Sequence[Comparison]) -> dict[tuple[str, bool], float]:
    """How far a chart reaches to either side, so that those of one metric can be compared with one another.

    A few questions have intervals of 100 points: beside them all others would be dots on the line at 0. So no chart
    reaches further than OUTLYING times the median.
    """
    reaches: dict[tuple[str, bool], list[float]] = {}
    for c in comparisons:
        ends = [abs(value) for value in map(finite, (c.effect, c.ci_low, c.ci_high)) if value is not None]
        reaches.setdefault(_scale_of(c), []).append(max(ends, default=0.0))
    return {key: min(max(found), OUTLYING * statistics.median(found) or math.inf) for key, found in reaches.items()}


def chart(c: Comparison, scale: float) -> str:
    """An interval in one line of text: 0 in the middle, better to the right; what reaches further ends in an arrow."""
    effect, ends = finite(c.effect), [finite(c.ci_low), finite(c.ci_high)]
    cells = [" "] * CHART
    middle = CHART // 2
    cells[middle] = "\N{BOX DRAWINGS LIGHT VERTICAL}"
    if effect is None or not scale:
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
