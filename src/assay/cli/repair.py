"""`assay repair`: a new version of a source, with a defect mended by rule."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from assay.cli.common import AsJson, Overrides, console, print_json, progress_bars, workspace
from assay.errors import AssayError
from assay.files import write_text
from assay.fingerprint import SHORT
from assay.publish.words import count
from assay.sources import check_name

if TYPE_CHECKING:
    from assay.audit.repair import Repaired
    from assay.sources import Source
    from assay.workspace import Workspace

FILE = "documents.jsonl.gz"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(repair)


def repair(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The source to repair.")],
    overrides: Overrides = None,
    *,
    detector: Annotated[str, typer.Option(help="The defect: what found it.")] = "line_number_gutter",
    name: Annotated[str | None, typer.Option(help="Name of the new source; left out, SOURCE_repaired.")] = None,
    drop_unsure: Annotated[
        bool,
        typer.Option("--drop-unsure", help="Leave out documents that have the defect and cannot be mended by rule."),
    ] = False,
    samples: Annotated[int, typer.Option(min=0, help="Changed documents to show, before and after.")] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing; show what would change.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the new source if it is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a new version of a source, with a defect mended; documents that the fixer is unsure of stay, or are left out.

    Its documents go to paths.data/repaired/NAME, its declaration to conf/source/NAME.yaml: text, id, url, original and
    snapshot of each document, and no other field of its record. Licence and clearance are those of the source.
    """
    space = workspace(overrides)
    made, new = space.source(source), name or f"{source}_repaired"
    check_name("source", new)
    declared = Path(space.study.paths.root) / "conf" / "source" / f"{new}.yaml"
    folder = space.study.paths.resolve(space.study.paths.data) / "repaired" / new
    if new == source or (new in space.study.sources and not (force or dry_run)):
        raise AssayError(f"source {new!r} is there already.", fix="Give another --name, or --force to replace it.")
    if not dry_run and not any(declared.parent.glob("*.yaml")):
        raise AssayError(
            f"source {source!r} is a packaged one: a first source in {declared.parent} would hide all of them.",
            fix="Copy the packaged sources that you use into that folder first; or look with --dry-run.",
        )
    from assay.audit.beside import masking
    from assay.audit.repair import repair as mend
    from assay.cli.samples import looking
    from assay.corpus.read import size_of

    size = max(1, size_of(made))
    with progress_bars(quiet=as_json) as tell:
        done = mend(
            made,
            detector,
            None if dry_run else folder / FILE,
            leave_out=drop_unsure,
            samples=samples,
            mask=masking(made, looking()),
            progress=lambda n: tell(source, n / size),
        )
    if not dry_run:
        write_text(declared, _declaration(space, source, new, done))
    if as_json:
        from assay.structure import to_mapping

        print_json({**to_mapping(done), "name": new, "written": None if dry_run else str(folder / FILE)})
        return
    _print(done, new, None if dry_run else declared)


def _declaration(space: Workspace, name: str, new: str, done: Repaired) -> str:
    """The new source in YAML: the old one's facts, other files, and what it was made of."""
    import yaml

    from assay.structure import to_mapping

    old: Source = space.study.sources[name]
    detector, option = done.detector, " --drop-unsure" if done.left_out else ""
    mended = f"{detector} mended" + (f", {count(done.unsure, 'document')} left out" if done.left_out else "")
    today = datetime.datetime.now(datetime.UTC).date()
    plain: dict[str, Any] = to_mapping(
        replace(
            old,
            name=new,
            files=(f"${{paths.data}}/repaired/{new}/{FILE}",),
            format="jsonl",
            text_field="text",
            originals=_portable(space, old.originals),
            processing=f"{old.processing}; {mended}" if old.processing else mended,
            repairs=name,
            waivers=(),
            description=f"{name}, version {space.digest(name)[:SHORT]}, with {mended} on {today.isoformat()}."
            f" {old.description}".rstrip(),
        )
    )
    kept = {key: value for key, value in plain.items() if value not in (None, [], ())}
    return f"# Made by `assay repair {name} --detector {detector}{option}`.\n{yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=120)}"


def _portable(space: Workspace, place: str | None) -> str | None:
    """A place below `paths.data` as other machines find it, too."""
    data = str(space.study.paths.resolve(space.study.paths.data))
    return f"${{paths.data}}{place.removeprefix(data)}" if place and place.startswith(f"{data}/") else place


def _print(done: Repaired, new: str, declared: Path | None) -> None:
    from assay.audit.visible import plain

    for sample in done.samples:
        console.print(Text(f"{sample.document}  {sample.where}", style="bold", overflow="fold"))
        for line in sample.difference:
            style = {"-": "red", "+": "green"}.get(line[:1], "dim")
            shown = plain(line.expandtabs(4), most=len(line) * 4)  # an escape would drive the terminal
            console.print(Text(shown, style=style, no_wrap=True, overflow="ellipsis"), soft_wrap=False)
        console.print()
    saved = done.bytes_before - done.bytes_after
    console.print(
        f"{count(done.documents, 'document')}: {done.mended} mended, {count(done.removed, 'place')} and {saved:,} bytes taken out; "
        f"{done.unsure} left {'out' if done.left_out else 'as they were'} because the fixer is unsure."
    )
    if done.unsure and not done.left_out:
        console.print(
            "Those still have the defect: above `taint.share` the audit refuses them again. --drop-unsure leaves them out."
        )
    if declared is None:
        console.print("Nothing was written (--dry-run).")
        return
    console.print(f"The new source is {new}, in {declared}. What follows:")
    console.print(f"  assay audit {new}\n  assay plan --repair sweep=NAME", markup=False)
