"""A study on this machine: what has to be made before what is known, and what bears identity."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from assay.errors import AssayError
from assay.launch.status import overview
from assay.mixes import MixDeclaration
from assay.store import Failure
from assay.study import Study
from assay.workspace import LOOKED_AT, SAMPLE, Workspace
from tests.finished import finish

MakeStudy = Callable[..., Study]


def with_mix(study: Study, name: str, **raw: object) -> Workspace:
    return Workspace(replace(study, mixes={**study.mixes, name: MixDeclaration.parse(name, raw)}))


def test_fingerprints_are_known_before_anything_is_made_and_stay(tiny_study: MakeStudy) -> None:
    space = Workspace(tiny_study())
    before = space.spec("base", 0).fingerprint
    assert not (space.store.root / "corpora").exists()
    space.prepare()
    assert Workspace(space.study).spec("base", 0).fingerprint == before


def test_a_natural_mix_knows_its_sources_at_once_and_its_weights_once_they_are_tokenised(tiny_study: MakeStudy) -> None:
    space = with_mix(tiny_study(sweep__candidates=["more_web"]), "base", natural={"sources": ["code", "web"]})
    assert space.names("base") == ("code", "web")
    assert "code, web" in space.plan().runs[0].reasons[0]
    assert space.plan().runs[0].status == "todo"
    with pytest.raises(AssayError, match="need the tokens of code, web"):
        space.spec("base", 0)
    space.prepare(space.unmeasured())
    assert space.unmeasured() == []
    tokens = space.tokens
    weights = space.spec("base", 0).stages[0].weights
    assert weights["code"] == pytest.approx(tokens["code"] / (tokens["code"] + tokens["web"]))


def test_a_cap_on_epochs_holds_in_what_a_run_is_given(tiny_study: MakeStudy) -> None:
    space = with_mix(
        tiny_study(steps=150, sweep__candidates=["more_web"]), "base", weights={"code": 0.98, "web": 0.02}, max_epochs=1
    )
    space.prepare(space.unmeasured())
    spec = space.spec("base", 0)
    assert spec.stages[0].weights["code"] == pytest.approx(space.tokens["code"] / spec.tokens)
    assert space.reader(spec).delivered(spec.steps * spec.batch_sequences)["code"]["epochs"] == pytest.approx(
        1, abs=0.01
    )


@pytest.mark.parametrize(
    "change",
    [
        {"cluster__workers": 2},
        {"training": {"keep_checkpoints": 5}},
        {"paths__store": "elsewhere"},
        {"policy__alpha": 0.1},
    ],
)
def test_where_and_how_a_run_is_made_bears_no_identity(tiny_study: MakeStudy, change: dict) -> None:
    assert Workspace(tiny_study(**change)).spec("base", 0) == Workspace(tiny_study()).spec("base", 0)


def test_an_edit_of_a_sources_text_makes_other_runs_of_the_mixes_that_use_it_only(tiny_study: MakeStudy) -> None:
    overrides = {"tokenizer__sources": ["code", "web"]}
    before = Workspace(tiny_study(**overrides))
    specs = {mix: before.spec(mix, 0).fingerprint for mix in ("base", "no_books")}
    books = before.study.paths.resolve(before.study.sources["books"].files[0])
    books.write_text(books.read_text() + '{"text": "one more"}\n')
    after = Workspace(before.study)
    assert after.spec("no_books", 0).fingerprint == specs["no_books"]
    assert after.spec("base", 0).fingerprint != specs["base"]


def test_equal_weights_reached_by_other_edits_are_the_same_run(tiny_study: MakeStudy) -> None:
    study = tiny_study()
    one = with_mix(study, "other", base="base", edits=[{"drop": "books"}]).spec("other", 0)
    assert one.fingerprint == Workspace(study).spec("no_books", 0).fingerprint


def test_text_that_is_archived_once_it_is_tokenised_takes_no_run_along(tiny_study: MakeStudy) -> None:
    study = tiny_study()
    before = Workspace(study)
    before.prepare()
    spec = before.spec("base", 0)
    study.paths.resolve(study.sources["books"].files[0]).unlink()
    after = Workspace(study)
    assert after.spec("base", 0) == spec
    assert {run.status for run in after.plan().runs} == {"todo"}


def test_text_that_is_gone_before_it_was_tokenised_refuses_the_mixes_that_use_it_only(tiny_study: MakeStudy) -> None:
    study = tiny_study(tokenizer__sources=["code", "web"])
    study.paths.resolve(study.sources["books"].files[0]).unlink()
    plan = Workspace(study).plan()
    assert {run.mix for run in plan.of("refused")} == {"base", "more_web"}
    assert {run.mix for run in plan.of("todo")} == {"no_books"}


def test_a_source_that_is_not_cleared_is_neither_tokenised_nor_measured(tiny_study: MakeStudy) -> None:
    study = tiny_study(tokenizer__sources=["code", "web"], source__books__clearance={"state": "blocked"})
    space = Workspace(study)
    assert "books" not in space.sources
    assert "books" not in space.evaluation.validation
    with pytest.raises(AssayError, match="source 'books' is blocked; it is not tokenised"):
        space.prepare(["books"])


def test_a_tokenizer_is_not_trained_on_what_is_not_cleared(tiny_study: MakeStudy) -> None:
    study = tiny_study(tokenizer__sources=["code", "books"], source__books__clearance={"state": "blocked"})
    assert {run.status for run in Workspace(study).plan().runs} == {"refused"}


def test_a_cap_on_epochs_counts_what_earlier_stages_took(tiny_study: MakeStudy) -> None:
    stages = [{"name": "a", "share": 0.5, "mix": "base"}, {"name": "b", "share": 0.5, "anneal": True}]
    study = tiny_study(steps=250, stages=stages, sweep__candidates=["more_web"])
    mixes = {name: replace(mix, max_epochs=0.9) for name, mix in study.mixes.items()}
    space = Workspace(replace(study, mixes=mixes))
    space.prepare(space.unmeasured())
    given = space.reader(spec := space.spec("more_web", 0)).delivered(spec.steps * spec.batch_sequences)
    assert max(part["epochs"] for part in given.values()) == pytest.approx(0.9, abs=0.02)


def test_a_policy_that_asks_for_what_the_suite_does_not_measure_is_refused_before_training(
    tiny_study: MakeStudy,
) -> None:
    criterion = {"task": "validation/bokks", "metric": "bits_per_byte", "better": "lower"}
    with pytest.raises(AssayError, match="validation/bokks.*Did you mean 'validation/books'"):
        Workspace(tiny_study(policy__primary=[criterion])).plan()


def test_a_candidate_that_is_the_baseline_is_told_of(tiny_study: MakeStudy) -> None:
    space = with_mix(tiny_study(sweep__candidates=["same"]), "same", base="base")
    assert space.plan().warnings == ("same ends with the weights of base: its runs are the baseline's own.",)


def test_a_plan_before_the_first_run_takes_the_speed_that_was_tried(tiny_study: MakeStudy) -> None:
    space = Workspace(tiny_study())
    assert space.plan().cost.wall_seconds is None
    space.remember_speed(1000.0)
    cost = space.plan().cost
    assert cost.worker_seconds == pytest.approx(cost.tokens / 1000)
    assert "assay doctor" in cost.basis


def test_a_damaged_status_costs_its_own_run_only(tiny_study: MakeStudy) -> None:
    space = Workspace(tiny_study())
    run = space.store.run(space.spec("base", 0).fingerprint)
    run.create(space.spec("base", 0), {})
    (run.path / "status.json").write_text('{"state": "trai')
    (run.path / "spec.json").write_text("{")
    assert {planned.status for planned in space.plan().runs} == {"todo"}
    run.create(space.spec("base", 0), {})
    assert run.spec() == space.spec("base", 0)


def timed(space: Workspace, seed: int, *, rate: float, at: float, **changes: object) -> None:
    """Record a run that trained at so many tokens a second, and was last touched at some time."""
    spec = replace(space.spec("base", seed), **changes)
    run = space.store.run(spec.fingerprint)
    run.create(spec, {})
    run.update(state="done", tokens=1000, train_seconds=1000 / rate, evaluate_seconds=7.0)
    os.utime(run.path, (at, at))


def test_speed_is_taken_from_the_newest_runs_of_the_proxy(tiny_study: MakeStudy) -> None:
    """However many older ones the store has: machines change, and reading thousands of records takes seconds."""
    space = Workspace(tiny_study())
    for seed in range(SAMPLE + 1):
        timed(space, seed, rate=100.0, at=1000.0)
    for seed in range(100, 100 + SAMPLE):
        timed(space, seed, rate=300.0, at=2000.0)
    other = replace(space.study.proxy, layers=8)
    timed(space, 0, rate=1.0, at=3000.0, model=other)
    assert space.speed() == (pytest.approx(300.0), 7.0, f"measured on {SAMPLE} runs of this proxy")


def test_speed_is_found_behind_runs_that_have_none_yet(tiny_study: MakeStudy) -> None:
    """A sweep that was just submitted has put its folders before those of the runs that were measured."""
    space = Workspace(tiny_study())
    timed(space, 0, rate=100.0, at=1000.0)
    for seed in range(1, LOOKED_AT + 2):
        run = space.store.run(space.spec("base", seed).fingerprint)
        run.create(space.spec("base", seed), {})
    assert space.speed().tokens_per_second == pytest.approx(100.0)


def test_a_damaged_record_of_another_run_costs_no_speed(tiny_study: MakeStudy) -> None:
    space = Workspace(tiny_study())
    timed(space, 0, rate=100.0, at=1000.0)
    timed(space, 1, rate=300.0, at=2000.0)
    (space.store.run(space.spec("base", 1).fingerprint).path / "spec.json").write_text("{}")
    (space.store.root / "runs" / "notes.txt").write_text("a file of somebody's")
    assert space.speed().tokens_per_second == pytest.approx(100.0)


def test_an_outline_shows_where_runs_stand_as_a_plan_does(tiny_study: MakeStudy) -> None:
    study = tiny_study(
        sweep__seeds=[0, 1, 2], source__books__clearance={"state": "blocked"}, tokenizer__sources=["web"]
    )
    study = with_mix(study, "base", weights={"code": 0.5, "web": 0.5}).study
    space = with_mix(study, "no_books", weights={"books": 1.0})
    finish(space, "base", 0)
    for seed, state in ((1, "diverged"), (2, "training")):
        run = space.store.run(space.spec("base", seed).fingerprint)
        run.create(space.spec("base", seed), {})
        run.update(state=state, failure=Failure(kind="diverged", message="the loss is 9") if seed == 1 else None)
    plan, outline = space.plan(), space.outline()
    assert {run.status for run in plan.runs} == {"reuse", "refused", "todo"}
    assert [run.fingerprint for run in outline.runs] == [run.fingerprint for run in plan.runs]
    seen, as_well = (overview(space.store, which, now=0.0) for which in (plan, outline))
    assert seen.counts == as_well.counts
    assert seen.counts["diverged"] == seen.counts["done"] == seen.counts["stale"] == 1
    assert seen.runs == as_well.runs
