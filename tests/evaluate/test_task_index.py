from __future__ import annotations

import json
from pathlib import Path

import pytest

from assay.evaluate.task_index import TaskCatalog, load_catalog, scan

FAMILIES = ("mmlu/default", "arc", "super_glue", "aclue", "glue", "anli", "benchmarks", "hellaswag")
"""Families with tasks, nested groups, tags as text and as lists, quoted keys, and included definitions."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small folder of definitions with typical errors."""
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


def test_names_and_files_equal_those_of_lm_evals_index() -> None:
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._index import Kind

    catalog = load_catalog(fresh=True)
    folders = [catalog.root / family for family in FAMILIES]
    index = TaskManager(include_defaults=False, include_path=[str(folder) for folder in folders]).task_index
    assert len(index) > 100
    for name, entry in index.items():
        if entry.kind is Kind.TAG:
            assert set(entry.tags) <= set(catalog.tags[name])
            continue
        assert entry.yaml_path is not None
        file = catalog.groups[name] if entry.kind is Kind.GROUP else catalog.tasks[name]
        assert catalog.root / file == entry.yaml_path
    for family in FAMILIES:
        files = {*catalog.tasks.values(), *catalog.groups.values()}
        assert {name for name in files if name.startswith(f"{family}/")} <= {
            entry.yaml_path.relative_to(catalog.root).as_posix() for entry in index.values() if entry.yaml_path
        }


def test_definitions_inherit_included_keys_and_the_first_file_with_a_name_counts(tree: Path) -> None:
    catalog = scan(tree)
    assert catalog.tasks == {"one": "a/one.yaml", "two": "a/two.yaml", "four": "b/loop.yaml", "three": "b/quoted.yaml"}
    assert catalog.tags == {"shared": ("one", "two"), "other": ("two", "three")}
    assert catalog.groups == {"all": "c/group.yaml"}


def test_a_group_has_the_folders_of_all_its_members(tree: Path) -> None:
    catalog = scan(tree)
    assert catalog.folders(["all"]) == [tree / "a", tree / "b", tree / "c"]
    assert catalog.folders(["two"]) == [tree / "a"]
    assert catalog.leaves("all") == ["four", "one", "three", "two"]


def test_nested_folders_are_not_read_twice(tmp_path: Path) -> None:
    catalog = TaskCatalog(root=tmp_path, tasks={"x": "f/x.yaml", "y": "f/g/y.yaml"}, groups={}, tags={})
    assert catalog.folders(["x", "y"]) == [tmp_path / "f"]


def test_the_catalog_is_cached_for_one_version_of_lm_eval(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    complete = load_catalog(root=tree)
    (cache,) = (tmp_path / "cache" / "assay").iterdir()
    record = json.loads(cache.read_text())
    cache.write_text(json.dumps({**record, "tasks": {"only": "only.yaml"}}))
    assert load_catalog(root=tree).tasks == {"only": "only.yaml"}
    cache.write_text(json.dumps({**record, "tasks": {}, "version": "0.0.1"}))
    assert load_catalog(root=tree) == complete
    cache.write_text("{ cut")
    assert load_catalog(root=tree) == complete


def test_an_unwritable_cache_is_no_error(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "three" in load_catalog(root=tree)
