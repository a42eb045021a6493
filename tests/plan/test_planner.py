"""Plans: what is refused, what waits, what is reused, and what the plan warns about."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from assay.config.reason import Code, Reason
from assay.config.study import Study
from assay.core.errors import AssayError
from assay.launch.status import overview
from assay.plan.prepare import prepare_corpora
from assay.plan.workspace import Workspace
from assay.store.runs import Failure
from tests.helpers.finished import finish
from tests.helpers.tiny import with_mix

MakeStudy = Callable[..., Study]


def test_a_natural_mix_has_sources_at_once_and_weights_after_tokenization(tiny_study: MakeStudy) -> None:
    space = Workspace(
        with_mix(tiny_study(sweep__candidates=["more_web"]), "base", natural={"sources": ["code", "web"]})
    )
    assert space.mixes.source_names("base") == ("code", "web")
    [waiting] = space.planner.plan().runs[0].reasons
    assert (waiting.code, waiting.figures["sources"]) == (Code.WAITING_FOR_TOKENS, ("code", "web"))
    assert space.planner.plan().runs[0].status == "todo"
    with pytest.raises(AssayError, match="need the tokens of code, web"):
        space.runs.spec("base", 0)
    prepare_corpora(space.sources, space.mixes.untokenized())
    assert space.mixes.untokenized() == []
    tokens = space.sources.tokens(space.mixes.sweep_sources)
    weights = space.runs.spec("base", 0).stages[0].weights
    assert weights["code"] == pytest.approx(tokens["code"] / (tokens["code"] + tokens["web"]))


def test_text_archived_after_tokenization_invalidates_no_run(tiny_study: MakeStudy) -> None:
    study = tiny_study()
    before = Workspace(study)
    prepare_corpora(before.sources, before.mixes.sweep_sources)
    spec = before.runs.spec("base", 0)
    study.paths.resolve(study.sources["books"].files[0]).unlink()
    after = Workspace(study)
    assert after.runs.spec("base", 0) == spec
    assert {run.status for run in after.planner.plan().runs} == {"todo"}


def test_text_missing_before_tokenization_refuses_only_the_mixes_that_use_it(tiny_study: MakeStudy) -> None:
    study = tiny_study(tokenizer__sources=["code", "web"])
    study.paths.resolve(study.sources["books"].files[0]).unlink()
    plan = Workspace(study).planner.plan()
    assert {run.mix for run in plan.of("refused")} == {"base", "more_web"}
    assert {run.mix for run in plan.of("todo")} == {"no_books"}


def test_a_tokenizer_is_not_trained_on_uncleared_sources(tiny_study: MakeStudy) -> None:
    study = tiny_study(tokenizer__sources=["code", "books"], source__books__clearance={"state": "blocked"})
    assert {run.status for run in Workspace(study).planner.plan().runs} == {"refused"}


def test_a_policy_with_a_task_outside_the_suite_is_refused_before_training(
    tiny_study: MakeStudy,
) -> None:
    criterion = {"task": "validation/bokks", "metric": "bits_per_byte", "better": "lower"}
    with pytest.raises(AssayError, match="validation/bokks'.*Did you mean 'validation/books'"):
        Workspace(tiny_study(policy__primary=[criterion])).planner.plan()


def test_a_task_of_an_aggregate_outside_the_suite_is_refused_before_training(tiny_study: MakeStudy) -> None:
    own = {"name": "all", "metric": "bits_per_byte", "tasks": ["validation/books", "validation/bokks"]}
    with pytest.raises(AssayError, match="validation/bokks'.*Did you mean 'validation/books'"):
        Workspace(tiny_study(policy__aggregate=own)).planner.plan()


def test_a_candidate_equal_to_the_baseline_is_reported(tiny_study: MakeStudy) -> None:
    space = Workspace(with_mix(tiny_study(sweep__candidates=["same"]), "same", base="base"))
    same = Reason(code=Code.SAME_AS_BASELINE, subject="same", figures={"baseline": "base"})
    assert space.planner.plan().warnings == (same,)


def test_a_damaged_status_affects_its_own_run_only(tiny_study: MakeStudy) -> None:
    space = Workspace(tiny_study())
    run = space.store.run(space.runs.spec("base", 0).fingerprint)
    run.create(space.runs.spec("base", 0), {})
    (run.path / "status.json").write_text('{"state": "trai')
    (run.path / "spec.json").write_text("{")
    assert {planned.status for planned in space.planner.plan().runs} == {"todo"}
    run.create(space.runs.spec("base", 0), {})
    assert run.spec() == space.runs.spec("base", 0)


def test_an_outline_has_the_runs_of_a_plan(tiny_study: MakeStudy) -> None:
    study = tiny_study(
        sweep__seeds=[0, 1, 2], source__books__clearance={"state": "blocked"}, tokenizer__sources=["web"]
    )
    study = with_mix(study, "base", weights={"code": 0.5, "web": 0.5})
    space = Workspace(with_mix(study, "no_books", weights={"books": 1.0}))
    finish(space, "base", 0)
    for seed, state in ((1, "diverged"), (2, "training")):
        run = space.store.run(space.runs.spec("base", seed).fingerprint)
        run.create(space.runs.spec("base", seed), {})
        run.update(state=state, failure=Failure(kind="diverged", message="the loss is 9") if seed == 1 else None)
    plan, outline = space.planner.plan(), space.planner.outline()
    assert {run.status for run in plan.runs} == {"reuse", "refused", "todo"}
    assert [run.fingerprint for run in outline.runs] == [run.fingerprint for run in plan.runs]
    seen, as_well = (overview(space.store, which, now=0.0) for which in (plan, outline))
    assert seen.counts == as_well.counts
    assert seen.counts["diverged"] == seen.counts["done"] == seen.counts["stale"] == 1
    assert seen.runs == as_well.runs


def test_an_arm_is_refused_for_its_sources_or_for_unattainable_weights(tiny_study: MakeStudy) -> None:
    study = tiny_study(tokenizer__sources=["code"], source__books__clearance={"state": "blocked"})
    planner = Workspace(with_mix(study, "more_web", weights={"code": 1.0}, max_epochs=0.001)).planner
    prepare_corpora(planner.mixes.sources, ["code"])
    assert planner.refusals("no_books") == []
    assert [(why.code, why.subject) for why in planner.refusals("base")] == [(Code.SOURCE_BLOCKED, "books")]
    assert ["max_epochs" in refusal.figures["error"] for refusal in planner.refusals("more_web")] == [True]
