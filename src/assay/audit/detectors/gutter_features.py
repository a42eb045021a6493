"""Measure a run of ascending integers: its numbers, and the text between and around them.

`gutter_rules` evaluates the features. One compiled function measures each record.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from assay.audit.detectors.number_runs import LARGEST_GAP, ends_number, leads_line
from assay.corpus.kernels import compiled

Bytes = NDArray[np.uint8]

LOOK_AHEAD = 1500
"""Number of bytes after a column of numbers in which its code block is searched."""
LOOK_BEHIND = 100
"""Number of bytes before a row of numbers in which code is searched that may have printed the row."""
LINE_BYTES = 16
"""Number of bytes before a row, per number, in which the numbered code is searched. Lines of code are longer."""

DIGIT, SPACE, NEWLINE, SYMBOL = 1, 2, 3, 4
"""Classes of bytes in `number_runs.CLASSES`."""
NO_MARK, DOT_OR_PARENTHESIS, COLON_OR_BAR = 0, 1, 2
"""Kinds of marks behind a number: no mark; `1.` and `1)` as in lists; `1:`, `1|`, `1 |` and `[1]`."""

NUMBERED_LINE = np.dtype(
    [("value", np.int32), ("line", np.int32), ("indent", np.int32), ("column", np.int32), ("has_text", np.uint8)],
    align=True,
)
"""A line that begins with a number of a run: line index, count of blanks behind the number, text column."""


class Stretch(NamedTuple):
    """Consecutive numbers without text between them.

    Attributes:
        start: first byte.
        stop: byte after the last number.
        first: the first number.
        last: the last number.
        numbers: count of numbers.
        on_lines: count of numbers that follow a line end, without the first number.
    """

    start: int
    stop: int
    first: int
    last: int
    numbers: int
    on_lines: int


class RunFeatures(NamedTuple):
    """A run of ascending integers, with or without text between them.

    Attributes:
        first: the first number.
        leading: whether the numbers begin lines.
        numbers: count of numbers.
        lines: lines that the run extends over.
        stray_numbers: lines that begin with a number that does not continue the run.
        without_text: numbers that directly follow the previous number, apart from blanks.
        listed: numbers with a dot or a parenthesis behind them.
        with_colon: numbers with a colon, a bar or a bracket behind them.
        keys: numbers with `=>`, ` : `, `;` or `,` behind them.
        text_bytes: bytes between the numbers, without blanks.
        symbol_ratio: fraction of `text_bytes` that are symbols.
        stretch: the longest stretch without text; the first one if several are equally long.
    """

    first: int
    leading: bool
    numbers: int
    lines: int
    stray_numbers: int
    without_text: int
    listed: int
    with_colon: int
    keys: int
    text_bytes: int
    symbol_ratio: float
    stretch: Stretch


class ColumnFeatures(NamedTuple):
    """A stretch of consecutive numbers without text between them, and the text around it.

    Attributes:
        stretch: the numbers.
        is_aligned: whether all numbers end in one column, with blanks before shorter numbers.
        leads_line: whether only blanks precede the stretch on its line.
        is_indented: whether blanks or text precede the stretch on its line.
        ends_line: whether only blanks follow the stretch on its line.
        previous_byte: last byte before the stretch that is not a blank or a line end; 0 at the start of the document.
        next_byte: first byte behind the stretch that is not a blank; undefined at the end of the document.
        symbols_before: symbols in the `LOOK_BEHIND` bytes before the stretch; 0 unless the stretch ends its line.
        bytes_before: letters and symbols in the same `LOOK_BEHIND` bytes.
        numbered_symbols: symbols in the bytes before the stretch, `LINE_BYTES` per number and at most `LOOK_AHEAD`.
        numbered_bytes: letters, digits and symbols in the same bytes.
        listing_symbols: symbols in the next lines, one line per number; 0 if there are fewer lines.
        listing_bytes: letters, digits and symbols in the same lines; 0 if there are fewer lines.
        symbols_after: symbols in the `LOOK_AHEAD` bytes behind the stretch.
        bytes_after: letters, digits and symbols in the same `LOOK_AHEAD` bytes.
        lines_after: line ends in the same `LOOK_AHEAD` bytes.
    """

    stretch: Stretch
    is_aligned: bool
    leads_line: bool
    is_indented: bool
    ends_line: bool
    previous_byte: int
    next_byte: int
    symbols_before: int
    bytes_before: int
    numbered_symbols: int
    numbered_bytes: int
    listing_symbols: int
    listing_bytes: int
    symbols_after: int
    bytes_after: int
    lines_after: int


class LineFeatures(NamedTuple):
    """The lines that begin with the numbers of a run.

    Attributes:
        numbers: count of lines that begin with a number of the run.
        in_step: count of lines whose distance from the previous line equals the difference of the two numbers. The
            first line always counts.
        deeper: lines whose text is indented by at least two columns.
    """

    numbers: int
    in_step: int
    deeper: int


@compiled
def read_integer(data: Bytes, kinds: Bytes, at: int, stop: int) -> tuple[int, int]:
    """Read at most 8 digits; return the value and the end offset."""
    start, value = at, 0
    while at < stop and kinds[data[at]] == DIGIT and at - start <= 7:
        value = 10 * value + data[at] - 48
        at += 1
    return value, at


@compiled
def is_key(data: Bytes, at: int) -> bool:
    """Return whether a number that ends at `at` is a key of a mapping.

    Keys are `701 => "x",`, `701 : "x",`, `701;x` and `701,x`.
    """
    behind = at
    while behind < len(data) and data[behind] == 32:
        behind += 1
    if behind + 1 >= len(data):
        return False
    return bool(
        (data[behind] == 61 and data[behind + 1] == 62)  # =>
        or (behind > at and data[behind] == 58 and data[behind + 1] == 32)  # ` : `
        or (behind == at and (data[at] == 59 or data[at] == 44))  # ; ,
    )


@compiled
def read_mark(data: Bytes, at: int) -> tuple[int, int]:
    """Read the mark behind a number; return its kind and its end offset."""
    if at < len(data) and (data[at] == 46 or data[at] == 41):  # . )
        return DOT_OR_PARENTHESIS, at + 1
    if at + 1 < len(data) and (data[at] == 58 or data[at] == 124 or data[at] == 93 or data[at + 1] == 124):  # : | ]
        return COLON_OR_BAR, at + 1 + (data[at + 1] == 124)
    return NO_MARK, at


@compiled
def measure_run(data: Bytes, kinds: Bytes, run: NDArray[np.int64], leading: bool) -> RunFeatures:  # noqa: FBT001  # compiled code has no keyword-only arguments
    """Measure the numbers of a run and the text between them.

    Args:
        data: the text.
        kinds: class of each byte.
        run: start, first number, last number and end, as `number_runs.follow_all` writes them.
        leading: whether the numbers begin lines.
    """
    begin, first, stop = run[0], run[1], run[3]
    gap = LARGEST_GAP if leading else 1
    last = first - 1
    numbers = stray_numbers = without_text = listed = with_colon = keys = 0
    lines = 1
    symbols = text_bytes = new_symbols = new_bytes = 0  # new_*: since the last number
    length = on_lines = stretch_begin = stretch_first = 0  # of the current stretch
    longest = longest_on_lines = longest_begin = longest_stop = longest_first = longest_last = 0
    at = begin
    fresh, after_newline = True, False  # only blanks since the line start; a line end since the previous number
    while at < stop:
        kind = kinds[data[at]]
        if kind == 0 or kind > NEWLINE:  # most of the text
            if data[at] == 91 and fresh and kinds[data[at + 1]] == DIGIT:
                at += 1
                continue
            fresh = False
            start = at
            while at < stop and (kind == 0 or kind > NEWLINE):
                new_symbols += kind == SYMBOL
                at += 1
                kind = kinds[data[at]] if at < stop else NEWLINE
            new_bytes += at - start
            continue
        if kind == DIGIT and (
            at == begin
            or kinds[data[at - 1]] == SPACE
            or kinds[data[at - 1]] == NEWLINE
            or (fresh and data[at - 1] == 91)
        ):
            start = at
            value, at = read_integer(data, kinds, start, stop)
            if not (0 < value - last <= gap and (fresh or not leading) and ends_number(data, kinds, at)):
                new_bytes += at - start
                stray_numbers += fresh
                fresh = False
                continue
            empty = numbers > 0 and new_bytes == 0
            without_text += empty
            if empty and value == last + 1:
                length += 1
                on_lines += after_newline
            else:
                length, stretch_begin, stretch_first, on_lines = 1, start, value, 0
            if length > longest:
                longest, longest_on_lines = length, on_lines
                longest_begin, longest_stop, longest_first, longest_last = stretch_begin, at, stretch_first, value
            symbols += new_symbols
            text_bytes += new_bytes
            new_bytes = new_symbols = 0
            numbers += 1
            last = value
            keys += is_key(data, at)
            mark, at = read_mark(data, at)
            listed += mark == DOT_OR_PARENTHESIS
            with_colon += mark == COLON_OR_BAR
            fresh = after_newline = False
            continue
        if kind == NEWLINE:
            lines += 1
            fresh = after_newline = True
        elif kind == DIGIT:  # in a word
            fresh = False
            new_bytes += 1
        at += 1
    return RunFeatures(
        first,
        leading,
        numbers,
        lines,
        stray_numbers,
        without_text,
        listed,
        with_colon,
        keys,
        text_bytes,
        symbols / max(1, text_bytes),
        Stretch(longest_begin, longest_stop, longest_first, longest_last, longest, longest_on_lines),
    )


@compiled
def measure_column(data: Bytes, kinds: Bytes, symbol_kinds: Bytes, stretch: Stretch) -> ColumnFeatures:
    """Measure the text before and after a stretch of numbers.

    Args:
        data: the text.
        kinds: class of each byte.
        symbol_kinds: class of each byte: symbol, letter or neither.
        stretch: the numbers.
    """
    start, stop, numbers = stretch.start, stretch.stop, stretch.numbers
    listing_symbols = listing_bytes = symbols = size = lines = 0
    for at in range(stop, min(len(data), stop + LOOK_AHEAD)):
        symbol_kind = symbol_kinds[data[at]]
        symbols += symbol_kind == SYMBOL
        size += symbol_kind != 0 or kinds[data[at]] == DIGIT
        if data[at] == 10:
            lines += 1
            if lines == numbers:  # the code block ends here; prose may follow
                listing_symbols, listing_bytes = symbols, size
    behind = stop
    while behind < len(data) and kinds[data[behind]] == SPACE:
        behind += 1
    ends_line = behind >= len(data) or data[behind] == 10
    symbols_before = bytes_before = 0
    for at in range(max(0, start - LOOK_BEHIND), start if ends_line else 0):
        symbols_before += symbol_kinds[data[at]] == SYMBOL
        bytes_before += symbol_kinds[data[at]] != 0
    before = start - 1
    while before >= 0 and (kinds[data[before]] == SPACE or data[before] == 10):
        before -= 1
    numbered_symbols = numbered_bytes = 0
    for at in range(max(0, start - min(LOOK_AHEAD, LINE_BYTES * numbers)), start):
        numbered_symbols += symbol_kinds[data[at]] == SYMBOL
        numbered_bytes += symbol_kinds[data[at]] != 0 or kinds[data[at]] == DIGIT
    return ColumnFeatures(
        stretch,
        2 * stretch.on_lines >= numbers and is_aligned(data, start, stop),
        leads_line(data, kinds, start),
        start > 0 and data[start - 1] != 10,
        ends_line,
        data[before] if before >= 0 else 0,
        data[min(behind, len(data) - 1)],
        symbols_before,
        bytes_before,
        numbered_symbols,
        numbered_bytes,
        listing_symbols,
        listing_bytes,
        symbols,
        size,
        lines,
    )


@compiled
def is_aligned(data: Bytes, start: int, stop: int) -> bool:
    """Return whether numbers, one per line, end in one column, with blanks before shorter numbers."""
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
def measure_lines(data: Bytes, kinds: Bytes, run: NDArray[np.int64]) -> LineFeatures:
    """Compare the numbers at the start of lines with line positions and indentation.

    Args:
        data: the text.
        kinds: class of each byte.
        run: start, first number, last number and end, as `number_runs.follow_all` writes them.
    """
    table = np.empty((run[3] - run[0]) // 2 + 1, NUMBERED_LINE)
    count = read_lines(data, kinds, run, table)
    in_step = deeper = 0
    least_indent = least_column = 1 << 30
    for index in range(count):
        line = table[index]
        in_step += index == 0 or line.value - table[index - 1].value == line.line - table[index - 1].line
        if line.has_text:
            least_indent, least_column = min(least_indent, line.indent), min(least_column, line.column)
    for index in range(count):
        line = table[index]
        deeper += line.has_text and line.indent >= least_indent + 2 and line.column >= least_column + 2
    return LineFeatures(count, in_step, deeper)


@compiled
def read_lines(data: Bytes, kinds: Bytes, run: NDArray[np.int64], table: NDArray[Any]) -> int:
    """Fill a table of `NUMBERED_LINE` with the numbered lines of a run; return their count."""
    at, stop, last = run[0], run[3], run[1] - 1
    count = index = 0
    while at < stop:
        begin = at
        while at < stop and (kinds[data[at]] == SPACE or data[at] == 91):
            at += 1
        digits = at
        value, at = read_integer(data, kinds, digits, stop)
        if at > digits and 0 < value - last <= LARGEST_GAP:
            while at < stop and (data[at] == 46 or data[at] == 41 or data[at] == 58 or data[at] == 93):
                at += 1
            behind, indent = at, 0
            while at < len(data) and (kinds[data[at]] == SPACE or data[at] == 124):
                indent += 8 if data[at] == 9 else 1
                at += 1
            line = table[count]
            line.value, line.line, line.has_text = value, index, at < stop and data[at] != 10
            line.indent, line.column = indent, behind - begin + indent
            last = value
            count += 1
        while at < stop and data[at] != 10:
            at += 1
        at += 1
        index += 1
    return count
