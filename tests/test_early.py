"""Looks at candidates that still train: who is stopped, who waits, and that alpha is spent once."""

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

from assay import stopped
from assay.conclude import judge
from assay.early import Advice, Look, look
from assay.errors import AssayError
from assay.gate import decide
from assay.suite import Criterion, Early, Policy, Target
from tests.finished import finish

if TYPE_CHECKING:
    from assay.study import Study

QUARTERS = (0.25, 0.5, 0.75, 1.0)
BUDGET = 1000.0


def policy(stop: str = "losers", **changes: Any) -> Policy:
    early = Early(stop=stop, **{k: changes.pop(k) for k in ("looks", "spend", "held") if k in changes})  # type: ignore[arg-type]
    given: dict[str, Any] = {
        "name": "p",
        "primary": (Criterion(task="code", metric="loss", better="lower"),),
        "guardrails": (Criterion(task="web", metric="loss", better="lower", margin=0.05),),
        "alpha": 0.05,
        "min_seeds": 3,
        "early": early,
    }
    return Policy(**{**given, **changes})


def runs(
    mix: str, code: Mapping[float, float], *, seeds: int = 4, scale: str = "20M", web: bool = True
) -> pd.DataFrame:
    """A mix by its loss on code at each share of the budget; each seed a little different, and 1 on web."""
    wiggle = {0: -0.004, 1: 0.001, 2: 0.005, 3: -0.002}
    odd = 1 if len(mix) % 2 else -0.5
    return pd.DataFrame(
        {
            "mix": mix,
            "seed": seed,
            "scale": scale,
            "tokens": share * BUDGET,
            "task": task,
            "metric": "loss",
            "value": value + odd * wiggle[seed] * (1 + share / 10),
        }
        for share, own in code.items()
        for task, value in (("code", own), *([("web", 1.0)] if web else []))
        for seed in range(seeds)
    )


def at(gap: float, shares: tuple[float, ...] = QUARTERS) -> dict[float, float]:
    return {share: 2 + 1 / (1 + share) + gap for share in shares}


BASE = runs("base", at(0.0))


def seen(candidate: pd.DataFrame, by: Policy | None = None, **given: Any) -> Look:
    frame = pd.concat([BASE, candidate])
    return look(frame, by or policy(), baseline="base", candidate="new", budget_tokens=BUDGET, **given)


def test_a_clear_loser_is_stopped_by_the_first_look_and_a_later_one_does_not_take_it_back() -> None:
    found = seen(runs("new", {0.25: at(0.3)[0.25], 0.5: at(-0.3)[0.5]}))
    assert found.advice == Advice.LOSER
    assert found.stopped is not None
    assert (found.stopped.share, found.stopped.tokens) == (0.25, 250.0)
    assert "Stopped by the look at 25% of the budget (250 tokens) as a loser." in found.sentences()[0]
    assert "That a difference lasts to the end is not part of that." in found.sentences()[-1]


@pytest.mark.parametrize(("stop", "advice"), [("none", "GO ON"), ("losers", "GO ON"), ("both", "STOP as winner")])
def test_a_winner_is_stopped_only_where_the_policy_stops_both(stop: str, advice: str) -> None:
    found = seen(runs("new", at(-0.3, (0.25,))), policy(stop))
    assert found.advice == advice
    assert found.looks[0].outcome == "winner"


def test_nobody_is_stopped_without_a_difference() -> None:
    found = seen(runs("new", at(0.001, (0.25, 0.5, 0.75))))
    assert found.advice == Advice.GO_ON
    assert [one.outcome for one in found.looks] == ["open"] * 4
    assert found.looks[-1].waiting == "waits for new"


def test_looks_and_the_verdict_at_the_end_have_all_of_alpha_together() -> None:
    by = policy("losers", looks=(0.1, 0.25, 0.5, 0.9))
    found = seen(runs("new", at(0.001)), by)
    assert math.fsum(one.alpha for one in found.looks) == pytest.approx(by.alpha)
    last = found.looks[-1].verdict
    whole = pd.concat([BASE, runs("new", at(0.001))])
    gated = decide(whole[whole["tokens"] == BUDGET], by, baseline="base", candidate="new")
    assert last is not None
    assert last.comparisons[0].level == gated.comparisons[0].level == pytest.approx(1 - 0.8 * by.alpha)


def test_where_nobody_is_stopped_the_verdict_at_the_end_has_alpha_for_itself() -> None:
    whole = pd.concat([BASE, runs("new", at(0.001))])
    gated = decide(whole[whole["tokens"] == BUDGET], policy("none"), baseline="base", candidate="new")
    assert gated.comparisons[0].level == 0.95
    found = seen(runs("new", at(0.001)), policy("none"))
    seq = found.sequences()["code", "loss"]
    assert seq.level == pytest.approx(0.99), "of the looks before the end"
    assert seq.at == (250.0, 500.0, 750.0)


def test_always_valid_p_and_intervals_agree() -> None:
    for gap in (0.002, 0.01, 0.02, 0.05):
        seq = seen(runs("new", at(gap))).sequences()["code", "loss"]
        assert seq.level == 0.95
        for low, high, p in zip(seq.low, seq.high, seq.p, strict=True):
            assert (p <= 0.05) == (not low <= 0 <= high)


def test_a_look_waits_until_every_replicate_of_both_arms_is_there() -> None:
    """Who looks while seeds arrive would otherwise look once with three seeds and again with four."""
    late = runs("new", at(0.3, (0.25, 0.5)))
    late = late[~((late["seed"] == 3) & (late["tokens"] == 250))]
    found = seen(late)
    assert found.looks[0].waiting == "waits for new seed 3"
    assert found.stopped is not None
    assert found.stopped.share == 0.5
    assert seen(late[late["seed"] != 3], seeds=[0, 1, 2]).looks[0].verdict is not None


def test_whoever_looks_more_often_has_no_more_looks() -> None:
    often = {share / 100: at(0.0)[0.25] for share in range(25, 49)}
    frame = pd.concat([runs("base", often), runs("new", often)])
    found = look(frame, policy(), baseline="base", candidate="new", budget_tokens=BUDGET)
    assert [one.tokens for one in found.looks if one.verdict is not None] == [250.0]


def test_scores_before_the_first_look_decide_nothing() -> None:
    frame = pd.concat([runs("base", at(0.0, (0.1,))), runs("new", at(0.5, (0.1,)))])
    found = look(frame, policy(), baseline="base", candidate="new", budget_tokens=BUDGET)
    assert found.latest is None
    assert "Nothing to look at yet" in found.sentences()[0]


def test_a_guardrail_that_was_not_scored_on_the_way_keeps_a_winner_from_stopping_and_no_loser() -> None:
    shares = (0.25,)
    for gap, advice in ((-0.3, "GO ON"), (0.3, "STOP as loser")):
        frame = pd.concat([runs("base", at(0.0, shares), web=False), runs("new", at(gap, shares), web=False)])
        found = look(frame, policy("both"), baseline="base", candidate="new", budget_tokens=BUDGET)
        assert found.advice == advice
    assert (
        look(frame.assign(task="other"), policy(), baseline="base", candidate="new", budget_tokens=BUDGET)
        .looks[0]
        .waiting
        == "no primary metric was scored there"
    )


def history(turn: float, *, mixes: int = 12) -> pd.DataFrame:
    """Past mixes that are apart by 0.05 each; a `turn` of 1 keeps their order to the end, -1 turns it around."""
    parts = [
        runs(f"past{'x' * i}", {0.25: 2.8 + 0.05 * i, 1.0: 2.5 + turn * 0.05 * i}, scale="20M") for i in range(mixes)
    ]
    return pd.concat(parts)


@pytest.mark.parametrize(("turn", "advice", "told"), [(1, "STOP as loser", "100% of"), (-1, "GO ON", "0% of")])
def test_a_policy_may_ask_that_past_signals_held(turn: float, advice: str, told: str) -> None:
    found = seen(runs("new", at(0.3, (0.25,))), policy(held=0.9), history=history(turn))
    assert found.advice == advice
    assert any(told in sentence for sentence in found.sentences())


def test_without_a_history_nobody_knows_how_often_signals_hold_and_a_policy_that_asks_stops_nobody() -> None:
    found = seen(runs("new", at(0.3, (0.25,))), policy(held=0.9))
    assert found.advice == Advice.GO_ON
    assert "there is no history" in found.looks[0].waiting
    assert "is not known: no history" in " ".join(found.sentences())


def test_the_judged_mixes_teach_nothing() -> None:
    own = pd.concat([history(1, mixes=5), BASE, runs("new", at(0.3))])
    found = seen(runs("new", at(0.3, (0.25,))), history=own)
    assert found.looks[0].held[0].n_mixes == 5


TARGET = Target(scale="1B", task="code", metric="loss", better="lower")


def test_with_a_target_a_look_foretells_it_from_the_past_at_its_share_or_stops_nobody() -> None:
    """What stops a candidate must be about what the verdict at the end is about."""
    rows = history(1, mixes=30)
    ends = rows[rows["tokens"] == BUDGET]
    odd = 0.004 * (-1.0) ** (ends["mix"].str.len() // 2)
    far = ends.assign(scale="1B", tokens=9 * BUDGET, value=ends["value"] + odd - 0.5)
    by = policy(target=TARGET, proxy_scale="20M")
    told = seen(runs("new", at(0.6, (0.25,))), by, history=pd.concat([rows, far]))
    assert told.looks[0].verdict is not None
    target = told.looks[0].verdict.target
    assert target is not None
    assert target.effect == pytest.approx(0.6, rel=0.05)
    blind = seen(runs("new", at(0.6, (0.25,))), by, history=pd.concat([ends, far]))
    assert blind.advice == Advice.GO_ON
    assert "no scores near 25% of the budget to foretell 1B" in blind.looks[0].waiting


def test_curves_that_cross_are_called_right_where_they_were_looked_at() -> None:
    """The guarantee is about the look's tokens: what was worse at 25% may win at the end, and nothing here denies it."""
    crossing = {0.25: at(0.3)[0.25], 1.0: at(-0.3)[1.0]}
    found = seen(runs("new", crossing))
    assert found.advice == Advice.LOSER
    seq = found.sequences()["code", "loss"]
    assert seq.low[0] > 0
    assert seq.high[-1] < 0


def test_bad_tables_are_refused_by_name() -> None:
    with pytest.raises(AssayError, match="no column 'tokens'"):
        look(BASE.drop(columns="tokens"), policy(), baseline="base", candidate="new", budget_tokens=BUDGET)
    with pytest.raises(AssayError, match="candidate 'nwe' has no results"):
        look(BASE, policy(), baseline="base", candidate="nwe", budget_tokens=BUDGET)
    with pytest.raises(AssayError, match="more than the budget of 500"):
        look(pd.concat([BASE, runs("new", at(0.0))]), policy(), baseline="base", candidate="new", budget_tokens=500)


def test_a_look_is_plain_values_for_machines() -> None:
    found = seen(runs("new", at(0.3, (0.25,))), history=history(1))
    plain = json.loads(json.dumps(found.to_mapping(), allow_nan=False))
    assert plain["advice"] == "STOP as loser"
    assert plain["intervals"]["code loss"]["at"] == [250.0]
    assert plain["looks"][0]["verdict"]["verdict"] == "REJECT"


def test_a_mix_against_itself_is_stopped_in_few_cases_of_five_looks() -> None:
    rng = np.random.default_rng(5)
    fifths = tuple(i / 5 for i in range(1, 6))
    by = policy("both", looks=fifths[:-1], guardrails=())
    wrong = 0
    for _ in range(30):
        parts = [
            runs(mix, at(0.0, fifths), web=False).assign(value=lambda f: 2 + 0.01 * rng.standard_normal(len(f)))
            for mix in ("base", "new")
        ]
        found = look(pd.concat(parts), by, baseline="base", candidate="new", budget_tokens=BUDGET)
        wrong += any(one.outcome != "open" for one in found.looks)
    assert wrong <= 5, "of 30, where 1.5 are to be expected at most"


# --- the policy's keys


def test_a_policy_file_says_who_may_be_stopped_and_a_typo_is_refused(tmp_path: Path) -> None:
    plain = "alpha: 0.05\nmin_seeds: 3\nprimary: [{task: code, metric: loss, better: lower}]\n"
    path = tmp_path / "team.yaml"
    path.write_text(plain)
    assert Policy.from_yaml(path).early == Early(stop="none")
    path.write_text(f"{plain}early: {{stop: losers, looks: [0.1, 0.5], spend: 0.3, held: 0.9}}\n")
    assert Policy.from_yaml(path).early == Early(stop="losers", looks=(0.1, 0.5), spend=0.3, held=0.9)
    path.write_text(f"{plain}early: {{stopp: losers}}\n")
    with pytest.raises(AssayError, match="no field is called 'stopp'"):
        Policy.from_yaml(path)
    path.write_text(f"{plain}early: {{stop: loosers}}\n")
    with pytest.raises(AssayError, match="'loosers' is not one of 'none', 'losers', 'both'"):
        Policy.from_yaml(path)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"looks": ()}, "early.looks"),
        ({"looks": (0.5, 0.25)}, "early.looks"),
        ({"looks": (0.5, 1.0)}, "early.looks"),
        ({"looks": (0.0, 0.5)}, "early.looks"),
        ({"spend": 0.0}, "early.spend"),
        ({"spend": 1.0}, "early.spend"),
        ({"held": 1.5}, "early.held"),
    ],
)
def test_what_no_schedule_can_be_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(AssayError, match=told):
        Early(**given)


# --- what a verdict says of it


def stop_of(outcome: str) -> stopped.Stop:
    return stopped.Stop(
        candidate="more_web",
        baseline="base",
        outcome=outcome,  # type: ignore[arg-type]
        share=0.25,
        tokens=768.0,
        reasons=("code is worse.",),
        at=0.0,
    )


@pytest.mark.parametrize(("outcome", "decision"), [("loser", "REJECT"), ("winner", "ACCEPT")])
def test_a_candidate_that_was_stopped_has_the_verdict_of_its_look_and_is_no_failure(
    tiny_study: Callable[..., Study], outcome: str, decision: str
) -> None:
    from assay.workspace import Workspace

    space = Workspace(tiny_study(sweep__seeds=[0, 1, 2]))
    for mix in ("base", "no_books"):
        for seed in (0, 1, 2):
            finish(space, mix, seed)
    stopped.write(space.store, "tiny", stop_of(outcome))
    stopped.write(space.store, "tiny", replace(stop_of(outcome), share=0.5))  # the first stays
    one = judge(space, space.plan()).candidates["more_web"]
    assert one.decision == decision
    assert one.reasons[0].startswith(f"Stopped early as a {outcome}, by the look at 25% of the budget (768 tokens)")
    assert one.reasons[1:] == ("code is worse.",)
    assert one.needed == ()
    assert "768 tokens" in one.scope


def test_a_candidate_that_was_trained_to_the_end_all_the_same_is_judged_by_that(
    tiny_study: Callable[..., Study],
) -> None:
    from assay.workspace import Workspace

    space = Workspace(tiny_study(sweep__seeds=[0, 1, 2]))
    for mix in ("base", "no_books", "more_web"):
        for seed in (0, 1, 2):
            finish(space, mix, seed, bits={"code": -0.1} if mix == "more_web" else None)
    stopped.write(space.store, "tiny", stop_of("loser"))
    one = judge(space, space.plan()).candidates["more_web"]
    assert one.decision == "ACCEPT"
    assert not any("Stopped early" in reason for reason in one.reasons)
