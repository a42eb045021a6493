"""Stages of the seeds: the levels spend alpha once, and invalid stages are refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from scipy import stats

from assay.config.policy import Criterion, EarlyStopping, Policy
from assay.config.sequential_seeds import SequentialSeeds, Spending
from assay.core.errors import ConfigError

PRIMARY = (Criterion(task="t", metric="loss", better="lower"),)


def policy(**changes: Any) -> Policy:
    fields: dict[str, Any] = {"name": "test", "primary": PRIMARY, "alpha": 0.05, "min_seeds": 2}
    return Policy(**{**fields, **changes})


@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock"])
@pytest.mark.parametrize("stages", [(2, 3, 5), (3, 5), (1, 2, 3, 4, 5, 6, 7, 8), (2, 100)])
@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.2])
def test_the_levels_of_all_stages_sum_to_alpha(spending: Spending, stages: tuple[int, ...], alpha: float) -> None:
    plan = SequentialSeeds(stages=stages, spending=spending)
    levels = plan.levels(alpha)
    assert len(levels) == len(stages)
    assert all(level > 0 for level in levels)
    assert math.fsum(levels) == pytest.approx(alpha, rel=1e-9)
    assert plan.spent(alpha)[-1] == pytest.approx(alpha, rel=1e-9)


def test_the_spending_functions_are_those_of_lan_and_demets() -> None:
    """Lan and DeMets (1983), section 2, computed with another library."""
    fractions = [0.4, 0.6, 1.0]
    obrien_fleming = [2 * stats.norm.sf(stats.norm.ppf(0.975) / math.sqrt(t)) for t in fractions]
    pocock = [0.05 * math.log(1 + (math.e - 1) * t) for t in fractions]
    assert SequentialSeeds(stages=(2, 3, 5)).spent(0.05) == pytest.approx(obrien_fleming)
    assert SequentialSeeds(stages=(2, 3, 5), spending="pocock").spent(0.05) == pytest.approx(pocock)


@pytest.mark.parametrize("stages", [(), (3,), (3, 3), (3, 2), (0, 2), (-1, 2)])
def test_stages_must_be_ascending_numbers_of_seeds(stages: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="at least two ascending numbers of seeds"):
        SequentialSeeds(stages=stages)


def test_a_first_stage_that_can_never_decide_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 3 seeds in the first stage"):
        policy(min_seeds=3, sequential_seeds=SequentialSeeds(stages=(2, 3)))


def test_a_stage_with_a_level_near_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="but the smallest level is 1.1e-43"):
        policy(sequential_seeds=SequentialSeeds(stages=(2, 100)))
    assert policy(sequential_seeds=SequentialSeeds(stages=(2, 100), spending="pocock")).at_stage(1).alpha > 1e-3


def test_alpha_is_not_spent_on_stages_and_on_interim_analyses() -> None:
    with pytest.raises(ConfigError, match="each spends alpha"):
        policy(early_stopping=EarlyStopping(stop="losers"), sequential_seeds=SequentialSeeds(stages=(2, 3)))


def test_the_policy_of_a_stage_has_the_level_of_the_stage() -> None:
    staged = policy(sequential_seeds=SequentialSeeds(stages=(2, 3, 5), spending="pocock"))
    levels = SequentialSeeds(stages=(2, 3, 5), spending="pocock").levels(0.05)
    assert [staged.at_stage(number).alpha for number in (1, 2, 3)] == pytest.approx(levels)
    assert staged.at_the_end == staged.at_stage(3)
    assert staged.at_stage(2).sequential_seeds is None
    assert policy().at_the_end == policy()
