"""A new project runs as created, explains every key, and clears no text but its own."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.cli.init_command import init
from assay.config.cluster import Slurm
from assay.config.mixes import MixDeclaration, Multiply, Only, Replace, Scale, Set
from assay.config.policy import Averaging, Criterion, EarlyStopping, Policy, Target
from assay.config.recipe import BatchSize, Budget
from assay.config.settings import Tracking
from assay.config.sources import Clearance, Source, Waiver
from assay.config.suite import Suite, SuiteTask
from assay.config.sweep import Sweep
from assay.config.taint import TaintRule
from assay.config.tokenizer import TokenizerSpec
from tests.cli.invoke import Said, caller

EXPLAINED = {
    "conf/source/my_source.yaml.example": (Source, Clearance, Waiver),
    "conf/mix/today.yaml": (MixDeclaration,),
    "conf/suite/ours.yaml": (Suite, SuiteTask),
    "conf/policy/ours.yaml": (Policy, Criterion, Target, Averaging, EarlyStopping),
    "conf/tokenizer/ours.yaml": (TokenizerSpec,),
    "conf/cluster/local.yaml": (),
    "conf/cluster/slurm.yaml": (Slurm,),
    "conf/config.yaml": (Budget, BatchSize, Tracking, TaintRule),
    "sweeps/first.yaml": (Sweep,),
}
"""Created files, and the sections whose keys they explain."""
ELSEWHERE = {
    ("conf/mix/today.yaml", "edits"): "in more_code.yaml",
    ("conf/mix/today.yaml", "selection"): "its key is `sources`",
}
FILE_NAMES = {"name"}
"""Keys that a file takes from its own name."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    init(folder, as_json=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def assay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    monkeypatch.delenv("ASSAY_BENCHMARKS", raising=False)
    call = caller(monkeypatch, capsys)
    capsys.readouterr()
    return call


def test_the_created_sweep_plans_every_run(project: Path, assay: Callable[..., Said]) -> None:
    plan = assay("plan", "sweep=first", "--json").json
    assert [run["status"] for run in plan["runs"]] == ["todo"] * 6
    assert assay("sources", "--json").code == 0
    del project


@pytest.mark.parametrize("file", EXPLAINED)
def test_created_files_have_every_key(project: Path, file: str) -> None:
    text = (project / file).read_text()
    for section in EXPLAINED[file]:
        for field in dataclasses.fields(section):
            if field.name not in FILE_NAMES and (file, field.name) not in ELSEWHERE:
                assert re.search(rf"\b{field.name}:", text), f"{file} lacks {section.__name__}.{field.name}"


def test_the_created_candidate_shows_every_edit(project: Path) -> None:
    text = (project / "conf/mix/more_code.yaml").read_text()
    for edit in (Replace, Only, Scale, Set, Multiply):
        assert re.search(rf"- {edit.__name__.lower()}:", text)
    assert "drop:" in text


@pytest.mark.parametrize("change", ["append", "replace", "add"])
def test_text_in_place_of_the_sample_is_pending(project: Path, assay: Callable[..., Said], change: str) -> None:
    sample = project / "data/my_web/sample.jsonl"
    text = '{"text": "text that no person has cleared"}\n'
    if change == "add":
        (project / "data/my_web/more.jsonl").write_text(text)
        declared = project / "conf/source/my_web.yaml"
        declared.write_text(declared.read_text().replace("sample.jsonl", "*.jsonl"))
    else:
        sample.write_text((sample.read_text() if change == "append" else "") + text)
    plan = assay("plan", "sweep=first", "--json").json
    assert {reason["code"] for run in plan["runs"] for reason in run["reasons"]} == {"source_pending"}
    assert {source["name"]: source["refusal"] is None for source in assay("sources", "--json").json} == {
        "my_code": True,
        "my_web": False,
    }
    prepared = assay("prepare", "sweep=first")
    assert prepared.code == 2
    assert "my_web" in prepared.err


def test_existing_files_are_kept(project: Path, assay: Callable[..., Said]) -> None:
    (project / "sweeps/first.yaml").write_text("ours")
    refused = assay("init")
    assert refused.code == 2
    assert "--force" in refused.err
    assert (project / "sweeps/first.yaml").read_text() == "ours"


@pytest.mark.parametrize("mirror", ["absent", "present", "named"])
def test_benchmarks_come_from_the_hub_unless_there_is_a_mirror(
    project: Path, assay: Callable[..., Said], mirror: str
) -> None:
    from assay.config.compose import compose

    del assay
    named = [] if mirror != "named" else ["paths.benchmarks=shared/mirror"]
    if mirror == "present":
        (project / "data/benchmarks").mkdir()
    found = compose(["sweep=first", *named]).paths.mirror
    assert (
        found
        == {
            "absent": None,
            "present": project / "data/benchmarks",
            "named": project / "shared/mirror",
        }[mirror]
    )


OUTSIDE = [
    (("sources",), 2),
    (("mix", "show", "web_and_github"), 2),
    (("plan", "sweep=first"), 2),
    (("submit",), 2),
    (("audit",), 2),
    (("report", "sweep=first"), 2),
    (("plan", "sweep=code_replace"), 0),
    (("mix", "show", "web_and_github", "sweep=code_replace"), 0),
    (("import", "list"), 0),
]


@pytest.mark.parametrize(("arguments", "code"), OUTSIDE)
def test_the_packaged_project_is_never_used_silently(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    assay: Callable[..., Said],
    arguments: tuple[str, ...],
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = assay(*arguments)
    assert outcome.code == code
    assert "is in no project" in outcome.err
    assert "assay init" in outcome.err


def test_the_project_above_the_working_directory_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, assay: Callable[..., Said]
) -> None:
    monkeypatch.chdir(project / "data")
    assert f"project: {project}" in assay("sources").err
