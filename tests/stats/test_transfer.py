from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from assay.stats.transfer import FEWEST, fit
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
    """Share of pairs covered by the interval, decided at 7.5% on either side, and right among those."""
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
            if learnt.chance_other(difference) <= 0.075:
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
