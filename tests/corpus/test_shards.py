"""A truncated or changed corpus, or one of another format, is never opened."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from assay.core.errors import AssayError, Damaged, NotFound
from assay.corpus.manifest import read_manifest
from assay.corpus.shards import Corpus
from tests.corpus.conftest import MakeCorpus, some_texts


@pytest.fixture
def path(corpus_of: MakeCorpus) -> Path:
    return corpus_of(some_texts(200)).path


FILES = ["train-00000.tokens", "train.offsets", "validation-00000.tokens", "validation.bytes", "validation.hashes"]


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named_with_what_to_do(path: Path, name: str) -> None:
    (path / name).write_bytes((path / name).read_bytes()[:-2])
    with pytest.raises(AssayError, match=rf"{name}: [\d,]+ bytes; expected [\d,]+ bytes") as error:
        Corpus.open(path)
    assert error.value.fix == f"Delete {path} and run `assay prepare` again."


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(path: Path, name: str) -> None:
    (path / name).unlink()
    with pytest.raises(AssayError, match=f"{name}: missing"):
        Corpus.open(path)


@pytest.mark.parametrize("name", FILES)
def test_verification_detects_a_changed_byte(path: Path, name: str) -> None:
    data = bytearray((path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (path / name).write_bytes(data)
    with pytest.raises(AssayError, match=f"{name}: the SHA-256 differs"):
        Corpus.open(path, verify=True)


def test_a_complete_corpus_passes_verification(path: Path) -> None:
    assert Corpus.open(path, verify=True).manifest == Corpus.open(path).manifest


def test_a_truncated_manifest_is_an_error(path: Path) -> None:
    (path / "manifest.json").write_text((path / "manifest.json").read_text()[:-40])
    with pytest.raises(AssayError, match="invalid or incomplete JSON"):
        Corpus.open(path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "source": 3}'])
def test_a_damaged_manifest_is_never_read_as_a_missing_corpus(path: Path, content: str) -> None:
    (path / "manifest.json").write_text(content)
    with pytest.raises(Damaged) as damaged:
        read_manifest(path)
    assert str(path) in damaged.value.what
    assert damaged.value.fix
    (path / "manifest.json").unlink()
    with pytest.raises(NotFound, match=r"no corpus exists"):
        read_manifest(path)


def test_another_format_is_refused(path: Path) -> None:
    raw = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**raw, "format": 99}))
    with pytest.raises(AssayError, match="corpus format 99 is invalid; expected 1"):
        Corpus.open(path)


def test_tokens_are_mapped_and_cannot_be_written(path: Path) -> None:
    shard = Corpus.open(path).shards[0]
    assert type(shard) is np.ndarray
    assert isinstance(shard.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        shard[0] = 1


def test_a_corpus_is_pickled_as_its_path(path: Path) -> None:
    corpus = Corpus.open(path)
    pickled = pickle.dumps(corpus)
    assert len(pickled) < 5_000
    np.testing.assert_array_equal(pickle.loads(pickled).shards[0], corpus.shards[0])
