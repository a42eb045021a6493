"""A verdict states every score that it lacks or excludes, and no metric with a broken score carries it."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest

from assay.analysis.gate import decide, gate
from assay.config.policy import Criterion
from assay.config.reason import Code, Reason
from assay.report.reason_text import text, to_json
from tests.helpers.reasons import codes, facts, first
from tests.helpers.studies import policy, results

SEEDS = (0, 1, 2, 3, 4)


def five(**effects: float) -> pd.DataFrame:
    """Five seeds of `base` and `new`: more than the policy requires."""
    return results({"new": effects or {"code": -0.05}}, seeds=SEEDS)


def at(table: pd.DataFrame, mix: str, seed: int, task: str) -> pd.Series:
    return (table["mix"] == mix) & (table["seed"] == seed) & (table["task"] == f"validation/{task}")


def with_value(table: pd.DataFrame, value: float, mix: str, seed: int, task: str) -> pd.DataFrame:
    return table.assign(value=table["value"].where(~at(table, mix, seed, task), value))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("task", ["code", "web"])
@pytest.mark.parametrize("mix", ["base", "new"])
def test_a_voting_score_that_is_not_finite_is_inconclusive_and_named(value: float, task: str, mix: str) -> None:
    verdict = decide(with_value(five(), value, mix, 2, task), policy(), baseline="base", candidate="new")
    assert verdict.decision == "INCONCLUSIVE"
    reason = first(verdict.reasons, Code.SCORES_NOT_FINITE)
    assert reason.subject == mix
    assert reason.figures["seeds"] == (2,)
    assert reason.figures["metrics"] == ({"task": f"validation/{task}", "metric": "bits_per_byte"},)
    assert reason.figures["values"] == (str(value),)
    assert facts(first(verdict.reasons, Code.NO_VOTE)) == (Code.NO_VOTE, f"validation/{task} bits_per_byte")
    assert verdict.needed == (Reason(code=Code.NEED_FINITE_SCORES),)
    assert verdict.options == ()
    json.dumps(to_json(verdict), allow_nan=False)


def test_a_broken_primary_prevents_an_accept_by_another_primary() -> None:
    primary = tuple(
        Criterion(task=f"validation/{name}", metric="bits_per_byte", better="lower") for name in ("code", "web")
    )
    table = with_value(five(code=-0.05, web=-0.05), math.inf, "new", 0, "web")
    verdict = decide(table, policy(primary=primary, guardrails=()), baseline="base", candidate="new")
    assert verdict.decision == "INCONCLUSIVE"
    assert Code.BETTER in codes(verdict.reasons)


def test_a_regression_rejects_despite_a_broken_score_of_another_metric() -> None:
    table = with_value(five(code=0.2), math.nan, "new", 0, "web")
    verdict = decide(table, policy(), baseline="base", candidate="new")
    assert verdict.decision == "REJECT"
    assert Code.SCORES_NOT_FINITE in codes(verdict.reasons)


def test_a_broken_monitor_is_named_and_prevents_nothing() -> None:
    monitor = results({"new": {}}, seeds=SEEDS, tasks=("chat",))
    table = pd.concat([five(), with_value(monitor, math.inf, "new", 1, "chat")], ignore_index=True)
    verdict = decide(table, policy(), baseline="base", candidate="new")
    assert verdict.decision == "ACCEPT"
    assert first(verdict.reasons, Code.SCORES_NOT_FINITE).figures["seeds"] == (1,)


def test_a_run_that_one_arm_lacks_is_named_in_an_accept() -> None:
    table = five()
    verdict = decide(
        table[~((table["mix"] == "new") & (table["seed"] == 3))], policy(), baseline="base", candidate="new"
    )
    assert verdict.decision == "ACCEPT"
    reason = first(verdict.reasons, Code.SCORES_MISSING)
    assert (reason.subject, reason.figures["seeds"], reason.figures["every"]) == ("new", (3,), True)
    assert "new has no score of validation/code bits_per_byte" in text(reason)
    assert "for seed 3. The comparison cannot pair this seed" in text(reason)


@pytest.mark.parametrize("task", ["code", "web", "books"])
def test_a_score_that_one_arm_lacks_is_named(task: str) -> None:
    """This includes guardrails, whose other seeds may hold."""
    table = five()
    verdict = decide(table[~at(table, "base", 4, task)], policy(), baseline="base", candidate="new")
    assert verdict.decision == "ACCEPT"
    reason = first(verdict.reasons, Code.SCORES_MISSING)
    assert (reason.subject, reason.figures["seeds"]) == ("base", (4,))
    assert reason.figures["metrics"] == ({"task": f"validation/{task}", "metric": "bits_per_byte"},)


def test_a_metric_that_one_arm_lacks_is_named() -> None:
    table = pd.concat([five(), results({}, seeds=SEEDS, tasks=("chat",))], ignore_index=True)
    reason = first(decide(table, policy(), baseline="base", candidate="new").reasons, Code.SCORES_MISSING)
    assert (reason.subject, reason.figures["seeds"]) == ("new", SEEDS)


def test_the_seeds_of_planned_runs_without_results_are_named_once() -> None:
    table = five()
    cause = Reason(code=Code.MISSING_RUNS, figures={"seeds": [3]}, causes=(Reason(code=Code.NEVER_RUN),))
    verdict = decide(
        table[~((table["mix"] == "new") & (table["seed"] == 3))],
        policy(),
        baseline="base",
        candidate="new",
        missing={"new": [cause]},
    )
    assert Code.SCORES_MISSING not in codes(verdict.reasons)
    assert first(verdict.reasons, Code.RUNS_EXCLUDED).causes == (cause,)


def test_complete_arms_exclude_nothing() -> None:
    verdict = gate(five(), policy(), baseline="base", candidates=["new"])
    assert verdict.missing == {}
    assert not {Code.SCORES_MISSING, Code.SCORES_NOT_FINITE} & set(codes(verdict.candidates["new"].reasons))


def test_the_json_of_a_sweep_lists_excluded_scores_by_mix() -> None:
    table = five()
    table = with_value(table[~at(table, "new", 1, "web")], math.inf, "base", 2, "books")
    plain = to_json(gate(table, policy(), baseline="base", candidates=["new"]))
    assert {mix: [reason["code"] for reason in reasons] for mix, reasons in plain["missing"].items()} == {
        "base": ["scores_not_finite"],
        "new": ["scores_missing"],
    }
