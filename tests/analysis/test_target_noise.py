"""The seed noise of target verdicts comes from the sweep, and from the history only if both agree."""

import numpy as np
import pandas as pd
import pytest

from assay.analysis.stats.history import HistoryTable
from assay.analysis.stats.results_table import ResultsTable
from assay.analysis.stats.target import TargetEffect, predict_target
from assay.config.policy import Policy, Target

TARGET = Target(scale="1B", task="arc", metric="acc", better="higher")
POLICY = Policy(name="p", alpha=0.05, min_seeds=3, proxy_scale="150M", target=TARGET)


def rows(mix: str, scale: str, values: np.ndarray, first: int = 0) -> list[dict[str, object]]:
    named = {"mix": mix, "scale": scale, "task": "arc", "metric": "acc"}
    return [{**named, "seed": seed, "value": float(value)} for seed, value in enumerate(values, first)]


def past(rng: np.random.Generator, sd: float, runs: int = 3) -> HistoryTable:
    table = []
    for number, level in enumerate(rng.normal(0, 0.008, 25)):
        table += rows(f"h{number}", "150M", 0.5 + level + rng.normal(0, sd, runs))
        table += rows(f"h{number}", "1B", 0.6 + 1.2 * level + rng.normal(0, 0.001, 1))
    return HistoryTable.of(pd.DataFrame(table))


def effect(table: list[dict[str, object]], history: HistoryTable) -> TargetEffect:
    results = ResultsTable.of(pd.DataFrame(table))
    return predict_target(results, POLICY, TARGET, history, baseline="a", candidate="b")


def test_a_quieter_history_does_not_raise_the_error_of_equal_mixes() -> None:
    rng, decided = np.random.default_rng(0), 0
    for _ in range(80):
        arms = [row for mix in ("a", "b") for row in rows(mix, "150M", 0.5 + rng.normal(0, 0.004, 3))]
        decided += effect(arms, past(rng, 0.001)).winner != "unknown"
    assert decided / 80 <= 0.05 + 2 * (0.05 * 0.95 / 80) ** 0.5


def test_the_common_part_of_seeds_cancels() -> None:
    rng = np.random.default_rng(1)
    common, small = np.array([-0.01, 0.0, 0.01]), rng.normal(0, 0.0002, (2, 3))
    arms = [*rows("a", "150M", 0.5 + common + small[0]), *rows("b", "150M", 0.508 + common + small[1])]
    shared = effect(arms, past(rng, 0.002))
    assert shared.p_noise < 0.01
    other = [*rows("a", "150M", 0.5 + common + small[0]), *rows("b", "150M", 0.508 + common + small[1], first=3)]
    assert effect(other, past(rng, 0.002)).p_noise > 0.1


def test_partly_shared_seeds_give_the_effect_of_the_shared_seeds() -> None:
    rng = np.random.default_rng(2)
    common = np.array([0.0, 0.02, -0.02, 0.03, -0.03, 0.01])
    noise = rng.normal(0, 0.0002, (4, 6))
    arms = [row for i, mix in enumerate("acde") for row in rows(mix, "150M", 0.5 + common + noise[i])]
    arms += rows("b", "150M", 0.505 + common[:4] + noise[0][:4] + rng.normal(0, 0.0002, 4))
    found = effect(arms, past(rng, 0.002))
    assert found.n_seeds == (4, 4)
    assert found.proxy_effect == pytest.approx(0.005, abs=0.001)


def test_differences_equal_to_the_last_digit_leave_the_noise_unknown() -> None:
    values = np.array([0.5, 0.5625, 0.53125])
    arms = [*rows("a", "150M", values), *rows("b", "150M", values + 0.0078125)]
    found = effect(arms, past(np.random.default_rng(3), 0.01, runs=1))
    assert found.winner == "unknown"
    assert "to the last digit" in found.problem


def test_an_arm_with_one_seed_needs_replicates_of_other_mixes() -> None:
    rng = np.random.default_rng(4)
    policy = Policy(name="p", alpha=0.05, min_seeds=1, proxy_scale="150M", target=TARGET)
    arms = [*rows("a", "150M", np.array([0.499, 0.5, 0.501])), *rows("b", "150M", np.array([0.52]))]
    results = ResultsTable.of(pd.DataFrame(arms))
    known = predict_target(results, policy, TARGET, past(rng, 0.001), baseline="a", candidate="b")
    assert known.winner == "candidate"
    assert known.noise_known
