"""How files become documents is reported: sizes, files that are skipped, absent shards, and too few documents."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from assay.config.reason import Code
from assay.config.study import Study
from assay.corpus.document_sizes import DocumentSizes
from assay.corpus.source_reader import documents
from assay.corpus.tokenizer import load_tokenizer
from assay.plan import source_report
from assay.plan.prepare import prepare_corpora
from assay.plan.source_report import document_notes, listing_notes, report_source
from assay.plan.workspace import Workspace
from assay.report.reason_text import with_fix
from tests.corpus.conftest import source_of, write_jsonl

MakeStudy = Callable[..., Study]


def test_a_tokenized_source_has_the_sizes_of_its_documents_in_tokens(tiny_study: MakeStudy) -> None:
    space = Workspace(tiny_study())
    prepare_corpora(space.sources, ["web"])
    tokenizer, _ = load_tokenizer(space.sources.tokenizer_folder)
    lengths = [len(tokenizer.encode(one.text).ids) for one in documents(space.sources.source("web"))]
    report = report_source(space.sources, "web", tokenized=True)
    assert report.sizes == DocumentSizes(
        documents=len(lengths), median=int(np.median(lengths)), longest=max(lengths), unit="tokens"
    )
    assert report.error is None


def test_a_source_that_is_not_tokenized_is_read_once_per_version(
    tiny_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny_study()
    texts = [one.text.encode() for one in documents(Workspace(study).sources.source("web"))]
    lengths = sorted(map(len, texts))
    expected = DocumentSizes(documents=len(lengths), median=int(np.median(lengths)), longest=lengths[-1], unit="bytes")
    assert report_source(Workspace(study).sources, "web", tokenized=True).sizes == expected
    monkeypatch.setattr(source_report, "read_sizes", lambda source: pytest.fail(f"{source.name} was read again"))
    assert report_source(Workspace(study).sources, "web", tokenized=True).sizes == expected
    (Workspace(study).store.root / "document_sizes.json").write_text("{")
    monkeypatch.undo()
    assert report_source(Workspace(study).sources, "web", tokenized=True).sizes == expected
    monkeypatch.setattr(source_report, "READ_BYTES", 10)
    assert report_source(Workspace(study).sources, "code", tokenized=True).sizes is None


@pytest.mark.parametrize(
    ("documents", "median", "unit", "warned"),
    [
        (27, 1_100_000, "bytes", True),
        (99, 100, "tokens", True),
        (100, 500_000, "bytes", False),
        (5_000, 2_000_000, "bytes", True),
        (5_000, 300_000, "tokens", True),
    ],
)
def test_few_or_very_long_documents_are_a_warning(documents: int, median: int, unit: str, warned: bool) -> None:
    sizes = DocumentSizes(documents=documents, median=median, longest=2 * median, unit=unit)  # type: ignore[arg-type]
    assert [note.code for note in document_notes(source_of("a.txt"), sizes)] == [Code.SOURCE_FEW_DOCUMENTS] * warned


def test_the_fix_of_few_documents_depends_on_the_format() -> None:
    sizes = DocumentSizes(documents=27, median=1_100_000, longest=4_000_000, unit="bytes")
    for source in (source_of("dict/*.txt"), source_of("dict/*", format="text"), source_of("a/*.txt.gz")):
        [note] = document_notes(source, sizes)
        assert "set `separator` in conf/source/web.yaml" in with_fix(note)
        assert "only 27 documents: median 1,100,000 bytes, longest 4,000,000 bytes" in with_fix(note)
    for source in (source_of("a.jsonl"), source_of("a.txt", separator="\n")):
        [note] = document_notes(source, sizes)
        assert "separator" not in with_fix(note)


def test_skipped_files_and_absent_shards_are_noted_by_kind(tmp_path: Path) -> None:
    for name in ("a-00000-of-00003.jsonl", ".x/a.jsonl", ".x/b.jsonl", "_temporary/c.jsonl"):
        write_jsonl(tmp_path / name, ["a"])
    skipped, shards = listing_notes(source_of(tmp_path / "**/*.jsonl"))
    assert (skipped.code, skipped.figures["hidden"], skipped.figures["marker"]) == (Code.SOURCE_FILES_SKIPPED, 2, 1)
    assert "skips 2 hidden files, 1 file with a leading `_` in the path" in with_fix(skipped)
    assert (shards.code, shards.figures["present"], shards.figures["total"]) == (Code.SOURCE_SHARDS_ABSENT, 1, 3)
    assert listing_notes(source_of(tmp_path / "archived/*.jsonl")) == []


def test_a_plan_warns_about_skipped_files_and_refuses_content_of_another_format(tiny_study: MakeStudy) -> None:
    study = tiny_study(source__web__files=["data/web/**/*.jsonl"], source__books__files=["data/books.csv"])
    root = Path(study.paths.root)
    rows = [{"text": f"A page about river {n}, and the towns on its banks."} for n in range(120)]
    for place in ("web/a.jsonl", "web/.ipynb_checkpoints/a.jsonl"):
        (root / "data" / place).parent.mkdir(parents=True, exist_ok=True)
        (root / "data" / place).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "data/books.csv").write_text("id,text\n" + "".join(f'{n},"page {n}, of a book"\n' for n in range(50)))
    plan = Workspace(study).planner.plan()
    assert [note.subject for note in plan.warnings if note.code is Code.SOURCE_FILES_SKIPPED] == ["web"]
    refusals = {reason.code for run in plan.runs if run.mix == "base" for reason in run.reasons}
    assert Code.SOURCE_UNAVAILABLE in refusals
    declared = Workspace(tiny_study(source__books__files=["data/books.csv"], source__books__format="text"))
    [refusal] = declared.sources.refusals("books")
    assert "the content is a CSV table, not plain text" in refusal.figures["error"]
