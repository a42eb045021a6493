"""Read a tokenized source from memory-mapped shards, checked against their manifest.

A corpus is a folder::

    manifest.json               counts, and the size and SHA-256 of all other files
    train-00000.tokens ...      concatenated token ids; EOS ends every document, and no document spans two files
    train.offsets               index of each document's first token over all shards, and the end
    validation-00000.tokens ... the same for held-out documents
    validation.offsets
    validation.bytes            bytes of text of each held-out document
    validation.hashes           16 bytes of hash of each held-out document

Numbers are little-endian. Token ids have 2 or 4 bytes, and all other numbers have 8 bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from assay.core.errors import Damaged
from assay.corpus.holdout import HASH_BYTES
from assay.corpus.manifest import Manifest, read_manifest, rebuild_fix

Side = Literal["train", "validation"]


class Corpus:
    """A tokenized source, open for reading. Tokens stay on disk until they are read.

    Attributes:
        path: folder of the corpus.
        manifest: contents of the corpus.
        offsets: index of each training document's first token over all shards, and the end; shape (documents + 1,).
        shards: the training tokens, one array per file.
        shard_starts: index of each shard's first token.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.offsets = _map(path / "train.offsets", "<i8")
        self.shards = self._tokens("train")
        self.shard_starts = _starts(self.shards)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """Pickle the path instead of gigabytes of tokens."""
        return (Corpus.open, (self.path,))

    @classmethod
    def open(cls, path: Path, *, verify: bool = False) -> Corpus:
        """Open a corpus, and check the sizes of its files against its manifest.

        Args:
            path: folder of the corpus.
            verify: whether to check the SHA-256 of every file too.

        Raises:
            AssayError: the folder has no complete corpus, or a file is truncated or changed.
        """
        manifest, fix = read_manifest(path), rebuild_fix(path)
        for name, record in manifest.files.items():
            file = path / name
            size = file.stat().st_size if file.exists() else None
            if size != record.size:
                actual = "missing" if size is None else f"{size:,} bytes"
                raise Damaged(f"{file}: {actual}; expected {record.size:,} bytes.", fix=fix)
            if verify and sha256_of(file) != record.sha256:
                raise Damaged(f"{file}: the SHA-256 differs from the manifest; the file was changed.", fix=fix)
        return cls(path, manifest)

    @property
    def tokens(self) -> int:
        """Number of training tokens, with EOS tokens."""
        return self.manifest.tokens

    @property
    def documents(self) -> int:
        """Number of training documents."""
        return self.manifest.documents

    @property
    def bytes_per_token(self) -> float:
        """Mean bytes of text per training token."""
        return self.manifest.bytes / self.manifest.tokens

    def document(self, index: int) -> NDArray[Any]:
        """Return the token ids of a training document, with EOS, by its index in the source."""
        return _slice(self.shards, self.shard_starts, self.offsets, index)

    def validation(self) -> Iterator[tuple[str, NDArray[Any], int]]:
        """Yield the held-out documents in order of hash.

        Every prefix of this order is an unbiased sample of the source.

        Yields:
            The document's hash (32 hexadecimal digits), its token ids ending with EOS, and the bytes of its text.
        """
        offsets = _map(self.path / "validation.offsets", "<i8")
        sizes = _map(self.path / "validation.bytes", "<i8")
        hashes = (self.path / "validation.hashes").read_bytes()
        shards = self._tokens("validation")
        starts = _starts(shards)
        digests = [hashes[start : start + HASH_BYTES] for start in range(0, len(hashes), HASH_BYTES)]
        for index in sorted(range(len(digests)), key=lambda i: (digests[i], i)):
            yield digests[index].hex(), _slice(shards, starts, offsets, index), int(sizes[index])

    def _tokens(self, side: Side) -> list[NDArray[Any]]:
        names = sorted(name for name in self.manifest.files if name.startswith(f"{side}-"))
        return [_map(self.path / name, f"<u{np.dtype(self.manifest.dtype).itemsize}") for name in names]


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a local file, in hexadecimal."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _map(file: Path, dtype: str) -> NDArray[Any]:
    # A plain array over the map: slicing an np.memmap creates a new memmap each time, which reads 2-3 times slower.
    return np.memmap(file, dtype=dtype, mode="r").view(np.ndarray)


def _starts(shards: list[NDArray[Any]]) -> NDArray[np.int64]:
    return np.cumsum([0, *(len(shard) for shard in shards)])[:-1].astype(np.int64)


def _slice(
    shards: list[NDArray[Any]], starts: NDArray[np.int64], offsets: NDArray[np.int64], index: int
) -> NDArray[Any]:
    first, stop = int(offsets[index]), int(offsets[index + 1])
    number = int(np.searchsorted(starts, first, side="right")) - 1
    return shards[number][first - starts[number] : stop - starts[number]]
