from __future__ import annotations

import numpy as np
import pytest

from assay.analysis.stats.signal import loss_signal, signal_from_items, signal_from_mixes, signal_from_scores


def _answers(accuracy: float, *, runs: int = 6, items: int = 600, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((runs, items)) < accuracy).astype(float)


def test_accuracy_at_chance_level_has_no_signal_and_above_it_has() -> None:
    each = np.arange(600).astype(object)
    assert signal_from_items(_answers(0.25), chance=0.25, clusters=each).state == "no signal"
    assert signal_from_items(_answers(0.40), chance=0.25, clusters=each).state == "ok"


def test_a_constant_answer_has_no_signal_on_mmlu() -> None:
    """MMLU's test set has 26.89% D, significantly above a quarter over 14,042 items, but without any knowledge."""
    assert signal_from_scores([0.2689] * 6, chance=0.25, n_items=14_042).state == "no signal"


def test_chance_level_passes_as_signal_in_at_most_5_percent_of_studies() -> None:
    each = np.arange(200).astype(object)
    passed = [
        signal_from_items(_answers(0.25, items=200, seed=s), chance=0.25, clusters=each).state == "ok"
        for s in range(400)
    ]
    assert np.mean(passed) <= 0.05


def test_correlated_items_of_a_group_count_as_one_cluster() -> None:
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(12), 50)
    accuracy = np.where(np.arange(12) % 2 == 0, 0.02, 0.65)[group]
    answers = (rng.random((6, 600)) < accuracy).astype(float)
    assert signal_from_items(answers, chance=0.25, clusters=np.arange(600).astype(object)).state == "ok"
    assert signal_from_items(answers, chance=0.25, clusters=group.astype(object)).state == "no signal"


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_scores_without_variance_are_not_certain(value: float) -> None:
    """Random choices answer two items of four choices correctly in 6% of cases."""
    assert signal_from_scores([value] * 6, chance=0.25, n_items=2).state == "no signal"
    assert (
        signal_from_items(np.full((6, 2), value), chance=0.25, clusters=np.arange(2).astype(object)).state
        == "no signal"
    )


def test_without_the_number_of_items_only_scores_at_chance_level_are_decided() -> None:
    assert signal_from_scores([0.25, 0.26], chance=0.25, n_items=None).state == "no signal"
    assert signal_from_scores([0.45, 0.46], chance=0.25, n_items=None).state == "unknown"


def test_one_run_is_tested_over_its_items() -> None:
    each = np.arange(600).astype(object)
    assert signal_from_items(_answers(0.4, runs=1), chance=0.25, clusters=each).state == "ok"


def test_a_loss_always_has_signal() -> None:
    assert loss_signal().state == "ok"


def test_differences_between_mixes_are_no_noise() -> None:
    mixes = [[0.281, 0.279], [0.449, 0.451]]
    assert signal_from_mixes(mixes, chance=0.25, n_items=2000).state == "ok"
    assert signal_from_mixes([[0.249, 0.251], [0.252, 0.248]], chance=0.25, n_items=2000).state == "no signal"


@pytest.mark.parametrize("scores", [[-0.1, -0.12, -0.09], [28.0, 29.0, 27.0]])
def test_scores_that_are_no_fractions_have_an_unknown_signal(scores: list[float]) -> None:
    """The correlation coefficient of Matthews can be negative, and percentages exceed 1."""
    assert signal_from_scores(scores, chance=0.0, n_items=1000).state == "unknown"
