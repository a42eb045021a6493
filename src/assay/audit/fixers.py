"""Remove detected defects from documents.

A fixer returns the text without the defect. The fixer is unsure if the detector still reports the defect in the fixed
text, or if the fixer cannot separate the whole defect from the text. An unsure fixer returns the document unchanged.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from assay.audit.detectors import line_numbers, number_runs

MAJORITY = 0.9
"""Fraction of numbers that determines the layout of a listing, whose first and last line may be truncated."""
SHORT = 80
"""Maximum number of bytes from a number to its line end for the number to be alone on its line."""

_BARS = (b"|", "\u2502".encode(), "\u2503".encode())
_MARKS = (b".", b":", b")", *(before + bar for bar in _BARS for before in (b" ", b"")), b"")
"""Separators between line numbers and text, including box-drawing bars."""

_NUMBER = re.compile(rb"(?<![^\s\xa0])\d{1,7}")
_BLANK = re.compile(rb"[\s\xc2\xa0]*")


class FixedText(NamedTuple):
    """A document after a fixer ran.

    Attributes:
        text: text without the defect; unchanged if there is no defect or the fixer is unsure.
        removed: number of removed passages.
        unsure: whether the text has a defect that was not removed.
    """

    text: str
    removed: int
    unsure: bool


def strip_line_numbers(text: str) -> FixedText:
    r"""Remove the line numbers of code blocks.

    A column of numbers is removed with its lines, if the lines contain nothing else. A number at the start of a line is
    removed with one blank behind it, which preserves indentation. If an extractor lost the line ends, each number
    within the text becomes a line end.

    >>> listing = "".join(f"{n}     x[{n}] = f(x);\n" for n in range(1, 13))
    >>> strip_line_numbers("before\n" + listing).text.splitlines()[:3]
    ['before', '    x[1] = f(x);', '    x[2] = f(x);']
    >>> strip_line_numbers("Nothing to fix.")
    FixedText(text='Nothing to fix.', removed=0, unsure=False)
    """
    data = text.encode("utf-8", "surrogatepass")
    runs = line_numbers.find(data)
    if not runs:
        return FixedText(text, 0, unsure=False)
    if runs != line_numbers.find_plain(data):  # marks before the numbers: what to remove is ambiguous
        return FixedText(text, 0, unsure=True)
    parts, at, removed = list[bytes](), 0, 0
    for run in runs:
        cuts = list(_cuts(data, run))
        if len(cuts) < run.numbers:
            return FixedText(text, 0, unsure=True)
        for start, stop, instead in cuts:
            if start < at:  # two runs that overlap
                return FixedText(text, 0, unsure=True)
            parts += [data[at:start], instead]
            at, removed = stop, removed + 1
    repaired = b"".join([*parts, data[at:]])
    if line_numbers.find(repaired):
        return FixedText(text, 0, unsure=True)
    return FixedText(repaired.decode("utf-8", "surrogatepass"), removed, unsure=False)


FIXERS: Mapping[str, Callable[[str], FixedText]] = {"line_number_gutter": strip_line_numbers}
"""Fixers by the detector whose defect they remove."""


def _cuts(data: bytes, run: line_numbers.LineNumberGutter) -> Iterator[tuple[int, int, bytes]]:
    """Yield the start, stop and replacement of each line number."""
    begin, end, first, last = run[:4]
    # A code line can contain the next number: `(4, 7),` is followed by line 7. Numbers at the start of lines come first.
    numbers = list(_numbers(data, begin, end, first, last, leading=True))
    if len(numbers) < run.numbers:
        numbers = list(_numbers(data, begin, end, first, last, leading=False))
    leads = [_line_start(data, start) for start, _ in numbers]
    leading = sum(at is not None for at in leads) >= MAJORITY * len(numbers)
    between = itertools.pairwise(numbers)
    column = sum(_is_blank(data, before[1], after[0]) for before, after in between) >= MAJORITY * (len(numbers) - 1)
    if column and not leading:
        yield from _row_cuts(data, numbers)
        return
    mark = _mark(data, [stop for _, stop in numbers])
    for (start, stop), line in zip(numbers, leads, strict=True):
        after = stop + len(mark) if data.startswith(mark, stop) else stop
        if column:
            # A column is removed with its lines.
            ends = data.find(b"\n", after, after + SHORT)
            whole = ends >= 0 and _is_blank(data, after, ends)
            yield (start if line is None else line), ends + 1 if whole else after, b""
        elif leading and line is not None:
            yield line, after, b""
        elif not leading:
            yield start, after, b"" if line is not None else b"\n"
        # Otherwise the number belongs to the code, and follows the run by chance.


def _row_cuts(data: bytes, numbers: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, bytes]]:
    """Yield the cuts of a row of numbers: each number with the blanks behind it. A row alone on its line takes the line.

    Blanks before a row at the end of a line stay.
    """
    first = _line_start(data, numbers[0][0])
    for (start, stop), (following, _) in itertools.pairwise(numbers):
        yield start, following if _is_blank(data, stop, following) else stop, b""
    start, stop = numbers[-1]
    while data[stop : stop + 1] in {b" ", b"\t"}:
        stop += 1
    alone = first is not None and data.startswith(b"\n", stop)
    yield start, stop + 1 if alone else stop, b""


def _mark(data: bytes, stops: Sequence[int]) -> bytes:
    """Return the separator between line numbers and text; usually empty.

    If the text of one line directly follows its number, the blanks behind the other numbers are indentation.
    """
    texts = [stop for stop in stops if not data.startswith((b"\n", b"\r\n"), stop)]
    marks = (mark + blank for mark in _MARKS for blank in (b" ", b"\t", b"\xc2\xa0", b""))
    return next(mark for mark in marks if all(data.startswith(mark, stop) for stop in texts))


def _numbers(data: bytes, begin: int, end: int, first: int, last: int, *, leading: bool) -> Iterator[tuple[int, int]]:
    """Yield start and stop of the run's numbers, with gaps up to the detector's limit.

    With `leading`, yield only numbers at the start of lines. The first number of a run always counts.
    """
    before = first - 1
    for match in _NUMBER.finditer(data, begin, end):
        value = int(match[0])
        if leading and match.start() != begin and _line_start(data, match.start()) is None:
            continue
        if 0 < value - before <= number_runs.LARGEST_GAP and value <= last:
            before = value
            yield match.span()


def _line_start(data: bytes, at: int) -> int | None:
    """Return the start of the line if only blanks precede the position."""
    start = data.rfind(b"\n", 0, at) + 1
    return start if _BLANK.fullmatch(data, start, at) else None


def _is_blank(data: bytes, start: int, stop: int) -> bool:
    return _BLANK.fullmatch(data, start, stop) is not None
