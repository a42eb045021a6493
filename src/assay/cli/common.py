"""What every command shares: its arguments, its console, its progress bars, its JSON."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, ConsoleDimensions

from assay.cli.plain import ascii_json
from assay.files import json_text
from assay.publish.words import amount

if TYPE_CHECKING:
    from rich.progress import Progress

    from assay.workspace import Workspace

PIPED = 80
"""Columns where no terminal says how many there are; COLUMNS does."""


class _Output(Console):
    """As wide as its own terminal, and in a pipe always as wide: not as some other stream's terminal happens to be."""

    @property  # type: ignore[misc]  # nobody sets it
    def size(self) -> ConsoleDimensions:
        """Columns and lines."""
        if self.is_terminal or "COLUMNS" in os.environ:
            return super().size
        return ConsoleDimensions(PIPED, 25)


console = _Output(highlight=False)
errors = _Output(stderr=True, highlight=False)


def complete_override(incomplete: str) -> list[str]:
    """Shell completion of Hydra overrides: groups' names, then the names in a group."""
    from assay.cli.compose import CATALOGUES, GROUPS, names
    from assay.roots import config_roots, project_root

    groups = ("sweep", *GROUPS)
    key, equals, value = incomplete.partition("=")
    if not equals:
        keys = [*(f"{group}=" for group in groups), "budget.tokens=", "paths.store=", "tracking.mode="]
        keys += [f"{catalogue}." for catalogue in CATALOGUES]
        return [name for name in keys if name.startswith(key)]
    if key in groups:
        return [f"{key}={name}" for name in names(key, config_roots(project_root())) if name.startswith(value)]
    return []


Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="Hydra overrides: sweep=NAME, proxy=NAME, budget.tokens=1e9, ...",
        autocompletion=complete_override,
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines, and nothing else, to standard output.")]


def workspace(overrides: Sequence[str] | None) -> Workspace:
    """The study that the overrides ask for, on this machine."""
    from assay.cli.compose import compose
    from assay.workspace import Workspace

    return Workspace(compose(list(overrides or ())))


def print_json(value: Any) -> None:
    """Plain values as JSON on standard output; not-a-number becomes null."""
    text = json_text(value)
    utf8 = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    sys.stdout.write(text if utf8 else ascii_json(text))


@contextlib.contextmanager
def progress_bars(*, quiet: bool = False) -> Iterator[Callable[[str, float], None]]:
    """A bar for each thing that is being made; told its name and the share that is done.

    Where standard error is not a terminal, a line is printed at the start and the end of each.
    """
    if quiet:
        yield lambda _name, _share: None
        return
    if not errors.is_terminal:
        with _lines() as tell:
            yield tell
        return
    with _bar_columns() as progress:
        tasks: dict[str, Any] = {}

        def tell(name: str, share: float) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=1.0)
            progress.update(tasks[name], completed=share)

        yield tell


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


@contextlib.contextmanager
def _lines() -> Iterator[Callable[[str, float], None]]:
    seen: dict[str, float] = {}

    def tell(name: str, share: float) -> None:
        last = seen.get(name, -1.0)
        if last < 0 or (share >= 1 > last):
            errors.print(f"{name}: {'done' if share >= 1 else 'begun'}", markup=False)
        seen[name] = share

    yield tell


def program() -> str:
    """How this program is called from here: `assay` where the shell finds it, else its path."""
    if shutil.which("assay"):
        return "assay"
    path = Path(sys.argv[0]).absolute()
    if path.name == "__main__.py":
        return "python -m assay"
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def size(count: float) -> str:
    """Bytes as people say them, in powers of 1000."""
    return f"{amount(count)}B".replace("BB", "GB") if count else "0 B"
