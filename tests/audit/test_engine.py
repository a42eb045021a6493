"""An audit continues after errors in the text or in a detector, and scans only new files."""

from __future__ import annotations

import gzip
import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from assay.audit.detectors.registry import detectors
from assay.audit.engine import audit
from assay.audit.findings import Audit, Finding, Findings
from assay.audit.task import AuditSettings
from assay.config.sources import Source
from assay.core.errors import AssayError
from assay.corpus.source_reader import source_digest
from tests.audit.detectors.test_line_numbers import FORMS

PROSE = "The {} day was colder than the one before it, and everybody who had come to see the river stayed at home."
OURS = "tests.audit.detectors.local_detectors"


def source(*files: Path, name: str = "web", **fields: Any) -> Source:
    plain = {"domain": "web", "language": "en", "license": "MIT", **fields}
    return Source(name=name, files=tuple(map(str, files)), **plain)


def write(path: Path, texts: list[str], **fields: str) -> Path:
    path.write_text("".join(json.dumps({"text": text, **fields}) + "\n" for text in texts), encoding="utf-8")
    return path


def run_audit(
    tmp_path: Path, *sources: Source, workers: int = 0, **settings: Any
) -> dict[str, tuple[Audit, dict[str, Finding]]]:
    digests = {source.name: (source, source_digest(source, cache=tmp_path / "store")) for source in sources}
    done = audit(digests, store=tmp_path / "store", settings=AuditSettings(**settings), workers=workers)
    return {
        name: (record, {finding.detector: finding for finding in findings}) for name, (record, findings) in done.items()
    }


def days(count: int) -> list[str]:
    return [PROSE.format(f"{number}th {chr(97 + number % 26)}") for number in range(count)]


def test_a_defect_of_one_host_is_a_finding_in_a_source_of_any_size(tmp_path: Path) -> None:
    listed = "".join(
        json.dumps({"text": f"{n}\n{FORMS['a column']}", "url": "https://git.example/x"}) + "\n" for n in range(4)
    )
    clean = "".join(json.dumps({"text": text, "url": "https://news.example/x"}) + "\n" for text in days(2000))
    path = tmp_path / "web.jsonl"
    path.write_text(listed + clean, encoding="utf-8")
    finding = run_audit(tmp_path, source(path))["web"][1]["line_number_gutter"]
    assert not finding.isolated
    assert finding.documents == 4
    assert next(iter(finding.parts["host"].items()))[0] == "git.example"
    assert finding.parts["host"]["git.example"].fraction == 1


def test_one_hit_in_many_documents_is_isolated(tmp_path: Path) -> None:
    path = write(tmp_path / "web.jsonl", [*days(500), FORMS["a column"]])
    assert run_audit(tmp_path, source(path))["web"][1]["line_number_gutter"].isolated


def test_an_example_locates_the_match_in_the_document(tmp_path: Path) -> None:
    text = "Größe: " * 200 + "\n" + FORMS["before each line"]
    path = write(tmp_path / "web.jsonl", [text], snapshot="2026-10-15", original="a/b.html")
    [example] = run_audit(tmp_path, source(path))["web"][1]["line_number_gutter"].examples
    assert text[example.offset :].startswith(example.text)
    first, last = example.matches[0]
    assert example.text[first:last].startswith("1 #include")
    assert (example.snapshot, example.original, example.where) == ("2026-10-15", "a/b.html", f"{path}:1")


def test_no_record_contains_a_whole_secret(tmp_path: Path) -> None:
    key = "AKIA" + "Q3EGR7XWPLZ5T2MN"
    path = write(tmp_path / "web.jsonl", [f"key = {key}; mail jane.doe@uni.test.edu"] * 1)
    findings = run_audit(tmp_path, source(path))["web"][1]
    assert findings["secrets"].documents == 1
    for path in (tmp_path / "store").rglob("*.json"):
        assert key not in path.read_text(encoding="utf-8")
        assert "jane.doe" not in path.read_text(encoding="utf-8")


def test_a_document_with_an_invalid_url_is_scanned(tmp_path: Path) -> None:
    path = write(tmp_path / "web.jsonl", [FORMS["a column"]] * 3, url="http://[::1/listing.html")
    assert run_audit(tmp_path, source(path))["web"][1]["line_number_gutter"].documents == 3


def test_the_error_of_a_detector_contains_no_whole_secret(tmp_path: Path) -> None:
    key = "AKIA" + "Q3EGR7XWPLZ5T2MN"
    path = write(tmp_path / "web.jsonl", [f"key = {key}"])
    ours = {"name": "ours", "function": f"{OURS}:raises_with_text", "reason": "x"}
    [unread] = run_audit(tmp_path, source(path), declared=(ours,))["web"][0].unread
    assert "cannot take" in unread.reason
    assert key not in unread.reason


def test_unreadable_records_are_reported_and_the_rest_is_scanned(tmp_path: Path) -> None:
    good = json.dumps({"text": FORMS["a column"]}).encode()
    lines = [good, b"{", b'{"text": "\xff"}', b'{"other": 1}', json.dumps({"text": "\0" * 50}).encode()]
    lines += [json.dumps({"text": "x" * 10_000_000}).encode(), good]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(good * 3)[:-10])
    (tmp_path / "c.jsonl").write_bytes(b"")
    (tmp_path / "d.jsonl").write_bytes(good)
    record, findings = run_audit(tmp_path, source(tmp_path / "*.jsonl*"))["web"]
    assert findings["line_number_gutter"].documents == 3
    assert findings["control_characters"].documents == 1
    assert findings["huge"].documents == 1
    places = [Path(unread.where.split(":")[0]).name for unread in record.unread]
    assert places == ["a.jsonl"] * 3 + ["b.jsonl.gz", "c.jsonl"]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("function", "why"),
    [("raises", "ValueError: not today"), ("never_ends", "exceeded"), ("dies", "hung")],
)
def test_a_failing_detector_is_reported_and_the_scan_continues(
    tmp_path: Path, function: str, why: str, workers: int
) -> None:
    if function == "dies" and workers == 0:
        return  # it would end this process
    path = write(tmp_path / "web.jsonl", ["first", "second", FORMS["a column"]])
    ours = {"name": "ours", "function": f"{OURS}:{function}", "reason": "x"}
    record, findings = run_audit(tmp_path, source(path), workers=workers, declared=(ours,), seconds=0.3)["web"]
    [unread] = record.unread
    assert (unread.where, unread.detector) == (f"{path}:2", "ours")
    assert why in unread.reason
    assert findings["line_number_gutter"].documents == 1
    assert record.documents == 3


@pytest.mark.parametrize("most", [1, 3])
def test_a_detector_that_exceeds_its_time_repeatedly_is_disabled_for_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr("assay.audit.scan.scan_file.MOST_LATE", most)
    (tmp_path / "a.jsonl").write_text(
        "{\n" * 60 + '{"text": "first"}\n', encoding="utf-8"
    )  # more than the listed maximum
    path = write(tmp_path / "b.jsonl", ["first", *["second"] * 50, FORMS["a column"]])
    other = write(tmp_path / "c.jsonl", ["a second one"])
    ours = {"name": "ours", "function": f"{OURS}:never_ends", "reason": "x"}
    record, findings = run_audit(tmp_path, source(tmp_path / "*.jsonl"), declared=(ours,), seconds=0.3)["web"]
    assert record.unread_count == 60 + most + 1
    assert len(record.unread) == 50
    disabled = [unread for unread in record.unread if unread.rest]
    assert disabled == list(record.unread[: len(disabled)])
    assert (disabled[0].where, disabled[0].detector) == (f"{path}:{most + 1}", "ours")
    assert "disabled for the rest of the file" in disabled[0].reason
    assert [unread.where for unread in disabled[1:]] == ([f"{other}:1"] if most == 1 else [])  # disabled per file
    assert findings["line_number_gutter"].documents == 1
    assert record.documents == 1 + 52 + 1


def test_a_hanging_detector_is_ended_with_its_process_and_the_rest_is_scanned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.audit.process_pool.GRACE", 8.0)
    path = write(tmp_path / "web.jsonl", ["first", "second", FORMS["a column"]])
    ours = {"name": "ours", "function": f"{OURS}:never_comes_back", "reason": "x"}
    record, findings = run_audit(tmp_path, source(path), workers=1, declared=(ours,), seconds=0.3)["web"]
    [unread] = record.unread
    assert (unread.where, unread.detector, unread.reason) == (f"{path}:2", "ours", "hung, and was ended")
    assert findings["line_number_gutter"].documents == 1
    assert record.documents == 3
    assert not multiprocessing.active_children()


def test_only_new_files_are_scanned(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", days(5))
    run_audit(tmp_path, source(tmp_path / "*.jsonl"))
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("sums.json")}
    write(tmp_path / "b.jsonl", [f"{n}\n{FORMS['a column']}" for n in range(3)])
    first.touch()
    record, findings = run_audit(tmp_path, source(tmp_path / "*.jsonl"))["web"]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert record.documents == 8
    assert findings["line_number_gutter"].documents == 3
    assert Findings(tmp_path / "store").detectors_with_findings("web")


def test_duplicates_within_and_between_sources_are_counted(tmp_path: Path) -> None:
    long = " ".join(f"word{n % 97}{n // 7}" for n in range(400))
    near = long.replace("word50", "other", 1)
    first = source(write(tmp_path / "a.jsonl", [long, *days(3), long]), name="a")
    second = source(write(tmp_path / "b.jsonl", [near, " ".join(reversed(long.split()))]), name="b")
    audits = run_audit(tmp_path, first, second)
    assert audits["a"][1]["exact_duplicates"].documents == 1
    assert audits["a"][1]["exact_duplicates"].detail == {"with": {"a": 1}}
    assert audits["b"][1]["near_duplicates"].detail == {"with": {"a": 1}}
    assert "exact_duplicates" not in audits["b"][1]


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
def test_each_defect_is_detected_in_its_document_only(tmp_path: Path, text: str, name: str) -> None:
    path = write(tmp_path / "web.jsonl", [text, *days(3)])
    findings = run_audit(tmp_path, source(path))["web"][1]
    assert findings[name].documents == 1
    assert findings[name].examples[0].where == f"{path}:1"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("def f(x):\nfor i in x:\nif i:\nreturn i\nelse:\npass\n" * 6, "lost_indentation"),
        ("int f(int x) { return x + 1; } " * 80, "lost_newlines"),
    ],
)
def test_damaged_code_is_detected(tmp_path: Path, text: str, name: str) -> None:
    path = write(tmp_path / "code.jsonl", [text])
    assert name in run_audit(tmp_path, source(path, domain="code", language="code"))["web"][1]


def test_a_declared_detector_is_a_pattern_or_a_function(tmp_path: Path) -> None:
    path = write(tmp_path / "web.jsonl", ["lorem ipsum dolor", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"])
    ours = (
        {"name": "lorem", "pattern": "(?i)lorem ipsum", "reason": "filler"},
        {"name": "shouting", "function": f"{OURS}:capitals", "reason": "capitals", "severity": "low"},
    )
    findings = run_audit(tmp_path, source(path), declared=ours)["web"][1]
    assert findings["lorem"].examples[0].matches == ((0, 11),)
    assert findings["shouting"].severity == "low"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"name": "x", "reason": "y"}, "exactly one"),
        ({"name": "x", "reason": "y", "pattern": "("}, "`pattern` .* is invalid"),
        ({"name": "x", "reason": "y", "function": "nowhere:none"}, "cannot be imported"),
        ({"name": "x", "reason": "y", "pattern": "a", "clean": 1.0}, "`clean` 1.0 is invalid"),
        ({"name": "x", "reason": "y", "patern": "a"}, "patern"),
    ],
)
def test_an_invalid_declaration_is_rejected(body: dict[str, Any], message: str) -> None:
    with pytest.raises(AssayError, match=message):
        detectors([body])
