"""The claim of each comparison, and its p-value, are those of the verdict's sentences."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from assay.analysis.compare import compare
from assay.analysis.comparison import Comparison
from assay.analysis.gate import decide
from assay.config.reason import Code
from assay.report.reason_text import to_json
from tests.helpers.studies import policy, results

SENTENCES = {
    Code.BETTER: ("better", "p_adjusted"),
    Code.WORSE: ("worse", "p_adjusted"),
    Code.WITHIN_MARGIN: ("not worse", "p_noninferior"),
    Code.MARGIN_NOT_SHOWN: ("not worse", "p_noninferior"),
}


def _row(effects: dict[str, float], task: str, **more: float) -> Comparison:
    comparisons = compare(results({"new": effects}, **more), policy(), baseline="base")  # type: ignore[arg-type]
    return next(c for c in comparisons if c.task == f"validation/{task}")


@pytest.mark.parametrize(
    "effects",
    [
        {"code": -0.05, "books": 0.01},
        {"code": 0.05},
        {"code": -0.05, "web": 0.08},
        {"code": -0.05, "books": -0.5},
        {"code": 0.0, "web": 0.029},
    ],
)
def test_each_row_has_the_p_value_of_its_sentence(effects: dict[str, float]) -> None:
    verdict = decide(results({"new": effects}), policy(), baseline="base", candidate="new")
    rows = {(c.task, c.metric): c for c in verdict.comparisons}
    about = [reason for reason in verdict.reasons if reason.code in SENTENCES]
    assert about
    for reason in about:
        claim, p = SENTENCES[reason.code]
        c = rows[reason.subject, reason.metric]
        assert (c.claim, c.p_claim) == (claim, reason.figures[p])


def test_an_improving_guardrail_has_the_small_p_value_of_non_inferiority() -> None:
    c = _row({"books": -0.05}, "books")
    assert c.p_adjusted == pytest.approx(1.0), "harm is not shown at all"
    assert c.claim == "not worse"
    assert c.p_claim == c.p_noninferior < 0.01


def test_a_comparison_without_a_vote_makes_no_claim() -> None:
    c = _row({"code": -0.05}, "code", seeds=(0, 1))  # type: ignore[arg-type]
    assert c.claim == "none"
    assert math.isnan(c.p_claim)


def test_effects_are_also_in_percent_of_the_baseline_and_in_seed_sds() -> None:
    c = _row({"code": -0.05}, "code")
    assert c.effect_percent == pytest.approx(100 * c.effect / c.baseline_mean)
    assert c.effect_sds == pytest.approx(c.effect / c.noise)
    plain = to_json(c)
    assert (plain["claim"], plain["p_claim"]) == ("better", c.p_claim)
    assert (plain["effect_percent"], plain["effect_sds"]) == (c.effect_percent, c.effect_sds)


def test_without_noise_or_baseline_a_relative_effect_is_unknown() -> None:
    c = _row({"code": -0.05}, "code", seeds=(0,))  # type: ignore[arg-type]
    assert math.isnan(c.effect_sds)
    assert to_json(c)["effect_sds"] is None


def test_a_guardrail_under_the_joint_rule_claims_what_the_rule_tests() -> None:
    rule = replace(policy(), guardrail_rule="joint")
    margin = rule.guardrails[0].margin
    compared = compare(results({"new": {"code": -0.05, "books": 0.6 * margin}}), rule, baseline="base")
    c = next(c for c in compared if c.task == "validation/books")
    assert c.claim == "not worse"
    assert c.p_claim == c.p_limit < c.p_noninferior
    mean = next(c for c in compared if c.task == "aggregate/guardrails")
    assert mean.p_claim == mean.p_noninferior, "the mean is tested at its margin"
