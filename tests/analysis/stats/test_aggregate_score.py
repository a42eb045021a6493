"""Scalars of runs from several tasks, and the SDs that standardize them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from assay.analysis.stats.aggregate_score import (
    BROKEN,
    AggregatePart,
    SeedSD,
    aggregate_scores,
    part_scores,
    seed_sds,
    variance_factor,
)

MIXES, SEEDS = ("base", "new"), (0, 1, 2)
INDEX = pd.MultiIndex.from_product([MIXES, SEEDS], names=["mix", "seed"])


def _parts(number: int, metric: str = "loss") -> list[AggregatePart]:
    return [AggregatePart(f"t{i}", metric, "lower", 1 / number, (f"t{i}",)) for i in range(number)]


def _scores(values: np.ndarray, index: pd.MultiIndex = INDEX) -> pd.DataFrame:
    return pd.DataFrame(values, index=index, columns=[f"t{i}" for i in range(values.shape[1])])


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_sds_of_the_tested_runs_keep_the_error_rate_only_with_the_factor(correlation: float) -> None:
    """Ten tasks, two arms, three seeds, no effect, nominal 5%."""
    random, parts, studies = np.random.default_rng(0), _parts(10), 1200
    without, with_factor = 0, 0
    for _ in range(studies):
        noise = math.sqrt(correlation) * random.standard_normal((6, 1)) + math.sqrt(
            1 - correlation
        ) * random.standard_normal((6, 10))
        scores = _scores(2 + np.exp(np.linspace(-1, 1, 10)) * noise)
        sds, basis = seed_sds(parts, scores, None)
        assert basis == "arms"
        means = aggregate_scores(scores, parts, sds=sds, center=dict.fromkeys(sds, 0.0))
        differences = means[3:] - means[:3]
        t = abs(differences.mean()) / (differences.std(ddof=1) / math.sqrt(3))
        without += 2 * stats.t.sf(t, 2) <= 0.05
        with_factor += 2 * stats.t.sf(t / math.sqrt(variance_factor(parts, sds)), 2) <= 0.05
    assert with_factor / studies <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / studies)
    if correlation == 0:
        assert without / studies > 0.065, "the factor is not superfluous"


def test_a_difference_between_mixes_does_not_change_the_sds() -> None:
    random, parts = np.random.default_rng(1), _parts(6)
    values = random.standard_normal((6, 6))
    shifted = values + np.repeat([[0.0], [50.0]], 3, axis=0)
    first, second = (seed_sds(parts, _scores(v), None)[0] for v in (values, shifted))
    assert [sd.sd for sd in first.values()] == pytest.approx([sd.sd for sd in second.values()])


def test_few_tasks_are_not_shrunk_and_have_the_larger_factor() -> None:
    values = np.random.default_rng(2).standard_normal((6, 2))
    sds, _ = seed_sds(_parts(2), _scores(values), None)
    pooled = (values[:3].var(axis=0, ddof=1) + values[3:].var(axis=0, ddof=1)) / 2
    assert [sd.sd for sd in sds.values()] == pytest.approx(np.sqrt(pooled))
    assert {sd.factor for sd in sds.values()} == {2.0}, "df / (df - 2) for four degrees of freedom"


def test_two_degrees_of_freedom_or_constant_scores_leave_the_sd_unknown() -> None:
    index = pd.MultiIndex.from_product([MIXES, (0, 1)], names=["mix", "seed"])
    values = np.random.default_rng(3).standard_normal((4, 2))
    assert all(math.isnan(sd.sd) for sd in seed_sds(_parts(2), _scores(values, index), None)[0].values())
    constant = np.column_stack([np.random.default_rng(3).standard_normal(6), np.full(6, 0.1)])
    known, unknown = seed_sds(_parts(2), _scores(constant), None)[0].values()
    assert (known.sd > 0, math.isnan(unknown.sd), unknown.measured) == (True, True, 0.0)


def test_a_history_with_too_few_replicates_is_not_used() -> None:
    random, parts = np.random.default_rng(4), _parts(2)
    for mixes, basis in ((4, "arms"), (5, "history")):
        index = pd.MultiIndex.from_product([[f"past{i}" for i in range(mixes)], SEEDS], names=["mix", "seed"])
        past = _scores(random.standard_normal((3 * mixes, 2)), index)
        assert seed_sds(parts, _scores(random.standard_normal((6, 2))), past)[1] == basis


def test_missing_and_broken_scores_differ() -> None:
    parts = _parts(2)
    scores = _scores(np.array([[1.0, 2.0], [math.nan, 2.0], [BROKEN, 2.0], [BROKEN, math.nan], [1.0, 1.0], [0.0, 0.0]]))
    values = aggregate_scores(scores, parts, sds=None, center={})
    assert values[[0, 4, 5]].tolist() == [1.5, 1.0, 0.0]
    assert math.isnan(values[1])
    assert np.isinf(values[2:4]).all()


def test_the_last_checkpoint_of_each_run_counts() -> None:
    rows = [
        ("base", 0, task, "loss", 10.0 * tokens + i, tokens) for i, task in enumerate(("t0", "t1")) for tokens in (1, 2)
    ]
    frame = pd.DataFrame(rows, columns=["mix", "seed", "task", "metric", "value", "tokens"])
    assert part_scores(frame, _parts(2)).to_numpy().tolist() == [[20.0, 21.0]]


def test_the_factor_weights_parts_by_their_contribution() -> None:
    parts = [AggregatePart("a", "x", "higher", 0.75, ("a",)), AggregatePart("b", "x", "higher", 0.25, ("b",))]
    factor = variance_factor(parts, {"a": SeedSD(1, 2.0, 1), "b": SeedSD(1, 1.0, 1)})
    assert factor == pytest.approx((9 * 2 + 1) / 10)
