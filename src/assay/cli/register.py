"""`assay register`: what a sweep is judged by, and since when; and changing it although results are there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.common import AsJson, Overrides, console, print_json, workspace

if TYPE_CHECKING:
    from assay.workspace import Workspace


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(name="register")(fix_rule)


def fix_rule(
    overrides: Overrides = None,
    *,
    again: Annotated[
        str | None,
        typer.Option(
            "--again", metavar="REASON", help="Change policy or suite though there are results; every verdict says so."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fix the policy and the suite that a sweep is judged by, before its results are in. `assay submit` does it by itself.

    Where they are fixed already, this says since when.
    """
    from pathlib import Path

    import assay
    from assay.launch.snapshot import code_digest
    from assay.registered import as_registered, read, register_now

    space = workspace(overrides)
    name = space.study.require_sweep().name
    register_now(space, space.plan(), code=code_digest(Path(assay.__file__).parent), at=time.time(), reason=again)
    _, standing = as_registered(space)
    if as_json:
        found = [
            {"at": one.at, "code": one.code, "evaluation": one.rules.evaluation.fingerprint, "reason": one.reason}
            for one in read(space.store, name)
        ]
        print_json({"sweep": name, **standing.to_mapping(), "registrations": found})
    else:
        console.print(standing.sentence, markup=False)


def print_standing(space: Workspace) -> None:
    """Say in one sentence, below a plan, by what its sweep will be judged."""
    from assay.registered import as_registered, read

    if read(space.store, space.study.require_sweep().name):
        told = as_registered(space)[1].sentence
    else:
        told = "Not registered yet; `assay submit` fixes them."
    console.print(f"policy and suite: {told}", markup=False)


def standing_mapping(space: Workspace) -> dict[str, Any] | None:
    """The same as plain values; None where nothing is registered yet."""
    from assay.registered import as_registered, read

    return as_registered(space)[1].to_mapping() if read(space.store, space.study.require_sweep().name) else None
