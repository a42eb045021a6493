"""Documents that say the same thing again and again."""

from __future__ import annotations

from collections import Counter

import numpy as np

from assay.audit import words
from assay.audit.text import Hit, Text

LINES = 0.33
"""Share of a document in lines that came before (the bound of Gopher's filter, arXiv 2112.11446)."""
LINE = 20
"""Bytes of a line that is not repeated by chance."""
SMALLEST = 1000
"""Bytes of a document whose lines are compared."""
NGRAM = 10
"""Words of an n-gram that is not repeated by chance."""
FEWEST = 200
"""Words of a document whose n-grams are compared."""
WORDS = 0.5
"""Share of the words that stand in an n-gram that came before."""


def lines(text: Text) -> Hit | None:
    """A third of a document in lines that came before."""
    size = len(text.data)
    if size < SMALLEST or text.is_code:
        return None
    room = np.empty(_table(size // LINE), np.uint64)
    # The hashes only rule out, so that two lines with the same one make no finding.
    if words.repeated_lines(text.bytes, room, LINE) < LINES * size:
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
    """Half of a document in sequences of ten words that came before."""
    hashes, starts = text.words
    if len(hashes) < FEWEST:
        return None
    grams = words.ngrams(hashes, NGRAM)
    covered, first, stop = words.repeated(grams, np.empty(_table(len(grams)), np.uint64), NGRAM)
    if covered < WORDS * len(hashes):
        return None
    place = (int(starts[first]), int(starts[stop]) if stop < len(starts) else len(text.data))
    return Hit(spans=(place,), note=f"{covered / len(hashes):.0%} of the words came before")


def _table(entries: int) -> int:
    """Places of a hash table: a power of two, and at least twice as many as entries."""
    return 1 << (2 * entries).bit_length()
