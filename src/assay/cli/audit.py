"""`assay audit`: defects in the sources, found before they are trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from assay.cli import audit_jobs, unknown
from assay.cli.common import AsJson, complete_override, console, errors, print_json, progress_bars, workspace
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.audit.findings import Audit, Finding
    from assay.audit.ngram import Count
    from assay.audit.task import Settings
    from assay.sources import Source
    from assay.workspace import Workspace

NEW = 1
"""The exit code where something new was found."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(audit)


def audit(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCES...] [OVERRIDES...]",
            help='Sources to look at, all if left out; or `ngram "TEXT"` to count a string in them; Hydra overrides.',
            autocompletion=complete_override,
            show_default=False,
        ),
    ] = None,
    *,
    files: Annotated[
        list[str] | None,
        typer.Option("--files", help="Look at these files, which need not be a source: a path or glob."),
    ] = None,
    text_field: Annotated[
        str, typer.Option("--text-field", help="Of --files: the field or column with the text.")
    ] = "text",
    name: Annotated[str, typer.Option("--name", help="Of --files: what to call them.")] = "files",
    language: Annotated[str, typer.Option("--language", help="Of --files: en, de, ..., or code.")] = "unknown",
    show_all: Annotated[bool, typer.Option("--all", help="Show isolated hits too.")] = False,
    new: Annotated[bool, typer.Option("--new", help="Show only what no audit of the source has found before.")] = False,
    at_least: Annotated[
        str, typer.Option("--at-least", help="Exit with 1 on new findings as severe: low, medium or high.")
    ] = "medium",
    exact: Annotated[
        bool, typer.Option("--exact", help="With ngram: spaces and line ends as written; else words with any between.")
    ] = False,
    extremes: Annotated[
        bool, typer.Option("--extremes", help="List the documents at both ends of each distribution.")
    ] = False,
    proxy: Annotated[
        str | None,
        typer.Option("--proxy", metavar="RUN", help="Measure a sample's bits per byte under this run's model, too."),
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=0, help="Processes; one a core if left out.")] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="With cluster=slurm: jobs to deal files out to; else by size.")
    ] = None,
    status: Annotated[
        bool, typer.Option("--status", help="Show where the newest audit on a cluster stands; nothing is looked at.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look for defects in the sources; what was looked at before is not read again.

    Exits with 1 where something was found that no audit of the source had found before, for cron; with 2 on an error. Sources
    whose files are missing are named, and the others are audited; with 2 where none can be read, or nothing of one.

    With cluster=slurm, or another profile for SLURM, files are looked at by an array of jobs, and it returns at once. The same
    command again sends what was killed or failed, and nothing else; once all is done it prints what was found.
    """
    from assay.audit.findings import SEVERITIES, Findings

    if at_least not in SEVERITIES:
        raise AssayError(f"--at-least is {at_least!r}.", fix=f"It is one of {', '.join(SEVERITIES)}.")
    words = list(arguments or ())
    wanted = [word for word in words if "=" not in word]
    asked = wanted[1:] if wanted[:1] == ["ngram"] else None
    if asked is not None:  # the string that is asked for may have a `=` in it
        at = words.index("ngram") + 1
        asked, words, wanted = (
            words[at : at + 1],
            words[:at] + words[at + 1 :],
            [w for w in wanted[1:] if w not in words[at : at + 1]],
        )
    space = workspace([word for word in words if "=" in word])
    if status:
        audit_jobs.show_status(space, as_json=as_json)
        return
    chosen = _sources(space, wanted, files, text_field=text_field, name=name, language=language)
    if asked is not None:
        _ngram(chosen, asked, exact=exact, as_json=as_json)
        return
    missing: dict[str, str] = {}
    if space.study.cluster.executor == "slurm":
        sources, settings = to_look_at(space, chosen, missing)
        given = [word for word in words if "=" in word]
        over = audit_jobs.send(space, sources, settings, missing, overrides=given, jobs=jobs, as_json=as_json)
        if over is None:
            return
        done, fresh = over
    else:
        before = {source: Findings(space.store.root).seen(source) for source in chosen}
        done = look_at(space, chosen, workers=workers, quiet=as_json, missing=missing)
        fresh = {f.id for _, fs in done.values() for f in fs if not f.isolated and f.detector not in before[f.source]}
    digests = {name: looked.digest for name, (looked, _) in done.items()}
    beside = unknown.look(space, chosen, digests, proxy=proxy, quiet=as_json)
    found = [finding for _, findings in done.values() for finding in findings]
    shown = [f for f in found if (show_all or not f.isolated) and (not new or f.id in fresh)]
    if as_json:
        print_json({**_plain(done, shown, found, fresh), **unknown.plain(beside), "missing": missing})
    else:
        _print(done, shown, fresh)
        unknown.show(beside, extremes=extremes)
        errors.print("--all shows isolated hits, --extremes the documents at the ends, --json everything", style="dim")
        for source, why in missing.items():
            console.print(f"{source}  not audited: {why}", style="bold red", markup=False)
    if any(f.id in fresh and f.reaches(at_least) for f in found):
        raise typer.Exit(NEW)
    for source, (looked, _) in done.items():
        if looked.unread_count and not looked.documents:
            raise AssayError(
                f"nothing of source {source!r} could be read: {looked.unread[0].where}: {looked.unread[0].reason}.",
                fix="Fetch its files again; what can be read of the other sources was audited.",
            )


def _sources(
    space: Workspace, wanted: Sequence[str], files: Sequence[str] | None, *, text_field: str, name: str, language: str
) -> dict[str, Source]:
    """What is looked at: files that were named, or sources."""
    from assay.sources import Source

    if files:
        if wanted:
            raise AssayError(f"{wanted[0]!r} and --files: give one of the two.")
        found = tuple(str(Path(file).absolute()) if "://" not in file else file for file in files)
        domain = "code" if language == "code" else "unknown"
        return {
            name: Source(name=name, files=found, text_field=text_field, domain=domain, language=language, licence=None)
        }
    return {each: space.source(each) for each in wanted or sorted(space.study.sources)}


def look_at(
    space: Workspace,
    chosen: dict[str, Source],
    *,
    workers: int | None = None,
    quiet: bool = False,
    missing: dict[str, str] | None = None,
) -> dict[str, tuple[Audit, list[Finding]]]:
    """Audit sources with the project's detectors, and keep what was found in its store.

    Args:
        space: the study on this machine.
        chosen: the sources, by name.
        workers: processes; one a core if left out.
        quiet: whether to show no progress.
        missing: told why a source cannot be read, which is then left out.

    Raises:
        AssayError: a source cannot be read and nobody is told, or none can be.
    """
    from assay.audit.engine import audit as look

    with progress_bars(quiet=quiet) as tell:
        sources, settings = to_look_at(space, chosen, missing)
        return look(sources, store=space.store.root, settings=settings, workers=workers, progress=tell)


def to_look_at(
    space: Workspace, chosen: Mapping[str, Source], missing: dict[str, str] | None
) -> tuple[dict[str, tuple[Source, str]], Settings]:
    """The sources that can be read, with their digests, and what to look with; arguments and errors as of `look_at`."""
    from assay.audit.contamination import index
    from assay.audit.task import Settings
    from assay.corpus.read import source_digest

    detectors, without = declared()
    store, mirror = space.store.root, space.mirror
    questions = None
    if mirror is not None and (mirror / "manifest.json").exists():
        questions = str(index(mirror, store.absolute() / "audits" / ".files"))
    sources: dict[str, tuple[Source, str]] = {}
    for name, source in chosen.items():
        try:
            sources[name] = (source, source_digest(source, cache=store))
        except AssayError as error:
            if missing is None or len(missing) + 1 == len(chosen):
                raise
            missing[name] = error.what
    return sources, Settings(declared=detectors, without=without, questions=questions)


def declared() -> tuple[tuple[dict[str, Any], ...], tuple[str, ...]]:
    """The team's own detectors, and what it wants to leave out: of every file in `conf/audit/`."""
    import yaml

    from assay.roots import config_roots, project_root

    detectors: list[dict[str, Any]] = []
    without: list[str] = []
    taken: set[str] = set()
    for root in config_roots(project_root()):
        for path in sorted((root / "conf" / "audit").glob("*.yaml")):
            if path.name in taken:
                continue
            taken.add(path.name)
            try:
                plain = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
                raise AssayError(f"{path} cannot be read: {error}") from None
            if not isinstance(plain, dict) or not set(plain) <= {"detectors", "without"}:
                raise AssayError(f"{path}: has other keys than `detectors` and `without`, or none.")
            for key in plain:
                if not isinstance(plain[key] or [], list):
                    raise AssayError(
                        f"{path}: `{key}` is no list.", fix=f"Begin each of its entries with a dash: `{key}: [...]`."
                    )
            for one in plain.get("detectors") or []:
                if not isinstance(one, dict):
                    raise AssayError(
                        f"{path}: a detector is {one!r}.", fix="A detector has a name, and a pattern or a function."
                    )
                twice = one.get("name") in {other["name"] for other in detectors if "name" in other}
                if twice and "name" in one:
                    raise AssayError(
                        f"{path}: {one['name']!r} is the name of two detectors.", fix="Rename one of them."
                    )
                detectors.append(one)
            without += plain.get("without") or []
    return tuple(detectors), tuple(without)


def _plain(
    done: dict[str, tuple[Audit, list[Finding]]], shown: Sequence[Finding], found: Sequence[Finding], fresh: set[str]
) -> dict[str, Any]:
    from assay.structure import to_mapping

    sources = []
    for name, (looked, findings) in done.items():
        plain = to_mapping(looked)
        plain["distributions"] = plain.pop("summary")
        sources.append({"name": name, **plain, "isolated": sum(finding.isolated for finding in findings)})
    return {
        "findings": [{**f.as_json(), "new": f.id in fresh} for f in shown if not f.isolated],
        "isolated": [f.as_json() for f in found if f.isolated],
        "sources": sources,
    }


def _print(done: dict[str, tuple[Audit, list[Finding]]], shown: Sequence[Finding], fresh: set[str]) -> None:
    colours = {"high": "bold red", "medium": "yellow", "low": "dim"}
    for name, (looked, findings) in done.items():
        mine = [finding for finding in shown if finding.source == name]
        isolated = sum(finding.isolated for finding in findings)
        more = f", {isolated} kinds of isolated hits" if isolated else ""
        count = sum(not finding.isolated for finding in findings)
        console.print(
            f"[bold]{name}[/]  {looked.documents:,} documents, {looked.bytes / 1e6:,.1f} MB: {count} findings{more}"
        )
        for unread in looked.unread[:3]:
            who = f" ({unread.detector})" if unread.detector else ""
            console.print(f"  not read: {unread.where}: {unread.reason}{who}", style="yellow", markup=False)
        if looked.unread_count > 3:
            console.print(f"  and {looked.unread_count - 3:,} more places", style="yellow")
        table = Table(box=None, show_header=False, pad_edge=True)
        for finding in mine:
            label = "isolated" if finding.isolated else finding.severity
            mark = " new" if finding.id in fresh else ""
            table.add_row(
                Text(label + mark, style="dim" if finding.isolated else colours[finding.severity]),
                finding.detector,
                f"{finding.documents:,} ({finding.share:.1%})",
            )
        if mine:
            console.print(table)
        for finding in mine:
            _print_example(finding)


def _print_example(finding: Finding) -> None:
    """One example in two lines at most, its match marked; control characters are shown as a dot."""
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
    line.append(_visible(example.text[begin:first]))
    line.append(_visible(example.text[first : min(last, first + 90)]), style="reverse")
    line.append(_visible(example.text[last : last + 30] if last <= first + 90 else " ..."))
    console.print(line, overflow="ellipsis", no_wrap=True)


def _visible(text: str) -> str:
    return "".join(character if character.isprintable() else " " if character.isspace() else "·" for character in text)


def _ngram(chosen: dict[str, Source], asked: Sequence[str], *, exact: bool, as_json: bool) -> None:
    from assay.audit.ngram import count

    if len(asked) != 1 or not asked[0]:
        raise AssayError("ngram: no text to look for.", fix='Write it in quotes: assay audit ngram "1 2 3 4 5".')
    [text] = asked
    found: dict[str, Count] = {}
    with progress_bars(quiet=as_json) as tell:
        for name, source in chosen.items():
            found[name] = count(source, text, exact=exact, progress=lambda share, name=name: tell(name, share))  # type: ignore[misc]
    if as_json:
        from assay.structure import to_mapping

        print_json(
            {
                "text": text,
                "sources": [{"source": name, **to_mapping(each), "share": each.share} for name, each in found.items()],
            }
        )
        return
    table = Table("source", box=None, pad_edge=False)
    for heading in ("documents", "of", "share", "occurrences"):
        table.add_column(heading, justify="right")
    for name, each in found.items():
        table.add_row(name, f"{each.documents:,}", f"{each.of:,}", f"{each.share:.2%}", f"{each.occurrences:,}")
    console.print(table)
    for each in found.values():
        for example in each.examples[:1]:
            (first, last), *_ = example.matches
            line = Text("  ").append(_visible(example.text[max(0, first - 30) : first]))
            line.append(_visible(example.text[first:last]), style="reverse").append(
                _visible(example.text[last : last + 60])
            )
            console.print(f"{example.where}", markup=False, soft_wrap=True)
            console.print(line, overflow="ellipsis", no_wrap=True)
