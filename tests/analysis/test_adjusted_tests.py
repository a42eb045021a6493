"""The level that the noise model gets for each voting metric."""

from __future__ import annotations

import pytest

from assay.analysis.adjusted_tests import smallest_levels
from assay.config.policy import Criterion


def test_the_smallest_level_is_the_first_step_of_holms_adjustment() -> None:
    primary = tuple(Criterion(task=task, metric="acc", better="higher") for task in "ab")
    guards = tuple(Criterion(task=task, metric="acc", better="higher", margin=0.01) for task in "cde")
    levels = smallest_levels(0.05, primary, guards)
    assert levels == pytest.approx({(task, "acc"): 0.025 if task in "ab" else 0.01 for task in "abcde"})


def test_a_policy_without_primary_metrics_has_levels_for_its_guardrails() -> None:
    guards = (Criterion(task="c", metric="acc", better="higher", margin=0.01),)
    assert smallest_levels(0.05, (), guards) == {("c", "acc"): 0.05}
