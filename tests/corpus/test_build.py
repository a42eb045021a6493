"""A corpus has every document once, on one side, ended by EOS; it is built once and appears only when complete."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from assay.config.tokenizer import TokenizerSpec
from assay.core.errors import AssayError
from assay.corpus import build
from assay.corpus.build import prepare
from assay.corpus.holdout import document_hash, is_held_out
from assay.corpus.manifest import corpus_identity
from assay.corpus.shards import Corpus
from assay.corpus.source_reader import fresh_digest
from assay.corpus.tokenizer import END, load_tokenizer, make_tokenizer
from tests.corpus.conftest import MakeCorpus, corpus_from, some_texts, source_of, write_jsonl


def train_texts(corpus: Corpus, tokenizer: Path) -> list[str]:
    encoder, end = load_tokenizer(tokenizer)
    documents = [corpus.document(index) for index in range(corpus.documents)]
    assert all(document[-1] == end and end not in document[:-1] for document in documents)
    return [encoder.decode(document[:-1].tolist()) for document in documents]


def held_out_texts(corpus: Corpus, tokenizer: Path) -> list[str]:
    encoder, end = load_tokenizer(tokenizer)
    held = list(corpus.validation())
    assert all(ids[-1] == end for _, ids, _ in held)
    return [encoder.decode(ids[:-1].tolist()) for _, ids, _ in held]


def test_every_document_occurs_once_on_one_side(corpus_of: MakeCorpus, tokenizer: Path) -> None:
    texts = [*some_texts(500), f"a page with {END} in its text", "  spaces \n\n"]
    corpus = corpus_of(texts)
    train, held = train_texts(corpus, tokenizer), held_out_texts(corpus, tokenizer)
    assert sorted([*train, *held]) == sorted(texts)
    assert train == [text for text in texts if text in set(train)]  # in the order of the source


def test_the_manifest_counts_the_contents(corpus_of: MakeCorpus, tokenizer: Path) -> None:
    texts = some_texts(500)
    corpus = corpus_of([*texts, "", ""])
    manifest, held = corpus.manifest, list(corpus.validation())
    assert manifest.tokens == corpus.tokens == sum(map(len, corpus.shards)) == corpus.offsets[-1]
    assert manifest.documents + manifest.validation_documents == 500
    assert manifest.empty_documents == 2
    assert manifest.bytes + manifest.validation_bytes == sum(len(text.encode()) for text in texts)
    assert manifest.validation_bytes == sum(size for _, _, size in held)
    assert manifest.validation_tokens == sum(len(ids) for _, ids, _ in held)
    assert manifest.validation_documents == len(held)
    assert (manifest.tokenizer, manifest.dtype) == (tokenizer.name, "uint16")
    assert corpus.bytes_per_token == manifest.bytes / manifest.tokens


def test_the_hash_of_a_text_decides_its_side_in_every_source(corpus_of: MakeCorpus, tokenizer: Path) -> None:
    shared = some_texts(400, seed=1)
    first = corpus_of([*shared, *some_texts(3000, seed=2)], name="first")
    second = corpus_of([*some_texts(3000, seed=3), *shared], name="second")
    sides = [{text for text in held_out_texts(corpus, tokenizer) if text in set(shared)} for corpus in (first, second)]
    ruled = {text for text in shared if is_held_out(document_hash(text.encode()))}
    assert len(ruled) > 2
    for held, corpus in zip(sides, (first, second), strict=True):
        assert ruled <= held
        assert len(held - ruled) <= corpus.manifest.validation_by_rank


def test_held_out_documents_are_in_order_of_hash(corpus_of: MakeCorpus, tokenizer: Path) -> None:
    corpus = corpus_of(some_texts(1000))
    hashes = [digest for digest, _, _ in corpus.validation()]
    assert hashes == sorted(hashes)
    texts = held_out_texts(corpus, tokenizer)
    assert hashes == [document_hash(text.encode()).hex() for text in texts]


def test_a_source_of_few_documents_holds_out_at_least_one(corpus_of: MakeCorpus) -> None:
    texts = [text for text in some_texts(100) if not is_held_out(document_hash(text.encode()))][:12]
    manifest = corpus_of(texts).manifest
    assert (manifest.validation_documents, manifest.documents) == (1, 11)
    assert manifest.validation_by_rank == 1


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (["alone"], "so no document is left for training"),
        (["same"] * 5, "so no document is left for training"),
        (["", ""], "are empty"),
    ],
)
def test_a_source_that_cannot_be_both_trained_and_measured_is_refused(
    corpus_of: MakeCorpus, tmp_path: Path, texts: Sequence[str], problem: str
) -> None:
    with pytest.raises(AssayError, match=problem):
        corpus_of(texts)
    assert not [path for path in (tmp_path / "corpora").iterdir() if path.suffix != ".lock"]


def test_the_same_text_in_any_container_becomes_the_same_tokens(tmp_path: Path, tokenizer: Path) -> None:
    texts = some_texts(200)
    single = corpus_from(source_of(write_jsonl(tmp_path / "single.jsonl", texts)), tokenizer, tmp_path)
    many = [write_jsonl(tmp_path / f"many/{i}.jsonl", texts[i * 50 : (i + 1) * 50]) for i in range(4)]
    split = corpus_from(source_of(*many, name="other"), tokenizer, tmp_path)
    assert single.path != split.path
    np.testing.assert_array_equal(np.concatenate(single.shards), np.concatenate(split.shards))


def test_documents_never_span_two_shards(tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of(write_jsonl(tmp_path / "web.jsonl", some_texts(300)))
    whole = corpus_from(source, tokenizer, tmp_path / "whole")
    monkeypatch.setattr(build, "SHARD_TOKENS", 500)
    parts = corpus_from(source, tokenizer, tmp_path / "parts")
    assert len(whole.shards) == 1
    assert len(parts.shards) > 10
    assert max(map(len, parts.shards)) <= 500
    assert set(parts.shard_starts) <= set(parts.offsets)
    assert train_texts(parts, tokenizer) == train_texts(whole, tokenizer)
    assert held_out_texts(parts, tokenizer) == held_out_texts(whole, tokenizer)


def test_a_vocabulary_above_65536_takes_four_bytes_a_token(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({END: 0, "?": 1, **{f"w{i}": i for i in range(2, 70_000)}}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.save(str(tmp_path / "words.json"))
    folder = make_tokenizer(
        TokenizerSpec(name="words", file=str(tmp_path / "words.json"), end_token=END), {}, "words", tmp_path
    ).parent
    source = source_of(write_jsonl(tmp_path / "a.jsonl", [f"w{69_000 + i} w2" for i in range(50)]))
    corpus = corpus_from(source, folder, tmp_path)
    assert corpus.manifest.dtype == "uint32"
    assert corpus.manifest.vocabulary == 70_000
    assert {69_000 <= int(corpus.document(i)[0]) < 69_050 for i in range(corpus.documents)} == {True}


def test_the_identity_follows_the_text_and_the_tokenizer() -> None:
    assert len({corpus_identity(digest, tokenizer) for digest in "ab" for tokenizer in "ab"}) == 4
    assert corpus_identity("a", "b") == corpus_identity("a", "b")


# --- built once, and complete


def test_an_existing_corpus_is_not_built_again(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(write_jsonl(tmp_path / "web.jsonl", some_texts(50)))
    corpus_from(source, tokenizer, tmp_path)
    monkeypatch.setattr(build, "_build", lambda *_: pytest.fail("built again"))
    assert corpus_from(source, tokenizer, tmp_path).documents > 0


PREPARE = """
import os, signal, sys
from pathlib import Path
from assay.corpus import build
from assay.config.sources import Source
folder, tokenizer, digest, kill = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4] == "kill"
build.BATCH_BYTES = 1000
source = Source(name="web", files=(f"{folder}/web.jsonl",), domain="web", language="en", license="MIT")
make = build._build
def made(*arguments):
    with open(folder / "made", "a") as log: log.write("x")
    return make(*arguments)
build._build = made
def progress(fraction):
    if kill and fraction > 0.5: os.kill(os.getpid(), signal.SIGKILL)
build.prepare(source, digest=digest, tokenizer=tokenizer, identity="identity", folder=folder / "corpora", progress=progress)
"""


def test_two_processes_build_a_corpus_once(tmp_path: Path, tokenizer: Path) -> None:
    source = source_of(write_jsonl(tmp_path / "web.jsonl", some_texts(3000)))
    command = [sys.executable, "-c", PREPARE, tmp_path, tokenizer, fresh_digest(source), "live"]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert (tmp_path / "made").read_text() == "x"
    manifest = Corpus.open(tmp_path / "corpora/identity", verify=True).manifest
    assert manifest.documents + manifest.validation_documents == 3000


def test_a_killed_process_leaves_no_corpus(tmp_path: Path, tokenizer: Path) -> None:
    source = source_of(write_jsonl(tmp_path / "web.jsonl", some_texts(1000)))
    digest = fresh_digest(source)
    killed = subprocess.run([sys.executable, "-c", PREPARE, tmp_path, tokenizer, digest, "kill"], check=False)
    assert killed.returncode == -signal.SIGKILL
    corpora = tmp_path / "corpora"
    assert not (corpora / "identity").exists()
    assert list(corpora.glob(".identity.*.tmp/train-00000.tokens"))  # killed halfway
    with pytest.raises(AssayError, match="no corpus exists"):
        Corpus.open(corpora / "identity")
    corpus = prepare(source, digest=digest, tokenizer=tokenizer, identity="identity", folder=corpora)
    assert corpus.documents + corpus.manifest.validation_documents == 1000
    assert sorted(path.name for path in corpora.iterdir()) == [".identity.lock", "identity"]


def test_a_broken_line_leaves_no_corpus(tmp_path: Path, tokenizer: Path) -> None:
    write_jsonl(tmp_path / "web.jsonl", some_texts(100))
    with (tmp_path / "web.jsonl").open("a") as file:
        file.write("broken\n")
    with pytest.raises(AssayError, match=r"web\.jsonl:101: the line is not JSON"):
        corpus_from(source_of(tmp_path / "web.jsonl"), tokenizer, tmp_path)
    assert [path.suffix for path in (tmp_path / "corpora").iterdir()] == [".lock"]


def test_a_source_that_changed_since_the_plan_is_refused(tmp_path: Path, tokenizer: Path) -> None:
    source = source_of(write_jsonl(tmp_path / "web.jsonl", some_texts(100)))
    digest = fresh_digest(source)
    write_jsonl(tmp_path / "web.jsonl", some_texts(90))
    with pytest.raises(AssayError, match="its files changed since its digest was computed"):
        prepare(source, digest=digest, tokenizer=tokenizer, identity="identity", folder=tmp_path)
    assert not (tmp_path / "identity").exists()


def test_a_source_that_changes_during_tokenization_is_refused(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "BATCH_BYTES", 1000)
    source = source_of(write_jsonl(tmp_path / "web.jsonl", some_texts(100)))

    def touch(fraction: float) -> None:
        os.utime(tmp_path / "web.jsonl", (fraction, fraction))

    with pytest.raises(AssayError, match="its files changed while it was tokenized"):
        prepare(
            source,
            digest=fresh_digest(source),
            tokenizer=tokenizer,
            identity="identity",
            folder=tmp_path,
            progress=touch,
        )
    assert not (tmp_path / "identity").exists()


def test_progress_rises_to_1(tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "BATCH_BYTES", 5000)
    source = source_of(write_jsonl(tmp_path / "web.jsonl", some_texts(1000)))
    fractions: list[float] = []
    prepare(
        source,
        digest=fresh_digest(source),
        tokenizer=tokenizer,
        identity="identity",
        folder=tmp_path,
        progress=fractions.append,
    )
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert len(fractions) > 5
