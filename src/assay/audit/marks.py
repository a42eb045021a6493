r"""Which of many short marks a document has: all of them in one pass over its bytes.

A detector's expression costs 10 to 40 ms a megabyte, and almost no document has what it looks for. So every detector says
what its expression cannot do without, and all of these marks are searched for at once by an automaton (Aho and Corasick,
1975, with sets of bytes in the place of letters): 0.8 ms a megabyte for 40 of them, where `in` took 0.7 ms for each.
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
"""The bytes that may stand at each place, and whether the place may be left out."""
State = frozenset[tuple[int, int]]
"""How far each mark that may be under way has come: its number, and its place."""


def _literal(text: bytes) -> Mark:
    return tuple((frozenset({byte}), False) for byte in text)


def _folded(text: bytes) -> Mark:
    """In upper or lower case."""
    return tuple((frozenset({byte, *bytes([byte]).swapcase()}), False) for byte in text)


_GAP = tuple((frozenset(b" \t\r\n\f\v|"), place > 0) for place in range(5))
"""One to five blanks, line ends and bars."""

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
"""By what they announce; 64 at most, over all."""


class _Automaton(NamedTuple):
    """What `_scan` needs.

    Attributes:
        classes: of each byte, which class of bytes it is in; those of a class are in the same sets.
        steps: the next state by state and class; states are counted in steps of the number of classes.
        ended: the marks that end with a state, as bits; those before `first` end none.
        width: the number of classes.
        first: the first state with which a mark ends.
        longest: bytes of the longest mark.
    """

    classes: Bytes
    steps: NDArray[np.uint32]
    ended: NDArray[np.uint64]
    width: np.uint32
    first: np.uint32
    longest: int


def present(data: Bytes) -> dict[str, int]:
    r"""How many different marks of each kind a text has; kinds without one are left out.

    >>> page = b"Sign in | Sign up | COOKIE settings | page 3 of 7"
    >>> present(np.frombuffer(page, np.uint8))
    {'navigation': 3, 'page of': 1}
    >>> present(np.frombuffer(b"nothing of it", np.uint8))
    {}
    """
    found = int(_scan(data, *_automaton()))
    return {kind: (found & bits).bit_count() for kind, bits in _bits().items() if found & bits} if found else {}


@functools.cache
def _bits() -> dict[str, int]:
    """Which bits of what `_scan` finds are marks of a kind."""
    found, begin = {}, 0
    for kind, marks in MARKS.items():
        found[kind] = ((1 << len(marks)) - 1) << begin
        begin += len(marks)
    assert begin <= 64
    return found


@functools.cache
def _automaton() -> _Automaton:
    marks = [mark for kind in MARKS.values() for mark in kind]
    classes, samples = _classes({bytes_ for mark in marks for bytes_, _ in mark})
    begun = _reached(marks, ((number, 0) for number in range(len(marks))))
    states: list[State] = [begun]
    numbers = {begun: 0}
    rows = []
    for state in states:  # it grows meanwhile
        row = []
        for byte in samples:
            further = ((m, at + 1) for m, at in state if at < len(marks[m]) and byte in marks[m][at][0])
            after = begun | _reached(marks, further)
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
    """The class of each byte, and a byte of each class."""
    table, known = np.zeros(256, np.uint8), dict[tuple[bool, ...], int]()
    samples = []
    for byte in range(256):
        key = tuple(byte in each for each in sets)
        if key not in known:
            known[key] = len(known)
            samples.append(byte)
        table[byte] = known[key]
    return table, samples


def _reached(marks: list[Mark], places: Iterable[tuple[int, int]]) -> State:
    """Places of marks, with those behind what may be left out."""

    def onward() -> Iterator[tuple[int, int]]:
        for number, at in places:
            yield number, at
            ahead = at
            while ahead < len(marks[number]) and marks[number][ahead][1]:
                ahead += 1
                yield number, ahead

    return frozenset(onward())


@compiled
def _scan(  # noqa: PLR0917  # machine code takes plain arguments
    data: Bytes,
    classes: Bytes,
    steps: NDArray[np.uint32],
    ended: NDArray[np.uint64],
    width: np.uint32,
    first: np.uint32,
    longest: int,
) -> np.uint64:
    """The marks in a text, as bits.

    Four quarters go side by side, since each step waits for the one before it: 1,300 MB/s, where one alone had 520.
    """
    found = np.uint64(0)
    size = len(data) // 4
    begun = np.zeros(4, np.uint32)
    for quarter in range(1, 4):  # what is under way where a quarter begins
        state = np.uint32(0)
        for at in range(max(0, quarter * size - longest), quarter * size):
            state = steps[state + classes[data[at]]]
            if state >= first:
                found |= ended[state // width]
        begun[quarter] = state
    one, two, three, four = begun[0], begun[1], begun[2], begun[3]
    for at in range(size):
        one = steps[one + classes[data[at]]]
        two = steps[two + classes[data[size + at]]]
        three = steps[three + classes[data[2 * size + at]]]
        four = steps[four + classes[data[3 * size + at]]]
        if max(max(one, two), max(three, four)) >= first:  # noqa: PLW3301  # as machine code has it
            # The first state ends no mark.
            found |= ended[one // width] | ended[two // width] | ended[three // width] | ended[four // width]
    for at in range(4 * size, len(data)):
        four = steps[four + classes[data[at]]]
        found |= ended[four // width]
    return found
