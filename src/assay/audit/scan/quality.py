"""Measure the quality of a document without a model, as differences from plain prose."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assay.audit.detectors.registry import Text

MEASURED = 100_000
"""Number of compressed bytes of a document, from its beginning. Compression takes 1 ms."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Quality measures of a document, or their means over documents."""

    bytes: float
    """UTF-8 bytes."""
    compression: float
    """Ratio of bytes after and before zlib (level 1).

    Prose has a ratio of about .45. The ratio of repetition is lower, and the ratio of noise and short texts is higher.
    """
    symbol_ratio: float
    """Fraction of bytes that are symbols of code."""
    digits: float
    """Fraction of bytes that are digits."""
    repeated: float
    """Fraction of the non-empty lines that repeat an earlier line of the document."""


def measure(text: Text) -> Quality:
    """Return the quality measures of a document."""
    data, size = text.data, max(1, len(text.data))
    begin = data[:MEASURED]
    lines = [line for line in data.split(b"\n") if line.strip()]
    return Quality(
        bytes=float(len(data)),
        compression=len(zlib.compress(begin, 1)) / max(1, len(begin)),
        symbol_ratio=text.profile["symbols"] / size,
        digits=text.profile["digits"] / size,
        repeated=1 - len(set(lines)) / len(lines) if lines else 0.0,
    )


def mean(measured: Sequence[Quality]) -> Quality:
    """Average the measures over documents with equal weight."""
    return Quality(
        **{
            field.name: sum(getattr(quality, field.name) for quality in measured) / len(measured)
            for field in fields(Quality)
        }
    )
