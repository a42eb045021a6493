"""Small sources, a tokenizer and corpora, made once per session."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from assay.config.sources import Source
from assay.config.tokenizer import TokenizerSpec
from assay.corpus.build import prepare
from assay.corpus.manifest import corpus_identity
from assay.corpus.shards import Corpus
from assay.corpus.source_reader import source_digest
from assay.corpus.tokenizer import make_tokenizer, tokenizer_identity

WORDS = [
    "the",
    "of",
    "and",
    "mix",
    "corpus",
    "source",
    "token",
    "weight",
    "run",
    "seed",
    "epoch",
    "step",
    "model",
    "loss",
    "page",
    "verdict",
    "größe",
    "数",
    "λ",
    "x1",
    "\n",
]

MakeSource = Callable[..., Source]
MakeCorpus = Callable[..., Corpus]


def source_of(*files: Path | str, name: str = "web", **fields: object) -> Source:
    plain = {"name": name, "files": tuple(map(str, files)), "domain": "web", "language": "en", "license": "MIT"}
    return Source(**{**plain, **fields})  # type: ignore[arg-type]


def some_texts(count: int, *, seed: int = 0) -> list[str]:
    """Texts of 1 to 60 words, all different."""
    draw = np.random.default_rng(seed)
    return [f"{seed} {i} " + " ".join(draw.choice(WORDS, draw.integers(1, 60))) for i in range(count)]


def write_jsonl(path: Path, texts: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tokenizer of 400 ids."""
    folder = tmp_path_factory.mktemp("tokenizers")
    source = source_of(write_jsonl(folder / "web.jsonl", some_texts(300)))
    spec = TokenizerSpec(name="tiny", vocabulary=400, sources=("web",))
    identity = tokenizer_identity(spec, {"web": source_digest(source, cache=folder)})
    return make_tokenizer(spec, {"web": source}, identity, folder).parent


@pytest.fixture
def corpus_of(tmp_path: Path, tokenizer: Path) -> MakeCorpus:
    """Function that builds a corpus of texts."""

    def make(texts: Sequence[str], *, name: str = "web") -> Corpus:
        return corpus_from(source_of(write_jsonl(tmp_path / f"{name}.jsonl", texts), name=name), tokenizer, tmp_path)

    return make


def corpus_from(source: Source, tokenizer: Path, folder: Path) -> Corpus:
    digest = source_digest(source, cache=folder)
    identity = corpus_identity(digest, tokenizer.name)
    return prepare(source, digest=digest, tokenizer=tokenizer, identity=identity, folder=folder / "corpora")
