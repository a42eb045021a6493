r"""Reduce other forms of numbered lines to plain ones: other digits, marks before the number, blank lines between lines.

Table cells, anchors and links put a mark before a line number: `| 7 | x |`, `L7: x`, `[7](#L7) x`, `**7** x`. Some
extractors write several line ends between two lines. A masked text has blanks in place of the marks and of the extra
line ends. Marks that lists also have, such as `(7) x`, `#7 x` or `7, x`, become a dot behind the number, so that the
stricter rules for lists apply. A masked text is as long as the text, so that the offsets of findings hold for both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from assay.audit.detectors.number_runs import LEAST, Bytes
from assay.corpus.kernels import compiled

_MARKED = re.compile(
    rb"^([ \t]*)(?=[|L*\[])(?:\|[ \t]*)?(?:\*\*|L|\[L?)?(\d{1,7})(\]\(#[^)\n]{1,40}\)|\*\*(?=[\s|:])|(?=[\s|:]))",
    re.MULTILINE,
)
_EMPTY_CELL = re.compile(rb"^([ \t]*\d{1,7})([ \t]*\|[ \t]*\|)(?=[ \t]*$)", re.MULTILINE)
_LISTED = re.compile(
    rb"^[ \t]*(?:#(\d{1,7})(?:[: \t]|(?=\n))|\((\d{1,7})\)(?=\s)|<(\d{1,7})>(?=\s)|/\*[ ]*(\d{1,7})[ ]*\*/(?=\s)"
    rb"|[Ll]ine (\d{1,7})(?::|(?=\s))|(\d{1,7})[,-](?=\s))",
    re.MULTILINE,
)
_LINE_ENDS = re.compile(rb"(?:[ \t\r\xc2\xa0]*\n){2,}")
_OTHER_DIGITS = re.compile(
    rb"^([ \t]*)((?:\xd9[\xa0-\xa9]|\xdb[\xb0-\xb9]|\xe0[\xa5\xa7\xa9\xab\xad\xaf\xb1\xb3\xb5][\xa6-\xaf]|\xef\xbc[\x90-\x99]){1,7})",
    re.MULTILINE,
)
_REST_IS_BLANK = re.compile(rb"[ \t\r]*(?:\n|\Z)")
_MARK, _IN_MARK = np.zeros(256, np.bool_), np.zeros(256, np.bool_)
_MARK[list(b"|L[*#(</l")] = True
_IN_MARK[list(b"|L[*#(</line ")] = True


def variants(data: bytes) -> Iterator[bytes]:
    r"""Yield masked texts in which line numbers begin the lines; none for most documents.

    >>> [text.split(b"\n")[1] for text in variants(b"".join(b"| %d | f(%d); |\n" % (n, n) for n in range(20)))]
    [b'  1 | f(1); |']
    >>> list(variants(b"A list:\n" + b"".join(b"%d. A step.\n" % n for n in range(20))))
    []
    """
    marked, numbered, blank, other = count_lines(np.frombuffer(data, np.uint8))
    text = data
    if other >= LEAST:
        yield _OTHER_DIGITS.sub(_with_ascii_digits, data)
    if marked >= LEAST:
        text = _EMPTY_CELL.sub(_without_bars, _MARKED.sub(_without_marks, data))
        if _precede_text(text):
            text = _LISTED.sub(_with_dot, text)
        if text != data:
            yield text
    if max(marked, numbered) >= LEAST and blank >= max(marked, numbered):
        yield _LINE_ENDS.sub(_one_line_end, text)


@compiled
def count_lines(data: Bytes) -> tuple[int, int, int, int]:
    """Count lines that begin with a mark and a digit, with a digit, with nothing but blanks, and with another digit.

    Other digits are those of `is_other_digit`. A line such as `7, x` or `7- x` also has a mark.

    Args:
        data: text of the document in UTF-8.
    """
    marked = numbered = blank = other = 0
    size, at = len(data), 0
    while at < size:
        while at < size and (data[at] == 32 or data[at] == 9 or data[at] == 13 or data[at] == 194 or data[at] == 160):
            at += 1
        if at < size:
            byte = data[at]
            if byte == 10:
                blank += 1
            elif is_digit(byte):
                numbered += 1
                while at < size and is_digit(data[at]):
                    at += 1
                if at + 1 < size and (data[at] == 44 or data[at] == 45) and data[at + 1] <= 32:  # , -
                    marked += 1
            elif byte >= 0xD9 and is_other_digit(data, at):
                other += 1
            elif _MARK[byte]:
                while at < size and _IN_MARK[data[at]]:
                    at += 1
                if at < size and is_digit(data[at]):
                    marked += 1
        while at < size and data[at] != 10:
            at += 1
        at += 1
    return marked, numbered, blank, other


@compiled
def is_other_digit(data: Bytes, at: int) -> bool:
    """Return whether a character is an Arabic, Persian, Indian or full-width digit."""
    if at + 2 >= len(data):
        return False
    first, second, third = data[at], data[at + 1], data[at + 2]
    if first == 0xD9:
        return bool(0xA0 <= second <= 0xA9)
    if first == 0xDB:
        return bool(0xB0 <= second <= 0xB9)
    if first == 0xE0:  # Devanagari to Malayalam: the last ten characters of each second block
        return bool(0xA5 <= second <= 0xB5 and second % 2 == 1 and 0xA6 <= third <= 0xAF)
    return bool(first == 0xEF and second == 0xBC and 0x90 <= third <= 0x99)


@compiled
def is_digit(byte: int) -> bool:
    """Return whether a byte is an ASCII digit."""
    return 48 <= byte <= 57


def _without_marks(match: re.Match[bytes]) -> bytes:
    """Replace the marks around a number by blanks."""
    before = match.start(2) - match.start()
    return b" " * before + match[2] + b" " * len(match[3])


def _with_ascii_digits(match: re.Match[bytes]) -> bytes:
    """Replace digits of another script by ASCII digits, with blanks before them."""
    return str(int(match[2].decode())).encode().rjust(len(match[0]))


def _precede_text(data: bytes) -> bool:
    """Return whether most numbers with the marks of lists have text behind them, unlike the values of an array."""
    alone = [_REST_IS_BLANK.match(data, match.end()) is not None for match in _LISTED.finditer(data)]
    return 2 * sum(alone) < len(alone)


def _with_dot(match: re.Match[bytes]) -> bytes:
    """Replace the marks around a number by blanks before it and a dot behind it, as in a list."""
    group = match.lastindex or 0
    before, behind = match.start(group) - match.start(), match.end() - match.end(group)
    return b" " * before + match[group] + b".".ljust(behind)[:behind]


def _without_bars(match: re.Match[bytes]) -> bytes:
    """Replace the bars of an empty cell behind a number by blanks."""
    return match[1] + b" " * len(match[2])


def _one_line_end(match: re.Match[bytes]) -> bytes:
    """Replace all line ends but the last by blanks."""
    return b" " * (len(match[0]) - 1) + b"\n"
