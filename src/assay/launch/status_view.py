"""Render a sweep's status for wide and narrow terminals and for pipes."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Group
from rich.table import Table
from rich.text import Text

from assay.core.log_tail import printable
from assay.launch.sparkline import POINTS
from assay.launch.status import MAX_LISTED
from assay.report.formatting import NOTHING, amount, count, decimal, duration
from assay.store.runs import DAMAGED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from assay.launch.slurm.status import JobHours
    from assay.launch.status import FailureGroup, RunProgress, SweepProgress

COLORS = {
    "done": "green",
    "training": "cyan",
    "evaluating": "cyan",
    "preparing": "cyan",
    "trained": "blue",
    "suspended": "magenta",
    "held": "magenta",
    "queued": "yellow",
    "later": "yellow",
    "skipped": "green",
    "cancelled": "magenta",
    "stale": "red",
    "failed": "red",
    "diverged": "red",
    "refused": "red",
}
"""States with their styles, in the order of the counts."""

LABEL = 32
"""Minimum width of a run's label before the label is folded."""
DROPPED = ("progress", "tokens", "tokens/s", "loss", "left")
"""Columns that a narrow terminal omits, in the order of omission."""
LEVELS = "▁▂▃▄▅▆▇█"
BAR = 10
"""Width of a progress bar in characters."""
GAP = 2
REPAIR = (
    "Delete the file: only its progress information is lost. Finished training and scores are detected, and submitting resumes"
    " from the last checkpoint."
)
MESSAGES = 5
"""Maximum number of displayed messages from SLURM, the most frequent first."""
LABELS = 6
"""Maximum number of runs that a failure lists by name."""


def render(progress: SweepProgress, *, arguments: str = "") -> RenderableType:
    """Render the output of `assay status`.

    The output has counts, speed, time left, runs, failures by cause, and the next command.

    Args:
        progress: the sweep.
        arguments: arguments that select this sweep in commands (default: `sweep=NAME`).
    """
    parts: list[RenderableType] = [_headline(progress)]
    if messages := _job_messages(progress.runs):
        parts += [messages]
    parts.append(Text())
    if len(progress.runs) <= MAX_LISTED:
        parts.append(_Runs(progress.runs))
    else:
        parts.append(_by_mix(progress.runs))
        at_work = [run for run in progress.runs if run.state in {"preparing", "training", "evaluating"}]
        if at_work:
            parts += [Text(), _Runs(at_work)]
    for failure in progress.failures:
        parts += [Text(), _failure(failure)]
    hint = _hint(progress, arguments or f"sweep={progress.sweep}")
    if hint is not None:
        parts += [Text(), hint]
    return Group(*parts)


def _headline(progress: SweepProgress) -> Text:
    counts = progress.counts
    line = Text(f"{progress.sweep}: {count(len(progress.runs), 'run')}: ")
    shown = [state for state in COLORS if counts.get(state)]
    for i, state in enumerate(shown):
        line.append(f"{counts[state]:,} {state}", style=COLORS[state])
        line.append(", " if i + 1 < len(shown) else "")
    if progress.active:
        line.append("  RUNNING", style="bold cyan")
    facts = []
    alive = sum(worker.alive is not False for worker in progress.workers)
    dead = len(progress.workers) - alive
    if alive or progress.starting:
        starting = f" ({progress.starting} starting)" if progress.starting else ""
        facts.append(count(alive + progress.starting, "worker") + starting)
    if dead and not progress.complete:
        facts.append(f"{count(dead, 'worker')} died")
    if progress.jobs is not None:
        facts.append(f"{count(progress.jobs.running, 'job')} running, {progress.jobs.waiting:,} waiting")
    if progress.tokens_per_second:
        facts.append(f"{amount(progress.tokens_per_second)} tokens/s")
    if progress.seconds_left is not None:
        facts.append(("at least " if progress.at_least else "about ") + f"{duration(progress.seconds_left)} left")
    if progress.hours is not None and progress.hours.spent:
        facts.append(_hours(progress.hours))
    lines = [line, Text(", ".join(facts))] if facts else [line]
    if progress.jobs is not None and progress.jobs.problem is not None:
        note = f"SLURM did not answer; states are from the runs' own records: {printable(progress.jobs.problem)}"
        lines.append(Text(note, style="red"))
    return Text("\n").join(lines)


def _hours(hours: JobHours) -> str:
    planned = "" if hours.planned is None else f" of about {decimal(hours.planned)} planned"
    return f"{decimal(hours.spent)} {hours.unit}-hours spent{planned}"


def _job_messages(runs: Iterable[RunProgress]) -> Text | None:
    """List SLURM's messages for inactive runs, the most frequent first."""
    messages = Counter(
        run.words for run in runs if run.words and run.state in {"queued", "held", "suspended", "trained"}
    )
    lines = [f"  {count(number, 'run')}: {printable(words)}" for words, number in messages.most_common(MESSAGES)]
    if len(messages) > MESSAGES:
        lines.append(f"  and {len(messages) - MESSAGES} others")
    return Text("\n".join(lines), style="dim") if lines else None


class _Column(NamedTuple):
    """A column of the table of runs.

    Attributes:
        name: heading of the column.
        cells: one cell for each run.
        right: whether the column is right-aligned.
    """

    name: str
    cells: list[Text]
    right: bool = False

    @property
    def width(self) -> int:
        return max(len(self.name), *(cell.cell_len for cell in self.cells))


class _Runs:
    """The table of runs, with as many columns as fit."""

    def __init__(self, runs: Sequence[RunProgress]) -> None:
        self.runs = runs

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        del console
        columns = self._columns()
        names = columns[0]
        least = min(names.width, LABEL)
        for name in DROPPED:  # the least important column first
            if least + sum(column.width + GAP for column in columns[1:]) <= options.max_width:
                break
            columns = [column for column in columns if column.name != name]
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
        for column in columns:
            folded = column is names
            table.add_column(
                column.name,
                justify="right" if column.right else "left",
                overflow="fold" if folded else "ellipsis",
                no_wrap=not folded,
            )
        for cells in zip(*(column.cells for column in columns), strict=True):
            table.add_row(*cells)
        yield table

    def _columns(self) -> list[_Column]:
        """Return the columns in which at least one run has a value."""
        runs = self.runs
        ends = [loss for run in runs for loss in run.losses]
        bounds = (min(ends), max(ends)) if ends else (0.0, 0.0)
        begun = {"training", "evaluating"}
        columns = [
            _Column("run", [Text(run.label) for run in runs]),
            _Column("fingerprint", [Text((run.fingerprint or NOTHING)[:12]) for run in runs]),
            _Column("state", [_state(run) for run in runs]),
            _Column("progress", [_bar(run) for run in runs]),
            _Column("loss", [_sparkline(run, bounds) for run in runs]),
            _Column("tokens", [Text(amount(run.tokens) if run.tokens else NOTHING) for run in runs], right=True),
            _Column(
                "tokens/s",
                [Text(amount(run.tokens_per_second) if run.state == "training" else NOTHING) for run in runs],
                right=True,
            ),
            _Column(
                "left",
                [Text(duration(run.seconds_left) if run.state in begun else NOTHING) for run in runs],
                right=True,
            ),
        ]
        return [column for column in columns if any(cell.plain != NOTHING for cell in column.cells)]


def _bar(run: RunProgress) -> Text:
    """Render the progress bar of an unfinished run."""
    if run.state == "done" or not run.step:
        return Text(NOTHING)
    return _filled(run.share, COLORS[run.state])


def _trained(run: RunProgress) -> float:
    return 1.0 if run.state == "done" else run.share


def _filled(share: float, style: str) -> Text:
    full = min(BAR, math.floor(share * BAR))
    return Text.assemble(("█" * full, style), ("░" * (BAR - full), "dim"))


def _sparkline(run: RunProgress, bounds: tuple[float, float]) -> Text:
    """Render a run's losses and its last loss. All runs of a table share one scale."""
    if not run.losses:
        return Text(NOTHING)
    low, high = bounds
    top = len(LEVELS) - 1
    signs = [LEVELS[round((loss - low) / (high - low) * top)] if high > low else LEVELS[0] for loss in run.losses]
    return Text(f"{''.join(signs):>{POINTS}} {run.losses[-1]:.2f}")


def _state(run: RunProgress) -> Text:
    share = f" {run.share:.0%}" if run.state in {"training", "stale", "cancelled", "failed"} and run.step else ""
    if run.interim:
        share = f" at {run.share:.0%}"
    again = f" (attempt {run.attempt})" if run.attempt > 1 and run.state != "done" else ""
    return Text(f"{run.state}{share}{again}", style=COLORS[run.state])


def _by_mix(runs: Iterable[RunProgress]) -> Table:
    """Render counts by state and the progress of each mix."""
    groups: dict[str, list[RunProgress]] = {}
    for run in runs:
        groups.setdefault(run.mix, []).append(run)
    counts = {mix: Counter(run.state for run in members) for mix, members in groups.items()}
    states = [state for state in COLORS if any(mix[state] for mix in counts.values())]
    table = Table(box=None, pad_edge=False)
    table.add_column("mix", overflow="fold")
    parts = {mix: sum(_trained(run) for run in members) / len(members) for mix, members in groups.items()}
    begun = any(parts.values())
    if begun:
        table.add_column("progress", no_wrap=True)
    for state in states:
        table.add_column(state, justify="right")
    for mix, by_state in counts.items():
        bar = [Text.assemble(_filled(parts[mix], "green"), f" {math.floor(100 * parts[mix])}%")] if begun else []
        table.add_row(Text(mix), *bar, *(f"{by_state[state]:,}" if by_state[state] else NOTHING for state in states))
    return table


def _failure(failure: FailureGroup) -> Text:
    shown = ", ".join(failure.runs[:LABELS])
    more = f" and {len(failure.runs) - LABELS} more" if len(failure.runs) > LABELS else ""
    text = Text(f"{count(len(failure.runs), 'run')}: {failure.kind}: {printable(failure.message)}", style="red")
    text.append(f"\n  {shown}{more}", style="default")
    if failure.kind == DAMAGED:
        text.append(f"\n  {REPAIR}", style="default")
    if failure.line and failure.line not in failure.message and failure.message not in failure.line:
        text.append(f"\n  {printable(failure.line)}", style="default")
    if failure.log:
        text.append(f"\n  {printable(failure.log)}", style="dim")
    return text


def _hint(progress: SweepProgress, arguments: str) -> Text | None:
    if progress.complete:
        return Text(f"every run is done: assay gate {arguments}", style="green")
    if progress.left_behind:
        runs = len(progress.left_behind)
        wait = f"{count(runs, 'run')} {'waits' if runs == 1 else 'wait'} for"
        return Text(f"{wait}: assay submit {arguments}", style="yellow")
    if progress.counts.get("later") and not progress.active:
        later = f"{count(progress.counts['later'], 'run')} of later stages"
        return Text(f"{later}: assay submit {arguments} decides the current stage and starts the next", style="yellow")
    return None
