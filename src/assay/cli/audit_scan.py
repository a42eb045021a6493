"""`assay audit scan`: detect defects in sources, on this machine or with SLURM jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from assay.cli import audit_exploration, audit_jobs
from assay.cli.arguments import AsJson, SourcesAndOverrides, load_workspace, split_overrides
from assay.cli.console import console, errors, print_json
from assay.cli.progress import progress_bars
from assay.cli.source_notes import print_notes
from assay.core.errors import AssayError, ConfigError, Damaged, NotFound

if TYPE_CHECKING:
    from assay.audit.findings import Audit, Finding
    from assay.audit.task import AuditSettings
    from assay.config.reason import Reason
    from assay.config.sources import Source
    from assay.plan.workspace import Workspace

NEW_FINDINGS = 1
"""The exit code if a new finding has at least the severity --at-least."""
UNREAD_SHOWN = 3
"""Maximum number of unreadable places listed per source."""

Files = Annotated[
    list[str] | None,
    typer.Option("--files", help="Path or glob of files to read instead of declared sources. Repeatable."),
]
TextField = Annotated[
    str, typer.Option("--text-field", help="Field or column that contains the text. Requires --files.")
]
FilesName = Annotated[str, typer.Option("--name", help="Name of the files in the results. Requires --files.")]
Language = Annotated[str, typer.Option("--language", help="Language of the text, or `code`. Requires --files.")]


def scan(
    arguments: SourcesAndOverrides = None,
    *,
    files: Files = None,
    text_field: TextField = "text",
    name: FilesName = "files",
    language: Language = "unknown",
    show_all: Annotated[
        bool, typer.Option("--all", help="Also print isolated hits, which are too few for a finding.")
    ] = False,
    new: Annotated[bool, typer.Option("--new", help="Print only findings that no earlier audit reported.")] = False,
    at_least: Annotated[
        str,
        typer.Option(
            "--at-least", help="Minimum severity at which a new finding sets the exit code 1: low, medium or high."
        ),
    ] = "medium",
    extremes: Annotated[
        bool,
        typer.Option(
            "--extremes",
            help="Also print the documents with the lowest and highest values of each measure, such as length.",
        ),
    ] = False,
    proxy: Annotated[
        str | None,
        typer.Option(
            "--proxy",
            metavar="RUN",
            help="Also measure the bits per byte of sample documents under the model of this run (first digits of a fingerprint).",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=0, help="Number of worker processes (default: one per core).")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            min=1,
            help="Number of SLURM jobs (default: derived from the size of the files). Requires a SLURM profile.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Detect defects in sources. Skip files that an earlier audit covered.

    Exits with 1 if a new finding has at least the severity --at-least, and with 2 if a source cannot be read. The audit
    covers all other sources.

    With cluster=slurm or another SLURM profile, an array of jobs reads the files, and the command returns at once. Run
    the command again to resubmit killed and failed jobs, and to print the findings once all jobs are done.
    """
    from assay.audit.findings import SEVERITIES, Findings

    if at_least not in SEVERITIES:
        raise ConfigError(f"--at-least: {at_least!r} is invalid.", fix=f"Use {', '.join(SEVERITIES)}.")
    names, overrides = split_overrides(arguments)
    space = load_workspace(overrides, needs_project=not files)
    sources = select_sources(space, names, files, text_field=text_field, name=name, language=language)
    missing: dict[str, str] = {}
    if space.study.cluster.executor == "slurm":
        readable, settings = readable_sources(space, sources, missing)
        outcome = audit_jobs.submit(space, readable, settings, missing, overrides=overrides, jobs=jobs, as_json=as_json)
        if outcome is None:
            require_all(missing, len(sources))
            return
        audits, fresh = outcome
    else:
        before = {source: Findings(space.store.root).detectors_with_findings(source) for source in sources}
        audits = scan_locally(space, sources, workers=workers, quiet=as_json, missing=missing)
        fresh = {f.id for _, fs in audits.values() for f in fs if not f.isolated and f.detector not in before[f.source]}
    digests = {name: audit.digest for name, (audit, _) in audits.items()}
    explored = audit_exploration.explore(space, sources, digests, proxy=proxy, quiet=as_json)
    findings = [finding for _, listed in audits.values() for finding in listed]
    shown = [f for f in findings if (show_all or not f.isolated) and (not new or f.id in fresh)]
    if as_json:
        plain = _plain(audits, shown, findings, fresh)
        notes = {name: _notes(space, sources[name], audit) for name, (audit, _) in audits.items()}
        warnings = [note for listed in notes.values() for note in listed]
        print_json({**plain, **audit_exploration.plain(explored), "missing": missing, "warnings": warnings})
    else:
        _print(space, sources, audits, shown, fresh)
        audit_exploration.show(explored, extremes=extremes)
        errors.print(
            "--all also prints isolated hits, --extremes the lowest and highest documents, --json everything",
            style="dim",
        )
        print_missing(missing)
    for source, (audit, _) in audits.items():
        if audit.unread_count and not audit.documents:
            raise Damaged(
                f"source {source!r} cannot be read at all: {audit.unread[0].where}: {audit.unread[0].reason.rstrip('.')}.",
                fix="Correct its files or its declaration. The other sources were audited.",
            )
    require_all(missing, len(sources))
    if any(f.id in fresh and f.reaches(at_least) for f in findings):
        raise typer.Exit(NEW_FINDINGS)


def select_sources(
    space: Workspace, names: Sequence[str], files: Sequence[str] | None, *, text_field: str, name: str, language: str
) -> dict[str, Source]:
    """Return the named sources, or all sources. If files are given, return a source that consists of these files."""
    from assay.config.sources import Source

    if files:
        if names:
            raise ConfigError(
                f"{names[0]!r} and --files exclude each other.", fix="Omit --files or the names of sources."
            )
        paths = tuple(str(Path(file).absolute()) if "://" not in file else file for file in files)
        domain = "code" if language == "code" else "unknown"
        return {
            name: Source(name=name, files=paths, text_field=text_field, domain=domain, language=language, license=None)
        }
    return {source: space.sources.source(source) for source in names or sorted(space.study.sources)}


def scan_locally(
    space: Workspace,
    sources: dict[str, Source],
    *,
    workers: int | None = None,
    quiet: bool = False,
    missing: dict[str, str] | None = None,
) -> dict[str, tuple[Audit, list[Finding]]]:
    """Audit sources on this machine with the project's detectors, and store the findings.

    Args:
        space: the workspace.
        sources: the sources, by name.
        workers: number of worker processes; ``None`` starts one per core.
        quiet: whether to show no progress.
        missing: receives the reason for each source that cannot be read and is left out.

    Raises:
        AssayError: no source is readable, or a source is not readable and `missing` is ``None``.
    """
    from assay.audit.engine import audit

    with progress_bars(quiet=quiet) as report:
        readable, settings = readable_sources(space, sources, missing)
        return audit(readable, store=space.store.root, settings=settings, workers=workers, progress=report)


def readable_sources(
    space: Workspace, sources: Mapping[str, Source], missing: dict[str, str] | None
) -> tuple[dict[str, tuple[Source, str]], AuditSettings]:
    """Return the sources that can be read with their digests, and the audit settings; as `scan_locally`."""
    from assay.audit.contamination import index
    from assay.audit.detectors.declaration import declared_detectors
    from assay.audit.task import AuditSettings
    from assay.corpus.source_reader import check_formats, source_digest

    detectors, without = declared_detectors()
    store, mirror = space.store.root, space.study.paths.mirror
    questions = None
    if mirror is not None and (mirror / "manifest.json").exists():
        questions = str(index(mirror, store.absolute() / "audits" / ".files"))
    readable: dict[str, tuple[Source, str]] = {}
    for name, source in sources.items():
        try:
            readable[name] = (source, source_digest(source, cache=store))
            check_formats(source)
        except AssayError as error:
            readable.pop(name, None)
            if missing is None or len(sources) == 1:
                raise
            missing[name] = str(error).replace("\n", " ")
    if missing and not readable:
        print_missing(missing)
        require_all(missing, len(sources))
    return readable, AuditSettings(declared=detectors, without=without, questions=questions)


# --- output


def print_missing(missing: Mapping[str, str]) -> None:
    """Print the sources that were not audited, with the reasons."""
    for source, why in missing.items():
        console.print(f"{source}  not audited: {why}", style="bold red", markup=False, soft_wrap=True)


def require_all(missing: Mapping[str, str], sources: int) -> None:
    """Raise an error if a source was not audited, so that no pipeline treats this source as clean."""
    if missing:
        raise NotFound(
            f"{len(missing)} of {sources} sources were not audited: {', '.join(missing)}.",
            fix="Correct their files or declarations, or name the other sources in the command.",
        )


def _notes(space: Workspace, source: Source, audit: Audit) -> list[Reason]:
    """Return the files that a source skips, and doubts about its documents."""
    from assay.corpus.source_notes import listing_notes
    from assay.plan.source_report import audited_sizes, document_notes

    sizes = audited_sizes(space.store.root, source.name, audit.digest)
    return [*listing_notes(source), *([] if sizes is None else document_notes(source, sizes))]


def _plain(
    audits: dict[str, tuple[Audit, list[Finding]]],
    shown: Sequence[Finding],
    findings: Sequence[Finding],
    fresh: set[str],
) -> dict[str, Any]:
    from assay.core.serde import to_mapping

    sources = []
    for name, (audit, listed) in audits.items():
        plain = to_mapping(audit)
        plain["distributions"] = plain.pop("summary")
        sources.append({"name": name, **plain, "isolated": sum(finding.isolated for finding in listed)})
    return {
        "findings": [{**f.as_json(), "new": f.id in fresh} for f in shown if not f.isolated],
        "isolated": [f.as_json() for f in findings if f.isolated],
        "sources": sources,
    }


def _print(
    space: Workspace,
    sources: Mapping[str, Source],
    audits: dict[str, tuple[Audit, list[Finding]]],
    shown: Sequence[Finding],
    fresh: set[str],
) -> None:
    for name, (audit, listed) in audits.items():
        isolated = sum(finding.isolated for finding in listed)
        more = f", {isolated} kinds of isolated hits" if isolated else ""
        number = len(listed) - isolated
        console.print(
            f"[bold]{name}[/]  {audit.documents:,} documents, {audit.bytes / 1e6:,.1f} MB: {number} findings{more}"
        )
        for unread in audit.unread[:UNREAD_SHOWN]:
            detector = f" ({unread.detector})" if unread.detector else ""
            console.print(f"  not read: {unread.where}: {unread.reason}{detector}", style="yellow", markup=False)
        if audit.unread_count > UNREAD_SHOWN:
            console.print(f"  and {audit.unread_count - UNREAD_SHOWN:,} more places", style="yellow")
        print_notes(_notes(space, sources[name], audit))
        _print_findings([finding for finding in shown if finding.source == name], fresh)


def _print_findings(findings: Sequence[Finding], fresh: set[str]) -> None:
    colors = {"high": "bold red", "medium": "yellow", "low": "dim"}
    table = Table(box=None, show_header=False, pad_edge=True)
    for finding in findings:
        label = "isolated" if finding.isolated else finding.severity
        mark = " new" if finding.id in fresh else ""
        table.add_row(
            Text(label + mark, style="dim" if finding.isolated else colors[finding.severity]),
            finding.detector,
            f"{finding.documents:,} ({finding.fraction:.1%})",
        )
    if findings:
        console.print(table)
    for finding in findings:
        _print_example(finding)


def _print_example(finding: Finding) -> None:
    """Print an example in at most two lines with its match highlighted; a dot replaces each control character."""
    if not finding.examples:
        return
    example = finding.examples[0]
    console.print(f"  {finding.detector}: {finding.reason}", markup=False, style="dim")
    console.print(f"    {example.where} {example.note}", markup=False, soft_wrap=True)
    if not example.text:
        return
    first, last = example.matches[0] if example.matches else (0, 0)
    begin = max(0, first - 30)
    line = Text("    ")
    line.append(visible(example.text[begin:first]))
    line.append(visible(example.text[first : min(last, first + 90)]), style="reverse")
    line.append(visible(example.text[last : last + 30] if last <= first + 90 else " ..."))
    console.print(line, overflow="ellipsis", no_wrap=True)


def visible(text: str) -> str:
    """Replace control characters by a dot, and white space by a blank."""
    return "".join(character if character.isprintable() else " " if character.isspace() else "·" for character in text)
