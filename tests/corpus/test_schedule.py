"""The schedule of a mix is within one sequence of the weights at every prefix, and directly accessible."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from assay.config.mixes import normalize
from assay.core.errors import AssayError
from assay.corpus.schedule import BLOCK, MixSchedule, permute

HAND_WRITTEN = {"web": 0.35, "code": 0.25, "books": 0.2, "docs": 0.1, "science": 0.1}


@numba.njit(cache=True)
def largest_deviation(sources: NDArray[np.int64], weights: NDArray[np.float64]) -> float:
    """The largest |count - weight x position| over all sources and all prefixes, counted directly."""
    counts = np.zeros(len(weights))
    largest = 0.0
    for index in range(len(sources)):
        counts[sources[index]] += 1
        for source in range(len(weights)):
            largest = max(largest, abs(counts[source] - weights[source] * (index + 1)))
    return largest


def random_mix(draw: np.random.Generator) -> dict[str, float]:
    """2 to 60 sources, with weights spread evenly or over six orders of magnitude, down to 1e-6."""
    count = int(draw.integers(2, 61))
    spread = draw.choice([0.0, 1.0, 3.0, 6.0])
    weights = 10 ** draw.uniform(-spread, 0, count)
    return normalize({f"s{i:02}": max(float(weight), 1e-6) for i, weight in enumerate(weights)}, mix="random")


def deviation_of(schedule: MixSchedule, weights: dict[str, float], length: int) -> float:
    fractions = normalize(weights, mix="under test")
    return largest_deviation(
        schedule.block(0, length)[0], np.array([fractions.get(name, 0) for name in schedule.names])
    )


def test_no_prefix_of_100_000_deviates_by_more_than_one_for_1000_random_mixes() -> None:
    draw = np.random.default_rng(0)
    largest = 0.0
    for _ in range(1000):
        weights = random_mix(draw)
        largest = max(largest, deviation_of(MixSchedule(weights, 100_000), weights, 100_000))
    assert 0.9 < largest <= 1  # a checker without effect would not come near the bound


def test_positions_are_directly_accessible() -> None:
    """Scattered positions of a new schedule equal those of a schedule that computes all positions."""
    draw = np.random.default_rng(1)
    for weights in (HAND_WRITTEN, *(random_mix(draw) for _ in range(100))):
        walked = MixSchedule(weights, 100_000).block(0, 100_000)
        positions = draw.integers(0, 100_000, 200)
        for direct, walk in zip(MixSchedule(weights, 100_000).at(positions), walked, strict=True):
            np.testing.assert_array_equal(direct, walk[positions])


@pytest.mark.parametrize("weights", [HAND_WRITTEN, {"a": 0.123456789, "b": 2.0, "c": 1e-6}])
@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_any_number_of_workers_gives_the_same_sequence(weights: dict[str, float], workers: int) -> None:
    length = 3 * BLOCK + 5
    sources, draws = MixSchedule(weights, length).block(0, length)
    for worker in range(workers):
        positions = np.arange(worker, length, workers)
        of_worker = MixSchedule(weights, length).at(positions)
        np.testing.assert_array_equal(of_worker[0], sources[positions])
        np.testing.assert_array_equal(of_worker[1], draws[positions])


@pytest.mark.parametrize("weights", [HAND_WRITTEN, {"a": 0.123456789, "b": 2.0, "c": 1e-6}, {"a": 20_011, "b": 13}])
def test_draws_count_the_earlier_positions_of_a_source_and_are_found_again(weights: dict[str, float]) -> None:
    length = 2 * BLOCK + 999
    schedule = MixSchedule(weights, length)
    sources, draws = schedule.block(0, length)
    for index in range(len(schedule.names)):
        positions = np.flatnonzero(sources == index)
        np.testing.assert_array_equal(draws[positions], np.arange(len(positions)))
        for draw in {0, len(positions) // 2, len(positions) - 1} if len(positions) else ():
            assert schedule.find(index, draw) == positions[draw]
        with pytest.raises(ValueError, match="is not drawn"):
            schedule.find(index, len(positions))
    for position in (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, length):
        expected = np.bincount(sources[:position], minlength=len(schedule.names))
        np.testing.assert_array_equal(schedule.counts(position), expected)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=6).filter(any), st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_integer_weights_meet_tijdemans_bound_exactly(quotas: list[int], scale: int) -> None:
    """With S sources no count deviates by more than 1 - 1 / (2 S - 2), in exact fractions, and by 0 at every period."""
    total = sum(quotas)
    schedule = MixSchedule({f"s{i}": scale * quota for i, quota in enumerate(quotas)}, 3 * total)
    bound = 1 - Fraction(1, max(2, 2 * sum(map(bool, quotas)) - 2))
    counts: Counter[int] = Counter()
    for position, source in enumerate(schedule.block(0, 3 * total)[0].tolist(), start=1):
        counts[source] += 1
        assert all(abs(counts[i] - Fraction(quota * position, total)) <= bound for i, quota in enumerate(quotas))
        if position % total == 0:
            assert [counts[i] for i in range(len(quotas))] == [quota * position // total for quota in quotas]


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=8), st.integers(1, 400))
@settings(max_examples=200, deadline=None)
def test_any_weights_stay_within_one(weights: list[float], length: int) -> None:
    named = {f"s{i}": weight for i, weight in enumerate(weights)}
    assert deviation_of(MixSchedule(named, length), named, length) <= 1


def test_decimal_weights_are_exact_and_repeat() -> None:
    schedule = MixSchedule(HAND_WRITTEN, 10**12)
    assert schedule.quantum == 20
    assert schedule.counts(10**12).tolist() == [2 * 10**11, 25 * 10**10, 10**11, 10**11, 35 * 10**10]
    assert schedule.find(0, 2 * 10**11 - 1) < 10**12


def test_weights_of_a_millionth_neither_overflow_nor_drift_over_a_hundred_million() -> None:
    """Counts at distant positions, computed block by block, are within one."""
    weights = {"tiny": 1.0000001e-6, "large": 1.0, "other": 0.31830988618}
    length = 100_000_000
    schedule = MixSchedule(weights, length)
    fractions = normalize(weights, mix="far")
    for position in (length // 3, length):
        for name, count in zip(schedule.names, schedule.counts(position).tolist(), strict=True):
            assert abs(count - Fraction(fractions[name]) * position) <= 1


def test_a_longer_run_begins_as_a_shorter_one() -> None:
    weights = random_mix(np.random.default_rng(3))
    short, long = MixSchedule(weights, 1000), MixSchedule(weights, 5_000_000)
    np.testing.assert_array_equal(short.block(0, 1000), long.block(0, 1000))


def test_a_source_of_weight_0_is_never_drawn_and_a_source_of_weight_1_always() -> None:
    schedule = MixSchedule({"none": 0.0, "all": 1.0}, 1000)
    assert schedule.names == ("all", "none")
    assert schedule.counts(1000).tolist() == [1000, 0]
    np.testing.assert_array_equal(schedule.block(0, 1000), [np.zeros(1000), np.arange(1000)])


def test_positions_outside_the_run_are_refused() -> None:
    schedule = MixSchedule(HAND_WRITTEN, 10)
    for positions in ([10], [-1], [3, 11]):
        with pytest.raises(ValueError, match="are invalid; expected 0 to 9"):
            schedule.at(np.array(positions))
    for call in (lambda: schedule.block(0, 11), lambda: schedule.counts(11), lambda: schedule.counts(-1)):
        with pytest.raises(ValueError, match="invalid; expected .*0 to 10"):
            call()
    assert schedule.counts(10).sum() == 10


@pytest.mark.parametrize("weights", [{"a": -1.0, "b": 2.0}, {"a": float("nan")}, {"a": 0.0}, {}])
def test_weights_that_are_no_mix_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(AssayError, match="mix"):
        MixSchedule(weights, 10)


def test_a_run_too_long_for_exact_counts_is_refused() -> None:
    with pytest.raises(AssayError, match=r"expected at most [\d,]+ sequences for 60 sources"):
        MixSchedule({f"s{i}": 1 + i**0.5 for i in range(60)}, 10**14)


# --- the order within a source


@given(st.integers(1, 5000), st.integers(0, 2**63), st.integers(0, 50))
@settings(max_examples=100, deadline=None)
def test_an_order_has_every_item_once(count: int, seed: int, epoch: int) -> None:
    order = permute(np.arange(count), count, seed=seed, name="web", epoch=epoch)
    np.testing.assert_array_equal(np.sort(order), np.arange(count))


def test_seed_name_and_epoch_each_change_the_order() -> None:
    base = {"seed": 0, "name": "web", "epoch": 0}
    orders = [
        tuple(permute(np.arange(100), 100, **{**base, **change}))  # type: ignore[arg-type]
        for change in ({}, {"seed": 1}, {"name": "webs"}, {"epoch": 1}, {"seed": 10, "epoch": 11}, {"seed": 101})
    ]
    assert len(set(orders)) == 6


@pytest.mark.parametrize("count", [5, 64, 1000])
def test_every_item_is_at_every_place_equally_often(count: int) -> None:
    """Chi-square of item by place over many epochs, and of neighbors that stay neighbors."""
    epochs = 4000
    orders = np.stack([permute(np.arange(count), count, seed=0, name="web", epoch=epoch) for epoch in range(epochs)])
    first = np.bincount(orders[:, 0], minlength=count)
    expected = epochs / count
    chi = ((first - expected) ** 2 / expected).sum()
    assert abs(chi - (count - 1)) < 6 * np.sqrt(2 * (count - 1)) + 6
    stay = (np.diff(orders, axis=1) == 1).mean()
    assert abs(stay - 1 / count) < 6 * np.sqrt(1 / count / (epochs * (count - 1)))


def test_the_order_never_changes() -> None:
    """A change would alter the data of every run, and requires a new trainer version."""
    assert permute(np.arange(10), 10, seed=7, name="books", epoch=2).tolist() == [2, 6, 1, 8, 4, 7, 0, 3, 9, 5]
    assert MixSchedule(HAND_WRITTEN, 20).block(0, 20)[0].tolist() == [
        4,
        1,
        0,
        4,
        1,
        2,
        3,
        4,
        0,
        1,
        4,
        4,
        0,
        1,
        4,
        2,
        3,
        0,
        1,
        4,
    ]
    assert MixSchedule({"a": 0.123, "b": 2.0, "c": 0.7071}, 12).block(0, 12)[0].tolist() == [
        1,
        1,
        2,
        1,
        1,
        2,
        1,
        1,
        1,
        2,
        1,
        1,
    ]
