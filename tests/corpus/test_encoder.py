"""One encoding for training and evaluation: deterministic, without additions, and no text contains the end of text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from assay.core.errors import AssayError
from assay.corpus.encoder import TextEncoder
from tests.corpus import user_tokenizers as users
from tests.corpus.user_tokenizers import END, TEXT

MODELS: dict[str, tuple[Callable[[], Tokenizer], str]] = {
    "byte_level": (users.byte_level, END),
    "prefix_space": (lambda: users.byte_level(prefix=True), END),
    "added_end": (users.added_end, END),
    "unigram": (users.unigram, "</s>"),
    "byte_fallback": (users.byte_fallback, "</s>"),
    "wordpiece": (users.wordpiece, "[STOP]"),
    "merged_end": (users.merged_end, "</s>"),
}


def encoder_of(tokenizer: Tokenizer, end: str, **changes: object) -> TextEncoder:
    definition = json.loads(tokenizer.to_str())
    for key, value in changes.items():
        (definition["model"] if key in definition["model"] else definition)[key] = value
    return TextEncoder(definition, end)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("text", ["{}", "a {} b", "a{}b", "the {}\n{}{} end"])
def test_the_written_end_becomes_other_tokens_of_the_same_text(name: str, text: str) -> None:
    make, end = MODELS[name]
    encoder, written = encoder_of(make(), end), text.format(end, end, end)
    ids = encoder.encode(written)
    assert encoder.end not in ids
    assert encoder.encode_batch([written, "the"]) == [ids, encoder.encode("the")]
    decoded = encoder.decode(ids)
    assert decoded.split() == written.split() if name == "wordpiece" else decoded.lstrip(" ") == written


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"wordpiece"}))
def test_other_text_has_the_ids_of_the_library(name: str) -> None:
    make, end = MODELS[name]
    text = TEXT.replace("</s>", "")
    assert encoder_of(make(), end).encode(text) == make().encode(text, add_special_tokens=False).ids


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=60))
def test_byte_level_restores_every_text(text: str) -> None:
    encoder = encoder_of(users.byte_level(), END)
    assert encoder.decode(encoder.encode(text)) == text


def test_an_end_that_is_also_the_unknown_token_is_refused_where_text_needs_it() -> None:
    tokenizer = Tokenizer(models.WordLevel({END: 0, "gull": 1}, unk_token=END))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    encoder = encoder_of(tokenizer, END)
    assert encoder.encode("gull gull") == [1, 1]
    with pytest.raises(
        AssayError, match=r"text as its end-of-text token .* because the end-of-text token is also the unknown token"
    ):
        encoder.encode("gull ferry")


def test_dropout_is_off() -> None:
    encoder = encoder_of(users.byte_level(), END, dropout=0.5)
    assert encoder.encode(TEXT) == encoder_of(users.byte_level(), END).encode(TEXT)
    assert len({tuple(encoder.encode(TEXT)) for _ in range(10)}) == 1


def test_truncation_and_padding_are_off() -> None:
    short = {"max_length": 8, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}
    padded = {
        "strategy": {"Fixed": 999}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": END,
    }  # fmt: skip
    encoder = encoder_of(users.byte_level(), END, truncation=short, padding=padded)
    assert encoder.encode(TEXT) == encoder_of(users.byte_level(), END).encode(TEXT)


@pytest.mark.parametrize("pieces", [("<begin>", "$A"), ("$A", END), ("<begin>", "$A", END)])
def test_a_template_adds_nothing(pieces: tuple[str, ...]) -> None:
    encoder = encoder_of(users.template(*pieces), END)
    assert encoder.decode(encoder.encode(TEXT)) == TEXT
    assert encoder.tokenizer.num_special_tokens_to_add(False) == 0


def test_a_missing_decoder_is_that_of_the_model() -> None:
    letters = {END: 0, **{letter: number for number, letter in enumerate("gul s", 1)}}
    plain, word = Tokenizer(models.BPE(letters, [])), users.wordpiece()
    word.decoder = None
    suffixed = Tokenizer(models.BPE({END: 0, "a": 1, "a</w>": 2}, [], end_of_word_suffix="</w>"))
    suffixed.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    for tokenizer, end, text in [(plain, END, "gulls gul"), (word, "[STOP]", "the gulls"), (suffixed, END, "aa a")]:
        encoder = encoder_of(tokenizer, end)
        assert encoder.decode(encoder.encode(text)).strip() == text


@pytest.mark.parametrize("name", ["byte_level", "unigram"])
def test_a_missing_decoder_is_that_of_the_pre_tokenizer(name: str) -> None:
    make, end = MODELS[name]
    encoder = encoder_of(make(), end, decoder=None)
    assert encoder.decode(encoder.encode(TEXT)) == TEXT


@pytest.mark.parametrize("name", ["prefix_space", "unigram", "byte_fallback"])
def test_a_continuation_gets_no_space_of_its_own(name: str) -> None:
    make, end = MODELS[name]
    encoder = encoder_of(make(), end)
    pair = [*encoder.encode("the harb"), *encoder.encode_continuation("or was quiet")]
    assert encoder.decode(pair).lstrip(" ") == "the harbor was quiet"


def test_the_unknown_token_determines_no_text() -> None:
    encoder = encoder_of(users.unigram(characters="the "), "</s>")
    assert encoder.decode(encoder.encode("the \u00e9 the")) == "the  the"


def test_a_damaged_folder_is_an_error(tmp_path: Path) -> None:
    users.write_tokenizer(users.byte_level(), tmp_path, config={"eos_token": "<other>"})
    with pytest.raises(AssayError, match="the token '<other>' is missing"):
        TextEncoder.open(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(AssayError, match="missing or incomplete"):
        TextEncoder.open(tmp_path)
    with pytest.raises(AssayError, match="missing or incomplete"):
        TextEncoder.open(tmp_path / "nothing")
