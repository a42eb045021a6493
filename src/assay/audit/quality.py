"""What a document's quality is judged by, without a model: measures that say how it differs from plain prose."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assay.audit.detectors import Text

MEASURED = 100_000
"""Bytes of a document that are compressed, from its beginning: 1 ms."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Measures of one document, or their means over several."""

    bytes: float
    compression: float
    """Bytes after zlib (level 1) by bytes before: prose has about .45, repetition less, noise and very short texts more."""
    signs: float
    """Share of bytes that are signs of code."""
    digits: float
    """Share of bytes that are digits."""
    repeated: float
    """Share of the lines with text that came before in the document."""


def measure(text: Text) -> Quality:
    """The measures of one document."""
    data, size = text.data, max(1, len(text.data))
    begin = data[:MEASURED]
    lines = [line for line in data.split(b"\n") if line.strip()]
    return Quality(
        bytes=float(len(data)),
        compression=len(zlib.compress(begin, 1)) / max(1, len(begin)),
        signs=text.profile["signs"] / size,
        digits=text.profile["digits"] / size,
        repeated=1 - len(set(lines)) / len(lines) if lines else 0.0,
    )


def mean(measured: Sequence[Quality]) -> Quality:
    """The means over documents, each counting once."""
    return Quality(
        **{field.name: sum(getattr(one, field.name) for one in measured) / len(measured) for field in fields(Quality)}
    )
