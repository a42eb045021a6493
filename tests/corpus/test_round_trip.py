"""Text that a tokenizer loses is measured for each source, and refused above the declared limit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from assay.core.errors import AssayError
from assay.core.files import read_json, write_json
from assay.corpus.build import prepare
from assay.corpus.encoder import TextEncoder
from assay.corpus.manifest import read_manifest
from assay.corpus.round_trip import PROBE, SAMPLE_DOCUMENTS, measure_round_trip, measure_source
from assay.corpus.shards import Corpus
from assay.corpus.source_reader import fresh_digest
from tests.corpus import user_tokenizers as users
from tests.corpus.conftest import source_of, write_jsonl
from tests.corpus.user_tokenizers import END, write_tokenizer


def encoder_of(tokenizer: Tokenizer, end: str) -> TextEncoder:
    return TextEncoder(json.loads(tokenizer.to_str()), end)


def normalized(normalizer: normalizers.Normalizer) -> TextEncoder:
    tokenizer = users.byte_level()
    tokenizer.normalizer = normalizer
    return encoder_of(tokenizer, END)


def without_unknown() -> TextEncoder:
    """A BPE of the letters a to e without an unknown token: other characters vanish."""
    tokenizer = Tokenizer(models.BPE({END: 0, **{letter: number for number, letter in enumerate("abcde ", 1)}}, []))
    return encoder_of(tokenizer, END)


def bert() -> TextEncoder:
    tokenizer = users.wordpiece()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return encoder_of(tokenizer, "[STOP]")


@pytest.mark.parametrize(
    ("encoder", "text", "lost"),
    [
        (normalized(normalizers.NFKC()), "\ufb01ve \u00bd", 3 + 2),
        (normalized(normalizers.NFC()), "e\u0301", 1 + 2),
        (normalized(normalizers.Lowercase()), "Harbor Bay", 2),
        (normalized(normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])), "caf\u00e9", 2),
        (normalized(normalizers.Strip()), "  gull \n", 4),
        (normalized(normalizers.Replace("\n", " ")), "a\nb\nc", 2),
        (without_unknown(), "abc \u00e9z abc", 3),
        (encoder_of(users.unigram(characters="the "), "</s>"), "the \u65e5\u65e5 the", 6),
        (bert(), "the gulls\n\nslept", 2),
        (encoder_of(users.byte_level(), END), PROBE, 0),
        (encoder_of(users.byte_level(prefix=True), END), PROBE, 0),
        (normalized(normalizers.NFC()), "caf\u00e9 e", 0),
    ],
)
def test_characters_that_decoding_does_not_restore_are_lost(encoder: TextEncoder, text: str, lost: int) -> None:
    measured = measure_round_trip(encoder, [text])
    assert (measured.bytes, measured.lost) == (len(text.encode()), lost)


def test_byte_fallback_restores_all_but_the_replacement_of_its_spaces() -> None:
    encoder = encoder_of(users.byte_fallback(), "</s>")
    assert measure_round_trip(encoder, [PROBE.replace("\u2581", "")]).lost == 0
    assert measure_round_trip(encoder, ["\u2581"]).lost == 3


def test_the_example_has_the_most_frequent_lost_characters() -> None:
    assert measure_round_trip(without_unknown(), ["azzzyyx"]).example == "zyx"


def test_the_beginning_of_a_source_is_measured(tmp_path: Path) -> None:
    texts = [f"abc \u00e9 {'a' * number}" for number in range(SAMPLE_DOCUMENTS + 50)]
    measured = measure_source(without_unknown(), source_of(write_jsonl(tmp_path / "a.jsonl", texts)))
    assert measured.bytes == sum(len(text.encode()) for text in texts[:SAMPLE_DOCUMENTS])
    assert measured.lost == 2 * SAMPLE_DOCUMENTS


def test_text_that_cannot_be_encoded_is_refused_with_its_source(tmp_path: Path) -> None:
    """WordLevel models without an unknown token raise a bare exception."""
    tokenizer = Tokenizer(models.WordLevel({END: 0, "gull": 1, "pier": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = write_tokenizer(tokenizer, tmp_path / "words", config={"eos_token": END}).parent
    source = source_of(write_jsonl(tmp_path / "web.jsonl", [*["gull pier"] * 50, "gull ferry"]))
    with pytest.raises(AssayError, match="source 'web': the tokenizer cannot encode the text: WordLevel error"):
        measure_source(TextEncoder.open(folder), source)
    with pytest.raises(AssayError, match="source 'web': the tokenizer cannot encode the text: WordLevel error"):
        prepare(source, digest=fresh_digest(source), tokenizer=folder, identity="i", folder=tmp_path / "corpora")


# --- corpora


def corpus_of(folder: Path, texts: list[str], *, limit: float) -> Corpus:
    tokenizer = users.byte_level()
    tokenizer.normalizer = normalizers.Lowercase()
    write_tokenizer(tokenizer, folder / "lower", config={"eos_token": END})
    source = source_of(write_jsonl(folder / "web.jsonl", texts))
    return prepare(
        source,
        digest=fresh_digest(source),
        tokenizer=folder / "lower",
        identity="identity",
        folder=folder / "corpora",
        max_lost_fraction=limit,
    )


def test_a_source_that_loses_more_than_the_limit_makes_no_corpus(tmp_path: Path) -> None:
    texts = [f"The Gulls Of Harbor {number}" for number in range(200)]
    with pytest.raises(
        AssayError,
        match=r"source 'web': the tokenizer loses 1\d\.\d\d% of the source's bytes, for example '.*'; expected at most 1\.00%",
    ):
        corpus_of(tmp_path, texts, limit=0.01)
    assert not (tmp_path / "corpora" / "identity").exists()


def test_a_loss_within_the_limit_is_in_the_manifest(tmp_path: Path) -> None:
    texts = [f"The gulls of the harbor number {number}" for number in range(200)]
    manifest = corpus_of(tmp_path, texts, limit=0.05).manifest
    assert manifest.validation_lost_bytes == manifest.validation_documents
    assert manifest.restored_bytes == pytest.approx(
        manifest.bytes * (1 - manifest.validation_documents / manifest.validation_bytes)
    )


def test_a_manifest_of_an_earlier_version_counts_all_bytes(tmp_path: Path) -> None:
    path = corpus_of(tmp_path, [f"gull {number}" for number in range(100)], limit=0.0).path
    record = read_json(path / "manifest.json")
    del record["validation_lost_bytes"]
    write_json(path / "manifest.json", record)
    manifest = read_manifest(path)
    assert manifest.validation_lost_bytes is None
    assert manifest.restored_bytes == manifest.bytes
