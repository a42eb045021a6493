"""Encode text for corpora and evaluations, without added tokens and without end-of-text tokens within a text."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.errors import AssayError, Damaged, NotFound, Refused
from assay.corpus.tokenizer_file import CONFIG, FILE, eos_token_of, standardize

if TYPE_CHECKING:
    from tokenizers import Tokenizer

UNUSABLE = "\0end of text\0"
"""Placeholder for the end-of-text token in the vocabulary of a model that must not produce this token."""


class TextEncoder:
    """Encoder and decoder of text as in training: without template, truncation, padding or sampling.

    The end-of-text token never occurs within an encoded text. If a text contains the written name of this token, the
    encoder produces other tokens for the name, with every kind of model (see `_spelled`).
    """

    def __init__(self, definition: Mapping[str, Any], end: str) -> None:
        """Create the encoder of a tokenizer.

        Args:
            definition: content of a `tokenizer.json`.
            end: the end-of-text token.

        Raises:
            Damaged: the tokenizer lacks the token.
        """
        self._definition = standardize(definition, end)[0]
        self.tokenizer: Tokenizer = _build(self._definition)
        number = self.tokenizer.token_to_id(end)
        if number is None:
            raise Damaged(f"the token {end!r} is missing.")
        self.end: int = number
        self.end_name = end

    @classmethod
    def open(cls, path: Path) -> TextEncoder:
        """Open a prepared tokenizer: a folder with `tokenizer.json` and `tokenizer_config.json`.

        Args:
            path: the folder, or its `tokenizer.json`.

        Raises:
            AssayError: the folder has no complete tokenizer.
        """
        file = path if path.name == FILE else path / FILE
        try:
            config = json.loads(file.with_name(CONFIG).read_text(encoding="utf-8"))
            return cls(json.loads(file.read_text(encoding="utf-8")), eos_token_of(config) or "")
        except AssayError as error:
            raise Damaged(
                f"{file}: {error.what}", fix="Delete the folder of the file and run `assay prepare` again."
            ) from error
        except Exception as error:  # tokenizers raises bare exceptions
            kind = Damaged if file.exists() else NotFound
            raise kind(
                f"{file}: the tokenizer is missing or incomplete ({error}).",
                fix="Delete the folder of the file and run `assay prepare` again.",
            ) from error

    def encode(self, text: str) -> list[int]:
        """Encode a text.

        Raises:
            Refused: the tokenizer cannot encode the text, or only with the end-of-text token in it.
        """
        with _refusing():
            encoding = self.tokenizer.encode(text, add_special_tokens=False)
        return self._without_end(encoding.ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode several texts on all cores; see `encode`."""
        with _refusing():
            encodings = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [self._without_end(encoding.ids) for encoding in encodings]

    def encode_continuation(self, text: str) -> list[int]:
        """Encode a continuation of a text, without the space that some tokenizers add at the beginning."""
        with _refusing():
            encoding = self._continuing.encode(text, add_special_tokens=False)
        return self._without_end(encoding.ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Decode ids to text. The unknown token decodes to no text."""
        known = [number for number in ids if number != self._unknown]
        return str(self.tokenizer.decode(known, skip_special_tokens=False))

    def _without_end(self, ids: list[int]) -> list[int]:
        if self.end not in ids:
            return ids
        return [part for number in ids for part in (self._spelled if number == self.end else [number])]

    @cached_property
    def _spelled(self) -> list[int]:
        """Ids of the written name of the end-of-text token, from the model without this token.

        Models may have the name in their vocabulary: Unigram models usually do, and so may word models and BPE.

        Raises:
            Refused: the model has no other tokens for it.
        """
        name = self.end_name
        if self.end != self._unknown:
            with _refusing():
                ids = [token.id for token in _build(_without_token(self._definition, name)).model.tokenize(name)]
            if ids and self.end not in ids:
                return ids
        raise Refused(
            f"the tokenizer encodes some text as its end-of-text token {name!r} and has no other tokens for this text"
            f"{', because the end-of-text token is also the unknown token' if self.end == self._unknown else ''}.",
            fix="Set tokenizer.end_token to a token that occurs in no text, or use another tokenizer.",
        )

    @cached_property
    def _continuing(self) -> Tokenizer:
        return _build(_without_prefix(self._definition))

    @cached_property
    def _unknown(self) -> int | None:
        model = self._definition["model"]
        if (number := model.get("unk_id")) is not None:
            return int(number)
        name = model.get("unk_token")
        return None if not name else self.tokenizer.token_to_id(name)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Convert the bare exceptions of tokenizers, such as for an unknown character without an unknown token."""
    try:
        yield
    except Exception as error:
        raise Refused(
            f"the tokenizer cannot encode the text: {error}.",
            fix="Use a tokenizer that encodes every text, such as one with byte-level BPE or byte fallback.",
        ) from error


def _build(definition: Mapping[str, Any]) -> Tokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(json.dumps(definition))
    tokenizer.encode_special_tokens = True
    return tokenizer


def _without_token(definition: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a definition whose model cannot produce a token. The ids of other tokens are unchanged."""
    model = dict(definition["model"])
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):  # Unigram: pairs of piece and score, in order of id
        model["vocab"] = [[UNUSABLE if piece == name else piece, score] for piece, score in vocabulary]
    else:
        model["vocab"] = {UNUSABLE if piece == name else piece: number for piece, number in vocabulary.items()}
    if "merges" in model:
        pairs = [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"]]
        model["merges"] = [pair for pair in pairs if name not in (*pair, "".join(pair))]
    kept = [token for token in definition.get("added_tokens") or [] if token["content"] != name]
    return {**definition, "model": model, "added_tokens": kept}


def _without_prefix(part: Any) -> Any:
    """Return a definition, or a part of one, that adds no space to the beginning of a text."""
    if isinstance(part, list):
        return [_without_prefix(inner) for inner in part if not _is_prepend(inner)]
    if not isinstance(part, dict):
        return part
    changed = {}
    for key, value in part.items():
        if key in {"model", "added_tokens", "decoder"}:
            changed[key] = value
        else:
            changed[key] = None if _is_prepend(value) else _without_prefix(value)
    if changed.get("type") == "Metaspace":
        changed["prepend_scheme"] = "never"
    if changed.get("type") == "ByteLevel":
        changed["add_prefix_space"] = False
    return changed


def _is_prepend(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "Prepend"
