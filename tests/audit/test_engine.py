"""An audit goes on past whatever is broken in the text or in a detector, and looks only at what is new."""

from __future__ import annotations

import gzip
import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from assay.audit.detectors import detectors
from assay.audit.engine import audit
from assay.audit.findings import Audit, Finding, Findings
from assay.audit.task import Settings
from assay.corpus.read import source_digest
from assay.errors import AssayError
from assay.sources import Source
from tests.audit.test_gutters import FORMS

PROSE = "The {} day was colder than the one before it, and everybody who had come to see the river stayed at home."
OURS = "tests.audit.ours"


def source(*files: Path, name: str = "web", **fields: Any) -> Source:
    plain = {"domain": "web", "language": "en", "licence": "MIT", **fields}
    return Source(name=name, files=tuple(map(str, files)), **plain)


def write(path: Path, texts: list[str], **fields: str) -> Path:
    path.write_text("".join(json.dumps({"text": text, **fields}) + "\n" for text in texts), encoding="utf-8")
    return path


def look(
    tmp_path: Path, *sources: Source, workers: int = 0, **settings: Any
) -> dict[str, tuple[Audit, dict[str, Finding]]]:
    digests = {each.name: (each, source_digest(each, cache=tmp_path / "store")) for each in sources}
    done = audit(digests, store=tmp_path / "store", settings=Settings(**settings), workers=workers)
    return {name: (looked, {finding.detector: finding for finding in found}) for name, (looked, found) in done.items()}


def days(count: int) -> list[str]:
    return [PROSE.format(f"{number}th {chr(97 + number % 26)}") for number in range(count)]


def test_a_defect_of_one_host_is_a_finding_however_large_the_rest_is(tmp_path: Path) -> None:
    listed = "".join(
        json.dumps({"text": f"{n}\n{FORMS['a column']}", "url": "https://git.example/x"}) + "\n" for n in range(4)
    )
    clean = "".join(json.dumps({"text": text, "url": "https://news.example/x"}) + "\n" for text in days(2000))
    path = tmp_path / "web.jsonl"
    path.write_text(listed + clean, encoding="utf-8")
    found = look(tmp_path, source(path))["web"][1]["line_number_gutter"]
    assert not found.isolated
    assert found.documents == 4
    assert next(iter(found.parts["host"].items()))[0] == "git.example"
    assert found.parts["host"]["git.example"].share == 1


def test_one_hit_in_many_documents_is_isolated(tmp_path: Path) -> None:
    path = write(tmp_path / "web.jsonl", [*days(500), FORMS["a column"]])
    assert look(tmp_path, source(path))["web"][1]["line_number_gutter"].isolated


def test_an_example_shows_the_place_in_the_document(tmp_path: Path) -> None:
    text = "Größe: " * 200 + "\n" + FORMS["before each line"]
    path = write(tmp_path / "web.jsonl", [text], snapshot="2026-10-15", original="a/b.html")
    [example] = look(tmp_path, source(path))["web"][1]["line_number_gutter"].examples
    assert text[example.offset :].startswith(example.text)
    first, last = example.matches[0]
    assert example.text[first:last].startswith("1 #include")
    assert (example.snapshot, example.original, example.where) == ("2026-10-15", "a/b.html", f"{path}:1")


def test_secrets_are_never_shown_whole(tmp_path: Path) -> None:
    key = "AKIA" + "Q3EGR7XWPLZ5T2MN"
    path = write(tmp_path / "web.jsonl", [f"key = {key}; mail jane.doe@uni.test.edu"] * 1)
    looked = look(tmp_path, source(path))["web"][1]
    assert looked["secrets"].documents == 1
    for kept in (tmp_path / "store").rglob("*.json"):
        assert key not in kept.read_text(encoding="utf-8")
        assert "jane.doe" not in kept.read_text(encoding="utf-8")


def test_an_address_that_is_none_costs_its_document_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "web.jsonl", [FORMS["a column"]] * 3, url="http://[::1/listing.html")
    assert look(tmp_path, source(path))["web"][1]["line_number_gutter"].documents == 3


def test_what_a_detector_says_when_it_fails_shows_no_secret_whole(tmp_path: Path) -> None:
    key = "AKIA" + "Q3EGR7XWPLZ5T2MN"
    path = write(tmp_path / "web.jsonl", [f"key = {key}"])
    ours = {"name": "ours", "function": f"{OURS}:tells", "reason": "x"}
    [unread] = look(tmp_path, source(path), declared=(ours,))["web"][0].unread
    assert "cannot take" in unread.reason
    assert key not in unread.reason


def test_what_is_broken_is_reported_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    good = json.dumps({"text": FORMS["a column"]}).encode()
    lines = [good, b"{", b'{"text": "\xff"}', b'{"other": 1}', json.dumps({"text": "\0" * 50}).encode()]
    lines += [json.dumps({"text": "x" * 10_000_000}).encode(), good]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(good * 3)[:-10])
    (tmp_path / "c.jsonl").write_bytes(b"")
    (tmp_path / "d.jsonl").write_bytes(good)
    looked, found = look(tmp_path, source(tmp_path / "*.jsonl*"))["web"]
    assert found["line_number_gutter"].documents == 3
    assert found["control_characters"].documents == 1
    assert found["huge"].documents == 1
    places = [Path(unread.where.split(":")[0]).name for unread in looked.unread]
    assert places == ["a.jsonl"] * 3 + ["b.jsonl.gz", "c.jsonl"]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("function", "why"),
    [("raises", "ValueError: not today"), ("never_ends", "took longer"), ("dies", "did not come back")],
)
def test_a_detector_that_fails_on_a_document_is_reported_and_stops_nothing(
    tmp_path: Path, function: str, why: str, workers: int
) -> None:
    if function == "dies" and workers == 0:
        return  # it would take this process along
    path = write(tmp_path / "web.jsonl", ["first", "second", FORMS["a column"]])
    ours = {"name": "ours", "function": f"{OURS}:{function}", "reason": "x"}
    looked, found = look(tmp_path, source(path), workers=workers, declared=(ours,), seconds=0.3)["web"]
    [unread] = looked.unread
    assert (unread.where, unread.detector) == (f"{path}:2", "ours")
    assert why in unread.reason
    assert found["line_number_gutter"].documents == 1
    assert looked.documents == 3


@pytest.mark.parametrize("most", [1, 3])
def test_a_detector_that_is_late_again_and_again_is_not_asked_about_the_rest_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr("assay.audit.examine.MOST_LATE", most)
    (tmp_path / "a.jsonl").write_text("{\n" * 60 + '{"text": "first"}\n', encoding="utf-8")  # more than are listed
    path = write(tmp_path / "b.jsonl", ["first", *["second"] * 50, FORMS["a column"]])
    other = write(tmp_path / "c.jsonl", ["a second one"])
    ours = {"name": "ours", "function": f"{OURS}:never_ends", "reason": "x"}
    looked, found = look(tmp_path, source(tmp_path / "*.jsonl"), declared=(ours,), seconds=0.3)["web"]
    assert looked.unread_count == 60 + most + 1
    assert len(looked.unread) == 50
    left_out = [unread for unread in looked.unread if unread.rest]
    assert left_out == list(looked.unread[: len(left_out)])
    assert (left_out[0].where, left_out[0].detector) == (f"{path}:{most + 1}", "ours")
    assert "not asked about what follows" in left_out[0].reason
    assert [unread.where for unread in left_out[1:]] == ([f"{other}:1"] if most == 1 else [])  # each file anew
    assert found["line_number_gutter"].documents == 1
    assert looked.documents == 1 + 52 + 1


def test_a_detector_that_cannot_be_interrupted_is_ended_with_its_process_and_the_rest_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.audit.pool.GRACE", 8.0)
    path = write(tmp_path / "web.jsonl", ["first", "second", FORMS["a column"]])
    ours = {"name": "ours", "function": f"{OURS}:never_comes_back", "reason": "x"}
    looked, found = look(tmp_path, source(path), workers=1, declared=(ours,), seconds=0.3)["web"]
    [unread] = looked.unread
    assert (unread.where, unread.detector, unread.reason) == (f"{path}:2", "ours", "did not come back, and was ended")
    assert found["line_number_gutter"].documents == 1
    assert looked.documents == 3
    assert not multiprocessing.active_children()


def test_only_new_files_are_read_again(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", days(5))
    look(tmp_path, source(tmp_path / "*.jsonl"))
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("sums.json")}
    write(tmp_path / "b.jsonl", [f"{n}\n{FORMS['a column']}" for n in range(3)])
    first.touch()
    looked, found = look(tmp_path, source(tmp_path / "*.jsonl"))["web"]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert looked.documents == 8
    assert found["line_number_gutter"].documents == 3
    assert Findings(tmp_path / "store").seen("web")


def test_copies_are_found_within_a_source_and_across(tmp_path: Path) -> None:
    long = " ".join(f"word{n % 97}{n // 7}" for n in range(400))
    near = long.replace("word50", "other", 1)
    here = source(write(tmp_path / "a.jsonl", [long, *days(3), long]), name="a")
    there = source(write(tmp_path / "b.jsonl", [near, " ".join(reversed(long.split()))]), name="b")
    found = look(tmp_path, here, there)
    assert found["a"][1]["exact_duplicates"].documents == 1
    assert found["a"][1]["exact_duplicates"].detail == {"with": {"a": 1}}
    assert found["b"][1]["near_duplicates"].detail == {"with": {"a": 1}}
    assert "exact_duplicates" not in found["b"][1]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cafÃ© dÃ©jÃ vu, naÃ¯ve " * 5, "mojibake"),
        ("what was \ufffd here", "replacement_characters"),
        ("\x00\x01 binary", "control_characters"),
        ("<div><p>" * 20 + "some text</p></div>", "markup_left"),
        ("short", "near_empty"),
        ("Chapter one ......... 12\n" * 8, "table_of_contents"),
        ("A page.\nPage 3 of 12\n", "pagination"),
        ("Skip to content. Sign in. Privacy policy. All rights reserved.", "navigation"),
        ("The story goes on for a while and then ... Read more", "truncated"),
        ("Der Hund und die Katze sind nicht mit dem Mann in das Haus gegangen, und auch das Kind ist zu dem " * 9, "wrong_language"),
        ("The very same line of text, again and again.\n" * 60, "repeated_lines"),
    ],
)  # fmt: skip
def test_each_defect_is_seen_and_clean_prose_is_not(tmp_path: Path, text: str, name: str) -> None:
    path = write(tmp_path / "web.jsonl", [text, *days(3)])
    found = look(tmp_path, source(path))["web"][1]
    assert found[name].documents == 1
    assert found[name].examples[0].where == f"{path}:1"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("def f(x):\nfor i in x:\nif i:\nreturn i\nelse:\npass\n" * 6, "lost_indentation"),
        ("int f(int x) { return x + 1; } " * 80, "lost_newlines"),
    ],
)
def test_code_that_lost_its_shape(tmp_path: Path, text: str, name: str) -> None:
    path = write(tmp_path / "code.jsonl", [text])
    assert name in look(tmp_path, source(path, domain="code", language="code"))["web"][1]


def test_a_team_s_own_detectors_are_a_pattern_or_a_function(tmp_path: Path) -> None:
    path = write(tmp_path / "web.jsonl", ["lorem ipsum dolor", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"])
    ours = (
        {"name": "lorem", "pattern": "(?i)lorem ipsum", "reason": "filler"},
        {"name": "shouting", "function": f"{OURS}:capitals", "reason": "capitals", "severity": "low"},
    )
    found = look(tmp_path, source(path), declared=ours)["web"][1]
    assert found["lorem"].examples[0].matches == ((0, 11),)
    assert found["shouting"].severity == "low"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"name": "x", "reason": "y"}, "exactly one"),
        ({"name": "x", "reason": "y", "pattern": "("}, "no regular expression"),
        ({"name": "x", "reason": "y", "function": "nowhere:none"}, "cannot be imported"),
        ({"name": "x", "reason": "y", "pattern": "a", "clean": 1.0}, "clean is 1.0"),
        ({"name": "x", "reason": "y", "patern": "a"}, "patern"),
    ],
)
def test_a_wrong_declaration_is_refused_by_name(body: dict[str, Any], message: str) -> None:
    with pytest.raises(AssayError, match=message):
        detectors([body])
