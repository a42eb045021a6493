"""A tokenizer file of a user: its end-of-text token, and the settings that assay does not use."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from assay.core.errors import ConfigError, Damaged, NotFound

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from assay.config.tokenizer import TokenizerSpec

FILE = "tokenizer.json"
CONFIG, GENERATION = "tokenizer_config.json", "generation_config.json"
"""Files in the folder of a tokenizer that declare its end-of-text token."""
GUESSED = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "[EOS]")
"""Names by which earlier versions guessed the end-of-text token. Only identities of existing corpora depend on them."""
SHOWN = 12
"""Maximum number of tokens that an error lists."""
MARKED = re.compile(r"<[^<>\s]+>|\[[A-Z]+\]")
"""Names that only special tokens of a model's vocabulary have."""

Change = Literal["truncation", "padding", "sampling", "template", "decoder", "end_token"]
"""A setting of a tokenizer file that assay changes or ignores; see `standardize`."""


class EndToken(NamedTuple):
    """The token that ends every document.

    Attributes:
        name: its text.
        id: its id.
        origin: the file or option that declares it.
    """

    name: str
    id: int
    origin: str


@dataclass(frozen=True)
class TokenizerFile:
    """The declared file of a tokenizer. Properties parse the file on first use."""

    spec: TokenizerSpec
    path: Path
    content: bytes

    @classmethod
    def read(cls, spec: TokenizerSpec) -> TokenizerFile:
        """Read the declared file, or `tokenizer.json` in the declared folder.

        Raises:
            NotFound: the file cannot be read.
        """
        path = Path(spec.file or "")
        if path.is_dir():
            path = path / FILE
        try:
            return cls(spec, path, path.read_bytes())
        except OSError as error:
            raise NotFound(
                f"tokenizer {spec.name!r}: {path} cannot be read: {error.strerror}.",
                fix=f"Set `file` to the path of a `{FILE}` or of its folder."
                " transformers writes one with `AutoTokenizer.from_pretrained(NAME).save_pretrained(FOLDER)`.",
            ) from error

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer with the settings of the file, without truncation and padding.

        Raises:
            Damaged: the file is no tokenizer.
        """
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_str(self.content.decode("utf-8-sig"))
        except Exception as error:  # tokenizers raises bare exceptions
            raise Damaged(
                f"tokenizer {self.spec.name!r}: {self.path} is not a tokenizer file ({error}).",
                fix="Use a `tokenizer.json` of Hugging Face `tokenizers`.",
            ) from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @property
    def definition(self) -> dict[str, Any]:
        """The content of the file, parsed anew for each caller.

        Raises:
            Damaged: the file is no tokenizer.
        """
        self.tokenizer  # noqa: B018  # raises if the file is no tokenizer
        parsed: dict[str, Any] = json.loads(self.content)
        return parsed

    @cached_property
    def vocabulary(self) -> int:
        """The largest id plus 1. Some ids may have no token.

        Raises:
            Damaged: the file is no tokenizer.
        """
        return id_count(self.tokenizer)

    @cached_property
    def end(self) -> EndToken:
        """The end-of-text token that the option `end_token` or a file in the same folder declares.

        Raises:
            AssayError: nothing declares it, the declarations differ, or the tokenizer lacks the token.
        """
        declared = self._option() or self._from_folder()
        if declared is None:
            raise ConfigError(
                f"tokenizer {self.spec.name!r}: the end-of-text token of {self.path} is unknown; {CONFIG} and {GENERATION} in its"
                " folder do not declare it.",
                fix=self._advice,
            )
        return declared

    def _option(self) -> EndToken | None:
        name = self.spec.end_token
        return None if name is None else self._named(name, "tokenizer.end_token")

    def _from_folder(self) -> EndToken | None:
        config, generation = (self._read_json(self.path.with_name(name)) for name in (CONFIG, GENERATION))
        named = None if (name := eos_token_of(config)) is None else self._named(name, str(self.path.with_name(CONFIG)))
        numbered = [self._numbered(number) for number in _eos_ids(generation)]
        if named is None and len(numbered) == 1:
            return numbered[0]
        if numbered and (named is None or named.id not in [end.id for end in numbered]):
            names = ", ".join(repr(end.name) for end in [*([named] if named else []), *numbered])
            raise ConfigError(
                f"tokenizer {self.spec.name!r}: {CONFIG} and {GENERATION} declare several end-of-text tokens: {names}.",
                fix="Set `end_token` to the token that ends a document in pretraining, not to a token that ends a chat turn.",
            )
        return named

    def _named(self, name: str, origin: str) -> EndToken:
        number = self.tokenizer.token_to_id(name)
        if number is None:
            raise ConfigError(f"{origin}: {name!r} is no token of {self.path}.", fix=self._advice)
        return EndToken(name, number, origin)

    def _numbered(self, number: int) -> EndToken:
        origin = str(self.path.with_name(GENERATION))
        name = self.tokenizer.id_to_token(number) if number < self.vocabulary else None
        if name is None:
            raise ConfigError(f"{origin}: eos_token_id {number} is no id of {self.path}.", fix=self._advice)
        return EndToken(name, number, origin)

    def _read_json(self, path: Path) -> Mapping[str, Any]:
        try:
            read = json.loads(path.read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise Damaged(
                f"tokenizer {self.spec.name!r}: {path} cannot be read: {error}.",
                fix="Restore the file, or set `end_token`.",
            ) from error
        if not isinstance(read, dict):
            raise Damaged(
                f"tokenizer {self.spec.name!r}: {path} is no JSON object.", fix="Restore the file, or set `end_token`."
            )
        return read

    @property
    def _advice(self) -> str:
        added = self.tokenizer.get_added_tokens_decoder()
        names = [token.content for _, token in sorted(added.items(), key=lambda item: (not item[1].special, item[0]))]
        names += [name for name in sorted(self.tokenizer.get_vocab(with_added_tokens=False)) if MARKED.fullmatch(name)]
        names = list(dict.fromkeys(names))
        shown = ", ".join(map(repr, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")
        candidates = f" Candidates: {shown}." if names else ""
        return f"Set `end_token` in the tokenizer's configuration to the token that ends a document.{candidates}"

    @cached_property
    def corrections(self) -> dict[str, Any]:
        """Differences from corpora of earlier versions, which the identity includes in addition to the file.

        Earlier versions of assay guessed the end-of-text token, and documents could contain this token. If their
        corpora were correct, the tokenizer keeps its identity. A tokenizer without a known end-of-text token also keeps
        its identity, because no corpus is made with it.

        Raises:
            AssayError: the file is no tokenizer.
        """
        try:
            end = self.end
        except (ConfigError, Damaged, NotFound):
            self.tokenizer  # noqa: B018  # raises if the file is no tokenizer
            return {}
        guessed = next((name for name in GUESSED if self.tokenizer.token_to_id(name) is not None), None)
        differs = {} if guessed == end.name else {"end": end.name}
        changed = "sampling" in self.changes or spells_end(self.tokenizer, end)
        return differs | ({"encoding": 2} if changed else {})

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        """Settings of the file that assay does not use; see `standardize`."""
        return standardize(self.definition, self.end.name)[1]

    @cached_property
    def template(self) -> tuple[str, ...]:
        """Tokens that the file's post-processor adds to a text."""
        processors = _parts(self.definition.get("post_processor"), "processors")
        return tuple(dict.fromkeys(name for processor in processors for name in _added_tokens(processor)))


def eos_token_of(config: Mapping[str, Any]) -> str | None:
    """Return the `eos_token` of a `tokenizer_config.json`, which transformers writes as text or as an object."""
    declared = config.get("eos_token")
    name = declared.get("content") if isinstance(declared, dict) else declared
    return name if isinstance(name, str) and name else None


def id_count(tokenizer: Tokenizer) -> int:
    """Return the number of ids, from 0 to the largest; `get_vocab_size` is smaller if ids are missing."""
    return int(max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)) + 1


def spells_end(tokenizer: Tokenizer, end: EndToken) -> bool:
    """Return whether a tokenizer encodes the written name of the end-of-text token as this token.

    The library splits special tokens only: a model such as Unigram may have the name in its vocabulary, and added tokens
    that are not special are always kept whole.
    """
    before, tokenizer.encode_special_tokens = tokenizer.encode_special_tokens, True
    name = end.name
    spelled = False
    for text in (name, f" {name} ", f"a{name}b", f"a {name} b", f"\n{name}\n", f"<p>{name}</p>"):
        with contextlib.suppress(Exception):  # tokenizers raises bare exceptions for text that a model cannot encode
            spelled |= end.id in tokenizer.encode(text, add_special_tokens=False).ids
    tokenizer.encode_special_tokens = before
    return spelled


def standardize(definition: Mapping[str, Any], end: str) -> tuple[dict[str, Any], tuple[Change, ...]]:
    """Return a tokenizer that encodes a text in the same way in training and evaluation, without added tokens.

    | change | what is done |
    | --- | --- |
    | truncation, padding | removed: they would cut or extend documents |
    | sampling | BPE dropout and Unigram sampling are removed: they encode the same text differently |
    | template | a post-processor that adds tokens is removed: training packs documents without them |
    | decoder | a missing decoder is added: that of the pre-tokenizer or the model |
    | end_token | the end-of-text token is marked as special, so that text cannot spell it |

    Args:
        definition: content of a `tokenizer.json`; not modified.
        end: the end-of-text token.

    Returns:
        The definition, and the changes.
    """
    result: dict[str, Any] = json.loads(json.dumps(definition))
    changes: list[Change] = []
    for key in ("truncation", "padding"):
        if result.get(key) is not None:
            result[key] = None
            changes.append(key)
    model = result.get("model") or {}
    for key in ("dropout", "alpha", "nbest_size"):
        if model.get(key):
            model[key] = None
            changes += [] if "sampling" in changes else ["sampling"]
    if any(map(_added_tokens, _parts(result.get("post_processor"), "processors"))):
        result["post_processor"] = None
        changes.append("template")
    if result.get("decoder") is None and (decoder := _decoder_of(result)) is not None:
        result["decoder"] = decoder
        changes.append("decoder")
    for token in result.get("added_tokens") or []:
        if token.get("content") == end and not token.get("special"):
            token["special"] = True
            changes.append("end_token")
    return result, tuple(changes)


def _decoder_of(definition: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the decoder that fits a pre-tokenizer or model; without any, the library puts a space between all tokens."""
    for part in _parts(definition.get("pre_tokenizer"), "pretokenizers"):
        if part.get("type") in {"ByteLevel", "Metaspace"}:
            return dict(part)
    model = definition.get("model") or {}
    if model.get("type") == "WordPiece":
        return {"type": "WordPiece", "prefix": model.get("continuing_subword_prefix", "##"), "cleanup": False}
    if suffix := model.get("end_of_word_suffix"):
        return {"type": "BPEDecoder", "suffix": suffix}
    return {"type": "Fuse"} if model.get("type") in {"BPE", "Unigram"} else None


def _added_tokens(processor: Mapping[str, Any]) -> list[str]:
    """Return the tokens that a post-processor adds to a single text."""
    if processor.get("type") == "TemplateProcessing":
        pieces = processor.get("single") or []
        return [str(piece["SpecialToken"]["id"]) for piece in pieces if "SpecialToken" in piece]
    if processor.get("type") == "ByteLevel":
        return []
    return [str(processor[key][0]) for key in ("cls", "sep") if processor.get(key)]  # BERT's and RoBERTa's


def _parts(part: Mapping[str, Any] | None, key: str) -> Iterator[Mapping[str, Any]]:
    """Yield the parts of a pre-tokenizer or post-processor, which may be a sequence of others."""
    if part is None:
        return
    if part.get("type") != "Sequence":
        yield part
        return
    for inner in part.get(key) or []:
        yield from _parts(inner, key)


def _eos_ids(generation: Mapping[str, Any]) -> list[int]:
    declared = generation.get("eos_token_id")
    ids = declared if isinstance(declared, list) else [declared]
    return [number for number in ids if isinstance(number, int) and not isinstance(number, bool) and number >= 0]
