"""Declare a tokenizer."""

from __future__ import annotations

from dataclasses import dataclass

from assay.core.errors import ConfigError

SMALLEST_VOCABULARY = 257
"""Minimum vocabulary: 256 bytes and the end-of-text token."""


@dataclass(frozen=True, kw_only=True)
class TokenizerSpec:
    """Tokenizer of all corpora: an existing `file`, or a BPE tokenizer of `vocabulary` tokens that assay trains."""

    name: str
    """Name of the preset. The name does not affect a run's identity."""
    file: str | None = None
    """Path of a `tokenizer.json` file of Hugging Face's `tokenizers`, or of the folder that contains it."""
    end_token: str | None = None
    """Token of `file` that ends a document (default: `eos_token` of `tokenizer_config.json`, or `eos_token_id` of
    `generation_config.json`, in the folder of `file`)."""
    max_lost_fraction: float = 0.01
    """Maximum fraction of a source's bytes that decoding with `file` may fail to restore. assay refuses sources above
    this limit. Bits per byte count only restored bytes."""
    vocabulary: int | None = None
    """Maximum vocabulary size. Training on short texts yields a smaller vocabulary."""
    sources: tuple[str, ...] = ()
    """Sources to train the tokenizer on. An empty list selects the sources of the sweep's baseline."""
    bytes_per_source: int = 2_000_000
    """Amount of text, from the beginning of each source, to train the tokenizer on."""

    def __post_init__(self) -> None:
        if (self.file is None) == (self.vocabulary is None):
            raise ConfigError(
                f"tokenizer {self.name!r}: the number of given keys is invalid; expected exactly one of `file` and `vocabulary`.",
                fix="Set one of the two keys, and the other to null.",
            )
        if self.end_token is not None and (self.file is None or not self.end_token):
            raise ConfigError(
                f"tokenizer {self.name!r}: `end_token` {self.end_token!r} is invalid; expected a token of `file`.",
                fix="Remove `end_token`: a tokenizer that assay trains has its own end-of-text token.",
            )
        if not 0 <= self.max_lost_fraction < 1:
            raise ConfigError(
                f"tokenizer {self.name!r}: `max_lost_fraction` {self.max_lost_fraction:g} is invalid; expected at least 0 and"
                " below 1.",
                fix="Set `max_lost_fraction` to the fraction of a source's bytes that may be lost, such as 0.01.",
            )
        if self.vocabulary is not None and self.vocabulary < SMALLEST_VOCABULARY:
            raise ConfigError(
                f"tokenizer {self.name!r}: `vocabulary` {self.vocabulary} is invalid; expected at least {SMALLEST_VOCABULARY},"
                " for the 256 bytes and the end-of-text token.",
                fix=f"Set `vocabulary` to {SMALLEST_VOCABULARY} or more.",
            )
        if self.bytes_per_source < 1:
            raise ConfigError(
                f"tokenizer {self.name!r}: `bytes_per_source` {self.bytes_per_source} is invalid; expected at least 1.",
                fix="Set `bytes_per_source` to 1 or more.",
            )
