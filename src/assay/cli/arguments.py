"""Arguments that commands share: Hydra overrides, names before them, and --json."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.completion import complete_override, complete_source_or_override
from assay.core.errors import NotFound

if TYPE_CHECKING:
    from assay.plan.sweep_selection import SelectedSweep
    from assay.plan.workspace import Workspace

log = logging.getLogger(__name__)


Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="OVERRIDE",
        help="Hydra overrides of configuration keys, such as sweep=NAME or budget.tokens=1e9.",
        autocompletion=complete_override,
        show_default=False,
    ),
]
SourcesAndOverrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE|OVERRIDE",
        help="Names of sources (default: all sources), and Hydra overrides.",
        autocompletion=complete_source_or_override,
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else on standard output.")]


Current = Annotated[
    bool,
    typer.Option("--current", help="Use the current configuration of a sweep instead of its submitted configuration."),
]


def split_overrides(arguments: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Split arguments into names and Hydra overrides. Overrides contain `=`."""
    words = list(arguments or ())
    return [word for word in words if "=" not in word], [word for word in words if "=" in word]


def load_workspace(overrides: Sequence[str] | None, *, needs_project: bool = True) -> Workspace:
    """Compose the study that the overrides select, on this machine.

    Args:
        overrides: Hydra overrides.
        needs_project: whether the command uses declared sources, mixes or sweeps (see `check_project`).
    """
    from assay.config.compose import compose
    from assay.plan.workspace import Workspace

    check_project(overrides, needs_project=needs_project)
    return Workspace(compose(list(overrides or ())))


def load_sweep(overrides: Sequence[str] | None, *, current: bool = False, needs_project: bool = True) -> SelectedSweep:
    """Select the named sweep as submitted, or as configured with `current` or before the first submission."""
    from assay.plan.sweep_selection import select_sweep

    check_project(overrides, needs_project=needs_project)
    return select_sweep(list(overrides or ()), current=current)


def print_selection(selected: SelectedSweep) -> None:
    """Print a note to standard error if the submitted and the current configuration of a sweep differ."""
    from assay.cli.console import errors
    from assay.report.reason_text import texts

    for sentence in texts(selected.reasons):
        errors.print(f"note: {sentence}", style="yellow", markup=False)


def selection_mapping(selected: SelectedSweep) -> dict[str, Any] | None:
    """Return the submission that a command uses, and its differences, as plain values; ``None`` if never submitted."""
    from assay.report.reason_text import to_json

    submitted = selected.submitted
    if submitted is None:
        return None
    return {
        "id": submitted.newest.id,
        "at": submitted.newest.created,
        "current": selected.current,
        "changed": list(selected.changed),
        "superseded": [earlier.id for earlier in submitted.superseded],
        "reasons": to_json(selected.reasons),
    }


def check_project(overrides: Sequence[str] | None, *, needs_project: bool) -> None:
    """Refuse the packaged demonstration if a project is needed; otherwise warn that no project is used.

    Args:
        overrides: Hydra overrides; a packaged sweep, such as `sweep=code_replace`, selects the demonstration.
        needs_project: whether the command uses declared sources, mixes or sweeps. Other commands only read a store or
            external results, with the packaged defaults.

    Raises:
        NotFound: the working directory is in no project, and no packaged sweep is selected.
    """
    from assay.config.compose import names
    from assay.config.search_path import find_project, packaged

    project = find_project()
    if project is not None:
        if project != Path.cwd():
            _announce(project)
        return
    selected = {word.removeprefix("sweep=") for word in overrides or () if word.startswith("sweep=")}
    if needs_project and not selected & set(names("sweep", [packaged()])):
        raise NotFound(
            f"{Path.cwd()} is in no project: neither it nor a folder above has conf/ or sweeps/.",
            fix="Create a project with `assay init`, or change to its folder. `assay demo` runs the packaged demonstration.",
        )
    log.warning(
        "%s is in no project, so assay uses its packaged configuration; `assay init` creates a project.", Path.cwd()
    )


@cache
def _announce(project: Path) -> None:
    """Report once that the project is a folder above the working directory."""
    from assay.cli.console import errors

    errors.print(f"project: {project}", style="dim", markup=False, soft_wrap=True)


def program() -> str:
    """Return the command that calls this program: `assay` if it is on the PATH, otherwise its path."""
    if shutil.which("assay"):
        return "assay"
    path = Path(sys.argv[0]).absolute()
    if path.name == "__main__.py":
        return "python -m assay"
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
