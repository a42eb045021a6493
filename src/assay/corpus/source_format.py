"""Determine the format of a source's file from declaration and name, and check its first bytes."""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath
from typing import NamedTuple

from assay.config.sources import Source
from assay.core.errors import ConfigError
from assay.corpus.content_format import EMPTY, FORMAT_NAMES, TEXT, ContentFormat, Readable
from assay.corpus.path_pattern import COMPRESSIONS
from assay.corpus.source_files import SourceFile
from assay.corpus.source_stream import OpenSource, open_source

_SUFFIXES: dict[str, Readable] = {
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "jsonl"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".arrow", ".feather", ".ipc"), "arrow"),
    **dict.fromkeys((".txt", ".text", ".md", ".rst"), "text"),
}


class FormatError(ConfigError):
    """Error for a file whose format differs from the declaration, or that assay cannot read."""


class NamedFormat(NamedTuple):
    """The format that the declaration and the name of a file determine, without its content.

    Attributes:
        format: the declared format, or the format of the suffix; ``None`` if neither determines a format.
        compression: the suffix of the compression, or empty.
    """

    format: Readable | None
    compression: str


def named_format(source: Source, url: str) -> NamedFormat:
    """Return the format of a file by the source's declaration, or by the suffix."""
    name = PurePosixPath(url.lower())
    compression = name.suffix if name.suffix in COMPRESSIONS else ""
    if source.format != "auto":
        return NamedFormat(source.format, compression)
    suffix = PurePosixPath(name.stem if compression else name.name).suffix
    return NamedFormat(_SUFFIXES.get(suffix), compression)


def identified_format(source: Source, file: SourceFile) -> tuple[Readable, str]:
    """Return format and compression of a file for a digest. Open the file only if its name is not sufficient.

    Raises:
        FormatError: neither name nor content determines the format.
    """
    named = named_format(source, file.url)
    if named.format is not None:
        return named.format, named.compression
    with open_source(file, lambda _: None, text_field=source.text_field) as opened:
        return decide_format(source, opened), opened.compression


def decide_format(source: Source, opened: OpenSource) -> Readable:
    """Return the format under which to read a file.

    Content in Parquet or Arrow format determines the format. In all other cases, declaration and name determine it, and
    content in another format is an error. Otherwise a table or an archive would become one document of text.

    Raises:
        FormatError: the content contradicts the declaration or the name, or assay does not read its format.
    """
    content, url = opened.content, opened.file.url
    expected = named_format(source, url).format
    if expected is None:
        expected = _undeclared(source, opened)
    elif source.format == "auto" and content.readable in ("parquet", "arrow") and not opened.compression:
        expected = content.readable
    elif content is not EMPTY and content.readable != expected and not _permits(source, expected, content):
        raise FormatError(
            f"source {source.name!r}: {url}: the content is {content.name}, not {FORMAT_NAMES[expected]}.",
            fix=_advice(content, url),
        )
    if opened.compression and expected in ("parquet", "arrow"):
        raise FormatError(f"source {source.name!r}: {url}: {expected} is compressed.", fix="Decompress the file first.")
    if source.separator is not None and expected != "text":
        raise FormatError(
            f"source {source.name!r}: {url}: `separator` divides plain text, but the file is {FORMAT_NAMES[expected]}.",
            fix="Remove `separator`.",
        )
    return expected


def _permits(source: Source, expected: Readable, content: ContentFormat) -> bool:
    """Return whether content may be read as another format than its own."""
    allowed = ("always", "declared") if source.format == "text" else ("always",)
    return expected == "text" and content.as_text in allowed


def _undeclared(source: Source, opened: OpenSource) -> Readable:
    content, url = opened.content, opened.file.url
    if content.readable in ("jsonl", "parquet", "arrow") and content.as_text == "never":
        return content.readable
    if content is TEXT or content is EMPTY:
        fix = "Set the source's `format` to jsonl, parquet, arrow or text."
        if content is TEXT:
            fix = (
                "Set the source's `format` to text to read each file as one document; add `separator` to divide files."
            )
        raise FormatError(
            f"source {source.name!r}: {url}: the file name does not determine the format, and the content is {content.name}.",
            fix=fix,
        )
    raise FormatError(
        f"source {source.name!r}: {url}: the content is {content.name}, which assay does not read.",
        fix=_advice(content, url),
    )


def _advice(content: ContentFormat, url: str) -> str:
    if content is TEXT:
        return (
            "Write one JSON object per line, or set `format` to text, with `separator` if a file has several documents."
        )
    return content.advice.replace("FILE", shlex.quote(PurePosixPath(url).name))
