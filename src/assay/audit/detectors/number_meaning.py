"""Recognize ascending numbers that carry a meaning: labels of BASIC, keys of records, and chapters of several books.

Records and BASIC have as many symbols as code, so that `gutter_rules` cannot separate them. The functions read only the
text of a run that already counts as a line-number gutter, which few documents contain.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

MIN_LINES = 8
"""Minimum count of lines with text for a decision."""
MIN_STEP = 1.5
"""Minimum mean difference of successive labels. Authors of BASIC leave gaps to insert statements; line numbers count by 1."""
MIN_STATEMENTS = 0.5
"""Minimum fraction of lines that begin with a BASIC keyword or an assignment."""
MIN_SAME_SHAPE = 0.7
"""Minimum fraction of lines with one shape for a table of records. Code has at most about 0.4."""
MIN_FIELDS = 3
"""Minimum count of separators in the shape of a record. Many lines of code share shorter shapes, such as `a(a);`."""

CODE_MARKS = frozenset("={}\"'#_<>\\$`")
"""Characters of code that records lack. Rows of data in code contain them, or end in `,` or `;`."""

LABEL = 40
"""Maximum length of the text between two rows of an index."""

_ROW_BEFORE = re.compile(rf"\b\d+ \d+ \d+\s+[^\d.]{{1,{LABEL}}}$")
_ROW_AFTER = re.compile(rf"\s+[^\d.]{{1,{LABEL}}}\b1 2 3 4\b")
_NUMBERED = re.compile(r"[^\S\n]*\[?(\d{1,7})(?!\d)[\].):|]?([^\n]*)")
_STATEMENT = re.compile(
    r"\s*(?:PRINT|REM|GOTO|GO TO|GOSUB|IF|FOR|NEXT|LET|DIM|INPUT|DATA|READ|RETURN|END|STOP|DEF|ON|RESTORE|RANDOMIZE|CLS"
    r"|POKE|OPEN|CLOSE|[A-Z]\d?\$?(?:\([^)]*\))?\s*=)",
)
_WORDS = re.compile(r"[^\W\d_]+(?:[ .'-]+[^\W\d_]+)*\.?")
_NUMBERS = re.compile(r"\d+(?:[.,:]\d+)*")
_BLANKS = re.compile(r"\s+")


def carry_meaning(text: str) -> bool:
    r"""Return whether the numbers at the start of lines are labels of a program or keys of records.

    Args:
        text: the lines of a run of numbers, from the first number to the end of the last line.

    >>> carry_meaning("\n".join(f"{10 * n} PRINT X({n})" for n in range(1, 20)))
    True
    >>> carry_meaning("\n".join(f"{n} Ann Lee (KEN) {n}.5 (+0.{n})" for n in range(1, 20)))
    True
    >>> carry_meaning("\n".join(f"{n} x[{n}] = f({n});" for n in range(1, 20)))
    False
    """
    numbered = [(int(match[1]), match[2]) for match in map(_NUMBERED.match, text.split("\n")) if match]
    lines = [line for _, line in numbered if line.strip()]
    if len(lines) < MIN_LINES:
        return False
    whole = len(lines) == len(numbered)  # only line-number gutters number blank lines
    return are_labels([number for number, _ in numbered], lines) or (whole and are_records(lines))


def is_index(before: str, after: str) -> bool:
    """Return whether another row of numbers is directly before or behind a row, as in an index of chapters.

    Args:
        before: text before the row; its last 60 characters suffice.
        after: text behind the row; its first 60 characters suffice.

    >>> is_index("Genesis 1 2 3 4 Exodus ", " Leviticus 1 2 3 4 5")
    True
    >>> is_index("They met in the morning. ", " They spoke for 1 hour.")
    False
    """
    return _ROW_BEFORE.search(before) is not None or _ROW_AFTER.match(after) is not None


def are_labels(numbers: Sequence[int], lines: Sequence[str]) -> bool:
    """Return whether numbers with gaps, or numbers that do not count from 1, precede statements of BASIC."""
    step = (numbers[-1] - numbers[0]) / max(1, len(numbers) - 1)
    if step < MIN_STEP and numbers[0] == 1:
        return False
    return sum(_STATEMENT.match(line) is not None for line in lines) >= MIN_STATEMENTS * len(lines)


def are_records(lines: Sequence[str]) -> bool:
    """Return whether most lines have one shape: the same separators between words and numbers."""
    shape, count = Counter(map(_shape, lines)).most_common(1)[0]
    if count < MIN_SAME_SHAPE * len(lines) or shape.endswith((",", ";")) or not CODE_MARKS.isdisjoint(shape):
        return False
    return len(shape) - shape.count("a") - shape.count("9") >= MIN_FIELDS


def _shape(line: str) -> str:
    """Replace each phrase by `a` and each number by `9`, and remove blanks.

    >>> _shape(" See Smith (1951), pp. 3-12")
    'a(9),a9-9'
    """
    return _BLANKS.sub("", _NUMBERS.sub("9", _WORDS.sub("a", line)))
