"""A user's tokenizer is accepted or refused before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, normalizers

from assay.analysis.verdict import decide_sweep
from assay.config.reason import Code
from assay.config.study import Study
from assay.core.errors import AssayError
from assay.core.files import read_json, write_json
from assay.core.fingerprint import fingerprint
from assay.core.serde import to_mapping
from assay.plan.prepare import prepare_corpora
from assay.plan.tokenizer_check import check_tokenizer
from assay.plan.workspace import Workspace
from tests.corpus import user_tokenizers as users
from tests.corpus.user_tokenizers import END, write_tokenizer
from tests.helpers.finished import finish

MakeStudy = Callable[..., Study]


def space_with(
    make: MakeStudy, tokenizer: Tokenizer, *, changes: dict[str, Any] | None = None, **fields: Any
) -> Workspace:
    """A study with a user's tokenizer, whose end is declared unless `fields` are given."""
    study = make()
    root = Path(study.paths.root)
    write_tokenizer(tokenizer, root / "tokenizer", changes=changes)
    declared = {"name": "ours", "file": "tokenizer", **(fields or {"end_token": END})}
    return Workspace(make(tokenizer=declared))


def test_a_right_tokenizer_needs_no_remark(tiny_study: MakeStudy) -> None:
    space = space_with(tiny_study, users.byte_level())
    assert [w for w in space.planner.plan().warnings if w.code.startswith("tokenizer")] == []
    assert space.runs.evaluation.encoding is None
    fields = to_mapping(space.runs.evaluation)
    for name in ("encoding", "task_files", "data_sets"):
        del fields[name]
    assert space.runs.evaluation.fingerprint == fingerprint("evaluation", fields)  # that of earlier versions


def test_an_unknown_end_stops_the_plan(tiny_study: MakeStudy) -> None:
    space = space_with(tiny_study, users.byte_level(), max_lost_fraction=0.01)
    with pytest.raises(AssayError, match="the end-of-text token of .* is unknown"):
        space.planner.plan()
    with pytest.raises(AssayError, match="is unknown"):
        prepare_corpora(space.sources, ["web"])


def test_a_finished_sweep_keeps_its_results_if_the_end_was_guessed(tiny_study: MakeStudy) -> None:
    tokenizer = users.byte_level(end="<|endoftext|>")
    before = space_with(tiny_study, tokenizer, end_token="<|endoftext|>")
    for mix in before.study.require_sweep().mixes:
        for seed in before.study.require_sweep().seeds:
            finish(before, mix, seed)
    plan = space_with(tiny_study, tokenizer, max_lost_fraction=0.01).planner.plan()
    assert {run.status for run in plan.runs} == {"reuse"}
    assert [w.code for w in plan.warnings if w.code.startswith("tokenizer")] == [Code.TOKENIZER_REFUSED]


def test_settings_that_are_not_used_are_in_the_plan(tiny_study: MakeStudy) -> None:
    tokenizer = users.template("<begin>", "$A")
    tokenizer.decoder = None
    cut = {"max_length": 512, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}
    space = space_with(tiny_study, tokenizer, changes={"dropout": 0.1, "truncation": cut})
    (adjusted,) = (w for w in space.planner.plan().warnings if w.code.startswith("tokenizer"))
    assert adjusted.code is Code.TOKENIZER_ADJUSTED
    assert adjusted.figures["changes"] == ("truncation", "sampling", "template", "decoder")
    assert adjusted.figures["template"] == ("<begin>",)


@pytest.mark.parametrize("dropped", [" ", "t"])
def test_a_source_that_loses_too_much_stops_the_plan(tiny_study: MakeStudy, dropped: str) -> None:
    tokenizer = users.byte_level()
    tokenizer.normalizer = normalizers.Replace(dropped, "")
    space = space_with(tiny_study, tokenizer)
    with pytest.raises(
        AssayError,
        match=rf"source 'books': the tokenizer loses \d+\.\d\d% of the source's bytes, for example '{dropped}'",
    ):
        space.planner.plan()


def test_a_small_loss_is_in_plan_manifest_evaluation_and_verdict(tiny_study: MakeStudy) -> None:
    tokenizer = users.byte_level()
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace("N", "n"), normalizers.NFKC()]
    )  # `None:` of the code
    space = space_with(tiny_study, tokenizer, end_token=END, max_lost_fraction=0.05)
    (sampled,) = [w for w in space.planner.plan().warnings if w.code is Code.TOKENIZER_LOSES_TEXT]
    assert (sampled.subject, sampled.figures["example"]) == ("code", "N")
    assert 0.01 < sampled.figures["fraction"] < 0.05
    assert space.runs.evaluation.encoding == 2

    prepare_corpora(space.sources, space.mixes.sweep_sources)
    (measured,) = [w for w in space.planner.plan().warnings if w.code is Code.TOKENIZER_LOSES_TEXT]
    assert measured.figures["fraction"] == pytest.approx(sampled.figures["fraction"], rel=0.5)

    for mix in space.study.require_sweep().mixes:
        for seed in space.study.require_sweep().seeds:
            finish(space, mix, seed)
    verdict = decide_sweep(space, space.planner.plan())
    assert [reason.subject for reason in verdict.note if reason.code is Code.TOKENIZER_LOSES_TEXT] == ["code"]

    stricter = space_with(tiny_study, tokenizer, end_token=END, max_lost_fraction=0.001)
    with pytest.raises(AssayError, match=r"expected at most 0\.10%"):
        check_tokenizer(stricter.sources, ["code"])


def test_a_corpus_of_an_earlier_version_is_measured_by_its_source(tiny_study: MakeStudy) -> None:
    tokenizer = users.byte_level()
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace("N", "n"), normalizers.NFKC()])
    space = space_with(tiny_study, tokenizer, end_token=END, max_lost_fraction=0.05)
    manifest = prepare_corpora(space.sources, ["code"])["code"] / "manifest.json"
    record = read_json(manifest)
    del record["validation_lost_bytes"]
    write_json(manifest, record)
    (reason,) = [reason for reason in check_tokenizer(space.sources, ["code"]) if reason.subject == "code"]
    assert reason.figures["example"] == "N"
    for file in space.sources.source("code").files:
        Path(file).unlink()
    assert check_tokenizer(space.sources, ["code"]) == []


@pytest.mark.parametrize(("pieces", "encoding"), [(("$A",), None), (("<begin>", "$A"), 2), (("$A", END), 2)])
def test_only_evaluations_that_change_get_another_identity(
    tiny_study: MakeStudy, pieces: tuple[str, ...], encoding: int | None
) -> None:
    space = space_with(tiny_study, users.template(*pieces))
    assert space.runs.evaluation.encoding == encoding


def test_the_vocabulary_covers_ids_beyond_a_gap(tiny_study: MakeStudy) -> None:
    tokenizer = users.byte_level()
    definition = json.loads(tokenizer.to_str())
    definition["model"]["vocab"]["zz"] = 70_000
    space = space_with(tiny_study, Tokenizer.from_str(json.dumps(definition)))
    assert space.runs.vocabulary == 70_001
