from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from assay.analysis.stats.transfer import FEWEST, LEAST_SURE, MOST_PAIRS, Transfer, fit, fraction_decided
from tests.analysis.stats.simulated_tables import World


def test_the_slope_is_the_median_of_the_pairs_slopes() -> None:
    """With equal distances at the proxy, weights do not matter, and scipy's Theil-Sen slope is equal."""
    rng = np.random.default_rng(0)
    x = np.array([0.0, 0, 0, 0, 1, 1, 1])
    y = 2 * x + rng.normal(size=7)
    learned = fit(x, y)
    assert learned is not None
    slopes = np.sort(np.subtract.outer(y[4:], y[:4]).ravel())
    assert learned.slope == pytest.approx(slopes[5], abs=1e-12)
    assert stats.theilslopes(y, x).slope == pytest.approx(np.median(slopes), abs=1e-12)


def test_one_outlying_mix_hardly_changes_the_slope() -> None:
    rng = np.random.default_rng(1)
    x = np.arange(12.0)
    y = 3 * x + rng.normal(0, 0.5, 12)
    y[11] = -100
    learned = fit(x, y)
    assert learned is not None
    assert learned.slope == pytest.approx(3, abs=0.3)


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
def test_too_little_data_gives_no_transfer(x: list[float], y: list[float]) -> None:
    assert fit(list(x), list(y)) is None


def test_units_and_the_order_of_mixes_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 15))
    y += 2 * x
    order = rng.permutation(15)
    plain, scaled = fit(x, y), fit(100 * x[order], 10 * y[order] + 7)
    assert plain is not None
    assert scaled is not None
    assert scaled.slope == pytest.approx(plain.slope / 10)
    assert scaled.reliability == plain.reliability
    for difference in (0.1, 1.0, 3.0):
        assert scaled.chance_other(100 * difference) == pytest.approx(plain.chance_other(difference))
        assert scaled.interval(100 * difference, 0.9).low == pytest.approx(10 * plain.interval(difference, 0.9).low)


def test_the_error_chance_falls_with_the_difference_and_rises_with_the_noise() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=20)
    learned = fit(x, x + 0.5 * rng.normal(size=20))
    assert learned is not None
    chances = [learned.chance_other(d) for d in (0.0, 0.2, 0.5, 1.0, 2.0, 4.0)]
    assert chances[0] == 0.5
    assert chances == sorted(chances, reverse=True)
    assert learned.chance_other(2.0, extra=1.0) > learned.chance_other(2.0)
    assert learned.chance_other(-2.0) == learned.chance_other(2.0)


def test_the_ranking_is_tested_on_pairs_outside_its_fit() -> None:
    """Uninformative proxies rank at most half of the pairs correctly."""
    rng = np.random.default_rng(5)
    accuracies = []
    for _ in range(150):
        learned = fit(*rng.normal(size=(2, 12)))
        assert learned is not None
        accuracies.append(learned.reliability.accuracy)
    assert np.mean(accuracies) <= 0.5
    perfect = fit(np.arange(8.0), np.arange(8.0) ** 2)
    assert perfect is not None
    assert perfect.reliability == (1.0, 28, 8)


def _pairs(world: World, *, worlds: int, level: float) -> tuple[float, float, float]:
    """Return the fractions of pairs covered by the interval, decided at an alpha of 5%, and correct among the decided."""
    rng = np.random.default_rng(6)
    covered, decided, right, total = 0, 0, 0, 0
    for _ in range(worlds):
        proxy, target = (scores[..., -1].mean(axis=1) for scores in world.draw(rng))
        for _ in range(20):
            a, b = rng.choice(25, 2, replace=False)
            rest = np.delete(np.arange(25), [a, b])
            learned = fit(proxy[rest], target[rest])
            assert learned is not None
            total += 1
            difference, truth = proxy[b] - proxy[a], target[b] - target[a]
            interval = learned.interval(difference, level)
            covered += interval.low <= truth <= interval.high
            if learned.chance_other(difference) <= learned.allowed(0.05):
                decided += 1
                right += (learned.slope * difference > 0) == (truth > 0)
    return covered / total, decided / total, right / max(decided, 1)


@pytest.mark.parametrize("world", [World(), World(tail=4), World(noise=1, transfer=0.88), World(transfer=0.0)])
def test_intervals_of_held_out_pairs_have_nominal_coverage(world: World) -> None:
    covered, _, _ = _pairs(world, worlds=60, level=0.9)
    assert covered == pytest.approx(0.9, abs=0.03), "1,200 pairs, of which 60 times 20 share a world"


def test_a_ranking_with_80_percent_accuracy_decides_a_quarter_of_pairs_with_95_percent_correct() -> None:
    _, decided, right = _pairs(World(), worlds=80, level=0.9)
    assert decided >= 0.25
    assert right >= 0.95


def test_an_uninformative_ranking_decides_almost_nothing() -> None:
    _, decided, _ = _pairs(World(transfer=0.0), worlds=60, level=0.9)
    assert decided <= 0.01


@pytest.mark.parametrize("accuracy", [0.65, 0.8, 0.9])
def test_alpha_of_the_pairs_furthest_apart_are_wrong_for_normal_scores(accuracy: float) -> None:
    rng = np.random.default_rng(7)
    r = np.sin(np.pi * (accuracy - 0.5))
    x, y = rng.multivariate_normal([0, 0], [[1, r], [r, 1]], 400_000).T
    assert np.mean(x * y > 0) == pytest.approx(accuracy, abs=0.005)
    far = np.argsort(-np.abs(x))[: int(fraction_decided(accuracy, 0.05) * len(x))]
    assert np.mean(x[far] * y[far] < 0) == pytest.approx(0.05, abs=0.005)


def test_a_random_ranking_decides_nothing_and_a_perfect_one_everything() -> None:
    assert [fraction_decided(a, 0.05) for a in (0.0, 0.5, 0.51, 1.0)] == pytest.approx([0, 0, 0, 1], abs=1e-3)


def test_the_allowed_error_is_at_most_three_alpha() -> None:
    rng = np.random.default_rng(8)
    for mixes in (FEWEST, 11, 12, 23):
        x = rng.normal(size=mixes)
        for noise in (0.3, 0.7, 3.0):
            learned = fit(x, x + noise * rng.normal(size=mixes))
            assert learned is not None
            assert 0 <= learned.allowed(0.05) <= 0.05 * LEAST_SURE


def test_most_tables_with_80_percent_accuracy_meet_both_goals() -> None:
    """Every pair is predicted without its mixes; by a bar of 1.5 alpha on each pair, half of the tables meet the goals."""
    rng = np.random.default_rng(9)
    first, second = np.triu_indices(25, 1)
    met = []
    while len(met) < 6:
        x, y = (scores[..., -1].mean(axis=1) for scores in World(noise=0.5).draw(rng))
        far, truth = x[second] - x[first], y[second] - y[first]
        if abs(np.mean(far * truth > 0) - 0.8) > 0.03:
            continue
        predictions = [_predicted(x, y, a, b) for a, b in zip(first, second, strict=True)]
        sure = np.array([p is not None for p in predictions])
        right = np.array([p is not None and (p > 0) == (t > 0) for p, t in zip(predictions, truth, strict=True)])
        met.append(sure.mean() >= 0.25 and right.sum() >= 0.95 * sure.sum())
    assert np.mean(met) >= 0.65


def _predicted(x: np.ndarray, y: np.ndarray, a: int, b: int) -> float | None:
    """Return the target's difference predicted by the other mixes, if certain enough."""
    rest = np.delete(np.arange(len(x)), [a, b])
    learned = fit(x[rest], y[rest])
    assert learned is not None
    difference = float(x[b] - x[a])
    return learned.slope * difference if learned.chance_other(difference) <= learned.allowed(0.05) else None


def _learned(mixes: int = 20) -> tuple[np.ndarray, Transfer]:
    rng = np.random.default_rng(11)
    x = rng.normal(size=mixes)
    learned = fit(x, 2 * x + 0.5 * rng.normal(size=mixes))
    assert learned is not None
    return x, learned


@pytest.mark.parametrize("level", [0.7, 0.9, 0.99])
def test_the_smallest_difference_is_where_the_interval_first_excludes_0(level: float) -> None:
    _, learned = _learned()
    for extra, factor in ((0.0, 1.0), (0.3, 1.0), (0.0, 1.7), (4.0, 2.0)):
        bar = learned.smallest(level, extra=extra, factor=factor)
        for times, excludes in ((0.999, False), (1.001, True)):
            low = learned.interval(times * bar, level, extra=extra, factor=factor).low
            assert (low > 0) == excludes


def test_the_interval_at_the_level_of_a_decision_excludes_0_exactly_for_decided_pairs() -> None:
    _, learned = _learned()
    for bound in (0.02, 0.05, 0.15):
        for difference in np.linspace(-3, 3, 61):
            interval = learned.interval(float(difference), 1 - 2 * bound)
            assert (learned.chance_other(float(difference)) <= bound) == (interval.low > 0 or interval.high < 0)


def test_a_difference_outside_the_range_counts_only_within_it() -> None:
    x, learned = _learned()
    low, high = learned.reach
    assert (low, high) == pytest.approx((x.min() - np.ptp(x) / 19, x.max() + np.ptp(x) / 19))
    assert learned.outside(x.min(), x.max()) == 0
    assert learned.outside(high, high + 1) == pytest.approx(1)
    assert learned.outside(high + 1, low - 2) == pytest.approx(3)
    assert learned.chance_other(1.0, outside=1.0) == 0.5
    assert learned.excess(high + (high - low)) == pytest.approx(1)


def test_the_errors_grow_with_the_difference() -> None:
    _, learned = _learned()
    widths = [np.diff(learned.interval(d, 0.9)[:2])[0] for d in (0.0, 1.0, 5.0, 50.0)]
    assert widths == sorted(widths)
    assert widths[-1] > 3 * widths[0]


def test_the_decided_fraction_grows_smoothly_with_the_number_of_mixes() -> None:
    """With an accuracy of 80%, on average; formerly, five mixes more or less changed it two- to fourfold."""
    rng = np.random.default_rng(12)

    def fraction(mixes: int) -> float:
        fractions = []
        for _ in range(150):
            x = rng.normal(size=mixes)
            learned = fit(x, 0.81 * x + 0.586 * rng.normal(size=mixes))
            fractions.append(learned.fraction(0.05) if learned else 0.0)
        return float(np.mean(fractions))

    means = [fraction(mixes) for mixes in (6, 8, 11, 12, 16, 25)]
    assert means[0] > 0
    for fewer, more in pairwise(means):
        assert more == pytest.approx(fewer, abs=0.07)


def test_a_perfect_small_history_is_uncertain() -> None:
    """Six mixes can be ranked correctly by chance, so they do not decide all pairs."""
    x = np.arange(6.0)
    learned = fit(x, x + np.array([0.0, 0.1, -0.1, 0.1, 0.0, -0.1]))
    assert learned is not None
    assert learned.reliability.accuracy == 1
    assert 0.3 < learned.fraction(0.05) < 1


def test_evenly_spread_pairs_give_the_slope_of_all_pairs() -> None:
    rng = np.random.default_rng(13)
    x = rng.normal(size=2000)
    y = 1.5 * x + rng.normal(size=2000)
    learned = fit(x, y)
    assert learned is not None
    assert len(learned.errors) <= MOST_PAIRS
    assert learned.slope == pytest.approx(1.5, abs=0.05)
    assert learned.reliability.n_mixes == 2000


def test_families_are_predicted_from_the_other_families() -> None:
    """Offsets between families widen the errors of pairs across families, not those within a family."""
    rng = np.random.default_rng(14)
    names = np.repeat(list("abcdef"), 6)
    x = rng.normal(size=36)
    y = x + 0.2 * rng.normal(size=36) + np.repeat(3 * rng.normal(size=6), 6)
    within, across = (fit(x, y, families=names.tolist(), within=own) for own in (True, False))
    assert within is not None
    assert across is not None
    assert within.df == across.df == 5
    assert across.scale > 3 * within.scale
    assert fit(x, y, families=np.repeat(["a", "b"], 18).tolist(), within=True) is None
