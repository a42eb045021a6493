"""What a detector is, and a document as detectors see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from assay.audit import ascending, marks, words
from assay.audit.findings import Severity
from assay.sources import Source

Span = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A defect in one document."""

    spans: tuple[Span, ...]
    """Where, in bytes of the UTF-8 text; the first is shown. Empty for the whole document."""
    note: str = ""
    """What it is, in a few words."""


class Text:
    """A document as detectors see it; what several of them need is made once."""

    def __init__(self, text: str, source: Source) -> None:
        self.text, self.source = text, source
        self.data = text.encode()

    @cached_property
    def bytes(self) -> words.Bytes:
        """The text in UTF-8."""
        return np.frombuffer(self.data, np.uint8)

    @cached_property
    def words(self) -> tuple[words.Hashes, words.Integers]:
        """A hash of each word, and where each begins."""
        room = len(self.data) // 2 + 1
        hashes, starts = np.empty(room, np.uint64), np.empty(room, np.int64)
        count = words.words(self.bytes, words.WORD, hashes, starts)
        return hashes[:count], starts[:count]

    @cached_property
    def profile(self) -> dict[str, int]:
        """How many bytes are `letters`, `digits`, `signs` of code, and so on; see `words.PROFILE`."""
        counts = words.counts(self.bytes)
        made: list[int] = (_CLASSES @ counts).tolist()
        return dict(zip(words.PROFILE, made, strict=True))

    @cached_property
    def lines(self) -> tuple[int, int]:
        """How many lines have text, and how many of them are indented."""
        with_text, indented = words.lines(self.bytes)
        return int(with_text), int(indented)

    @cached_property
    def marks(self) -> dict[str, int]:
        """How many of the marks of `marks.MARKS` it has, by kind."""
        return marks.present(self.bytes)

    @property
    def is_code(self) -> bool:
        """Whether the source is said to be code."""
        return "code" in (self.source.domain, self.source.language)


_CLASSES = words.classes(ascending.SIGNS)


@dataclass(frozen=True, kw_only=True)
class Detector:
    """One kind of defect, and how it is seen."""

    name: str
    version: int = 1
    reason: str
    severity: Severity
    clean: float
    """Share of documents that a clean source may have."""
    look: Callable[[Text], Hit | None]
    secret: bool = False
    """Whether what it finds must never be shown whole."""
