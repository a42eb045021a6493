"""Fixers: what can be mended in a document by rule, and what is left alone because it is not sure.

A fixer takes a text with a defect that its detector has found, and returns it without. It never guesses: where the
detector still finds the defect afterwards, or not all of it could be told from the text, the document stays as it was.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from assay.audit import ascending, gutters

ENOUGH = 0.95
"""Share of a gutter's numbers that has to be told from the text around them; of the others some would stay in the code."""

MOST = 0.9
"""Share that makes a rule: listings begin and end inside of lines."""
SHORT = 80
"""Bytes behind a number in which its line has to end to be its own."""

_BARS = (b"|", "\u2502".encode(), "\u2503".encode())
_MARKS = (b".", b":", b")", *(before + bar for bar in _BARS for before in (b" ", b"")), b"")
"""What may stand between a listing's numbers and its text; the second bars are those that boxes are drawn with."""

_NUMBER = re.compile(rb"(?<![^\s\xa0])\d{1,7}")
_BLANK = re.compile(rb"[\s\xc2\xa0]*")


class Fixed(NamedTuple):
    """A document after its fixer.

    Attributes:
        text: without the defect; as it was, where the fixer is unsure or there was none.
        removed: places that were taken out.
        unsure: whether there is a defect, and it was left.
    """

    text: str
    removed: int
    unsure: bool


def strip_gutter(text: str) -> Fixed:
    r"""Take line numbers out of a listing, and leave its code.

    A column of nothing but numbers goes whole. Numbers at the beginnings of lines go with one blank behind them, so that
    indentation stays; numbers in the middle of a line, whose line ends were lost, become line ends.

    >>> listing = "".join(f"{n}     x[{n}] = f(x);\n" for n in range(1, 13))
    >>> strip_gutter("before\n" + listing).text.splitlines()[:3]
    ['before', '    x[1] = f(x);', '    x[2] = f(x);']
    >>> strip_gutter("Nothing to mend.")
    Fixed(text='Nothing to mend.', removed=0, unsure=False)
    """
    data = text.encode("utf-8", "surrogatepass")
    runs = gutters.find(data)
    if not runs:
        return Fixed(text, 0, unsure=False)
    parts, at, removed = list[bytes](), 0, 0
    for run in runs:
        cuts = list(_cuts(data, run))
        if len(cuts) < ENOUGH * run[4]:
            return Fixed(text, 0, unsure=True)
        for start, stop, instead in cuts:
            if start < at:  # two runs that share a place
                return Fixed(text, 0, unsure=True)
            parts += [data[at:start], instead]
            at, removed = stop, removed + 1
    mended = b"".join([*parts, data[at:]])
    if gutters.find(mended):
        return Fixed(text, 0, unsure=True)
    return Fixed(mended.decode("utf-8", "surrogatepass"), removed, unsure=False)


FIXERS: Mapping[str, Callable[[str], Fixed]] = {"line_number_gutter": strip_gutter}
"""By the detector whose defect they mend."""


def _cuts(data: bytes, run: gutters.Run) -> Iterator[tuple[int, int, bytes]]:
    """The places of a gutter's numbers, and what comes instead of each."""
    begin, end, first, last, _ = run
    numbers = list(_numbers(data, begin, end, first, last))
    leads = [_line_start(data, start) for start, _ in numbers]
    leading = sum(at is not None for at in leads) >= MOST * len(numbers)
    between = itertools.pairwise(numbers)
    column = sum(_is_blank(data, one[1], other[0]) for one, other in between) >= MOST * (len(numbers) - 1)
    mark = _mark(data, [stop for _, stop in numbers])
    for (start, stop), line in zip(numbers, leads, strict=True):
        after = stop + len(mark) if data.startswith(mark, stop) else stop
        if column:
            # Of a column the numbers' lines go too.
            ends = data.find(b"\n", after, after + SHORT) if leading else -1
            whole = ends >= 0 and _is_blank(data, after, ends)
            yield (start if line is None else line), ends + 1 if whole else after, b""
        elif leading and line is not None:
            yield line, after, b""
        elif not leading:
            yield start, after, b"" if line is not None else b"\n"
        # What is left is a number of the code's own that happens to fit.


def _mark(data: bytes, stops: Sequence[int]) -> bytes:
    """What stands between every number and its line's text; most often nothing.

    One line whose text follows at once shows that the blanks behind the other numbers are the code's indentation.
    """
    texts = [stop for stop in stops if not data.startswith((b"\n", b"\r\n"), stop)]
    marks = (mark + blank for mark in _MARKS for blank in (b" ", b"\t", b"\xc2\xa0", b""))
    return next(mark for mark in marks if all(data.startswith(mark, stop) for stop in texts))


def _numbers(data: bytes, begin: int, end: int, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Where the run's numbers stand: each the next in the count, with no more missing than the detector allows."""
    before = first - 1
    for found in _NUMBER.finditer(data, begin, end):
        value = int(found[0])
        if 0 < value - before <= ascending.LARGEST_GAP and value <= last:
            before = value
            yield found.span()


def _line_start(data: bytes, at: int) -> int | None:
    """Where the line begins, if there is only space before the place."""
    start = data.rfind(b"\n", 0, at) + 1
    return start if _BLANK.fullmatch(data, start, at) else None


def _is_blank(data: bytes, start: int, stop: int) -> bool:
    return _BLANK.fullmatch(data, start, stop) is not None
