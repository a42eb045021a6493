"""External results under a policy with stages: the complete stages decide, and further seeds wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from assay.analysis.seed_stages import gate_external
from assay.config.reason import Code
from assay.config.sequential_seeds import SequentialSeeds
from tests.helpers.reasons import first
from tests.helpers.studies import policy, results

if TYPE_CHECKING:
    import pandas as pd

    from assay.analysis.gate import Verdict

STAGED = policy(min_seeds=2, guardrails=(), sequential_seeds=SequentialSeeds(stages=(2, 3, 5), spending="pocock"))


def decided(frame: pd.DataFrame) -> Verdict:
    return gate_external(frame, STAGED, baseline="base", candidates=["new"]).candidates["new"]


@pytest.mark.parametrize(
    ("seeds", "stage", "left_out"), [(2, 1, ()), (3, 2, ()), (4, 2, (3,)), (5, 3, ()), (6, 3, (5,))]
)
def test_the_stage_follows_from_the_shared_seeds(seeds: int, stage: int, left_out: tuple[int, ...]) -> None:
    verdict = decided(results({"new": {"code": 0.0}}, seeds=range(seeds)))
    scope = first(verdict.scope, Code.SCOPE_STAGES).figures
    assert (scope["stage"], scope["left_out"]) == (stage, left_out)
    assert verdict.comparisons[0].n_seeds == STAGED.sequential_seeds.stages[stage - 1]  # type: ignore[union-attr]  # it has stages
    assert verdict.comparisons[0].level == pytest.approx(1 - scope["levels"][stage - 1])
    assert verdict.decision == "INCONCLUSIVE"
    assert (Code.NEED_STAGE in {need.code for need in verdict.needed}) == (stage < 3)


def test_a_decision_before_the_last_stage_needs_no_further_seeds() -> None:
    verdict = decided(results({"new": {"code": -0.5}}, seeds=range(3)))
    assert verdict.decision == "ACCEPT"
    assert first(verdict.reasons, Code.STAGE_DECIDED).figures["stage"] == 2
    assert verdict.needed == ()


def test_too_few_seeds_for_the_first_stage_decide_nothing() -> None:
    verdict = decided(results({"new": {"code": -0.5}}, seeds=range(1)))
    assert verdict.decision == "INCONCLUSIVE"
    opened = first(verdict.reasons, Code.STAGE_OPEN)
    assert opened.causes[0].figures["runs"] == ("new (1 of 2 shared seeds)",)


def test_candidates_with_different_numbers_of_seeds_have_different_stages() -> None:
    frame = results({"new": {"code": 0.0}, "other": {"code": 0.0}}, seeds=range(5))
    frame = frame[(frame["mix"] != "other") | (frame["seed"] < 2)]
    verdict = gate_external(frame, STAGED, baseline="base", candidates=["new", "other"])
    stages = {name: first(each.scope, Code.SCOPE_STAGES).figures["stage"] for name, each in verdict.candidates.items()}
    assert stages == {"new": 3, "other": 1}
    assert first(verdict.note, Code.SEVERAL_CANDIDATES).figures["candidates"] == 2
