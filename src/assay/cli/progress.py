"""Progress on standard error: a bar for each item, or a spinner for work that takes longer than two seconds."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from assay.cli.console import errors

if TYPE_CHECKING:
    from rich.progress import Progress

DELAY_SECONDS = 2.0
"""Minimum duration of work that shows a spinner, in seconds."""


@contextlib.contextmanager
def progress_bars(*, quiet: bool = False) -> Iterator[Callable[[str, float], None]]:
    """Yield a function that draws a bar for each item, from the item's name and its completed fraction.

    Where standard error is not a terminal, it prints a line when an item starts and one when it ends.
    """
    if quiet:
        yield lambda _name, _fraction: None
        return
    if not errors.is_terminal:
        yield _line_reporter()
        return
    with _bar_columns() as progress:
        tasks: dict[str, Any] = {}

        def report(name: str, fraction: float) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=1.0)
            progress.update(tasks[name], completed=fraction)

        yield report


def _bar_columns() -> Progress:
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=errors,
        expand=False,
    )


def _line_reporter() -> Callable[[str, float], None]:
    fractions: dict[str, float] = {}

    def report(name: str, fraction: float) -> None:
        last = fractions.get(name, -1.0)
        if last < 0 or (fraction >= 1 > last):
            errors.print(f"{name}: {'done' if fraction >= 1 else 'started'}", markup=False)
        fractions[name] = fraction

    return report


@contextlib.contextmanager
def spinner(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Show a command's activity after two seconds in the block. The block must not print to standard output.

    Where standard error is not a terminal, it prints one line instead.
    """
    if quiet:
        yield
        return
    from rich.status import Status

    status, lock, ended = Status(text, console=errors), threading.Lock(), threading.Event()

    def show() -> None:
        with lock:
            if ended.is_set():
                return
            if errors.is_terminal:
                status.start()
            else:
                errors.print(f"{text} ...", markup=False)

    timer = threading.Timer(DELAY_SECONDS, show)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            ended.set()
        status.stop()
