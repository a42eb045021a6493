"""Deviation of mixing schedules from the weights, and time per position: `python benchmarks/schedule.py`.

Compares assay's schedule with minimal implementations of three common ones: the largest deficit at the previous
position (Megatron's blended data set), smooth weighted round robin (nginx, many loaders) and independent draws (Hugging
Face's `interleave_datasets`, litdata).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numba
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from assay.config.mixes import normalize
from assay.corpus.schedule import MixSchedule

LENGTH = 200_000
RANDOM_MIXES, RANDOM_LENGTH = 200, 20_000
Schedule = Callable[[NDArray[np.float64], int], NDArray[np.int64]]


@numba.njit
def largest_deviation(sources: NDArray[np.int64], weights: NDArray[np.float64]) -> float:
    counts, largest = np.zeros(len(weights)), 0.0
    for index in range(len(sources)):
        counts[sources[index]] += 1
        for source in range(len(weights)):
            largest = max(largest, abs(counts[source] - weights[source] * (index + 1)))
    return largest


def independent(weights: NDArray[np.float64], length: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).choice(len(weights), length, p=weights)


@numba.njit
def megatron(weights: NDArray[np.float64], length: int) -> NDArray[np.int64]:
    counts, sources = np.zeros(len(weights)), np.empty(length, np.int64)
    for index in range(length):
        sources[index] = np.argmax(weights * max(index, 1) - counts)
        counts[sources[index]] += 1
    return sources


@numba.njit
def smooth_round_robin(weights: NDArray[np.float64], length: int) -> NDArray[np.int64]:
    credit, sources = np.zeros(len(weights)), np.empty(length, np.int64)
    for index in range(length):
        credit += weights
        sources[index] = np.argmax(credit)
        credit[sources[index]] -= 1
    return sources


def chairman(weights: NDArray[np.float64], length: int) -> NDArray[np.int64]:
    named = {f"{i:03}": float(weight) for i, weight in enumerate(weights)}
    return MixSchedule(named, length).block(0, length)[0]


def mixes() -> dict[str, dict[str, float]]:
    draw = np.random.default_rng(0)
    return {
        "2 sources, .3/.7": {"a": 0.3, "b": 0.7},
        "5, hand-written": {"a": 0.35, "b": 0.25, "c": 0.2, "d": 0.1, "e": 0.1},
        "7, skewed": {f"{i}": 2.0**-i for i in range(7)},
        "17, Dirichlet": {f"{i:02}": float(w) for i, w in enumerate(draw.dirichlet(np.full(17, 0.5)))},
        "60, down to 1e-6": {f"{i:02}": float(w) for i, w in enumerate(10 ** draw.uniform(-6, 0, 60))},
    }


def best_of(action: Callable[[], object], times: int = 5) -> float:
    """Measure the seconds of the fastest repetition; a first call, which compiles, does not count."""
    action()
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        action()
        taken.append(time.perf_counter() - started)
    return min(taken)


def compare() -> Table:
    table = Table(title=f"Largest |count - weight x position| over every prefix of {LENGTH:,} (and ns per position)")
    schedules: dict[str, Schedule] = {
        "assay": chairman,
        "Megatron's": megatron,
        "smooth round robin": smooth_round_robin,
        "independent draws": independent,
    }
    table.add_column("mix")
    for name in schedules:
        table.add_column(name, justify="right")
    for label, mix in mixes().items():
        weights = np.array(list(normalize(mix, mix=label).values()))
        cells = []
        for schedule in schedules.values():
            deviation = largest_deviation(schedule(weights, LENGTH), weights)
            nanoseconds = best_of(lambda schedule=schedule, weights=weights: schedule(weights, LENGTH)) / LENGTH * 1e9
            cells.append(f"{deviation:.2f} ({nanoseconds:.0f})")
        table.add_row(label, *cells, end_section=label == list(mixes())[-1])
    draw = np.random.default_rng(1)
    drawn = [random_weights(draw) for _ in range(RANDOM_MIXES)]
    worst = [
        max(largest_deviation(schedule(weights, RANDOM_LENGTH), weights) for weights in drawn)
        for schedule in schedules.values()
    ]
    label = f"worst of {RANDOM_MIXES} random mixes over {RANDOM_LENGTH:,}"
    table.add_row(label, *(f"{deviation:.2f}" for deviation in worst))
    return table


def random_weights(draw: np.random.Generator) -> NDArray[np.float64]:
    """Draw weights of a few large sources and up to 60 small ones, equal or over orders of magnitude."""
    large, small = draw.uniform(0.2, 1, draw.integers(1, 5)), int(draw.integers(2, 56))
    rest = np.full(small, draw.uniform(0.001, 0.1)) if draw.random() < 0.5 else 10 ** draw.uniform(-6, 0, small)
    weights = np.concatenate([large, rest])
    return weights / weights.sum()


def access() -> Table:
    table = Table(title="Direct access to positions of a run of 10,000,000 sequences")
    for column in ("mix", "period", "first access to the end, ms", "a random step of 64, us", "memory, kB"):
        table.add_column(column, justify="left" if column == "mix" else "right")
    length = 10_000_000
    for label, mix in mixes().items():
        chairman(np.array([0.5, 0.5]), 10)
        schedule = MixSchedule(mix, length)
        started = time.perf_counter()
        schedule.block(length - 64, length)
        first = time.perf_counter() - started
        starts = np.random.default_rng(0).integers(0, length - 64, 200).tolist()
        anywhere = (
            best_of(lambda schedule=schedule, starts=starts: [schedule.block(s, s + 64) for s in starts], 2) / 200
        )
        blocks = schedule._blocks.values()  # noqa: SLF001  # memory is not part of the interface
        kept = len(schedule._starts) * len(mix) * 8 + sum(a.nbytes + b.nbytes for a, b in blocks)  # noqa: SLF001
        period = "none" if schedule.quantum > length else f"{schedule.quantum:,}"
        table.add_row(label, period, f"{first * 1e3:.1f}", f"{anywhere * 1e6:.0f}", f"{kept / 1e3:,.0f}")
    return table


if __name__ == "__main__":
    console = Console(width=140)
    console.print(compare())
    console.print(access())
