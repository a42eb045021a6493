"""The summary of a verdict names the decisive effect, its uncertainty and the decision."""

from __future__ import annotations

import json

import pytest

from assay.analysis.gate import decide, gate
from assay.config.reason import Code, Reason, stated
from assay.report.reason_text import text, to_json
from tests.helpers.studies import policy, results


def _summary(effects: dict[str, float], **more: object) -> Reason:
    table = results({"new": effects})
    return decide(table, policy(), baseline="base", candidate="new", **more).summary  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("effects", "decision", "task", "claim"),
    [
        ({"code": -0.05, "books": 0.01}, "ACCEPT", "code", "better"),
        ({"code": 0.05}, "REJECT", "code", "worse"),
        ({"code": -0.05, "web": 0.08}, "REJECT", "web", "worse"),
        ({"code": 0.0}, "INCONCLUSIVE", "code", None),
    ],
)
def test_the_decisive_metric_carries_the_summary(
    effects: dict[str, float], decision: str, task: str, claim: str | None
) -> None:
    summary = _summary(effects)
    assert (summary.figures["decision"], summary.subject) == (decision, f"validation/{task}")
    assert claim in (None, summary.figures["claim"])
    assert summary.figures["ci_low"] <= summary.figures["effect"] <= summary.figures["ci_high"]


def test_a_blocked_change_has_no_result() -> None:
    summary = _summary({"code": -0.05}, blocked=[stated("tainted")])
    assert (summary.subject, summary.figures["decision"]) == ("", "BLOCKED")


def test_the_summary_of_a_sweep_counts_decisions_and_shows_an_accepted_candidate() -> None:
    table = results({"bad": {"code": 0.05}, "good": {"code": -0.05}})
    verdict = gate(table, policy(), baseline="base", candidates=["bad", "good"])
    summary = verdict.summary
    assert summary.code is Code.SWEEP_SUMMARY
    assert summary.figures["counts"] == {"ACCEPT": 1, "REJECT": 1}
    assert summary.causes[0].figures["candidate"] == "good"


def test_the_json_of_a_verdict_begins_with_its_sentence() -> None:
    verdict = gate(results({"good": {"code": -0.05}}), policy(), baseline="base", candidates=["good"])
    plain = json.loads(json.dumps(to_json(verdict), allow_nan=False))
    assert next(iter(plain)) == "summary"
    assert plain["summary"]["text"] == text(verdict.summary)
    assert plain["candidates"]["good"]["summary"]["text"] == plain["summary"]["text"]
    assert plain["summary"]["text"].startswith("good against base: validation/code bits_per_byte changes by -0.0")


def test_arms_with_different_numbers_of_seeds_are_both_stated() -> None:
    table = results({"new": {"code": -0.5}}, seeds=range(5))
    table.loc[table["mix"] == "new", "seed"] += 10
    arms = {"baseline": "base", "candidate": "new"}
    summary = decide(table[table["seed"] < 13], policy(), **arms).summary
    assert list(summary.figures["arm_seeds"]) == [5, 3]
    assert "5 seeds of base and 3 of new" in text(summary)
    assert "arm_seeds" not in decide(table, policy(), **arms).summary.figures
