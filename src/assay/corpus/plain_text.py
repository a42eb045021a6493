"""Read plain text: one document per file, or documents between separators."""

from __future__ import annotations

import re
from collections.abc import Iterator

from assay.config.sources import Source
from assay.core.errors import AssayError
from assay.corpus.source_document import MARK, ReadOptions, SourceDocument, make_document, not_utf8
from assay.corpus.source_stream import BROKEN, OpenSource, unreadable

_CHUNK = 1 << 20


def read_text(opened: OpenSource, source: Source, options: ReadOptions) -> Iterator[SourceDocument]:
    """Yield the documents of a file of plain text, without byte order marks.

    If the source has a `separator`, each text between two separators is a document, unless the text is only white
    space.

    Raises:
        Damaged: the file is truncated; or, without `options.unread`, a document is not UTF-8.
    """
    if source.separator is None:
        yield from _whole(opened, options)
        return
    number = 0
    try:
        for piece in _pieces(opened, source.separator):
            number += 1
            if not options.takes(number - 1):
                continue
            where = f"{opened.file.url}:{number}"
            try:
                yield make_document(piece.decode(), where)
            except UnicodeDecodeError as error:
                options.missed(not_utf8(where, error))
            except AssayError as error:
                options.missed(error)
    except BROKEN as error:
        raise unreadable(opened.file, error, number + 1) from error


def has_text(opened: OpenSource) -> bool:
    """Return whether an undivided file has text, from its first bytes.

    Raises:
        Damaged: the file is truncated.
    """
    try:
        return bool(opened.stream.read(_CHUNK).replace(MARK.encode(), b""))
    except BROKEN as error:
        raise unreadable(opened.file, error) from error


def _whole(opened: OpenSource, options: ReadOptions) -> Iterator[SourceDocument]:
    if options.part > 0:
        return
    try:
        content = opened.stream.read()
    except BROKEN as error:
        raise unreadable(opened.file, error) from error
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise not_utf8(f"{opened.file.url}:{line}", error) from None
    if text.lstrip(MARK):
        yield make_document(text, opened.file.url)


def _pieces(opened: OpenSource, separator: str) -> Iterator[bytes]:
    """Yield the text between separators that is not only white space; memory holds one piece and a chunk."""
    first, others = separator[:1].encode(), separator[1:].encode()
    # A file with Windows line ends has the same separators. The pattern begins with a fixed byte, because `re` finds an
    # optional return only at 4 MB/s; the return before the separator is removed from the piece.
    pattern = re.compile(re.escape(first) + re.escape(others).replace(b"\\\n", b"\r?\n"))
    ending = b"\r" if first == b"\n" else b""
    longest = len(first + others) + separator.count("\n")
    rest, searched = bytearray(), 0
    while chunk := opened.stream.read(_CHUNK):
        rest += chunk
        begin = 0
        for match in pattern.finditer(rest, max(0, searched - longest)):
            if _has_text(piece := bytes(rest[begin : match.start()]).removesuffix(ending)):
                yield piece
            begin = match.end()
        del rest[:begin]
        searched = len(rest)
    if _has_text(piece := bytes(rest)):
        yield piece


def _has_text(piece: bytes) -> bool:
    return bool(piece.removeprefix(MARK.encode()).strip())
