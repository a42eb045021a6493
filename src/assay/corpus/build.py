"""Making a corpus: a source is read, tokenised and written as shards, once."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from assay.corpus.heldout import document_hash, held_out_by_rank, is_held_out
from assay.corpus.manifest import FORMAT_VERSION, FileRecord, Manifest
from assay.corpus.read import documents, size_of, unchanged
from assay.corpus.shards import Corpus, Side, sha256_of
from assay.corpus.tokenizer import load_tokenizer
from assay.errors import AssayError
from assay.files import exclusive, replacing, write_json
from assay.sources import Source
from assay.structure import to_mapping

SHARD_TOKENS = 1 << 27
"""Tokens after which a new file is begun: 256 MiB of 2-byte ids."""
BATCH_BYTES = 1 << 20
"""Text that is tokenised at once; encodings take some 100 bytes a token while they exist."""


def prepare(
    source: Source,
    *,
    digest: str,
    tokenizer: Path,
    identity: str,
    folder: Path,
    progress: Callable[[float], None] | None = None,
) -> Corpus:
    """Tokenise a source, unless that is done; two that are started at once do it once.

    The corpus appears under its identity when it is whole. A process that is killed leaves nothing that could be
    taken for a corpus, and what it left is removed by the next.

    Args:
        source: what to tokenise.
        digest: what `read.source_digest` gave for it.
        tokenizer: folder of the tokenizer, or the `tokenizer.json` in it; the folder's name is its identity.
        identity: what `shards.corpus_identity` gives; the name of the corpus' folder.
        folder: where corpora are.
        progress: told the share of the source that is done.

    Raises:
        AssayError: the source cannot be read, changed since its digest was taken, or has fewer than two different
            documents; the disk is full; or the corpus that is there was damaged.
    """
    path = folder / identity
    if not path.exists():
        with exclusive(folder / f".{identity}.lock", wait=True):
            if not path.exists():
                _remove_leftovers(folder, identity)
                with replacing(path) as temporary, unchanged(source, digest, what="tokenised"):
                    temporary.mkdir()
                    made = _build(source, tokenizer, temporary, progress)
                    manifest = Manifest(source=source.name, source_digest=digest, identity=identity, **made)
                    write_json(temporary / "manifest.json", to_mapping(manifest))
    if progress is not None:
        progress(1.0)
    return Corpus.open(path)


def _remove_leftovers(folder: Path, identity: str) -> None:
    for leftover in folder.glob(f".{identity}.*.tmp"):
        shutil.rmtree(leftover)


def _build(
    source: Source, tokenizer_path: Path, folder: Path, progress: Callable[[float], None] | None
) -> dict[str, Any]:
    """Write the corpus' files; what the manifest says of them comes back."""
    tokenizer, end = load_tokenizer(tokenizer_path)
    vocabulary = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    dtype = np.dtype("<u2" if vocabulary <= 1 << 16 else "<u4")
    by_rank = held_out_by_rank(_hashes(source))
    empty = ranked = 0
    with (
        contextlib.closing(_Writer(folder, "train", dtype)) as train,
        contextlib.closing(_Writer(folder, "validation", dtype)) as validation,
    ):
        for texts in _batches(source, progress):
            encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            for text, encoding in zip(map(str.encode, texts), encodings, strict=True):
                digest = document_hash(text)
                side = validation if is_held_out(digest) or digest in by_rank else train
                if text:
                    side.add(np.array([*encoding.ids, end], dtype), len(text), digest)
                empty += not text
                ranked += digest in by_rank
    _check_counts(source, train.documents, validation.documents)
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
        "files": {**train.files, **validation.files},
    }


def _hashes(source: Source) -> Iterator[tuple[bytes, int]]:
    """Hash and size of each document that has text."""
    for document in documents(source):
        if text := document.text.encode():
            yield document_hash(text), len(text)


def _check_counts(source: Source, train: int, validation: int) -> None:
    if not train + validation:
        raise AssayError(f"source {source.name!r}: all of its documents are empty.", fix="Check its `text_field`.")
    if not train:
        raise AssayError(
            f"source {source.name!r}: one document is held out for validation, which leaves none to train on.",
            fix="Give it at least two different documents: split it, for example by chapter.",
        )


def _batches(source: Source, progress: Callable[[float], None] | None) -> Iterator[list[str]]:
    """Texts in lists of about `BATCH_BYTES`; a longer one is a list of its own."""
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
    """Writes one side of a corpus, hashing as it goes."""

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
    def files(self) -> dict[str, FileRecord]:
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
    def record(self) -> FileRecord:
        return FileRecord(size=self.size, sha256=self._sha256.hexdigest())

    def close(self) -> None:
        self._handle.close()


def _number(value: int) -> bytes:
    return value.to_bytes(8, "little")
