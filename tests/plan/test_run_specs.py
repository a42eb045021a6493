"""Run specs: what enters the identity of a run, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from assay.config.study import Study
from assay.core.errors import AssayError
from assay.corpus.loader import SequenceReader
from assay.plan.mix_resolver import MixResolver
from assay.plan.prepare import prepare_corpora
from assay.plan.run_specs import RunSpecs
from assay.plan.source_index import SourceIndex
from assay.plan.workspace import Workspace
from assay.store.runs import Store
from tests.helpers.tiny import with_mix

MakeStudy = Callable[..., Study]


def test_fingerprints_are_known_before_preparation_and_do_not_change(tiny_study: MakeStudy) -> None:
    space = Workspace(tiny_study())
    before = space.runs.spec("base", 0).fingerprint
    assert not (space.store.root / "corpora").exists()
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    assert Workspace(space.study).runs.spec("base", 0).fingerprint == before


@pytest.mark.parametrize(
    "change",
    [
        {"cluster__workers": 2},
        {"training": {"keep_checkpoints": 5}},
        {"paths__store": "elsewhere"},
        {"policy__alpha": 0.1},
    ],
)
def test_settings_of_execution_are_no_part_of_the_identity(tiny_study: MakeStudy, change: dict) -> None:
    assert Workspace(tiny_study(**change)).runs.spec("base", 0) == Workspace(tiny_study()).runs.spec("base", 0)


def test_an_edit_of_a_sources_text_changes_only_runs_of_mixes_that_use_it(tiny_study: MakeStudy) -> None:
    overrides = {"tokenizer__sources": ["code", "web"]}
    before = Workspace(tiny_study(**overrides))
    specs = {mix: before.runs.spec(mix, 0).fingerprint for mix in ("base", "no_books")}
    books = before.study.paths.resolve(before.study.sources["books"].files[0])
    books.write_text(books.read_text() + '{"text": "one more"}\n')
    after = Workspace(before.study)
    assert after.runs.spec("no_books", 0).fingerprint == specs["no_books"]
    assert after.runs.spec("base", 0).fingerprint != specs["base"]


def test_equal_weights_by_different_edits_are_the_same_run(tiny_study: MakeStudy) -> None:
    study = tiny_study()
    spec_of_other = Workspace(with_mix(study, "other", base="base", edits=[{"drop": "books"}])).runs.spec("other", 0)
    assert spec_of_other.fingerprint == Workspace(study).runs.spec("no_books", 0).fingerprint


def test_a_cap_on_epochs_holds_in_the_run_spec(tiny_study: MakeStudy) -> None:
    space = Workspace(
        with_mix(
            tiny_study(steps=150, sweep__candidates=["more_web"]),
            "base",
            weights={"code": 0.98, "web": 0.02},
            max_epochs=1,
        )
    )
    prepare_corpora(space.sources, space.mixes.untokenized())
    spec = space.runs.spec("base", 0)
    assert spec.stages[0].weights["code"] == pytest.approx(
        space.sources.tokens(space.mixes.sweep_sources)["code"] / spec.tokens
    )
    assert SequenceReader.open(spec, space.store.corpora).delivered(spec.steps * spec.batch_sequences)["code"][
        "epochs"
    ] == pytest.approx(1, abs=0.01)


def test_a_cap_on_epochs_counts_the_tokens_of_earlier_stages(tiny_study: MakeStudy) -> None:
    stages = [{"name": "a", "fraction": 0.5, "mix": "base"}, {"name": "b", "fraction": 0.5, "anneal": True}]
    study = tiny_study(steps=250, stages=stages, sweep__candidates=["more_web"])
    mixes = {name: replace(mix, max_epochs=0.9) for name, mix in study.mixes.items()}
    space = Workspace(replace(study, mixes=mixes))
    prepare_corpora(space.sources, space.mixes.untokenized())
    given = SequenceReader.open(spec := space.runs.spec("more_web", 0), space.store.corpora).delivered(
        spec.steps * spec.batch_sequences
    )
    assert max(part["epochs"] for part in given.values()) == pytest.approx(0.9, abs=0.02)


def specs(study: Study) -> RunSpecs:
    sources = SourceIndex(study, Store(study.paths.resolve(study.paths.store)))
    return RunSpecs(study, MixResolver(study, sources))


def test_a_budget_is_cut_to_whole_steps(tiny_study: MakeStudy) -> None:
    runs = specs(tiny_study(budget={"tokens": 1000}))
    assert (runs.tokens_per_step, runs.steps, runs.budget) == (256, 3, 768)
    with pytest.raises(AssayError, match="255 tokens is invalid; expected at least 256"):
        _ = specs(tiny_study(budget={"tokens": 255})).steps


def test_seeds_of_an_arm_differ_in_the_seed_only(tiny_study: MakeStudy) -> None:
    runs = specs(tiny_study())
    assert runs.spec("base", 7) == replace(runs.spec("base", 0), seed=7)


def test_labels_name_the_role_of_a_run(tiny_study: MakeStudy) -> None:
    runs = specs(tiny_study())
    assert [runs.labels(arm, 0)["role"] for arm in ("base", "more_web")] == ["baseline", "candidate"]
    assert runs.labels("base", 1)["parameters"] == runs.parameters


def test_an_evaluation_measures_the_held_out_text_of_every_source(tiny_study: MakeStudy) -> None:
    runs = specs(tiny_study())
    assert runs.evaluation.validation == {name: runs.mixes.sources.corpus_id(name) for name in ("books", "code", "web")}
    assert specs(tiny_study(suite__validation_bytes=0)).evaluation.validation == {}
