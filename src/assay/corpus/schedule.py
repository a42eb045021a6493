"""Schedule a mix: the source and the draw at each position of a run.

A position is the index of a sequence in the run. A draw is the number of earlier positions with the same source.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from assay.config.mixes import normalize
from assay.core.errors import ConfigError
from assay.corpus.kernels import ROUNDS, Integers, Words, assign, permute_all

BLOCK = 1 << 14
"""Number of positions per computed block."""
KEPT_BLOCKS = 16
LONGEST_PERIOD = 100_000
"""Largest D for which weights that are multiples of 1/D are exact and repeat after D positions."""


class MixSchedule:
    """The source of every position of a run, within one sequence of the mix's weights.

    With S sources and weights that are multiples of 1/D,
    ``|draws of i before t - weight of i x t| <= 1 - 1 / (2 S - 2)`` holds at every t (Tijdeman, 1980; see
    `kernels.assign`). Weights with a small D, as in most configurations, are
    represented exactly, and the schedule repeats after D positions. Other weights are rounded to multiples of 2**-48.
    The rounding changes a count by less than ``length`` x 2**-48, far below ``1 / (2 S - 2)``, the distance of the
    bound from one sequence. The schedule depends on the weights alone, so that a longer run begins with the schedule of
    a shorter run.

    Every position is directly accessible from a table of counts at every 2**14-th position (8 S bytes each). If D is
    large, the table is filled once, as far as needed, at 20 to 60 ns per position.

    Attributes:
        names: the sources, sorted. Methods denote a source by its index in `names`.
        length: number of positions of the run.
        quotas: draws of each source in `quantum` positions; shape (S,).
        quantum: D, or the power of two to which weights are rounded.
    """

    def __init__(self, weights: Mapping[str, float], length: int) -> None:
        fractions = normalize(weights, mix="of the schedule")
        self.names = tuple(sorted(weights))
        self.length = length
        if length < 1:
            raise ConfigError(
                f"schedule: length {length} is invalid; expected at least 1.", fix="Increase the token budget."
            )
        self.quantum, quotas = _exact_quotas(fractions) or _fine_quotas(fractions, length)
        self.quotas = np.array([quotas.get(name, 0) for name in self.names], np.int64)
        self._drawn = np.flatnonzero(self.quotas).astype(np.int64)
        self._active = np.ascontiguousarray(self.quotas[self._drawn])
        repeats = max(1, BLOCK // self.quantum)
        self._period = self.quantum * repeats
        self._per_period = self.quotas * repeats
        self._starts = [np.zeros(len(self.names), np.int64)]
        self._blocks: OrderedDict[int, tuple[Integers, Integers]] = OrderedDict()

    def at(self, positions: Integers) -> tuple[Integers, Integers]:
        """Return each position's source, and the count of earlier positions with the same source.

        Args:
            positions: any positions in [0, length), in any order; shape (n,).

        Returns:
            Source indices and draws, each of shape (n,).

        Raises:
            ValueError: a position is outside the run.
        """
        positions = np.asarray(positions, np.int64)
        if len(positions) and not (positions.min() >= 0 and positions.max() < self.length):
            msg = f"positions {positions.min()} to {positions.max()} are invalid; expected 0 to {self.length - 1}"
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
        """Return the results of `at` for the positions `start` up to `stop`.

        Raises:
            ValueError: the range is not within the run.
        """
        if not 0 <= start <= stop <= self.length:
            msg = f"positions {start} to {stop} are invalid; expected a range within 0 to {self.length}"
            raise ValueError(msg)
        all_sources, all_draws = np.empty(stop - start, np.int64), np.empty(stop - start, np.int64)
        position = start
        while position < stop:
            cycles, rest = divmod(position, self._period)
            number, inside = divmod(rest, BLOCK)
            sources, draws = (part[inside : inside + stop - position] for part in self._block(number))
            target = slice(position - start, position - start + len(sources))
            all_sources[target] = sources
            np.add(draws, cycles * self._per_period[sources], out=all_draws[target])
            position += len(sources)
        return all_sources, all_draws

    def counts(self, position: int) -> Integers:
        """Count the draws of each source before a position in [0, length]; shape (S,)."""
        if not 0 <= position <= self.length:
            msg = f"position {position} is invalid; expected 0 to {self.length}"
            raise ValueError(msg)
        cycles, rest = divmod(position, self._period)
        number, inside = divmod(rest, BLOCK)
        counts = self._start(number) + cycles * self._per_period
        if inside:
            counts += np.bincount(self._block(number)[0][:inside], minlength=len(self.names))
        return counts

    def find(self, source: int, draw: int) -> int:
        """Return the position of a source's draw, with draws counted from 0.

        Raises:
            ValueError: the run has fewer draws of the source.
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
        """Count the draws of each source before a block of the first period."""
        while len(self._starts) <= number:
            self._end(len(self._starts) - 1, self._assign(len(self._starts) - 1)[0])
        return self._starts[number]

    def _end(self, number: int, sources: Integers) -> None:
        if len(self._starts) == number + 1:
            self._starts.append(self._starts[number] + np.bincount(sources, minlength=len(self.names)))

    def _block(self, number: int) -> tuple[Integers, Integers]:
        """Return sources and draws of a block of the first period."""
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
        # Python integers are required: quota x position exceeds 2**63, although the difference is at most a quantum.
        lead = [
            int(quota) * first - self.quantum * int(drawn)
            for quota, drawn in zip(self._active, self._starts[number][self._drawn], strict=True)
        ]
        sources, draws = np.empty(size, np.uint16), np.empty(size, np.int64)
        assign(self._active, self.quantum, np.array(lead, np.int64), sources, draws)
        return self._drawn[sources], draws


def permute(indices: Integers, count: int, *, seed: int, name: str, epoch: int) -> Integers:
    """Return the items at `indices` of a pseudo-random permutation of [0, count).

    The key contains the source's name instead of its index, so that two mixes with a common source read it in the same
    order.
    """
    return permute_all(np.asarray(indices, np.int64), count, permutation_key(seed=seed, name=name, epoch=epoch))


def permutation_key(*, seed: int, name: str, epoch: int) -> Words:
    """Derive the key of a source's order in one epoch; shape (6,)."""
    digest = hashlib.blake2b(f"{seed}|{epoch}|{name}".encode(), digest_size=8 * ROUNDS, person=b"assay.order").digest()
    return np.frombuffer(digest, "<u8").astype(np.uint64)


def _exact_quotas(weights: Mapping[str, float]) -> tuple[int, dict[str, int]] | None:
    """Return the smallest D for which all weights are multiples of 1/D, with the multiples.

    D is at most `LONGEST_PERIOD`.

    The tolerance is 1e-13: floating point adds an error of 1e-16 to a configured weight, and 1e-13 changes a count by
    0.01 in 1e11 positions.
    """
    fractions = {name: Fraction(weight).limit_denominator(LONGEST_PERIOD) for name, weight in weights.items()}
    if any(abs(fractions[name] - Fraction(weight)) > Fraction(1, 10**13) for name, weight in weights.items()):
        return None
    quantum = math.lcm(*(fraction.denominator for fraction in fractions.values()))
    if quantum > LONGEST_PERIOD or sum(fractions.values()) != 1:
        return None
    return quantum, {name: int(fraction * quantum) for name, fraction in fractions.items()}


def _fine_quotas(weights: Mapping[str, float], length: int) -> tuple[int, dict[str, int]]:
    """Round weights to multiples of a tiny power of two; add the rest to the largest remainders."""
    parts = max(2, 2 * len(weights) - 2)
    quantum = 1 << min(48, 60 - parts.bit_length())
    if 2 * length * parts > quantum:
        raise ConfigError(
            f"schedule: length {length:,} is invalid; expected at most {quantum // (2 * parts):,} sequences for"
            f" {len(weights)} sources.",
            fix="Reduce the token budget.",
        )
    total = sum(map(Fraction, weights.values()))
    ideal = {name: Fraction(weight) * quantum / total for name, weight in weights.items()}
    quotas = {name: int(value) for name, value in ideal.items()}
    missing = quantum - sum(quotas.values())
    for name in sorted(ideal, key=lambda name: (quotas[name] - ideal[name], name))[:missing]:
        quotas[name] += 1
    return quantum, {name: quota for name, quota in quotas.items() if quota}
