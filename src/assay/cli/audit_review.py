"""`assay audit sample` and `assay audit annotate`: documents for people to read, and their labels."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from assay.cli.arguments import AsJson, Overrides, load_workspace
from assay.cli.console import console, print_json
from assay.cli.progress import progress_bars, spinner
from assay.core.errors import ConfigError
from assay.core.files import write_text
from assay.report.formatting import count, fraction

if TYPE_CHECKING:
    from assay.audit.review.sample import By, ReviewSample, SampledDocument
    from assay.audit.review.side_by_side import Masking
    from assay.plan.workspace import Workspace
    from assay.report.site.audit_state import AuditState

SHOWN = 240
"""Characters of a document in the terminal."""


def sample(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE[,SOURCE]...",
            help="Source to sample, several sources separated by commas, or `all`. Each source gets an equal part of the sample.",
        ),
    ],
    overrides: Overrides = None,
    *,
    n: Annotated[int, typer.Option("--n", min=1, max=100, help="Number of documents.")] = 20,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            help="Property whose values the sample covers evenly: length, compression, quality, host, snapshot, file, random, topic or bits.",
        ),
    ] = "length",
    seed: Annotated[int, typer.Option("--seed", help="Seed of the random sample.")] = 0,
    html: Annotated[
        Path | None, typer.Option("--html", help="HTML file to write (default: none). Requires a single source.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print sample documents of a source, spread evenly over lengths, hosts, topics or another property.

    `--by topic` requires `assay audit topics`, and `--by bits` (bits per byte under a proxy) requires
    `assay audit scan --proxy RUN`.
    """
    from assay.audit.review.sample import BYS

    kind = next((criterion for criterion in BYS if criterion == by), None)
    if kind is None:
        raise ConfigError(f"--by: {by!r} is invalid.", fix=f"Use {', '.join(BYS)}.")
    space = load_workspace(overrides)
    names = sorted(space.study.sources) if source == "all" else list(dict.fromkeys(source.split(",")))
    if len(names) > n:
        raise ConfigError(
            f"--n: {n} is invalid; expected at least one document per source.", fix=f"Use --n {len(names)} or more."
        )
    if html is not None and len(names) > 1:
        raise ConfigError(
            f"--html: {len(names)} sources were given; the page shows a single source.", fix="Name one source."
        )
    samples = []
    with progress_bars(quiet=as_json) as report:
        for place, name in enumerate(names):
            number = n // len(names) + (place < n % len(names))
            samples.append(_draw(space, name, number, kind, seed, lambda done, name=name: report(name, done)))  # type: ignore[misc]
    if html is not None:
        from assay.report.site.sample_page import render

        write_text(html, render(*samples[0]))
    if as_json:
        plain = [_plain(*entry) for entry in samples]
        print_json(plain[0] if len(plain) == 1 else {"samples": plain})
        return
    for standing, drawn, mask in samples:
        if len(samples) > 1:
            console.rule(Text(standing.source.name), align="left")
        _print(drawn, mask)
    if html is not None:
        console.print(str(html), markup=False, soft_wrap=True)


def _draw(  # noqa: PLR0917  # each of them determines the draw
    space: Workspace, name: str, number: int, by: By, seed: int, progress: Callable[[float], None]
) -> tuple[AuditState, ReviewSample, Masking]:
    from assay.audit.detectors.declaration import project_detectors
    from assay.audit.review.sample import sample as draw
    from assay.audit.review.side_by_side import masking
    from assay.audit.review.strata_labels import read_strata
    from assay.corpus.source_reader import size_of
    from assay.report.site.audit_pages import read_audit_state

    source = space.sources.source(name)
    state = read_audit_state(space, name, Path(space.study.paths.root))
    size, read = max(1, size_of(source)), 0

    def report_bytes(more: int) -> None:
        nonlocal read
        read += more
        progress(min(1.0, read / size))

    labels = read_strata(space.store.root, name, state.digest, by)
    drawn = draw(source, count=number, by=by, seed=seed, strata=labels, progress=report_bytes)
    progress(1.0)
    return state, drawn, masking(source, project_detectors())


def annotate(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Source of the document.")],
    document: Annotated[
        str, typer.Argument(metavar="DOCUMENT", help="Id of the document, as printed with a sample or finding.")
    ],
    overrides: Overrides = None,
    *,
    label: Annotated[str, typer.Option("--label", help="Label: good, bad or unsure.")],
    by: Annotated[str, typer.Option("--by", envvar="ASSAY_ANNOTATOR", help="Name of the annotator.")],
    note: Annotated[str, typer.Option("--note", help="Reason for the label.")] = "",
    where: Annotated[
        str | None, typer.Option("--where", help="FILE:LINE of the document (default: search all files).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Label a document as good, bad or unsure. The label is a line of the project's file audits/SOURCE.jsonl, which git can merge."""
    from assay.audit.review.annotations import VERDICTS, Annotation, append, read, summary
    from assay.audit.review.side_by_side import find
    from assay.core.serde import to_mapping

    verdict = next((name for name in VERDICTS if name == label), None)
    if verdict is None:
        raise ConfigError(f"--label: {label!r} is invalid.", fix=f"Use {', '.join(VERDICTS)}.")
    space = load_workspace(overrides)
    project = Path(space.study.paths.root)
    with spinner("finding the document", quiet=as_json):
        match = find(space.sources.source(source), document, where)
    annotation = Annotation(
        source=source,
        digest=space.sources.digest(source),
        document=match.id,
        text=hashlib.sha256(match.text.encode()).hexdigest(),
        verdict=verdict,
        note=note,
        by=by,
        when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    path = append(project, annotation)
    totals = summary(read(project, source).annotations, annotation.digest)
    if as_json:
        print_json({"annotation": to_mapping(annotation), "file": path, "annotated": to_mapping(totals)})
        return
    console.print(
        f"{path}: {count(totals.documents, 'document')} of this version annotated, {totals.bad} of them bad",
        markup=False,
        soft_wrap=True,
    )


def _plain(standing: AuditState, drawn: ReviewSample, mask: Masking) -> dict[str, object]:
    from assay.core.serde import to_mapping

    plain = to_mapping(drawn)
    plain["picked"] = [{**entry, "text": mask(entry["text"])} for entry in plain["picked"]]
    return {**plain, "digest": standing.digest, "annotated": to_mapping(standing.annotations)}


def _print(drawn: ReviewSample, mask: Masking) -> None:
    from assay.audit.review.safe_text import plain

    parts = count(len(drawn.strata), "part")
    console.print(f"{len(drawn.picked)} of {count(drawn.documents, 'document')}, evenly over {parts}\n")
    for document in drawn.picked:
        console.print(
            Text(document.document, style="bold").append(f"  {_facts(document)}", style="dim not bold"), soft_wrap=True
        )
        console.print(Text(document.where, style="dim"), soft_wrap=True)
        start = " ".join(plain(mask(document.text[: 4 * SHOWN]), most=4 * SHOWN).split())
        console.print(Text(start[:SHOWN] + ("…" if len(start) > SHOWN else "")), soft_wrap=False)
        console.print()
    console.print(
        Text(
            f"assay audit annotate {drawn.source} DOCUMENT --where FILE:LINE --label good|bad|unsure --note REASON --by NAME",
            style="dim",
        )
    )


def _facts(document: SampledDocument) -> str:
    facts = [
        document.stratum,
        f"{document.characters:,} characters",
        f"compressed to {fraction(document.compression)}",
        document.url or "",
    ]
    return ", ".join(fact for fact in facts if fact)
