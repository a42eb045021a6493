"""Power of designs: the closed form is what simulated studies find, and noise and correlation come from past runs."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import f as fisher
from scipy.stats import t as student

from assay.analysis.stats.design_grid import (
    MEAN,
    SEPARATED,
    UNIT_NOISE,
    Layout,
    RunNoise,
    design_power,
    mean_of_metrics,
    run_noise,
    smallest_gain,
)
from assay.analysis.stats.paired import over_seeds
from assay.analysis.stats.power import power_with_seeds
from assay.analysis.stats.replicates import replicate_noise
from assay.analysis.stats.sweep_model import more_readily

STUDIES = 2_000
TAIL = 0.0125
NOISE = RunNoise(variance=4.0, residual=4.0 * 0.3, df=100.0)


def _frame(values: np.ndarray, metric: str = "m") -> pd.DataFrame:
    """Convert values, (mixes, seeds), to a long table of one metric."""
    mix, seed = (at.ravel() for at in np.indices(values.shape))
    return pd.DataFrame({"mix": mix, "seed": seed, "task": "t", "metric": metric, "value": values.ravel()})


def _detected(layout: Layout, effect: float, margin: float) -> float:
    """Simulate the test of the second arm; return the fraction of detections.

    The test uses the residual variance of all arms, or that of the pair if an F test shows that the pair is noisier.
    """
    rng = np.random.default_rng([layout.arms, layout.seeds, layout.shared])
    common = rng.normal(0, (NOISE.variance - NOISE.residual) ** 0.5, (STUDIES, 1, layout.seeds))
    if not layout.shared:
        common = rng.normal(0, (NOISE.variance - NOISE.residual) ** 0.5, (STUDIES, layout.arms, layout.seeds))
    levels = np.zeros((1, layout.arms, 1))
    levels[:, 1:] = effect  # the level of the other candidates must not matter
    y = levels + common + rng.normal(0, NOISE.residual**0.5, (STUDIES, layout.arms, layout.seeds))
    residual = y - y.mean(axis=2, keepdims=True)
    if layout.shared:
        residual += y.mean(axis=(1, 2), keepdims=True) - y.mean(axis=1, keepdims=True)
        df = (layout.arms - 1) * (layout.seeds - 1)
    else:
        df = layout.arms * (layout.seeds - 1)
    variance, dfs = (residual**2).sum(axis=(1, 2)) / df, np.full(STUDIES, df)
    if layout.arms > 2:
        pair = (
            y[:, 1] - y[:, 0]
            if layout.shared
            else np.hstack(
                [y[:, 0] - y[:, 0].mean(axis=1, keepdims=True), y[:, 1] - y[:, 1].mean(axis=1, keepdims=True)]
            )
        )
        own_df = (1 if layout.shared else 2) * (layout.seeds - 1)
        own = pair.var(axis=1, ddof=1) / 2 if layout.shared else (pair**2).sum(axis=1) / own_df
        rest = (variance * df - own * own_df) / (df - own_df)
        apart = own / rest > fisher.isf(more_readily(SEPARATED, 2 * TAIL), own_df, df - own_df)
        variance, dfs = np.where(apart, own, variance), np.where(apart, own_df, df)
    gain = y[:, 1].mean(axis=1) - y[:, 0].mean(axis=1)
    statistic = (gain - margin) / np.sqrt(2 * variance / layout.seeds)
    return float(np.mean(statistic > student.isf(TAIL, dfs)))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("arms", "seeds"), [(2, 2), (2, 3), (3, 2), (5, 3), (10, 3), (4, 8)])
@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_the_power_of_a_design_is_that_of_simulated_studies(
    arms: int, seeds: int, fraction: float, *, shared: bool
) -> None:
    layout, margin = Layout(arms, seeds, shared=shared), 0.2
    gain = margin + fraction * (smallest_gain(noise=NOISE, layout=layout, tail=TAIL, margin=margin) - margin)
    expected = design_power(gain, noise=NOISE, layout=layout, tail=TAIL, margin=margin)
    assert expected == pytest.approx(0.8, abs=1e-6) or fraction < 1
    error = (expected * (1 - expected) / STUDIES) ** 0.5
    assert _detected(layout, gain, margin) == pytest.approx(expected, abs=3 * error)


def test_with_one_candidate_the_power_is_that_of_the_paired_test() -> None:
    layout, rng = Layout(arms=2, seeds=4), np.random.default_rng(1)
    gain = smallest_gain(noise=NOISE, layout=layout, tail=TAIL)
    expected = design_power(gain, noise=NOISE, layout=layout, tail=TAIL)
    assert expected == pytest.approx(
        power_with_seeds(gain, n_seeds=4, noise=(2 * NOISE.residual) ** 0.5, tail=TAIL), rel=1e-9
    )
    differences = rng.normal(gain, (2 * NOISE.residual) ** 0.5, (STUDIES, 4))
    found = np.mean([over_seeds(study).p_above(0.0) <= TAIL for study in differences])
    assert found == pytest.approx(expected, abs=3 * (expected * (1 - expected) / STUDIES) ** 0.5)


def test_candidates_and_correlation_add_power_and_margins_and_items_cost_power() -> None:
    def of(arms: int = 2, noise: RunNoise = NOISE, margin: float = 0.0) -> float:
        return design_power(3.0, noise=noise, layout=Layout(arms, 3), tail=TAIL, margin=margin)

    assert of(5) > of() > of(noise=NOISE.with_correlation(0.0))
    assert of() > of(margin=1.0)
    assert of() > of(noise=NOISE._replace(item_variance=1.0, n_items=100))
    separate = Layout(2, 3, shared=False)
    assert design_power(3.0, noise=NOISE, layout=separate, tail=TAIL) < of()


def test_one_seed_detects_nothing_unless_the_history_suffices() -> None:
    single = Layout(arms=4, seeds=1)
    assert design_power(99.0, noise=NOISE, layout=single, tail=TAIL) == 0
    assert math.isnan(smallest_gain(noise=NOISE, layout=single, tail=TAIL))
    past = NOISE._replace(prior_df=4.0)
    assert design_power(99.0, noise=past, layout=single, tail=TAIL) > 0.99
    three = {"layout": Layout(arms=4, seeds=3), "tail": TAIL}
    assert design_power(3.0, noise=past, **three) == design_power(3.0, noise=NOISE, **three), (
        "the history may not agree"
    )


def test_an_unknown_gain_has_an_unknown_power_and_a_gain_within_the_margin_has_none() -> None:
    layout = Layout(2, 3)
    assert math.isnan(design_power(math.nan, noise=UNIT_NOISE, layout=layout, tail=TAIL))
    assert design_power(1.0, noise=UNIT_NOISE, layout=layout, tail=TAIL, margin=1.0) == 0


def test_noise_and_correlation_are_those_of_the_past_runs() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(0, 9, (60, 1)) + rng.normal(0, 2, (1, 40)) + rng.normal(0, 1, (60, 40))
    frame = _frame(values)
    noise = run_noise(frame)["t", "m"]
    assert noise.correlation == pytest.approx(0.8, abs=0.08)
    assert (noise.n_mixes, noise.n_runs, noise.df, noise.shared) == (60, 2400, 59 * 39, True)
    assert (2 * noise.residual) ** 0.5 == pytest.approx(replicate_noise(frame)["t", "m"].sd)
    assert noise.variance == pytest.approx(values.var(axis=1, ddof=1).mean())


def test_mixes_without_shared_seeds_show_no_correlation() -> None:
    frame = _frame(np.random.default_rng(3).normal(size=(3, 3)))
    noise = run_noise(frame.assign(seed=lambda table: table["mix"] * 10 + table["seed"]))["t", "m"]
    assert (noise.shared, noise.correlation, noise.df) == (False, 0.0, 6)
    assert not run_noise(_frame(np.random.default_rng(3).normal(size=(2, 2))))["t", "m"].shared, "one degree of freedom"
    assert run_noise(_frame(np.ones((3, 3)))) == {}
    assert run_noise(_frame(np.random.default_rng(3).normal(size=(3, 1)))) == {}


def test_the_mean_of_independent_metrics_has_less_noise_than_each_metric() -> None:
    rng = np.random.default_rng(4)
    parts = [_frame(sd * rng.normal(size=(50, 10)), name) for sd, name in ((1.0, "a"), (0.01, "b"), (100.0, "c"))]
    frame = pd.concat(parts, ignore_index=True)
    signs = {("t", "a"): 1, ("t", "b"): 1, ("t", "c"): -1}
    mean = mean_of_metrics(frame, run_noise(frame), signs)
    assert run_noise(mean)[MEAN].sd == pytest.approx(3**-0.5, rel=0.06)
    lacking = frame[~((frame["metric"] == "c") & (frame["mix"] == 0))]
    assert 0 not in set(mean_of_metrics(lacking, run_noise(lacking), signs)["mix"])
    assert mean_of_metrics(parts[0], run_noise(parts[0]), signs).empty


def test_the_mean_turns_losses_around() -> None:
    values = np.random.default_rng(5).normal(size=(4, 3))
    frame = pd.concat([_frame(values, "a"), _frame(-values, "loss")], ignore_index=True)
    mean = mean_of_metrics(frame, run_noise(frame), {("t", "a"): 1, ("t", "loss"): -1})
    sd = run_noise(frame)["t", "a"].sd
    assert mean.sort_values(["mix", "seed"])["value"].to_numpy() == pytest.approx(values.ravel() / sd)
