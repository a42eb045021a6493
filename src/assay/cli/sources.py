"""`assay sources`: what there is to train on, whether it may be used, and what audits found in it."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.table import Table
from rich.text import Text

from assay.cli.common import AsJson, Overrides, console, print_json, workspace
from assay.errors import AssayError
from assay.publish.words import amount, count

if TYPE_CHECKING:
    from assay.sources import Source
    from assay.workspace import Workspace

NARROW = 110
"""Columns below which the table leaves something out; `--json` has it all."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(sources)


def sources(
    overrides: Overrides = None,
    *,
    stale: Annotated[
        str | None,
        typer.Option("--stale", help="Only sources whose snapshot is older than this, or unknown: 180d, 26w, 6m, 1y."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the sources: domain, licence, clearance, snapshot, tokens, and what audits found in them."""
    oldest = None if stale is None else _since(stale)
    space = workspace(overrides)
    from assay.structure import to_mapping

    found = sorted(space.study.sources.values(), key=lambda source: (source.domain, source.name))
    if oldest is not None:
        found = [source for source in found if source.snapshot is None or source.snapshot < oldest]
    known = space.study.sweep or space.study.tokenizer.sources
    tokens = space.tokens_of(space.study.sources) if known else {}
    audits = {source.name: _audit(space, source.name) for source in found}
    if as_json:
        print_json(
            [
                {
                    **to_mapping(s),
                    "tokens": tokens.get(s.name),
                    "refusal": s.refusal,
                    **audits[s.name]._asdict(),
                    "judged": _judged(space, s.name),
                }
                for s in found
            ]
        )
        return
    console.print(_table(found, tokens, audits, narrow=console.width < NARROW))
    if oldest is not None:
        console.print(
            f"{count(len(found), 'source')} of {len(space.study.sources)} without a snapshot since {oldest.isoformat()}."
        )
    if not tokens:
        console.print("Tokens are known once `assay prepare sweep=NAME` has tokenised the sources.")


def _table(
    sources: Sequence[Source], tokens: Mapping[str, int], audits: Mapping[str, _Audited], *, narrow: bool
) -> Table:
    """The sources; on a narrow terminal without what is least looked for."""
    table = Table(box=None, pad_edge=False)
    table.add_column("source", overflow="fold")
    if not narrow:
        table.add_column("domain", no_wrap=True)
    table.add_column("licence")
    table.add_column("clearance", no_wrap=True)
    table.add_column("snapshot", no_wrap=True)
    table.add_column("tokens", justify="right", no_wrap=True)
    if not narrow:
        table.add_column("audited", no_wrap=True)
    table.add_column("findings", no_wrap=True)
    for s in sources:
        state, audit = s.effective_clearance, audits[s.name]
        cells = [
            Text(s.name),
            *([] if narrow else [Text(s.domain)]),
            Text(s.licence or "-"),
            Text(state, style={"cleared": "green", "pending": "yellow", "blocked": "red"}[state]),
            Text(s.snapshot.isoformat() if s.snapshot else "-"),
            Text(amount(tokens.get(s.name))),
            *([] if narrow else [Text(audit.audited or "never")]),
            Text(audit.summary, style="red" if audit.tainted else ""),
        ]
        table.add_row(*cells)
    return table


class _Audited(NamedTuple):
    """What audits say of the version of a source that is there now.

    Attributes:
        audited: the day of the last one, if any.
        findings: the detectors that found something, isolated hits aside.
        tainted: why it may not be trained on, if so.
        waived: who waived what.
    """

    audited: str | None
    findings: tuple[str, ...]
    tainted: tuple[str, ...]
    waived: tuple[str, ...]

    @property
    def summary(self) -> str:
        if self.audited is None:
            return "cannot be read" if self.tainted else "not audited"
        more = ", tainted" if self.tainted else ", waived" if self.waived else ""
        return f"{len(self.findings) or 'none'}{more}"


def _audit(space: Workspace, name: str) -> _Audited:
    from assay.audit.taint import Unreadable

    try:
        digest = space.digest(name)
    except AssayError:  # its files are not here
        return _Audited(None, (), (), ())
    source, taints = space.source(name), space.taints
    try:
        when = taints.audited(digest)
        taints.open(digest)
    except AssayError as error:  # the other sources are listed all the same; the gate blocks what uses this one
        return _Audited(None, (), (Unreadable(source=name, digest=digest, problem=error.what).sentence,), ())
    return _Audited(
        None if when is None else datetime.datetime.fromtimestamp(when, datetime.UTC).date().isoformat(),
        tuple(finding.detector for finding in taints.open(digest)),
        tuple(one.sentence for one in taints.of(source, digest)),
        tuple(f"{one.detector}: {by}" for one, by in taints.waived(source, digest)),
    )


def _judged(space: Workspace, name: str) -> dict[str, Any]:
    """What people think of the version that is there now, as far as they looked: see `assay judge`."""
    from assay.audit.judged import read, summary
    from assay.structure import to_mapping

    try:
        digest = space.digest(name)
    except AssayError:  # its files are not here
        digest = None
    found: dict[str, Any] = to_mapping(summary(read(Path(space.study.paths.root), name).judgements, digest))
    of = None
    with contextlib.suppress(AssayError):  # said where audits are
        audit = max(space.taints.audits(digest), key=lambda one: one.finished, default=None) if digest else None
        of = audit.documents if audit else None
    return {**found, "share": found["documents"] / of if of else None}


_DAYS = {"d": 1, "w": 7, "m": 30, "y": 365}


def _since(text: str) -> datetime.date:
    """The day that is so long ago."""
    found = re.fullmatch(r"(\d{1,5})([dwmy])", text.strip().lower())
    try:
        age = datetime.timedelta(days=int(found[1]) * _DAYS[found[2]]) if found else None
        if age is not None:
            return datetime.datetime.now(datetime.UTC).date() - age
    except OverflowError:  # before the year 1
        pass
    raise AssayError(f"--stale {text!r} is no age.", fix="Write a number and d, w, m or y: 180d.")
