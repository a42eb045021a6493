"""Tokens to match: results stay within the measured curves, and the interval has its nominal coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.analysis.stats.tokens_to_match import Curve, knots, tokens_to_match
from assay.core.errors import AssayError

TOKENS = np.arange(1, 201) * 5000.0


def power_law(worth: float = 1.0, *, noise: float = 0.0, seed: int = 0, last: int = 200) -> Curve:
    """Return the losses of a run whose tokens are worth `worth` times the baseline's."""
    loss = 1.5 + 40 * (worth * TOKENS[:last]) ** -0.3
    return Curve(TOKENS[:last], loss + noise * np.random.default_rng(seed).standard_normal(last))


def test_a_recipe_compared_with_itself_has_ratio_1() -> None:
    curves = {seed: power_law(noise=0.05, seed=seed) for seed in range(3)}
    result = tokens_to_match(curves, curves)
    assert result == (1.0, 1.0, 1.0, 0.95, "measured", 3)


@pytest.mark.parametrize("worth", [0.3, 0.6, 0.9])
def test_tokens_worth_less_are_matched_by_fewer(worth: float) -> None:
    result = tokens_to_match({0: power_law()}, {0: power_law(worth)})
    assert result.ratio == pytest.approx(worth, rel=0.01)
    assert result.bound == "measured"
    assert math.isnan(result.low), "one seed shows no noise"


def test_a_better_candidate_is_beyond_the_curve_and_matches_the_baseline_early() -> None:
    baseline, candidate = {0: power_law()}, {0: power_law(2.0)}
    beyond = tokens_to_match(baseline, candidate)
    assert (beyond.bound, beyond.ratio) == ("more than", pytest.approx(1.0))
    assert tokens_to_match(candidate, baseline).ratio == pytest.approx(0.5, rel=0.01)


def test_a_longer_baseline_curve_extends_the_measured_range() -> None:
    result = tokens_to_match({0: power_law()}, {0: power_law(2.0, last=80)})
    assert result.ratio == pytest.approx(2.0, rel=0.02)
    assert result.bound == "measured"


def test_a_loss_above_the_whole_curve_gives_an_upper_bound() -> None:
    late = Curve(TOKENS[100:], power_law().loss[100:])
    result = tokens_to_match({0: late}, {0: power_law(0.1)})
    assert result.bound == "less than"
    assert 0.1 < result.ratio < 1


def test_seeds_on_both_sides_of_the_measured_range_give_unknown() -> None:
    late = Curve(TOKENS[100:], power_law().loss[100:])
    result = tokens_to_match({0: late, 1: late}, {0: power_law(0.1), 1: power_law(3.0)})
    assert result.bound == "unknown"
    assert math.isnan(result.ratio)
    assert tokens_to_match({0: late}, {1: late}).bound == "unknown"


def test_one_seed_beyond_the_curve_makes_the_mean_a_bound() -> None:
    result = tokens_to_match({0: power_law(), 1: power_law()}, {0: power_law(0.5), 1: power_law(4.0)})
    assert (result.bound, result.seeds) == ("more than", 2)
    assert result.ratio == pytest.approx(math.sqrt(0.5), rel=0.02)


@given(
    losses=st.lists(st.floats(0.1, 10), min_size=2, max_size=60),
    others=st.lists(st.floats(0.1, 10), min_size=2, max_size=60),
)
@settings(max_examples=200, deadline=None)
def test_the_ratio_never_extrapolates(losses: list[float], others: list[float]) -> None:
    curves = [Curve(np.arange(1.0, len(each) + 1), np.array(each)) for each in (losses, others)]
    falling = knots(curves[0])
    assert (np.diff(falling.loss) < 0).all()
    assert (np.diff(falling.tokens) > 0).all()
    result = tokens_to_match({0: curves[0]}, {0: curves[1]})
    end = math.exp(knots(curves[1]).tokens[-1])
    assert math.exp(falling.tokens[0]) * (1 - 1e-9) <= result.ratio * end <= math.exp(falling.tokens[-1]) * (1 + 1e-9)


def test_the_interval_has_its_nominal_coverage() -> None:
    """Three seeds with seed noise and noisy records; 95% of 600 intervals within three standard errors."""
    rng = np.random.default_rng(5)
    worth, covered, times = 0.7, 0, 600
    for _ in range(times):
        factors = np.exp(rng.normal(0, 0.1, 3))
        reference = {seed: power_law(1.0, noise=0.02, seed=int(rng.integers(1 << 40))) for seed in range(3)}
        other = {
            seed: power_law(worth * factors[seed], noise=0.02, seed=int(rng.integers(1 << 40))) for seed in range(3)
        }
        result = tokens_to_match(reference, other)
        covered += result.low <= worth <= result.high
    assert abs(covered / times - 0.95) < 3 * math.sqrt(0.05 * 0.95 / times)


@pytest.mark.parametrize(
    ("tokens", "loss", "message"),
    [
        ([1.0], [2.0], "a curve with 1 token counts and 1 losses"),
        ([1.0, 2.0], [2.0, math.nan], "finite losses"),
        ([2.0, 1.0], [2.0, 1.0], "ascending token counts"),
        ([0.0, 1.0], [2.0, 1.0], "above 0"),
    ],
)
def test_an_invalid_curve_is_refused(tokens: list[float], loss: list[float], message: str) -> None:
    curve = Curve(np.array(tokens), np.array(loss))
    with pytest.raises(AssayError, match=message):
        tokens_to_match({0: curve}, {0: curve})
