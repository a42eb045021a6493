"""Imports in the store: whole or not at all, once, and never in the place of others without being told."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from assay.errors import AssayError
from assay.imports import shelf
from assay.imports.read import Given, read
from assay.imports.table import Table
from assay.store import Store
from tests.imports.files import HEADER, table, write

NOW = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def results(folder: Path, mean: float = 0.5) -> Table:
    path = write(folder / "t.csv", f"{HEADER}\n" + table({"a": mean, "b": 0.6}))
    return read([path], Given.parse({}, None)).table


def put(store: Store, found: Table, name: str = "team", *, force: bool = False) -> shelf.Put:
    return shelf.put(store, name, found, origins=["/there/t.csv"], source="0" * 64, force=force, now=NOW)


def test_what_was_put_is_what_is_loaded_and_its_origin_says_what_it_is(store: Store, tmp_path: Path) -> None:
    found = results(tmp_path)
    made = put(store, found)
    assert made.state == "imported"
    assert shelf.load(store, "team").equals(found.frame)
    record = json.loads((store.imports / "team" / "origin.json").read_text())
    assert record["when"] == "2026-11-23T12:00:00+00:00"
    assert {key: record[key] for key in ("rows", "mixes", "seeds", "scales", "tasks", "metrics", "origins")} == {
        "rows": 6, "mixes": ["a", "b"], "seeds": 3, "scales": ["150M"], "tasks": ["arc_easy"], "metrics": ["acc"],
        "origins": ["/there/t.csv"],
    }  # fmt: skip
    assert shelf.listed(store) == [made.origin]


def test_the_same_results_again_change_nothing_and_others_need_force(store: Store, tmp_path: Path) -> None:
    put(store, results(tmp_path))
    written = (store.imports / "team" / "origin.json").stat().st_mtime_ns
    assert put(store, results(tmp_path)).state == "unchanged"
    assert (store.imports / "team" / "origin.json").stat().st_mtime_ns == written
    others = results(tmp_path, mean=0.7)
    with pytest.raises(AssayError, match="is there with other results: 6 rows of 2 mixes"):
        put(store, others)
    assert put(store, others, force=True).state == "replaced"
    assert shelf.load(store, "team").equals(others.frame)


def test_an_import_that_fails_half_way_leaves_what_was_there(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = results(tmp_path)
    put(store, first)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    others = results(tmp_path, mean=0.7)
    monkeypatch.setattr("pandas.DataFrame.to_parquet", full)
    with pytest.raises(AssayError, match="the disk is full"):
        put(store, others, force=True)
    assert shelf.load(store, "team").equals(first.frame)
    assert [path.name for path in store.imports.iterdir() if not path.name.startswith(".")] == ["team"]


def test_an_unknown_import_is_named_with_the_nearest_and_a_damaged_one_with_its_file(
    store: Store, tmp_path: Path
) -> None:
    put(store, results(tmp_path))
    with pytest.raises(AssayError, match="no import is called 'taem'. Did you mean 'team'?"):
        shelf.load(store, "taem")
    (store.imports / "team" / "results.parquet").write_bytes(b"PAR1")
    with pytest.raises(AssayError, match="results.parquet: cannot be read"):
        shelf.load(store, "team")


def test_a_name_that_could_not_be_a_folders_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(AssayError, match="not a usable name"):
        put(store, results(tmp_path), "../team")
