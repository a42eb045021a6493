"""Build the corpus of a source: tokenize the source once, and write shards."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from assay.config.sources import Source
from assay.core.errors import Refused
from assay.core.files import exclusive, replacing, write_json
from assay.core.serde import to_mapping
from assay.corpus.content_check import check_content, check_counts
from assay.corpus.encoder import TextEncoder
from assay.corpus.holdout import document_hash, held_out_by_rank, is_held_out
from assay.corpus.manifest import FORMAT_VERSION, Manifest, ShardFileRecord
from assay.corpus.round_trip import RoundTrip, check_loss, lost_characters
from assay.corpus.shards import Corpus, Side, sha256_of
from assay.corpus.source_reader import documents, size_of, unchanged
from assay.corpus.tokenizer_file import id_count

SHARD_TOKENS = 1 << 27
"""Maximum tokens of a shard file: 256 MiB of 2-byte ids."""
BATCH_BYTES = 1 << 20
"""Bytes of text per call of the tokenizer. Encodings take about 100 bytes of memory per token."""


def prepare(
    source: Source,
    *,
    digest: str,
    tokenizer: Path,
    identity: str,
    folder: Path,
    max_lost_fraction: float = 0.0,
    progress: Callable[[float], None] | None = None,
) -> Corpus:
    """Tokenize a source, unless the source's corpus exists.

    If two processes start at once, one process builds the corpus and the other waits. The corpus folder appears under
    its identity only when the corpus is complete. If a process is killed, the next process removes its temporary files.

    Args:
        source: the source to tokenize.
        digest: the source's `source_reader.source_digest`.
        tokenizer: folder of the tokenizer, or its `tokenizer.json`; the folder's name is the tokenizer's identity.
        identity: the result of `manifest.corpus_identity`; the name of the corpus folder.
        folder: folder of all corpora.
        max_lost_fraction: maximum fraction of the held-out bytes that decoding may fail to restore.
        progress: called with the completed fraction of the source.

    Raises:
        AssayError: the source cannot be read, changed after its digest was computed, or has fewer than two different
            documents; the tokenizer loses too much of its text; the disk is full; or the existing corpus is damaged.
    """
    path = folder / identity
    if not path.exists():
        with exclusive(folder / f".{identity}.lock", wait=True):
            if not path.exists():
                _remove_leftovers(folder, identity)
                check_content(source)  # before the hours that tokenization takes
                with replacing(path) as temporary, unchanged(source, digest, what="tokenized"):
                    temporary.mkdir()
                    counts = _build(source, tokenizer, temporary, progress, max_lost_fraction)
                    manifest = Manifest(source=source.name, source_digest=digest, identity=identity, **counts)
                    write_json(temporary / "manifest.json", to_mapping(manifest))
    if progress is not None:
        progress(1.0)
    return Corpus.open(path)


def _remove_leftovers(folder: Path, identity: str) -> None:
    for leftover in folder.glob(f".{identity}.*.tmp"):
        shutil.rmtree(leftover)


def _build(
    source: Source,
    tokenizer_path: Path,
    folder: Path,
    progress: Callable[[float], None] | None,
    max_lost_fraction: float,
) -> dict[str, Any]:
    """Write the files of a corpus and return the fields of its manifest."""
    encoder = TextEncoder.open(tokenizer_path)
    end, vocabulary = encoder.end, id_count(encoder.tokenizer)
    dtype = np.dtype("<u2" if vocabulary <= 1 << 16 else "<u4")
    by_rank = held_out_by_rank(_hashes(source))
    empty = ranked = 0
    lost = Counter[str]()
    with (
        contextlib.closing(_Writer(folder, "train", dtype)) as train,
        contextlib.closing(_Writer(folder, "validation", dtype)) as validation,
    ):
        for texts in _batches(source, progress):
            for document, ids in zip(texts, _encode(encoder, texts, source), strict=True):
                text = document.encode()
                digest = document_hash(text)
                side = validation if is_held_out(digest) or digest in by_rank else train
                if text:
                    side.add(np.array([*ids, end], dtype), len(text), digest)
                if side is validation:
                    lost += lost_characters(document, encoder.decode(ids))
                empty += not text
                ranked += digest in by_rank
    check_counts(source, train=train.documents, validation=validation.documents)
    measured = RoundTrip.of(lost, validation.bytes)
    check_loss(source.name, measured, max_lost_fraction)
    json_file = tokenizer_path if tokenizer_path.name == "tokenizer.json" else tokenizer_path / "tokenizer.json"
    return {
        "format": FORMAT_VERSION,
        "tokenizer": json_file.parent.name,
        "tokenizer_sha256": sha256_of(json_file),
        "vocabulary": vocabulary,
        "dtype": f"uint{8 * dtype.itemsize}",
        "eos": end,
        "tokens": train.tokens,
        "documents": train.documents,
        "bytes": train.bytes,
        "validation_tokens": validation.tokens,
        "validation_documents": validation.documents,
        "validation_bytes": validation.bytes,
        "validation_by_rank": ranked,
        "empty_documents": empty,
        "validation_lost_bytes": measured.lost,
        "files": {**train.files, **validation.files},
    }


def _encode(encoder: TextEncoder, texts: list[str], source: Source) -> list[list[int]]:
    try:
        return encoder.encode_batch(texts)
    except Refused as error:
        raise Refused(f"source {source.name!r}: {error.what}", fix=error.fix) from error


def _hashes(source: Source) -> Iterator[tuple[bytes, int]]:
    """Yield hash and bytes of each document that has text."""
    for document in documents(source):
        if text := document.text.encode():
            yield document_hash(text), len(text)


def _batches(source: Source, progress: Callable[[float], None] | None) -> Iterator[list[str]]:
    """Yield texts in lists of about `BATCH_BYTES`. A longer text has its own list."""
    total, read = max(1, size_of(source)), 0

    def count(size: int) -> None:
        nonlocal read
        read += size

    texts: list[str] = []
    size = 0
    for document in documents(source, progress=count):
        texts.append(document.text)
        size += len(document.text)
        if size >= BATCH_BYTES:
            yield texts
            texts, size = [], 0
            if progress is not None:
                progress(min(1.0, read / total))
    if texts:
        yield texts


class _Writer:
    """Writer of one side of a corpus, which hashes the files while it writes them."""

    def __init__(self, folder: Path, side: Side, dtype: np.dtype[Any]) -> None:
        self.tokens = self.documents = self.bytes = 0
        self._folder, self._side, self._itemsize = folder, side, dtype.itemsize
        self._shards: list[_HashedFile] = []
        self._offsets = _HashedFile(folder / f"{side}.offsets")
        self._offsets.write(_number(0))
        extra = ("bytes", "hashes") if side == "validation" else ()
        self._extra = {name: _HashedFile(folder / f"{side}.{name}") for name in extra}

    def add(self, ids: NDArray[Any], text_bytes: int, digest: bytes) -> None:
        size = len(ids) * self._itemsize
        if not self._shards or self._shards[-1].size + size > SHARD_TOKENS * self._itemsize:
            self._shards.append(_HashedFile(self._folder / f"{self._side}-{len(self._shards):05}.tokens"))
        self._shards[-1].write(ids.tobytes())
        self.tokens += len(ids)
        self.documents += 1
        self.bytes += text_bytes
        self._offsets.write(_number(self.tokens))
        if self._extra:
            self._extra["bytes"].write(_number(text_bytes))
            self._extra["hashes"].write(digest)

    @property
    def files(self) -> dict[str, ShardFileRecord]:
        return {file.name: file.record for file in self._all}

    def close(self) -> None:
        for file in self._all:
            file.close()

    @property
    def _all(self) -> list[_HashedFile]:
        return [*self._shards, self._offsets, *self._extra.values()]


class _HashedFile:
    def __init__(self, path: Path) -> None:
        self.name, self.size = path.name, 0
        self._sha256 = hashlib.sha256()
        self._handle: BinaryIO = path.open("wb")

    def write(self, data: bytes) -> None:
        self._handle.write(data)
        self._sha256.update(data)
        self.size += len(data)

    @property
    def record(self) -> ShardFileRecord:
        return ShardFileRecord(size=self.size, sha256=self._sha256.hexdigest())

    def close(self) -> None:
        self._handle.close()


def _number(value: int) -> bytes:
    return value.to_bytes(8, "little")
