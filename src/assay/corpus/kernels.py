"""Compiled inner loops over positions, documents or pieces of text.

Numba compiles the loops once and caches them on disk. All integers are 64 bits wide. Callers must keep values in the
ranges that the docstrings state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])
Integers = NDArray[np.int64]
Words = NDArray[np.uint64]

ROUNDS = 6
"""Number of rounds of the Feistel network. Each round takes one 64-bit word of the key."""

NEVER = np.int64(1 << 46)
WAITING = np.int64((1 << 63) - 1)


def compiled(function: F) -> F:
    """Compile a function on its first call, and cache the machine code if possible."""
    try:
        return cast("F", numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError:  # read-only installation without a home folder: each process compiles for about a second
        return cast("F", numba.njit(nogil=True, error_model="numpy")(function))


@compiled
def assign(quotas: Integers, quantum: int, lead: Integers, sources: NDArray[np.uint16], draws: Integers) -> None:
    """Assign the next ``len(sources)`` positions to sources by Tijdeman's chairman assignment.

    Let M = 2 S - 2. The k-th draw of source i (job k) is released when weight x position reaches k + 1/M, and its
    deadline is where weight x position passes k + 1 - 1/M. Tijdeman proved that a schedule exists in which all jobs
    meet these bounds. With integer release times and deadlines, taking the released job with the earliest deadline
    yields such a schedule (R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32, 1980).

    Args:
        quotas: draws of each source in every `quantum` positions, all above 0, summing to it; shape (S,).
        quantum: period of the quotas in positions; at most 2**48, with `quantum` * (2 S - 2) below 2**60.
        lead: quota x position - quantum x draws of each source before the first position; within +-quantum.
        sources: output: the index of each position's source; at most 2**14 positions.
        draws: output: the number of earlier positions in this block with the same source; shape of `sources`.
    """
    count = len(quotas)
    parts = max(2, 2 * count - 2)
    release = np.empty(count, np.int64)
    # The key has the deadline in its upper bits and the source's index in its lowest 16 bits, so the minimum needs no
    # branch.
    urgency = np.empty(count, np.int64)
    drawn = np.zeros(count, np.int64)
    for i in range(count):
        release[i] = -((parts * lead[i] - quantum) // (parts * quotas[i]))
        deadline = (quantum * (parts - 1) - parts * lead[i]) // (parts * quotas[i])
        urgency[i] = (min(deadline, NEVER) << 16) | i
    for index in range(len(sources)):
        now = index + 1
        most_urgent = WAITING
        for i in range(count):
            most_urgent = min(most_urgent, urgency[i] if release[i] <= now else WAITING)
        best = most_urgent & 0xFFFF
        sources[index] = best
        draws[index] = drawn[best]
        drawn[best] += 1
        ahead = lead[best] + quotas[best] * now - quantum * drawn[best]
        release[best] = now - (parts * ahead - quantum) // (parts * quotas[best])
        deadline = now + (quantum * (parts - 1) - parts * ahead) // (parts * quotas[best])
        urgency[best] = (min(deadline, NEVER) << 16) | best


@compiled
def permuted(index: int, count: int, key: Words) -> np.int64:
    """Permute an index in [0, count) with a keyed, cycle-walking Feistel network.

    Both halves have the same number of bits. Values outside [0, count) pass through the network again, so that the map
    stays one-to-one (J. Black and P. Rogaway, "Ciphers with arbitrary finite domains", 2002).
    """
    half = np.uint64(1)
    while (np.uint64(1) << (half + half)) < np.uint64(count):
        half += np.uint64(1)
    mask = (np.uint64(1) << half) - np.uint64(1)
    value = np.uint64(index)
    while True:
        left, right = value >> half, value & mask
        for word in key:
            mixed = (right ^ word) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(32)
            mixed *= np.uint64(0xD6E8FEB86659FD93)
            mixed ^= mixed >> np.uint64(29)
            left, right = right, left ^ (mixed & mask)
        value = (left << half) | right
        if value < np.uint64(count):
            return np.int64(value)


@compiled
def permute_all(indices: Integers, count: int, key: Words) -> Integers:
    """Apply `permuted` to many indices."""
    places = np.empty(len(indices), np.int64)
    for i in range(len(indices)):
        places[i] = permuted(indices[i], count, key)
    return places


@compiled
def epoch_table(offsets: Integers, key: Words) -> Integers:
    """Count the tokens before each document of an epoch, in epoch order; shape (documents + 1,)."""
    count = len(offsets) - 1
    before = np.empty(count + 1, np.int64)
    before[0] = 0
    for place in range(count):
        document = permuted(place, count, key)
        before[place + 1] = before[place] + offsets[document + 1] - offsets[document]
    return before


@compiled
def locate(starts: Integers, length: int, first: int, before: Integers, places: Integers, key: Words) -> Integers:  # noqa: PLR0917  # one caller, with positional arguments, which numba handles best
    """Locate the pieces of documents that sequences take from one epoch.

    Args:
        starts: first stream token of each sequence; shape (n,).
        length: tokens of a sequence.
        first: stream token at which the epoch begins.
        before: result of `epoch_table` for the epoch.
        places: first token of each document in the corpus, and its end; shape (documents + 1,).
        key: the epoch's key.

    Returns:
        One row per piece: sequence, column in the sequence, first token in the corpus, number of tokens; shape (pieces,
        4).
    """
    count = len(places) - 1
    pieces = np.empty((4 * len(starts) + 16, 4), np.int64)
    used = 0
    for sequence in range(len(starts)):
        at = max(starts[sequence], first) - first
        stop = min(starts[sequence] + length - first, before[-1])
        if at >= stop:
            continue
        place = np.searchsorted(before, at, side="right") - 1
        while at < stop:
            document = permuted(place, count, key)
            take = min(stop, before[place + 1]) - at
            if used == len(pieces):
                grown = np.empty((2 * used, 4), np.int64)
                grown[:used] = pieces
                pieces = grown
            pieces[used, 0] = sequence
            pieces[used, 1] = at + first - starts[sequence]
            pieces[used, 2] = places[document] + at - before[place]
            pieces[used, 3] = take
            used += 1
            at += take
            place += 1
    return pieces[:used]


@compiled
def copy(tokens: NDArray[Any], first: int, pieces: Integers, rows: Integers, out: Integers) -> None:
    """Copy the pieces that lie in one shard into the rows of `out`.

    `first` is the index of the shard's first token.
    """
    for piece in range(len(pieces)):
        start = pieces[piece, 2] - first
        if start < 0 or start >= len(tokens):
            continue
        row, column = rows[pieces[piece, 0]], pieces[piece, 1]
        for i in range(pieces[piece, 3]):
            out[row, column + i] = tokens[start + i]
