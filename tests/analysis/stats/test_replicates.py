"""Noise and signal of past runs: shared seed effects are not noise, and few mixes give no ratio."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols

from assay.analysis.stats.replicates import replicate_noise, signal_to_noise, trend
from assay.analysis.stats.signal import PastSignal, Signal, least_ratio, ranked_right, with_past

OK = Signal("ok", "fine")


def _frame(values: np.ndarray) -> pd.DataFrame:
    """Convert values, (mixes, seeds), to a long table of one metric."""
    mix, seed = (at.ravel() for at in np.indices(values.shape))
    return pd.DataFrame({"mix": mix, "seed": seed, "task": "t", "metric": "m", "value": values.ravel()})


def test_shared_seed_effects_are_not_noise_of_a_difference() -> None:
    rng = np.random.default_rng(0)
    own = rng.normal(0, 0.1, (40, 5))
    values = rng.normal(0, 3, (40, 1)) + rng.normal(0, 2, (1, 5)) + own
    noise = replicate_noise(_frame(values))["t", "m"]
    assert noise.sd == pytest.approx(0.1 * 2**0.5, rel=0.15)
    assert (noise.df, noise.n_mixes, noise.n_runs) == (39 * 4, 40, 200)


def test_with_missing_cells_the_noise_equals_least_squares() -> None:
    frame = _frame(np.random.default_rng(1).normal(size=(4, 4))).drop([3, 6, 9])
    fitted = ols("value ~ C(mix) + C(seed)", frame).fit()
    noise = replicate_noise(frame)["t", "m"]
    assert noise.df == fitted.df_resid
    assert noise.sd == pytest.approx((2 * fitted.mse_resid) ** 0.5, abs=1e-8)


def test_mixes_without_shared_seeds_use_the_noise_within_mixes() -> None:
    values = np.random.default_rng(2).normal(size=(3, 3))
    frame = _frame(values).assign(seed=lambda t: t["mix"].astype(str) + "-" + t["seed"].astype(str))
    noise = replicate_noise(frame)["t", "m"]
    assert noise.df == 6
    assert noise.sd == pytest.approx((2 * values.var(axis=1, ddof=1).mean()) ** 0.5)


def test_one_run_of_each_mix_shows_no_noise() -> None:
    assert replicate_noise(_frame(np.ones((5, 1)))) == {}
    assert replicate_noise(_frame(np.full((2, 2), np.nan))) == {}
    assert signal_to_noise([[1.0], [2.0]]) is None
    assert signal_to_noise([[1.0, 1.0], [2.0, 2.0]]) is None


def test_the_signal_to_noise_ratio_is_unbiased_and_its_interval_covers() -> None:
    rng = np.random.default_rng(3)
    ratios = [signal_to_noise(list(0.8 * rng.normal(size=(20, 1)) + rng.normal(size=(20, 3)))) for _ in range(400)]
    known = [ratio for ratio in ratios if ratio is not None]
    assert np.median([ratio.value for ratio in known]) == pytest.approx(0.8, abs=0.05)
    assert np.mean([ratio.low <= 0.8 <= ratio.high for ratio in known]) == pytest.approx(0.9, abs=0.035)


def test_the_ratio_predicts_how_many_pairs_are_ranked_correctly() -> None:
    rng = np.random.default_rng(4)
    truth = least_ratio(3) * rng.normal(size=(2, 40_000))
    scores = truth + rng.normal(size=truth.shape) / 3**0.5
    right = np.mean((truth[1] > truth[0]) == (scores[1] > scores[0]))
    assert ranked_right(least_ratio(3), 3) == pytest.approx(0.75)
    assert right == pytest.approx(0.75, abs=0.01)


def _past_signal(ratio: float, mixes: int, seed: int = 5) -> PastSignal:
    rng = np.random.default_rng(seed)
    return PastSignal(signal_to_noise(list(ratio * rng.normal(size=(mixes, 1)) + rng.normal(size=(mixes, 3)))), None)


def test_many_past_mixes_without_spread_remove_a_vote_and_few_do_not() -> None:
    many, few, good = _past_signal(0.0, 80), _past_signal(0.0, 5), _past_signal(3.0, 25)
    assert with_past(OK, many, n_seeds=3).state == "no signal"
    assert "the history has signal-to-noise" in with_past(OK, many, n_seeds=3).reason
    assert with_past(OK, few, n_seeds=3) == OK
    assert with_past(OK, _past_signal(0.8, 12), n_seeds=3).state == "unknown", (
        "an interval on both sides removes no vote"
    )
    assert with_past(OK, good, n_seeds=3).state == "ok"
    assert with_past(OK, None, n_seeds=3) is OK
    assert with_past(Signal("no signal", "at chance"), good, n_seeds=3).reason == "at chance"
    assert with_past(OK, _past_signal(0.3, 200), n_seeds=50).state != "no signal", "many seeds compensate for noise"


def test_a_past_ratio_does_not_remove_the_vote_of_a_guardrail_with_signal() -> None:
    many = _past_signal(0.0, 80)
    assert with_past(OK, many, n_seeds=3, guards=True).state == "unknown"
    assert with_past(Signal("unknown", "no chance level"), many, n_seeds=3, guards=True).state == "no signal"


def test_a_metric_at_the_required_ratio_loses_its_vote_in_at_most_5_percent_of_histories() -> None:
    lost = [with_past(OK, _past_signal(1 / 3**0.5, 20, seed), n_seeds=3).state == "no signal" for seed in range(300)]
    assert np.mean(lost) <= 0.085, "5% plus twice the standard error of 300"


def test_a_score_that_falls_during_training_has_no_signal() -> None:
    tokens = [1.0, 2.0, 3.0, 4.0, 5.0]
    falls = trend([(tokens, [0.5, 0.4, 0.3, 0.2, 0.1])] * 3, lower_is_better=False)
    assert falls is not None
    assert with_past(OK, PastSignal(None, falls), n_seeds=3).state == "no signal"
    rises = trend([(tokens, [0.5, 0.4, 0.3, 0.2, 0.1])] * 3, lower_is_better=True)
    assert rises is not None
    assert with_past(OK, PastSignal(None, rises), n_seeds=3).state == "ok"
    assert trend([([1.0, 2.0], [0.5, 0.6])], lower_is_better=False) is None, "two checkpoints always rise or fall"
    flat = trend([(tokens, [0.25] * 5)] * 3, lower_is_better=False)
    assert flat is not None
    assert with_past(OK, PastSignal(None, flat), n_seeds=3).state == "ok"
