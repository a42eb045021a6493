r"""Line-number gutters: runs of ascending integers that an extractor made of a listing's line numbers.

One pass over the bytes finds numbers that count up, in a row (`1 2 3`, `1\n2\n3`, with code between them or without)
or at the beginnings of lines with gaps (`12#ifndef`, `13#define`, `15#include`). Numbers count up in verses, lists, tables
and loops too, so that each run is then judged by what stands between its numbers: nothing at all, which is the column of
a listing, or code. Thresholds were set on pages of Debian's documentation; `benchmarks/gutters.py` prints what they miss.
"""

# ruff: noqa: FBT001, PLR0917  # machine code takes plain arguments, and compares faster than it looks up

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assay.audit import addresses
from assay.audit.ascending import (
    CHUNK,
    CLASSES,
    LARGEST_GAP,
    LEAST,
    MOST_ENDED,
    SIGNS,
    candidates,
    ends_number,
    follow_all,
    leads_line,
    unfinished,
)
from assay.corpus.kernels import compiled

Bytes = NDArray[np.uint8]
Run = tuple[int, int, int, int, int]
"""Begin and end in bytes, first and last number, and how many there are."""

CODE = 0.055
"""Share of code's signs in the text between numbers: prose has 0 to 3%, tables 2%, code 8 to 20%."""
LOOK_AHEAD = 1500
MOST_RUNS = 64
"""Gutters of a document; all of one page's listings, and a bound for hostile text."""


def find(data: bytes) -> list[Run]:
    r"""The gutters of a document.

    Args:
        data: its text in UTF-8.

    Returns:
        Each with its place, in order; empty for almost every document without one.

    >>> listing = "".join(f"{n} x[{n}] = f({n});\n" for n in range(1, 30))
    >>> find(listing.encode())
    [(0, 479, 1, 29, 29)]
    >>> find("".join(f"{n}. Take a bowl, and stir.\n" for n in range(1, 30)).encode())
    []
    """
    if len(data) < 2 * LEAST:
        return []
    found = np.empty((MOST_RUNS, 5), np.int64)
    count = _find(np.frombuffer(data, np.uint8), CLASSES, SIGNS, found)
    runs = [_run(row) for row in found[:count]]
    return _merged([*runs, *_squeezed(data), *addresses.find(data)])


def _run(row: NDArray[np.int64]) -> Run:
    start, stop, first, last, numbers = (int(value) for value in row)
    return start, stop, first, last, numbers


def _squeezed(data: bytes) -> list[Run]:
    """Numbers with nothing at all between them, as markup that is stripped of its tags leaves them."""
    at = data.find(b"101112131415161718192021")
    if at < 0:
        return []
    last, stop = 21, at + 24
    while data.startswith(str(last + 1).encode(), stop):
        last += 1
        stop += len(str(last))
    return [(at, stop, 10, last, last - 9)]


def _merged(runs: list[Run]) -> list[Run]:
    """Runs in order; of those that overlap, the one with most numbers."""
    kept: list[Run] = []
    for run in sorted(runs, key=lambda run: -run[4]):
        if all(run[1] <= other[0] or run[0] >= other[1] for other in kept):
            kept.append(run)
    return sorted(kept)


@compiled
def _find(data: Bytes, kinds: Bytes, signs: Bytes, found: NDArray[np.int64]) -> int:
    """Find runs, judge them, and write down those that are gutters.

    Args:
        data: the text.
        kinds: class of each byte.
        signs: which bytes are signs of code.
        found: filled with the gutters; shape (most, 5).

    Returns:
        How many there are.
    """
    followed, ended = np.zeros((2, 15), np.int64), np.empty((MOST_ENDED, 6), np.int64)
    flags, places = np.empty(CHUNK, np.uint8), np.empty(CHUNK + 1, np.int64)
    count = 0
    for begin in range(0, len(data), CHUNK):
        number = candidates(data, begin, flags, places)
        done = 0
        while done < number and count < len(found):
            done, runs = follow_all(data, kinds, places, done, number, followed, ended)
            count = _judge_all(data, kinds, signs, ended, runs, found, count)
    runs = unfinished(followed, ended)
    return _judge_all(data, kinds, signs, ended, runs, found, count)


@compiled
def _judge_all(
    data: Bytes, kinds: Bytes, signs: Bytes, ended: NDArray[np.int64], runs: int, found: NDArray[np.int64], count: int
) -> int:
    """Write down those runs that are gutters, as far as there is room; how many there are now."""
    for row in range(runs):
        if count < len(found):
            count += _judge(data, kinds, signs, ended[row], ended[row, 5] == 1, found[count])
    return count


@compiled
def _judge(
    data: Bytes, kinds: Bytes, signs: Bytes, run: NDArray[np.int64], leading: bool, found: NDArray[np.int64]
) -> int:
    """Whether a run is a gutter; if so it is written down."""
    # Walk the run again, now looking at what stands between its numbers.
    gap = LARGEST_GAP if leading else 1
    stop = run[3]
    last = run[1] - 1
    numbers = strays = empty = streak = longest = own = streak_own = listed = coloned = keyed = 0
    longest_start = longest_stop = longest_first = longest_last = streak_start = streak_first = 0
    marks = content = 0
    lines = 1
    at = run[0]
    fresh = True
    piece_size = piece_marks = 0
    newline_between = False
    while at < stop:
        kind = kinds[data[at]]
        if kind == 0 or kind > 3:  # most of the text
            if data[at] == 91 and fresh and kinds[data[at + 1]] == 1:
                at += 1
                continue
            fresh = False
            start = at
            while at < stop and (kind == 0 or kind > 3):
                piece_marks += kind == 4
                at += 1
                kind = kinds[data[at]] if at < stop else 3
            piece_size += at - start
            continue
        if kind == 1 and (
            at == run[0] or kinds[data[at - 1]] == 2 or kinds[data[at - 1]] == 3 or (fresh and data[at - 1] == 91)
        ):
            start, value = at, 0
            while at < stop and kinds[data[at]] == 1 and at - start <= 7:
                value = 10 * value + data[at] - 48
                at += 1
            fits = 0 < value - last <= gap and (fresh or not leading) and ends_number(data, kinds, at)
            if fits:
                nothing = numbers > 0 and piece_size == 0
                empty += nothing
                if nothing and value == last + 1:
                    streak += 1
                    streak_own += newline_between
                else:
                    streak, streak_start, streak_first, streak_own = 1, start, value, 0
                if streak > longest:
                    longest, longest_start, longest_first = streak, streak_start, streak_first
                    longest_stop, longest_last, own = at, value, streak_own
                marks += piece_marks
                content += piece_size
                piece_size = piece_marks = 0
                numbers += 1
                last = value
                behind = at
                while behind < len(data) and data[behind] == 32:
                    behind += 1
                if behind + 1 < len(data):
                    keyed += (
                        (data[behind] == 61 and data[behind + 1] == 62)  # =>
                        or (behind > at and data[behind] == 58 and data[behind + 1] == 32)  # ` : `
                        or (behind == at and (data[at] == 59 or data[at] == 44))  # ; ,
                    )
                if at < len(data) and (data[at] == 46 or data[at] == 41):  # . )
                    listed += 1
                    at += 1
                elif at + 1 < len(data) and (
                    data[at] == 58 or data[at] == 124 or data[at] == 93 or data[at + 1] == 124
                ):  # : | ]
                    coloned += 1
                    at += 1 + (data[at + 1] == 124)
                fresh = newline_between = False
                continue
            piece_size += at - start
            strays += fresh
            fresh = False
            continue
        if kind == 3:
            lines += 1
            fresh = newline_between = True
        elif kind == 1:  # in a word
            fresh = False
            piece_size += 1
        at += 1
    if numbers < LEAST:
        return 0
    share = marks / max(1, content)
    column = longest >= LEAST and _is_column(
        data, kinds, signs, longest_start, longest_stop, longest_first, longest_last, longest, own
    )
    # Lines are counted from 1; rows of a table of bits, and frames of a stack, from 0.
    between = (
        run[1] > 0
        and numbers - longest + 1 >= LEAST
        and not (leading and 3 * strays > numbers)  # a table's first column, of which some happen to ascend
        and 2 * keyed <= numbers  # `701 => "x",`, `701 : "x",` and `701;x;0.1` are keys of tables
        and (
            _is_between(numbers, lines, empty, listed, coloned, share, content, leading)
            or (leading and share >= CODE and _is_of_lines(data, kinds, run[0], stop, run[1], listed + coloned))
        )
    )
    if not column and not between:
        return 0
    if between:
        found[0], found[1], found[2], found[3], found[4] = run[0], stop, run[1], run[2], numbers
    else:
        found[0], found[1], found[2] = longest_start, longest_stop, longest_first
        found[3], found[4] = longest_last, longest
    return 1


@compiled
def _is_between(
    numbers: int,
    lines: int,
    empty: int,
    listed: int,
    coloned: int,
    share: float,
    content: int,
    leading: bool,
) -> bool:
    """Whether numbers with text between them are a gutter: the text is code, or lines of it are blank."""
    if leading and numbers < 0.3 * lines:
        return False
    if not leading and 4 * lines > numbers:  # lines that are there would begin with their numbers
        return False
    if content < 2 * numbers:  # a table of numbers
        return False
    if 2 * listed > numbers:  # `1. ` and `1) ` are how lists are numbered
        return share >= 0.08 and empty >= 2
    if 2 * coloned > numbers:  # `1: ` and `1 | ` are mappings in source code and rows of tables, which are never blank
        return share >= CODE and empty >= 2
    return share >= CODE or (share >= 0.025 and 12 * empty >= numbers)


@compiled
def _is_of_lines(data: Bytes, kinds: Bytes, start: int, stop: int, first: int, marked: int) -> bool:
    """Whether numbers at the beginnings of lines number these lines, and the text behind them is indented as code is.

    A number of which is told that it is line 20 stands five lines below line 15, whether all lines are numbered or each fifth.
    """
    at, line, last_line, last = start, 0, 0, first - 1
    numbers = fitting = 0
    least_gap = least_column = 1 << 30
    for turn in range(2):  # first the least indentation, then the lines that have more
        deeper = 0
        at, line = start, 0
        begun = start
        while at < stop:
            while at < stop and (kinds[data[at]] == 2 or data[at] == 91):
                at += 1
            value, digits = 0, at
            while at < stop and kinds[data[at]] == 1 and at - digits <= 7:
                value = 10 * value + data[at] - 48
                at += 1
            if at > digits and 0 < value - last <= LARGEST_GAP:
                if turn == 0:
                    numbers += 1
                    fitting += numbers == 1 or value - last == line - last_line
                    last, last_line = value, line
                while at < stop and (data[at] == 46 or data[at] == 41 or data[at] == 58 or data[at] == 93):
                    at += 1
                gap = at
                width = 0
                while at < len(data) and (kinds[data[at]] == 2 or data[at] == 124):
                    width += 8 if data[at] == 9 else 1
                    at += 1
                if at < stop and data[at] != 10:
                    column = gap - begun + width
                    if turn == 0:
                        least_gap, least_column = min(least_gap, width), min(least_column, column)
                    else:
                        deeper += width >= least_gap + 2 and column >= least_column + 2
                if turn == 1:
                    last = value
            while at < stop and data[at] != 10:
                at += 1
            at += 1
            line += 1
            begun = at
        last = first - 1
    if numbers < LEAST or fitting < 0.8 * numbers:
        return False
    return 2 * marked < numbers or 5 * deeper >= numbers


@compiled
def _is_aligned(data: Bytes, start: int, stop: int) -> bool:
    """Whether numbers on lines of their own end in the same column, with space before the shorter ones."""
    while start > 0 and data[start - 1] == 32:
        start -= 1
    width = at = 0
    padded = whole = 0
    for place in range(start, stop):
        if data[place] == 10:
            if at > 0:
                if width and at != width:
                    return False
                width = at
                whole += 1
            at = 0
        else:
            padded += at == 0 and data[place] == 32
            at += 1
    return whole >= 9 and 0 < padded < whole


@compiled
def _is_column(
    data: Bytes, kinds: Bytes, signs: Bytes, start: int, stop: int, first: int, last: int, numbers: int, own: int
) -> bool:
    """Whether numbers with nothing between them are a listing's column, or a calendar, pager, table head or loop."""
    if first == 0 and numbers < 20:  # what a loop prints; a longer one may have a stray 0 before it
        return False
    # What follows: text of a listing, which has signs of code, and about a line for each number.
    end = min(len(data), stop + LOOK_AHEAD)
    marks = content = following = 0
    at = stop
    code = False
    while at < end:
        sign = signs[data[at]]
        marks += sign == 4
        content += sign != 0 or kinds[data[at]] == 1
        if data[at] == 10:
            following += 1
            if following == numbers:  # its lines end here; prose may follow
                code = marks >= CODE * content and content >= 2 * min(numbers, 100)
        at += 1
    listing = code or following < numbers
    code = code or (marks >= CODE * content and content >= 2 * min(numbers, 100))
    if 2 * own >= numbers:  # each on a line of its own
        if first == 1 and 28 <= last <= 31:  # the days of a month
            return code
        if first >= 1900 and last <= 2100:  # years
            return code
        return code or numbers >= 40 or _is_aligned(data, start, stop)
    if own > 0 or (first >= 1900 and last <= 2100):  # a calendar's weeks, a row of years
        return False
    begins = leads_line(data, kinds, start)
    at = stop
    while at < len(data) and kinds[data[at]] == 2:
        at += 1
    if at >= len(data) or data[at] == 10:  # alone on its line, or at its end: `node 0 cpus: 1 2 3`, output of a loop
        if not begins or (first == 1 and 28 <= last <= 31 and not code):
            return False
        if numbers >= 20:
            return True
        if start > 0 and data[start - 1] != 10:  # heads of a diagram's columns
            return False
        marks = content = 0
        for at in range(max(0, start - 100), start):  # behind code it is what the code printed
            marks += signs[data[at]] == 4
            content += signs[data[at]] != 0
        return code and listing and following + 2 >= numbers and marks < CODE * content + 1
    if numbers < 20 and (data[at] == 59 or data[at] == 41 or data[at] == 34):  # `for i in 1 2 3; do`
        return False
    return code
