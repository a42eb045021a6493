"""A plan runs nothing: it says of every run whether it is to do, reused, running or refused, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from assay.config.reason import Code, Reason
from assay.config.sweep import Sweep
from assay.core.errors import AssayError
from assay.plan.plan import Plan, Speed, StoredRun, make_plan
from tests.config.test_recipe import SPEC

SWEEP = Sweep(name="s", baseline="a", candidates=("b",), seeds=(0, 1))
SPECS = {(mix, seed): replace(SPEC, seed=seed, tokenizer=mix) for mix in SWEEP.mixes for seed in SWEEP.seeds}
FIRST = SPECS["a", 0].fingerprint


def plan(known: dict[str, StoredRun] | None = None, **changes: object) -> Plan:
    arguments = {
        "specs": SPECS, "refusals": {}, "waiting": {}, "tokens": SPEC.tokens, "known": known or {}, "evaluation": "e",
        "speed": Speed(1000.0, 10.0, "measured"), "workers": 2,
    }  # fmt: skip
    return make_plan(SWEEP, **{**arguments, **changes})  # type: ignore[arg-type]


def first(known: StoredRun, **changes: object) -> tuple[str, tuple[Reason, ...]]:
    run = plan({FIRST: known}, **changes).runs[0]
    return run.status, run.reasons


def test_a_run_without_a_record_is_to_do() -> None:
    assert [(run.label, run.status) for run in plan().runs] == [
        ("a s0", "todo"), ("a s1", "todo"), ("b s0", "todo"), ("b s1", "todo"),
    ]  # fmt: skip


def test_a_finished_run_is_reused_even_while_a_worker_holds_it() -> None:
    assert first(StoredRun("done", claimed=True, trained=True, evaluated=True))[0] == "reuse"


def test_a_run_that_a_worker_holds_is_running() -> None:
    assert first(StoredRun("training", claimed=True, trained=False, evaluated=False)) == (
        "running",
        (Reason(code=Code.IN_PROGRESS, figures={"state": "training"}),),
    )


def test_a_trained_run_without_this_evaluation_is_only_evaluated() -> None:
    made = plan({FIRST: StoredRun("done", claimed=False, trained=True, evaluated=False)})
    assert made.runs[0].reasons == (Reason(code=Code.EVALUATION_MISSING),)
    assert made.runs[0].seconds == pytest.approx(10.0)
    assert made.cost.tokens == 3 * SPEC.tokens


def test_a_crash_is_retried_and_a_divergence_only_on_request() -> None:
    crashed = StoredRun("failed", claimed=False, trained=False, evaluated=False, failure="killed: out of memory")
    assert first(crashed) == (
        "todo",
        (Reason(code=Code.ENDED_BEFORE, figures={"failure": "killed: out of memory"}),),
    )
    diverged = crashed._replace(state="diverged", failure="NaN at step 3")
    assert first(diverged)[0] == "refused"
    assert first(diverged, retry_failed=True)[0] == "todo"


def test_a_refused_mix_does_not_stop_the_others() -> None:
    blocked = Reason(code=Code.SOURCE_BLOCKED, subject="x")
    made = plan(refusals={"b": [blocked]}, specs={key: s for key, s in SPECS.items() if key[0] == "a"})
    assert [run.status for run in made.runs] == ["todo", "todo", "refused", "refused"]
    assert made.runs[2].reasons == (blocked,)


def test_a_mix_that_waits_for_its_corpora_is_to_do_and_costs_its_budget() -> None:
    made = plan(
        waiting={"b": Reason(code=Code.WAITING_FOR_TOKENS)}, specs={key: s for key, s in SPECS.items() if key[0] == "a"}
    )
    assert [(run.status, run.fingerprint is None) for run in made.runs[2:]] == [("todo", True)] * 2
    assert made.cost.runs == 4
    assert made.cost.tokens == 4 * SPEC.tokens


def test_cost_counts_a_run_that_two_arms_share_once() -> None:
    same = dict.fromkeys(SPECS, SPECS["a", 0])
    assert plan(specs=same).cost.runs == 1


def test_cost_covers_the_remaining_work_and_is_none_where_unknown() -> None:
    cost = plan().cost
    assert cost.worker_seconds == pytest.approx(4 * (SPEC.tokens / 1000 + 10))
    assert cost.wall_seconds == pytest.approx(cost.worker_seconds / 2)
    assert plan(speed=Speed(None, None, "nothing measured")).cost.wall_seconds is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": ()}, "at least one candidate"),
        ({"seeds": ()}, "one seed"),
        ({"candidates": ("a",)}, "is both baseline and candidate"),
        ({"candidates": ("b", "b")}, "`candidates` .* expected distinct values"),
        ({"seeds": (0, 0)}, "`seeds` .* expected distinct values"),
        ({"seeds": (-1,)}, "seed -1 is invalid"),
        ({"name": "a/b"}, "name 'a/b' is invalid"),
        ({"name": "a" * 101}, "101 characters is invalid"),
    ],
)
def test_an_invalid_sweep_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(AssayError, match=message):
        replace(SWEEP, **changes)
