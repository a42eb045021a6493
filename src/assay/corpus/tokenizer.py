"""Tokenizers: a file that is given, or a byte-level BPE trained on the sources; made once, known by identity."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.corpus.heldout import document_hash, is_held_out
from assay.corpus.read import documents, unchanged
from assay.errors import AssayError
from assay.files import exclusive, replacing, write_json
from assay.fingerprint import fingerprint
from assay.sources import Source

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ALGORITHM_VERSION = 1
"""Raised whenever the same text would train another tokenizer."""
END = "<|endoftext|>"
ENDS = (END, "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "[EOS]")
"""What tokenizers call the end of a text, the likeliest first."""
LARGEST_DOCUMENT = 1 / 16
"""Share of a source's training text that one document may fill: a tokenizer of one long book fits no other."""
SMALLEST_VOCABULARY = 257
"""Every byte, and the end of a text."""


@dataclass(frozen=True, kw_only=True)
class TokenizerSpec:
    """A tokenizer as it is declared: `file`, or `vocabulary` to train one."""

    name: str
    file: str | None = None
    """A `tokenizer.json` as Hugging Face's `tokenizers` writes it."""
    vocabulary: int | None = None
    """Token ids to train, at most: a short text may not have so many pairs worth a token."""
    sources: tuple[str, ...] = ()
    """What to train on; left out, the sources of the sweep's baseline mix."""
    bytes_per_source: int = 2_000_000
    """Text of each source to train on, taken from its beginning."""

    def __post_init__(self) -> None:
        if (self.file is None) == (self.vocabulary is None):
            raise AssayError(f"tokenizer {self.name!r}: give exactly one of `file` and `vocabulary`.")
        if self.vocabulary is not None and self.vocabulary < SMALLEST_VOCABULARY:
            raise AssayError(
                f"tokenizer {self.name!r}: vocabulary is {self.vocabulary}.",
                fix=f"It is at least {SMALLEST_VOCABULARY}: every byte, and the end of a text.",
            )
        if self.bytes_per_source < 1:
            raise AssayError(f"tokenizer {self.name!r}: bytes_per_source is {self.bytes_per_source}; it is at least 1.")


def tokenizer_identity(spec: TokenizerSpec, digests: Mapping[str, str]) -> str:
    """The identity of a tokenizer: of the file's contents, or of everything that decides what is trained.

    Args:
        spec: what is declared; its name, its sources' names and any path bear no identity.
        digests: digest of each of `spec.sources`.

    Raises:
        AssayError: the file cannot be read, or no sources are named to train on.
    """
    if spec.file is not None:
        return fingerprint("tokenizer", {"sha256": hashlib.sha256(_read(spec)).hexdigest()})
    if not spec.sources:
        raise AssayError(f"tokenizer {spec.name!r}: no sources to train on.", fix="Name some in its `sources`.")
    return fingerprint(
        "tokenizer",
        {
            "algorithm": f"byte-level BPE {ALGORITHM_VERSION}",
            "vocabulary": spec.vocabulary,
            "bytes_per_source": spec.bytes_per_source,
            "sources": sorted(digests[name] for name in spec.sources),
        },
    )


def make_tokenizer(
    spec: TokenizerSpec,
    sources: Mapping[str, Source],
    identity: str,
    folder: Path,
    *,
    digests: Mapping[str, str] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Path:
    """Make a tokenizer, unless it is there; two that are started at once make it once.

    Beside `tokenizer.json` comes a `tokenizer_config.json`, so that transformers and lm-eval load the folder.

    Args:
        spec: what is declared.
        sources: at least those it trains on, by name.
        identity: what `tokenizer_identity` gives; the name of its folder.
        folder: where tokenizers are.
        digests: of the sources that it trains on, by name: what its identity says that they are. Others are refused.
        progress: told the share of the text that was read.

    Returns:
        The path of its `tokenizer.json`.

    Raises:
        AssayError: the file is no tokenizer or says nowhere how a text ends; a source cannot be read, or changed
            since its digest was taken.
    """
    path = folder / identity
    if not path.exists():
        with exclusive(folder / f".{identity}.lock", wait=True):
            if not path.exists():
                with contextlib.ExitStack() as stack:
                    temporary = stack.enter_context(replacing(path))
                    for name, digest in (digests or {}).items():
                        stack.enter_context(unchanged(sources[name], digest, what="read for a tokenizer"))
                    tokenizer = _given(spec) if spec.file is not None else _trained(spec, sources, progress)
                    temporary.mkdir()
                    _save(tokenizer, temporary, spec)
    if progress is not None:
        progress(1.0)
    return path / "tokenizer.json"


def load_tokenizer(path: Path) -> tuple[Tokenizer, int]:
    """A tokenizer ready to encode text as text, and the id that ends a document.

    Special tokens that are spelt out in a text become ordinary tokens: a crawled page cannot end a document.

    Args:
        path: its folder, or the `tokenizer.json` in it.

    Raises:
        AssayError: there is no whole tokenizer.
    """
    from tokenizers import Tokenizer

    path = path if path.name == "tokenizer.json" else path / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
        config: dict[str, Any] = json.loads((path.parent / "tokenizer_config.json").read_text(encoding="utf-8"))
    except Exception as error:  # tokenizers raises bare exceptions
        raise AssayError(
            f"{path}: no whole tokenizer ({error}).", fix="Delete its folder and prepare again."
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    end = tokenizer.token_to_id(config["eos_token"])
    if end is None:
        raise AssayError(f"{path}: has no token {config['eos_token']!r}.", fix="Delete its folder and prepare again.")
    return tokenizer, end


def _read(spec: TokenizerSpec) -> bytes:
    try:
        return Path(spec.file or "").read_bytes()
    except OSError as error:
        raise AssayError(
            f"tokenizer {spec.name!r}: {spec.file} cannot be read: {error.strerror}.",
            fix="`file` is the path of a `tokenizer.json`.",
        ) from error


def _given(spec: TokenizerSpec) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(_read(spec).decode())
    except AssayError:
        raise
    except Exception as error:  # tokenizers raises bare exceptions
        raise AssayError(
            f"tokenizer {spec.name!r}: {spec.file} is no tokenizer ({error}).",
            fix="It has to be a `tokenizer.json` of Hugging Face's `tokenizers`.",
        ) from error


def _trained(spec: TokenizerSpec, sources: Mapping[str, Source], progress: Callable[[float], None] | None) -> Tokenizer:
    """Byte-level BPE with GPT-2's splitting; pairs of equal count are merged in order of id, so that it is one result."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=spec.vocabulary or SMALLEST_VOCABULARY,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_training_text(spec, sources, progress), trainer)
    return tokenizer


def _training_text(
    spec: TokenizerSpec, sources: Mapping[str, Source], progress: Callable[[float], None] | None
) -> Iterator[str]:
    """The beginning of every source, without what is held out for validation."""
    largest = max(1, int(spec.bytes_per_source * LARGEST_DOCUMENT))
    for number, name in enumerate(spec.sources):
        left = spec.bytes_per_source
        for document in documents(sources[name]):
            text = document.text.encode()
            if is_held_out(document_hash(text)):
                continue
            part = text[: min(largest, left)].decode(errors="ignore")
            yield part
            left -= min(len(text), largest, left)
            if progress is not None:
                progress((number + 1 - left / spec.bytes_per_source) / len(spec.sources))
            if left <= 0:
                break


def _save(tokenizer: Tokenizer, folder: Path, spec: TokenizerSpec) -> None:
    end = next((name for name in ENDS if tokenizer.token_to_id(name) is not None), None)
    if end is None:
        raise AssayError(
            f"tokenizer {spec.name!r}: {spec.file} has no token that ends a text; looked for {', '.join(ENDS)}.",
            fix="Add one of them to it as a special token.",
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": end,
        "pad_token": end,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 10**30,
    }
    write_json(folder / "tokenizer_config.json", config)
