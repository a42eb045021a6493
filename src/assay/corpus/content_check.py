"""Check the content of a source before a job reads it: formats, files without a document, and sources without text."""

from __future__ import annotations

import contextlib

from assay.config.sources import Source
from assay.core.errors import ConfigError, Damaged, Refused
from assay.corpus.json_lines import read_json_lines
from assay.corpus.plain_text import has_text, read_text
from assay.corpus.record_table import count_parquet_rows, read_arrow
from assay.corpus.source_document import ReadOptions
from assay.corpus.source_files import SourceFile, list_files
from assay.corpus.source_format import decide_format
from assay.corpus.source_reader import documents, empty_file, size_of
from assay.corpus.source_stream import open_source

SMALL = 64_000_000
"""Maximum stored bytes of a source that is read up to its first text. A larger source is assumed to have text."""
_ALL = ReadOptions()


def check_content(source: Source) -> None:
    """Check the formats of a source's files, and that the source has documents, without reading long files.

    Raises:
        AssayError: a pattern matches no file, assay does not read the format of a file, or the content contradicts the
            declaration; a file has no document; or all documents of a source of at most `SMALL` bytes are empty.
            Reading reports damaged files, and the build of a corpus reports a source with only one document.
    """
    for file in list_files(source).files:
        has_document = True
        with contextlib.suppress(Damaged):
            has_document = _has_document(file, source)
        if not has_document:
            raise empty_file(file.url, source)
    if size_of(source) <= SMALL:
        with contextlib.suppress(Damaged):
            check_counts(source, train=int(any(document.text for document in documents(source))), validation=0)


def check_counts(source: Source, *, train: int, validation: int) -> None:
    """Refuse a source without a document for training.

    Args:
        source: the source, for messages.
        train: number of documents with text for training.
        validation: number of documents with text that are held out.
    """
    if not train + validation:
        raise ConfigError(
            f"source {source.name!r}: all documents are empty; expected text.",
            fix="Correct `text_field` of the source.",
        )
    if not train:
        raise Refused(
            f"source {source.name!r}: one document is held out for validation, so no document is left for training.",
            fix="Split the source into at least two different documents, for example by chapter.",
        )


def _has_document(file: SourceFile, source: Source) -> bool:
    with open_source(file, lambda _: None, text_field=source.text_field) as opened:
        match decide_format(source, opened):
            case "text" if source.separator is None:  # the file is one document, which may be long
                return has_text(opened)
            case "text":
                found = read_text(opened, source, _ALL)
            case "jsonl":
                found = read_json_lines(opened, source, _ALL)
            case "parquet":
                return count_parquet_rows(opened, source) > 0
            case "arrow":
                found = read_arrow(opened, source, _ALL, lambda _: None)
        return next(found, None) is not None
