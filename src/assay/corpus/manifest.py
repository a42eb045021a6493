"""What a corpus is called and what it holds: enough to plan with, without opening it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from assay.corpus.heldout import RULE
from assay.errors import AssayError
from assay.files import read_json
from assay.fingerprint import fingerprint
from assay.structure import from_mapping

FORMAT_VERSION = 1
"""Raised whenever the same text would become other files; then nothing older is reused."""


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
        raise AssayError(f"{path}: a corpus of format {raw.get('format')}, expected {FORMAT_VERSION}.", fix=again(path))
    return from_mapping(Manifest, raw, where=f"{path}/manifest.json")


def again(path: Path) -> str:
    """What to do where a corpus is not whole."""
    return f"Delete {path} and run `assay prepare` again."
