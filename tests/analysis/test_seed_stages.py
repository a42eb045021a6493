"""External results under a policy with stages: the complete stages decide, and further seeds wait."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from assay.analysis.compare import compare
from assay.analysis.gate import gate
from assay.analysis.seed_stages import gate_external
from assay.config.reason import Code
from assay.config.sequential_seeds import SequentialSeeds
from assay.report.reason_text import text
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


@pytest.mark.parametrize(
    ("own", "code", "about"),
    [
        (range(1), Code.SEEDS_MISSING, {"new": 1}),
        (range(2, 5), Code.SEEDS_NOT_PAIRED, {}),
    ],
)
def test_an_incomplete_first_stage_counts_all_seeds_of_both_arms(own: range, code: Code, about: dict[str, int]) -> None:
    frame = results({"new": {"code": 0.0}}, seeds=range(5))
    frame = frame[
        ((frame["mix"] == "base") & (frame["seed"] < 3)) | ((frame["mix"] == "new") & frame["seed"].isin(own))
    ]
    verdict = decided(frame)
    stated = [reason for reason in verdict.reasons if reason.code in {Code.SEEDS_MISSING, Code.SEEDS_NOT_PAIRED}]
    assert [reason.code for reason in stated] == [code]
    assert {reason.subject: reason.figures["present"] for reason in stated if code is Code.SEEDS_MISSING} == about
    assert all(reason.figures["planned"] == 2 for reason in stated if code is Code.SEEDS_MISSING)
    assert first(verdict.needed, Code.NEED_STAGE).figures["seeds"] == 1


def test_further_seeds_of_external_results_are_to_be_imported() -> None:
    verdict = decided(results({"new": {"code": 0.0}}, seeds=range(4)))
    need = first(verdict.needed, Code.NEED_STAGE)
    assert (need.figures["stage"], need.figures["n_seeds"], need.figures["seeds"]) == (3, 5, 1)
    sentence = text(need)
    assert "base and new share" in sentence
    assert "assay submit" not in sentence


def test_candidates_with_different_numbers_of_seeds_have_different_stages() -> None:
    frame = results({"new": {"code": 0.0}, "other": {"code": 0.0}}, seeds=range(5))
    frame = frame[(frame["mix"] != "other") | (frame["seed"] < 2)]
    verdict = gate_external(frame, STAGED, baseline="base", candidates=["new", "other"])
    stages = {name: first(each.scope, Code.SCOPE_STAGES).figures["stage"] for name, each in verdict.candidates.items()}
    assert stages == {"new": 3, "other": 1}
    assert first(verdict.note, Code.SEVERAL_CANDIDATES).figures["candidates"] == 2


TOGETHER = replace(STAGED, candidates="all")
MANY = [f"c{number}" for number in range(10)]


def test_candidates_that_share_alpha_have_divided_levels_in_every_statement() -> None:
    frame = results({name: {"code": 0.0} for name in MANY}, seeds=range(3))
    verdict = gate_external(frame, TOGETHER, baseline="base", candidates=MANY)
    levels = [level / 10 for level in STAGED.sequential_seeds.levels(0.05)]  # type: ignore[union-attr]  # it has stages
    own = verdict.candidates["c0"]
    scope = first(own.scope, Code.SCOPE_STAGES).figures
    assert scope["levels"] == pytest.approx(levels)
    assert scope["alpha"] == pytest.approx(sum(levels))
    assert own.comparisons[0].level == pytest.approx(1 - levels[1])
    assert first(own.needed, Code.NEED_STAGE).figures["level"] == pytest.approx(levels[2])
    assert [reason.code for reason in verdict.note] == [Code.CANDIDATES_CONTROLLED]
    note = verdict.note[0].figures
    assert (note["alpha"], note["each"], note["final"]) == pytest.approx((0.05, 0.005, levels[2]))
    better = results({name: {"code": -0.5} for name in MANY}, seeds=range(3))
    decision = gate_external(better, TOGETHER, baseline="base", candidates=MANY).candidates["c0"]
    assert first(decision.reasons, Code.STAGE_DECIDED).figures["level"] == pytest.approx(levels[1])


@pytest.mark.parametrize("stages", [(2, 3, 5), (2, 5, 10)])
def test_a_gate_with_many_candidates_divides_the_level_of_the_last_stage(stages: tuple[int, ...]) -> None:
    """A first stage whose level is small before the division is no reason to refuse the verdict."""
    rule = replace(TOGETHER, sequential_seeds=SequentialSeeds(stages=stages))
    frame = results({name: {"code": 0.0} for name in MANY}, seeds=range(5))
    verdict = gate(frame, rule, baseline="base", candidates=MANY)
    assert verdict.candidates["c0"].comparisons[0].level == pytest.approx(1 - rule.at_the_end.alpha / 10)
    compared = compare(frame, rule, baseline="base")
    assert compared[0].level == pytest.approx(verdict.candidates["c0"].comparisons[0].level)
    assert rule.stage_levels(10)[-1] == pytest.approx(1 - compared[0].level)
