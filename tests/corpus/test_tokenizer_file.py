"""The end-of-text token of a user's tokenizer is declared, never guessed, and identities of right tokenizers stay."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, processors

from assay.config.tokenizer import TokenizerSpec
from assay.core.errors import AssayError
from assay.core.fingerprint import fingerprint
from assay.corpus.encoder import TextEncoder
from assay.corpus.tokenizer import load_tokenizer, make_tokenizer, tokenizer_identity
from assay.corpus.tokenizer_file import TokenizerFile, standardize
from tests.corpus import user_tokenizers as users
from tests.corpus.user_tokenizers import END, TEXT, write_tokenizer


def spec(path: Path, **fields: Any) -> TokenizerSpec:
    return TokenizerSpec(name="ours", file=str(path), **fields)


def tags() -> Tokenizer:
    """A vocabulary with HTML tags whose names end documents in other tokenizers."""
    tokenizer = users.byte_level(end="<eos>", specials=["<pad>", "<bos>"])
    tokenizer.add_tokens([AddedToken(tag, special=False) for tag in ("<s>", "</s>")])
    return tokenizer


@pytest.mark.parametrize(
    ("config", "generation", "origin"),
    [
        ({"eos_token": "<eos>"}, None, "tokenizer_config.json"),
        ({"eos_token": {"content": "<eos>", "lstrip": False}}, None, "tokenizer_config.json"),
        (None, {"eos_token_id": 0}, "generation_config.json"),
        ({"bos_token": "<bos>", "eos_token": None}, {"eos_token_id": [0]}, "generation_config.json"),
        ({"eos_token": "<eos>"}, {"eos_token_id": [2, 0]}, "tokenizer_config.json"),
        ({"eos_token": "<eos>"}, {"temperature": 1.0}, "tokenizer_config.json"),
    ],
)
def test_files_next_to_the_tokenizer_declare_its_end(
    tmp_path: Path, config: dict[str, Any] | None, generation: dict[str, Any] | None, origin: str
) -> None:
    path = write_tokenizer(tags(), tmp_path, config=config, generation=generation)
    end = TokenizerFile.read(spec(path)).end
    assert (end.name, end.id, Path(end.origin).name) == ("<eos>", 0, origin)
    assert TokenizerFile.read(spec(tmp_path)).end == end  # the folder stands for its file


def test_the_option_wins(tmp_path: Path) -> None:
    path = write_tokenizer(tags(), tmp_path, config={"eos_token": "</s>"}, generation={"eos_token_id": 99_999})
    assert TokenizerFile.read(spec(path, end_token="<eos>")).end.name == "<eos>"


@pytest.mark.parametrize(
    ("config", "generation", "fields", "problem"),
    [
        (None, None, {}, "is unknown"),
        ({}, {"eos_token_id": None}, {}, "is unknown"),
        (None, {"eos_token_id": [0, 2]}, {}, "declare several end-of-text tokens: '<eos>', '<bos>'"),
        ({"eos_token": "</s>"}, {"eos_token_id": 0}, {}, "declare several end-of-text tokens: '</s>', '<eos>'"),
        ({"eos_token": "<end>"}, None, {}, r"tokenizer_config\.json: '<end>' is no token of"),
        (None, {"eos_token_id": 4_000}, {}, "eos_token_id 4000 is no id of"),
        (None, {"eos_token_id": 10**30}, {}, "eos_token_id 10+ is no id of"),
        ({"eos_token": "<eos>"}, None, {"end_token": "<end>"}, r"tokenizer\.end_token: '<end>' is no token of"),
    ],
)
def test_an_unknown_end_is_an_error_with_the_candidates(
    tmp_path: Path,
    config: dict[str, Any] | None,
    generation: dict[str, Any] | None,
    fields: dict[str, Any],
    problem: str,
) -> None:
    path = write_tokenizer(tags(), tmp_path, config=config, generation=generation)
    with pytest.raises(AssayError, match=problem) as caught:
        make_tokenizer(spec(path, **fields), {}, "made", tmp_path / "store")
    assert "`end_token`" in caught.value.fix
    if "several" not in problem:
        assert "'<eos>', '<pad>', '<bos>', '<s>', '</s>'" in caught.value.fix
    assert not (tmp_path / "store" / "made").exists()


def test_without_added_tokens_the_error_lists_marked_names_of_the_vocabulary(tmp_path: Path) -> None:
    names = ["word", "a<b", "<\uff5cend\u2581of\u2581sentence\uff5c>", "[SEP]", "<|im_end|>"]
    tokenizer = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}))
    with pytest.raises(AssayError, match="is unknown") as caught:
        _ = TokenizerFile.read(spec(write_tokenizer(tokenizer, tmp_path))).end
    assert caught.value.fix.endswith("Candidates: '<|im_end|>', '<\uff5cend\u2581of\u2581sentence\uff5c>', '[SEP]'.")


@pytest.mark.parametrize("content", ["", "[]", "{", "\x00", '{"eos_token": '])
def test_a_broken_file_next_to_the_tokenizer_is_an_error(tmp_path: Path, content: str) -> None:
    path = write_tokenizer(tags(), tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(content, encoding="utf-8")
    with pytest.raises(AssayError, match=r"tokenizer_config\.json"):
        _ = TokenizerFile.read(spec(path)).end


def test_byte_order_marks_do_not_matter(tmp_path: Path) -> None:
    path = write_tokenizer(tags(), tmp_path, config={"eos_token": "<eos>"})
    for file in (path, tmp_path / "tokenizer_config.json"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    made = make_tokenizer(spec(path), {}, "made", tmp_path)
    assert load_tokenizer(made)[1] == 0


def test_a_folder_without_tokenizer_json_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a")
    with pytest.raises(AssayError, match=r"tokenizer\.json cannot be read") as caught:
        tokenizer_identity(spec(tmp_path), {})
    assert "save_pretrained" in caught.value.fix


# --- identities


def old_identity(path: Path) -> str:
    return fingerprint("tokenizer", {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()})


@pytest.mark.parametrize("end", ["<|endoftext|>", "</s>", "<eos>"])
def test_a_tokenizer_that_was_encoded_correctly_keeps_its_identity(tmp_path: Path, end: str) -> None:
    declared = write_tokenizer(users.byte_level(end=end), tmp_path / "declared", config={"eos_token": end})
    bare = write_tokenizer(users.byte_level(end=end), tmp_path / "bare")
    given = tokenizer_identity(spec(bare, end_token=end), {})
    assert given == tokenizer_identity(spec(declared), {}) == tokenizer_identity(spec(bare), {}) == old_identity(bare)


def test_the_template_changes_no_corpus_and_no_identity(tmp_path: Path) -> None:
    path = write_tokenizer(users.template("<begin>", "$A", end="<eos>"), tmp_path, config={"eos_token": "<eos>"})
    assert tokenizer_identity(spec(path), {}) == old_identity(path)


@pytest.mark.parametrize(
    ("tokenizer", "end", "changes"),
    [
        (tags(), "<eos>", {}),  # earlier versions ended documents at `</s>`
        (users.byte_level(), END, {}),  # earlier versions refused it
        (users.added_end(end="<|endoftext|>"), "<|endoftext|>", {}),
        (users.unigram(), "</s>", {}),
        (users.merged_end(), "</s>", {}),
        (users.byte_level(end="</s>"), "</s>", {"dropout": 0.1}),
    ],
)
def test_a_tokenizer_that_becomes_other_tokens_gets_another_identity(
    tmp_path: Path, tokenizer: Tokenizer, end: str, changes: dict[str, Any]
) -> None:
    path = write_tokenizer(tokenizer, tmp_path, changes=changes)
    assert tokenizer_identity(spec(path, end_token=end), {}) != old_identity(path)


@pytest.mark.parametrize(
    ("processor", "added"),
    [
        (processors.BertProcessing(("</s>", 4), ("<s>", 3)), ("<s>", "</s>")),
        (processors.RobertaProcessing(("</s>", 4), ("<s>", 3)), ("<s>", "</s>")),
        (processors.Sequence([processors.ByteLevel(), processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 3)])]), ("<s>",)),
        (processors.TemplateProcessing("$A", special_tokens=[]), ()),
        (processors.ByteLevel(trim_offsets=True), ()),
    ],
    ids=["bert", "roberta", "sequence", "empty_template", "byte_level"],
)  # fmt: skip
def test_only_a_post_processor_that_adds_tokens_is_removed(
    tmp_path: Path, processor: Any, added: tuple[str, ...]
) -> None:
    tokenizer = tags()
    tokenizer.post_processor = processor
    file = TokenizerFile.read(spec(write_tokenizer(tokenizer, tmp_path), end_token="<eos>"))
    assert file.template == added
    assert file.changes == (("template",) if added else ())


# --- the prepared tokenizer


def test_the_prepared_tokenizer_encodes_for_all_programs_like_training(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    truncation = {"max_length": 8, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}
    changes = {"dropout": 0.3, "truncation": truncation}
    path = write_tokenizer(users.template("<begin>", "$A", END), tmp_path / "given", changes=changes)
    made = make_tokenizer(spec(path, end_token=END), {}, "made", tmp_path)
    encoder, end = load_tokenizer(made)
    loaded = AutoTokenizer.from_pretrained(made.parent)
    assert loaded(TEXT).input_ids == encoder.encode(TEXT).ids == users.byte_level(specials=["<begin>"]).encode(TEXT).ids
    assert (loaded.eos_token, loaded.eos_token_id) == (END, end)


def test_a_definition_without_problems_is_unchanged() -> None:
    for tokenizer, end in ((users.byte_level(), END), (users.byte_fallback(), "</s>"), (users.wordpiece(), "[STOP]")):
        definition = json.loads(tokenizer.to_str())
        assert standardize(definition, end) == (definition, ())


def test_ids_without_tokens_count_into_the_vocabulary(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({END: 0, "gull": 1, "ferry": 90_000}))
    file = TokenizerFile.read(spec(write_tokenizer(tokenizer, tmp_path)))
    assert (file.tokenizer.get_vocab_size(), file.vocabulary) == (3, 90_001)


# --- broken files

VALUES = (None, 0, -1, 1e9, "", {}, [], "x", True, [None], {"type": "Sequence"}, [["a", 1]])


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value within JSON, of the first few of long collections."""
    if at:
        yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in itertools.islice(items, 10):
        yield from places(inner, (*at, key))


@pytest.mark.parametrize("seed", range(80))
def test_a_changed_file_is_accepted_or_an_error_with_a_message(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    make, end = draw.choice(
        [(users.byte_level, END), (users.unigram, "</s>"), (users.wordpiece, "[STOP]"), (users.joins, END)]
    )
    definition = json.loads(make().to_str())
    *parents, last = draw.choice(list(places(definition)))
    node = definition
    for key in parents:
        node = node[key]
    if draw.random() < 0.3:
        del node[last]
    else:
        node[last] = draw.choice(VALUES)
    text = json.dumps(definition)
    path = tmp_path / "tokenizer.json"
    path.write_text(text[: draw.randrange(len(text))] if draw.random() < 0.1 else text, encoding="utf-8")
    config = draw.choice(
        [{"eos_token": end}, {"eos_token": 3}, [], {"eos_token": {"content": None}}, {"eos_token": {"content": end}}]
    )
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    declared = spec(path, end_token=draw.choice([None, end]))
    fix = "accepted"
    try:
        tokenizer_identity(declared, {})
        encoder = TextEncoder.open(make_tokenizer(declared, {}, "made", tmp_path))
        encoder.encode(f"the {end} gull")
        encoder.encode_continuation("the")
    except AssayError as error:
        fix = error.fix
    assert fix
