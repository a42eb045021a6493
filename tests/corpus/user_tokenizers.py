"""Tokenizer files such as users bring: of all model types, with settings that training must not use."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

END = "<|stop|>"
"""A name that no list of known names contains."""
LINES = (
    "The ferry left the pier at dawn; nobody waved.\n",
    "Its wake (a long white line) reached <b>both</b> shores: 1, 2, 3!\n",
    "By noon the harbor was quiet again... and the </s>gulls<s> slept.\n",
)
TEXT = "".join(LINES) * 3


def byte_level(*, end: str = END, prefix: bool = False, specials: Sequence[str] = ()) -> Tokenizer:
    """A byte-level BPE that restores every text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=[end, *specials], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    return tokenizer


def added_end(*, end: str = END) -> Tokenizer:
    """A byte-level BPE whose end is an added token that is not special."""
    tokenizer = byte_level(end="<pad>")
    tokenizer.add_tokens([AddedToken(end, special=False)])
    return tokenizer


def unigram(*, end: str = "</s>", characters: str = TEXT) -> Tokenizer:
    """A Unigram model with its end in the vocabulary, as converted SentencePiece models have it."""
    pieces = [("<unk>", 0.0), ("<s>", 0.0), (end, 0.0), ("\u2581the", -3.0), ("er", -4.0)]
    pieces += [(character, -6.0) for character in sorted({*characters.replace(" ", "\u2581"), "\u2581"})]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return tokenizer


def byte_fallback(*, end: str = "</s>") -> Tokenizer:
    """A BPE over whole texts with Metaspace's normalizer and bytes for unknown characters, as Llama 2 and Gemma have."""
    characters = sorted({*TEXT.replace(" ", "\u2581"), "\u2581"})
    names = ["<unk>", "<s>", end, *(f"<0x{byte:02X}>" for byte in range(256)), *characters, "\u2581t", "\u2581th"]
    model = models.BPE(
        vocab={name: number for number, name in enumerate(dict.fromkeys(names))},
        merges=[("\u2581", "t"), ("\u2581t", "h")],
        unk_token="<unk>",
        byte_fallback=True,
        fuse_unk=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([end])
    return tokenizer


def wordpiece(*, end: str = "[STOP]", lowercase: bool = False) -> Tokenizer:
    """A WordPiece model that splits at spaces only, so that it may keep the written name of its end whole."""
    characters = sorted({*TEXT} - {" ", "\n"} | {*end})
    names = ["[UNK]", end, *characters, *(f"##{character}" for character in characters)]
    tokenizer = Tokenizer(models.WordPiece({name: number for number, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    if lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    return tokenizer


def merged_end(*, end: str = "</s>") -> Tokenizer:
    """A byte-level BPE whose merges build the end, and which looks whole words up before it merges."""
    tokenizer = byte_level(end="<pad>")
    definition = json.loads(tokenizer.to_str())
    model = definition["model"]
    for left, right in [("<", "/"), ("</", "s"), ("</s", ">")]:
        model["vocab"].setdefault(left + right, len(model["vocab"]))
        model["merges"].insert(0, [left, right])
    model["merges"].sort(key=lambda pair: "</" not in "".join(pair))
    model["ignore_merges"] = True
    definition["pre_tokenizer"]["use_regex"] = False
    return Tokenizer.from_str(json.dumps(definition))


def template(*pieces: str, end: str = END, begin: str = "<begin>") -> Tokenizer:
    """A byte-level BPE whose post-processor adds tokens."""
    tokenizer = byte_level(end=end, specials=[begin])
    ids = [(name, tokenizer.token_to_id(name)) for name in (end, begin)]
    tokenizer.post_processor = processors.TemplateProcessing(single=" ".join(pieces), special_tokens=ids)
    return tokenizer


def joins(*, end: str = END) -> Tokenizer:
    """A byte-level BPE that splits at line ends only, so that a token may span a prompt and its answer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=[end], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["Answer: C\n", "Answer: D\n"] * 40, trainer)
    return tokenizer


def write_tokenizer(
    tokenizer: Tokenizer,
    folder: Path,
    *,
    config: dict[str, Any] | None = None,
    generation: dict[str, Any] | None = None,
    changes: dict[str, Any] | None = None,
) -> Path:
    """Write `tokenizer.json` and the files next to it.

    Args:
        tokenizer: the tokenizer.
        folder: its folder.
        config: content of `tokenizer_config.json`.
        generation: content of `generation_config.json`.
        changes: keys of `tokenizer.json` to set, or of its `model`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    definition = json.loads(tokenizer.to_str())
    for key, value in (changes or {}).items():
        (definition["model"] if key in definition["model"] else definition)[key] = value
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(definition, ensure_ascii=False), encoding="utf-8")
    for name, content in (("tokenizer_config.json", config), ("generation_config.json", generation)):
        if content is not None:
            (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return path


def restores(tokenizer: Any, texts: Iterable[str]) -> bool:
    """Whether decoding restores all texts."""
    return all(tokenizer.decode(tokenizer.encode(text)) == text for text in texts)
