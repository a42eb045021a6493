"""`assay audit`: what it prints for machines and people, and how it exits, in a project of two sources."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.audit.detectors.numbered_pages import FORMS, LISTINGS, PROSE
from tests.cli.invoke import Said, caller

SOURCE = 'files: ["data/{name}.jsonl"]\ndomain: web\nlanguage: en\nlicense: MIT\n'
LISTED = [{"id": f"p{n}", "text": FORMS["blank"](code, 1)} for n, code in enumerate(LISTINGS.values())]
CLEAN = [{"text": f"{n} {PROSE}"} for n in range(20)]


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def assay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    for name, rows in (("crawl", LISTED), ("news", CLEAN)):
        write(tmp_path / f"data/{name}.jsonl", rows)
        (tmp_path / "conf/source").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"conf/source/{name}.yaml").write_text(SOURCE.format(name=name))
    monkeypatch.chdir(tmp_path)
    call = caller(monkeypatch, capsys)
    return lambda *arguments: call("audit", *([] if arguments[0] == "ngram" else ["--workers", "0"]), *arguments)


def test_findings_are_listed_for_machines_and_1_says_that_they_are_new(assay: Callable[..., Said]) -> None:
    said = assay("crawl", "news", "--json")
    [gutter] = [one for one in said.json["findings"] if one["detector"] == "line_number_gutter"]
    assert said.code == 1
    assert (gutter["source"], gutter["severity"], gutter["documents"], gutter["fraction"]) == ("crawl", "high", 10, 1.0)
    assert gutter["examples"][0]["document"] == "p0"
    assert gutter["new"]
    again = assay("crawl", "news", "--json", "--new")
    assert (again.code, again.json["findings"]) == (0, [])


def test_a_clean_source_exits_with_0(assay: Callable[..., Said]) -> None:
    said = assay("news", "--at-least", "high")
    assert said.code == 0
    assert "news 20 documents" in " ".join(said.out.split())


def test_a_source_without_its_files_is_named_and_the_others_are_audited(
    assay: Callable[..., Said], tmp_path: Path
) -> None:
    (tmp_path / "data/news.jsonl").unlink()
    said = assay("crawl", "news", "--json")
    assert said.code == 2, "a pipeline must not take the skipped source for a clean one"
    assert "1 of 2 sources were not audited: news" in said.err
    assert list(said.json["missing"]) == ["news"]
    assert [one["name"] for one in said.json["sources"]] == ["crawl"]
    assert "news not audited" in " ".join(assay("crawl", "news").out.split())
    alone = assay("news")
    assert (alone.code, "news" in alone.err) == (2, True)


def test_files_need_not_be_a_source(assay: Callable[..., Said], tmp_path: Path) -> None:
    other = write(tmp_path / "other.jsonl", [{"body": row["text"]} for row in LISTED])
    said = assay("--files", str(other), "--text-field", "body", "--name", "lately", "--json")
    assert {one["source"] for one in said.json["findings"]} == {"lately"}


def test_what_cannot_be_read_is_listed_and_the_rest_is_audited(assay: Callable[..., Said], tmp_path: Path) -> None:
    path = tmp_path / "data/crawl.jsonl"
    path.write_bytes(b'{"text": "\xff"}\n{"text": \n' + path.read_bytes())
    [crawl] = assay("crawl", "--json").json["sources"]
    assert (crawl["documents"], crawl["unread_count"]) == (10, 2)
    assert "not UTF-8" in crawl["unread"][0]["reason"]


def test_a_detector_of_the_project_that_raises_is_named_with_the_document(
    assay: Callable[..., Said], tmp_path: Path
) -> None:
    (tmp_path / "conf/audit").mkdir()
    (tmp_path / "conf/audit/ours.yaml").write_text(
        "detectors:\n"
        "  - {name: broken, function: 'tests.audit.detectors.local_detectors:raises', reason: x}\n"
        "  - {name: rivers, pattern: 'page tells', reason: it is about pages, severity: low}\n"
    )
    write(tmp_path / "data/news.jsonl", [*CLEAN, {"text": "second"}])
    said = assay("news", "--json")
    assert [one["detector"] for one in said.json["findings"]][:1] == ["rivers"]
    assert {one["detector"] for one in said.json["sources"][0]["unread"]} == {"broken"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("detectors: {name: rivers, pattern: Rhine}", "`detectors` is invalid; expected a list"),
        ("detectors: [Rhine]", "the detector 'Rhine' is invalid"),
        (
            "detectors:\n- {name: a, pattern: b, reason: c}\n- {name: a, pattern: d, reason: e}",
            "two detectors have the name 'a'",
        ),
        ("detectors: [{name: queues, pattern: 'q*', reason: c}]", "because it matches the empty string"),
    ],
)
def test_a_wrong_declaration_of_a_detector_is_refused_with_what_to_do(
    assay: Callable[..., Said], tmp_path: Path, body: str, said: str
) -> None:
    (tmp_path / "conf/audit").mkdir()
    (tmp_path / "conf/audit/ours.yaml").write_text(body)
    refused = assay("news")
    assert refused.code == 2
    assert said in " ".join(refused.err.split())


def test_a_source_of_which_nothing_can_be_read_is_an_error_after_the_others_were_audited(
    assay: Callable[..., Said], tmp_path: Path
) -> None:
    (tmp_path / "data/crawl.jsonl").write_bytes(b'{"text": \n' * 3)
    said = assay("crawl", "news")
    assert said.code == 2
    assert "source 'crawl' cannot be read at all" in " ".join(said.err.split())
    assert "news 20 documents" in " ".join(said.out.split())


def test_a_string_is_counted_in_all_sources(assay: Callable[..., Said]) -> None:
    crawl, news = assay("ngram", "return None", "crawl", "news", "--json").json["sources"]
    assert (crawl["documents"], news["documents"]) == (1, 0)


def test_questions_of_a_benchmark_are_found_in_the_text(assay: Callable[..., Said], tmp_path: Path) -> None:
    import pyarrow as pa

    question = "Which of these small animals sleeps through the whole winter in a hole under the roots of a tree?"
    file = tmp_path / "mirror/made___animals/default/0.0.0/1/animals-test.arrow"
    file.parent.mkdir(parents=True)
    table = pa.table({"question": [question]})
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "mirror/manifest.json").write_text("{}")
    write(tmp_path / "data/news.jsonl", [*CLEAN, *({"text": f"Number {n}: {question} He knew."} for n in range(4))])
    said = assay("news", f"paths.benchmarks={tmp_path}/mirror", "--json").json
    [found] = [one for one in said["findings"] if one["detector"] == "benchmark_contamination"]
    assert found["documents"] == 4
    assert found["detail"] == {"tasks": {"animals": 4}}


def test_a_repaired_source_is_no_copy_of_the_one_that_it_repairs(assay: Callable[..., Said], tmp_path: Path) -> None:
    twice = [{"text": " ".join(f"{word}{n}{k}" for k in range(40) for word in ("river", "stone"))} for n in range(9)]
    write(tmp_path / "data/crawl.jsonl", twice)
    write(tmp_path / "data/news.jsonl", twice)
    said = assay("crawl", "news", "--json").json
    assert "exact_duplicates" in {one["detector"] for one in said["findings"]}
    (tmp_path / "conf/source/news.yaml").write_text(SOURCE.format(name="news") + "repairs: crawl\n")
    said = assay("crawl", "news", "--json").json
    assert "exact_duplicates" not in {one["detector"] for one in said["findings"]}
