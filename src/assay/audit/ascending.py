"""Numbers that count up in a text: in a row, or at the beginnings of lines with gaps; what they are is for others to judge."""

# ruff: noqa: PLR0917, PLR1714  # machine code takes plain arguments, and compares faster than it looks up

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assay.audit import words
from assay.corpus.kernels import compiled

Bytes = NDArray[np.uint8]

LEAST = 10
"""Numbers in a run: shorter ones are lists, table heads and loops."""
REACH = 200
"""Bytes from a number to the next one in running text: a line of code, with its indentation."""
LINE_REACH = 600
"""The same for numbers at the beginnings of lines, whose code may be long."""
LARGEST_GAP = 30
"""Line numbers that may be missing between two: extractors drop comments and blank lines."""
MOST_ENDED = 64
"""Runs that are judged at a time."""
CHUNK = 4096
"""Bytes in which numbers are searched for at a time: what is written down of them stays in the nearest cache."""

_DIGIT, _SPACE, _NEWLINE = 1, 2, 3
_SIGN = 4
_LETTER = 5


def _signs() -> Bytes:
    """Which bytes are signs of code, and which are letters."""
    table = np.zeros(256, np.uint8)
    table[list(b"{}();=<>[]_#&*/\\\"$@!+^~`'%")] = _SIGN
    table[list(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")] = _LETTER
    table[128:] = _LETTER
    return table


def _classes(signs: Bytes) -> Bytes:
    """What each byte is, signs and letters told apart as well."""
    table = signs.copy()
    table[list(b"0123456789")] = _DIGIT
    table[list(b" \t\r\f\v\xc2\xa0")] = _SPACE  # C2 A0 is a no-break space, which many pages align numbers with
    table[10] = _NEWLINE
    return table


SIGNS = _signs()
CLASSES = _classes(SIGNS)


# A run that is being followed has five places: where it began, its first and last number, where that ends, how many.
# Two runs are followed, and the third is the one that ended; a flat array, because views cost more than the rest.


@compiled
def candidates(data: Bytes, begin: int, flags: Bytes, places: NDArray[np.int64]) -> int:
    """Where numbers begin that may be a line's: at the text's beginning, and behind space, a no-break space or a bracket.

    A loop without a branch does 32 bytes at a time; then only those that are marked are looked at.

    Returns:
        How many of the places are filled.
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
    return words.flagged(flags, len(here), first, places, count)


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
    """Follow runs through numbers until there are no more of them, or as many runs as there is room for have ended.

    Args:
        data: the text.
        kinds: class of each byte.
        places: where numbers may begin.
        done: how many of them were followed before.
        number: how many there are.
        followed: the runs in running text, and those at the beginnings of lines; shape (2, 15).
        ended: filled with runs that are long enough, and whether their numbers begin lines; shape (most, 6).

    Returns:
        How many numbers were followed, and how many runs have ended.
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
    """Put the runs that the text's end has ended where they are judged; how many there are."""
    count = 0
    for place in (0, 5):
        if followed[1, place + 4] >= LEAST:
            count = _put(ended, count, followed[1], place, 1)
        if followed[0, place + 4] >= LEAST:
            count = _put(ended, count, followed[0], place, 0)
    return count


@compiled
def _follow(runs: NDArray[np.int64], start: int, value: int, stop: int, reach: int, gap: int) -> bool:
    """Give a number to the run that it goes on, or begin one with it.

    The first of two runs is the one that is followed; the second waits for it to end, and takes over if it grows
    while the first does not: a stray number must not hide the listing behind it.

    Returns:
        Whether the first run ended and is worth judging; it is then in the last five places.
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
    """Put the first run into the last five places, if it is long enough to be judged."""
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
    """Whether there is only space before it on its line."""
    at -= 1
    while at >= 0 and kinds[data[at]] == 2:
        at -= 1
    return at < 0 or data[at] == 10


@compiled
def ends_number(data: Bytes, kinds: Bytes, at: int) -> bool:
    """Whether a number that ends here may be a line's: no part of a decimal, a time, a date, a list with commas."""
    if at >= len(data):
        return True
    byte = data[at]
    if byte == 44 or byte == 37 or byte == 95 or byte == 45:  # , % _ -
        return False
    if byte == 46 or byte == 58 or byte == 47:  # . : /
        return at + 1 >= len(data) or kinds[data[at + 1]] != 1
    return True
