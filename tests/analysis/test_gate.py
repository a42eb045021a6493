from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from assay.analysis.gate import EXIT_CODES, Decision, Verdict, decide, gate
from assay.config.policy import Criterion, Policy, Target
from assay.config.reason import Code, Reason, stated
from assay.core.errors import AssayError
from assay.report.reason_text import to_json
from tests.helpers.reasons import facts, first
from tests.helpers.studies import accuracy, policy, results

POLICIES = Path(__file__).parents[2] / "conf" / "policy"


def _decide(effects: dict[str, float], *, rule: Policy | None = None, noise: float = 0.002, **more: object) -> Verdict:
    table = results({"new": effects}, noise=noise)
    return decide(table, rule or policy(), baseline="base", candidate="new", **more)  # type: ignore[arg-type]


def test_a_better_primary_and_guardrails_within_their_margins_are_accepted() -> None:
    verdict = _decide({"code": -0.05, "books": 0.01})
    assert verdict.decision == "ACCEPT"
    assert facts(verdict.reasons[0]) == (Code.BETTER, "validation/code bits_per_byte")
    assert verdict.reasons[0].figures["effect"] == pytest.approx(-0.05, abs=5e-5)
    assert verdict.reasons[0].figures["level"] == 0.95
    assert facts(verdict.reasons[1]) == (Code.WITHIN_MARGIN, "validation/books bits_per_byte")
    assert verdict.reasons[1].figures["margin"] == 0.03
    assert verdict.needed == ()


def test_a_worse_primary_is_rejected() -> None:
    verdict = _decide({"code": 0.05})
    assert verdict.decision == "REJECT"
    assert facts(verdict.reasons[0]) == (Code.WORSE, "validation/code bits_per_byte")
    assert verdict.reasons[0].figures["effect"] == pytest.approx(0.05, abs=5e-5)


def test_a_regressing_guardrail_rejects_despite_improvements() -> None:
    verdict = _decide({"code": -0.5, "books": -0.5, "web": 0.08})
    assert verdict.decision == "REJECT"
    assert facts(verdict.reasons[0]) == (Code.WORSE, "validation/web bits_per_byte")
    assert (verdict.reasons[0].figures["role"], verdict.reasons[0].figures["margin"]) == ("guardrail", 0.03)
    assert facts(verdict.reasons[1]) == (Code.BETTER, "validation/code bits_per_byte")


def test_a_significant_loss_within_the_margin_does_not_reject() -> None:
    verdict = _decide({"code": -0.05, "web": 0.015})
    assert verdict.decision == "ACCEPT"
    web = next(c for c in verdict.comparisons if c.task == "validation/web")
    assert web.p < 0.05


def test_an_effect_within_noise_is_inconclusive_and_reports_the_number_of_seeds_to_decide() -> None:
    verdict = _decide({"code": -0.02}, noise=0.015)
    assert verdict.decision == "INCONCLUSIVE"
    assert verdict.reasons[0].code is Code.NOT_SIGNIFICANT
    code = first(verdict.needed, Code.NEED_SEEDS_TO_SHOW)
    assert code.subject == "validation/code"
    assert (code.figures["likely"], code.figures["claim"], code.figures["n_seeds"]) == (6, "better", 3)


def test_the_reported_number_of_seeds_decides_most_studies() -> None:
    """At the estimated noise and effect, 80% of studies of that size should be significant."""
    rng = np.random.default_rng(1)
    accepted = []
    for _ in range(60):
        table = results({"new": {}}, seeds=range(6), tasks=("code",), noise=0.0)
        new = table["mix"] == "new"
        table.loc[new, "value"] += rng.normal(-0.02, 0.0135, 6)
        accepted.append(decide(table, policy(guardrails=()), baseline="base", candidate="new").decision == "ACCEPT")
    assert 0.65 < np.mean(accepted) < 0.97


def test_a_guardrail_with_too_much_noise_prevents_accept() -> None:
    table = results({"new": {"code": -0.05}})
    noisy = (table["mix"] == "new") & (table["task"] == "validation/web")
    table.loc[noisy, "value"] += [0.05, -0.05, 0.02]
    verdict = decide(table, policy(), baseline="base", candidate="new")
    assert verdict.decision == "INCONCLUSIVE"
    assert facts(verdict.reasons[0]) == (Code.MARGIN_NOT_SHOWN, "validation/web bits_per_byte")


def _with_mmlu(effects: dict[str, float], *, base: float, new: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    scores, items = accuracy({"base": base, "new": new})
    return pd.concat([results({"new": effects}), scores.assign(scale="1m")], ignore_index=True), items


def test_accuracy_at_chance_level_neither_carries_nor_prevents_accept() -> None:
    mmlu = Criterion(task="mmlu", metric="acc", better="higher", margin=0.01)
    table, items = _with_mmlu({"code": -0.05}, base=0.25, new=0.23)
    as_guardrail = policy(guardrails=(*policy().guardrails, mmlu))
    verdict = decide(table, as_guardrail, baseline="base", candidate="new", items=items)
    assert verdict.decision == "ACCEPT"
    no_signal = first(verdict.reasons, Code.NO_SIGNAL)
    assert no_signal.name == "mmlu acc"
    assert no_signal.figures["detail"].startswith("accuracy")
    as_primary = policy(primary=(mmlu,), guardrails=())
    verdict = decide(table, as_primary, baseline="base", candidate="new", items=items)
    assert verdict.decision == "INCONCLUSIVE"
    assert verdict.reasons[0].code is Code.NO_PRIMARY_WITH_SIGNAL
    assert verdict.needed[0].code is Code.NEED_SIGNAL


def test_the_policy_requires_any_or_all_primaries() -> None:
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


def test_the_verdict_names_a_failed_run_and_its_cause() -> None:
    table = results({"new": {"code": -0.05}})
    table = table[~((table["mix"] == "new") & (table["seed"] == 2))]
    missing = {"new": [stated("seed 2 failed (diverged)")]}
    verdict = decide(table, policy(), baseline="base", candidate="new", missing=missing)
    assert verdict.decision == "INCONCLUSIVE"
    assert facts(verdict.reasons[0]) == (Code.SEEDS_MISSING, "new")
    assert (verdict.reasons[0].figures["present"], verdict.reasons[0].figures["planned"]) == (2, 3)
    assert verdict.reasons[0].causes == tuple(missing["new"])
    assert verdict.needed[0] == Reason(code=Code.NEED_SEEDS, figures={"n_seeds": 3, "shared": True})
    assert verdict.needed[1].code is Code.OPTION
    assert (verdict.needed[1].figures["runs"], verdict.needed[1].figures["tokens"]) == (1, 1e7)
    assert verdict.needed[1].causes[0] == Reason(code=Code.MORE_SEEDS, figures={"n_seeds": 3, "more": 1})
    assert [option.kind for option in verdict.options] == ["seeds"]


def test_a_verdict_lists_excluded_runs() -> None:
    missing = {"new": [stated("seed 3 failed (diverged)")]}
    verdict = _decide({"code": -0.05}, missing=missing)
    assert verdict.decision == "ACCEPT"
    assert verdict.reasons[-1] == Reason(code=Code.RUNS_EXCLUDED, subject="new", causes=tuple(missing["new"]))


def test_a_candidate_without_finished_runs_is_inconclusive_and_an_unknown_candidate_is_an_error() -> None:
    table = results({})
    verdict = decide(
        table, policy(), baseline="base", candidate="new", missing={"new": [stated("seed 0 failed (out of memory)")]}
    )
    assert verdict.decision == "INCONCLUSIVE"
    [reason] = verdict.reasons
    assert facts(reason) == (Code.SEEDS_MISSING, "new")
    assert (reason.figures["present"], reason.figures["planned"]) == (0, 3)
    assert reason.causes == (stated("seed 0 failed (out of memory)"),)
    with pytest.raises(AssayError, match="the candidate 'new' has no results"):
        decide(table, policy(), baseline="base", candidate="new")


def test_one_seed_is_inconclusive_for_any_effect() -> None:
    table = results({"new": {"code": -1.0}}, seeds=(0,))
    verdict = decide(table, policy(), baseline="base", candidate="new")
    assert verdict.decision == "INCONCLUSIVE"
    figures = {"planned": 3, "present": 1, "seeds": (0,)}
    assert verdict.reasons[:2] == (
        Reason(code=Code.SEEDS_MISSING, subject="base", figures=figures),
        Reason(code=Code.SEEDS_MISSING, subject="new", figures=figures),
    )
    json.dumps(to_json(verdict), allow_nan=False)


def test_arms_without_shared_seeds_are_compared_by_their_means_and_reported() -> None:
    table = results({"new": {"code": -0.2}})
    table.loc[table["mix"] == "new", "seed"] += 10
    verdict = decide(table, policy(), baseline="base", candidate="new")
    assert verdict.decision == "ACCEPT"
    unshared = first(verdict.reasons, Code.SEEDS_UNSHARED)
    figures = unshared.figures
    assert (figures["baseline_seeds"], figures["candidate_seeds"], figures["shared"]) == ((0, 1, 2), (10, 11, 12), ())
    c = verdict.comparisons[0]
    base, new = (table.loc[(table["mix"] == mix) & (table["task"] == c.task), "value"] for mix in ("base", "new"))
    reference = stats.ttest_ind(new, base)
    assert (c.pairing, c.n_seeds) == ("unpaired", 3)
    assert (c.effect, c.p) == pytest.approx((new.mean() - base.mean(), reference.pvalue), rel=1e-9)
    json.dumps(to_json(verdict), allow_nan=False)


def test_a_task_without_scores_in_some_runs_is_named() -> None:
    table = results({"new": {"code": -0.05}})
    lacking = (table["mix"] == "new") & (table["seed"] == 1) & (table["task"] == "validation/web")
    verdict = decide(table[~lacking], policy(), baseline="base", candidate="new")
    assert verdict.decision == "INCONCLUSIVE"
    assert facts(verdict.reasons[0]) == (Code.NOT_SCORED_ON_BOTH, "validation/web bits_per_byte")
    assert verdict.reasons[0].figures["seeds"] == (1,)


def test_constant_scores_decide_nothing() -> None:
    verdict = _decide({"code": -0.5}, noise=0.0)
    assert verdict.decision == "INCONCLUSIVE"
    assert facts(verdict.reasons[0]) == (Code.NO_VOTE, "validation/code bits_per_byte")
    assert "the 3 seeds differ by the same amount" in verdict.reasons[0].figures["detail"]
    assert facts(verdict.needed[0]) == (Code.NEED_INDEPENDENT_RUNS, "validation/code bits_per_byte")


def test_a_blocked_change_is_blocked_for_any_result() -> None:
    cause = stated("source code_cc lost its clearance on 2026-05-01.")
    verdict = _decide({"code": -0.5}, blocked=[cause])
    assert verdict.decision == "BLOCKED"
    assert verdict.reasons == (cause,)
    assert len(verdict.comparisons) == 3, "the comparisons are still reported"
    untrained = decide(
        results({}), policy(), baseline="base", candidate="new", blocked=[stated("source x is blocked.")]
    )
    assert (untrained.decision, untrained.comparisons) == ("BLOCKED", ())


def test_the_scope_of_a_verdict_without_a_target_is_the_proxy() -> None:
    assert _decide({}).scope == (Reason(code=Code.SCOPE_PROXY),)
    target = Target(scale="7b", task="mmlu", metric="acc", better="higher")
    [scope] = _decide({}, rule=policy(target=target)).scope
    assert (*facts(scope), scope.figures["scale"]) == (Code.SCOPE_PROXY, "mmlu acc", "7b")


def test_the_decision_of_a_sweep_is_that_of_its_worst_candidate() -> None:
    table = results({"good": {"code": -0.05}, "same": {}, "bad": {"code": 0.05}})

    def outcome(*candidates: str, **more: object) -> tuple[str, int]:
        sweep = gate(table, policy(), baseline="base", candidates=candidates, **more)  # type: ignore[arg-type]
        return sweep.decision, sweep.exit_code

    assert outcome("good") == ("ACCEPT", 0)
    assert outcome("good", "same") == ("INCONCLUSIVE", 3)
    assert outcome("good", "same", "bad") == ("REJECT", 1)
    assert outcome("good", "bad", blocked={"good": [stated("tainted.")]}) == ("BLOCKED", 4)
    assert outcome("good", blocked={"base": [stated("tainted.")]}) == ("BLOCKED", 4)
    assert set(EXIT_CODES) == set(Decision)


def test_a_sweep_of_several_candidates_notes_the_expected_errors() -> None:
    table = results({"a": {}, "b": {}})
    assert gate(table, policy(), baseline="base", candidates=["a"]).note == ()
    [note] = gate(table, policy(), baseline="base", candidates=["a", "b"]).note
    assert note.code is Code.SEVERAL_CANDIDATES
    assert note.figures == {"candidates": 2, "alpha": 0.05, "expected": pytest.approx(0.1)}


def test_a_sweep_verdict_is_json_with_a_verdict_for_each_candidate() -> None:
    table = results({"a": {"code": -0.05}, "b": {"code": 0.05}})
    verdict = gate(table, policy(), baseline="base", candidates=["a", "b"])
    plain = json.loads(json.dumps(to_json(verdict)))
    assert plain["verdict"] == "REJECT"
    assert {name: c["verdict"] for name, c in plain["candidates"].items()} == {"a": "ACCEPT", "b": "REJECT"}
    assert len(plain["candidates"]["a"]["comparisons"]) == 3


def test_unknown_names_are_refused() -> None:
    table = results({"new": {}})
    with pytest.raises(AssayError, match="candidates: the list is empty"):
        gate(table, policy(), baseline="base", candidates=[])
    with pytest.raises(AssayError, match="Did you mean 'new'"):
        gate(table, policy(), baseline="base", candidates=["new"], blocked={"nwe": [stated("x")]})
    with pytest.raises(AssayError, match="is both baseline and candidate"):
        decide(table, policy(), baseline="base", candidate="base")


@pytest.mark.parametrize("margin", [0.0, 0.005])
def test_a_change_without_effect_gets_a_wrong_verdict_in_at_most_alpha_of_studies(margin: float) -> None:
    """Two primaries and three guardrails at three seeds, heavy tails; with a margin of 0 every guardrail is at its bound."""
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


def test_the_packaged_policies_are_valid_and_the_code_policy_is_about_code() -> None:
    code = Policy.from_yaml(POLICIES / "code.yaml")
    assert [c.task for c in code.primary] == ["validation/code_github"]
    assert (code.alpha, code.min_seeds) == (0.05, 3)
    assert Policy.from_yaml(POLICIES / "default.yaml").name == "default"


def test_a_custom_policy_file_is_validated(tmp_path: Path) -> None:
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
    with pytest.raises(AssayError, match="has no keys"):
        Policy.from_yaml(path)
    with pytest.raises(AssayError, match="cannot be read"):
        Policy.from_yaml(tmp_path / "missing.yaml")
