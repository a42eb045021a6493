"""`assay sources` and `assay prepare`: the declared sources, and their tokenized corpora."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.table import Table
from rich.text import Text

from assay.audit.taint import unreadable
from assay.cli.arguments import AsJson, Overrides, load_workspace
from assay.cli.command_group import add_command
from assay.cli.console import console, print_json
from assay.cli.progress import progress_bars, spinner
from assay.cli.source_notes import print_notes, size_cells
from assay.core.errors import AssayError, ConfigError, Damaged, NotFound, Refused
from assay.plan.token_counts import count_by_tokenizer
from assay.report.formatting import amount, count

if TYPE_CHECKING:
    from assay.config.reason import Reason
    from assay.config.sources import Source
    from assay.plan.source_report import SourceReport
    from assay.plan.token_counts import UsedTokenizer
    from assay.plan.workspace import Workspace

NARROW = 110
"""Terminal width below which the table omits some columns. `--json` contains all columns."""


PANEL = "Data"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    second = "assay sources sweep=first --stale 180d"
    add_command(app, sources, "sources", panel=PANEL, first="assay sources", second=second)
    second = "assay prepare sweep=first --json"
    add_command(app, prepare, "prepare", panel=PANEL, first="assay prepare sweep=first", second=second)


def sources(
    overrides: Overrides = None,
    *,
    stale: Annotated[
        str | None,
        typer.Option(
            "--stale",
            help="List only sources whose snapshot is unknown or older than this age, such as 180d, 26w, 6m or 1y.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the sources with domain, license, clearance, snapshot date, tokens, documents and audit findings."""
    from assay.core.serde import to_mapping
    from assay.plan.source_report import report_source

    oldest = None if stale is None else _oldest_day(stale)
    with spinner("reading the sources", quiet=as_json):
        space = load_workspace(overrides)
        listed = sorted(space.study.sources.values(), key=lambda source: (source.domain, source.name))
        if oldest is not None:
            listed = [source for source in listed if source.snapshot is None or source.snapshot < oldest]
        known = space.study.sweep or space.study.tokenizer.sources
        reports = {source.name: report_source(space.sources, source.name, tokenized=bool(known)) for source in listed}
        readable = [name for name, report in reports.items() if report.error is None]
        tokens = space.sources.tokens(readable) if known else {}
        audits = {source.name: _audit_summary(space, source.name, reports[source.name]) for source in listed}
        used = count_by_tokenizer(space.store, space.sources, readable)
    if as_json:
        print_json(
            [
                {
                    **to_mapping(s),
                    "tokens": tokens.get(s.name),
                    "refusal": space.sources.uncleared(s.name),
                    "tokens_by_tokenizer": [
                        {
                            "tokenizer": t.identity,
                            "names": t.names,
                            "vocabulary": t.vocabulary,
                            "tokens": t.tokens[s.name],
                        }
                        for t in used
                        if s.name in t.tokens
                    ],
                    **audits[s.name]._asdict(),
                    "annotated": _annotations(space, s.name),
                    "documents": reports[s.name].sizes,
                    "warnings": reports[s.name].notes,
                    "error": str(reports[s.name].error or "") or None,
                }
                for s in listed
            ]
        )
        _require_valid(reports)
        return
    shown = [_as_cleared(space, source) for source in listed]
    console.print(_table(shown, tokens, audits, reports, narrow=console.width < NARROW))
    raised = _first_invalid(reports)
    for report in reports.values():
        print_notes(report.notes)
        if report.error is not None and report.error is not raised:
            console.print(str(report.error).replace("\n", " "), style="yellow", markup=False, soft_wrap=True)
    if oldest is not None:
        console.print(
            f"{count(len(listed), 'source')} of {len(space.study.sources)} without a snapshot since {oldest.isoformat()}."
        )
    current = space.sources.tokenizer_id if known else None
    if any(tokenizer.identity != current for tokenizer in used):
        console.print(_tokens_table(listed, used))
    if not tokens and not used:
        console.print("To count tokens, tokenize the sources with `assay prepare sweep=NAME`.")
    if any(report.sizes is None for report in reports.values()):
        console.print("To count documents, read the sources with `assay audit` or `assay prepare sweep=NAME`.")
    _require_valid(reports)


def _require_valid(reports: Mapping[str, SourceReport]) -> None:
    """Raise the error of the first source with a wrong declaration. Files may be absent before they are downloaded."""
    error = _first_invalid(reports)
    if error is not None:
        raise error


def _first_invalid(reports: Mapping[str, SourceReport]) -> AssayError | None:
    errors = (report.error for report in reports.values())
    return next((error for error in errors if error is not None and not isinstance(error, NotFound)), None)


def prepare(overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """Train the tokenizer, and tokenize the sources of a sweep. Reuse existing corpora."""
    from assay.plan.prepare import prepare_corpora
    from assay.plan.source_report import report_source
    from assay.plan.tokenizer_check import check_tokenizer
    from assay.report.reason_text import paragraph

    space = load_workspace(overrides)
    with progress_bars(quiet=as_json) as report:
        check_tokenizer(space.sources, space.mixes.sweep_sources)
        folders = prepare_corpora(space.sources, space.mixes.prepared_sources, progress=report)
    tokens = space.sources.tokens(folders)
    reports = {name: report_source(space.sources, name, tokenized=True) for name in folders}
    lost_text = check_tokenizer(space.sources, space.mixes.sweep_sources)
    warnings = [*(note for report in reports.values() for note in report.notes), *lost_text]
    end, skipped = space.sources.end_token, _skipped_sources(space)
    if as_json:
        rows = [
            {"source": name, "corpus": folder.name, "tokens": tokens[name], "documents": reports[name].sizes}
            for name, folder in folders.items()
        ]
        print_json(
            {
                "tokenizer": space.sources.tokenizer_id,
                "end_token": end._asdict() if end else None,
                "corpora": rows,
                "skipped": skipped,
                "warnings": warnings,
            }
        )
        _require_tokenized(skipped)
        return
    table = Table("source", "corpus", box=None, pad_edge=False)
    for heading in ("tokens", "documents", "median", "longest"):
        table.add_column(heading, justify="right")
    for name, folder in folders.items():
        table.add_row(name, folder.name[:12], amount(tokens[name]), *size_cells(reports[name].sizes))
    console.print(table)
    if end is not None:
        console.print(f"Documents end with {end.name!r}, as {end.origin} declares.", markup=False)
    print_notes(warnings)
    for name, reasons in skipped.items():
        console.print(f"{name}  not tokenized: {paragraph(reasons)}", style="bold red", markup=False)
    _require_tokenized(skipped)


def _skipped_sources(space: Workspace) -> dict[str, list[Reason]]:
    """Return the sources that are not tokenized, because every mix of the sweep with these sources is refused."""
    users: dict[str, list[str]] = {}
    for mix in space.mixes.sweep_mixes:
        for name in space.mixes.source_names(mix):
            users.setdefault(name, []).append(mix)
    skipped = sorted(users.keys() - set(space.mixes.sweep_sources))
    return {
        name: space.sources.refusals(name)
        or list(dict.fromkeys(reason for mix in users[name] for reason in space.mixes.source_refusals(mix)))
        for name in skipped
    }


def _require_tokenized(skipped: Mapping[str, Sequence[Reason]]) -> None:
    """Raise an error if a source was not tokenized, so that no pipeline continues without this source."""
    if skipped:
        raise Refused(
            f"{count(len(skipped), 'source')} of the sweep {'is' if len(skipped) == 1 else 'are'} not tokenized: {', '.join(skipped)}.",
            fix="Correct these sources, or remove the mixes that use them from the sweep.",
        )


def _as_cleared(space: Workspace, source: Source) -> Source:
    """Return a source with the clearance that applies to its current version."""
    return replace(source, clearance=replace(source.clearance, state=space.sources.clearance(source.name)))


def _table(
    sources: Sequence[Source],
    tokens: Mapping[str, int],
    audits: Mapping[str, _AuditSummary],
    reports: Mapping[str, SourceReport],
    *,
    narrow: bool,
) -> Table:
    """Make a table of the sources, with fewer columns on a narrow terminal."""
    table = Table(box=None, pad_edge=False)
    table.add_column("source", overflow="fold")
    if not narrow:
        table.add_column("domain", no_wrap=True)
    table.add_column("license")
    table.add_column("clearance", no_wrap=True)
    table.add_column("snapshot", no_wrap=True)
    table.add_column("tokens", justify="right", no_wrap=True)
    table.add_column("documents", justify="right", no_wrap=True)
    if not narrow:
        table.add_column("median", justify="right", no_wrap=True)
        table.add_column("longest", justify="right", no_wrap=True)
        table.add_column("audited", no_wrap=True)
    table.add_column("findings", no_wrap=True)
    for s in sources:
        state, audit = s.effective_clearance, audits[s.name]
        cells = [
            Text(s.name),
            *([] if narrow else [Text(s.domain)]),
            Text(s.license or "-"),
            Text(state, style={"cleared": "green", "pending": "yellow", "blocked": "red"}[state]),
            Text(s.snapshot.isoformat() if s.snapshot else "-"),
            Text(amount(tokens.get(s.name))),
            *map(Text, size_cells(reports[s.name].sizes)[: 1 if narrow else 3]),
            *([] if narrow else [Text(audit.audited or "never")]),
            Text(audit.text, style="red" if audit.tainted else ""),
        ]
        table.add_row(*cells)
    return table


def _tokens_table(sources: Sequence[Source], used: Sequence[UsedTokenizer]) -> Table:
    """Make a table of the tokens of each source under each tokenizer, one line for each pair."""
    table = Table("source", "tokenizer", box=None, pad_edge=False, title="tokens by tokenizer", title_justify="left")
    table.add_column("tokens", justify="right", no_wrap=True)
    for source in sources:
        for tokenizer in used:
            if source.name in tokenizer.tokens:
                table.add_row(Text(source.name), Text(tokenizer.label), amount(tokenizer.tokens[source.name]))
    return table


class _AuditSummary(NamedTuple):
    """The audits of the present version of a source.

    Attributes:
        audited: the day of the last audit; ``None`` if there was none.
        findings: the detectors with findings, except isolated hits.
        tainted: the reasons why it must not be trained on.
        waived: the waived detectors, each with the waiver.
        readable: whether the files of the source can be read.
    """

    audited: str | None
    findings: tuple[str, ...]
    tainted: tuple[Reason, ...]
    waived: tuple[str, ...]
    readable: bool = True

    @property
    def text(self) -> str:
        if not self.readable or (self.audited is None and self.tainted):
            return "cannot be read"
        if self.audited is None:
            return "not audited"
        more = ", tainted" if self.tainted else ", waived" if self.waived else ""
        return f"{len(self.findings) or 'none'}{more}"


def _audit_summary(space: Workspace, name: str, report: SourceReport) -> _AuditSummary:
    if report.error is not None:
        return _AuditSummary(None, (), (), (), readable=False)
    digest = space.sources.digest(name)
    source, taints = space.sources.source(name), space.sources.taints
    try:
        when = taints.audited(digest)
        taints.open(digest)
    except Damaged as error:  # the others are still listed; the gate blocks what uses this source
        return _AuditSummary(None, (), (unreadable(name, digest, error),), ())
    return _AuditSummary(
        None if when is None else datetime.datetime.fromtimestamp(when, datetime.UTC).date().isoformat(),
        tuple(finding.detector for finding in taints.open(digest)),
        taints.of(source, digest),
        tuple(f"{taint.figures['detector']}: {by}" for taint, by in taints.waived(source, digest)),
    )


def _annotations(space: Workspace, name: str) -> dict[str, Any]:
    """Summarize the annotations of the present version: see `assay audit annotate`."""
    from assay.audit.review.annotations import read, summary
    from assay.core.serde import to_mapping

    try:
        digest = space.sources.digest(name)
    except (ConfigError, Damaged, NotFound, Refused):  # the list states why its files cannot be read
        digest = None
    plain: dict[str, Any] = to_mapping(summary(read(Path(space.study.paths.root), name).annotations, digest))
    of = None
    with contextlib.suppress(Damaged):  # reported with the audits
        audit = (
            max(space.sources.taints.audits(digest), key=lambda audit: audit.finished, default=None) if digest else None
        )
        of = audit.documents if audit else None
    return {**plain, "fraction": plain["documents"] / of if of else None}


_DAYS = {"d": 1, "w": 7, "m": 30, "y": 365}


def _oldest_day(text: str) -> datetime.date:
    """Return the date that lies the given age before today."""
    match = re.fullmatch(r"(\d{1,5})([dwmy])", text.strip().lower())
    try:
        age = datetime.timedelta(days=int(match[1]) * _DAYS[match[2]]) if match else None
        if age is not None:
            return datetime.datetime.now(datetime.UTC).date() - age
    except OverflowError:  # before the year 1
        pass
    raise ConfigError(
        f"--stale: {text!r} is invalid; expected a number followed by d, w, m or y.", fix="Write for example 180d."
    )
