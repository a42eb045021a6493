"""A team's own lm-eval tasks are planned, evaluated, and part of an evaluation's identity."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assay.config.study import Study
from assay.config.suite import EvaluationSpec, SuiteTask
from assay.core.errors import ConfigError, NotFound, Refused
from assay.evaluate.evaluation import evaluate
from assay.evaluate.item_texts import load_item_texts
from assay.evaluate.log_filter import capture_harness_log
from assay.evaluate.offline import use_mirror
from assay.evaluate.task_check import check_tasks, require_tasks
from assay.evaluate.task_folder import TaskFolder, digest_task_folder, freeze_task_folder, frozen_task_folder
from assay.evaluate.task_identity import FILES
from assay.plan.workspace import Workspace
from assay.store.runs import RunDirectory
from tests.evaluate.conftest import make_spec
from tests.helpers.tiny import tiny_study

YAML = """
task: team_sums
dataset_path: json
dataset_kwargs:
  data_files: {test: evals/sums.jsonl}
test_split: test
output_type: multiple_choice
doc_to_text: !function utils.prompt
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
GROUP = "group: team\ntask: [team_sums, sciq]\naggregate_metric_list:\n  - {metric: acc, weight_by_size: true}\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project root with four own items in `evals`, in which commands run."""
    folder = tmp_path / "evals"
    folder.mkdir()
    items = [{"question": f"{n} + 1 =", "choices": [str(n + 1), str(n + 2)], "answer": 0} for n in range(4)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (folder / "sums.yaml").write_text(YAML)
    (folder / "group.yaml").write_text(GROUP)
    (folder / "utils.py").write_text("def prompt(doc):\n    return f\"Sum: {doc['question']}\"\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mirror(benchmarks: Path, tmp_path: Path) -> Path:
    """A mirror of SciQ alone, into which `datasets` may write its cache of own items."""
    shutil.copytree(benchmarks / "allenai___sciq", tmp_path / "mirror" / "allenai___sciq")
    return tmp_path / "mirror"


def own_spec(folder: Path, *tasks: SuiteTask) -> EvaluationSpec:
    return make_spec(*tasks, task_files=digest_task_folder(folder))


def make_study(project: Path) -> Study:
    overrides = {"suite.tasks": [{"task": "team_sums"}], "suite.include_path": "evals"}
    return tiny_study(project, overrides=overrides)


def test_own_tasks_and_groups_are_evaluated_offline_next_to_those_of_lm_eval(
    project: Path, make_run: Callable[[str], RunDirectory], mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    folder, run = project / "evals", make_run("a")
    spec = own_spec(folder, SuiteTask(task="team", limit=3))
    evaluate(run, spec, {}, mirror=mirror, include_path=folder, device="cpu")
    scores = {(score["task"], score["metric"]): score for score in run.scores(spec.fingerprint)}
    assert {task: scores[task, "acc"]["n"] for task in ("team", "team_sums", "sciq")} == {
        "team": 6, "team_sums": 3, "sciq": 3,
    }  # fmt: skip
    assert scores["team_sums", "acc"]["chance"] == 0.5
    use_mirror(mirror)
    with capture_harness_log():
        items = load_item_texts([SuiteTask(task="team_sums")], progress=lambda _fraction: None, include_path=folder)
    assert [item.text for item in items] == [f"Sum: {n} + 1 = {n + 1} {n + 2}" for n in range(4)]
    assert digest_task_folder(folder) == spec.task_files  # evaluating them leaves their identity as it was


def test_a_sweep_with_own_tasks_is_planned(project: Path) -> None:
    study = make_study(project)
    evaluation = Workspace(study).runs.evaluation
    assert evaluation.task_files == digest_task_folder(project / "evals")
    assert Workspace(Study.parse(study.raw)).planner.plan().evaluation == evaluation.fingerprint


@pytest.mark.parametrize("change", ["sums.jsonl", "utils.py", "new.txt"])
def test_every_file_of_the_folder_is_part_of_the_fingerprint(project: Path, change: str) -> None:
    before = Workspace(make_study(project)).runs.evaluation
    path = project / "evals" / change
    path.write_text(path.read_text() + "\n" if path.exists() else "")
    assert Workspace(make_study(project)).runs.evaluation.fingerprint != before.fingerprint


def test_a_rename_is_part_of_the_fingerprint_and_caches_are_not(project: Path) -> None:
    folder = project / "evals"
    before = digest_task_folder(folder)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "utils.pyc").write_bytes(b"x")
    assert digest_task_folder(folder) == before
    (folder / "utils.py").rename(folder / "tools.py")
    assert digest_task_folder(folder) != before


def test_without_a_folder_the_fingerprint_is_that_of_earlier_versions() -> None:
    spec = EvaluationSpec(
        tasks=(SuiteTask(task="sciq"),), batch_size=4, validation_bytes=0, validation={}, harness="h", datasets="hub"
    )
    assert spec.fingerprint == "7d7e25a01a2bd427d055136ed5e35fb79965395db4085ad56a20c6d23d4d9248"
    assert replace(spec, task_files="x").fingerprint != spec.fingerprint


def test_files_that_changed_since_the_plan_are_refused(project: Path, make_run: Callable[[str], RunDirectory]) -> None:
    folder = project / "evals"
    spec = own_spec(folder, SuiteTask(task="team_sums"))
    (folder / "utils.py").write_text("def prompt(doc):\n    return doc['question']\n")
    with pytest.raises(Refused, match="changed after the evaluation was planned"):
        evaluate(make_run("a"), spec, {}, mirror=None, include_path=folder, device="cpu")
    with pytest.raises(Refused, match="changed after the evaluation was planned"):
        evaluate(make_run("b"), spec, {}, mirror=None, device="cpu")


def test_a_missing_data_file_is_reported_with_the_definition(
    project: Path, make_run: Callable[[str], RunDirectory]
) -> None:
    folder = project / "evals"
    (folder / "sums.jsonl").unlink()
    with pytest.raises(
        NotFound, match=r"task 'team_sums': its items could not be read from the data files of .*sums.yaml"
    ):
        evaluate(
            make_run("a"),
            own_spec(folder, SuiteTask(task="team_sums")),
            {},
            mirror=None,
            include_path=folder,
            device="cpu",
        )


def test_a_missing_folder_is_a_config_error(project: Path) -> None:
    study = make_study(project)
    study = replace(study, suite=replace(study.suite, include_path="elsewhere"))
    with pytest.raises(ConfigError, match=r"suite\.include_path: the folder .*elsewhere does not exist"):
        Workspace(study).planner.plan()


@pytest.mark.parametrize(
    ("text", "name", "defined_in"),
    [
        ("task: sciq\n", "sciq", "sciq/sciq.yaml"),
        ("group: mmlu\ntask: [team_sums]\n", "mmlu", "_mmlu.yaml"),
        ("task: own\ntag: ai2_arc\n", "ai2_arc", "arc_"),
    ],
)
def test_a_name_that_lm_eval_has_is_refused_with_both_files(
    text: str, name: str, defined_in: str, project: Path
) -> None:
    (project / "evals" / "copy.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"copy\.yaml defines '{name}', which \S*{defined_in}") as error:
        check_tasks(["team_sums"], include_path=project / "evals")
    assert error.value.fix


def test_a_file_that_is_no_yaml_is_refused(project: Path) -> None:
    (project / "evals" / "broken.yaml").write_text("task: x\nmetric_list: [\n")
    with pytest.raises(ConfigError, match=r"broken\.yaml is not valid YAML"):
        check_tasks(["team_sums"], include_path=project / "evals")


def test_own_tasks_are_suggested_for_a_misspelled_name(project: Path) -> None:
    with pytest.raises(NotFound) as error:
        require_tasks(["team_sum"], include_path=project / "evals")
    assert "'team_sums'" in error.value.fix


def plan_identity(project: Path) -> str:
    return Workspace(make_study(project)).runs.evaluation.fingerprint


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def test_files_outside_of_the_folder_that_a_definition_names_count(project: Path) -> None:
    """An included definition, the module of a function in a linked definition, and data files."""
    common, data = project / "common", project / "data"
    common.mkdir()
    data.mkdir()
    (project / "evals" / "sums.jsonl").rename(data / "sums.jsonl")
    edit(project / "evals" / "sums.yaml", "evals/sums.jsonl", "data/sums.jsonl")
    edit(project / "evals" / "sums.yaml", "test_split: test\n", "")
    (common / "_base.yaml").write_text("test_split: test\n")
    edit(project / "evals" / "sums.yaml", "task: team_sums", "include: ../common/_base.yaml\ntask: team_sums")
    (project / "evals" / "sums.yaml").rename(common / "sums.yaml")
    edit(common / "sums.yaml", "../common/_base.yaml", "_base.yaml")
    (project / "evals" / "utils.py").rename(common / "utils.py")
    (project / "evals" / "sums.yaml").symlink_to(common / "sums.yaml")
    before = plan_identity(project)
    for path in (data / "sums.jsonl", common / "_base.yaml", common / "utils.py"):
        text = path.read_text()
        path.write_text(text + "\n")
        assert plan_identity(project) != before, path
        path.write_text(text)
    (common / "unrelated.txt").write_text("x")
    assert plan_identity(project) == before


def test_the_folder_may_be_inside_a_symbolic_link(project: Path, tmp_path: Path) -> None:
    direct = plan_identity(project)
    real = tmp_path / "real"
    real.mkdir()
    (project / "evals").rename(real / "evals")
    (project / "evals").symlink_to(real / "evals")
    assert plan_identity(project) == direct


def test_a_place_is_no_part_of_the_identity(project: Path, tmp_path: Path) -> None:
    before = digest_task_folder(project / "evals", root=project)
    shutil.copytree(project / "evals", tmp_path / "copy" / "evals")
    assert digest_task_folder(tmp_path / "copy" / "evals", root=tmp_path / "copy") == before


def test_a_submission_evaluates_its_copy_of_the_files(
    project: Path, make_run: Callable[[str], RunDirectory], tmp_path: Path
) -> None:
    tasks, run = TaskFolder(project / "evals", project), make_run("a")
    spec = own_spec(tasks.path, SuiteTask(task="team_sums"))
    freeze_task_folder(tasks, tmp_path / "frozen")
    for name in ("sums.jsonl", "utils.py", "sums.yaml"):
        (project / "evals" / name).unlink()
    copy = frozen_task_folder(tasks, tmp_path / "frozen")
    assert copy.root == tmp_path / "frozen"
    evaluate(run, spec, {}, mirror=None, include_path=copy.path, root=copy.root, device="cpu")
    assert {score["n"] for score in run.scores(spec.fingerprint)} == {4}


def test_the_copy_includes_files_outside_of_the_folder(project: Path, tmp_path: Path) -> None:
    (project / "data").mkdir()
    (project / "evals" / "sums.jsonl").rename(project / "data" / "sums.jsonl")
    edit(project / "evals" / "sums.yaml", "evals/sums.jsonl", "data/sums.jsonl")
    tasks = TaskFolder(project / "evals", project)
    freeze_task_folder(tasks, tmp_path / "frozen")
    copy = frozen_task_folder(tasks, tmp_path / "frozen")
    assert (copy.root / "data" / "sums.jsonl").exists()
    assert digest_task_folder(copy.path, root=copy.root) == digest_task_folder(tasks.path, root=tasks.root)


def test_without_a_copy_the_projects_folder_is_evaluated(project: Path, tmp_path: Path) -> None:
    tasks = TaskFolder(project / "evals", project)
    assert frozen_task_folder(tasks, tmp_path / "nowhere") == tasks


def test_tasks_of_local_files_need_neither_a_mirror_nor_the_hub(project: Path, tmp_path: Path) -> None:
    study = make_study(project)
    study = replace(study, paths=replace(study.paths, benchmarks=str(tmp_path / "no mirror")))
    assert Workspace(study).runs.evaluation.datasets == FILES
    other = replace(study, suite=replace(study.suite, tasks=(SuiteTask(task="team"),)))
    with pytest.raises(NotFound, match="it contains no data set"):
        _ = Workspace(other).runs.evaluation


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "defines no task"),
        ({"notes.txt": "x"}, "defines no task"),
        ({"sums.yml": "task: a\n"}, "defines no task"),
        ({"a.yaml": "task: a\n", "b.yaml": "task: a\n"}, "both define 'a'"),
        ({"a.yaml": "group: a\ntask: [sciq]\n", "b.yaml": "group: a\ntask: [piqa]\n"}, "both define 'a'"),
        ({"a.yaml": "include: missing.yaml\ntask: a\n"}, r"missing\.yaml"),
        ({"a.yaml": "include: a.yaml\ntask: a\n"}, "includes itself"),
        ({"a.yaml": "include: b.yaml\ntask: a\n", "b.yaml": "include: a.yaml\n"}, "includes itself"),
        ({"a.yaml": b"\xff\xfe\x00"}, "is not valid YAML"),
    ],
    ids=str,
)
def test_a_folder_that_lm_eval_would_read_in_part_is_refused(
    tmp_path: Path, files: dict[str, Any], message: str
) -> None:
    folder = tmp_path / "evals"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=message) as error:
        check_tasks(["a"], include_path=folder)
    assert error.value.fix


def test_a_folder_that_contains_the_store_is_refused(project: Path) -> None:
    """Every run would change the identity of the evaluation."""
    study = make_study(project)
    study = replace(study, suite=replace(study.suite, include_path="."))
    with pytest.raises(ConfigError, match="contains the store, which changes with every run"):
        _ = Workspace(study).runs.evaluation


def test_a_file_is_no_folder(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"sums\.yaml is a file; expected a folder"):
        digest_task_folder(project / "evals" / "sums.yaml")


def test_a_group_that_names_an_unknown_task_is_refused(project: Path) -> None:
    edit(project / "evals" / "group.yaml", "team_sums, sciq", "team_sum, sciq")
    with pytest.raises(ConfigError, match=r"group\.yaml names the task 'team_sum', which does not exist") as error:
        check_tasks(["team"], include_path=project / "evals")
    assert error.value.fix == "Write 'team_sums', or add the task."


def test_a_pipe_in_the_folder_is_no_file(project: Path) -> None:
    before = digest_task_folder(project / "evals")
    os.mkfifo(project / "evals" / "pipe")
    assert digest_task_folder(project / "evals") == before


def test_a_dangling_link_in_the_folder_is_named(project: Path) -> None:
    (project / "evals" / "lost.txt").symlink_to(project / "nowhere")
    with pytest.raises(ConfigError, match=r"lost\.txt cannot be read"):
        digest_task_folder(project / "evals")


def test_only_the_folders_that_define_the_tasks_are_read(project: Path) -> None:
    folders: list[Any] = require_tasks(["team_sums"], include_path=project / "evals").folders(["team_sums"])
    assert folders == [project / "evals"]
