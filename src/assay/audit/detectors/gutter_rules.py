"""Distinguish line numbers of code from other ascending integers.

Other ascending integers occur in lists, verses, tables, calendars and loops.

Each rule is a named predicate on the features of `gutter_features`. The thresholds were set on pages of Debian's
documentation. `benchmarks/line_numbers.py` measures recall and false positives.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from assay.audit.detectors.gutter_features import LINE_BYTES, ColumnFeatures, LineFeatures, RunFeatures, Stretch
from assay.audit.detectors.number_runs import LEAST
from assay.corpus.kernels import compiled

CODE = 0.055
"""Minimum symbol ratio of code: prose has 0 to 3%, tables 2%, code 8 to 20%."""
LISTED_CODE = 0.08
"""Minimum symbol ratio of code between numbers that are marked as in a list."""
SPARSE_CODE = 0.025
"""Minimum symbol ratio of code with blank lines between the numbers, which only code blocks have."""
LONG_ROW, LONG_COLUMN = 20, 40
"""Counts of numbers in a row and in a column that no calendar, pager or table head reaches."""
LONG_ROW_IN_TEXT = 32
"""Minimum count of numbers in a row within running text: the days of a month end at 31."""

_OPENING, _CLOSING = np.zeros(256, np.bool_), np.zeros(256, np.bool_)
_OPENING[list(b':=([{,"')] = True
_CLOSING[list(b';)]}"')] = True


class Rule(IntEnum):
    """Reason why a run of numbers is a line-number gutter; findings show the lower-case name."""

    NONE = 0
    CODE_BETWEEN = 1
    """Code is between the numbers."""
    BLANK_LINES_BETWEEN = 2
    """Some code is between the numbers, and at least every twelfth line is blank."""
    INDENTED_LINES = 3
    """The numbers agree with the line positions, and the lines are indented like code."""
    COLUMN_BEFORE_CODE = 4
    """A column of numbers before code."""
    LONG_COLUMN = 5
    """A column of at least 40 numbers."""
    ALIGNED_COLUMN = 6
    """A column of right-aligned numbers."""
    LONG_ROW = 7
    """A line of at least 20 numbers and nothing else."""
    ROW_BEFORE_LISTING = 8
    """A line of numbers before code with one line per number."""
    ROW_BEFORE_CODE = 9
    """A row of numbers before code on the same line."""
    DIGITS_JOINED = 10
    """Numbers without separators."""
    HEXDUMP = 11
    """Hexadecimal offsets in equal steps."""
    DISASSEMBLY = 12
    """Hexadecimal addresses in steps of an instruction's length."""
    ROW_AFTER_CODE = 13
    """A row of at least 20 numbers after code on the same line."""
    ROW_IN_TEXT = 14
    """A row of at least 32 numbers from 1 within running text."""


# --- runs with text between the numbers


@compiled
def is_excluded(run: RunFeatures) -> bool:
    """Return whether a run cannot be line numbers.

    Examples are rows counted from 0, a table, and keys of a mapping.
    """
    return (
        run.first <= 0  # lines count from 1; rows of a bit table and stack frames count from 0
        or run.numbers - run.stretch.numbers + 1 < LEAST  # a column, which `rule_of_column` evaluates
        or is_table_column(run)
        or 2 * run.keys > run.numbers
    )


@compiled
def is_table_column(run: RunFeatures) -> bool:
    """Return whether numbers are the first column of a table. Some of these numbers ascend by chance."""
    return run.leading and 3 * run.stray_numbers > run.numbers


@compiled
def is_misplaced(run: RunFeatures) -> bool:
    """Return whether numbers are at positions where line numbers do not occur.

    Either few lines begin with numbers, or inline numbers are in text with line ends.
    """
    if run.leading:
        return run.numbers < 0.3 * run.lines
    return 4 * run.lines > run.numbers


@compiled
def is_table_of_numbers(run: RunFeatures) -> bool:
    """Return whether almost no text is between the numbers."""
    return run.text_bytes < 2 * run.numbers


@compiled
def has_code(run: RunFeatures) -> bool:
    """Return whether code is between the numbers.

    Numbers with a mark behind them also need blank lines between them, which lists and mappings never have.
    """
    if 2 * run.listed > run.numbers:
        return run.symbol_ratio >= LISTED_CODE and run.without_text >= 2
    if 2 * run.with_colon > run.numbers:
        return run.symbol_ratio >= CODE and run.without_text >= 2
    return run.symbol_ratio >= CODE


@compiled
def has_blank_lines(run: RunFeatures) -> bool:
    """Return whether unmarked numbers have some code and blank lines between them."""
    marked = 2 * run.listed > run.numbers or 2 * run.with_colon > run.numbers
    return not marked and run.symbol_ratio >= SPARSE_CODE and 12 * run.without_text >= run.numbers


@compiled
def numbers_lines(lines: LineFeatures, marked: int) -> bool:
    """Return whether numbers agree with the positions of their lines.

    Number 20 must be five lines below number 15, whether the code numbers all lines or only every fifth line. If most
    numbers have a mark, at least a fifth of the numbers must precede indented text.
    """
    if lines.numbers < LEAST or lines.in_step < 0.8 * lines.numbers:
        return False
    return 2 * marked < lines.numbers or 5 * lines.deeper >= lines.numbers


@compiled
def rule_of_run(run: RunFeatures) -> Rule:
    """Return the rule that fires for a run with text between its numbers.

    If no rule fires, the caller tests the run with `numbers_lines`.
    """
    if is_misplaced(run) or is_table_of_numbers(run):
        return Rule.NONE
    if has_code(run):
        return Rule.CODE_BETWEEN
    return Rule.BLANK_LINES_BETWEEN if has_blank_lines(run) else Rule.NONE


# --- stretches of numbers without text between them


@compiled
def is_month(stretch: Stretch) -> bool:
    """Return whether numbers are the days of a month."""
    return stretch.first == 1 and 28 <= stretch.last <= 31


@compiled
def is_years(stretch: Stretch) -> bool:
    """Return whether numbers are years."""
    return stretch.first >= 1900 and stretch.last <= 2100


@compiled
def is_printed(stretch: Stretch) -> bool:
    """Return whether a short stretch begins with 0, like the output of a loop.

    A longer stretch may have an unrelated 0 before it.
    """
    return stretch.first == 0 and stretch.numbers < LONG_ROW


@compiled
def is_loop_header(column: ColumnFeatures) -> bool:
    """Return whether a short row belongs to a statement such as `for i in 1 2 3; do`."""
    byte = column.next_byte
    return column.stretch.numbers < LONG_ROW and (byte == 59 or byte == 41 or byte == 34)  # noqa: PLR1714  # the bytes ; ) and "; compiled comparisons are faster


@compiled
def is_output(column: ColumnFeatures) -> bool:
    """Return whether code precedes a row, which may be the output of that code."""
    return column.symbols_before >= CODE * column.bytes_before + 1


@compiled
def is_listing(symbols: int, size: int, numbers: int) -> bool:
    """Return whether text is code, and long enough for the count of numbers."""
    return symbols >= CODE * size and size >= 2 * min(numbers, 100)


@compiled
def is_announced(column: ColumnFeatures) -> bool:
    """Return whether a row is a value, like `cpus: 1 2 3`, or a list in a statement, like `for i in 1 2 3; do`."""
    return bool(_OPENING[column.previous_byte] or (not column.ends_line and _CLOSING[column.next_byte]))


@compiled
def rule_of_row_in_line(column: ColumnFeatures) -> Rule:
    """Return the rule that fires for a row with other text on its line and no code behind it.

    Extractors that replace line ends by blanks leave such rows behind the code, or within prose if the code was lost.
    """
    stretch = column.stretch
    if stretch.first != 1 or stretch.numbers < LONG_ROW or is_announced(column):
        return Rule.NONE
    if stretch.numbers >= LONG_ROW_IN_TEXT:
        return Rule.ROW_IN_TEXT
    enough = column.numbered_bytes >= LINE_BYTES // 2 * stretch.numbers
    if not enough or column.numbered_symbols < CODE * column.numbered_bytes or is_month(stretch):
        return Rule.NONE
    return Rule.NONE if column.leads_line or column.ends_line else Rule.ROW_AFTER_CODE


@compiled
def rule_of_column(column: ColumnFeatures) -> Rule:
    """Return the rule that fires for a stretch of numbers without text between them."""
    stretch = column.stretch
    listing = is_listing(column.listing_symbols, column.listing_bytes, stretch.numbers)
    code = listing or is_listing(column.symbols_after, column.bytes_after, stretch.numbers)
    if 2 * stretch.on_lines >= stretch.numbers:
        if code:
            return Rule.COLUMN_BEFORE_CODE
        if is_month(stretch) or is_years(stretch):
            return Rule.NONE
        if stretch.numbers >= LONG_COLUMN:
            return Rule.LONG_COLUMN
        return Rule.ALIGNED_COLUMN if column.is_aligned else Rule.NONE
    if stretch.on_lines > 0 or is_years(stretch):  # a calendar's weeks, a row of years
        return Rule.NONE
    if not column.ends_line:
        if code and not is_loop_header(column):
            return Rule.ROW_BEFORE_CODE
        return rule_of_row_in_line(column)
    if not column.leads_line:
        return rule_of_row_in_line(column)
    if is_month(stretch) and not code:
        return Rule.NONE
    if stretch.numbers >= LONG_ROW:
        return Rule.LONG_ROW
    if column.is_indented or is_output(column):  # column heads of a diagram; output of a loop
        return Rule.NONE
    lines = column.lines_after
    complete = lines + 2 >= stretch.numbers and (listing or lines < stretch.numbers)
    return Rule.ROW_BEFORE_LISTING if code and complete else Rule.NONE
