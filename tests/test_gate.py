from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assay.errors import AssayError
from assay.gate import EXIT_CODES, Decision, Verdict, decide, gate
from assay.suite import Criterion, Policy, Target
from tests.studies import accuracy, policy, results

POLICIES = Path(__file__).parents[1] / "conf" / "policy"


def _decide(effects: dict[str, float], *, rule: Policy | None = None, noise: float = 0.002, **more: object) -> Verdict:
    table = results({"new": effects}, noise=noise)
    return decide(table, rule or policy(), baseline="base", candidate="new", **more)  # type: ignore[arg-type]


def test_a_better_primary_and_guardrails_within_their_margins_are_accepted() -> None:
    verdict = _decide({"code": -0.05, "books": 0.01})
    assert verdict.decision == "ACCEPT"
    assert verdict.reasons[0].startswith("validation/code bits_per_byte is better: -0.0500 bits per byte (95% interval")
    assert "validation/books bits_per_byte stays within its margin of 0.0300 bits per byte" in verdict.reasons[1]
    assert verdict.needed == ()


def test_a_worse_primary_is_rejected() -> None:
    verdict = _decide({"code": 0.05})
    assert verdict.decision == "REJECT"
    assert verdict.reasons[0].startswith("validation/code bits_per_byte is worse: +0.0500")


def test_one_guardrail_that_falls_is_not_hidden_by_all_that_improves() -> None:
    verdict = _decide({"code": -0.5, "books": -0.5, "web": 0.08})
    assert verdict.decision == "REJECT"
    assert verdict.reasons[0].startswith("validation/web bits_per_byte is worse by more than its margin of 0.0300")
    assert "validation/code bits_per_byte is better" in verdict.reasons[1]


def test_a_loss_within_the_margin_is_no_reason_to_reject_even_where_it_is_significant() -> None:
    verdict = _decide({"code": -0.05, "web": 0.015})
    assert verdict.decision == "ACCEPT"
    web = next(c for c in verdict.comparisons if c.task == "validation/web")
    assert web.p < 0.05


def test_an_effect_lost_in_noise_is_inconclusive_and_says_how_many_seeds_would_decide() -> None:
    verdict = _decide({"code": -0.02}, noise=0.015)
    assert verdict.decision == "INCONCLUSIVE"
    assert "is not shown to be better or worse" in verdict.reasons[0]
    code = next(line for line in verdict.needed if line.startswith("validation/code"))
    assert "about 6 seeds of each mix to show that it is better" in code
    assert "3 seeds understate the noise" in code


def test_the_seeds_that_it_asks_for_do_decide_most_studies() -> None:
    """The estimate is honest: with the noise and effect as they look, 80% of studies of that size are significant."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(60):
        table = results({"new": {}}, seeds=range(6), tasks=("code",), noise=0.0)
        new = table["mix"] == "new"
        table.loc[new, "value"] += rng.normal(-0.02, 0.0135, 6)
        found.append(decide(table, policy(guardrails=()), baseline="base", candidate="new").decision == "ACCEPT")
    assert 0.65 < np.mean(found) < 0.97


def test_a_guardrail_that_cannot_be_seen_well_enough_stands_in_the_way() -> None:
    table = results({"new": {"code": -0.05}})
    loud = (table["mix"] == "new") & (table["task"] == "validation/web")
    table.loc[loud, "value"] += [0.05, -0.05, 0.02]
    verdict = decide(table, policy(), baseline="base", candidate="new")
    assert verdict.decision == "INCONCLUSIVE"
    assert "validation/web bits_per_byte is not shown to stay within its margin" in verdict.reasons[0]


def _with_mmlu(effects: dict[str, float], *, base: float, new: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    scores, items = accuracy({"base": base, "new": new})
    return pd.concat([results({"new": effects}), scores.assign(scale="1m")], ignore_index=True), items


def test_accuracy_at_chance_neither_carries_a_verdict_nor_stands_in_its_way() -> None:
    mmlu = Criterion(task="mmlu", metric="acc", better="higher", margin=0.01)
    table, items = _with_mmlu({"code": -0.05}, base=0.25, new=0.23)
    as_guardrail = policy(guardrails=(*policy().guardrails, mmlu))
    verdict = decide(table, as_guardrail, baseline="base", candidate="new", items=items)
    assert verdict.decision == "ACCEPT"
    assert any(r.startswith("mmlu acc has no signal and decides nothing: accuracy") for r in verdict.reasons)
    as_primary = policy(primary=(mmlu,), guardrails=())
    verdict = decide(table, as_primary, baseline="base", candidate="new", items=items)
    assert verdict.decision == "INCONCLUSIVE"
    assert verdict.reasons[0].startswith("No primary metric has signal")
    assert "bits per byte of the right answers" in verdict.needed[0]


def test_any_or_all_primaries_as_the_policy_says() -> None:
    primary = tuple(
        Criterion(task=f"validation/{t}", metric="bits_per_byte", better="lower") for t in ("code", "books")
    )
    only_code = {"code": -0.05}
    assert _decide(only_code, rule=policy(primary=primary, guardrails=())).decision == "ACCEPT"
    assert _decide(only_code, rule=policy(primary=primary, guardrails=(), require="all")).decision == "INCONCLUSIVE"
    both = {"code": -0.05, "books": -0.05}
    assert _decide(both, rule=policy(primary=primary, guardrails=(), require="all")).decision == "ACCEPT"
    mixed = {"code": -0.05, "books": 0.05}
    assert _decide(mixed, rule=policy(primary=primary, guardrails=())).decision == "REJECT"


def test_a_failed_run_is_named_with_what_became_of_it() -> None:
    table = results({"new": {"code": -0.05}})
    table = table[~((table["mix"] == "new") & (table["seed"] == 2))]
    missing = {"new": ["seed 2 failed (diverged)"]}
    verdict = decide(table, policy(), baseline="base", candidate="new", missing=missing)
    assert verdict.decision == "INCONCLUSIVE"
    assert verdict.reasons[0] == "new has 2 of 3 seeds: seed 2 failed (diverged)."
    assert verdict.needed[0] == "3 finished seeds of each mix, the same seeds."
    assert verdict.needed[1].startswith("3 seeds of each mix (1 more): 1 more run, 10M tokens, ")
    assert [option.kind for option in verdict.options] == ["seeds"]


def test_a_verdict_on_the_seeds_that_survived_says_so() -> None:
    missing = {"new": ["seed 3 failed (diverged)"]}
    verdict = _decide({"code": -0.05}, missing=missing)
    assert verdict.decision == "ACCEPT"
    assert verdict.reasons[-1] == "new: seed 3 failed (diverged); the figures are of its other seeds only."


def test_a_candidate_of_which_every_run_failed_is_inconclusive_and_an_unknown_one_an_error() -> None:
    table = results({})
    verdict = decide(
        table, policy(), baseline="base", candidate="new", missing={"new": ["seed 0 failed (out of memory)"]}
    )
    assert verdict.decision == "INCONCLUSIVE"
    assert verdict.reasons == ("new has 0 of 3 seeds: seed 0 failed (out of memory).",)
    with pytest.raises(AssayError, match="the candidate 'new' has no results"):
        decide(table, policy(), baseline="base", candidate="new")


def test_one_seed_is_inconclusive_however_large_the_effect() -> None:
    table = results({"new": {"code": -1.0}}, seeds=(0,))
    verdict = decide(table, policy(), baseline="base", candidate="new")
    assert verdict.decision == "INCONCLUSIVE"
    assert verdict.reasons[:2] == (
        "base has 1 of 3 seeds: only seed 0 has results.",
        "new has 1 of 3 seeds: only seed 0 has results.",
    )
    json.dumps(verdict.to_mapping(), allow_nan=False)


def test_arms_that_share_no_seed_are_told_so() -> None:
    table = results({"new": {"code": -0.05}})
    table.loc[table["mix"] == "new", "seed"] += 10
    verdict = decide(table, policy(), baseline="base", candidate="new")
    assert verdict.decision == "INCONCLUSIVE"
    assert verdict.reasons[0] == (
        "base has seeds 0, 1, 2 and new seeds 10, 11, 12: runs are paired by seed, and these share none."
    )


def test_a_task_that_only_some_runs_have_is_named() -> None:
    table = results({"new": {"code": -0.05}})
    lacking = (table["mix"] == "new") & (table["seed"] == 1) & (table["task"] == "validation/web")
    verdict = decide(table[~lacking], policy(), baseline="base", candidate="new")
    assert verdict.decision == "INCONCLUSIVE"
    assert verdict.reasons[0] == "validation/web bits_per_byte was not scored on both arms of seed 1."


def test_constant_scores_decide_nothing() -> None:
    verdict = _decide({"code": -0.5}, noise=0.0)
    assert verdict.decision == "INCONCLUSIVE"
    assert "validation/code bits_per_byte decides nothing: the 3 seeds differ by the same amount" in verdict.reasons[0]
    assert "scores of independent runs" in verdict.needed[0]


def test_blocked_is_blocked_whatever_the_figures_say() -> None:
    verdict = _decide({"code": -0.5}, blocked=["source code_cc lost its clearance on 2026-05-01."])
    assert verdict.decision == "BLOCKED"
    assert verdict.reasons == ("source code_cc lost its clearance on 2026-05-01.",)
    assert len(verdict.comparisons) == 3, "the figures are still shown"
    untrained = decide(results({}), policy(), baseline="base", candidate="new", blocked=["source x is blocked."])
    assert (untrained.decision, untrained.comparisons) == ("BLOCKED", ())


def test_the_verdict_says_that_it_is_about_the_proxy() -> None:
    assert _decide({}).scope == "about the proxy only: no history of proxy and target pairs was given"
    target = Target(scale="7b", task="mmlu", metric="acc", better="higher")
    assert _decide({}, rule=policy(target=target)).scope.endswith("so nothing is said of mmlu at 7b")


def test_a_sweep_is_as_good_as_its_worst_candidate() -> None:
    table = results({"good": {"code": -0.05}, "same": {}, "bad": {"code": 0.05}})

    def judged(*candidates: str, **more: object) -> tuple[str, int]:
        sweep = gate(table, policy(), baseline="base", candidates=candidates, **more)  # type: ignore[arg-type]
        return sweep.decision, sweep.exit_code

    assert judged("good") == ("ACCEPT", 0)
    assert judged("good", "same") == ("INCONCLUSIVE", 3)
    assert judged("good", "same", "bad") == ("REJECT", 1)
    assert judged("good", "bad", blocked={"good": ["tainted."]}) == ("BLOCKED", 4)
    assert judged("good", blocked={"base": ["tainted."]}) == ("BLOCKED", 4)
    assert set(EXIT_CODES) == set(Decision)


def test_a_sweep_of_several_says_what_that_does_to_the_error_rate() -> None:
    table = results({"a": {}, "b": {}})
    assert gate(table, policy(), baseline="base", candidates=["a"]).note == ""
    assert "0.1 wrong verdicts" in gate(table, policy(), baseline="base", candidates=["a", "b"]).note


def test_a_sweep_verdict_is_json_with_a_verdict_for_each_candidate() -> None:
    table = results({"a": {"code": -0.05}, "b": {"code": 0.05}})
    plain = json.loads(json.dumps(gate(table, policy(), baseline="base", candidates=["a", "b"]).to_mapping()))
    assert plain["verdict"] == "REJECT"
    assert {name: c["verdict"] for name, c in plain["candidates"].items()} == {"a": "ACCEPT", "b": "REJECT"}
    assert len(plain["candidates"]["a"]["comparisons"]) == 3


def test_names_that_are_not_in_the_call_are_refused() -> None:
    table = results({"new": {}})
    with pytest.raises(AssayError, match="no candidate"):
        gate(table, policy(), baseline="base", candidates=[])
    with pytest.raises(AssayError, match="Did you mean 'new'"):
        gate(table, policy(), baseline="base", candidates=["new"], blocked={"nwe": ["x"]})
    with pytest.raises(AssayError, match="both baseline and candidate"):
        decide(table, policy(), baseline="base", candidate="base")


@pytest.mark.parametrize("margin", [0.0, 0.005])
def test_a_change_without_effect_gets_a_wrong_verdict_in_at_most_alpha_of_studies(margin: float) -> None:
    """Two primaries and three guardrails at three seeds, heavy tails; with a margin of 0 every guardrail is at its bar."""
    rng = np.random.default_rng(2)
    tasks = ["code", "web", "books", "docs", "maths"]
    criteria = [Criterion(task=f"validation/{t}", metric="bits_per_byte", better="lower") for t in tasks]
    guards = tuple(Criterion(task=c.task, metric=c.metric, better="lower", margin=margin) for c in criteria[2:])
    rule = policy(primary=tuple(criteria[:2]), guardrails=guards)
    table = results({"new": {}}, tasks=tasks)
    wrong = 0
    for _ in range(200):
        drawn = table.assign(value=2 + 0.005 * rng.standard_t(4, len(table)))
        wrong += decide(drawn, rule, baseline="base", candidate="new").decision in ("ACCEPT", "REJECT")
    assert wrong / 200 <= 0.05, "the standard error of 200 studies at 5% is 1.5 points"


def test_a_change_that_harms_a_guardrail_at_its_margin_is_accepted_in_at_most_alpha_of_studies() -> None:
    rng = np.random.default_rng(3)
    table = results({"new": {"code": -0.5, "books": 0.03}}, noise=0.0)
    accepted = 0
    for _ in range(200):
        drawn = table.assign(value=table["value"] + rng.normal(0, 0.003, len(table)))
        accepted += decide(drawn, policy(), baseline="base", candidate="new").decision == "ACCEPT"
    assert accepted / 200 <= 0.08, "5%, and twice the standard error of 200 studies"


def test_the_packaged_policies_are_read_and_the_code_policy_judges_code() -> None:
    code = Policy.from_yaml(POLICIES / "code.yaml")
    assert [c.task for c in code.primary] == ["validation/code_github"]
    assert (code.alpha, code.min_seeds) == (0.05, 3)
    assert Policy.from_yaml(POLICIES / "default.yaml").name == "default"


def test_a_policy_file_of_a_teams_own_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(
        "alpha: 0.05\nmin_seeds: 3\nproxy_scale: 150m\n"
        "target: {scale: 1b, task: hellaswag, metric: acc_norm, better: higher}\n"
        "primary: [{task: hellaswag, metric: acc_norm, better: higher, margin: 0.01}]\n"
    )
    ours = Policy.from_yaml(path)
    assert (ours.name, ours.proxy_scale, ours.target and ours.target.scale) == ("ours", "150m", "1b")
    path.write_text("alpha: 0.05\nmin_seeds: 3\nprimry: []\n")
    with pytest.raises(AssayError, match="Did you mean 'primary'"):
        Policy.from_yaml(path)
    path.write_text("- not a mapping\n")
    with pytest.raises(AssayError, match="holds no keys"):
        Policy.from_yaml(path)
    with pytest.raises(AssayError, match="cannot be read"):
        Policy.from_yaml(tmp_path / "missing.yaml")
