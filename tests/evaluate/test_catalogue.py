from __future__ import annotations

import json
from pathlib import Path

import pytest

from assay.evaluate.catalogue import Catalogue, load_catalogue, scan

FAMILIES = ("mmlu/default", "arc", "super_glue", "aclue", "glue", "anli", "benchmarks", "hellaswag")
"""Tasks, groups in groups, tags as text and as lists, keys in quotes, definitions that include others."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small folder of definitions, with what goes wrong in real ones."""
    files = {
        "a/_base": "tag: shared\ndataset_path: x\n",
        "a/one.yaml": "include: _base\ntask: one\n",
        "a/two.yaml": "task: two\ntag:\n  - shared\n  - other # why\ndoc_to_text: !function utils.text\n",
        "b/quoted.yaml": '"task": "three"\n"tag": "other"\n',
        "b/copy.yaml": "task: one\n",
        "b/broken.yaml": "task: [\n",
        "b/loop.yaml": "include: loop.yaml\ntask: four\n",
        "c/group.yaml": "group: all\ntask:\n  - shared\n  - group: inner\n    task:\n      - four\n      - task: three\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_names_and_files_are_those_of_lm_evals_own_index() -> None:
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._index import Kind

    known = load_catalogue(fresh=True)
    folders = [known.root / family for family in FAMILIES]
    index = TaskManager(include_defaults=False, include_path=[str(folder) for folder in folders]).task_index
    assert len(index) > 100
    for name, entry in index.items():
        if entry.kind is Kind.TAG:
            assert set(entry.tags) <= set(known.tags[name])
            continue
        assert entry.yaml_path is not None
        file = known.groups[name] if entry.kind is Kind.GROUP else known.tasks[name]
        assert known.root / file == entry.yaml_path
    for family in FAMILIES:
        files = {*known.tasks.values(), *known.groups.values()}
        assert {name for name in files if name.startswith(f"{family}/")} <= {
            entry.yaml_path.relative_to(known.root).as_posix() for entry in index.values() if entry.yaml_path
        }


def test_definitions_inherit_what_they_include_and_the_first_file_has_a_name(tree: Path) -> None:
    found = scan(tree)
    assert found.tasks == {"one": "a/one.yaml", "two": "a/two.yaml", "four": "b/loop.yaml", "three": "b/quoted.yaml"}
    assert found.tags == {"shared": ("one", "two"), "other": ("two", "three")}
    assert found.groups == {"all": "c/group.yaml"}


def test_a_group_leads_to_the_folders_of_all_that_it_is_made_of(tree: Path) -> None:
    found = scan(tree)
    assert found.folders(["all"]) == [tree / "a", tree / "b", tree / "c"]
    assert found.folders(["two"]) == [tree / "a"]
    assert found.leaves("all") == ["four", "one", "three", "two"]


def test_folders_inside_another_are_not_read_twice(tmp_path: Path) -> None:
    found = Catalogue(root=tmp_path, tasks={"x": "f/x.yaml", "y": "f/g/y.yaml"}, groups={}, tags={})
    assert found.folders(["x", "y"]) == [tmp_path / "f"]


def test_the_catalogue_is_kept_for_one_version_of_lm_eval_only(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    complete = load_catalogue(root=tree)
    (kept,) = (tmp_path / "cache" / "assay").iterdir()
    record = json.loads(kept.read_text())
    kept.write_text(json.dumps({**record, "tasks": {"only": "only.yaml"}}))
    assert load_catalogue(root=tree).tasks == {"only": "only.yaml"}
    kept.write_text(json.dumps({**record, "tasks": {}, "version": "0.0.1"}))
    assert load_catalogue(root=tree) == complete
    kept.write_text("{ cut")
    assert load_catalogue(root=tree) == complete


def test_a_cache_that_cannot_be_written_costs_time_only(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "three" in load_catalogue(root=tree)
