"""A document's words as numbers, and what is made of them: n-grams, repetition, MinHash. One pass each, in machine code."""

# ruff: noqa: PLR1714, SIM110  # machine code compares faster than it looks up

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assay.corpus.kernels import compiled

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]
Hashes = NDArray[np.uint64]

BINS = 128
"""Of a MinHash signature."""
BANDS, ROWS = 16, 8
"""Two documents meet where all rows of a band agree: half of those with (1 / 16) ** (1 / 8) = 0.71 of words in common."""
SHINGLE = 5
"""Words of a shingle, of which MinHash compares sets."""

PROFILE = (
    "letters",
    "digits",
    "spaces",
    "signs",
    "newlines",
    "controls",
    "late_controls",
    "indented",
    "lines",
    "longest",
)
"""What `profile` counts, in its order. `late_controls` are U+0080 to U+009F, which no text has by right."""


def _word_bytes() -> Bytes:
    table = np.zeros(256, np.uint8)
    for byte in range(256):
        character = chr(byte)
        if character.isascii() and character.isalnum():
            table[byte] = ord(character.lower())
    table[128:] = np.arange(128, 256)
    return table


WORD = _word_bytes()
"""Each byte of a word in lower case; 0 for what stands between words."""


@compiled
def words(data: Bytes, table: Bytes, hashes: Hashes, starts: Integers) -> int:
    """Hash the words of a text: stretches of letters and digits, whatever their case, of any script.

    Args:
        data: UTF-8.
        table: `WORD`.
        hashes: filled with a hash for each word; at least half as long as the text, and one more.
        starts: filled with where each begins, in bytes; as long.

    Returns:
        How many words there are.
    """
    count = 0
    inside = False
    value = np.uint64(0)
    for at in range(len(data)):
        byte = table[data[at]]
        if byte:
            if not inside:
                inside = True
                starts[count] = at
                value = np.uint64(14695981039346656037)
            value = (value ^ np.uint64(byte)) * np.uint64(1099511628211)
        elif inside:
            inside = False
            hashes[count] = mixed(value)
            count += 1
    if inside:
        hashes[count] = mixed(value)
        count += 1
    return count


@compiled
def mixed(value: np.uint64) -> np.uint64:
    """Spread a hash over all 64 bits (the finaliser of SplitMix64)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@compiled
def ngrams(hashes: Hashes, length: int) -> Hashes:
    """A hash of each run of `length` words; shape (words - length + 1,), empty for shorter texts."""
    count = max(0, len(hashes) - length + 1)
    found = np.empty(count, np.uint64)
    base, top = np.uint64(0x9E3779B97F4A7C15), np.uint64(1)
    for _ in range(length):
        top *= base
    rolling = np.uint64(0)
    for at in range(len(hashes)):
        rolling = rolling * base + hashes[at]
        if at >= length:
            rolling -= hashes[at - length] * top
        if at >= length - 1:
            found[at - length + 1] = mixed(rolling)
    return found


@compiled
def signature(grams: Hashes, bins: int) -> NDArray[np.uint32]:
    """MinHash by one permutation (Li, Owen and Zhang, 2012): the least hash in each bin; an empty bin has its neighbour's.

    Args:
        grams: hashes of the document's shingles; at least one.
        bins: a power of two.
    """
    least = np.full(bins, np.uint32(0xFFFFFFFF), np.uint32)
    filled = np.zeros(bins, np.uint8)
    mask = np.uint64(bins - 1)
    for gram in grams:
        place = gram & mask
        value = np.uint32(gram >> np.uint64(32))
        if filled[place] == 0 or value < least[place]:
            least[place] = value
            filled[place] = 1
    for place in range(bins):  # optimal densification needs a hash; the next filled bin serves near duplicates as well
        step = 0
        while filled[(place + step) % bins] == 0 and step < bins:
            step += 1
        if step:
            least[place] = least[(place + step) % bins] + np.uint32(step * 0x9E3779B1)
    return least


@compiled
def bands(least: NDArray[np.uint32], count: int, rows: int) -> Hashes:
    """A hash of each band of a signature."""
    found = np.empty(count, np.uint64)
    for band in range(count):
        value = np.uint64(band + 1)
        for row in range(rows):
            value = mixed(value + np.uint64(least[band * rows + row]))
        found[band] = value
    return found


@compiled
def repeated(grams: Hashes, room: Hashes, length: int) -> tuple[int, int, int]:
    """How much of a text is in n-grams that came before in it.

    Args:
        grams: hash of each n-gram, in order.
        room: for a hash table; at least twice as many as n-grams, and a power of two.
        length: words of an n-gram.

    Returns:
        Words that are covered by a repeated n-gram, and the first and last word of the longest stretch of them.
    """
    room[:] = np.uint64(0)
    mask = np.uint64(len(room) - 1)
    covered = 0
    reach = -1
    best_start = best_stop = start = 0
    for at in range(len(grams)):
        value = grams[at] | np.uint64(1)
        place = value & mask
        while room[place] != 0 and room[place] != value:
            place = (place + np.uint64(1)) & mask
        if room[place] == value:
            if at > reach:
                start = at
            covered += at + length - max(at, reach)
            reach = at + length
            if reach - start > best_stop - best_start:
                best_start, best_stop = start, reach
        else:
            room[place] = value
    return covered, best_start, best_stop


@compiled
def profile(data: Bytes, signs: Bytes, counts: Integers) -> None:
    """Count what a text is made of.

    Args:
        data: UTF-8.
        signs: class of each byte: 5 for letters, 4 for signs of code.
        counts: filled as `PROFILE` says.
    """
    letters = digits = spaces = marks = newlines = controls = late = indented = lines = longest = 0
    begun = 0
    for at in range(len(data)):
        byte = data[at]
        kind = signs[byte]
        letters += kind == 5
        marks += kind == 4
        digits += np.uint8(byte - np.uint8(48)) < 10  # type: ignore[assignment]  # a NumPy integer, in machine code the same
        if byte == 10:
            newlines += 1
            longest = max(longest, at - begun)
            begun = at + 1
        elif byte <= 32:
            spaces += byte == 32 or byte == 9
            controls += byte < 9 or (byte > 13 and byte < 27) or (byte > 27 and byte < 32)
        elif byte == 0xC2:
            late += at + 1 < len(data) and 0x80 <= data[at + 1] < 0xA0 and data[at + 1] != 0x85
        if byte > 32 and (at == 0 or data[at - 1] <= 32):
            if at == begun:
                lines += 1
            elif at > 0 and _only_space(data, begun, at):
                lines += 1
                indented += 1
    longest = max(longest, len(data) - begun)
    counts[0], counts[1], counts[2], counts[3], counts[4] = letters, digits, spaces, marks, newlines
    counts[5], counts[6], counts[7], counts[8], counts[9] = controls, late, indented, lines, longest


@compiled
def _only_space(data: Bytes, start: int, stop: int) -> bool:
    for at in range(stop - 1, start - 1, -1):
        if data[at] > 32:
            return False
    return True
