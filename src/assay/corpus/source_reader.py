"""Read sources document by document: JSON lines, Parquet, Arrow or plain text, on any file system that fsspec supports.

Memory holds one document, or one batch of a table, for sources of any size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from assay.config.sources import Source
from assay.core.errors import ConfigError, Damaged
from assay.corpus.json_lines import read_json_lines
from assay.corpus.plain_text import read_text
from assay.corpus.record_table import read_arrow, read_parquet
from assay.corpus.source_digest import file_digests, fresh_digest, source_digest, unchanged
from assay.corpus.source_document import ReadOptions, SourceDocument
from assay.corpus.source_files import SourceFile, list_files
from assay.corpus.source_format import FormatError, decide_format
from assay.corpus.source_stream import open_source

__all__ = [
    "ReadOptions",
    "SourceDocument",
    "check_formats",
    "documents",
    "empty_file",
    "expand",
    "file_digests",
    "fresh_digest",
    "list_files",
    "size_of",
    "source_digest",
    "unchanged",
]

_ALL = ReadOptions()


def expand(source: Source) -> list[str]:
    """List the URLs of a source's files, sorted. Local files have plain paths.

    Raises:
        AssayError: a pattern matches no file, or the file system cannot be reached.
    """
    return [file.url for file in list_files(source).files]


def size_of(source: Source) -> int:
    """Return the stored bytes of a source's files."""
    return sum(int(file.system.size(file.path) or 0) for file in list_files(source).files)


def check_formats(source: Source) -> None:
    """Open each file of a source, and check that its first bytes agree with its format.

    Raises:
        AssayError: a pattern matches no file, assay does not read the format of a file, or the content contradicts the
            declaration. Reading reports damaged files.
    """
    for file in list_files(source).files:
        with contextlib.suppress(Damaged), open_source(file, lambda _: None, text_field=source.text_field) as opened:
            decide_format(source, opened)


def documents(
    source: Source, *, progress: Callable[[int], None] | None = None, look: ReadOptions = _ALL
) -> Iterator[SourceDocument]:
    """Yield the documents of a source, in order of the files' URLs.

    Args:
        source: the source.
        progress: called with the number of stored bytes that were read since the last call.
        look: the part of each file to read, and the treatment of unreadable documents.

    Raises:
        AssayError: a pattern matches no file; a file is empty, truncated or damaged, or has another format than
            declared; a line is not JSON, has no text, or is not UTF-8. The message names the file and the line.
    """
    for file in list_files(source).files:
        has_documents = look.part > 0  # a later part of a short file may be empty
        try:
            for document in _read(file, source, progress or (lambda _: None), look):
                has_documents = True
                yield document
        except FormatError:  # a fault of the declaration; no part of the source is read under the wrong format
            raise
        except (ConfigError, Damaged) as error:
            look.missed(error)
            has_documents = True
        if not has_documents:
            look.missed(empty_file(file.url, source))


def empty_file(url: str, source: Source) -> Damaged:
    """Return the error of a file without a document."""
    return Damaged(
        f"{url}: the file of source {source.name!r} is empty; expected at least one document.",
        fix="Delete the file, or download it again.",
    )


def _read(
    file: SourceFile, source: Source, progress: Callable[[int], None], options: ReadOptions
) -> Iterator[SourceDocument]:
    with open_source(file, progress, text_field=source.text_field) as opened:
        match decide_format(source, opened):
            case "jsonl":
                yield from read_json_lines(opened, source, options)
            case "text":
                yield from read_text(opened, source, options)
            case "parquet":
                yield from read_parquet(opened, source, options, progress)
            case "arrow":
                yield from read_arrow(opened, source, options, progress)
