"""Digest the content of sources, and check that it does not change."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.config.sources import Source
from assay.core.errors import Damaged, Refused
from assay.core.files import exclusive, read_json, write_json
from assay.core.fingerprint import fingerprint
from assay.corpus.source_document import MARK
from assay.corpus.source_files import SourceFile, list_files
from assay.corpus.source_format import identified_format
from assay.corpus.source_stream import BROKEN, open_source, unreadable

_CHUNK = 1 << 20
_STAMPS = ("mtime", "ino", "ETag", "etag", "LastModified", "last_modified", "generation", "updated", "blob_id", "oid")
_STABLE_SECONDS = 2.0
"""Minimum seconds since a file's last change to trust its stamp. Clocks of file systems are coarse."""


def source_digest(source: Source, *, cache: Path) -> str:
    """Digest the content of a source: bytes of the files, formats and text field.

    File paths are not part of the digest. Files count in order of URL, which is the order of the documents. Moving all
    files together keeps the digest.

    Args:
        source: the source.
        cache: folder of `digests.json`. This file has the digest of each file, which is valid while the file's size and
            modification time (or ETag) do not change.

    Raises:
        AssayError: a pattern matches no file, or a file cannot be read.
    """
    files = list_files(source).files
    return _digest(source, files, _entries(source, files, cache))


def file_digests(source: Source, *, cache: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a source by URL, from the cache of `source_digest`."""
    entries = _entries(source, list_files(source).files, cache)
    return {url: str(entry["sha256"]) for url, entry in entries.items()}


def fresh_digest(source: Source) -> str:
    """Compute the result of `source_digest` without the cache."""
    files = list_files(source).files
    return _digest(source, files, {file.url: {"sha256": _sha256(file)} for file in files})


@contextlib.contextmanager
def unchanged(source: Source, digest: str, *, what: str) -> Iterator[None]:
    """Check before and after a block that a source has not changed.

    Args:
        source: the source.
        digest: its `source_digest`.
        what: past participle for the message that names the action of the block, such as `tokenized`.

    Raises:
        Refused: a file changed after the digest was computed, or during the block.
    """
    before = _file_states(source)
    # Hashing takes about a second per gigabyte. Tokenizing takes ten core minutes.
    _require(source, fresh_digest(source) == digest, "since its digest was computed")
    yield
    _require(source, _file_states(source) == before, f"while it was {what}")


def _require(source: Source, same: bool, when: str) -> None:  # noqa: FBT001  # a condition, as in assert
    if not same:
        raise Refused(f"source {source.name!r}: its files changed {when}.", fix="Run the same command again.")


def _file_states(source: Source) -> dict[str, dict[str, str]]:
    """Return the size and the modification time or ETag of a source's files, by URL."""
    for file in list_files(source).files:
        file.system.invalidate_cache()  # remote file systems cache listings
    return {file.url: _facts(file) for file in list_files(source).files}


def _digest(source: Source, files: Sequence[SourceFile], entries: Mapping[str, Mapping[str, Any]]) -> str:
    parts = []
    for file in files:
        format_, compression = identified_format(source, file)
        part = {
            "sha256": entries[file.url]["sha256"],
            "format": format_,
            "compression": compression,
            "text_field": None if format_ == "text" else source.text_field,
        }
        if format_ == "text":
            part |= _text_facts(source, file, entries[file.url])
        parts.append(part)
    return fingerprint("source", parts)


def _text_facts(source: Source, file: SourceFile, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of text files for which reading changes the bytes.

    Earlier versions kept byte order marks, so that a file with a mark is another text than it was under its old digest.
    """
    marked = entry["marked"] if "marked" in entry else _is_marked(file)
    facts: dict[str, Any] = {"marks": "removed"} if marked else {}
    return facts if source.separator is None else {**facts, "separator": source.separator}


def _is_marked(file: SourceFile) -> bool:
    """Return whether the decompressed content begins with a byte order mark."""
    mark = MARK.encode()
    with open_source(file, lambda _: None, text_field="text") as opened:
        try:
            return opened.stream.read(len(mark)) == mark
        except BROKEN as error:
            raise unreadable(file, error, 1) from error


def _entries(source: Source, files: Sequence[SourceFile], cache: Path) -> dict[str, dict[str, Any]]:
    """Return the cached facts of files by URL: `sha256`, and for text `marked`; compute those that are missing."""
    record = cache / "digests.json"
    known, fresh = _known_entries(record), {}
    for file in files:
        stamp = _stamp(file)
        entry = known.get(file.url, {})
        if stamp is None or entry.get("stamp") != stamp:
            entry = {"stamp": stamp, "sha256": _sha256(file)}
            fresh[file.url] = entry
        if "marked" not in entry and identified_format(source, file)[0] == "text":
            fresh[file.url] = {**entry, "marked": _is_marked(file)}
    lasting = {url: entry for url, entry in fresh.items() if entry["stamp"] is not None}
    if lasting:
        with exclusive(cache / "digests.lock", wait=True):
            write_json(record, {**_known_entries(record), **lasting})
    entries = {**known, **fresh}
    return {file.url: entries[file.url] for file in files}


def _known_entries(record: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = read_json(record)
    except (FileNotFoundError, Damaged):  # the cache is recreated from the files
        return {}
    return known


def _facts(file: SourceFile) -> dict[str, str]:
    info = file.system.info(file.path)
    return {key: str(info[key]) for key in ("size", *_STAMPS) if info.get(key) is not None}


def _stamp(file: SourceFile) -> dict[str, str] | None:
    """Return values that identify a file's version; None if the file has no reliable version.

    A bare size, and a file that changed moments ago, are not reliable.
    """
    facts = _facts(file)
    changed = float(facts.get("mtime", 0))
    return None if len(facts) < 2 or time.time() - changed < _STABLE_SECONDS else facts


def _sha256(file: SourceFile) -> str:
    try:
        with file.system.open(file.path, "rb") as handle:
            digest = hashlib.sha256()
            while chunk := handle.read(_CHUNK):
                digest.update(chunk)
            return digest.hexdigest()
    except Exception as error:  # each file system has its own errors
        raise unreadable(file, error) from error
