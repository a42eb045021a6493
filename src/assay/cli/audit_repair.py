"""`assay audit repair`: a new version of a source without a defect."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from assay.cli.arguments import AsJson, Overrides, load_workspace
from assay.cli.console import console, print_json
from assay.cli.progress import progress_bars
from assay.config.search_path import config_files
from assay.config.sources import check_name
from assay.core.errors import Refused
from assay.core.files import write_text
from assay.core.fingerprint import SHORT
from assay.report.formatting import count

if TYPE_CHECKING:
    from assay.audit.repair import RepairSummary
    from assay.config.sources import Source
    from assay.plan.workspace import Workspace

FILE = "documents.jsonl.gz"


def repair(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Source to repair.")],
    overrides: Overrides = None,
    *,
    detector: Annotated[
        str, typer.Option("--detector", help="Name of the detector that reports the defect.")
    ] = "line_number_gutter",
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the new source (default: SOURCE_repaired).")
    ] = None,
    drop_unsure: Annotated[
        bool,
        typer.Option("--drop-unsure", help="Leave out defective documents that the fixer cannot repair."),
    ] = False,
    samples: Annotated[int, typer.Option("--samples", min=0, help="Number of changed documents to print.")] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the changes, and write nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing source that has the new name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a new version of a source in which the fixer has repaired a defect.

    Documents that the fixer cannot repair stay unchanged; --drop-unsure leaves them out. The command writes the
    documents to paths.data/repaired/NAME, with the fields `text`, `id`, `url`, `original` (the raw document) and
    `snapshot`. It writes the declaration to conf/source/NAME.yaml, with the license and clearance of the old source.
    """
    space = load_workspace(overrides)
    original, new = space.sources.source(source), name or f"{source}_repaired"
    check_name("source", new)
    declarations = Path(space.study.paths.root) / "conf" / "source"
    declared = config_files(declarations).get(new, declarations / f"{new}.yaml")
    folder = space.study.paths.resolve(space.study.paths.data) / "repaired" / new
    if new == source or (new in space.study.sources and not (force or dry_run)):
        raise Refused(
            f"source {new!r} already exists.", fix="Give another --name, or add --force to replace that source."
        )
    if not dry_run and not config_files(declared.parent):
        raise Refused(
            f"source {source!r} is packaged. The first source in {declared.parent} would hide all packaged sources.",
            fix="Copy the packaged sources that you use into that folder, or use --dry-run.",
        )
    from assay.audit.detectors.declaration import project_detectors
    from assay.audit.repair import repair as write_repaired
    from assay.audit.review.side_by_side import masking
    from assay.corpus.source_reader import size_of

    size = max(1, size_of(original))
    with progress_bars(quiet=as_json) as report:
        repaired = write_repaired(
            original,
            detector,
            None if dry_run else folder / FILE,
            leave_out=drop_unsure,
            samples=samples,
            mask=masking(original, project_detectors()),
            progress=lambda n: report(source, n / size),
        )
    if not dry_run:
        write_text(declared, _declaration(space, source, new, repaired))
    if as_json:
        from assay.core.serde import to_mapping

        print_json({**to_mapping(repaired), "name": new, "written": None if dry_run else str(folder / FILE)})
        return
    _print(repaired, new, None if dry_run else declared)


def _declaration(space: Workspace, name: str, new: str, repaired: RepairSummary) -> str:
    """Write the new source's YAML: the facts of the old source, the new files, and their origin."""
    import yaml

    from assay.core.serde import to_mapping

    old: Source = space.study.sources[name]
    detector, option = repaired.detector, " --drop-unsure" if repaired.dropped else ""
    left_out = f", {count(repaired.unsure, 'document')} left out" if repaired.dropped else ""
    repairs = f"{detector} repaired{left_out}"
    today = datetime.datetime.now(datetime.UTC).date()
    plain: dict[str, Any] = to_mapping(
        replace(
            old,
            name=new,
            files=(f"${{paths.data}}/repaired/{new}/{FILE}",),
            format="jsonl",
            text_field="text",
            separator=None,
            originals=_portable(space, old.originals),
            processing=f"{old.processing}; {repairs}" if old.processing else repairs,
            repairs=name,
            waivers=(),
            description=f"{name}, version {space.sources.digest(name)[:SHORT]}, with {repairs} on {today.isoformat()}."
            f" {old.description}".rstrip(),
        )
    )
    kept = {key: value for key, value in plain.items() if value not in (None, [], ())}
    return f"# Made by `assay audit repair {name} --detector {detector}{option}`.\n{yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=120)}"


def _portable(space: Workspace, place: str | None) -> str | None:
    """Write a path below `paths.data` relative to `paths.data`, so that the path is valid on other machines."""
    data = str(space.study.paths.resolve(space.study.paths.data))
    return f"${{paths.data}}{place.removeprefix(data)}" if place and place.startswith(f"{data}/") else place


def _print(repaired: RepairSummary, new: str, declared: Path | None) -> None:
    from assay.audit.review.safe_text import plain

    for sample in repaired.samples:
        console.print(Text(f"{sample.document}  {sample.where}", style="bold", overflow="fold"))
        for line in sample.difference:
            style = {"-": "red", "+": "green"}.get(line[:1], "dim")
            shown = plain(line.expandtabs(4), most=len(line) * 4)  # escape sequences would control the terminal
            console.print(Text(shown, style=style, no_wrap=True, overflow="ellipsis"), soft_wrap=False)
        console.print()
    saved = repaired.bytes_before - repaired.bytes_after
    console.print(
        f"{count(repaired.documents, 'document')}: {repaired.repaired} repaired, {count(repaired.removed, 'place')} and"
        f" {saved:,} bytes removed; {repaired.unsure} left {'out' if repaired.dropped else 'unchanged'} because the fixer"
        " is unsure."
    )
    if repaired.unsure and not repaired.dropped:
        console.print(
            "The unchanged documents still have the defect. If their fraction exceeds `taint.fraction`, they taint the new source. The option --drop-unsure leaves these documents out."
        )
    if declared is None:
        console.print("nothing was written (--dry-run)")
        return
    console.print(f"The new source is {new}, in {declared}. Next:")
    console.print(f"  assay audit {new}\n  assay plan repair sweep=NAME", markup=False)
