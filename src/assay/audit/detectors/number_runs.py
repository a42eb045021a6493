"""Follow ascending integers in a text, in a row or at the start of lines with gaps.

`gutter_rules` decides which runs of integers are line numbers.
"""

# ruff: noqa: PLR0917, PLR1714  # compiled code takes plain arguments, and comparisons are faster than lookups

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assay.audit.detectors import shingles
from assay.corpus.kernels import compiled

Bytes = NDArray[np.uint8]

LEAST = 10
"""Minimum count of numbers in a run: shorter runs are lists, table heads and loops."""
REACH = 200
"""Maximum bytes between inline numbers: a line of code with its indentation."""
LINE_REACH = 600
"""Maximum bytes between numbers at the start of lines. Such lines of code may be longer."""
LARGEST_GAP = 30
"""Maximum difference of successive line numbers: extractors drop comments and blank lines."""
MOST_ENDED = 64
"""Capacity of the table of finished runs, which the caller evaluates in batches."""
CHUNK = 4096
"""Number of bytes that are searched at a time. The list of candidates fits into the L1 cache."""

_DIGIT, _SPACE, _NEWLINE = 1, 2, 3
_SYMBOL = 4
_LETTER = 5


def _symbols() -> Bytes:
    """Build the table of symbols and letters by byte."""
    table = np.zeros(256, np.uint8)
    table[list(b"{}();=<>[]_#&*/\\\"$@!+^~`'%")] = _SYMBOL
    table[list(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")] = _LETTER
    table[128:] = _LETTER
    return table


def _classes(symbols: Bytes) -> Bytes:
    """Build the table of classes by byte, with separate classes for symbols and letters."""
    table = symbols.copy()
    table[list(b"0123456789")] = _DIGIT
    table[list(b" \t\r\f\v\xc2\xa0")] = _SPACE  # C2 A0 is a no-break space, with which many pages align numbers
    table[10] = _NEWLINE
    return table


SYMBOLS = _symbols()
CLASSES = _classes(SYMBOLS)


# A run has five entries: start, first number, last number, end of the last number, count of numbers. Each array holds
# the current run, a waiting run and the run that ended last. The array is flat, because array views dominated the run
# time.


@compiled
def candidates(data: Bytes, begin: int, flags: Bytes, places: NDArray[np.int64]) -> int:
    """List possible starts of numbers.

    Numbers start at the start of the text, or behind a blank or a bracket.

    A branch-free loop flags candidates in blocks of 32 bytes. Then the function reads only the flagged bytes.

    Returns:
        Count of listed places.
    """
    first = max(begin, 1)
    here, before = data[first : begin + CHUNK], data[first - 1 : begin + CHUNK - 1]
    for at in range(len(here)):
        blank = (before[at] <= 32) | (before[at] == 160) | (before[at] == 91)
        flags[at] = (np.uint8(here[at] - np.uint8(48)) <= 9) & blank
    count = 0
    if begin == 0 and np.uint8(data[0] - np.uint8(48)) <= 9:
        places[0] = 0
        count = 1
    return shingles.flagged(flags, len(here), first, places, count)


@compiled
def follow_all(
    data: Bytes,
    kinds: Bytes,
    places: NDArray[np.int64],
    done: int,
    number: int,
    followed: NDArray[np.int64],
    ended: NDArray[np.int64],
) -> tuple[int, int]:
    """Follow runs through numbers, until all numbers are processed or the table is full.

    Args:
        data: the text.
        kinds: class of each byte.
        places: possible starts of numbers.
        done: count of places that were processed before.
        number: count of places.
        followed: current inline runs, and current runs at the start of lines; shape (2, 15).
        ended: table to fill with finished runs and whether their numbers begin lines; shape (capacity, 6).

    Returns:
        Count of processed places, and count of finished runs.
    """
    inline, leading = followed[0], followed[1]
    size, count = len(data), 0
    while done < number and count + 2 <= len(ended):
        start = places[done]
        done += 1
        bracket = start > 0 and data[start - 1] == 91  # [12]
        stop, value = start, 0
        while stop < size and stop - start <= 7 and kinds[data[stop]] == 1:
            value = 10 * value + data[stop] - 48
            stop += 1
        if stop - start > 7 or not ends_number(data, kinds, stop):
            continue
        if not bracket and _follow(inline, start, value, stop, REACH, 1):
            count = _put(ended, count, inline, 10, 0)
        if (
            leads_line(data, kinds, start - bracket)
            and (not bracket or (stop < size and data[stop] == 93))
            and _follow(leading, start, value, stop, LINE_REACH, LARGEST_GAP)
        ):
            count = _put(ended, count, leading, 10, 1)
    return done, count


@compiled
def unfinished(followed: NDArray[np.int64], ended: NDArray[np.int64]) -> int:
    """Finish the current runs at the end of the text; return their count."""
    count = 0
    for place in (0, 5):
        if followed[1, place + 4] >= LEAST:
            count = _put(ended, count, followed[1], place, 1)
        if followed[0, place + 4] >= LEAST:
            count = _put(ended, count, followed[0], place, 0)
    return count


@compiled
def _follow(runs: NDArray[np.int64], start: int, value: int, stop: int, reach: int, gap: int) -> bool:
    """Append a number to the run that it continues, or start a run with the number.

    The array holds a current run, a waiting run, and the run that ended last. The waiting run replaces the current run if
    the waiting run grows while the current run does not, so that an unrelated number does not hide a code block behind it.

    Returns:
        Whether the current run ended with enough numbers. The ended run is then in the last five entries.
    """
    if runs[4] > 0 and start - runs[3] <= reach and 0 < value - runs[2] <= gap:
        runs[2], runs[3] = value, stop
        runs[4] += 1
        return False
    ended = False
    if runs[4] == 0 or start - runs[3] > reach:
        ended = _retire(runs)
        if runs[9] == 0 or start - runs[8] > reach:
            runs[0], runs[1], runs[2], runs[3], runs[4], runs[9] = start, value, value, stop, 1, 0
            return ended
        for place in range(5):
            runs[place] = runs[5 + place]
        runs[9] = 0
        if 0 < value - runs[2] <= gap:
            runs[2], runs[3] = value, stop
            runs[4] += 1
            return ended
    if runs[9] > 0 and 0 < value - runs[7] <= gap and start - runs[8] <= reach:
        runs[7], runs[8] = value, stop
        runs[9] += 1
        if not ended and (runs[9] >= LEAST or (runs[9] >= 3 and runs[9] > runs[4])):
            ended = _retire(runs)
            for place in range(5):
                runs[place] = runs[5 + place]
            runs[9] = 0
    else:
        runs[5], runs[6], runs[7], runs[8], runs[9] = start, value, value, stop, 1
    return ended


@compiled
def _retire(runs: NDArray[np.int64]) -> bool:
    """Copy the current run to the last five entries, if it has enough numbers."""
    if runs[4] < LEAST:
        return False
    for place in range(5):
        runs[10 + place] = runs[place]
    return True


@compiled
def _put(ended: NDArray[np.int64], count: int, runs: NDArray[np.int64], place: int, leads: int) -> int:
    for column in range(5):
        ended[count, column] = runs[place + column]
    ended[count, 5] = leads
    return count + 1


@compiled
def leads_line(data: Bytes, kinds: Bytes, at: int) -> bool:
    """Return whether only blanks precede the position on its line."""
    at -= 1
    while at >= 0 and kinds[data[at]] == 2:
        at -= 1
    return at < 0 or data[at] == 10


@compiled
def ends_number(data: Bytes, kinds: Bytes, at: int) -> bool:
    """Return whether a number that ends at `at` may be a line number.

    Parts of a decimal, a time, a date or a list are not line numbers.
    """
    if at >= len(data):
        return True
    byte = data[at]
    if byte == 44 or byte == 37 or byte == 95 or byte == 45:  # , % _ -
        return False
    if byte == 46 or byte == 58 or byte == 47:  # . : /
        return at + 1 >= len(data) or kinds[data[at + 1]] != 1
    return True
