"""Interim analyses keep the error rate: alpha-spending schedules, and replicates that arrive one by one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from assay.analysis.stats.moderated import Prior
from assay.analysis.stats.sequential import always_valid, over_replicates, schedule
from assay.core.errors import AssayError

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
TENTHS = tuple(i / 10 for i in range(1, 10))


@pytest.mark.parametrize("interim", [(0.5,), (0.25, 0.5, 0.75), TENTHS])
@pytest.mark.parametrize("spend", [0.1, 0.2, 0.9])
def test_the_schedule_spends_exactly_alpha(interim: tuple[float, ...], spend: float) -> None:
    plan = schedule(interim, spend)
    assert plan.fractions[-1] == 1
    assert math.fsum(plan.weights) == pytest.approx(1.0)
    assert math.fsum(plan.weights[:-1]) == pytest.approx(spend)


def test_scores_count_for_the_last_analysis_that_they_have_reached() -> None:
    plan = schedule((0.25, 0.5), 0.2)
    assert [plan.analysis_at(fraction) for fraction in (0.1, 0.245, 0.3, 0.5, 0.98, 1.0)] == [None, 0, 0, 1, 1, 2]


def heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_t(3, shape)


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape)


@pytest.mark.parametrize("draw", [normal, heavy])
@pytest.mark.parametrize("kept", [0.0, 0.7, 0.98])
@pytest.mark.parametrize("seeds", [3, 5])
def test_ten_analyses_keep_the_error_rate_under_any_dependence(draw: Draw, kept: float, seeds: int) -> None:
    """At a nominal 5% at most 6%, while the same tests without alpha spending are wrong in more than 10%."""
    rng = np.random.default_rng(1)
    noise = np.sqrt(kept) * draw(rng, (6000, seeds, 1)) + np.sqrt(1 - kept) * draw(rng, (6000, seeds, 10))
    p = 2 * stats.t.sf(np.abs(noise.mean(1)) / np.sqrt(noise.var(1, ddof=1) / seeds), seeds - 1)
    plan = schedule(TENTHS, 0.2)
    valid = np.array([[always_valid(p_, weight) for p_, weight in zip(row, plan.weights, strict=True)] for row in p])
    assert (valid.min(axis=1) <= 0.05).mean() <= 0.06
    if kept < 0.9:
        assert (p.min(axis=1) <= 0.05).mean() > 0.1


@pytest.mark.parametrize("draw", [normal, heavy])
def test_sequential_replicates_have_at_most_5_percent_false_positives(draw: Draw) -> None:
    rng = np.random.default_rng(2)
    runs = draw(rng, (700, 7))
    wrong = [min(over_replicates(row, level=0.95, first=2, most=7).p) <= 0.05 for row in runs]
    naive = [min(stats.ttest_1samp(row[:n], 0).pvalue for n in range(2, 8)) <= 0.05 for row in runs[:400]]
    assert np.mean(wrong) <= 0.05
    assert np.mean(naive) > 0.1


def test_each_interval_is_a_t_interval_at_its_fraction_of_alpha_within_the_previous_ones() -> None:
    d = [0.8, 1.4, 0.7, 1.9, 1.1]
    sequence = over_replicates(d, level=0.95, first=3, most=6)
    low, high = -math.inf, math.inf
    for i, n in enumerate((3, 4, 5)):
        own = stats.ttest_1samp(d[:n], 0).confidence_interval(1 - 0.05 / 4)
        low, high = max(low, own.low), min(high, own.high)
        assert (sequence.low[i], sequence.high[i]) == (pytest.approx(low, rel=1e-8), pytest.approx(high, rel=1e-8))
    assert sequence.at == (3.0, 4.0, 5.0)
    assert sequence.p[0] >= sequence.p[1] >= sequence.p[2]


def test_an_effect_is_significant_exactly_if_its_interval_excludes_0() -> None:
    rng = np.random.default_rng(3)
    for row in rng.normal(0.9, 1, (60, 5)):
        sequence = over_replicates(row, level=0.95, first=2, most=5)
        assert [p <= 0.05 for p in sequence.p] == [
            not low <= 0 <= high for low, high in zip(sequence.low, sequence.high, strict=True)
        ]


def test_a_prior_narrows_the_interval_of_few_replicates() -> None:
    d = [1.0, 1.3, 0.8]
    alone = over_replicates(d, level=0.95, first=3, most=5)
    known = over_replicates(d, level=0.95, first=3, most=5, prior=Prior(0.06, 4.0))
    assert known.high[0] - known.low[0] < alone.high[0] - alone.low[0]


def test_replicates_that_agree_to_the_last_digit_decide_nothing() -> None:
    sequence = over_replicates([0.3, 0.3, 0.3], level=0.95, first=2, most=4)
    assert sequence.low == (-math.inf, -math.inf)
    assert sequence.p == (1.0, 1.0)


def test_too_few_replicates_have_no_interval_and_more_than_planned_are_refused() -> None:
    assert over_replicates([0.3], level=0.95, first=2, most=4).at == ()
    with pytest.raises(AssayError, match="`first` 2 and `most` 4 are invalid for 5 replicates"):
        over_replicates([1.0] * 5, level=0.95, first=2, most=4)
    with pytest.raises(AssayError, match="`first` 1 and `most` 4 are invalid"):
        over_replicates([1.0], level=0.95, first=1, most=4)
