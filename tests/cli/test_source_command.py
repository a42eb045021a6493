"""`assay sources` and `assay audit` on files as downloads leave them: what they print, and how they exit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.audit.detectors.numbered_pages import FORMS, LISTINGS
from tests.cli.invoke import Said, caller
from tests.cli.test_commands import CONF

ENTRIES = [f"entry {n}: a word, and what it means in {n} ways" for n in range(300)]
SOURCE = 'files: ["data/{files}"]\ndomain: web\nlanguage: en\nlicense: MIT\n'


@pytest.fixture
def assay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    (tmp_path / "conf/source").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return caller(monkeypatch, capsys)


def declare(name: str, files: str, more: str = "") -> None:
    Path(f"conf/source/{name}.yaml").write_text(SOURCE.format(files=files) + more)


def jsonl(path: str, count: int = 150) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("".join(json.dumps({"text": f"{path} {n} and more"}) + "\n" for n in range(count)))


def flat(text: str) -> str:
    return " ".join(text.split())


def test_entries_in_one_text_file_are_one_document_until_a_separator_divides_them(assay: Callable[..., Said]) -> None:
    Path("data/dict.txt").write_text("\n\n".join(ENTRIES))
    declare("dict", "dict.txt")
    said = assay("audit", "dict", "--workers", "0")
    assert "has only 1 document: median" in flat(said.out)
    assert "set `separator` in conf/source/dict.yaml" in flat(said.out)
    declare("dict", "dict.txt", 'separator: "\\n\\n"\n')
    [audited] = assay("audit", "dict", "--workers", "0", "--json").json["sources"]
    assert audited["documents"] == len(ENTRIES)
    [listed] = [one for one in assay("sources", "--json").json if one["name"] == "dict"]
    sizes = sorted(map(len, ENTRIES))
    assert listed["documents"]["documents"] == len(ENTRIES)
    assert abs(listed["documents"]["median"] - sizes[150]) <= 2  # the audit keeps a histogram
    assert (listed["documents"]["longest"], listed["documents"]["unit"]) == (sizes[-1], "bytes")
    assert listed["warnings"] == []


def test_skipped_files_are_counted_by_every_command_that_reads_the_source(assay: Callable[..., Said]) -> None:
    for path in ("data/crawl/a.jsonl", "data/crawl/.cache/a.jsonl", "data/crawl/_temporary/0/a.jsonl"):
        jsonl(path)
    declare("crawl", "crawl/**/*.jsonl")
    audit = assay("audit", "crawl", "--workers", "0", "--json").json
    assert [source["documents"] for source in audit["sources"]] == [150]
    [listed] = assay("sources", "--json").json
    for [note] in (audit["warnings"], listed["warnings"]):
        assert note["code"] == "source_files_skipped"
        assert (note["figures"]["hidden"], note["figures"]["marker"]) == (1, 1)
    assert "skips 1 hidden file, 1 file with a leading `_` in the path" in flat(assay("sources").out)


def test_a_source_under_a_wrong_format_is_an_error_of_audit_and_sources_and_the_others_are_listed(
    assay: Callable[..., Said],
) -> None:
    jsonl("data/news.jsonl")
    Path("data/table.csv").write_text("id,text\n1,one\n2,two\n")
    declare("news", "news.jsonl")
    declare("table", "table.csv", "format: text\n")
    audited = assay("audit", "--workers", "0")
    assert audited.code == 2
    assert "news 150 documents" in flat(audited.out)
    assert "the content is a CSV table, not plain text. Convert it with pandas" in flat(audited.out)
    assert "1 of 2 sources were not audited: table" in audited.err
    listed = assay("sources", "--json")
    assert listed.code == 2
    assert {one["name"]: bool(one["error"]) for one in listed.json} == {"news": False, "table": True}


def test_if_no_source_can_be_read_each_is_named(assay: Callable[..., Said]) -> None:
    Path("data/a.jsonl").symlink_to("gone-a")
    Path("data/b.txt").write_bytes("größe\n".encode("utf-16"))
    declare("left", "a.jsonl")
    declare("right", "b.txt")
    said = assay("audit", "--workers", "0")
    assert said.code == 2
    assert "data/a.jsonl is a link to gone-a, which does not exist" in flat(said.out)
    assert "the content is text in UTF-16" in flat(said.out)
    assert "2 of 2 sources were not audited: left, right" in said.err


@pytest.mark.parametrize("command", [("audit", "sample", "table"), ("audit", "ngram", "one", "table")])
def test_no_command_reads_a_table_as_one_document(assay: Callable[..., Said], command: tuple[str, ...]) -> None:
    Path("data/table.tsv").write_text("id\ttext\n1\tone\n2\ttwo\n")
    declare("table", "table.tsv", "format: text\n")
    said = assay(*command)
    assert (said.code, "the content is a TSV table" in said.err) == (2, True)


def test_files_that_are_not_there_yet_are_listed_without_an_error(assay: Callable[..., Said]) -> None:
    declare("later", "later.jsonl")
    said = assay("sources")
    assert said.code == 0
    assert "cannot be read" in said.out
    assert "no file matches" in said.out


def test_prepare_lists_documents_and_fails_on_a_source_that_it_skips(assay: Callable[..., Said]) -> None:
    for path, text in CONF.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    cleared = "clearance: {state: cleared, by: A. Person}\n"
    for name in ("prose", "code"):
        jsonl(f"data/{name}.jsonl")
        declare(name, f"{name}.jsonl", cleared)
    command = ("prepare", "sweep=tiny", "+tokenizer.sources=[prose]")
    assert assay(*command, "--json").json["skipped"] == {}
    Path("data/table.csv").write_text("id,text\n" + "".join(f'{n},"page {n}"\n' for n in range(50)))
    declare("table", "table.csv", cleared + "format: text\n")
    Path("conf/mix/less_code.yaml").write_text("{weights: {prose: 1, table: 1}}")
    said = assay(*command)
    assert said.code == 2
    assert [line.split()[3] for line in said.out.splitlines() if line.startswith(("code", "prose"))] == ["150", "150"]
    assert "table not tokenized: source 'table'" in flat(said.out)
    assert "1 source of the sweep is not tokenized: table" in said.err
    sizes = {row["source"]: row["documents"] for row in assay(*command, "--json").json["corpora"]}
    assert sizes["prose"]["documents"] == 150
    assert sizes["prose"]["unit"] == "tokens"


def test_a_source_with_a_separator_is_repaired_to_json_lines(assay: Callable[..., Said]) -> None:
    pages = [FORMS["blank"](code, 1) for code in LISTINGS.values()]
    Path("data/code.txt").write_text("\n%%\n".join(pages))
    declare("code", "code.txt", 'separator: "\\n%%\\n"\n')
    assert assay("audit", "code", "--workers", "0").code == 1
    repaired = assay("audit", "repair", "code")
    assert repaired.code == 0, repaired.err
    [audited] = assay("audit", "code_repaired", "--workers", "0", "--json").json["sources"]
    assert audited["documents"] == len(pages)


def test_a_problem_is_printed_once(assay: Callable[..., Said]) -> None:
    jsonl("data/good.jsonl")
    declare("good", "good.jsonl")
    for name in ("bad", "worse"):
        Path(f"data/{name}.jsonl").write_text("")
        declare(name, f"{name}.jsonl")
    said = assay("sources")
    assert said.code == 2
    for name in ("bad", "worse"):
        assert flat(said.out + said.err).count(f"{name}.jsonl: the file of source '{name}' is empty") == 1
