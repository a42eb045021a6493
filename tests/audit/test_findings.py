"""Findings are stored with the version of their source; writes are atomic, and folders mergeable."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assay.audit.findings import Audit, Example, Finding, FindingPart, Findings, Unread
from assay.core.errors import AssayError

DIGEST, LATER = "a" * 64, "b" * 64


def finding(**fields: Any) -> Finding:
    example = Example(document="d1", where="x.jsonl:1", text="1 2 3 é", matches=((0, 5),), note="1 to 3")
    base = Finding(
        detector="line_number_gutter",
        version=1,
        source="code_cc",
        digest=DIGEST,
        severity="high",
        reason="line numbers",
        documents=50,
        of=200,
        bytes=1000,
        of_bytes=4000,
        matched_bytes=400,
        tokens=100,
        clean=0.001,
        parts={"snapshot": {"2026-10-15": FindingPart(documents=50, of=100, bytes=1000)}},
        examples=(example,),
    )
    return replace(base, **fields)


def audit(*findings: Finding, finished: float = 1.0, **fields: Any) -> Audit:
    detectors = fields.pop("detectors", {finding.detector: finding.version for finding in findings})
    return Audit(
        source="code_cc",
        digest=fields.pop("digest", DIGEST),
        finished=finished,
        detectors=detectors,
        documents=200,
        bytes=4000,
        findings=tuple(finding.id for finding in findings),
        **fields,
    )


def test_findings_survive_a_round_trip(tmp_path: Path) -> None:
    kept = finding(detail={"tasks": {"sciq": 3}})
    record = audit(kept, unread=(Unread(where="x:3", reason="not UTF-8"),), unread_count=1)
    store = Findings(tmp_path)
    store.add(record, [kept])
    assert store.current("code_cc", DIGEST) == [kept]
    assert store.audits("code_cc") == [record]
    assert list(store.all()) == [kept]


def test_a_finding_belongs_to_one_version_of_its_source(tmp_path: Path) -> None:
    store = Findings(tmp_path)
    store.add(audit(finding()), [finding()])
    store.add(audit(digest=LATER, finished=2.0, detectors={"line_number_gutter": 1}), [])
    assert store.current("code_cc", LATER) == []
    assert store.current("code_cc", DIGEST)
    assert store.digests("code_cc") == [DIGEST, LATER]
    assert store.detectors_with_findings("code_cc") == {"line_number_gutter"}


def test_a_later_audit_replaces_only_the_findings_of_its_detectors(tmp_path: Path) -> None:
    store, gutter, mojibake = Findings(tmp_path), finding(), finding(detector="mojibake", severity="medium")
    store.add(audit(gutter, mojibake), [gutter, mojibake])
    store.add(audit(finished=2.0, detectors={"mojibake": 2}), [])
    assert store.current("code_cc", DIGEST) == [gutter]


def test_folders_of_two_machines_are_merged_by_copying(tmp_path: Path) -> None:
    gutter, mojibake = finding(), finding(detector="mojibake", severity="medium")
    for name, stored in (("here", gutter), ("there", mojibake)):
        Findings(tmp_path / name).add(audit(stored), [stored])
    shutil.copytree(tmp_path / "there", tmp_path / "here", dirs_exist_ok=True)
    assert Findings(tmp_path / "here").current("code_cc", DIGEST) == [gutter, mojibake]


def test_json_has_the_fractions() -> None:
    plain = json.loads(json.dumps(finding().as_json()))
    assert (plain["fraction"], plain["bytes_fraction"], plain["matched_fraction"]) == (0.25, 0.25, 0.1)
    assert plain["parts"]["snapshot"]["2026-10-15"]["fraction"] == 0.5
    assert plain["examples"][0]["matches"] == [[0, 5]]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format": 99, "finding": {}}', '{"format": 1, "finding": {"x": 1}}']
)
def test_the_error_names_a_damaged_finding(tmp_path: Path, content: str) -> None:
    store, kept = Findings(tmp_path), finding()
    store.add(audit(kept), [kept])
    [path] = tmp_path.glob("audits/*/*/findings/*.json")
    path.write_text(content, encoding="utf-8")
    with pytest.raises(AssayError, match=path.name):
        store.current("code_cc", DIGEST)


def test_severities_are_ordered() -> None:
    assert finding(severity="high").reaches("medium")
    assert not finding(severity="low").reaches("medium")


@pytest.mark.parametrize("name", ["../x", "", ".files", "a/b"])
def test_the_name_of_a_source_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(AssayError, match="name .* is invalid"):
        Findings(tmp_path).audits(name)
