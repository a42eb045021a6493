"""The documents that source readers yield, and the options that limit reading to a part of a source."""

from __future__ import annotations

import sys
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from assay.core.errors import AssayError, Damaged

ORIGIN = ("url", "original", "snapshot")
"""Fields of a record that describe the origin of its document."""
BLOCK = 256
"""Number of consecutive lines or rows in one part of a file, and number of rows in a Parquet batch."""
MARK = "\ufeff"
"""Byte order mark, which editors and Project Gutenberg write before a text. Documents do not contain the mark."""


@dataclass(frozen=True, kw_only=True)
class SourceDocument:
    """One document of a source."""

    text: str
    id: str
    """The record's `id` if the record has one, otherwise `where`."""
    where: str
    """The file and the line, row or document in the file, counted from 1: `books.jsonl.gz:12`."""
    url: str | None = None
    """URL of the document, if its record has one."""
    original: str | None = None
    """Path of the original (raw) document below the source's `originals`, if its record has one."""
    snapshot: str | None = None
    """The crawl or release that contains the document, if its record names one."""

    @property
    def host(self) -> str | None:
        """The host of the URL; None for invalid URLs such as `http://[`, which crawls contain."""
        try:
            return urllib.parse.urlsplit(self.url).hostname if self.url else None
        except ValueError:
            return None


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Options for reading a source in parts and without stopping at unreadable documents."""

    part: int = 0
    parts: int = 1
    """Number of parts of each file, of which only `part` is read. Blocks of lines alternate. Undivided text is in part
    0."""
    unread: Callable[[AssayError], None] | None = None
    """Function that receives the error of each unreadable document, which is skipped. None raises the error."""

    @classmethod
    def around(cls, line: int, *, unread: Callable[[AssayError], None] | None = None) -> ReadOptions:
        """Create options for the block with a line or row, counted from 1."""
        return cls(part=max(0, line - 1) // BLOCK, parts=sys.maxsize, unread=unread)

    def takes(self, index: int) -> bool:
        """Return whether the part contains a line or row, counted from 0."""
        return self.parts == 1 or (index // BLOCK) % self.parts == self.part

    def missed(self, error: AssayError) -> None:
        """Report the error of an unreadable document, or raise it."""
        if self.unread is None:
            raise error
        self.unread(error)


def make_document(
    text: str, where: str, *, identifier: str | None = None, origin: Mapping[str, Any] | None = None
) -> SourceDocument:
    """Make a document of a text, without the byte order mark at its beginning.

    Args:
        text: the text.
        where: the file, and the place in it.
        identifier: the record's own id, if it has one.
        origin: the values of the record's `ORIGIN` fields that it has.

    Raises:
        Damaged: the text has half of a surrogate pair.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Damaged(
            f"{where}: character {error.start} is half of a surrogate pair, which is not valid text.",
            fix="Correct or remove the record. The program that wrote the record split a character.",
        ) from None
    fields = {name: str(value) for name, value in (origin or {}).items() if value is not None}
    return SourceDocument(text=text.lstrip(MARK), id=where if identifier is None else identifier, where=where, **fields)


def not_utf8(where: str, error: UnicodeDecodeError) -> Damaged:
    """Return the error of bytes that are not UTF-8."""
    return Damaged(
        f"{where}: the text is not UTF-8 (byte {error.object[error.start]:#04x} at {error.start}).",
        fix="Convert the file to UTF-8, for example with iconv.",
    )
