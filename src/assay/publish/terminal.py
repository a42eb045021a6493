"""Verdicts and comparisons in a terminal: what fits is shown, at 80 columns as at 200, and nothing is cut when piped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

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

CHART = 25
"""Columns of the small chart; odd, so that 0 has a column of its own."""


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


def comparisons_view(comparisons: Sequence[Comparison]) -> RenderableType:
    """Comparisons of one candidate as a table that takes as many columns as there is room for."""
    return _Comparisons(tuple(comparisons))


class _Comparisons:
    """A table that looks at its room before it chooses its columns."""

    def __init__(self, comparisons: tuple[Comparison, ...]) -> None:
        self._comparisons = comparisons

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        del console
        yield _table(self._comparisons, options.max_width)


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


Column = tuple[str, Literal["left", "right"], Callable[["Comparison"], str]]


def _table(comparisons: Sequence[Comparison], width: int) -> Table:
    """As many columns as there is room for."""
    scales = _scales(comparisons)
    columns: list[Column] = [
        ("effect", "right", lambda c: words.signed(c.metric, finite(c.effect))),
        ("interval", "right", lambda c: words.interval(c.metric, finite(c.ci_low), finite(c.ci_high))),
        ("adj. p", "right", lambda c: words.probability(finite(c.p_adjusted))),
        ("role", "left", lambda c: c.role),
    ]
    if width >= 118:
        arrow = "worse \N{RIGHTWARDS ARROW} better".center(CHART)
        columns.append((arrow, "left", lambda c: chart(c, scales[c.metric])))
    if width >= 150:
        columns += [
            ("baseline", "right", lambda c: words.score(c.metric, finite(c.baseline_mean))),
            ("candidate", "right", lambda c: words.score(c.metric, finite(c.candidate_mean))),
            ("seeds", "right", lambda c: str(c.n_seeds)),
            ("items", "right", lambda c: words.NOTHING if c.n_items is None else f"{c.n_items:,}"),
        ]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("task and metric", overflow="fold")
    for name, justify, _ in columns:
        # Where there is little room, an interval takes two lines rather than a part of the name.
        table.add_column(name, justify=justify, no_wrap=name != "interval" or width >= 76)
    for c in comparisons:
        signal = "" if c.signal == "ok" else f" ({_signal(c)})"
        cells = [f"{c.task} {c.metric}{signal}", *(show(c) for _, _, show in columns)]
        table.add_row(*map(Text, cells), style="dim" if c.signal == "no signal" else "")
    return table


def _signal(c: Comparison) -> str:
    return "no signal" if c.signal == "no signal" else "signal unknown"


def _scales(comparisons: Sequence[Comparison]) -> dict[str, float]:
    """The largest reach of each metric, so that its charts can be compared with one another."""
    scales: dict[str, float] = {}
    for c in comparisons:
        reach = [abs(value) for value in map(finite, (c.effect, c.ci_low, c.ci_high)) if value is not None]
        scales[c.metric] = max([*reach, scales.get(c.metric, 0.0)])
    return scales


def chart(c: Comparison, scale: float) -> str:
    """An interval in one line of text: 0 in the middle, better to the right."""
    effect, ends = finite(c.effect), [finite(c.ci_low), finite(c.ci_high)]
    cells = [" "] * CHART
    middle = CHART // 2
    cells[middle] = "\N{BOX DRAWINGS LIGHT VERTICAL}"
    if effect is None or not scale:
        return "".join(cells)
    sign = 1 if c.better == "higher" else -1

    def place(value: float) -> int:
        return middle + round(sign * value / scale * middle)

    if None not in ends:
        low, high = sorted(place(end) for end in ends if end is not None)
        for column in range(low, high + 1):
            crossed = column == middle
            cells[column] = (
                "\N{BOX DRAWINGS LIGHT VERTICAL AND HORIZONTAL}" if crossed else "\N{BOX DRAWINGS LIGHT HORIZONTAL}"
            )
    cells[place(effect)] = "\N{BLACK CIRCLE}"
    return "".join(cells)
