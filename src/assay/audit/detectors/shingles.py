"""Compute word hashes, n-grams, repetition, MinHash and byte counts in compiled single passes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assay.corpus.kernels import compiled

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]
Hashes = NDArray[np.uint64]

BINS = 128
"""Number of bins of a MinHash signature."""
BANDS, ROWS = 16, 8
"""Number of bands of a signature, and bins per band.

Two documents are compared if all bins of one band agree. This occurs for half of the pairs with similarity
(1 / 16) ** (1 / 8) = 0.71.
"""
SHINGLE = 5
"""Number of words of a shingle. MinHash compares sets of shingles."""

PROFILE = ("letters", "digits", "symbols", "controls", "c2", "markup")
"""Classes of bytes, in this order.

ASCII letters and all non-ASCII bytes; decimal digits; symbols of code; control characters that do not belong in text;
the first byte of U+0080 to U+009F, among others; the first byte of tags and entities."""


def _word_bytes() -> Bytes:
    table = np.zeros(256, np.uint8)
    for byte in range(256):
        character = chr(byte)
        if character.isascii() and character.isalnum():
            table[byte] = ord(character.lower())
    table[128:] = np.arange(128, 256)
    return table


WORD = _word_bytes()
"""Lower-case form of each byte of a word; 0 for bytes between words."""


@compiled
def words(data: Bytes, table: Bytes, hashes: Hashes, starts: Integers) -> int:
    """Hash the words of a text, ignoring the case of ASCII letters.

    Words are sequences of letters and digits of any script.

    Args:
        data: text in UTF-8.
        table: `WORD`.
        hashes: output, one hash per word; length at least len(data) // 2 + 1.
        starts: output, offset of each word in bytes; as long as `hashes`.

    Returns:
        Count of words.
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
            hashes[count] = mix_bits(value)
            count += 1
    if inside:
        hashes[count] = mix_bits(value)
        count += 1
    return count


@compiled
def mix_bits(value: np.uint64) -> np.uint64:
    """Spread a hash over all 64 bits by the finalizer of SplitMix64."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@compiled
def ngrams(hashes: Hashes, length: int) -> Hashes:
    """Hash each sequence of `length` words; shape (max(words - length + 1, 0),)."""
    count = max(0, len(hashes) - length + 1)
    grams = np.empty(count, np.uint64)
    base, top = np.uint64(0x9E3779B97F4A7C15), np.uint64(1)
    for _ in range(length):
        top *= base
    rolling = np.uint64(0)
    for at in range(len(hashes)):
        rolling = rolling * base + hashes[at]
        if at >= length:
            rolling -= hashes[at - length] * top
        if at >= length - 1:
            grams[at - length + 1] = mix_bits(rolling)
    return grams


@compiled
def signature(grams: Hashes, bins: int) -> NDArray[np.uint32]:
    """Compute the one-permutation MinHash (Li, Owen and Zhang, 2012): the smallest hash per bin.

    An empty bin takes the value of the next filled bin.

    Args:
        grams: hashes of the document's shingles; not empty.
        bins: number of bins; a power of two.
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
    for place in range(bins):  # simpler than optimal densification, and equally good for near duplicates
        step = 0
        while filled[(place + step) % bins] == 0 and step < bins:
            step += 1
        if step:
            least[place] = least[(place + step) % bins] + np.uint32(step * 0x9E3779B1)
    return least


@compiled
def bands(least: NDArray[np.uint32], count: int, rows: int) -> Hashes:
    """Hash each band of a signature; shape (count,).

    Args:
        least: the signature, as `signature` returns it.
        count: number of bands.
        rows: bins per band.
    """
    hashes = np.empty(count, np.uint64)
    for band in range(count):
        value = np.uint64(band + 1)
        for row in range(rows):
            value = mix_bits(value + np.uint64(least[band * rows + row]))
        hashes[band] = value
    return hashes


@compiled
def repeated(grams: Hashes, room: Hashes, length: int) -> tuple[int, int, int]:
    """Measure how much of a text is in repeated n-grams.

    Args:
        grams: hash of each n-gram, in order.
        room: memory of a hash table; a power of two, and at least twice the number of n-grams.
        length: words of an n-gram.

    Returns:
        Count of words in repeated n-grams, and start and stop of the longest sequence of such words.
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


def classes(symbol_kinds: Bytes) -> Integers:
    """Build the indicator matrix of bytes by class of `PROFILE`; shape (classes, 256).

    Args:
        symbol_kinds: class of each byte: 5 for letters, 4 for symbols.
    """
    numbers = np.arange(256)
    controls = ((numbers < 32) & ~np.isin(numbers, (9, 10, 11, 12, 13, 27))).astype(np.int64)
    digits = np.isin(numbers, list(b"0123456789"))
    markup = np.isin(numbers, list(b"<&"))
    return np.stack([symbol_kinds == 5, digits, symbol_kinds == 4, controls, numbers == 0xC2, markup]).astype(np.int64)


@compiled
def counts(data: Bytes) -> Integers:
    """Count each byte; shape (256,).

    Four tables alternate, because successive increments of one counter must wait for each other.
    """
    tables = np.zeros((4, 256), np.int64)
    whole = len(data) // 4
    for at in range(whole):
        tables[0, data[4 * at]] += 1
        tables[1, data[4 * at + 1]] += 1
        tables[2, data[4 * at + 2]] += 1
        tables[3, data[4 * at + 3]] += 1
    for at in range(4 * whole, len(data)):
        tables[0, data[at]] += 1
    total: Integers = tables[0] + tables[1] + tables[2] + tables[3]
    return total


@compiled
def late_controls(data: Bytes) -> int:
    """Count U+0080 to U+009F in a text, except the line end U+0085."""
    count = 0
    for at in range(len(data) - 1):
        count += data[at] == 0xC2 and 0x80 <= data[at + 1] < 0xA0 and data[at + 1] != 0x85
    return count


@compiled
def lines(data: Bytes) -> tuple[int, int]:
    """Count lines with text, and indented lines among them."""
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
    """Count the bytes of repeated lines, compared by hash.

    Args:
        data: text in UTF-8.
        room: memory of a hash table; a power of two, and at least twice the number of lines of `least` bytes.
        least: minimum bytes of a counted line.
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
            entry = mix_bits(value) | np.uint64(1)
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
    """List the positions of set flags.

    Args:
        flags: zeros and ones; the length is a multiple of 8.
        size: count of valid flags.
        begin: position of the first flag.
        places: output, filled from index `count`; longer than the number of set flags.
        count: count of places before the call.

    Returns:
        Count of places after the call.
    """
    flags[size : size + 8] = np.uint8(0)
    eights = flags.view(np.uint64)
    for eight in range((size + 7) // 8):
        if eights[eight]:
            for at in range(8 * eight, 8 * eight + 8):
                places[count] = begin + at
                count += flags[at]
    return count
