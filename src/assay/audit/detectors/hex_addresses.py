"""Detect line-number gutters of hexadecimal addresses: offsets of hexdumps, disassembly addresses.

Addresses begin lines (`00000010  7f 45 4c 46`, `401136:  push %rbp`, `0x00401000: ret`), or an extractor put all
addresses before the text (`0000 0010 0020`). Code points, product ids and postal codes also ascend. Their steps are
one, or uneven without an address mark. Years have no letters, and names such as `a101` always have one letter.
"""

# ruff: noqa: PLR1714  # compiled code takes plain arguments, and comparisons are faster than lookups

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assay.audit.detectors import shingles
from assay.audit.detectors.gutter_rules import Rule
from assay.corpus.kernels import compiled

Run = tuple[int, int, int, int, int, int]
"""Start and end in bytes, first and last address, count of addresses, and the rule that fired."""

LEAST = 10
FURTHEST = 64
"""Maximum bytes that a line of a hexdump shows."""
LINE_REACH = 160
"""Maximum text bytes between addresses: a hexdump line of 32 bytes, or an instruction with code and comment."""
LONGEST = 15
"""Maximum bytes of an instruction."""
MOST_RUNS = 64
CHUNK = 4096
"""Number of bytes that are searched for addresses at a time."""
SKIPS = 8
"""Of this many steps, one may span several lines, because hexdumps omit lines that repeat the previous line."""
_ALL = 1 << 64
_NO_DECIMAL, _COLONS, _DECIMAL, _UNEVEN = 1, 2, 4, 8
"""Flags of a run.

An address is not decimal; all addresses have colons; an address may be decimal; a step is no multiple of the smallest.
"""


def _values() -> NDArray[np.int8]:
    table = np.full(256, -1, np.int8)
    for digit, byte in enumerate(b"0123456789abcdef"):
        table[byte] = digit
    for digit, byte in enumerate(b"ABCDEF", 10):
        table[byte] = digit
    return table


_VALUE = _values()


def find(data: bytes) -> list[Run]:
    r"""Detect the runs of addresses in a document, in order.

    >>> dump = "".join(f"{16 * n:08x}  7f 45 4c 46 02 01 01 00\n" for n in range(20))
    >>> find(dump.encode())
    [(0, 654, 0, 304, 20, 11)]
    >>> find("".join(f"{n:04x} LATIN SMALL LETTER\n" for n in range(0x1D00, 0x1D40)).encode())
    []
    """
    if len(data) < 4 * LEAST:
        return []
    rows = np.empty((MOST_RUNS, 6), np.int64)
    count = _find(np.frombuffer(data, np.uint8), _VALUE, rows)
    # Kernel addresses have the highest bit set, which is the sign bit of int64.
    return [(a, b, c % _ALL, d % _ALL, e, rule) for a, b, c, d, e, rule in rows[:count].tolist()]


# A run is an array of ten: start, end, first and last address, count of addresses, smallest step, count of steps other
# than the smallest, digits, flags, largest step.


@compiled
def _find(data: NDArray[np.uint8], values: NDArray[np.int8], rows: NDArray[np.int64]) -> int:
    """Follow addresses at the start of lines, and in rows without text between them."""
    run, here, row = np.zeros(10, np.int64), np.zeros(10, np.int64), np.zeros(10, np.int64)
    size, count, onward = len(data), 0, 0
    flags, places = np.empty(CHUNK, np.uint8), np.empty(CHUNK + 1, np.int64)
    chunk, number, turn = 0, 0, 0
    while count < len(rows):
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
        # An address has at least 4 digits, with or without 0x. A call of `_read` for each line dominated the run time.
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
        rule = _rule(row)
        if rule != Rule.NONE:
            count = _put(rows, count, row, rule.value)
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
                rule = _rule(run)
                if rule != Rule.NONE:
                    count = _put(rows, count, run, rule.value)
                _copy(here, run)
    rule = _rule(run)
    return _put(rows, count, run, rule.value) if count < len(rows) and rule != Rule.NONE else count


@compiled
def _candidates(data: NDArray[np.uint8], chunk: int, flags: NDArray[np.uint8], places: NDArray[np.int64]) -> int:
    """List possible starts of addresses.

    Addresses start at the start of the text, after line ends, or with zeros behind a blank.

    A branch-free loop flags candidates in blocks of 32 bytes. Then the function reads only the flagged bytes.

    Returns:
        Count of listed places.
    """
    first = max(chunk, 1)
    here, before = data[first : chunk + CHUNK], data[first - 1 : chunk + CHUNK - 1]
    for at in range(len(here)):
        flags[at] = (here[at] == 10) | ((here[at] == 48) & (before[at] <= 32))
    places[0] = 0
    return shingles.flagged(flags, len(here), first, places, 1 if chunk == 0 else 0)


@compiled
def _copy(run: NDArray[np.int64], into: NDArray[np.int64]) -> None:
    for place in range(10):
        into[place] = run[place]


@compiled
def _put(rows: NDArray[np.int64], count: int, run: NDArray[np.int64], rule: int) -> int:
    for place in range(5):
        rows[count, place] = run[place]
    rows[count, 5] = rule
    return count + 1


@compiled
def _read(data: NDArray[np.uint8], values: NDArray[np.int8], start: int, run: NDArray[np.int64]) -> bool:
    """Read an address of 4 to 16 digits, and start a run with it."""
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
    # A decimal number has no letter, no leading zero and no 0x.
    run[8] = _NO_DECIMAL if letters or prefix or data[begin] == 48 else _DECIMAL
    if stop < size and data[stop] == 58:
        run[8] |= _COLONS
    return True


@compiled
def _is_label(run: NDArray[np.int64], here: NDArray[np.int64]) -> bool:
    """Return whether the line is a symbol that `objdump` writes between instructions, with 16 digits."""
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
    run[8] |= here[8] & (_NO_DECIMAL | _DECIMAL)  # one non-decimal number suffices
    if not here[8] & _COLONS:  # all need colons
        run[8] &= ~_COLONS


@compiled
def _rule(run: NDArray[np.int64]) -> Rule:
    """Return the rule that fires for a run."""
    if run[4] < LEAST or _is_short(run):
        return Rule.NONE
    if _is_even(run):
        return Rule.HEXDUMP if _is_hexdump(run) else Rule.NONE
    return Rule.DISASSEMBLY if _is_disassembly(run) else Rule.NONE


@compiled
def _is_short(run: NDArray[np.int64]) -> bool:
    """Return whether addresses are short, like years, registers and names such as `a101`.

    Short offsets of a hexdump begin with a zero. Short addresses of a program have colons.
    """
    marked = run[8] & _COLONS and run[8] & _NO_DECIMAL and run[8] & _DECIMAL
    return bool(run[7] < 6 and not 0 <= run[2] < 0x1000 and not marked)


@compiled
def _is_even(run: NDArray[np.int64]) -> bool:
    """Return whether all steps are equal, except for omitted lines of a hexdump."""
    return bool(run[6] == 0 or (run[5] >= 8 and SKIPS * run[6] <= run[4] and not run[8] & _UNEVEN))


@compiled
def _is_hexdump(run: NDArray[np.int64]) -> bool:
    step = run[5]
    return bool(
        (run[8] & _NO_DECIMAL) and (step == 2 or step == 4 or step == 8 or step == 16 or step == 32 or step == 64)
    )


@compiled
def _is_disassembly(run: NDArray[np.int64]) -> bool:
    """Return whether steps fit instructions. Ten addresses without a letter are bug or product numbers."""
    if run[9] > LONGEST or not run[8] & _NO_DECIMAL:
        return False
    return bool(run[7] >= 8 or (run[8] & _COLONS and (run[7] >= 6 or run[2] >= 0x1000)))
