"""Gutters of hexadecimal addresses: the offsets of a hexdump, and the addresses of a disassembly.

Addresses begin lines (`00000010  7f 45 4c 46`, `401136:  push %rbp`, `0x00401000: ret`), or an extractor put them all before what they
number (`0000 0010 0020`). Code points, product ids and postal codes ascend in hexadecimal as well: they do so in steps of
one, or in uneven ones with nothing behind them that marks an address. Years have no letters, and names such as `a101` always have.
"""

# ruff: noqa: PLR1714  # machine code takes plain arguments, and compares faster than it looks up

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assay.audit import words
from assay.corpus.kernels import compiled

Run = tuple[int, int, int, int, int]
"""Begin and end in bytes, first and last address, and how many there are."""

LEAST = 10
FURTHEST = 64
"""Bytes of a hexdump's line."""
LINE_REACH = 160
"""Bytes of a line of 32 bytes, or of an instruction with its code and a comment."""
LONGEST = 15
"""Bytes of an instruction."""
MOST_RUNS = 64
CHUNK = 4096
"""Bytes in which addresses are searched for at a time."""
SKIPS = 8
"""One step in so many may be several lines of a hexdump: it leaves out those that are like the one before."""
_ALL = 1 << 64
_NO_DECIMAL, _COLONS, _DECIMAL, _UNEVEN = 1, 2, 4, 8
"""Marks: an address that is no decimal number; colons behind all; one that could be a decimal number; a step that is no multiple."""


def _values() -> NDArray[np.int8]:
    table = np.full(256, -1, np.int8)
    for digit, byte in enumerate(b"0123456789abcdef"):
        table[byte] = digit
    for digit, byte in enumerate(b"ABCDEF", 10):
        table[byte] = digit
    return table


_VALUE = _values()


def find(data: bytes) -> list[Run]:
    r"""The runs of addresses in a document, in order.

    >>> dump = "".join(f"{16 * n:08x}  7f 45 4c 46 02 01 01 00\n" for n in range(20))
    >>> find(dump.encode())
    [(0, 654, 0, 304, 20)]
    >>> find("".join(f"{n:04x} LATIN SMALL LETTER\n" for n in range(0x1D00, 0x1D40)).encode())
    []
    """
    if len(data) < 4 * LEAST:
        return []
    found = np.empty((MOST_RUNS, 5), np.int64)
    count = _find(np.frombuffer(data, np.uint8), _VALUE, found)
    # A kernel's addresses have the highest bit set, which is the sign of what machine code counts with.
    return [(int(a), int(b), int(c) % _ALL, int(d) % _ALL, int(e)) for a, b, c, d, e in found[:count]]


# A run has ten places: begin, end, first and last address, how many, the least and the largest step, how many other steps than the
# least, digits, and marks.


@compiled
def _find(data: NDArray[np.uint8], values: NDArray[np.int8], found: NDArray[np.int64]) -> int:
    """Follow addresses at the beginnings of lines, and in rows with nothing between them."""
    run, here, row = np.zeros(10, np.int64), np.zeros(10, np.int64), np.zeros(10, np.int64)
    size, count, onward = len(data), 0, 0
    flags, places = np.empty(CHUNK, np.uint8), np.empty(CHUNK + 1, np.int64)
    chunk, number, turn = 0, 0, 0
    while count < len(found):
        if turn == number:
            if chunk >= size:
                break
            number, turn = _candidates(data, chunk, flags, places), 0
            chunk += CHUNK
            continue
        at = places[turn]
        turn += 1
        if at < onward:
            continue
        leads, begin = data[at] == 10 or at == 0, at
        if leads:
            begin += data[at] == 10
            while begin < size and (data[begin] == 32 or data[begin] == 9):
                begin += 1
        # An address has 4 digits at least, with 0x or without; to call `_read` for each line took longer than all the rest.
        if begin + 3 >= size or data[begin] == 10 or values[data[begin]] < 0 or values[data[begin + 3]] < 0:
            continue
        onward = begin + 1
        if not _read(data, values, begin, here):
            continue
        _copy(here, row)
        while row[1] + 1 < size and data[row[1]] <= 32 and _read(data, values, row[1] + 1 + (data[row[1]] == 13), here):
            if not _goes_on(row, here, 2) or (row[4] > 1 and here[3] - row[3] != row[5]):
                break
            _add(row, here)
        if _is_gutter(row):
            count = _put(found, count, row)
            run[4] = 0
            onward = row[1]
        elif leads:
            _read(data, values, begin, here)
            onward = here[1]
            if _goes_on(run, here, LINE_REACH):
                _add(run, here)
            elif _is_label(run, here):
                run[1] = here[1]
            else:
                if _is_gutter(run):
                    count = _put(found, count, run)
                _copy(here, run)
    return _put(found, count, run) if count < len(found) and _is_gutter(run) else count


@compiled
def _candidates(data: NDArray[np.uint8], chunk: int, flags: NDArray[np.uint8], places: NDArray[np.int64]) -> int:
    """Where an address may begin: the text's beginning, ends of lines, and zeros behind a blank.

    A loop without a branch does 32 bytes at a time; then only those that are marked are looked at.

    Returns:
        How many of the places are filled.
    """
    first = max(chunk, 1)
    here, before = data[first : chunk + CHUNK], data[first - 1 : chunk + CHUNK - 1]
    for at in range(len(here)):
        flags[at] = (here[at] == 10) | ((here[at] == 48) & (before[at] <= 32))
    places[0] = 0
    return words.flagged(flags, len(here), first, places, 1 if chunk == 0 else 0)


@compiled
def _copy(run: NDArray[np.int64], into: NDArray[np.int64]) -> None:
    for place in range(10):
        into[place] = run[place]


@compiled
def _put(found: NDArray[np.int64], count: int, run: NDArray[np.int64]) -> int:
    for place in range(5):
        found[count, place] = run[place]
    return count + 1


@compiled
def _read(data: NDArray[np.uint8], values: NDArray[np.int8], start: int, run: NDArray[np.int64]) -> bool:
    """Read an address of 4 to 16 digits, and begin a run with it."""
    size = len(data)
    if start >= size or values[data[start]] < 0:
        return False
    prefix = start + 2 < size and data[start] == 48 and (data[start + 1] == 120 or data[start + 1] == 88)  # 0x
    begin = stop = start + 2 * prefix
    value = letters = 0
    while stop < size and values[data[stop]] >= 0 and stop - begin < 17:
        value = (value << 4) | values[data[stop]]
        letters += values[data[stop]] > 9
        stop += 1
    digits = stop - begin
    if digits < 4 or digits > 16 or (stop < size and data[stop] > 32 and data[stop] != 58 and data[stop] != 124):
        return False
    run[0], run[1], run[2], run[3], run[4] = start, stop, value, value, 1
    run[5], run[6], run[7], run[9] = 0, 0, digits, 0
    # A decimal number has no letter, no zero at its beginning and no 0x.
    run[8] = _NO_DECIMAL if letters or prefix or data[begin] == 48 else _DECIMAL
    if stop < size and data[stop] == 58:
        run[8] |= _COLONS
    return True


@compiled
def _is_label(run: NDArray[np.int64], here: NDArray[np.int64]) -> bool:
    """Whether it is the line of a symbol, which `objdump` writes with all 16 digits between the instructions."""
    return bool(run[4] > 0 and run[7] < 16 and here[7] == 16 and 0 < here[3] - run[3] <= FURTHEST)


@compiled
def _goes_on(run: NDArray[np.int64], here: NDArray[np.int64], reach: int) -> bool:
    return bool(run[4] > 0 and 0 < here[3] - run[3] <= FURTHEST and here[7] == run[7] and here[0] - run[1] <= reach)


@compiled
def _add(run: NDArray[np.int64], here: NDArray[np.int64]) -> None:
    step = here[3] - run[3]
    if run[4] == 1:
        run[5], run[9] = step, step
    run[6] = run[4] - 1 if step < run[5] else run[6] + (step > run[5])
    if max(step, run[5]) % min(step, run[5]) != 0:
        run[8] |= _UNEVEN
    run[5], run[9] = min(step, run[5]), max(step, run[9])
    run[1], run[3] = here[1], here[3]
    run[4] += 1
    run[8] |= here[8] & (_NO_DECIMAL | _DECIMAL)  # one number that is no decimal will do
    if not here[8] & _COLONS:  # all have to have colons
        run[8] &= ~_COLONS


@compiled
def _is_gutter(run: NDArray[np.int64]) -> bool:
    if run[4] < LEAST:
        return False
    step, colons = run[5], (run[8] & _COLONS) != 0
    # Years, registers and names such as a101; short offsets of a hexdump begin with a zero, those of a program have colons.
    if run[7] < 6 and not 0 <= run[2] < 0x1000 and not (colons and run[8] & _NO_DECIMAL and run[8] & _DECIMAL):
        return False
    if run[6] == 0 or (step >= 8 and SKIPS * run[6] <= run[4] and not run[8] & _UNEVEN):  # a hexdump
        return bool(
            (run[8] & _NO_DECIMAL) and (step == 2 or step == 4 or step == 8 or step == 16 or step == 32 or step == 64)
        )
    if run[9] > LONGEST or not run[8] & _NO_DECIMAL:  # ten addresses without a letter are numbers of bugs or products
        return False
    return bool(run[7] >= 8 or (colons and (run[7] >= 6 or run[2] >= 0x1000)))  # a disassembly
