"""Noise and signal of past runs: what seeds share is not noise, and few mixes do not make a ratio."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols

from assay.stats.replicates import replicate_noise, signal_to_noise, trend
from assay.stats.signal import Signal, Worth, by_past, least_ratio, ranked_right

OK = Signal("ok", "fine")


def _frame(values: np.ndarray) -> pd.DataFrame:
    """(mixes, seeds) as a long table of one metric."""
    mix, seed = (at.ravel() for at in np.indices(values.shape))
    return pd.DataFrame({"mix": mix, "seed": seed, "task": "t", "metric": "m", "value": values.ravel()})


def test_what_arms_of_a_seed_share_is_not_noise_of_their_difference() -> None:
    rng = np.random.default_rng(0)
    own = rng.normal(0, 0.1, (40, 5))
    values = rng.normal(0, 3, (40, 1)) + rng.normal(0, 2, (1, 5)) + own
    noise = replicate_noise(_frame(values))["t", "m"]
    assert noise.sd == pytest.approx(0.1 * 2**0.5, rel=0.15)
    assert (noise.df, noise.n_mixes, noise.n_runs) == (39 * 4, 40, 200)


def test_cells_may_be_missing_and_the_noise_is_that_of_least_squares() -> None:
    frame = _frame(np.random.default_rng(1).normal(size=(4, 4))).drop([3, 6, 9])
    fitted = ols("value ~ C(mix) + C(seed)", frame).fit()
    noise = replicate_noise(frame)["t", "m"]
    assert noise.df == fitted.df_resid
    assert noise.sd == pytest.approx((2 * fitted.mse_resid) ** 0.5, abs=1e-8)


def test_mixes_that_share_no_seed_have_the_noise_within_them() -> None:
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


def test_the_ratio_is_that_of_the_truth_and_its_interval_covers() -> None:
    rng = np.random.default_rng(3)
    found = [signal_to_noise(list(0.8 * rng.normal(size=(20, 1)) + rng.normal(size=(20, 3)))) for _ in range(400)]
    known = [one for one in found if one is not None]
    assert np.median([one.value for one in known]) == pytest.approx(0.8, abs=0.05)
    assert np.mean([one.low <= 0.8 <= one.high for one in known]) == pytest.approx(0.9, abs=0.035)


def test_pairs_are_ranked_right_as_often_as_the_ratio_says() -> None:
    rng = np.random.default_rng(4)
    truth = least_ratio(3) * rng.normal(size=(2, 40_000))
    seen = truth + rng.normal(size=truth.shape) / 3**0.5
    right = np.mean((truth[1] > truth[0]) == (seen[1] > seen[0]))
    assert ranked_right(least_ratio(3), 3) == pytest.approx(0.75)
    assert right == pytest.approx(0.75, abs=0.01)


def _worth(ratio: float, mixes: int, seed: int = 5) -> Worth:
    rng = np.random.default_rng(seed)
    return Worth(signal_to_noise(list(ratio * rng.normal(size=(mixes, 1)) + rng.normal(size=(mixes, 3)))), None)


def test_past_mixes_that_hardly_differ_take_a_metrics_say_and_few_of_them_do_not() -> None:
    many, few, good = _worth(0.0, 80), _worth(0.0, 5), _worth(3.0, 25)
    assert by_past(OK, many, n_seeds=3).state == "no signal"
    assert by_past(OK, few, n_seeds=3) == OK
    assert by_past(OK, _worth(0.8, 12), n_seeds=3).state == "unknown", "an interval on both sides silences nothing"
    assert by_past(OK, good, n_seeds=3).state == "ok"
    assert by_past(OK, None, n_seeds=3) is OK
    assert by_past(Signal("no signal", "at chance"), good, n_seeds=3).reason == "at chance"
    assert by_past(OK, _worth(0.3, 200), n_seeds=50).state != "no signal", "many seeds make up for noise"


def test_a_metric_with_as_much_signal_as_noise_loses_its_say_in_at_most_one_history_of_twenty() -> None:
    lost = [by_past(OK, _worth(1 / 3**0.5, 20, seed), n_seeds=3).state == "no signal" for seed in range(300)]
    assert np.mean(lost) <= 0.085, "5%, and twice the standard error of 300"


def test_a_score_that_falls_while_models_learn_has_no_signal() -> None:
    looks = [1.0, 2.0, 3.0, 4.0, 5.0]
    falls = trend([(looks, [0.5, 0.4, 0.3, 0.2, 0.1])] * 3, lower_is_better=False)
    assert falls is not None
    assert by_past(OK, Worth(None, falls), n_seeds=3).state == "no signal"
    rises = trend([(looks, [0.5, 0.4, 0.3, 0.2, 0.1])] * 3, lower_is_better=True)
    assert rises is not None
    assert by_past(OK, Worth(None, rises), n_seeds=3).state == "ok"
    assert trend([([1.0, 2.0], [0.5, 0.6])], lower_is_better=False) is None, "two looks always rise or fall"
    flat = trend([(looks, [0.25] * 5)] * 3, lower_is_better=False)
    assert flat is not None
    assert by_past(OK, Worth(None, flat), n_seeds=3).state == "ok"
