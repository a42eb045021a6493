"""`assay register`: register the policy and suite of a sweep before its results exist, or change them afterwards."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.arguments import AsJson, Overrides, load_workspace
from assay.cli.command_group import add_command
from assay.cli.console import console, print_json
from assay.cli.progress import spinner
from assay.report.reason_text import paragraph

if TYPE_CHECKING:
    from assay.plan.workspace import Workspace


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    second = 'assay register sweep=first policy.alpha=0.01 --again "stricter for the release"'
    add_command(app, register_rule, "register", panel="Decide", first="assay register sweep=first", second=second)


def register_rule(
    overrides: Overrides = None,
    *,
    again: Annotated[
        str | None,
        typer.Option(
            "--again",
            metavar="REASON",
            help="Reason for a change of policy or suite after results exist. Every later verdict records the reason.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Register the policy and the suite that decide a sweep, before its results exist.

    `assay submit` registers both automatically. If policy and suite are already registered, print the time of the registration.
    """
    from pathlib import Path

    import assay
    from assay.launch.snapshot import code_digest
    from assay.plan.registration import as_registered, read, register_now
    from assay.report.reason_text import to_json

    with spinner("planning", quiet=as_json):
        space = load_workspace(overrides)
        name = space.study.require_sweep().name
        register_now(
            space, space.planner.plan(), code=code_digest(Path(assay.__file__).parent), at=time.time(), reason=again
        )
        _, standing = as_registered(space)
    if as_json:
        registrations = [
            {
                "at": entry.at,
                "code": entry.code,
                "evaluation": entry.rules.evaluation.fingerprint,
                "reason": entry.reason,
            }
            for entry in read(space.store, name)
        ]
        print_json({"sweep": name, **to_json(standing), "registrations": registrations})
    else:
        console.print(paragraph(standing.reasons), markup=False)


def print_registration(space: Workspace) -> None:
    """Print in one sentence which policy and suite decide a sweep."""
    from assay.plan.registration import as_registered, read

    if read(space.store, space.study.require_sweep().name):
        text = paragraph(as_registered(space)[1].reasons)
    else:
        text = "Not registered yet; `assay submit` registers them."
    console.print(f"policy and suite: {text}", markup=False)


def registration_mapping(space: Workspace) -> dict[str, Any] | None:
    """Return the state of a sweep's registration as plain values; ``None`` without a registration."""
    from assay.plan.registration import as_registered, read
    from assay.report.reason_text import to_json

    return to_json(as_registered(space)[1]) if read(space.store, space.study.require_sweep().name) else None
