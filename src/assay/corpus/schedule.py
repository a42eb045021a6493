"""Which source comes at each position of a run, and which of its sequences: exact at every prefix, without state."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from assay.corpus.kernels import ROUNDS, Integers, Words, assign, permute_all
from assay.errors import AssayError
from assay.mixes import normalise

BLOCK = 1 << 14
"""Positions that are worked out at once; a few blocks are kept."""
KEPT_BLOCKS = 16
LONGEST_PERIOD = 100_000
"""Weights that are whole multiples of 1/D, for a D up to this, are kept exactly and repeat after D positions."""


class MixSchedule:
    """The source of every position, so that no prefix strays from the weights by more than one sequence.

    With S sources, ``|draws of i before t - weight of i x t| <= 1 - 1 / (2 S - 2)`` would hold at every t for weights
    that are whole multiples of 1/D (Tijdeman, 1980; see `kernels.assign`). Weights that have a short D, as written ones
    nearly always do, are kept exactly, and the schedule repeats after D positions. All others are rounded to
    multiples of 2**-48, which moves a count by less than ``length`` x 2**-48: far inside the ``1 / (2 S - 2)`` that is
    left up to 1. The schedule depends on the weights alone: a longer run begins as a shorter one does.

    Any position is reached directly, from a table of counts at every 2**14-th position (8 S bytes each). Without a
    short D the table is filled as far as it is needed, once, at 20 to 60 ns a position.

    Attributes:
        names: the sources, sorted; an index into it is what the methods call a source.
        length: positions of the run.
        quotas: draws of each source in `quantum` positions; shape (S,).
        quantum: D above.
    """

    def __init__(self, weights: Mapping[str, float], length: int) -> None:
        shares = normalise(weights, mix="of the schedule")
        self.names = tuple(sorted(weights))
        self.length = length
        if length < 1:
            raise AssayError(f"schedule: {length} positions.", fix="A run has at least one sequence.")
        self.quantum, quotas = _exact_quotas(shares) or _fine_quotas(shares, length)
        self.quotas = np.array([quotas.get(name, 0) for name in self.names], np.int64)
        self._drawn = np.flatnonzero(self.quotas).astype(np.int64)
        self._active = np.ascontiguousarray(self.quotas[self._drawn])
        repeats = max(1, BLOCK // self.quantum)
        self._period = self.quantum * repeats
        self._per_period = self.quotas * repeats
        self._starts = [np.zeros(len(self.names), np.int64)]
        self._blocks: OrderedDict[int, tuple[Integers, Integers]] = OrderedDict()

    def at(self, positions: Integers) -> tuple[Integers, Integers]:
        """The source of each position, and how many earlier positions had that source.

        Args:
            positions: any positions in [0, length), in any order; shape (n,).

        Returns:
            Source indices and draws, each of shape (n,).

        Raises:
            ValueError: a position is outside the run.
        """
        positions = np.asarray(positions, np.int64)
        if len(positions) and not (positions.min() >= 0 and positions.max() < self.length):
            msg = f"positions {positions.min()} to {positions.max()} are not all in the run's {self.length}"
            raise ValueError(msg)
        cycles, rest = positions // self._period, positions % self._period
        blocks, inside = rest // BLOCK, rest % BLOCK
        sources, draws = np.empty_like(positions), np.empty_like(positions)
        for number in np.unique(blocks).tolist():
            chosen = blocks == number
            block_sources, block_draws = self._block(number)
            sources[chosen], draws[chosen] = block_sources[inside[chosen]], block_draws[inside[chosen]]
        return sources, draws + cycles * self._per_period[sources]

    def block(self, start: int, stop: int) -> tuple[Integers, Integers]:
        """`at` for the positions from `start` up to `stop`, in a few copies.

        Raises:
            ValueError: that is not a stretch of the run.
        """
        if not 0 <= start <= stop <= self.length:
            msg = f"positions {start} to {stop} are not a stretch of the run's {self.length}"
            raise ValueError(msg)
        all_sources, all_draws = np.empty(stop - start, np.int64), np.empty(stop - start, np.int64)
        position = start
        while position < stop:
            cycles, rest = divmod(position, self._period)
            number, inside = divmod(rest, BLOCK)
            sources, draws = (part[inside : inside + stop - position] for part in self._block(number))
            here = slice(position - start, position - start + len(sources))
            all_sources[here] = sources
            np.add(draws, cycles * self._per_period[sources], out=all_draws[here])
            position += len(sources)
        return all_sources, all_draws

    def counts(self, position: int) -> Integers:
        """Draws of each source before a position in [0, length]; shape (S,)."""
        if not 0 <= position <= self.length:
            msg = f"position {position} is not in the run's {self.length}"
            raise ValueError(msg)
        cycles, rest = divmod(position, self._period)
        number, inside = divmod(rest, BLOCK)
        counts = self._start(number) + cycles * self._per_period
        if inside:
            counts += np.bincount(self._block(number)[0][:inside], minlength=len(self.names))
        return counts

    def find(self, source: int, draw: int) -> int:
        """The position at which a source is drawn for the `draw`-th time, counted from 0.

        Raises:
            ValueError: that comes after the run's last position.
        """
        per_period = int(self._per_period[source])
        if not 0 <= draw < self.counts(self.length)[source]:
            msg = f"{self.names[source]!r} is not drawn {draw + 1} times in {self.length} positions"
            raise ValueError(msg)
        cycles, rest = divmod(draw, per_period)
        last = (min(self.length, self._period) - 1) // BLOCK
        low, high = 0, last
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._start(middle)[source] <= rest else (low, middle - 1)
        sources, draws = self._block(low)
        inside = np.flatnonzero((sources == source) & (draws == rest))[0]
        return int(cycles * self._period + low * BLOCK + inside)

    def _start(self, number: int) -> Integers:
        """Draws of each source before a block of the first period."""
        while len(self._starts) <= number:
            self._end(len(self._starts) - 1, self._assign(len(self._starts) - 1)[0])
        return self._starts[number]

    def _end(self, number: int, sources: Integers) -> None:
        if len(self._starts) == number + 1:
            self._starts.append(self._starts[number] + np.bincount(sources, minlength=len(self.names)))

    def _block(self, number: int) -> tuple[Integers, Integers]:
        """Sources and draws of a block of the first period."""
        if number not in self._blocks:
            start = self._start(number)
            sources, draws = self._assign(number)
            self._end(number, sources)
            self._blocks[number] = (sources, draws + start[sources])
            if len(self._blocks) > KEPT_BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def _assign(self, number: int) -> tuple[Integers, Integers]:
        first = number * BLOCK
        size = min(BLOCK, self._period - first)
        # Python's integers: quota x position passes 2**63 long before their difference, at most a quantum, would.
        lead = [
            int(quota) * first - self.quantum * int(drawn)
            for quota, drawn in zip(self._active, self._starts[number][self._drawn], strict=True)
        ]
        sources, draws = np.empty(size, np.uint16), np.empty(size, np.int64)
        assign(self._active, self.quantum, np.array(lead, np.int64), sources, draws)
        return self._drawn[sources], draws


def permute(indices: Integers, count: int, *, seed: int, name: str, epoch: int) -> Integers:
    """The items at places `indices` of a pseudo-random order of `count` items; a one-to-one map of [0, count).

    The order is keyed by the source's name and not by its place among others, so that two mixes that share a source
    see it in the same order.
    """
    return permute_all(np.asarray(indices, np.int64), count, permutation_key(seed=seed, name=name, epoch=epoch))


def permutation_key(*, seed: int, name: str, epoch: int) -> Words:
    """The key of a source's order in one epoch; shape (6,)."""
    digest = hashlib.blake2b(f"{seed}|{epoch}|{name}".encode(), digest_size=8 * ROUNDS, person=b"assay.order").digest()
    return np.frombuffer(digest, "<u8").astype(np.uint64)


def _exact_quotas(shares: Mapping[str, float]) -> tuple[int, dict[str, int]] | None:
    """The smallest D up to `LONGEST_PERIOD` of which all weights are multiples, and the multiples.

    A weight counts as a multiple within 1e-13: floating point leaves 1e-16 on a written weight, and 1e-13 moves a
    count by a hundredth in 1e11 positions.
    """
    fractions = {name: Fraction(share).limit_denominator(LONGEST_PERIOD) for name, share in shares.items()}
    if any(abs(fractions[name] - Fraction(share)) > Fraction(1, 10**13) for name, share in shares.items()):
        return None
    quantum = math.lcm(*(fraction.denominator for fraction in fractions.values()))
    if quantum > LONGEST_PERIOD or sum(fractions.values()) != 1:
        return None
    return quantum, {name: int(fraction * quantum) for name, fraction in fractions.items()}


def _fine_quotas(shares: Mapping[str, float], length: int) -> tuple[int, dict[str, int]]:
    """Weights as multiples of a power of two so small that rounding never shows; what is lost goes by largest remainder."""
    parts = max(2, 2 * len(shares) - 2)
    quantum = 1 << min(48, 60 - parts.bit_length())
    if 2 * length * parts > quantum:
        raise AssayError(
            f"schedule: {length:,} positions of {len(shares)} sources are more than exact counts are kept for.",
            fix=f"Use at most {quantum // (2 * parts):,} positions.",
        )
    total = sum(map(Fraction, shares.values()))
    ideal = {name: Fraction(share) * quantum / total for name, share in shares.items()}
    quotas = {name: int(value) for name, value in ideal.items()}
    missing = quantum - sum(quotas.values())
    for name in sorted(ideal, key=lambda name: (quotas[name] - ideal[name], name))[:missing]:
        quotas[name] += 1
    return quantum, {name: quota for name, quota in quotas.items() if quota}
