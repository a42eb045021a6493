"""Tokens to match: what is read off curves is inside them, and its interval covers as often as it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError
from assay.stats.match import Curve, knots, tokens_to_match

TOKENS = np.arange(1, 201) * 5000.0


def power_law(worth: float = 1.0, *, noise: float = 0.0, seed: int = 0, last: int = 200) -> Curve:
    """Losses of a run whose every token is worth so many of the baseline's."""
    loss = 1.5 + 40 * (worth * TOKENS[:last]) ** -0.3
    return Curve(TOKENS[:last], loss + noise * np.random.default_rng(seed).standard_normal(last))


def test_a_recipe_against_itself_matches_at_its_own_tokens() -> None:
    curves = {seed: power_law(noise=0.05, seed=seed) for seed in range(3)}
    found = tokens_to_match(curves, curves)
    assert found == (1.0, 1.0, 1.0, 0.95, "measured", 3)


@pytest.mark.parametrize("worth", [0.3, 0.6, 0.9])
def test_tokens_that_are_worth_less_are_matched_by_fewer(worth: float) -> None:
    found = tokens_to_match({0: power_law()}, {0: power_law(worth)})
    assert found.ratio == pytest.approx(worth, rel=0.01)
    assert found.bound == "measured"
    assert math.isnan(found.low), "one seed shows no noise"


def test_a_better_candidate_is_beyond_the_curve_and_reaches_the_baseline_early() -> None:
    baseline, candidate = {0: power_law()}, {0: power_law(2.0)}
    beyond = tokens_to_match(baseline, candidate)
    assert (beyond.bound, beyond.ratio) == ("more than", pytest.approx(1.0))
    assert tokens_to_match(candidate, baseline).ratio == pytest.approx(0.5, rel=0.01)


def test_a_baseline_with_a_longer_curve_is_measured_further() -> None:
    found = tokens_to_match({0: power_law()}, {0: power_law(2.0, last=80)})
    assert found.ratio == pytest.approx(2.0, rel=0.02)
    assert found.bound == "measured"


def test_a_loss_that_even_the_beginning_is_below_is_a_bound_the_other_way() -> None:
    late = Curve(TOKENS[100:], power_law().loss[100:])
    found = tokens_to_match({0: late}, {0: power_law(0.1)})
    assert found.bound == "less than"
    assert 0.1 < found.ratio < 1


def test_seeds_on_either_side_of_what_was_measured_say_nothing() -> None:
    late = Curve(TOKENS[100:], power_law().loss[100:])
    found = tokens_to_match({0: late, 1: late}, {0: power_law(0.1), 1: power_law(3.0)})
    assert found.bound == "unknown"
    assert math.isnan(found.ratio)
    assert tokens_to_match({0: late}, {1: late}).bound == "unknown"


def test_one_seed_beyond_the_curve_makes_the_mean_a_bound() -> None:
    found = tokens_to_match({0: power_law(), 1: power_law()}, {0: power_law(0.5), 1: power_law(4.0)})
    assert (found.bound, found.seeds) == ("more than", 2)
    assert found.ratio == pytest.approx(math.sqrt(0.5), rel=0.02)


@given(
    losses=st.lists(st.floats(0.1, 10), min_size=2, max_size=60),
    others=st.lists(st.floats(0.1, 10), min_size=2, max_size=60),
)
@settings(max_examples=200, deadline=None)
def test_nothing_is_ever_read_beyond_what_was_measured(losses: list[float], others: list[float]) -> None:
    curves = [Curve(np.arange(1.0, len(each) + 1), np.array(each)) for each in (losses, others)]
    falling = knots(curves[0])
    assert (np.diff(falling.loss) < 0).all()
    assert (np.diff(falling.tokens) > 0).all()
    found = tokens_to_match({0: curves[0]}, {0: curves[1]})
    end = math.exp(knots(curves[1]).tokens[-1])
    assert math.exp(falling.tokens[0]) * (1 - 1e-9) <= found.ratio * end <= math.exp(falling.tokens[-1]) * (1 + 1e-9)


def test_its_interval_covers_as_often_as_it_says() -> None:
    """Three seeds, each with its own luck and noisy records; 95% of 600 intervals, give or take three standard errors."""
    rng = np.random.default_rng(5)
    worth, covered, times = 0.7, 0, 600
    for _ in range(times):
        luck = np.exp(rng.normal(0, 0.1, 3))
        reference = {seed: power_law(1.0, noise=0.02, seed=int(rng.integers(1 << 40))) for seed in range(3)}
        other = {seed: power_law(worth * luck[seed], noise=0.02, seed=int(rng.integers(1 << 40))) for seed in range(3)}
        found = tokens_to_match(reference, other)
        covered += found.low <= worth <= found.high
    assert abs(covered / times - 0.95) < 3 * math.sqrt(0.05 * 0.95 / times)


@pytest.mark.parametrize(
    ("tokens", "loss", "message"),
    [
        ([1.0], [2.0], "a curve of 1 tokens and 1 losses"),
        ([1.0, 2.0], [2.0, math.nan], "losses are finite"),
        ([2.0, 1.0], [2.0, 1.0], "rise from point to point"),
        ([0.0, 1.0], [2.0, 1.0], "above 0"),
    ],
)
def test_a_curve_that_is_none_is_refused(tokens: list[float], loss: list[float], message: str) -> None:
    curve = Curve(np.array(tokens), np.array(loss))
    with pytest.raises(AssayError, match=message):
        tokens_to_match({0: curve}, {0: curve})
