"""Reading sources: files of JSON lines, Parquet or plain text, anywhere that fsspec reaches, a document at a time.

Memory holds one document, or one batch of a Parquet file, whatever the size of the source.
"""

from __future__ import annotations

import bz2
import contextlib
import glob
import gzip
import hashlib
import io
import json
import lzma
import sys
import time
import urllib.parse
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, cast

from assay.errors import AssayError, did_you_mean
from assay.files import exclusive, read_json, write_json
from assay.fingerprint import fingerprint
from assay.sources import Source

Format = Literal["jsonl", "parquet", "text"]

_FORMATS: dict[str, Format] = {
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "jsonl"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".txt", ".text", ".md", ".rst"), "text"),
}
_COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
_BROKEN = (EOFError, OSError, zlib.error, lzma.LZMAError)
_PARQUET_BATCH = 256
_CHUNK = 1 << 20
_STAMPS = ("mtime", "ino", "ETag", "etag", "LastModified", "last_modified", "generation", "updated", "blob_id", "oid")
_SETTLED = 2.0
"""Seconds after which a file with an old time of change is taken to stay as it is: clocks of file systems are coarse."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """One document of a source."""

    text: str
    id: str
    """The record's own `id` where it has one, otherwise `where`."""
    where: str
    """The file, and the line or row in it, counted from 1: `books.jsonl.gz:12`."""
    url: str | None = None
    """Where the document was taken from, and the next two, as far as its record says so."""
    original: str | None = None
    """The original (raw) document, below the source's `originals`."""
    snapshot: str | None = None

    @property
    def host(self) -> str | None:
        """The host of its URL, where that is one: `http://[` is a URL in a crawl."""
        try:
            return urllib.parse.urlsplit(self.url).hostname if self.url else None
        except ValueError:
            return None


_ORIGIN = ("url", "original", "snapshot")
"""Fields of a record that say where its document is from."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a source is read by those who look at it for defects: in parts, and past what cannot be read."""

    part: int = 0
    parts: int = 1
    """Of every file only this part of so many; lines are dealt out by the block, and single texts go to part 0."""
    unread: Callable[[AssayError], None] | None = None
    """Told what cannot be read, which is then passed over; ``None`` to stop there."""

    @classmethod
    def around(cls, line: int, *, unread: Callable[[AssayError], None] | None = None) -> Look:
        """Only the block of lines or rows that one of them is in, counted from 1, as in `Document.where`."""
        return cls(part=max(0, line - 1) // _PARQUET_BATCH, parts=sys.maxsize, unread=unread)

    def takes(self, index: int) -> bool:
        """Whether a line or row, counted from 0, is in the part."""
        return self.parts == 1 or (index // _PARQUET_BATCH) % self.parts == self.part

    def missed(self, error: AssayError) -> None:
        """Pass over what cannot be read, or stop there."""
        if self.unread is None:
            raise error
        self.unread(error)


_ALL = Look()


@dataclass(frozen=True, kw_only=True)
class _File:
    """One file of a source, before it is opened."""

    url: str
    system: Any
    """fsspec's file system."""
    path: str
    """What the file system calls it."""
    format: Format
    compression: str
    """`.gz` and the like, or nothing."""


def expand(source: Source) -> list[str]:
    """The URLs of a source's files, sorted; plain paths where they are on this machine.

    Raises:
        AssayError: a pattern matches no file, or its place cannot be reached.
    """
    return [file.url for file in _files(source)]


def size_of(source: Source) -> int:
    """Bytes of a source's files as they are stored."""
    return sum(int(file.system.size(file.path) or 0) for file in _files(source))


def documents(
    source: Source, *, progress: Callable[[int], None] | None = None, look: Look = _ALL
) -> Iterator[Document]:
    """A source's documents, file after file in order of URL.

    Args:
        source: where they are, and in which format.
        progress: told the bytes that were read, as they are stored, since it was last told.
        look: which part of each file, and whether to go on past what cannot be read.

    Raises:
        AssayError: a pattern matches nothing; a file is empty, cut or damaged; a line is not JSON, has no text, or
            is not UTF-8. The file and the line are named.
    """
    for file in _files(source):
        found = look.part > 0  # a later part of a short file has nothing by right
        try:
            for document in _READERS[file.format](file, source, progress or (lambda _: None), look):
                found = True
                yield document
        except AssayError as error:
            look.missed(error)
            found = True
        if not found:
            look.missed(
                AssayError(
                    f"{file.url}: the file of source {source.name!r} is empty: it holds no document.",
                    fix="Delete it, or fetch it again.",
                )
            )


def source_digest(source: Source, *, cache: Path) -> str:
    """SHA-256 of what a source's documents are made from: its files' bytes, formats and text field; never their paths.

    Files count in order of URL, which is the order of the documents: moving all of them elsewhere changes nothing.

    Args:
        source: whose files.
        cache: folder for `digests.json`, in which a file's digest is found again while its size and time of change
            (or ETag) stay the same.

    Raises:
        AssayError: a pattern matches no file, or a file cannot be read.
    """
    files = _files(source)
    return _digest(source, files, _digests(files, cache))


def file_digests(source: Source, *, cache: Path) -> dict[str, str]:
    """SHA-256 of each of a source's files by URL, found in the same cache as `source_digest` finds them."""
    return _digests(_files(source), cache)


def _digests(files: Sequence[_File], cache: Path) -> dict[str, str]:
    record = cache / "digests.json"
    known, fresh = _known_digests(record), {}
    for file in files:
        stamp = _stamp(file)
        if stamp is None or known.get(file.url, {}).get("stamp") != stamp:
            fresh[file.url] = {"stamp": stamp, "sha256": _sha256(file)}
    lasting = {url: entry for url, entry in fresh.items() if entry["stamp"] is not None}
    if lasting:
        with exclusive(cache / "digests.lock", wait=True):
            write_json(record, {**_known_digests(record), **lasting})
    entries = {**known, **fresh}
    return {file.url: str(entries[file.url]["sha256"]) for file in files}


def fresh_digest(source: Source) -> str:
    """`source_digest` with every byte read again."""
    files = _files(source)
    return _digest(source, files, {file.url: _sha256(file) for file in files})


def state(source: Source) -> dict[str, dict[str, str]]:
    """What changes when a source's files do: their size, and their time of change or ETag, by URL."""
    for file in _files(source):
        file.system.invalidate_cache()  # remote systems keep their listings, from before the change
    return {file.url: _facts(file) for file in _files(source)}


@contextlib.contextmanager
def unchanged(source: Source, digest: str, *, what: str) -> Iterator[None]:
    """Read a source's files for what they are known to be.

    Args:
        source: whose files.
        digest: what `source_digest` gave for it.
        what: is made of them meanwhile, in a word.

    Raises:
        AssayError: they are others than when the digest was taken, or changed while the block lasted.
    """
    before = state(source)
    # Hashing reads a gigabyte in about a second; tokenising one takes ten minutes of a core.
    _require(source, fresh_digest(source) == digest, "since its digest was taken")
    yield
    _require(source, state(source) == before, f"while it was {what}")


def _require(source: Source, same: bool, when: str) -> None:  # noqa: FBT001  # a condition, as in assert
    if not same:
        raise AssayError(f"source {source.name!r}: its files changed {when}.", fix="Run the same command again.")


def _digest(source: Source, files: Sequence[_File], digests: Mapping[str, str]) -> str:
    parts = [
        {
            "sha256": digests[file.url],
            "format": file.format,
            "compression": file.compression,
            "text_field": None if file.format == "text" else source.text_field,
        }
        for file in files
    ]
    return fingerprint("source", parts)


def _known_digests(record: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = read_json(record)
    except (FileNotFoundError, AssayError):  # only a cache: what cannot be read is made again
        return {}
    return known


def _facts(file: _File) -> dict[str, str]:
    info = file.system.info(file.path)
    return {key: str(info[key]) for key in ("size", *_STAMPS) if info.get(key) is not None}


def _stamp(file: _File) -> dict[str, str] | None:
    """The facts, unless they are only the size, or the file changed a moment ago and could do so again unnoticed."""
    facts = _facts(file)
    changed = float(facts.get("mtime", 0))
    return None if len(facts) < 2 or time.time() - changed < _SETTLED else facts


def _sha256(file: _File) -> str:
    try:
        with file.system.open(file.path, "rb") as handle:
            digest = hashlib.sha256()
            while chunk := handle.read(_CHUNK):
                digest.update(chunk)
            return digest.hexdigest()
    except Exception as error:  # each file system has errors of its own
        raise _unreadable(file, error) from error


# --- files


def _files(source: Source) -> list[_File]:
    found = {file.url: file for pattern in source.files for file in _matches(source, pattern)}
    return [found[url] for url in sorted(found)]


def _matches(source: Source, pattern: str) -> Iterator[_File]:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(pattern)
        exact = system.isfile(path)
        paths = [path] if exact else [match for match in system.glob(path) if system.isfile(match)]
        folder = not paths and not glob.has_magic(path) and system.isdir(path)
    except ImportError as error:
        raise AssayError(
            f"source {source.name!r}: {pattern}: {error}.", fix="Install the package that it names."
        ) from error
    except Exception as error:  # each file system has errors of its own, such as those of its HTTP client
        raise AssayError(
            f"source {source.name!r}: {pattern} cannot be reached: {error}.", fix="Check the address and the network."
        ) from error
    if not paths:
        fix = f"It is a folder; name its files, as in {pattern.rstrip('/')}/*.jsonl." if folder else "Check the path."
        raise AssayError(f"source {source.name!r}: no file matches {pattern!r}.", fix=fix)
    local = "file" in ((system.protocol,) if isinstance(system.protocol, str) else system.protocol)
    for match in paths:
        url = match if local else system.unstrip_protocol(match)
        yield _File(url=url, system=system, path=match, **_kind(source, url))


def _kind(source: Source, url: str) -> dict[str, Any]:
    name = PurePosixPath(url.lower())
    compression = name.suffix if name.suffix in _COMPRESSIONS else ""
    stated = source.format
    kind = _FORMATS.get(PurePosixPath(name.stem if compression else name.name).suffix) if stated == "auto" else stated
    if kind is None:
        raise AssayError(
            f"source {source.name!r}: {url}: the format cannot be told from the name.",
            fix="Set the source's `format` to jsonl, parquet or text.",
        )
    return {"format": kind, "compression": compression}


class _Counted(io.RawIOBase):
    """A file that tells how many of its bytes were read."""

    def __init__(self, handle: BinaryIO, progress: Callable[[int], None]) -> None:
        self._handle, self._progress = handle, progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            chunk = self._handle.read(len(buffer))
        except OSError:
            raise
        except Exception as error:  # each file system has errors of its own
            raise OSError(f"{type(error).__name__}: {error}") from error
        buffer[: len(chunk)] = chunk
        self._progress(len(chunk))
        return len(chunk)

    def close(self) -> None:
        self._handle.close()
        super().close()


def _open(file: _File, progress: Callable[[int], None]) -> BinaryIO:
    """The file's bytes, decompressed."""
    raw = io.BufferedReader(_Counted(file.system.open(file.path, "rb"), progress), 1 << 16)
    match file.compression:
        case ".gz":
            return cast("BinaryIO", gzip.GzipFile(fileobj=raw))
        case ".bz2":
            return cast("BinaryIO", bz2.BZ2File(raw))
        case ".xz":
            return cast("BinaryIO", lzma.LZMAFile(raw))
        case ".zst":
            import pyarrow as pa

            # Arrow's reader and not zstandard's, which takes a file that was cut for one that ends there.
            return cast("BinaryIO", io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")))
    return raw


def _unreadable(file: _File, error: Exception, line: int | None = None) -> AssayError:
    where = file.url if line is None else f"{file.url}:{line}"
    return AssayError(
        f"{where}: cannot be read any further: {error}.", fix="The file is cut or damaged; fetch it again."
    )


# --- documents

_Told = Callable[[int], None]


def _read_jsonl(file: _File, source: Source, progress: _Told, look: Look) -> Iterator[Document]:
    number = 0
    try:
        with _open(file, progress) as stream:
            for line in stream:  # bytes: lines end at b"\n" alone; str.splitlines would also end them at U+2028
                number += 1
                if look.takes(number - 1) and line.strip():
                    try:
                        document = _from_json(line, f"{file.url}:{number}", source)
                    except AssayError as error:
                        look.missed(error)
                        continue
                    yield document
    except _BROKEN as error:
        raise _unreadable(file, error, number + 1) from error


def _from_json(line: bytes, where: str, source: Source) -> Document:
    try:
        record = json.loads(line.removeprefix(b"\xef\xbb\xbf").decode())
    except UnicodeDecodeError as error:
        raise _not_utf8(where, error) from None
    except (ValueError, RecursionError) as error:
        raise AssayError(f"{where}: not JSON ({error}).", fix="Each line has to be one whole JSON object.") from None
    if not isinstance(record, dict):
        raise AssayError(
            f"{where}: a {type(record).__name__}, not a JSON object.",
            fix='Each line has to be an object such as {"text": "..."}.',
        )
    if source.text_field not in record:
        raise AssayError(
            f"{where}: no field is called {source.text_field!r}. {did_you_mean(source.text_field, record)}",
            fix=f"Set the `text_field` of source {source.name!r}.",
        )
    own = record.get("id")
    origin = {key: str(record[key]) for key in _ORIGIN if record.get(key) is not None}
    text = record[source.text_field]
    return _document(text, str(own) if isinstance(own, (str, int)) else where, where, source, origin)


def _read_text(file: _File, source: Source, progress: _Told, look: Look) -> Iterator[Document]:
    if look.part > 0:
        return
    try:
        with _open(file, progress) as stream:
            content = stream.read()
    except _BROKEN as error:
        raise _unreadable(file, error) from error
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise _not_utf8(f"{file.url}:{content.count(bytes([10]), 0, error.start) + 1}", error) from None
    if text:
        yield _document(text, file.url, file.url, source)


def _read_parquet(file: _File, source: Source, progress: _Told, look: Look) -> Iterator[Document]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = 0
    try:
        with file.system.open(file.path, "rb") as handle, pq.ParquetFile(handle) as table:
            stored, rows = int(file.system.size(file.path) or 0), max(1, table.metadata.num_rows)
            told = 0
            names = table.schema_arrow.names
            if source.text_field not in names:
                raise AssayError(
                    f"{file.url}: no column is called {source.text_field!r}. {did_you_mean(source.text_field, names)}",
                    fix=f"Set the `text_field` of source {source.name!r}.",
                )
            columns = [source.text_field, *sorted({"id", *_ORIGIN} & set(names) - {source.text_field})]
            for batch in table.iter_batches(batch_size=_PARQUET_BATCH, columns=columns):
                first, row = row, row + len(batch)
                for index in range(len(batch)) if look.takes(first) else ():
                    try:
                        document = _from_row(batch, index, f"{file.url}:{first + index + 1}", source)
                    except AssayError as error:
                        look.missed(error)
                        continue
                    yield document
                progress(stored * row // rows - told)  # Arrow seeks in the file, so bytes are told by rows
                told = stored * row // rows
    except (*_BROKEN, pa.ArrowException) as error:
        raise _unreadable(file, error, row + 1) from error


def _from_row(batch: Any, index: int, where: str, source: Source) -> Document:
    try:
        row = {name: batch.column(name)[index].as_py() for name in batch.schema.names}
    except UnicodeDecodeError as error:
        raise _not_utf8(where, error) from None
    origin = {key: str(row[key]) for key in _ORIGIN if key != source.text_field and row.get(key) is not None}
    own = row.get("id") if source.text_field != "id" else None
    return _document(row[source.text_field], where if own is None else str(own), where, source, origin)


def _document(
    text: Any, identifier: str, where: str, source: Source, origin: Mapping[str, str] | None = None
) -> Document:
    if not isinstance(text, str):
        what = "None" if text is None else f"of type {type(text).__name__}"  # what it says may be a secret
        raise AssayError(f"{where}: {source.text_field!r} is {what}, not text.", fix="Mend or remove the record.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise AssayError(
            f"{where}: character {error.start} is half of a surrogate pair, which is no text.",
            fix="Mend or remove the record; whoever wrote it cut a character in two.",
        ) from None
    return Document(text=text, id=identifier, where=where, **(origin or {}))


def _not_utf8(where: str, error: UnicodeDecodeError) -> AssayError:
    return AssayError(
        f"{where}: not UTF-8 (byte {error.object[error.start]:#04x} at {error.start}).",
        fix="Convert the file to UTF-8, for example with iconv.",
    )


_READERS: dict[Format, Callable[[_File, Source, _Told, Look], Iterator[Document]]] = {
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
    "text": _read_text,
}
