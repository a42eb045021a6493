"""Text that nobody vouches for, cut into pieces that a page or a terminal can show: matches marked, what is invisible spelt out.

Nothing here escapes markup: whoever shows a piece does, as he does with any text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

Span = tuple[int, int]

HEAD, TAIL = 60_000, 2_000
"""Characters that are shown from the beginning and from the end of a longer text."""
AROUND, SPAN, MATCHES = 400, 4_000, 5
"""Characters around a match and of it that are shown wherever it is, and for how many matches."""
PIECES = 5_000
"""After which a text is cut: one of nothing but control characters would make a page of millions of elements."""

_INVISIBLE = re.compile(
    "([\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\ufff0-\uffff\ud800-\udfff\U000e0000-\U000e0fff]|\r(?!\n))\\1*"
)
"""Controls, and characters that have no shape or turn the direction of others; joiners (U+200C, U+200D) belong to scripts."""


class Piece(NamedTuple):
    """A stretch of a text.

    Attributes:
        kind: `text` as it is; `escape` for characters that could not be seen; `cut` for what is left out.
        text: to show: of an escape its code and how often it stands there, of a cut how much is missing.
        matched: whether it is in a match.
        name: of an escaped character.
    """

    kind: Literal["text", "escape", "cut"]
    text: str
    matched: bool = False
    name: str = ""


def pieces(text: str, matches: Iterable[Span] = (), *, head: int = HEAD, tail: int = TAIL) -> list[Piece]:
    """Cut a text into what can be shown.

    Args:
        text: whatever it is, however long.
        matches: begin and end of what is marked, in characters; in any order, overlapping or not.
        head: characters from the beginning that are shown; the surroundings of the first matches are, wherever they are.
        tail: characters from the end.
    """
    marked = _merged(matches, len(text))
    found: list[Piece] = []
    at = 0
    for start, stop in _kept(len(text), marked, head, tail):
        if start > at:
            found.append(Piece("cut", f"{start - at:,} characters are not shown"))
        at = start
        for piece, end in _cut(text, start, stop, marked):
            if len(found) >= PIECES:
                break
            found.append(piece)
            at = end
        if len(found) >= PIECES:
            break
    if at < len(text):
        found.append(Piece("cut", f"{len(text) - at:,} characters are not shown"))
    return found


def plain(text: str, *, most: int) -> str:
    """The beginning of a text for a terminal or a log, what is invisible spelt out."""
    shown = pieces(text, head=most, tail=0)
    return "".join(one.text if one.kind == "text" else f"[{one.text}]" for one in shown)


def masked(text: str, secrets: Callable[[str], Sequence[Span]]) -> str:
    """A text with every secret replaced by as many stars, but for the two characters to know it by.

    Args:
        text: to be shown.
        secrets: says where they are; asked again of what is left until it finds none, since detectors stop after some.
    """
    for _ in range(1_000):
        spans = _merged(secrets(text), len(text))
        if not spans:
            return text
        parts, at = [], 0
        for start, stop in spans:
            parts += [text[at:start], text[start : start + 2], "*" * max(0, stop - start - 2)]
            at = stop
        hidden = "".join([*parts, text[at:]])
        if hidden == text:  # the detector sees its secret even in the stars
            return "".join(parts[:1]) + "*" * (len(text) - len(parts[0]))
        text = hidden
    return "*" * len(text)


def _merged(spans: Iterable[Span], length: int) -> list[Span]:
    found: list[Span] = []
    for start, stop in sorted((max(0, start), min(stop, length)) for start, stop in spans):
        if stop <= start:
            continue
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((start, stop))
    return found


def _kept(length: int, marked: Sequence[Span], head: int, tail: int) -> list[Span]:
    around = [(start - AROUND, min(stop, start + SPAN) + AROUND) for start, stop in marked[:MATCHES]]
    return _merged([(0, head), *around, (length - tail, length)], length)


def _cut(text: str, start: int, stop: int, marked: Sequence[Span]) -> Iterator[tuple[Piece, int]]:
    """The pieces between two places, each with where it ends."""
    at = start
    for first, last in marked:
        if last <= start or first >= stop:
            continue
        yield from _spelt(text, at, max(first, at), matched=False)
        at = max(first, at)
        yield from _spelt(text, at, min(last, stop), matched=True)
        at = min(last, stop)
    yield from _spelt(text, at, stop, matched=False)


def _spelt(text: str, start: int, stop: int, *, matched: bool) -> Iterator[tuple[Piece, int]]:
    at = start
    for found in _INVISIBLE.finditer(text, start, stop):
        if found.start() > at:
            yield Piece("text", text[at : found.start()], matched), found.start()
        at = found.end()
        count = found.end() - found.start()
        code = f"U+{ord(found[1]):04X}" + (f" ×{count:,}" if count > 1 else "")  # noqa: RUF001  # the sign of times
        yield Piece("escape", code, matched, unicodedata.name(found[1], "control character")), at
    if at < stop:
        yield Piece("text", text[at:stop], matched), stop
