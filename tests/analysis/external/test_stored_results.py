"""External results in the store: stored atomically, once, and replaced only with `force`."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from assay.analysis.external import stored_results
from assay.analysis.external.reading import RunLabels, read
from assay.analysis.external.table import ExternalTable
from assay.core.errors import AssayError
from assay.store.runs import Store
from tests.analysis.external.result_files import HEADER, table, write

NOW = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def results(folder: Path, mean: float = 0.5) -> ExternalTable:
    path = write(folder / "t.csv", f"{HEADER}\n" + table({"a": mean, "b": 0.6}))
    return read([path], RunLabels.parse({}, None)).table


def put(store: Store, rows: ExternalTable, name: str = "team", *, force: bool = False) -> stored_results.StoredImport:
    return stored_results.put(store, name, rows, origins=["/there/t.csv"], source="0" * 64, force=force, now=NOW)


def test_loaded_results_equal_the_stored_ones_and_have_an_origin(store: Store, tmp_path: Path) -> None:
    rows = results(tmp_path)
    made = put(store, rows)
    assert made.state == "imported"
    assert stored_results.load(store, "team").equals(rows.frame)
    record = json.loads((store.imports / "team" / "origin.json").read_text())
    assert record["when"] == "2026-11-23T12:00:00+00:00"
    assert {key: record[key] for key in ("rows", "mixes", "seeds", "scales", "tasks", "metrics", "origins")} == {
        "rows": 6, "mixes": ["a", "b"], "seeds": 3, "scales": ["150M"], "tasks": ["arc_easy"], "metrics": ["acc"],
        "origins": ["/there/t.csv"],
    }  # fmt: skip
    assert stored_results.listed(store) == [made.origin]


def test_equal_results_change_nothing_and_others_require_force(store: Store, tmp_path: Path) -> None:
    put(store, results(tmp_path))
    written = (store.imports / "team" / "origin.json").stat().st_mtime_ns
    assert put(store, results(tmp_path)).state == "unchanged"
    assert (store.imports / "team" / "origin.json").stat().st_mtime_ns == written
    others = results(tmp_path, mean=0.7)
    with pytest.raises(AssayError, match="exists with other results: 6 rows of 2 mixes"):
        put(store, others)
    assert put(store, others, force=True).state == "replaced"
    assert stored_results.load(store, "team").equals(others.frame)


def test_a_failed_import_leaves_the_previous_results(
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
    assert stored_results.load(store, "team").equals(first.frame)
    assert [path.name for path in store.imports.iterdir() if not path.name.startswith(".")] == ["team"]


def test_errors_name_the_nearest_import_or_the_damaged_file(store: Store, tmp_path: Path) -> None:
    put(store, results(tmp_path))
    with pytest.raises(AssayError, match="no import is named 'taem'. Did you mean 'team'?"):
        stored_results.load(store, "taem")
    (store.imports / "team" / "results.parquet").write_bytes(b"PAR1")
    with pytest.raises(AssayError, match="results.parquet: cannot be read"):
        stored_results.load(store, "team")


def test_a_name_that_is_no_folder_name_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(AssayError, match="name .* is invalid"):
        put(store, results(tmp_path), "../team")
