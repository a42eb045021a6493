"""Split untrusted text into pieces for display, with marked matches and visible escapes.

These functions do not escape markup. The renderer escapes markup.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

Span = tuple[int, int]

HEAD, TAIL = 60_000, 2_000
"""Characters to display from the beginning and the end of a longer text."""
AROUND, SPAN, MATCHES = 400, 4_000, 5
"""Displayed characters around a match and of the match, at any position, and maximum number of such matches."""
PIECES = 5_000
"""Maximum number of pieces. Without it, a text of control characters would give a page of millions of elements."""

_INVISIBLE = re.compile(
    "([\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\ufff0-\uffff\ud800-\udfff\U000e0000-\U000e0fff]|\r(?!\n))\\1*"
)
"""Control characters, invisible characters and direction overrides, except the joiners U+200C and U+200D of scripts."""


class Piece(NamedTuple):
    """A part of a text for display.

    Attributes:
        kind: `text`; `escape` for repetitions of an invisible character; `cut` for an omission.
        text: text to display. For an escape, the code point and its count. For a cut, the number of omitted characters.
        matched: whether the piece is part of a match.
        name: Unicode name of an escaped character.
    """

    kind: Literal["text", "escape", "cut"]
    text: str
    matched: bool = False
    name: str = ""


def pieces(text: str, matches: Iterable[Span] = (), *, head: int = HEAD, tail: int = TAIL) -> list[Piece]:
    """Split a text into pieces for display.

    Args:
        text: untrusted text of any length.
        matches: start and end of each match in characters, in any order; they may overlap.
        head: displayed characters from the beginning, in addition to the surroundings of the first matches.
        tail: displayed characters from the end.
    """
    marked = _merged(matches, len(text))
    result: list[Piece] = []
    at = 0
    for start, stop in _displayed_spans(len(text), marked, head, tail):
        if start > at:
            result.append(Piece("cut", f"{start - at:,} characters omitted"))
        at = start
        for piece, end in _split(text, start, stop, marked):
            if len(result) >= PIECES:
                break
            result.append(piece)
            at = end
        if len(result) >= PIECES:
            break
    if at < len(text):
        result.append(Piece("cut", f"{len(text) - at:,} characters omitted"))
    return result


def plain(text: str, *, most: int) -> str:
    """Shorten a text for a terminal or a log, with invisible characters escaped."""
    return "".join(
        piece.text if piece.kind == "text" else f"[{piece.text}]" for piece in pieces(text, head=most, tail=0)
    )


def masked(text: str, secrets: Callable[[str], Sequence[Span]]) -> str:
    """Replace all but the first two characters of every secret by asterisks.

    Args:
        text: text to mask.
        secrets: returns spans of secrets. It is called until it returns none, because detectors report a limited
            number.
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
        if hidden == text:  # the detector matches even the asterisks
            return "".join(parts[:1]) + "*" * (len(text) - len(parts[0]))
        text = hidden
    return "*" * len(text)


def _merged(spans: Iterable[Span], length: int) -> list[Span]:
    merged: list[Span] = []
    for start, stop in sorted((max(0, start), min(stop, length)) for start, stop in spans):
        if stop <= start:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


def _displayed_spans(length: int, marked: Sequence[Span], head: int, tail: int) -> list[Span]:
    around = [(start - AROUND, min(stop, start + SPAN) + AROUND) for start, stop in marked[:MATCHES]]
    return _merged([(0, head), *around, (length - tail, length)], length)


def _split(text: str, start: int, stop: int, marked: Sequence[Span]) -> Iterator[tuple[Piece, int]]:
    """Yield the pieces between two offsets, each with its end."""
    at = start
    for first, last in marked:
        if last <= start or first >= stop:
            continue
        yield from _spell_out(text, at, max(first, at), matched=False)
        at = max(first, at)
        yield from _spell_out(text, at, min(last, stop), matched=True)
        at = min(last, stop)
    yield from _spell_out(text, at, stop, matched=False)


def _spell_out(text: str, start: int, stop: int, *, matched: bool) -> Iterator[tuple[Piece, int]]:
    at = start
    for match in _INVISIBLE.finditer(text, start, stop):
        if match.start() > at:
            yield Piece("text", text[at : match.start()], matched), match.start()
        at = match.end()
        count = match.end() - match.start()
        code = f"U+{ord(match[1]):04X}" + (f" ×{count:,}" if count > 1 else "")  # noqa: RUF001  # the multiplication sign
        yield Piece("escape", code, matched, unicodedata.name(match[1], "control character")), at
    if at < stop:
        yield Piece("text", text[at:stop], matched), stop
