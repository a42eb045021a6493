"""A tokenised source as it lies on disk: memory-mapped shards, checked against their manifest.

A corpus is a folder::

    manifest.json               counts, and the size and SHA-256 of every other file
    train-00000.tokens ...      token ids one after the other, every document ended by EOS; documents are never cut
    train.offsets               first token of each document, over all shards, and the end
    validation-00000.tokens ... the same for the documents that are held out
    validation.offsets
    validation.bytes            bytes of text of each held-out document
    validation.hashes           16 bytes of hash of each held-out document

Numbers are little-endian: token ids of 2 or 4 bytes, everything else of 8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from assay.corpus.heldout import HASH_BYTES
from assay.corpus.manifest import Manifest, again, read_manifest
from assay.errors import AssayError

Side = Literal["train", "validation"]


class Corpus:
    """A tokenised source, open for reading; its tokens stay on disk until they are asked for.

    Attributes:
        path: the folder.
        manifest: what it holds.
        offsets: first token of each training document, over all shards, and the end; shape (documents + 1,).
        shards: the training tokens, one array a file.
        shard_starts: the first token of each shard.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.offsets = _map(path / "train.offsets", "<i8")
        self.shards = self._tokens("train")
        self.shard_starts = _starts(self.shards)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """Go to another process as a path, and not as gigabytes of tokens."""
        return (Corpus.open, (self.path,))

    @classmethod
    def open(cls, path: Path, *, verify: bool = False) -> Corpus:
        """Open a corpus, its files' sizes checked against its manifest.

        Args:
            path: the corpus' folder.
            verify: whether to read every file and check its SHA-256 too.

        Raises:
            AssayError: there is no whole corpus here, or one of its files was cut or changed.
        """
        manifest, fix = read_manifest(path), again(path)
        for name, record in manifest.files.items():
            file = path / name
            size = file.stat().st_size if file.exists() else None
            if size != record.size:
                found = "missing" if size is None else f"{size:,} bytes"
                raise AssayError(f"{file}: {found}, but the manifest says {record.size:,} bytes.", fix=fix)
            if verify and sha256_of(file) != record.sha256:
                raise AssayError(f"{file}: its SHA-256 is not the manifest's; it was changed.", fix=fix)
        return cls(path, manifest)

    @property
    def tokens(self) -> int:
        """Training tokens, EOS included."""
        return self.manifest.tokens

    @property
    def documents(self) -> int:
        """Training documents."""
        return self.manifest.documents

    @property
    def bytes_per_token(self) -> float:
        """Bytes of text a training token stands for, on average."""
        return self.manifest.bytes / self.manifest.tokens

    def document(self, index: int) -> NDArray[Any]:
        """Token ids of one training document, EOS included, in the order of the source."""
        return _slice(self.shards, self.shard_starts, self.offsets, index)

    def validation(self) -> Iterator[tuple[str, NDArray[Any], int]]:
        """The held-out documents, in order of their hashes: any beginning of it is a fair sample of the source.

        Yields:
            The document's hash (32 hexadecimal digits), its token ids ending with EOS, and the bytes of its text.
        """
        offsets = _map(self.path / "validation.offsets", "<i8")
        sizes = _map(self.path / "validation.bytes", "<i8")
        hashes = (self.path / "validation.hashes").read_bytes()
        shards = self._tokens("validation")
        starts = _starts(shards)
        digests = [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]
        for index in sorted(range(len(digests)), key=lambda i: (digests[i], i)):
            yield digests[index].hex(), _slice(shards, starts, offsets, index), int(sizes[index])

    def _tokens(self, side: Side) -> list[NDArray[Any]]:
        names = sorted(name for name in self.manifest.files if name.startswith(f"{side}-"))
        return [_map(self.path / name, f"<u{np.dtype(self.manifest.dtype).itemsize}") for name in names]


def sha256_of(file: Path) -> str:
    """SHA-256 of a local file's bytes."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _map(file: Path, dtype: str) -> NDArray[Any]:
    # A plain array over the map: slicing np.memmap itself makes a new memmap each time, 2-3 times slower to read.
    return np.memmap(file, dtype=dtype, mode="r").view(np.ndarray)


def _starts(shards: list[NDArray[Any]]) -> NDArray[np.int64]:
    return np.cumsum([0, *(len(shard) for shard in shards)])[:-1].astype(np.int64)


def _slice(
    shards: list[NDArray[Any]], starts: NDArray[np.int64], offsets: NDArray[np.int64], index: int
) -> NDArray[Any]:
    first, stop = int(offsets[index]), int(offsets[index + 1])
    number = int(np.searchsorted(starts, first, side="right")) - 1
    return shards[number][first - starts[number] : stop - starts[number]]
