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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from assay.corpus.heldout import HASH_BYTES, RULE
from assay.errors import AssayError
from assay.files import read_json
from assay.fingerprint import fingerprint
from assay.structure import from_mapping

FORMAT_VERSION = 1
"""Raised whenever the same text would become other files; then nothing older is reused."""

Side = Literal["train", "validation"]


def corpus_identity(source_digest: str, tokenizer: str) -> str:
    """The identity of a source's corpus: known before anything is tokenised.

    Args:
        source_digest: what `read.source_digest` gives for the source.
        tokenizer: the tokenizer's identity.
    """
    return fingerprint(
        "corpus",
        {
            "source": source_digest,
            "tokenizer": tokenizer,
            "format": FORMAT_VERSION,
            "held_out": RULE,
        },
    )


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """One file of a corpus."""

    size: int
    """Bytes."""
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a corpus holds. Tokens include the EOS of each document; bytes are those of the text in UTF-8."""

    format: int
    source: str
    """The name under which it was made; bears no identity."""
    source_digest: str
    identity: str
    tokenizer: str
    """Identity of the tokenizer."""
    tokenizer_sha256: str
    """SHA-256 of its `tokenizer.json`."""
    vocabulary: int
    dtype: Literal["uint16", "uint32"]
    eos: int
    """Token id that ends every document."""
    tokens: int
    documents: int
    bytes: int
    validation_tokens: int
    validation_documents: int
    validation_bytes: int
    validation_by_rank: int
    """Held-out documents beyond those that their hash alone holds out: see `heldout`."""
    empty_documents: int
    """Documents without any text, left out."""
    files: dict[str, FileRecord]


def read_manifest(path: Path) -> Manifest:
    """What a corpus' folder says that it holds; the files themselves are not looked at.

    Raises:
        AssayError: there is no corpus here, or it is of another format.
    """
    try:
        raw = read_json(path / "manifest.json")
    except FileNotFoundError:
        raise AssayError(f"{path}: no corpus is here.", fix="Run `assay prepare` first.") from None
    if raw.get("format") != FORMAT_VERSION:
        raise AssayError(
            f"{path}: a corpus of format {raw.get('format')}, expected {FORMAT_VERSION}.", fix=_again(path)
        )
    return from_mapping(Manifest, raw, where=f"{path}/manifest.json")


def _again(path: Path) -> str:
    return f"Delete {path} and run `assay prepare` again."


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
        manifest, fix = read_manifest(path), _again(path)
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
