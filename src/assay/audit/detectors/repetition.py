"""Detect repetition within a document."""

from __future__ import annotations

from collections import Counter

import numpy as np

from assay.audit.detectors import shingles
from assay.audit.detectors.document import Hit, Text

LINES = 0.33
"""Minimum fraction of a document in repeated lines. The value is that of the Gopher filter (arXiv 2112.11446)."""
LINE = 20
"""Minimum size in bytes of a line that does not repeat by chance."""
SMALLEST = 1000
"""Minimum size in bytes of a document whose lines are compared."""
NGRAM = 10
"""Number of words of an n-gram that does not repeat by chance."""
FEWEST = 200
"""Minimum number of words of a document whose n-grams are compared."""
WORDS = 0.5
"""Minimum fraction of a document's words in repeated n-grams."""


def lines(text: Text) -> Hit | None:
    """Detect documents with at least a third of their text in repeated lines."""
    size = len(text.data)
    if size < SMALLEST or text.is_code:
        return None
    room = np.empty(_table(size // LINE), np.uint64)
    # Hashes only exclude documents, so a hash collision never gives a hit.
    if shingles.repeated_lines(text.bytes, room, LINE) < LINES * size:
        return None
    counts = Counter(text.data.split(b"\n"))
    again = sum((count - 1) * len(line) for line, count in counts.items() if count > 1 and len(line) >= LINE)
    if again < LINES * size:
        return None
    line = max((line for line in counts if len(line) >= LINE), key=lambda line: counts[line] * len(line))
    first = text.data.find(line)
    second = text.data.find(line, first + len(line))
    return Hit(spans=((first, first + len(line)), (second, second + len(line))), note=f"{counts[line]} times")


def ngrams(text: Text) -> Hit | None:
    """Detect documents with at least half of their words in repeated ten-word sequences."""
    hashes, starts = text.words
    if len(hashes) < FEWEST:
        return None
    grams = shingles.ngrams(hashes, NGRAM)
    covered, first, stop = shingles.repeated(grams, np.empty(_table(len(grams)), np.uint64), NGRAM)
    if covered < WORDS * len(hashes):
        return None
    place = (int(starts[first]), int(starts[stop]) if stop < len(starts) else len(text.data))
    return Hit(spans=(place,), note=f"{covered / len(hashes):.0%} of the words are repeated")


def _table(entries: int) -> int:
    """Return the size of a hash table: a power of two, at least twice the entries."""
    return 1 << (2 * entries).bit_length()
