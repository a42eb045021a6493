"""`assay taint`: defects of sources, and the corpora, runs and sweeps that used them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table
from rich.text import Text

from assay.audit.taint import blocks
from assay.cli.arguments import AsJson, SourcesAndOverrides, load_workspace, split_overrides
from assay.cli.command_group import add_command
from assay.cli.console import console, print_json
from assay.cli.progress import spinner
from assay.config.reason import Code, Reason
from assay.core.errors import NotFound, did_you_mean
from assay.report.formatting import count
from assay.report.reason_text import with_fix

if TYPE_CHECKING:
    from assay.audit.impact import SourceDependents
    from assay.plan.workspace import Workspace

MOST = 12
"""Maximum number of runs in the terminal output; JSON output lists all of them."""


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    add_command(app, taint, "taint", panel="Data", first="assay taint", second="assay taint my_web --json")


def taint(
    arguments: SourcesAndOverrides = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List tainted sources, and every corpus, run, sweep, verdict and page that used them.

    A source is tainted if it has an audit finding without a waiver (see `taint.severity` and `taint.fraction`), or no
    clearance. Named sources are listed even if they are not tainted.
    """
    named, overrides = split_overrides(arguments)
    with spinner("reading the store", quiet=as_json):
        space = load_workspace(overrides)
        known = space.study.sources
        for name in named:
            if name not in known and not _is_used(space, name):
                raise NotFound(
                    f"no source is called {name!r}, and no corpus of that name exists. {did_you_mean(name, known)}"
                )
        reasons = {name: _reasons(space, name) for name in (named or known)}
        shown = named or [name for name, why in reasons.items() if why]
        uses = {name: _uses(space, name, everything=bool(named)) for name in shown}
    if as_json:
        print_json({"sources": [_mapping(name, reasons[name], uses[name]) for name in shown]})
        return
    if not shown:
        console.print(
            f"None of the {count(len(known), 'source')} is tainted; `assay sources` lists which ones were audited."
        )
    for name in shown:
        _print(name, reasons[name], uses[name])


def _reasons(space: Workspace, name: str) -> tuple[Reason, ...]:
    """Return the defects of the current version, followed by the defects of all other audited versions."""
    from assay.audit.findings import Findings

    if name not in space.study.sources:
        return (Reason(code=Code.SOURCE_UNDECLARED, subject=name),)
    digests = Findings(space.store.root).digests(name)
    with contextlib.suppress(NotFound):  # its files are missing, but not its corpora
        digests.append(space.sources.digest(name))
    source = space.sources.source(name)
    versions: list[str | None] = [*dict.fromkeys(reversed(digests))]
    reasons = blocks([(source, digest) for digest in versions or [None]], space.sources.taints)
    return tuple(dict.fromkeys(reasons))


def _uses(space: Workspace, name: str, *, everything: bool) -> SourceDependents:
    """List the uses of a source. Count all versions if the source is named or not cleared, else tainted versions."""
    from assay.audit.impact import find_dependents

    uncleared = name not in space.study.sources or space.sources.source(name).refusal is not None
    digests = None if everything or uncleared else {str(why.figures["digest"]) for why in _reasons(space, name)}
    return find_dependents(space.store, name, digests)


def _is_used(space: Workspace, name: str) -> bool:
    from assay.audit.impact import find_dependents

    return bool(find_dependents(space.store, name).corpora)


def _mapping(name: str, reasons: Sequence[Reason], uses: SourceDependents) -> dict[str, Any]:
    from assay.core.serde import to_mapping

    return {**to_mapping(uses), "source": name, "tainted": list(reasons)}


def _print(name: str, reasons: Sequence[Reason], uses: SourceDependents) -> None:
    console.print(Text(name, style="bold red" if reasons else "bold"))
    for reason in [*map(with_fix, reasons)] or ["not tainted"]:
        console.print(Text(f"  {reason}", overflow="fold"))
    console.print(
        Text(
            f"  used by {count(len(uses.corpora), 'corpus', 'corpora')}, {count(len(uses.runs), 'run')},"
            f" {count(len(uses.sweeps), 'sweep')}"
        )
    )
    if uses.runs:
        table = Table("run", "mix", "seed", "state", "version", box=None, pad_edge=False)
        table.add_column("fraction", justify="right")
        for run in uses.runs[:MOST]:
            table.add_row(
                run.fingerprint[:12], Text(run.mix), str(run.seed), run.state, run.digest[:12], f"{run.fraction:.1%}"
            )
        console.print(table)
        if len(uses.runs) > MOST:
            console.print(Text(f"  and {len(uses.runs) - MOST} more: --json lists them", style="dim"))
    for sweep in uses.sweeps:
        verdict = f"verdict {sweep.decision}" if sweep.decision else "no verdict"
        where = f", shown in {', '.join(sweep.pages)}" if sweep.pages else ""
        console.print(
            Text(
                f"  sweep {sweep.name}: {verdict}, on {count(sweep.runs, 'run')} of {', '.join(sweep.mixes)}{where}",
                overflow="fold",
            )
        )
    console.print()
