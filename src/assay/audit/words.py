"""A document's words as numbers, and what is made of them: n-grams, repetition, MinHash. One pass each, in machine code."""

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

PROFILE = ("letters", "digits", "signs", "controls", "c2", "markup")
"""What `classes` tells apart: ASCII letters and all of other scripts; decimal digits; signs of code; control characters that no text
has by right; the byte that U+0080 to U+009F begin with, among others; and what tags and entities begin with."""


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


def classes(signs: Bytes) -> Integers:
    """Which bytes are of each class of `PROFILE`, as ones; shape (classes, 256).

    Args:
        signs: class of each byte: 5 for letters, 4 for signs of code.
    """
    numbers = np.arange(256)
    controls = ((numbers < 32) & ~np.isin(numbers, (9, 10, 11, 12, 13, 27))).astype(np.int64)
    digits = np.isin(numbers, list(b"0123456789"))
    return np.stack([signs == 5, digits, signs == 4, controls, numbers == 0xC2, np.isin(numbers, list(b"<&"))]).astype(
        np.int64
    )


@compiled
def counts(data: Bytes) -> Integers:
    """How often each byte occurs; shape (256,).

    Four tables take turns: a count waits for the one before it in the same place, and text repeats its letters.
    """
    found = np.zeros((4, 256), np.int64)
    whole = len(data) // 4
    for at in range(whole):
        found[0, data[4 * at]] += 1
        found[1, data[4 * at + 1]] += 1
        found[2, data[4 * at + 2]] += 1
        found[3, data[4 * at + 3]] += 1
    for at in range(4 * whole, len(data)):
        found[0, data[at]] += 1
    total: Integers = found[0] + found[1] + found[2] + found[3]
    return total


@compiled
def late_controls(data: Bytes) -> int:
    """How many of U+0080 to U+009F a text has, U+0085 aside, which ends lines."""
    count = 0
    for at in range(len(data) - 1):
        count += data[at] == 0xC2 and 0x80 <= data[at + 1] < 0xA0 and data[at + 1] != 0x85
    return count


@compiled
def lines(data: Bytes) -> tuple[int, int]:
    """How many lines have text, and how many of these begin with space."""
    count = indented = 0
    begun, at = 0, 0
    while at < len(data):
        if data[at] == 10:
            begun = at + 1
        elif data[at] > 32:
            count += 1
            indented += at > begun
            while at < len(data) and data[at] != 10:
                at += 1
            continue
        at += 1
    return count, indented


@compiled
def repeated_lines(data: Bytes, room: Hashes, least: int) -> int:
    """Bytes of the lines that came before, as their hashes tell.

    Args:
        data: the text.
        room: for a hash table; at least twice as many as lines of this length fit in, and a power of two.
        least: bytes of a line that counts.
    """
    room[:] = np.uint64(0)
    mask = np.uint64(len(room) - 1)
    again = begun = 0
    value = np.uint64(14695981039346656037)
    for at in range(len(data) + 1):
        if at < len(data) and data[at] != 10:
            value = (value ^ np.uint64(data[at])) * np.uint64(1099511628211)
            continue
        if at - begun >= least:
            entry = mixed(value) | np.uint64(1)
            place = (entry >> np.uint64(8)) & mask
            while room[place] != 0 and room[place] != entry:
                place = (place + np.uint64(1)) & mask
            if room[place] == entry:
                again += at - begun
            room[place] = entry
        begun = at + 1
        value = np.uint64(14695981039346656037)
    return again


@compiled
def flagged(flags: Bytes, size: int, begin: int, places: Integers, count: int) -> int:
    """Write down where flags are set.

    Args:
        flags: ones and zeros; as many as a multiple of 8.
        size: how many of them count.
        begin: the place of the first.
        places: filled from `count` on; one more than flags may be set.
        count: how many places there are.

    Returns:
        How many places there are now.
    """
    flags[size : size + 8] = np.uint8(0)
    eights = flags.view(np.uint64)
    for eight in range((size + 7) // 8):
        if eights[eight]:
            for at in range(8 * eight, 8 * eight + 8):
                places[count] = begin + at
                count += flags[at]
    return count
