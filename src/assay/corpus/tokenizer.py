"""Make tokenizers: copies of a file, or byte-level BPE trained on sources.

A tokenizer is made once and named by its identity.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from assay.config.sources import Source
from assay.config.tokenizer import SMALLEST_VOCABULARY, TokenizerSpec
from assay.core.errors import ConfigError
from assay.core.files import exclusive, replacing, write_json, write_text
from assay.core.fingerprint import fingerprint
from assay.corpus.encoder import TextEncoder
from assay.corpus.holdout import document_hash, is_held_out
from assay.corpus.source_reader import documents, unchanged
from assay.corpus.tokenizer_file import CONFIG, FILE, TokenizerFile, standardize

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ALGORITHM_VERSION = 1
"""Version of the training. Raise it when the same text would train a different tokenizer."""
END = "<|endoftext|>"
"""End-of-text token of the tokenizers that assay trains."""
LARGEST_DOCUMENT = 1 / 16
"""Maximum fraction of a source's training text from one document, so that one long book does not dominate."""


def tokenizer_identity(spec: TokenizerSpec, digests: Mapping[str, str], *, file: TokenizerFile | None = None) -> str:
    """Compute a tokenizer's identity from the file's contents or all inputs of the training.

    The identity of a file includes its end-of-text token if earlier versions of assay used another token to end
    documents.

    Args:
        spec: the declaration. Its name, the names of its sources, and paths are not part of the identity.
        digests: digest of each of `spec.sources`.
        file: the declared file, if it was read before.

    Raises:
        AssayError: the file cannot be read or is not a tokenizer, or the declaration has no sources to train on.
    """
    if spec.file is not None:
        file = file or TokenizerFile.read(spec)
        return fingerprint("tokenizer", {"sha256": file.sha256, **file.corrections})
    if not spec.sources:
        raise ConfigError(
            f"tokenizer {spec.name!r}: `sources` is empty; expected at least one source.",
            fix="List the sources that train the tokenizer.",
        )
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
    """Make a tokenizer, unless the tokenizer exists.

    If two processes start at once, one process makes the tokenizer and the other waits. The folder has a
    `tokenizer.json` and a `tokenizer_config.json`, so that transformers and lm-eval can load it.

    Args:
        spec: the declaration.
        sources: sources by name, at least those to train on.
        identity: the result of `tokenizer_identity`; the name of the tokenizer's folder.
        folder: folder of all tokenizers.
        digests: expected digests of the sources to train on, by name. The function refuses a source with another
            digest.
        progress: called with the fraction of the text that was read.

    Returns:
        The path of the `tokenizer.json`.

    Raises:
        AssayError: the file is not a tokenizer, or its end-of-text token is unknown; a source cannot be read, or changed
            after its digest was computed.
    """
    path = folder / identity
    if not path.exists():
        with exclusive(folder / f".{identity}.lock", wait=True):
            if not path.exists():
                with contextlib.ExitStack() as stack:
                    temporary = stack.enter_context(replacing(path))
                    for name, digest in (digests or {}).items():
                        stack.enter_context(unchanged(sources[name], digest, what="read for a tokenizer"))
                    if spec.file is not None:
                        _copy(TokenizerFile.read(spec), temporary)
                    else:
                        _save(_train(spec, sources, progress), temporary)
    if progress is not None:
        progress(1.0)
    return path / "tokenizer.json"


def load_tokenizer(path: Path) -> tuple[Tokenizer, int]:
    """Load a tokenizer that encodes without special tokens, and its end-of-text id.

    If a text contains the name of a special token, the name becomes ordinary tokens. `TextEncoder` also splits names that the
    model itself has in its vocabulary.

    Args:
        path: folder of the tokenizer, or its `tokenizer.json`.

    Raises:
        AssayError: the folder has no complete tokenizer.
    """
    encoder = TextEncoder.open(path)
    return encoder.tokenizer, encoder.end


def _train(spec: TokenizerSpec, sources: Mapping[str, Source], progress: Callable[[float], None] | None) -> Tokenizer:
    """Train a byte-level BPE with GPT-2's splitting.

    Merging ties in order of id makes the result unique.
    """
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
    """Yield the beginning of every source, without the held-out documents."""
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


def _copy(file: TokenizerFile, folder: Path) -> None:
    """Write the form of a user's tokenizer that training and evaluation use."""
    end = file.end
    definition, changes = standardize(json.loads(file.content), end.name)
    folder.mkdir()
    if changes:
        write_text(folder / FILE, json.dumps(definition, ensure_ascii=False))
    else:
        file.tokenizer.save(str(folder / FILE))
    _write_config(folder, end.name)


def _save(tokenizer: Tokenizer, folder: Path) -> None:
    folder.mkdir()
    tokenizer.save(str(folder / FILE))
    _write_config(folder, END)


def _write_config(folder: Path, end: str) -> None:
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": end,
        "pad_token": end,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 10**30,
    }
    write_json(folder / CONFIG, config)
