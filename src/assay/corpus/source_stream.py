"""Open a file of a source: its first bytes, its compression, and its content."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from assay.core.errors import Damaged
from assay.corpus.content_format import HEAD, Compression, ContentFormat, detect_compression, detect_format
from assay.corpus.source_files import SourceFile

BROKEN = (EOFError, OSError, zlib.error, lzma.LZMAError)
"""Errors of a truncated or damaged file."""
_BUFFER = 1 << 16


@dataclass(frozen=True, kw_only=True)
class OpenSource:
    """A file that is open for reading."""

    file: SourceFile
    content: ContentFormat
    """The format that the first bytes identify."""
    compression: Compression
    """The compression that the first bytes identify."""
    stream: BinaryIO
    """The decompressed content, from its beginning; reading it reports progress."""
    handle: Any
    """The stored bytes, for readers that seek; reading them reports no progress."""


class _Counted(io.RawIOBase):
    """A file that reports how many of its bytes were read, after bytes that were read before."""

    def __init__(self, handle: BinaryIO, head: bytes, progress: Callable[[int], None]) -> None:
        self._handle, self._head, self._progress = handle, head, progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = len(buffer)
        chunk, self._head = self._head[:size], self._head[size:]
        if not chunk:
            try:
                chunk = self._handle.read(size)
            except OSError:
                raise
            except Exception as error:  # each file system has its own errors
                raise OSError(f"{type(error).__name__}: {error}") from error
        buffer[: len(chunk)] = chunk
        self._progress(len(chunk))
        return len(chunk)


@contextlib.contextmanager
def open_source(file: SourceFile, progress: Callable[[int], None], *, text_field: str) -> Iterator[OpenSource]:
    """Open a file, and recognize its compression and format.

    Raises:
        Damaged: the first bytes cannot be read.
    """
    with contextlib.ExitStack() as stack:
        try:
            handle = stack.enter_context(file.system.open(file.path, "rb"))
            head = handle.read(HEAD)
            compression = detect_compression(head)
            stream = _decompressed(io.BufferedReader(_Counted(handle, head, progress), _BUFFER), compression)
            first = stream.peek(HEAD)[:HEAD] if compression else head  # peeking keeps the stream at its first byte
            content = detect_format(first, path=file.path, text_field=text_field)
        except BROKEN as error:
            raise unreadable(file, error, 1) from error
        except Exception as error:  # each file system has its own errors
            raise unreadable(file, error) from error
        yield OpenSource(file=file, content=content, compression=compression, stream=stream, handle=handle)


def _decompressed(raw: io.BufferedReader, compression: Compression) -> Any:
    match compression:
        case ".gz":
            return gzip.GzipFile(fileobj=raw)
        case ".bz2":
            return bz2.BZ2File(raw)
        case ".xz":
            return lzma.LZMAFile(raw)
        case ".zst":
            import pyarrow as pa

            # Arrow's reader, because zstandard's accepts a truncated file as complete.
            return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd"))
        case "":
            return raw


def unreadable(file: SourceFile, error: Exception, place: int | None = None) -> Damaged:
    """Return the error for a file that is unreadable from a line or row on, counted from 1."""
    where = file.url if place is None else f"{file.url}:{place}"
    fix = (
        "Grant read permission on the file."
        if isinstance(error, PermissionError)
        else "Download the damaged file again."
    )
    return Damaged(f"{where}: cannot be read any further: {error}.", fix=fix)
