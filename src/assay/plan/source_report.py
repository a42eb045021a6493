"""Report how a source's files become documents: skipped files, absent shards, and few or very long documents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.config.reason import Code, Reason
from assay.core.errors import AssayError, Damaged, NotFound
from assay.core.files import exclusive, read_json, write_json
from assay.core.serde import from_record, to_mapping
from assay.corpus.content_check import check_content
from assay.corpus.document_sizes import DocumentSizes, corpus_sizes, read_sizes
from assay.corpus.source_format import named_format
from assay.corpus.source_notes import listing_notes
from assay.corpus.source_reader import size_of

if TYPE_CHECKING:
    from assay.config.sources import Source
    from assay.plan.source_index import SourceIndex

FEW_DOCUMENTS = 100
"""Fewer documents are usually files with many documents each; also, no validation split of them is representative."""
LONG_MEDIAN = {"bytes": 1_000_000, "tokens": 250_000}
"""Median size in bytes above which a document probably contains several documents. A novel has about 500 kB."""

READ_BYTES = 64_000_000
"""Maximum stored bytes of a source that is read to count its documents. Reading takes about a second."""


@dataclass(frozen=True, kw_only=True)
class SourceReport:
    """How a source's files become documents."""

    sizes: DocumentSizes | None
    """Document sizes; ``None`` for a source above `READ_BYTES` that is neither tokenized nor audited."""
    notes: tuple[Reason, ...]
    """Notes on skipped files, and on documents that are too few or too long."""
    error: AssayError | None
    """The reason why the files cannot be read; ``None`` for files that were archived after tokenization."""


def report_source(index: SourceIndex, name: str, *, tokenized: bool) -> SourceReport:
    """Report on a source.

    Args:
        index: the indexed sources.
        name: name of the source.
        tokenized: whether the study selects a tokenizer, so that a corpus may exist.
    """
    source = index.source(name)
    try:
        digest = index.digest(name)
    except AssayError as error:
        return SourceReport(sizes=None, notes=(), error=error)
    sizes = _tokenized_sizes(index, name) if tokenized else None
    if sizes is None:
        sizes = audited_sizes(index.store.root, name, digest)
    if sizes is None:
        try:
            sizes = _read_sizes(index.store.root / "document_sizes.json", source, digest)
        except NotFound:  # archived after tokenization
            return SourceReport(sizes=None, notes=(), error=None)
        except AssayError as error:
            return SourceReport(sizes=None, notes=(), error=error)
    notes = [*listing_notes(source), *([] if sizes is None else document_notes(source, sizes))]
    return SourceReport(sizes=sizes, notes=tuple(notes), error=None)


def _tokenized_sizes(index: SourceIndex, name: str) -> DocumentSizes | None:
    try:
        return corpus_sizes(index.corpus_folder(name))
    except NotFound:  # not tokenized, or a source of the tokenizer is missing
        return None


def _read_sizes(cache: Path, source: Source, digest: str) -> DocumentSizes | None:
    """Measure the documents of a small source, once per version. For a large source, only check the content."""
    known = _cached(cache)
    if digest in known:
        return from_record(DocumentSizes, known[digest], where=str(cache))
    check_content(source)
    if size_of(source) > READ_BYTES:
        return None
    sizes = read_sizes(source)
    with exclusive(cache.with_suffix(".lock"), wait=True):
        write_json(cache, {**_cached(cache), digest: to_mapping(sizes)})
    return sizes


def _cached(cache: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = read_json(cache)
    except (FileNotFoundError, Damaged):  # the cache is recreated from the files
        return {}
    return known


def audited_sizes(store: Path, name: str, digest: str) -> DocumentSizes | None:
    """Return the document sizes of a source version in bytes; ``None`` if this version was not audited."""
    from assay.audit.explore.records import distributions

    length = distributions(store, name, digest).get("length")
    if length is None or not length.documents:
        return None
    return DocumentSizes(
        documents=length.documents,
        median=round(length.quantile(0.5)),
        longest=round(length.highest[0].value),
        unit="bytes",
    )


def document_notes(source: Source, sizes: DocumentSizes) -> list[Reason]:
    """Return a note if documents are so few or so long that each file probably contains several documents."""
    if sizes.documents >= FEW_DOCUMENTS and sizes.median <= LONG_MEDIAN[sizes.unit]:
        return []
    figures = {
        "few": sizes.documents < FEW_DOCUMENTS,
        "documents": sizes.documents,
        "median": sizes.median,
        "longest": sizes.longest,
        "unit": sizes.unit,
        "divisible": source.separator is None and _has_text(source),
    }
    return [Reason(code=Code.SOURCE_FEW_DOCUMENTS, subject=source.name, figures=figures)]


def _has_text(source: Source) -> bool:
    """Return whether a source has files of plain text, by its declaration and its patterns."""
    return any(named_format(source, pattern).format == "text" for pattern in source.files)
