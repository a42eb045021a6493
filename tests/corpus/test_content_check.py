"""A source without usable documents is refused before a job reads it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from assay.core.errors import AssayError
from assay.corpus.content_check import check_content
from tests.corpus.conftest import source_of

TABLE = pa.table({"text": pa.array([], pa.string())})
TWO = "".join(json.dumps({"text": text}) + "\n" for text in ("one", "two"))


def _two(folder: Path) -> Path:
    (folder / "two.jsonl").write_text(TWO)
    return folder / "two.jsonl"


def _parquet(path: Path) -> None:
    pq.write_table(TABLE, path)


def _feather(path: Path) -> None:
    pyarrow.feather.write_feather(TABLE, path)


EMPTY = {
    "a.jsonl": lambda path: path.write_bytes(b""),
    "b.jsonl": lambda path: path.write_bytes(b"\n \n"),
    "a.txt": lambda path: path.write_bytes(b""),
    "b.txt": lambda path: path.write_bytes("\ufeff".encode()),
    "a.jsonl.gz": lambda path: path.write_bytes(gzip.compress(b"")),
    "a.txt.gz": lambda path: path.write_bytes(gzip.compress(b"")),
    "a.parquet": _parquet,
    "a.feather": _feather,
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_file_without_a_document_is_refused_next_to_others(tmp_path: Path, name: str) -> None:
    EMPTY[name](tmp_path / name)
    (tmp_path / "other.jsonl").write_text(TWO)
    with pytest.raises(AssayError, match=f"{name}: the file of source .* is empty"):
        check_content(source_of(tmp_path / name, tmp_path / "other.jsonl"))


@pytest.mark.parametrize("texts", [[""], ["", ""]])
def test_a_source_without_text_is_refused(tmp_path: Path, texts: list[str]) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    with pytest.raises(AssayError, match="all documents are empty"):
        check_content(source_of(tmp_path / "a.jsonl"))
    check_content(source_of(tmp_path / "a.jsonl", _two(tmp_path)))


def test_damage_is_left_to_the_reader(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(TWO)
    check_content(source_of(tmp_path / "a.jsonl"))
    (tmp_path / "b.jsonl").write_text('{"text": "one"}\nno JSON\n')
    check_content(source_of(tmp_path / "b.jsonl"))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(TWO.encode())[:-9])
    check_content(source_of(tmp_path / "c.jsonl.gz"))


def test_a_table_without_the_column_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"txt": ["one", "two"]}), tmp_path / "a.parquet")
    with pytest.raises(AssayError, match="'text'"):
        check_content(source_of(tmp_path / "a.parquet"))
