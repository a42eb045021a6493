"""The index of sources: digests, corpora, token counts, taints and refusals of named sources."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.config.reason import Code
from assay.config.study import Study
from assay.core.errors import AssayError, Damaged, NotFound
from assay.corpus.manifest import read_manifest
from assay.plan.prepare import prepare_corpora
from assay.plan.source_index import SourceIndex
from assay.plan.workspace import Workspace
from assay.store.runs import Store

MakeStudy = Callable[..., Study]


def index(study: Study, **arguments: dict[str, str]) -> SourceIndex:
    return SourceIndex(study, Store(study.paths.resolve(study.paths.store)), **arguments)


def text_of(study: Study, source: str) -> Path:
    return study.paths.resolve(study.sources[source].files[0])


def test_files_of_a_source_are_resolved_against_the_project(tiny_study: MakeStudy) -> None:
    study = tiny_study()
    assert index(study).source("web").files == (str(text_of(study, "web")),)


def test_an_unknown_source_is_refused_with_the_closest_name(tiny_study: MakeStudy) -> None:
    with pytest.raises(AssayError, match="'bokks'.*Did you mean 'books'"):
        index(tiny_study()).source("bokks")


def test_an_index_needs_no_sweep_where_the_tokenizer_names_its_sources(tiny_study: MakeStudy) -> None:
    with_sweep, study = tiny_study(), tiny_study(sweep=None, tokenizer__sources=["books", "code", "web"])
    assert index(study).corpus_id("web") == index(with_sweep).corpus_id("web")


def test_a_tokenizer_without_sources_is_trained_on_those_of_the_baseline(tiny_study: MakeStudy) -> None:
    assert index(tiny_study(sweep__baseline="no_books", sweep__candidates=["base"])).tokenizer.sources == (
        "code",
        "web",
    )
    with pytest.raises(AssayError, match="sweep"):
        _ = index(tiny_study(sweep=None)).tokenizer_id


def test_a_frozen_digest_is_not_read_from_the_files(tiny_study: MakeStudy) -> None:
    sources = index(tiny_study(), digests={"web": "0" * 64})
    assert sources.digest("web") == "0" * 64
    assert sources.digests(["web", "code"]) == {"web": "0" * 64, "code": sources.digest("code")}


def test_tokens_are_those_of_the_sources_that_are_tokenized(tiny_study: MakeStudy) -> None:
    sources = index(tiny_study())
    assert sources.tokens(["web", "code"]) == {}
    prepare_corpora(sources, ["web"])
    assert sources.tokens(["web", "code"]).keys() == {"web"}
    manifest = read_manifest(sources.corpus_folder("web"))
    assert sources.bytes_per_token(["web", "code"]) == {"web": manifest.bytes / manifest.tokens}


def test_a_recorded_digest_remains_after_its_text_is_removed(tiny_study: MakeStudy) -> None:
    study = tiny_study(tokenizer__sources=["code"])
    digests = index(study).digests(["books", "web"])
    prepare_corpora(index(study), ["books"])
    for name in digests:
        text_of(study, name).unlink()
    assert index(study).digest("books") == digests["books"]
    assert index(study).refusals("books") == []
    with pytest.raises(AssayError, match="web"):
        index(study).digest("web")
    assert len(index(study).refusals("web")) == 1


def test_frozen_digests_are_not_recorded_as_if_they_were_read(tiny_study: MakeStudy) -> None:
    study = tiny_study()
    sources = index(study, digests={"web": "0" * 64})
    sources.record_digest("web")
    text_of(study, "web").unlink()
    with pytest.raises(AssayError):
        index(study).digest("web")


def test_a_source_without_text_has_no_token_count(tiny_study: MakeStudy) -> None:
    study = tiny_study(tokenizer__sources=["code"])
    text_of(study, "web").unlink()
    assert index(study).tokens(["web"]) == index(study).bytes_per_token(["web"]) == {}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"source__web__clearance": {"state": "blocked"}}, Code.SOURCE_BLOCKED),
        ({"taint__provenance": ["origin", "snapshot"]}, Code.SOURCE_UNSTATED),
    ],
)
def test_a_source_is_refused_for_clearance_and_provenance(
    tiny_study: MakeStudy, change: dict[str, object], reason: Code | None
) -> None:
    refusals = index(tiny_study(**change)).refusals("web")
    assert len(refusals) == (reason is not None)
    assert [refusal.code for refusal in refusals] == ([] if reason is None else [reason])


def test_a_damaged_digest_is_reported_as_damaged_not_as_missing_text(tiny_study: MakeStudy) -> None:
    study = tiny_study()
    space = Workspace(study)
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    study.paths.resolve(study.sources["books"].files[0]).unlink()
    (record,) = (
        path
        for path in (space.store.corpora / "sources").iterdir()
        if space.sources.digest("books") in path.read_text()
    )
    for content in ("{", "[]", "{}"):
        record.write_text(content)
        with pytest.raises(Damaged, match=re.escape(str(record))) as error:
            Workspace(study).sources.digest("books")
        assert error.value.fix
    record.unlink()
    with pytest.raises(NotFound, match="no file matches"):
        Workspace(study).sources.digest("books")


def test_a_damaged_manifest_is_reported_as_damaged_not_as_untokenized(tiny_study: MakeStudy) -> None:
    space = Workspace(tiny_study())
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    folder = space.sources.corpus_folder("books")
    (folder / "manifest.json").write_text("{")
    damaged = Workspace(space.study)
    names = damaged.mixes.sweep_sources
    for read in (
        lambda: damaged.sources.tokens(names),
        damaged.planner.plan,
        lambda: damaged.sources.bytes_per_token(names),
    ):
        with pytest.raises(Damaged, match=re.escape(str(folder))) as error:
            read()
        assert error.value.fix
    (folder / "manifest.json").unlink()
    assert "books" not in damaged.sources.tokens(names)


def test_a_source_with_an_empty_file_is_refused_before_its_corpus_is_made(tiny_study: MakeStudy) -> None:
    study = tiny_study()
    text_of(study, "web").write_bytes(b"")
    (reason,) = index(study).refusals("web")
    assert reason.code is Code.SOURCE_UNAVAILABLE
    assert "is empty; expected at least one document" in reason.figures["error"]
