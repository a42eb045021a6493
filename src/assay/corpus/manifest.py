"""Define a corpus's identity and manifest, which suffice for planning without its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from assay.core.errors import Damaged, NotFound
from assay.core.files import read_json
from assay.core.fingerprint import fingerprint
from assay.core.serde import from_record
from assay.corpus.holdout import RULE

FORMAT_VERSION = 1
"""Version of the files. Raise it when the same text would give different files, to prevent reuse of older corpora."""


def corpus_identity(source_digest: str, tokenizer: str) -> str:
    """Return the identity of a source's corpus, which is known before tokenization.

    Args:
        source_digest: the source's `source_reader.source_digest`.
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
class ShardFileRecord:
    """One file of a corpus."""

    size: int
    """Size in bytes."""
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Contents of a corpus.

    Token counts include the EOS of each document. Byte counts are those of the text in UTF-8.
    """

    format: int
    source: str
    """Name of the source when the corpus was built; not part of the identity."""
    source_digest: str
    identity: str
    tokenizer: str
    tokenizer_sha256: str
    """SHA-256 of the tokenizer's `tokenizer.json`."""
    vocabulary: int
    dtype: Literal["uint16", "uint32"]
    eos: int
    """Id of the token that ends every document."""
    tokens: int
    documents: int
    bytes: int
    validation_tokens: int
    validation_documents: int
    validation_bytes: int
    validation_by_rank: int
    """Number of held-out documents that a small source holds out in addition to the hash rule; see `holdout`."""
    empty_documents: int
    """Number of documents without text, which the corpus omits."""
    files: dict[str, ShardFileRecord]
    validation_lost_bytes: int | None = None
    """Bytes of held-out text that decoding does not restore; None in corpora of earlier versions."""

    @property
    def restored_bytes(self) -> float:
        """Estimated bytes of training text that decoding restores, from the lost fraction of the held-out text."""
        lost = (self.validation_lost_bytes or 0) / self.validation_bytes if self.validation_bytes else 0.0
        return self.bytes * (1 - lost)


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a corpus without checking its files.

    Raises:
        AssayError: the folder has no corpus, or a corpus of another format.
    """
    try:
        raw = read_json(path / "manifest.json")
    except FileNotFoundError:
        raise NotFound(f"{path}: no corpus exists.", fix="Run `assay prepare` first.") from None
    version = raw.get("format") if isinstance(raw, dict) else None
    if version != FORMAT_VERSION:
        raise Damaged(f"{path}: corpus format {version} is invalid; expected {FORMAT_VERSION}.", fix=rebuild_fix(path))
    return from_record(Manifest, raw, where=f"{path}/manifest.json", fix=rebuild_fix(path))


def rebuild_fix(path: Path) -> str:
    """Return the fix for an incomplete or damaged corpus."""
    return f"Delete {path} and run `assay prepare` again."
