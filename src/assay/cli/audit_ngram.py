"""`assay audit ngram`: count the documents of sources that contain a string."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from assay.cli import audit_scan
from assay.cli.arguments import AsJson, SourcesAndOverrides, load_workspace, split_overrides
from assay.cli.console import console, print_json
from assay.cli.progress import progress_bars
from assay.core.errors import ConfigError

if TYPE_CHECKING:
    from assay.audit.explore.ngram_count import NgramCount

CONTEXT_BEFORE, CONTEXT_AFTER = 30, 60
"""Characters of an example before and after the match."""


def ngram(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="String to count.")],
    arguments: SourcesAndOverrides = None,
    *,
    exact: Annotated[
        bool, typer.Option("--exact", help="Match white space literally (default: any white space between words).")
    ] = False,
    files: audit_scan.Files = None,
    text_field: audit_scan.TextField = "text",
    name: audit_scan.FilesName = "files",
    language: audit_scan.Language = "unknown",
    as_json: AsJson = False,
) -> None:
    """Count the documents of each source that contain a string, and print an example."""
    from assay.audit.explore.ngram_count import count

    if not text:
        raise ConfigError(
            "ngram: TEXT is empty; expected a string.", fix='Write the string in quotes: assay audit ngram "1 2 3 4 5".'
        )
    names, overrides = split_overrides(arguments)
    space = load_workspace(overrides)
    sources = audit_scan.select_sources(space, names, files, text_field=text_field, name=name, language=language)
    counts: dict[str, NgramCount] = {}
    with progress_bars(quiet=as_json) as report:
        for key, source in sources.items():
            counts[key] = count(source, text, exact=exact, progress=lambda done, key=key: report(key, done))  # type: ignore[misc]
    if as_json:
        from assay.core.serde import to_mapping

        plain = [
            {"source": key, **to_mapping(counted), "fraction": counted.fraction} for key, counted in counts.items()
        ]
        print_json({"text": text, "sources": plain})
        return
    table = Table("source", box=None, pad_edge=False)
    for heading in ("documents", "of", "fraction", "occurrences"):
        table.add_column(heading, justify="right")
    for key, counted in counts.items():
        cells = (f"{counted.documents:,}", f"{counted.of:,}", f"{counted.fraction:.2%}", f"{counted.occurrences:,}")
        table.add_row(key, *cells)
    console.print(table)
    for counted in counts.values():
        _print_example(counted)


def _print_example(counted: NgramCount) -> None:
    for example in counted.examples[:1]:
        (first, last), *_ = example.matches
        line = Text("  ").append(audit_scan.visible(example.text[max(0, first - CONTEXT_BEFORE) : first]))
        line.append(audit_scan.visible(example.text[first:last]), style="reverse")
        line.append(audit_scan.visible(example.text[last : last + CONTEXT_AFTER]))
        console.print(f"{example.where}", markup=False, soft_wrap=True)
        console.print(line, overflow="ellipsis", no_wrap=True)
