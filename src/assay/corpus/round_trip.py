"""Measure the text that a tokenizer loses, because decoding does not restore it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from assay.core.errors import Refused
from assay.corpus.source_reader import documents

if TYPE_CHECKING:
    from assay.config.sources import Source
    from assay.corpus.encoder import TextEncoder

SAMPLE_BYTES = 200_000
"""Bytes of each source to encode before its corpus exists. The corpus later measures all held-out documents."""
SAMPLE_DOCUMENTS = 200
PROBE = (
    "Two  spaces,\ta tab\r\nand lines.\n\n\n    if x: return {'a': [1, 2.50]}  # 100%\n"
    "Na\u00efve ÀÉÎ e\u0301 \ufb01 \u00bd \u2460 \uff46\uff55 STRASSE \u1e9e \u00a0 \u200b \u3000 \u201cquotes\u201d \u2014 \u2026\n"
    "Ελληνικά Русский עברית العربية हिन्दी ไทย 日本語 한국어 \u4db5 \U00020000 \U0001f642 \U0001f469\u200d\U0001f467 \u2581 \ue000"
    " \x01 \x7f end "
)
"""Text of many scripts, with spaces, composed and decomposed letters, emoji and control characters."""


class RoundTrip(NamedTuple):
    """Loss of characters after encoding and decoding a text.

    Attributes:
        bytes: bytes of text in UTF-8.
        lost: bytes of characters that decoding does not restore.
        example: the first lost characters, in order of frequency.
    """

    bytes: int
    lost: int
    example: str = ""

    @classmethod
    def of(cls, lost: Counter[str], size: int) -> RoundTrip:
        """Summarize the characters that a text of this many bytes loses."""
        example = "".join(character for character, _ in lost.most_common(8))
        return cls(size, sum(count * len(character.encode()) for character, count in lost.items()), example)

    @property
    def fraction(self) -> float:
        """Lost fraction of the bytes."""
        return self.lost / self.bytes if self.bytes else 0.0


def lost_characters(text: str, decoded: str) -> Counter[str]:
    """Count the characters of a text that occur less often in the decoded text.

    >>> sorted(lost_characters("Hello world", "hello world").items())
    [('H', 1)]
    """
    return Counter() if text == decoded else Counter(text) - Counter(decoded)


def measure_round_trip(encoder: TextEncoder, texts: Iterable[str]) -> RoundTrip:
    """Encode and decode texts."""
    total, lost = 0, Counter[str]()
    for text in texts:
        total += len(text.encode())
        lost += lost_characters(text, encoder.decode(encoder.encode(text)))
    return RoundTrip.of(lost, total)


def measure_source(encoder: TextEncoder, source: Source) -> RoundTrip:
    """Encode and decode the beginning of a source.

    Raises:
        AssayError: the source cannot be read or encoded.
    """
    left = SAMPLE_BYTES

    def texts() -> Iterable[str]:
        nonlocal left
        for document in itertools.islice(documents(source), SAMPLE_DOCUMENTS):
            yield document.text[:left]
            left -= len(document.text)
            if left <= 0:
                return

    try:
        return measure_round_trip(encoder, texts())
    except Refused as error:
        raise Refused(f"source {source.name!r}: {error.what}", fix=error.fix) from error


def check_loss(source: str, measured: RoundTrip, limit: float) -> None:
    """Refuse a source if a tokenizer loses too much of its text.

    Raises:
        Refused: the lost fraction is above the limit.
    """
    if measured.fraction > limit:
        raise Refused(
            f"source {source!r}: the tokenizer loses {measured.fraction:.2%} of the source's bytes, for example"
            f" {measured.example!r}; expected at most {limit:.2%} (tokenizer.max_lost_fraction). Bits per byte would"
            " not describe the text of the source.",
            fix="Use a tokenizer that restores every text, such as one with byte-level BPE or byte fallback.",
        )
