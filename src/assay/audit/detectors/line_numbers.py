r"""Detect line-number gutters: ascending integers that an extractor copied from a margin of code.

One pass over the bytes follows ascending numbers in a row (`1 2 3`, `1\n2\n3`, with or without code between them), or
at the start of lines with gaps (`12#ifndef`, `13#define`, `15#include`). `gutter_features` measures each run and the
text around it. The rules of `gutter_rules` distinguish line numbers from verses, lists, tables and loops, and
`number_meaning` from labels of BASIC programs and keys of records.
"""

# ruff: noqa: PLR0917  # compiled code takes plain arguments

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from assay.audit.detectors import hex_addresses, masked_numbers, number_meaning
from assay.audit.detectors.gutter_features import (
    Bytes,
    measure_column,
    measure_lines,
    measure_run,
)
from assay.audit.detectors.gutter_rules import (
    CODE,
    Rule,
    is_excluded,
    is_printed,
    numbers_lines,
    rule_of_column,
    rule_of_run,
)
from assay.audit.detectors.number_runs import (
    CHUNK,
    CLASSES,
    LEAST,
    MOST_ENDED,
    SYMBOLS,
    candidates,
    follow_all,
    unfinished,
)
from assay.corpus.kernels import compiled

BEFORE_LINES = {Rule.CODE_BETWEEN, Rule.BLANK_LINES_BETWEEN, Rule.INDENTED_LINES}
"""Rules for numbers with text between them, whose numbers can have a meaning in that text."""
CONTEXT = 60
"""Number of bytes before and behind a row in which another row makes it an index."""
MOST_RUNS = 64
"""Maximum number of line-number gutters per document. The limit bounds the work for adversarial text."""


class LineNumberGutter(NamedTuple):
    """A line-number gutter in a document.

    Attributes:
        start: first byte.
        stop: byte after the last number.
        first: the first number.
        last: the last number.
        numbers: count of numbers.
        rule: the rule that fired.
    """

    start: int
    stop: int
    first: int
    last: int
    numbers: int
    rule: Rule


def find(data: bytes) -> list[LineNumberGutter]:
    r"""Detect the line-number gutters of a document.

    Args:
        data: text of the document in UTF-8.

    Returns:
        The line-number gutters in order; empty for most documents.

    >>> listing = "".join(f"{n} x[{n}] = f({n});\n" for n in range(1, 30))
    >>> find(listing.encode())
    [LineNumberGutter(start=0, stop=479, first=1, last=29, numbers=29, rule=<Rule.CODE_BETWEEN: 1>)]
    >>> find("".join(f"{n}. Take a bowl, and stir.\n" for n in range(1, 30)).encode())
    []
    """
    if len(data) < 2 * LEAST:
        return []
    plain = find_plain(data)
    masked = [found for text in masked_numbers.variants(data) for found in find_plain(text)]
    return sorted([*plain, *_without_overlaps([found for found in masked if not _overlaps(found, plain)])])


def find_plain(data: bytes) -> list[LineNumberGutter]:
    """Detect the line-number gutters without marks before the numbers or additional line ends between the lines.

    Args:
        data: text of the document in UTF-8.

    Returns:
        The line-number gutters in order.
    """
    rows = np.empty((MOST_RUNS, 6), np.int64)
    count = _find(np.frombuffer(data, np.uint8), CLASSES, SYMBOLS, rows)
    accepted = [found for found in map(_gutter, rows[:count].tolist()) if not _has_meaning(data, found)]
    return _without_overlaps([*accepted, *_joined(data), *map(_gutter, hex_addresses.find(data))])


def _has_meaning(data: bytes, found: LineNumberGutter) -> bool:
    """Return whether the numbers are labels of BASIC statements, keys of records, or chapters in an index."""
    if found.rule == Rule.ROW_IN_TEXT:
        before, after = data[max(0, found.start - CONTEXT) : found.start], data[found.stop : found.stop + CONTEXT]
        return number_meaning.is_index(before.decode("utf-8", "replace"), after.decode("utf-8", "replace"))
    if found.rule not in BEFORE_LINES:
        return False
    stop = min(stop for stop in (data.find(b"\n", found.stop), len(data)) if stop >= 0)
    return number_meaning.carry_meaning(data[found.start : stop].decode("utf-8", "replace"))


def _gutter(row: Sequence[int]) -> LineNumberGutter:
    start, stop, first, last, numbers, rule = row
    return LineNumberGutter(start, stop, first, last, numbers, Rule(rule))


def _joined(data: bytes) -> list[LineNumberGutter]:
    """Detect numbers without separators, which tag removal can leave."""
    at = data.find(b"101112131415161718192021")
    if at < 0:
        return []
    last, stop = 21, at + 24
    while data.startswith(str(last + 1).encode(), stop):
        last += 1
        stop += len(str(last))
    return [LineNumberGutter(at, stop, 10, last, last - 9, Rule.DIGITS_JOINED)]


def _overlaps(candidate: LineNumberGutter, others: list[LineNumberGutter]) -> bool:
    return any(candidate.start < other.stop and other.start < candidate.stop for other in others)


def _without_overlaps(candidates: list[LineNumberGutter]) -> list[LineNumberGutter]:
    """Sort line-number gutters. Of overlapping ones, keep the one with the most numbers."""
    kept: list[LineNumberGutter] = []
    for candidate in sorted(candidates, key=lambda candidate: -candidate.numbers):
        if not _overlaps(candidate, kept):
            kept.append(candidate)
    return sorted(kept)


@compiled
def _find(data: Bytes, kinds: Bytes, symbol_kinds: Bytes, rows: NDArray[np.int64]) -> int:
    """Follow runs of numbers, and write the runs that are line numbers to a table.

    Args:
        data: the text.
        kinds: class of each byte.
        symbol_kinds: class of each byte: symbol, letter or neither.
        rows: table to fill; shape (capacity, 6).

    Returns:
        Count of written rows.
    """
    followed, ended = np.zeros((2, 15), np.int64), np.empty((MOST_ENDED, 6), np.int64)
    flags, places = np.empty(CHUNK, np.uint8), np.empty(CHUNK + 1, np.int64)
    count = 0
    for begin in range(0, len(data), CHUNK):
        number = candidates(data, begin, flags, places)
        done = 0
        while done < number and count < len(rows):
            done, runs = follow_all(data, kinds, places, done, number, followed, ended)
            count = _evaluate_all(data, kinds, symbol_kinds, ended[:runs], rows, count)
    runs = unfinished(followed, ended)
    return _evaluate_all(data, kinds, symbol_kinds, ended[:runs], rows, count)


@compiled
def _evaluate_all(
    data: Bytes, kinds: Bytes, symbol_kinds: Bytes, ended: NDArray[np.int64], rows: NDArray[np.int64], count: int
) -> int:
    """Write the runs that are line numbers, up to the capacity; return the row count."""
    for index in range(len(ended)):
        if count < len(rows):
            count += _evaluate(data, kinds, symbol_kinds, ended[index], rows[count])
    return count


@compiled
def _evaluate(data: Bytes, kinds: Bytes, symbol_kinds: Bytes, run: NDArray[np.int64], row: NDArray[np.int64]) -> bool:
    """Measure a run, apply the rules, and write a row if a rule fires."""
    leading = run[5] == 1
    features = measure_run(data, kinds, run, leading)
    if features.numbers < LEAST:
        return False
    if not is_excluded(features):
        rule = rule_of_run(features)
        if rule == Rule.NONE and leading and features.symbol_ratio >= CODE:
            marked = features.listed + features.with_colon
            if numbers_lines(measure_lines(data, kinds, run), marked):
                rule = Rule.INDENTED_LINES
        if rule != Rule.NONE:
            row[0], row[1], row[2], row[3], row[4] = run[0], run[3], run[1], run[2], features.numbers
            row[5] = rule.value
            return True
    stretch = features.stretch
    if stretch.numbers < LEAST or is_printed(stretch):
        return False
    rule = rule_of_column(measure_column(data, kinds, symbol_kinds, stretch))
    row[0], row[1], row[2], row[3], row[4] = stretch.start, stretch.stop, stretch.first, stretch.last, stretch.numbers
    row[5] = rule.value
    return rule != Rule.NONE
