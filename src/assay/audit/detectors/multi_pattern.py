r"""Search a document for many short marks in one pass.

The regular expression of a detector costs 10 to 40 ms per megabyte, and few documents match. Each detector therefore
declares marks that every match contains. An automaton (Aho and Corasick, 1975, with sets of bytes instead of letters)
searches for all marks at once. The search takes 0.8 ms per megabyte for 40 marks; `in` takes 0.7 ms for each mark.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from assay.corpus.kernels import compiled

Bytes = NDArray[np.uint8]
Mark = tuple[tuple[frozenset[int], bool], ...]
"""The possible bytes of each position, and whether the position is optional."""
State = frozenset[tuple[int, int]]
"""Partial matches: index of the mark, and its next position."""


def _literal(text: bytes) -> Mark:
    return tuple((frozenset({byte}), False) for byte in text)


def _folded(text: bytes) -> Mark:
    """Build a mark that matches upper and lower case."""
    return tuple((frozenset({byte, *bytes([byte]).swapcase()}), False) for byte in text)


_GAP = tuple((frozenset(b" \t\r\n\f\v|"), place > 0) for place in range(5))
"""One to five blanks, line ends or bars."""

MARKS: dict[str, tuple[Mark, ...]] = {
    "secrets": (
        *map(
            _literal,
            (
                *(b"AKIA", b"ASIA", b"AccountKey=", b"AIza", b"ya29.", b"dop_v1_", b"github_pat_", b"glpat-"),
                *(b"hf_", b"npm_", b"pypi-AgE", b"sk-proj-", b"sk-svcacct-", b"sk-admin-", b"sk-ant-", b"T3BlbkFJ"),
                *(b"xapp-", b"hooks.slack.com/services/", b"SG.", b".eyJ", b"PRIVATE KEY-----"),
                *(b"PRIVATE KEY BLOCK-----", b"Private-Lines: "),
            ),
        ),
        (*_literal(b"gh"), (frozenset(b"pousr"), False), *_literal(b"_")),
        (*_literal(b"xox"), (frozenset(b"abprs"), False), *_literal(b"-")),
        ((frozenset(b"rs"), False), *_literal(b"k_live_")),
        (*_folded(b"access"), (frozenset(b"_"), True), *_folded(b"key")),
    ),
    "navigation": tuple(
        map(
            _folded,
            (
                *(
                    b"skip to",
                    b"all rights reserved",
                    b"privacy policy",
                    b"terms of",
                    b"cookie",
                    b"sign in",
                    b"sign up",
                ),
                *(b"log in", b"subscribe to", b"follow us", b"back to top", b"toggle nav", b"share on"),
            ),
        )
    ),
    "page of": ((*_folded(b"page "), (frozenset(b"0123456789"), False)),),
    "pager": ((*_literal(b"1"), *_GAP, *_literal(b"2"), *_GAP, *_literal(b"3")),),
    "dots": (_literal(b"....."), _literal(b". . .")),
    "replacement": (_literal(b"\xef\xbf\xbd"),),
    "mojibake": tuple(
        map(
            _literal,
            (
                *(b"\xc3\x83\xc2", b"\xc3\x82\xc2", b"\xc3\xa2\xe2\x82\xac", b"\xc3\xaf\xc2\xbb"),
                *(b"\xc3\x90\xc2", b"\xc3\x91\xc2"),
            ),
        )
    ),
    "closing tag": (_literal(b"</"),),
}
"""Marks by kind; at most 64 in total."""


class _Automaton(NamedTuple):
    """Tables of the automaton.

    Attributes:
        classes: class of each byte; bytes of a class are in the same sets.
        steps: next state by state and class; states are multiples of the number of classes.
        ended: marks that end in a state, as bits; no mark ends in a state below `first`.
        width: number of classes.
        first: first state in which a mark ends.
        longest: bytes of the longest mark.
    """

    classes: Bytes
    steps: NDArray[np.uint32]
    ended: NDArray[np.uint64]
    width: np.uint32
    first: np.uint32
    longest: int


def present(data: Bytes) -> dict[str, int]:
    r"""Count the different marks of each kind in a text; omit kinds without marks.

    >>> page = b"Sign in | Sign up | COOKIE settings | page 3 of 7"
    >>> present(np.frombuffer(page, np.uint8))
    {'navigation': 3, 'page of': 1}
    >>> present(np.frombuffer(b"no marks here", np.uint8))
    {}
    """
    marks = int(_scan(data, *_automaton()))
    return {kind: (marks & bits).bit_count() for kind, bits in _bits().items() if marks & bits} if marks else {}


@functools.cache
def _bits() -> dict[str, int]:
    """Return the bits of each kind's marks in the result of `_scan`."""
    bits, begin = {}, 0
    for kind, marks in MARKS.items():
        bits[kind] = ((1 << len(marks)) - 1) << begin
        begin += len(marks)
    assert begin <= 64
    return bits


@functools.cache
def _automaton() -> _Automaton:
    marks = [mark for kind in MARKS.values() for mark in kind]
    classes, samples = _classes({bytes_ for mark in marks for bytes_, _ in mark})
    start = _reached(marks, ((number, 0) for number in range(len(marks))))
    states: list[State] = [start]
    numbers = {start: 0}
    rows = []
    for state in states:  # the list grows during the loop
        row = []
        for byte in samples:
            advanced = ((m, at + 1) for m, at in state if at < len(marks[m]) and byte in marks[m][at][0])
            after = start | _reached(marks, advanced)
            if after not in numbers:
                numbers[after] = len(states)
                states.append(after)
            row.append(numbers[after])
        rows.append(row)
    ends = [sum(1 << m for m, at in state if at == len(marks[m])) for state in states]
    order = sorted(range(len(states)), key=lambda number: (ends[number] > 0, number))
    place = np.argsort(order)
    return _Automaton(
        classes=classes,
        steps=(place[np.array(rows)[order]] * len(samples)).astype(np.uint32).ravel(),
        ended=np.array([ends[number] for number in order], np.uint64),
        width=np.uint32(len(samples)),
        first=np.uint32(ends.count(0) * len(samples)),
        longest=max(map(len, marks)),
    )


def _classes(sets: set[frozenset[int]]) -> tuple[Bytes, list[int]]:
    """Return the class of each byte, and one byte of each class."""
    table, known = np.zeros(256, np.uint8), dict[tuple[bool, ...], int]()
    samples = []
    for byte in range(256):
        key = tuple(byte in allowed for allowed in sets)
        if key not in known:
            known[key] = len(known)
            samples.append(byte)
        table[byte] = known[key]
    return table, samples


def _reached(marks: list[Mark], places: Iterable[tuple[int, int]]) -> State:
    """Add the positions behind optional positions to partial matches."""

    def with_skips() -> Iterator[tuple[int, int]]:
        for number, at in places:
            yield number, at
            ahead = at
            while ahead < len(marks[number]) and marks[number][ahead][1]:
                ahead += 1
                yield number, ahead

    return frozenset(with_skips())


@compiled
def _scan(  # noqa: PLR0917  # compiled code takes plain arguments
    data: Bytes,
    classes: Bytes,
    steps: NDArray[np.uint32],
    ended: NDArray[np.uint64],
    width: np.uint32,
    first: np.uint32,
    longest: int,
) -> np.uint64:
    """Search a text for all marks, and return the present marks as bits.

    Each step depends on the previous step. Four quarters are scanned in parallel: 1,300 MB/s instead of 520.
    """
    marks = np.uint64(0)
    size = len(data) // 4
    states = np.zeros(4, np.uint32)
    for quarter in range(1, 4):  # keep partial matches at the start of a quarter
        state = np.uint32(0)
        for at in range(max(0, quarter * size - longest), quarter * size):
            state = steps[state + classes[data[at]]]
            if state >= first:
                marks |= ended[state // width]
        states[quarter] = state
    state_1, state_2, state_3, state_4 = states[0], states[1], states[2], states[3]
    for at in range(size):
        state_1 = steps[state_1 + classes[data[at]]]
        state_2 = steps[state_2 + classes[data[size + at]]]
        state_3 = steps[state_3 + classes[data[2 * size + at]]]
        state_4 = steps[state_4 + classes[data[3 * size + at]]]
        if max(max(state_1, state_2), max(state_3, state_4)) >= first:  # noqa: PLW3301  # compiles to faster code
            # No mark ends in state 0.
            marks |= (
                ended[state_1 // width] | ended[state_2 // width] | ended[state_3 // width] | ended[state_4 // width]
            )
    for at in range(4 * size, len(data)):
        state_4 = steps[state_4 + classes[data[at]]]
        marks |= ended[state_4 // width]
    return marks
