"""What a plan and a verdict report about mixes: sources without sequences, rescaled and capped weights, overridden keys."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from assay.config.reason import Code, Reason
from assay.config.study import Study
from assay.corpus.schedule import MixSchedule
from assay.plan.prepare import prepare_corpora
from assay.plan.workspace import Workspace
from tests.helpers.tiny import with_mix

MakeStudy = Callable[..., Study]
SEQUENCES = 96
"""Sequences of a run of the tiny study: 12 steps of 8."""


def _warnings(study: Study, code: Code, *, prepare: bool = False) -> dict[str, Reason]:
    """Return the warnings of a plan with a code, by subject."""
    space = Workspace(study)
    if prepare:
        prepare_corpora(space.sources, space.mixes.prepared_sources)
    return {warning.subject: warning for warning in space.planner.plan().warnings if warning.code is code}


def _one_mix(tiny_study: MakeStudy, weights: Mapping[str, float], **changes: Any) -> Study:
    return with_mix(tiny_study(sweep__candidates=["more_web"], **changes), "more_web", weights=dict(weights))


def test_a_plan_lists_a_source_that_no_sequence_shows(tiny_study: MakeStudy) -> None:
    few = _warnings(_one_mix(tiny_study, {"code": 0.5, "web": 0.4999, "books": 0.0001}), Code.FEW_SEQUENCES)
    assert set(few) == {"more_web"}
    assert few["more_web"].figures["sequences"] == SEQUENCES
    assert few["more_web"].figures["sources"] == {"books": {"sequences": 0, "requested": pytest.approx(0.0096)}}


def test_a_plan_lists_a_source_with_very_few_sequences(tiny_study: MakeStudy) -> None:
    few = _warnings(_one_mix(tiny_study, {"code": 0.75, "web": 3 / 96, "books": 21 / 96}), Code.FEW_SEQUENCES)
    assert few["more_web"].figures["sources"] == {"web": {"sequences": 3, "requested": pytest.approx(3)}}


def test_a_larger_budget_shows_the_source(tiny_study: MakeStudy) -> None:
    weights = {"code": 0.5, "web": 0.49, "books": 0.01}
    assert _warnings(_one_mix(tiny_study, weights), Code.FEW_SEQUENCES)
    assert not _warnings(_one_mix(tiny_study, weights, budget__tokens=2000 * 8 * 32), Code.FEW_SEQUENCES)


def test_the_plan_counts_the_sequences_that_a_run_with_many_sources_delivers(tiny_study: MakeStudy) -> None:
    """Regressions over mixes draw weights from a Dirichlet distribution, which gives many sources almost none."""
    drawn = np.random.default_rng(5).dirichlet(np.full(64, 0.3))
    weights = {f"part{i:02d}": float(weight) for i, weight in enumerate(drawn)}
    study = tiny_study(sweep__candidates=["more_web"])
    source = study.raw["source"]["web"]
    raw = {
        **study.raw,
        "source": {**study.raw["source"], **dict.fromkeys(weights, source)},
        "mix": {**study.raw["mix"], "more_web": {"weights": weights}},
    }
    [few] = _warnings(Study.parse(raw), Code.FEW_SEQUENCES).values()
    schedule = MixSchedule(weights, SEQUENCES)
    counts = dict(zip(schedule.names, schedule.counts(SEQUENCES).tolist(), strict=True))
    assert sum(counts.values()) == SEQUENCES
    never = {name for name, count in counts.items() if count == 0}
    assert len(never) > 20
    listed = few.figures["sources"]
    assert {name for name in listed if listed[name]["sequences"] == 0} == never
    assert {name: listed[name]["sequences"] for name in listed} == {name: counts[name] for name in listed}
    assert all(
        abs(counts[name] - weights[name] * SEQUENCES) <= 0.1 * weights[name] * SEQUENCES
        for name in set(counts) - set(listed)
    )


def test_a_source_that_only_one_stage_never_shows_is_listed_with_the_stage(tiny_study: MakeStudy) -> None:
    stages = [
        {"name": "first", "fraction": 0.75},
        {"name": "last", "fraction": 0.25, "mix": "no_books", "anneal": True},
    ]
    study = with_mix(
        tiny_study(sweep__candidates=["more_web"], stages=stages), "no_books", weights={"code": 0.99, "web": 0.01}
    )
    few = [warning for warning in Workspace(study).planner.plan().warnings if warning.code is Code.FEW_SEQUENCES]
    assert {(reason.subject, reason.figures["stage"]) for reason in few} == {("base", "last"), ("more_web", "last")}
    assert few[0].figures["sequences"] == SEQUENCES // 4
    assert set(few[0].figures["sources"]) == {"web"}


def test_a_declared_weight_of_0_is_no_warning(tiny_study: MakeStudy) -> None:
    assert not _warnings(_one_mix(tiny_study, {"code": 0.5, "web": 0.5, "books": 0}), Code.FEW_SEQUENCES)


def test_sums_other_than_1_are_listed_with_the_sum(tiny_study: MakeStudy) -> None:
    study = with_mix(tiny_study(), "base", weights={"code": 4, "web": 4, "books": 2})
    study = with_mix(study, "more_web", base="base", edits=[{"drop": "books"}, {"scale": {"web": 3}}])
    rescaled = _warnings(study, Code.WEIGHTS_RESCALED)
    assert {name: reason.figures for name, reason in rescaled.items()} == {
        "base": {"sum": 10.0, "edit": ""},
        "more_web": {"sum": pytest.approx(2.0), "edit": "scale web x3"},
    }
    assert "no_books" not in rescaled, "a drop keeps proportions, as its documentation says"


def test_the_mix_that_a_base_rescales_is_listed_although_no_arm_trains_on_it(tiny_study: MakeStudy) -> None:
    study = with_mix(tiny_study(sweep__candidates=["more_web"]), "no_books", weights={"code": 0.5, "web": 0.4})
    study = with_mix(study, "more_web", base="no_books", edits=[{"set": {"books": 0.2}}])
    assert set(_warnings(study, Code.WEIGHTS_RESCALED)) == {"no_books"}


def test_weights_that_a_cap_changes_are_listed(tiny_study: MakeStudy) -> None:
    study = tiny_study(sweep__candidates=["more_web"], tokenizer__sources=["code"])
    space = Workspace(study)
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    cap = 0.5 * SEQUENCES * 32 / space.sources.tokens(["code"])["code"]
    study = with_mix(study, "base", weights={"code": 0.9, "web": 0.1}, max_epochs=cap)
    capped = _warnings(study, Code.WEIGHTS_CAPPED)
    assert capped["base"].figures["sources"] == {
        "code": {"written": 0.9, "trained": pytest.approx(0.5)},
        "web": {"written": pytest.approx(0.1), "trained": pytest.approx(0.5)},
    }
    assert set(capped) == {"base"}, "no weight of the candidate reaches the cap"


def test_the_verdict_lists_what_the_plan_lists(tiny_study: MakeStudy) -> None:
    from assay.analysis.verdict import decide_sweep
    from assay.report.reason_text import to_json
    from assay.report.terminal.verdict import verdict_view
    from tests.helpers.finished import finish

    study = _one_mix(tiny_study, {"code": 0.6, "web": 0.5, "books": 0.00011})
    space = Workspace(study)
    for mix in ("base", "more_web"):
        for seed in (0, 1):
            finish(space, mix, seed)
    plan = space.planner.plan()
    verdict = decide_sweep(space, plan)
    assert [reason.code for reason in verdict.mixes] == [Code.FEW_SEQUENCES, Code.WEIGHTS_RESCALED]
    plain = json.loads(json.dumps(to_json(verdict)))
    assert plain["mixes"][0]["figures"]["sources"]["books"]["sequences"] == 0
    console = Console(width=200, file=io.StringIO())
    with console.capture() as captured:
        console.print(verdict_view(verdict))
    shown = captured.get()
    assert "warning: more_web: some sources get no or very few of the 96 sequences of a run: books 0" in shown
    assert "note: more_web: the weights sum to 1.10011" in shown
