"""Interim analyses stop clear losers, wait for incomplete scores, and spend alpha once."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from assay.analysis.early_stopping import Advice, InterimResult, analyze_interim
from assay.analysis.gate import decide
from assay.analysis.verdict import decide_sweep
from assay.config.aggregate import Aggregate
from assay.config.policy import Criterion, EarlyStopping, Policy, Target
from assay.config.reason import Code, Reason
from assay.core.errors import AssayError
from assay.report.reason_text import to_json
from assay.store import early_stops
from tests.helpers.finished import finish
from tests.helpers.reasons import codes, first

if TYPE_CHECKING:
    from assay.config.study import Study

QUARTERS = (0.25, 0.5, 0.75, 1.0)
BUDGET = 1000.0


def policy(stop: str = "losers", **changes: Any) -> Policy:
    early = EarlyStopping(
        stop=stop,
        **{k: changes.pop(k) for k in ("interim_analyses", "alpha_fraction", "min_persistence") if k in changes},
    )  # type: ignore[arg-type]
    given: dict[str, Any] = {
        "name": "p",
        "primary": (Criterion(task="code", metric="loss", better="lower"),),
        "guardrails": (Criterion(task="web", metric="loss", better="lower", margin=0.05),),
        "alpha": 0.05,
        "min_seeds": 3,
        "early_stopping": early,
    }
    return Policy(**{**given, **changes})


def runs(
    mix: str, code: Mapping[float, float], *, seeds: int = 4, scale: str = "20M", web: bool = True
) -> pd.DataFrame:
    """Rows of a mix with its code loss by budget fraction and a web loss of 1, with small differences between seeds."""
    wiggle = {0: -0.004, 1: 0.001, 2: 0.005, 3: -0.002}
    odd = 1 if len(mix) % 2 else -0.5
    return pd.DataFrame(
        {
            "mix": mix,
            "seed": seed,
            "scale": scale,
            "tokens": fraction * BUDGET,
            "task": task,
            "metric": "loss",
            "value": value + odd * wiggle[seed] * (1 + fraction / 10),
        }
        for fraction, own in code.items()
        for task, value in (("code", own), *([("web", 1.0)] if web else []))
        for seed in range(seeds)
    )


def at(gap: float, fractions: tuple[float, ...] = QUARTERS) -> dict[float, float]:
    return {fraction: 2 + 1 / (1 + fraction) + gap for fraction in fractions}


BASE = runs("base", at(0.0))


def analyze(candidate: pd.DataFrame, by: Policy | None = None, **given: Any) -> InterimResult:
    frame = pd.concat([BASE, candidate])
    return analyze_interim(frame, by or policy(), baseline="base", candidate="new", budget_tokens=BUDGET, **given)


def test_the_first_analysis_stops_a_clear_loser_and_later_ones_do_not_revoke_it() -> None:
    result = analyze(runs("new", {0.25: at(0.3)[0.25], 0.5: at(-0.3)[0.5]}))
    assert result.advice == Advice.LOSER
    assert result.stopped is not None
    assert (result.stopped.fraction, result.stopped.tokens) == (0.25, 250.0)
    stops = result.reasons()[0]
    assert stops.code is Code.INTERIM_STOPS
    assert (stops.figures["fraction"], stops.figures["tokens"], stops.figures["outcome"]) == (0.25, 250, "loser")
    assert result.reasons()[-1].code is Code.INTERVALS_JOINT


@pytest.mark.parametrize(("stop", "advice"), [("none", "GO ON"), ("losers", "GO ON"), ("both", "STOP as winner")])
def test_a_winner_is_stopped_only_if_the_policy_stops_both(stop: str, advice: str) -> None:
    result = analyze(runs("new", at(-0.3, (0.25,))), policy(stop))
    assert result.advice == advice
    assert result.analyses[0].outcome == "winner"


def test_no_candidate_is_stopped_without_a_difference() -> None:
    result = analyze(runs("new", at(0.001, (0.25, 0.5, 0.75))))
    assert result.advice == Advice.GO_ON
    assert [analysis.outcome for analysis in result.analyses] == ["open"] * 4
    assert result.analyses[-1].waiting == Reason(code=Code.WAITING_FOR_RUNS, figures={"runs": ("new",)})


def test_interim_analyses_and_the_final_verdict_spend_exactly_alpha() -> None:
    by = policy("losers", interim_analyses=(0.1, 0.25, 0.5, 0.9))
    result = analyze(runs("new", at(0.001)), by)
    assert math.fsum(analysis.alpha for analysis in result.analyses) == pytest.approx(by.alpha)
    last = result.analyses[-1].verdict
    whole = pd.concat([BASE, runs("new", at(0.001))])
    gated = decide(whole[whole["tokens"] == BUDGET], by, baseline="base", candidate="new")
    assert last is not None
    assert last.comparisons[0].level == gated.comparisons[0].level == pytest.approx(1 - 0.8 * by.alpha)


def test_without_stopping_the_final_verdict_has_all_of_alpha() -> None:
    whole = pd.concat([BASE, runs("new", at(0.001))])
    gated = decide(whole[whole["tokens"] == BUDGET], policy("none"), baseline="base", candidate="new")
    assert gated.comparisons[0].level == 0.95
    result = analyze(runs("new", at(0.001)), policy("none"))
    seq = result.sequences()["code", "loss"]
    assert seq.level == pytest.approx(0.99), "of the interim analyses"
    assert seq.at == (250.0, 500.0, 750.0)


def test_always_valid_p_and_intervals_agree() -> None:
    for gap in (0.002, 0.01, 0.02, 0.05):
        seq = analyze(runs("new", at(gap))).sequences()["code", "loss"]
        assert seq.level == 0.95
        for low, high, p in zip(seq.low, seq.high, seq.p, strict=True):
            assert (p <= 0.05) == (not low <= 0 <= high)


def test_an_analysis_waits_for_every_replicate_of_both_arms() -> None:
    """Otherwise there would be an analysis of three seeds, and another one of four."""
    late = runs("new", at(0.3, (0.25, 0.5)))
    late = late[~((late["seed"] == 3) & (late["tokens"] == 250))]
    result = analyze(late)
    assert result.analyses[0].waiting == Reason(code=Code.WAITING_FOR_RUNS, figures={"runs": ("new seed 3",)})
    assert result.stopped is not None
    assert result.stopped.fraction == 0.5
    assert analyze(late[late["seed"] != 3], seeds=[0, 1, 2]).analyses[0].verdict is not None


def test_more_checkpoints_do_not_add_analyses() -> None:
    often = {percent / 100: at(0.0)[0.25] for percent in range(25, 49)}
    frame = pd.concat([runs("base", often), runs("new", often)])
    result = analyze_interim(frame, policy(), baseline="base", candidate="new", budget_tokens=BUDGET)
    assert [analysis.tokens for analysis in result.analyses if analysis.verdict is not None] == [250.0]


def test_scores_before_the_first_analysis_decide_nothing() -> None:
    frame = pd.concat([runs("base", at(0.0, (0.1,))), runs("new", at(0.5, (0.1,)))])
    result = analyze_interim(frame, policy(), baseline="base", candidate="new", budget_tokens=BUDGET)
    assert result.latest is None
    assert codes(result.reasons()) == [Code.INTERIM_PENDING, Code.INTERVALS_JOINT]


def test_an_aggregate_is_tested_at_an_interim_analysis_only_if_all_its_tasks_are_scored() -> None:
    own = Aggregate(name="all", metric="loss", tasks=("code", "web"))
    table = pd.concat([runs("base", {0.5: 3.0, 1.0: 2.9}), runs("new", {0.5: 3.5, 1.0: 3.4})], ignore_index=True)
    own_policy = policy(aggregate=own, primary=(), guardrails=())
    result = analyze_interim(table, own_policy, baseline="base", candidate="new", budget_tokens=BUDGET)
    analyzed = [a for a in result.analyses if a.verdict is not None]
    assert analyzed
    assert all(a.verdict.comparisons[0].task == "aggregate/all" for a in analyzed if a.verdict is not None)
    without = table[(table["task"] != "web") | (table["tokens"] == BUDGET)]
    result = analyze_interim(without, own_policy, baseline="base", candidate="new", budget_tokens=BUDGET)
    waiting = [a.waiting.code for a in result.analyses if a.tokens and a.waiting is not None]
    assert Code.PRIMARY_NOT_SCORED in waiting


def test_a_guardrail_without_interim_scores_prevents_stopping_a_winner_but_not_a_loser() -> None:
    fractions = (0.25,)
    for gap, advice in ((-0.3, "GO ON"), (0.3, "STOP as loser")):
        frame = pd.concat([runs("base", at(0.0, fractions), web=False), runs("new", at(gap, fractions), web=False)])
        result = analyze_interim(frame, policy("both"), baseline="base", candidate="new", budget_tokens=BUDGET)
        assert result.advice == advice
    assert analyze_interim(
        frame.assign(task="other"), policy(), baseline="base", candidate="new", budget_tokens=BUDGET
    ).analyses[0].waiting == Reason(code=Code.PRIMARY_NOT_SCORED)


def history(turn: float, *, mixes: int = 12) -> pd.DataFrame:
    """Past mixes 0.05 apart; a `turn` of 1 keeps their order to the end, -1 reverses it."""
    parts = [
        runs(f"past{'x' * i}", {0.25: 2.8 + 0.05 * i, 1.0: 2.5 + turn * 0.05 * i}, scale="20M") for i in range(mixes)
    ]
    return pd.concat(parts)


@pytest.mark.parametrize(("turn", "advice", "persisted"), [(1, "STOP as loser", 1.0), (-1, "GO ON", 0.0)])
def test_a_policy_can_require_persistence_of_past_signals(turn: float, advice: str, persisted: float) -> None:
    result = analyze(runs("new", at(0.3, (0.25,))), policy(min_persistence=0.9), history=history(turn))
    assert result.advice == advice
    assert first(result.reasons(), Code.PERSISTENCE).figures["persisted"] == persisted


def test_required_persistence_without_a_history_stops_no_candidate() -> None:
    result = analyze(runs("new", at(0.3, (0.25,))), policy(min_persistence=0.9))
    assert result.advice == Advice.GO_ON
    assert result.analyses[0].waiting == Reason(code=Code.PERSISTENCE_NO_HISTORY, figures={"least": 0.9})
    assert Code.PERSISTENCE_WITHOUT_HISTORY in codes(result.reasons())


def test_persistence_excludes_the_compared_mixes() -> None:
    own = pd.concat([history(1, mixes=5), BASE, runs("new", at(0.3))])
    result = analyze(runs("new", at(0.3, (0.25,))), history=own)
    assert result.analyses[0].persistence[0].n_mixes == 5


TARGET = Target(scale="1B", task="code", metric="loss", better="lower")


def test_with_a_target_an_analysis_predicts_it_from_the_history_at_its_fraction_or_stops_no_candidate() -> None:
    """An interim analysis must be about the same target as the final verdict."""
    rows = history(1, mixes=30)
    ends = rows[rows["tokens"] == BUDGET]
    odd = 0.004 * (-1.0) ** (ends["mix"].str.len() // 2)
    far = ends.assign(scale="1B", tokens=9 * BUDGET, value=ends["value"] + odd - 0.5)
    by = policy(target=TARGET, proxy_scale="20M")
    predicted = analyze(runs("new", at(0.6, (0.25,))), by, history=pd.concat([rows, far]))
    assert predicted.analyses[0].verdict is not None
    target = predicted.analyses[0].verdict.target
    assert target is not None
    assert target.effect == pytest.approx(0.6, rel=0.05)
    blind = analyze(runs("new", at(0.6, (0.25,))), by, history=pd.concat([ends, far]))
    assert blind.advice == Advice.GO_ON
    figures = {"fraction": 0.25, "scale": "1B"}
    assert blind.analyses[0].waiting == Reason(code=Code.HISTORY_LACKS_CHECKPOINT, figures=figures)


def test_crossing_curves_are_decided_correctly_at_the_analyzed_tokens() -> None:
    """The guarantee is about the analyzed tokens: a candidate that is worse at 25% can win at the end."""
    crossing = {0.25: at(0.3)[0.25], 1.0: at(-0.3)[1.0]}
    result = analyze(runs("new", crossing))
    assert result.advice == Advice.LOSER
    seq = result.sequences()["code", "loss"]
    assert seq.low[0] > 0
    assert seq.high[-1] < 0


def test_invalid_tables_are_refused() -> None:
    with pytest.raises(AssayError, match="no column 'tokens'"):
        analyze_interim(BASE.drop(columns="tokens"), policy(), baseline="base", candidate="new", budget_tokens=BUDGET)
    with pytest.raises(AssayError, match="candidate 'nwe' has no results"):
        analyze_interim(BASE, policy(), baseline="base", candidate="nwe", budget_tokens=BUDGET)
    with pytest.raises(AssayError, match="budget: 500 tokens is invalid"):
        analyze_interim(
            pd.concat([BASE, runs("new", at(0.0))]), policy(), baseline="base", candidate="new", budget_tokens=500
        )


def test_an_interim_result_is_json() -> None:
    result = analyze(runs("new", at(0.3, (0.25,))), history=history(1))
    plain = json.loads(json.dumps(to_json(result), allow_nan=False))
    assert plain["advice"] == "STOP as loser"
    assert plain["intervals"]["code loss"]["at"] == [250.0]
    assert plain["analyses"][0]["verdict"]["verdict"] == "REJECT"


def test_five_analyses_of_equal_mixes_rarely_stop() -> None:
    rng = np.random.default_rng(5)
    fifths = tuple(i / 5 for i in range(1, 6))
    by = policy("both", interim_analyses=fifths[:-1], guardrails=())
    wrong = 0
    for _ in range(30):
        parts = [
            runs(mix, at(0.0, fifths), web=False).assign(value=lambda f: 2 + 0.01 * rng.standard_normal(len(f)))
            for mix in ("base", "new")
        ]
        result = analyze_interim(pd.concat(parts), by, baseline="base", candidate="new", budget_tokens=BUDGET)
        wrong += any(analysis.outcome != "open" for analysis in result.analyses)
    assert wrong <= 5, "of 30, with an expectation of at most 1.5"


# --- the policy's keys


def test_a_policy_file_sets_early_stopping_and_typos_are_refused(tmp_path: Path) -> None:
    plain = "alpha: 0.05\nmin_seeds: 3\nprimary: [{task: code, metric: loss, better: lower}]\n"
    path = tmp_path / "team.yaml"
    path.write_text(plain)
    assert Policy.from_yaml(path).early_stopping == EarlyStopping(stop="none")
    path.write_text(
        f"{plain}early_stopping: {{stop: losers, interim_analyses: [0.1, 0.5], alpha_fraction: 0.3, min_persistence: 0.9}}\n"
    )
    assert Policy.from_yaml(path).early_stopping == EarlyStopping(
        stop="losers", interim_analyses=(0.1, 0.5), alpha_fraction=0.3, min_persistence=0.9
    )
    path.write_text(f"{plain}early_stopping: {{stopp: losers}}\n")
    with pytest.raises(AssayError, match="no field is called 'stopp'"):
        Policy.from_yaml(path)
    path.write_text(f"{plain}early_stopping: {{stop: loosers}}\n")
    with pytest.raises(AssayError, match="'loosers' is not one of 'none', 'losers', 'both'"):
        Policy.from_yaml(path)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"interim_analyses": ()}, "early_stopping.interim_analyses"),
        ({"interim_analyses": (0.5, 0.25)}, "early_stopping.interim_analyses"),
        ({"interim_analyses": (0.5, 1.0)}, "early_stopping.interim_analyses"),
        ({"interim_analyses": (0.0, 0.5)}, "early_stopping.interim_analyses"),
        ({"alpha_fraction": 0.0}, "early_stopping.alpha_fraction"),
        ({"alpha_fraction": 1.0}, "early_stopping.alpha_fraction"),
        ({"min_persistence": 1.5}, "early_stopping.min_persistence"),
    ],
)
def test_invalid_schedules_are_refused(given: dict[str, Any], key: str) -> None:
    with pytest.raises(AssayError, match=key):
        EarlyStopping(**given)


# --- verdicts of stopped candidates


def stop_of(outcome: str) -> early_stops.Stop:
    return early_stops.Stop(
        candidate="more_web",
        baseline="base",
        outcome=outcome,  # type: ignore[arg-type]
        fraction=0.25,
        tokens=768.0,
        reasons=(Reason(code=Code.WORSE, subject="code"),),
        at=0.0,
    )


@pytest.mark.parametrize(("outcome", "decision"), [("loser", "REJECT"), ("winner", "ACCEPT")])
def test_a_stopped_candidate_has_the_verdict_of_its_analysis_and_is_no_failure(
    tiny_study: Callable[..., Study], outcome: str, decision: str
) -> None:
    from assay.plan.workspace import Workspace

    space = Workspace(tiny_study(sweep__seeds=[0, 1, 2]))
    for mix in ("base", "no_books"):
        for seed in (0, 1, 2):
            finish(space, mix, seed)
    early_stops.write(space.store, "tiny", stop_of(outcome))
    early_stops.write(space.store, "tiny", replace(stop_of(outcome), fraction=0.5))  # the first stays
    verdict = decide_sweep(space, space.planner.plan()).candidates["more_web"]
    assert verdict.decision == decision
    figures = {"outcome": outcome, "fraction": 0.25, "tokens": 768.0}
    assert verdict.reasons[0] == Reason(code=Code.STOPPED_EARLY, subject="more_web", figures=figures)
    assert verdict.reasons[1:] == (Reason(code=Code.WORSE, subject="code"),)
    assert verdict.needed == ()
    assert first(verdict.scope, Code.SCOPE_STOPPED_EARLY).figures["tokens"] == 768


def test_a_stopped_candidate_that_was_trained_to_the_end_has_a_final_verdict(
    tiny_study: Callable[..., Study],
) -> None:
    from assay.plan.workspace import Workspace

    space = Workspace(tiny_study(sweep__seeds=[0, 1, 2]))
    for mix in ("base", "no_books", "more_web"):
        for seed in (0, 1, 2):
            finish(space, mix, seed, bits={"code": -0.1} if mix == "more_web" else None)
    early_stops.write(space.store, "tiny", stop_of("loser"))
    verdict = decide_sweep(space, space.planner.plan()).candidates["more_web"]
    assert verdict.decision == "ACCEPT"
    assert Code.STOPPED_EARLY not in codes(verdict.reasons)


def test_an_interim_analysis_names_scores_that_are_not_finite_and_stops_nothing() -> None:
    """A diverged seed is not evidence about the others."""
    table = pd.concat([runs("base", at(0.0)), runs("new", at(0.5))], ignore_index=True)
    whole = analyze_interim(table, policy(), baseline="base", candidate="new", budget_tokens=BUDGET)
    assert whole.stopped is not None
    marked = (table["mix"] == "new") & (table["seed"] == 1) & (table["task"] == "code")
    broken = table.assign(value=table["value"].where(~marked, math.inf))
    result = analyze_interim(broken, policy(), baseline="base", candidate="new", budget_tokens=BUDGET)
    assert result.stopped is None
    reason = first(result.reasons(), Code.SCORES_NOT_FINITE)
    assert (reason.subject, reason.figures["seeds"]) == ("new", (1,))


def test_an_interim_analysis_stops_no_candidate_for_a_metric_that_improves_by_construction() -> None:
    table = pd.concat([runs("base", at(0.5)), runs("new", at(0.0))], ignore_index=True)
    rule = policy("both", exclude_one_arm_sources=True)
    own = rule.primary[0]
    rule = replace(rule, primary=(replace(own, task="validation/code"),))
    table = table.assign(task=table["task"].replace("code", "validation/code"))
    arguments = {"baseline": "base", "candidate": "new", "budget_tokens": BUDGET}
    assert analyze_interim(table, rule, **arguments).stopped is not None  # type: ignore[arg-type]
    trained = {"base": ("web",), "new": ("web", "code")}
    result = analyze_interim(table, rule, trained=trained, **arguments)  # type: ignore[arg-type]
    assert result.stopped is None
    assert first(result.reasons(), Code.ONE_ARM_PRIMARY).subject == "validation/code"
