"""A plan runs nothing: it says of every run whether it is to do, reused, running or refused, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from assay.errors import AssayError
from assay.plan import Known, Plan, Speed, Sweep, make_plan
from tests.test_recipe import SPEC

SWEEP = Sweep(name="s", baseline="a", candidates=("b",), seeds=(0, 1))
SPECS = {(mix, seed): replace(SPEC, seed=seed, tokenizer=mix) for mix in SWEEP.mixes for seed in SWEEP.seeds}
FIRST = SPECS["a", 0].fingerprint


def plan(known: dict[str, Known] | None = None, **changes: object) -> Plan:
    arguments = {
        "specs": SPECS, "refusals": {}, "waiting": {}, "tokens": SPEC.tokens, "known": known or {}, "evaluation": "e",
        "speed": Speed(1000.0, 10.0, "measured"), "workers": 2,
    }  # fmt: skip
    return make_plan(SWEEP, **{**arguments, **changes})  # type: ignore[arg-type]


def first(known: Known, **changes: object) -> tuple[str, tuple[str, ...]]:
    run = plan({FIRST: known}, **changes).runs[0]
    return run.status, run.reasons


def test_a_run_that_nobody_has_seen_is_to_do() -> None:
    assert [(run.label, run.status) for run in plan().runs] == [
        ("a s0", "todo"), ("a s1", "todo"), ("b s0", "todo"), ("b s1", "todo"),
    ]  # fmt: skip


def test_a_finished_run_is_reused_even_while_somebody_holds_it() -> None:
    assert first(Known("done", claimed=True, trained=True, evaluated=True))[0] == "reuse"


def test_a_run_that_somebody_works_on_is_running() -> None:
    assert first(Known("training", claimed=True, trained=False, evaluated=False)) == ("running", ("training",))


def test_a_trained_run_without_this_evaluation_is_only_evaluated() -> None:
    made = plan({FIRST: Known("done", claimed=False, trained=True, evaluated=False)})
    assert made.runs[0].reasons == ("trained; this evaluation is missing",)
    assert made.runs[0].seconds == pytest.approx(10.0)
    assert made.cost.tokens == 3 * SPEC.tokens


def test_a_crash_is_tried_again_and_a_divergence_is_not_unless_asked() -> None:
    crashed = Known("failed", claimed=False, trained=False, evaluated=False, failure="killed: out of memory")
    assert first(crashed) == ("todo", ("ended before: killed: out of memory",))
    diverged = crashed._replace(state="diverged", failure="NaN at step 3")
    assert first(diverged)[0] == "refused"
    assert first(diverged, retry_failed=True)[0] == "todo"


def test_a_refused_mix_leaves_the_others_to_run() -> None:
    made = plan(refusals={"b": ["source 'x' is blocked"]}, specs={key: s for key, s in SPECS.items() if key[0] == "a"})
    assert [run.status for run in made.runs] == ["todo", "todo", "refused", "refused"]
    assert made.runs[2].reasons == ("source 'x' is blocked",)


def test_a_mix_whose_weights_wait_for_its_corpora_is_to_do_and_costs_its_budget() -> None:
    made = plan(waiting={"b": "tokenises x first"}, specs={key: s for key, s in SPECS.items() if key[0] == "a"})
    assert [(run.status, run.fingerprint is None) for run in made.runs[2:]] == [("todo", True)] * 2
    assert made.cost.runs == 4
    assert made.cost.tokens == 4 * SPEC.tokens


def test_cost_counts_a_run_once_though_two_arms_share_it() -> None:
    same = dict.fromkeys(SPECS, SPECS["a", 0])
    assert plan(specs=same).cost.runs == 1


def test_cost_is_of_what_is_left_and_says_what_it_does_not_know() -> None:
    cost = plan().cost
    assert cost.worker_seconds == pytest.approx(4 * (SPEC.tokens / 1000 + 10))
    assert cost.wall_seconds == pytest.approx(cost.worker_seconds / 2)
    assert plan(speed=Speed(None, None, "nothing measured")).cost.wall_seconds is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": ()}, "at least one candidate"),
        ({"seeds": ()}, "one seed"),
        ({"candidates": ("a",)}, "baseline and candidate"),
        ({"candidates": ("b", "b")}, "name one twice"),
        ({"seeds": (0, 0)}, "name one twice"),
        ({"seeds": (-1,)}, "below 0"),
        ({"name": "a/b"}, "not a usable name"),
        ({"name": "a" * 101}, "has 101 characters"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(AssayError, match=message):
        replace(SWEEP, **changes)
