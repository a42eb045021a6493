"""Count the tokens of each source for every tokenizer of the store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from assay.core.errors import Damaged, NotFound
from assay.core.files import read_json
from assay.corpus.manifest import read_manifest

if TYPE_CHECKING:
    from assay.plan.source_index import SourceIndex
    from assay.store.runs import Store


@dataclass(frozen=True, kw_only=True)
class UsedTokenizer:
    """A tokenizer with which the store's corpora were made."""

    identity: str
    """Identity of the tokenizer."""
    names: tuple[str, ...]
    """Names of the tokenizer in submitted sweeps; empty if only `assay prepare` used the tokenizer."""
    vocabulary: int
    """Size of the vocabulary."""
    tokens: dict[str, int] = field(hash=False)
    """Training tokens of each source's current text. Sources without a corpus of their current text are absent."""

    @property
    def label(self) -> str:
        """Names of the tokenizer (or else its vocabulary size), with the first digits of its identity."""
        return f"{', '.join(self.names) or f'{self.vocabulary:,} tokens'} ({self.identity[:6]})"


def count_by_tokenizer(store: Store, index: SourceIndex, sources: Iterable[str]) -> list[UsedTokenizer]:
    """Count the tokens of sources under every tokenizer, from the manifests of the store's corpora.

    Args:
        store: the store of the corpora.
        index: digests of the sources.
        sources: names of the sources.

    Returns:
        The tokenizers with a corpus of one of the sources, by label. Damaged corpora are omitted.
    """
    versions: dict[str, list[str]] = {}
    for name in sources:
        with contextlib.suppress(NotFound, Damaged):  # its files are missing
            versions.setdefault(index.digest(name), []).append(name)
    counts: dict[str, tuple[int, dict[str, int]]] = {}
    for path in sorted(store.corpora.glob("*/manifest.json")):
        with contextlib.suppress(NotFound, Damaged):
            manifest = read_manifest(path.parent)
            _, tokens = counts.setdefault(manifest.tokenizer, (manifest.vocabulary, {}))
            tokens.update(dict.fromkeys(versions.get(manifest.source_digest, ()), manifest.tokens))
    names = _names(store)
    used = [
        UsedTokenizer(identity=key, names=tuple(sorted(names.get(key, ()))), vocabulary=vocabulary, tokens=tokens)
        for key, (vocabulary, tokens) in counts.items()
        if tokens
    ]
    return sorted(used, key=lambda tokenizer: tokenizer.label)


def _names(store: Store) -> dict[str, set[str]]:
    """Return the declared names of tokenizers by identity, from the submissions and the specs of their runs."""
    names: dict[str, set[str]] = {}
    for path in sorted(store.root.glob("sweeps/*/submissions/*/submission.json")):
        with contextlib.suppress(Damaged, FileNotFoundError, KeyError, TypeError, IndexError):
            plain = read_json(path)
            runs: list[Mapping[str, Any]] = plain.get("planned") or plain["runs"]
            spec = read_json(store.run(str(runs[0]["fingerprint"])).path / "spec.json")["spec"]
            names.setdefault(str(spec["tokenizer"]), set()).add(str(plain["study"]["tokenizer"]["name"]))
    return names
