"""Define detectors, hits, and the document that detectors scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from assay.audit.detectors import multi_pattern, number_runs, shingles
from assay.audit.findings import Severity
from assay.config.sources import Source

Span = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A defect in one document."""

    spans: tuple[Span, ...]
    """Start and end of each match in UTF-8 bytes. Reports show the first match. Empty for the whole document."""
    note: str = ""
    """Short description of the match."""
    rule: str = ""
    """The rule that fired, for detectors with several rules."""


class Text:
    """A document with cached text features for all detectors."""

    def __init__(self, text: str, source: Source) -> None:
        self.text, self.source = text, source
        self.data = text.encode()

    @cached_property
    def bytes(self) -> shingles.Bytes:
        """The text in UTF-8, as an array."""
        return np.frombuffer(self.data, np.uint8)

    @cached_property
    def words(self) -> tuple[shingles.Hashes, shingles.Integers]:
        """Hash of each word, and byte offset of its first byte."""
        room = len(self.data) // 2 + 1
        hashes, starts = np.empty(room, np.uint64), np.empty(room, np.int64)
        count = shingles.words(self.bytes, shingles.WORD, hashes, starts)
        return hashes[:count], starts[:count]

    @cached_property
    def profile(self) -> dict[str, int]:
        """Counts of bytes by class, such as `letters` and `symbols`; see `shingles.PROFILE`."""
        counts = shingles.counts(self.bytes)
        totals: list[int] = (_CLASSES @ counts).tolist()
        return dict(zip(shingles.PROFILE, totals, strict=True))

    @cached_property
    def lines(self) -> tuple[int, int]:
        """Count of lines with text, and count of indented lines with text."""
        with_text, indented = shingles.lines(self.bytes)
        return int(with_text), int(indented)

    @cached_property
    def marks(self) -> dict[str, int]:
        """Count of the marks of `multi_pattern.MARKS` in the text, by kind."""
        return multi_pattern.present(self.bytes)

    @property
    def is_code(self) -> bool:
        """Whether the source is declared as code."""
        return "code" in (self.source.domain, self.source.language)


_CLASSES = shingles.classes(number_runs.SYMBOLS)


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A kind of defect with its detection function."""

    name: str
    version: int = 1
    reason: str
    severity: Severity
    clean: float
    """Maximum fraction of documents with hits in a clean source."""
    detect: Callable[[Text], Hit | None]
    secret: bool = False
    """Whether outputs must mask the matches."""
