"""`assay taint`: what is wrong with sources, and what touched them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from assay.cli.common import AsJson, console, print_json, workspace
from assay.errors import AssayError, did_you_mean
from assay.publish.words import count

if TYPE_CHECKING:
    from assay.audit.taint import Taint
    from assay.audit.touched import Touched
    from assay.workspace import Workspace

MOST = 12
"""Runs that are listed by name; the others are counted, and stand in the JSON."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(taint)


def taint(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE]... [OVERRIDE]...", help="Sources, tainted or not; left out, all that are tainted."
        ),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List what is wrong with sources, and every corpus, run, sweep, verdict and page that touched them.

    A source is tainted where an audit found a defect that nobody has waived (`taint.severity`, `taint.share`), and
    where it is not cleared, or not any more. With names of sources: what touched them, whatever is known of them.
    """
    given = list(arguments or ())
    space = workspace([one for one in given if "=" in one])
    named = [one for one in given if "=" not in one]
    known = space.study.sources
    for name in named:
        if name not in known and not _used(space, name):
            raise AssayError(f"no source is called {name!r}, and nothing was made of one. {did_you_mean(name, known)}")
    reasons = {name: _reasons(space, name) for name in (named or known)}
    shown = named or [name for name, why in reasons.items() if why]
    found = {name: _touched(space, name, everything=bool(named)) for name in shown}
    if as_json:
        print_json({"sources": [_mapping(name, reasons[name], found[name]) for name in shown]})
        return
    if not shown:
        console.print(
            f"None of the {count(len(known), 'source')} is tainted, as far as audits went: see `assay sources`."
        )
    for name in shown:
        _print(name, reasons[name], found[name])


def _reasons(space: Workspace, name: str) -> list[str]:
    if name not in space.study.sources:
        return [f"source {name!r} is not declared any more"]
    refusal = space.source(name).refusal
    return [*([refusal] if refusal else []), *(f"{one.sentence}; {one.fix}" for one in _taints(space, name))]


def _taints(space: Workspace, name: str) -> list[Taint]:
    """Those of the version that is there now first, then those of the others that were ever audited."""
    from assay.audit.findings import Findings

    digests = Findings(space.store.root).digests(name)
    with contextlib.suppress(AssayError):  # its files are not here; what was made of it is
        digests.append(space.digest(name))
    source = space.source(name)
    return [one for digest in dict.fromkeys(reversed(digests)) for one in space.taints.of(source, digest)]


def _touched(space: Workspace, name: str, *, everything: bool) -> Touched:
    """What touched a source: any version of one that is asked for by name or not cleared, else the tainted one."""
    from assay.audit.touched import touched

    uncleared = name not in space.study.sources or space.source(name).refusal is not None
    digests = None if everything or uncleared else {one.digest for one in _taints(space, name)}
    return touched(space.store, name, digests)


def _used(space: Workspace, name: str) -> bool:
    from assay.audit.touched import touched

    return bool(touched(space.store, name).corpora)


def _mapping(name: str, reasons: Sequence[str], found: Touched) -> dict[str, Any]:
    from assay.structure import to_mapping

    return {**to_mapping(found), "source": name, "tainted": list(reasons)}


def _print(name: str, reasons: Sequence[str], found: Touched) -> None:
    console.print(Text(name, style="bold red" if reasons else "bold"))
    for reason in reasons or ["nothing is known against it"]:
        console.print(Text(f"  {reason}", overflow="fold"))
    console.print(
        Text(
            f"  touched by {count(len(found.corpora), 'corpus', 'corpora')}, {count(len(found.runs), 'run')}, {count(len(found.sweeps), 'sweep')}"
        )
    )
    if found.runs:
        table = Table("run", "mix", "seed", "state", "version", box=None, pad_edge=False)
        table.add_column("share", justify="right")
        for run in found.runs[:MOST]:
            table.add_row(
                run.fingerprint[:12], Text(run.mix), str(run.seed), run.state, run.digest[:12], f"{run.share:.1%}"
            )
        console.print(table)
        if len(found.runs) > MOST:
            console.print(Text(f"  and {len(found.runs) - MOST} more: --json lists them", style="dim"))
    for sweep in found.sweeps:
        verdict = f"verdict {sweep.decision}" if sweep.decision else "no verdict"
        where = f", shown in {', '.join(sweep.pages)}" if sweep.pages else ""
        console.print(
            Text(
                f"  sweep {sweep.name}: {verdict}, on {count(sweep.runs, 'run')} of {', '.join(sweep.mixes)}{where}",
                overflow="fold",
            )
        )
    console.print()
