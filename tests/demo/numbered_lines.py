"""An independent measure of the defect, for tests."""

from __future__ import annotations

import re


def longest_line_numbers(text: str) -> int:
    """Return the length of the longest run of ascending numbers, in a row or at the beginnings of lines."""
    longest = 0
    for numbers in (re.findall(r"\S+", text), [line.lstrip() for line in text.split("\n")]):
        run, last = 0, None
        for token in numbers:
            match = re.match(r"\d{1,6}", token)
            number = int(match[0]) if match else None
            run = 0 if number is None else run + 1 if last is not None and number == last + 1 else 1
            longest, last = max(longest, run), number
    return longest
