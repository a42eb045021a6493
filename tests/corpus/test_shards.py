"""Opening a corpus: what was cut, changed or made by another version is never read as if it were whole."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from assay.corpus.shards import Corpus
from assay.errors import AssayError

from .conftest import MakeCorpus, some_texts


@pytest.fixture
def path(corpus_of: MakeCorpus) -> Path:
    return corpus_of(some_texts(200)).path


FILES = ["train-00000.tokens", "train.offsets", "validation-00000.tokens", "validation.bytes", "validation.hashes"]


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named_with_what_to_do(path: Path, name: str) -> None:
    (path / name).write_bytes((path / name).read_bytes()[:-2])
    with pytest.raises(AssayError, match=rf"{name}: .* bytes, but the manifest says") as caught:
        Corpus.open(path)
    assert caught.value.fix == f"Delete {path} and run `assay prepare` again."


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(path: Path, name: str) -> None:
    (path / name).unlink()
    with pytest.raises(AssayError, match=f"{name}: missing"):
        Corpus.open(path)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_is_found_when_asked_for(path: Path, name: str) -> None:
    data = bytearray((path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (path / name).write_bytes(data)
    with pytest.raises(AssayError, match=f"{name}: its SHA-256"):
        Corpus.open(path, verify=True)


def test_a_whole_corpus_passes_verification(path: Path) -> None:
    assert Corpus.open(path, verify=True).manifest == Corpus.open(path).manifest


def test_a_cut_manifest_is_an_error(path: Path) -> None:
    (path / "manifest.json").write_text((path / "manifest.json").read_text()[:-40])
    with pytest.raises(AssayError, match="not whole JSON"):
        Corpus.open(path)


def test_another_format_is_refused(path: Path) -> None:
    raw = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**raw, "format": 99}))
    with pytest.raises(AssayError, match="a corpus of format 99, expected 1"):
        Corpus.open(path)


def test_tokens_are_mapped_and_cannot_be_written(path: Path) -> None:
    shard = Corpus.open(path).shards[0]
    assert type(shard) is np.ndarray
    assert isinstance(shard.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        shard[0] = 1


def test_a_corpus_travels_between_processes_as_its_path(path: Path) -> None:
    corpus = Corpus.open(path)
    sent = pickle.dumps(corpus)
    assert len(sent) < 5_000
    np.testing.assert_array_equal(pickle.loads(sent).shards[0], corpus.shards[0])
