from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from assay.stats.transfer import DOZEN, FEWEST, LEAST_SURE, fit, share_decided
from tests.stats.worlds import World


def test_the_slope_is_the_median_of_the_pairs_slopes() -> None:
    """With equal distances at the proxy weights do not matter, and scipy's Theil-Sen is the same."""
    rng = np.random.default_rng(0)
    x = np.array([0.0, 0, 0, 0, 1, 1, 1])
    y = 2 * x + rng.normal(size=7)
    learnt = fit(x, y)
    assert learnt is not None
    slopes = np.sort(np.subtract.outer(y[4:], y[:4]).ravel())
    assert learnt.slope == pytest.approx(slopes[5], abs=1e-12)
    assert stats.theilslopes(y, x).slope == pytest.approx(np.median(slopes), abs=1e-12)


def test_one_odd_mix_does_not_turn_the_slope() -> None:
    rng = np.random.default_rng(1)
    x = np.arange(12.0)
    y = 3 * x + rng.normal(0, 0.5, 12)
    y[11] = -100
    learnt = fit(x, y)
    assert learnt is not None
    assert learnt.slope == pytest.approx(3, abs=0.3)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (range(FEWEST - 1), range(FEWEST - 1)),
        ([1.0] * 8, range(8)),
        (range(8), [1.0] * 8),
        ([1.0] * 7 + [2.0], range(8)),
    ],
    ids=["too few", "constant proxy", "constant target", "all but one constant"],
)
def test_nothing_is_learnt_from_too_little(x: list[float], y: list[float]) -> None:
    assert fit(list(x), list(y)) is None


def test_units_and_the_order_of_mixes_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 15))
    y += 2 * x
    order = rng.permutation(15)
    one, other = fit(x, y), fit(100 * x[order], 10 * y[order] + 7)
    assert one is not None
    assert other is not None
    assert other.slope == pytest.approx(one.slope / 10)
    assert other.reliability == one.reliability
    for difference in (0.1, 1.0, 3.0):
        assert other.chance_other(100 * difference) == pytest.approx(one.chance_other(difference))
        assert other.interval(100 * difference, 0.9).low == pytest.approx(10 * one.interval(difference, 0.9).low)


def test_the_chance_falls_with_the_difference_and_rises_with_the_noise() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=20)
    learnt = fit(x, x + 0.5 * rng.normal(size=20))
    assert learnt is not None
    chances = [learnt.chance_other(d) for d in (0.0, 0.2, 0.5, 1.0, 2.0, 4.0)]
    assert chances[0] == 0.5
    assert chances == sorted(chances, reverse=True)
    assert learnt.chance_other(2.0, extra=1.0) > learnt.chance_other(2.0)
    assert learnt.chance_other(-2.0) == learnt.chance_other(2.0)


def test_the_ranking_is_tested_on_pairs_that_it_was_not_learnt_from() -> None:
    """Proxies that tell nothing rank half of the pairs right, not more."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(150):
        learnt = fit(*rng.normal(size=(2, 12)))
        assert learnt is not None
        found.append(learnt.reliability.accuracy)
    assert np.mean(found) <= 0.5
    perfect = fit(np.arange(8.0), np.arange(8.0) ** 2)
    assert perfect is not None
    assert perfect.reliability == (1.0, 28, 8)


def _pairs(world: World, *, worlds: int, level: float) -> tuple[float, float, float]:
    """Share of pairs covered by the interval, decided at an alpha of 5%, and right among those."""
    rng = np.random.default_rng(6)
    covered, decided, right, seen = 0, 0, 0, 0
    for _ in range(worlds):
        proxy, target = (scores[..., -1].mean(axis=1) for scores in world.draw(rng))
        for _ in range(20):
            a, b = rng.choice(25, 2, replace=False)
            rest = np.delete(np.arange(25), [a, b])
            learnt = fit(proxy[rest], target[rest])
            assert learnt is not None
            seen += 1
            difference, truth = proxy[b] - proxy[a], target[b] - target[a]
            interval = learnt.interval(difference, level)
            covered += interval.low <= truth <= interval.high
            if learnt.chance_other(difference) <= learnt.allowed(0.05):
                decided += 1
                right += (learnt.slope * difference > 0) == (truth > 0)
    return covered / seen, decided / seen, right / max(decided, 1)


@pytest.mark.parametrize("world", [World(), World(tail=4), World(noise=1, transfer=0.88), World(transfer=0.0)])
def test_intervals_of_pairs_that_were_left_out_cover_as_often_as_they_say(world: World) -> None:
    covered, _, _ = _pairs(world, worlds=60, level=0.9)
    assert covered == pytest.approx(0.9, abs=0.03), "1,200 pairs, of which 60 times 20 share a world"


def test_a_ranking_that_holds_for_80_percent_decides_a_quarter_and_is_right_on_95() -> None:
    _, decided, right = _pairs(World(), worlds=80, level=0.9)
    assert decided >= 0.25
    assert right >= 0.95


def test_a_ranking_that_does_not_hold_decides_nearly_nothing() -> None:
    _, decided, _ = _pairs(World(transfer=0.0), worlds=60, level=0.9)
    assert decided <= 0.01


@pytest.mark.parametrize("accuracy", [0.65, 0.8, 0.9])
def test_of_the_pairs_furthest_apart_alpha_are_wrong_in_normal_scores(accuracy: float) -> None:
    rng = np.random.default_rng(7)
    r = np.sin(np.pi * (accuracy - 0.5))
    x, y = rng.multivariate_normal([0, 0], [[1, r], [r, 1]], 400_000).T
    assert np.mean(x * y > 0) == pytest.approx(accuracy, abs=0.005)
    far = np.argsort(-np.abs(x))[: int(share_decided(accuracy, 0.05) * len(x))]
    assert np.mean(x[far] * y[far] < 0) == pytest.approx(0.05, abs=0.005)


def test_a_ranking_that_is_random_decides_no_share_and_a_perfect_one_all() -> None:
    assert [share_decided(a, 0.05) for a in (0.0, 0.5, 0.51, 1.0)] == pytest.approx([0, 0, 0, 1], abs=1e-3)


def test_a_verdict_is_never_less_sure_than_three_alpha_and_below_a_dozen_mixes_than_alpha() -> None:
    rng = np.random.default_rng(8)
    for mixes in (DOZEN - 1, DOZEN, 23):
        x = rng.normal(size=mixes)
        for noise in (0.3, 0.7, 3.0):
            learnt = fit(x, x + noise * rng.normal(size=mixes))
            assert learnt is not None
            most = 0.05 if mixes < DOZEN else 0.05 * LEAST_SURE
            assert 0.05 <= learnt.allowed(0.05) <= most


def test_most_tables_that_rank_80_percent_are_decided_for_a_quarter_and_right_for_95() -> None:
    """Every pair of a table, left out of what it is foretold from; by a bar of 1.5 alpha on each pair it is half of the tables."""
    rng = np.random.default_rng(9)
    first, second = np.triu_indices(25, 1)
    met = []
    while len(met) < 6:
        x, y = (scores[..., -1].mean(axis=1) for scores in World(noise=0.5).draw(rng))
        far, truth = x[second] - x[first], y[second] - y[first]
        if abs(np.mean(far * truth > 0) - 0.8) > 0.03:
            continue
        found = [_left_out(x, y, a, b) for a, b in zip(first, second, strict=True)]
        sure = np.array([told is not None for told in found])
        right = np.array([told is not None and (told > 0) == (t > 0) for told, t in zip(found, truth, strict=True)])
        met.append(sure.mean() >= 0.25 and right.sum() >= 0.95 * sure.sum())
    assert np.mean(met) >= 0.65


def _left_out(x: np.ndarray, y: np.ndarray, a: int, b: int) -> float | None:
    """The target's difference as foretold by the others, where that is sure enough."""
    rest = np.delete(np.arange(len(x)), [a, b])
    learnt = fit(x[rest], y[rest])
    assert learnt is not None
    difference = float(x[b] - x[a])
    return learnt.slope * difference if learnt.chance_other(difference) <= learnt.allowed(0.05) else None
