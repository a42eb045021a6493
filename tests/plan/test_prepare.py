"""Making the tokenizer and the corpora of a study."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from assay.config.study import Study
from assay.core.errors import AssayError
from assay.plan.prepare import prepare_corpora
from assay.plan.workspace import Workspace

MakeStudy = Callable[..., Study]


def test_a_source_that_is_not_cleared_is_neither_tokenized_nor_measured(tiny_study: MakeStudy) -> None:
    study = tiny_study(tokenizer__sources=["code", "web"], source__books__clearance={"state": "blocked"})
    space = Workspace(study)
    assert "books" not in space.mixes.sweep_sources
    assert "books" not in space.runs.evaluation.validation
    with pytest.raises(AssayError, match="source 'books': clearance is blocked; expected cleared"):
        prepare_corpora(space.sources, ["books"])


def test_without_names_only_the_tokenizer_is_made(tiny_study: MakeStudy) -> None:
    space = Workspace(tiny_study())
    assert prepare_corpora(space.sources, ()) == {}
    assert (space.sources.tokenizer_folder / "tokenizer.json").exists()
    assert space.sources.tokens(space.study.sources) == {}


def test_progress_reports_every_name_up_to_completion(tiny_study: MakeStudy) -> None:
    space, reports = Workspace(tiny_study()), []
    folders = prepare_corpora(space.sources, ["web"], progress=lambda what, fraction: reports.append((what, fraction)))
    assert folders == {"web": space.sources.corpus_folder("web")}
    assert {what for what, _ in reports} == {"tokenizer", "web"}
    assert reports[-1] == ("web", 1.0)
