"""The first bytes of a file decide how it is read; content that contradicts the declaration is never one document."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from assay.core.errors import AssayError, ConfigError, Damaged
from assay.corpus.source_files import list_files
from assay.corpus.source_format import FormatError
from assay.corpus.source_reader import check_formats, documents, fresh_digest
from tests.corpus.conftest import source_of
from tests.corpus.test_source_reader import zstd

PROSE = "The river rises in the hills, and the town that it crosses is old.\nIts bridge has nine arches.\n"
LINES = b'{"text": "one"}\n{"text": "two"}\n'
TABLE = pa.table({"text": ["one", "two"]})
WARC = (
    b"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Length: 9\r\n\r\nPage one.\r\n\r\n"
    b"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Length: 9\r\n\r\nPage two.\r\n\r\n"
)


def texts_of(file: Path, **fields: object) -> list[str]:
    return [document.text for document in documents(source_of(file, **fields))]


def arrow_stream(table: pa.Table = TABLE) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def arrow_file(table: pa.Table = TABLE) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet(table: pa.Table = TABLE) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def zipped() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("a.txt", PROSE)
    return sink.getvalue()


def tarred() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        info = tarfile.TarInfo("a.txt")
        info.size = len(PROSE)
        archive.addfile(info, io.BytesIO(PROSE.encode()))
    return sink.getvalue()


def array(values: object) -> bytes:
    sink = io.BytesIO()
    np.save(sink, np.asarray(values))
    return sink.getvalue()


def orc() -> bytes:
    sink = io.BytesIO()
    pyarrow.orc.write_table(TABLE, sink)
    return sink.getvalue()


def database() -> bytes:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("create table texts (text)")
        return connection.serialize()


OTHERS: dict[str, tuple[bytes, str]] = {
    "warc": (WARC, "a WARC archive"),
    "csv": (b"id,text\n1,one\n2,two\n", "a CSV table"),
    "csv with a mark": (b"\xef\xbb\xbftext,id\none,1\n", "a CSV table"),
    "csv with line breaks": (b'url,text\nx,"one\nmore, and more"\ny,two\n', "a CSV table"),
    "tsv": (b"id\ttext\n1\tone\n2\ttwo\n", "a TSV table"),
    "csv of one long row": (b'id,text\n1,"' + b"word " * 40_000 + b'"\n', "a CSV table"),
    "table without the column": (b"title;body\n" + b"a;b\n" * 9, "a CSV table with semicolons"),
    "json lines": (LINES, "JSON lines"),
    "json array": (json.dumps([{"text": "one"}, {"text": "two"}]).encode(), "a JSON array of objects"),
    "json array over lines": (json.dumps([{"text": "one"}] * 99, indent=1).encode(), "a JSON array of objects"),
    "parquet": (parquet(), "Parquet"),
    "arrow stream": (arrow_stream(), "Arrow"),
    "arrow file": (arrow_file(), "Arrow"),
    "feather 1": (b"FEA1\x00\x00\x00\x00", "Feather version 1"),
    "orc": (orc(), "ORC"),
    "avro": (b"Obj\x01\x04\x14avro.codec", "Avro"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "PDF"),
    "zip": (zipped(), "a ZIP archive"),
    "tar": (tarred(), "a tar archive"),
    "utf-16": (PROSE.encode("utf-16"), "text in UTF-16"),
    "utf-16 without a mark": (PROSE.encode("utf-16-be"), "text in UTF-16BE"),
    "utf-32": (PROSE.encode("utf-32"), "text in UTF-32"),
    "cyrillic utf-16": ("мост через реку ".encode("utf-16-le") * 9, "binary data"),
    "pickle": (pickle.dumps(["one"]), "a Python pickle"),
    "numpy": (array([1, 2]), "a NumPy array"),
    "sqlite": (database(), "an SQLite database"),
    "gzip twice": (gzip.compress(PROSE.encode()), "compressed twice"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer"),
    "git-annex": (b"/annex/objects/SHA256E-s9--0.txt\n", "a git-annex pointer"),
    "mbox": (b"From a@b.org Mon Nov 30 14:00:00 2026\nSubject: x\n\nHello\n", "a mailbox"),
    "wikipedia": (b'<mediawiki xmlns="x">\n<page><title>A</title></page>\n', "an XML dump"),
    "random bytes": (np.random.default_rng(1).bytes(2000), "binary data"),
}


@pytest.mark.parametrize("content", OTHERS)
@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd])
def test_other_content_under_a_declaration_of_text_is_an_error_that_names_it(
    tmp_path: Path, content: str, compress: Callable[[bytes], bytes]
) -> None:
    data, name = OTHERS[content]
    if content == "gzip twice":
        data = gzip.compress(data)
    file = tmp_path / f"a.txt{ {gzip.compress: '.gz', zstd: '.zst'}.get(compress, '') }"
    file.write_bytes(compress(data))
    for declared in ("text", "auto"):
        if declared == "auto" and name in ("Parquet", "Arrow") and compress is bytes:
            continue  # the content decides: see below
        for read in (lambda: texts_of(file, format=declared), lambda: check_formats(source_of(file, format=declared))):  # noqa: B023
            with pytest.raises(FormatError, match=rf"{file.name}: the content is {name}") as refused:
                read()
            assert refused.value.fix


@pytest.mark.parametrize("content", [name for name in OTHERS if name not in ("json lines", "cyrillic utf-16")])
def test_other_content_under_a_declaration_of_json_lines_is_one_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(OTHERS[content][0])
    unread: list[AssayError] = []
    with pytest.raises(FormatError, match="not JSON lines"):
        texts_of(tmp_path / "a.jsonl", format="jsonl")
    assert unread == []


@pytest.mark.parametrize("declared", ["parquet", "arrow"])
@pytest.mark.parametrize("data", [LINES, WARC, b"id,text\n1,one\n", PROSE.encode()])
def test_other_content_under_a_declaration_of_a_table_is_an_error(tmp_path: Path, declared: str, data: bytes) -> None:
    (tmp_path / "a.bin").write_bytes(data)
    with pytest.raises(FormatError, match="the content is"):
        texts_of(tmp_path / "a.bin", format=declared)


def test_plain_text_named_json_lines_is_one_error_and_not_one_per_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(PROSE * 9)
    with pytest.raises(FormatError, match="the content is plain text, not JSON lines"):
        texts_of(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    "text",
    [
        PROSE,
        "Roses are red, violets are blue,\nSugar is sweet, and so are you.\nA third line, of a poem,\nA fourth, too,\nA fifth, now.\n",
        "Night falls, softly\nDay breaks, loudly\nRain comes, slowly\nWind blows, coldly\nSun shines, warmly\n",
        "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n| 5 | 6 |\n| 7 | 8 |\n",
        "[![build](https://x/y.svg)](https://x)\n\n# A project\n",
        "[1]\nA footnote.\n",
        "{{Infobox river}}\nThe river rises.\n",
        "{ a brace }\n",
        "ORCHIDS and PARIS, WARC files and GGUF: a text about names.\n",
        "From the hills the river runs.\n",
        "import os, sys\n\n\ndef f(a, b):\n    return a, b\n",
        "- one\n- two\n",
        "a | b\nc | d | e\n",
        "a\x00b with a zero, and text around it that is long enough\n",
        "größe 数 λ\n",
        "<b>bold</b> at the start\n",
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.md"])
def test_text_is_still_text(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert texts_of(tmp_path / name) == [text]
    assert texts_of(tmp_path / name, format="text") == [text]


@pytest.mark.parametrize(
    "markup",
    ["<!DOCTYPE html>\n<html><body>x</body></html>", "<!-- c -->\n<HTML lang=en>", "<?xml version='1.0'?><a/>"],
)
def test_markup_is_text_only_by_declaration(tmp_path: Path, markup: str) -> None:
    for name in ("a.txt", "a.html"):
        (tmp_path / name).write_text(markup)
        with pytest.raises(FormatError, match="set the source's `format` to text to train on the markup|Extract"):
            texts_of(tmp_path / name)
        assert texts_of(tmp_path / name, format="text") == [markup]


def test_a_json_document_of_a_code_repository_is_text_by_declaration(tmp_path: Path) -> None:
    for number, text in enumerate(('{\n  "name": "x",\n  "version": "1"\n}\n', '["a", "b"]\n')):
        (tmp_path / f"{number}.json").write_text(text)
        assert texts_of(tmp_path / f"{number}.json", format="text") == [text]


def test_objects_over_several_lines_are_answered_with_a_conversion(tmp_path: Path) -> None:
    (tmp_path / "my file.json").write_text(json.dumps({"text": "x" * 9000, "id": 1}, indent=2))
    with pytest.raises(FormatError, match="JSON with objects over several lines") as refused:
        texts_of(tmp_path / "my file.json")
    assert "jq -c . 'my file.json'" in refused.value.fix


# --- what the bytes decide


@pytest.mark.parametrize(
    "data",
    [LINES, gzip.compress(LINES), bz2.compress(LINES), lzma.compress(LINES), zstd(LINES), parquet(), arrow_stream(), arrow_file()],
    ids=["plain", "gzip", "bzip2", "xz", "zstd", "parquet", "arrow stream", "arrow file"],
)  # fmt: skip
def test_a_file_without_a_suffix_is_read_by_its_content(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "8c1f").write_bytes(data)
    assert texts_of(tmp_path / "8c1f") == ["one", "two"]
    assert len(fresh_digest(source_of(tmp_path / "8c1f"))) == 64


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.jsonl", gzip.compress(LINES)), ("a.jsonl.gz", LINES), ("a.jsonl.gz", zstd(LINES))],
    ids=["gzip as jsonl", "jsonl as gzip", "zstd as gzip"],
)
def test_a_wrong_suffix_of_a_compression_does_no_harm(tmp_path: Path, name: str, data: bytes) -> None:
    """HTTP clients decompress downloads and keep the name."""
    (tmp_path / name).write_bytes(data)
    assert texts_of(tmp_path / name) == ["one", "two"]


@pytest.mark.parametrize("data", [parquet(), arrow_stream()])
def test_tables_are_recognized_under_any_suffix(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    assert texts_of(tmp_path / "a.txt") == ["one", "two"]


def test_a_compressed_table_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress(parquet()))
    with pytest.raises(FormatError, match="parquet is compressed"):
        texts_of(tmp_path / "a.parquet.gz")


def test_formats_are_checked_before_tokenization_without_reading_damaged_files(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(LINES)[:14])
    check_formats(source_of(tmp_path / "a.jsonl.gz"))  # reading reports it, with its place
    with pytest.raises(Damaged):
        texts_of(tmp_path / "a.jsonl.gz")


# --- saved data sets


def test_a_saved_data_set_is_read(tmp_path: Path) -> None:
    import datasets

    rows = [{"text": f"text {n}", "id": n} for n in range(2500)]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "set"), num_shards=2)
    source = source_of(tmp_path / "set/*.arrow")
    read = list(documents(source))
    assert [document.text for document in read] == [row["text"] for row in rows]
    assert (read[-1].id, read[-1].where.rpartition(":")[2]) == ("2499", "1250")


def test_files_that_are_no_part_of_a_saved_data_set_are_skipped(tmp_path: Path) -> None:
    """`save_to_disk` keeps the files of an older version, and `map` writes its cache next to them."""
    import datasets

    rows = [{"text": f"text {n}"} for n in range(9)]
    for shards in (3, 2):
        datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "set"), num_shards=shards)
    loaded = datasets.load_from_disk(str(tmp_path / "set"))
    loaded.map(lambda row: {"text": row["text"].upper()}, load_from_cache_file=False)
    listing = list_files(source_of(tmp_path / "set/*.arrow"))
    assert set(listing.skipped.values()) == {"temporary", "unlisted"}
    assert [document.text for document in documents(source_of(tmp_path / "set/*.arrow"))] == [
        row["text"] for row in rows
    ]


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.97, -8])
def test_a_truncated_arrow_stream_is_an_error_and_never_a_shorter_source(tmp_path: Path, kept: float) -> None:
    data = arrow_stream(pa.table({"text": [f"text {n}" for n in range(3000)]}))
    (tmp_path / "a.arrow").write_bytes(data[: int(kept) if kept < 0 else int(len(data) * kept)])
    with pytest.raises(Damaged, match=r"a\.arrow:\d+: cannot be read any further"):
        texts_of(tmp_path / "a.arrow")


# --- columns


def test_nested_fields_are_read_from_tables_and_json_lines(tmp_path: Path) -> None:
    rows = [{"content": {"text": "one", "meta": {"lang": "en"}}}, {"content": {"text": "two", "meta": None}}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = pa.Table.from_pylist(rows)
    (tmp_path / "a.parquet").write_bytes(parquet(table))
    (tmp_path / "a.arrow").write_bytes(arrow_stream(table))
    for name in ("a.jsonl", "a.parquet", "a.arrow"):
        assert texts_of(tmp_path / name, text_field="content.text") == ["one", "two"]
        with pytest.raises(ConfigError, match=r"'content.tex'.* Did you mean 'content.text'"):
            texts_of(tmp_path / name, text_field="content.tex")
        with pytest.raises(ConfigError, match=r"'content' is of type (struct|dict).*content\.text"):
            texts_of(tmp_path / name, text_field="content")


def test_a_column_whose_name_has_a_dot_precedes_a_nested_field(tmp_path: Path) -> None:
    row = {"content.text": "flat", "content": {"text": "nested"}}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "a.parquet").write_bytes(parquet(pa.Table.from_pylist([row])))
    for name in ("a.jsonl", "a.parquet"):
        assert texts_of(tmp_path / name, text_field="content.text") == ["flat"]


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_every_type_of_text_is_read(tmp_path: Path, kind: pa.DataType) -> None:
    values = pa.array(["größe", "two"]).cast(pa.large_string()).cast(kind)
    (tmp_path / "a.arrow").write_bytes(arrow_stream(pa.table({"text": values})))
    assert texts_of(tmp_path / "a.arrow") == ["größe", "two"]
    if kind != pa.string_view():
        (tmp_path / "a.parquet").write_bytes(parquet(pa.table({"text": values})))
        assert texts_of(tmp_path / "a.parquet") == ["größe", "two"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [([1, 2], "int64"), ([["a"], ["b"]], "list"), ([None, None], "null"), ([{"a": 1}] * 2, "struct")],
)
def test_a_column_of_another_type_is_one_error_about_the_column(
    tmp_path: Path, values: list[object], kind: str
) -> None:
    (tmp_path / "a.parquet").write_bytes(parquet(pa.table({"text": pa.array(values)})))
    with pytest.raises(ConfigError, match=rf"a\.parquet: column 'text' is of type {kind}"):
        texts_of(tmp_path / "a.parquet")


def test_two_columns_of_one_name_are_an_error(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["text", "text"])
    (tmp_path / "a.arrow").write_bytes(arrow_stream(table))
    with pytest.raises(ConfigError, match="2 columns are called 'text'"):
        texts_of(tmp_path / "a.arrow")


def unread_of(file: Path, **fields: object) -> tuple[list[str], list[AssayError]]:
    from assay.corpus.source_reader import ReadOptions

    errors: list[AssayError] = []
    texts = [one.text for one in documents(source_of(file, **fields), look=ReadOptions(unread=errors.append))]
    return texts, errors


def test_bytes_that_are_not_text_are_one_error_and_a_single_bad_row_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(parquet(pa.table({"text": [b"\xff\xd8", b"\x89PNG\xfe"] * 50})))
    texts, errors = unread_of(tmp_path / "a.parquet")
    assert (texts, len(errors)) == ([], 1)
    assert "column 'text' holds bytes that are not UTF-8" in errors[0].what
    (tmp_path / "a.parquet").write_bytes(parquet(pa.table({"text": [b"one", b"\xff", b"two"]})))
    texts, errors = unread_of(tmp_path / "a.parquet")
    assert texts == ["one", "two"]
    assert [error.what.partition(" ")[0] for error in errors] == [f"{tmp_path}/a.parquet:2:"]


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"body": "x"}, "no field is called 'text', in the first 100 records"),
        ({"text": ["x"]}, "'text' is of type list, not text, in the first 100 records"),
        ({"text": None}, "'text' is None, not text, in the first 100 records"),
    ],
)
def test_a_field_that_no_record_has_is_one_error(tmp_path: Path, record: dict[str, object], problem: str) -> None:
    (tmp_path / "a.jsonl").write_text((json.dumps(record) + "\n") * 1000)
    texts, errors = unread_of(tmp_path / "a.jsonl")
    assert (texts, len(errors)) == ([], 1)
    assert problem in errors[0].what


def test_records_without_the_field_before_the_first_text_are_their_own_errors(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "x"}\n{"body": "y"}\n{"text": "z"}\n')
    texts, errors = unread_of(tmp_path / "a.jsonl")
    assert texts == ["z"]
    assert [error.what.partition(": ")[0] for error in errors] == [f"{tmp_path}/a.jsonl:{n}" for n in (1, 2)]


# --- byte order marks and separators


def test_no_document_begins_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeffone", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('\ufeff{"text": "\ufefftwo"}\n\ufeff{"text": "three\ufeff"}\n', encoding="utf-8")
    (tmp_path / "c.parquet").write_bytes(parquet(pa.table({"text": ["\ufefffour"]})))
    (tmp_path / "d.txt.gz").write_bytes(gzip.compress("\ufefffive".encode()))
    (tmp_path / "e.txt").write_text("\ufeff\ufeffsix", encoding="utf-8")
    assert texts_of(tmp_path / "*") == ["one", "two", "three\ufeff", "four", "five", "six"]


@pytest.mark.parametrize("first", ["text", "id"])
def test_a_byte_order_mark_in_a_column_name_is_no_part_of_the_name(tmp_path: Path, first: str) -> None:
    """Tools that do not know the mark keep it when they convert a table."""
    other = {"text": "id", "id": "text"}[first]
    row = {f"\ufeff{first}": f"a {first}", other: f"a {other}"}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "a.parquet").write_bytes(parquet(pa.Table.from_pylist([row])))
    (tmp_path / "a.arrow").write_bytes(arrow_stream(pa.Table.from_pylist([row])))
    for name in ("a.jsonl", "a.parquet", "a.arrow"):
        [document] = documents(source_of(tmp_path / name))
        assert (document.text, document.id) == ("a text", "a id")


def test_a_file_with_only_a_byte_order_mark_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf")
    with pytest.raises(Damaged, match="is empty"):
        texts_of(tmp_path / "a.txt")


def test_a_text_whose_mark_is_now_removed_is_another_version_and_all_others_keep_their_digest(tmp_path: Path) -> None:
    """The digests of earlier versions, which kept the mark."""
    (tmp_path / "a.txt").write_text("one", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('\ufeff{"text": "one"}\n', encoding="utf-8")
    (tmp_path / "m.txt").write_text("\ufeffone", encoding="utf-8")
    digests = {name: fresh_digest(source_of(tmp_path / name))[:16] for name in ("a.txt", "b.jsonl")}
    earlier = "851f0b11c4fa46f8"
    assert fresh_digest(source_of(tmp_path / "m.txt"))[:16] != earlier
    assert digests == {"a.txt": "b53edb5bcdd0bccf", "b.jsonl": "7b5b1077734d9912"}


ENTRIES = ["\ufeffabacus: a frame with beads", "abbey:\na house of monks", "größe: size", "数"]


@pytest.mark.parametrize("separator", ["\n%%\n", "\n\n\n", "<|endoftext|>", "\n---\n"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_a_separator_divides_a_text_and_marks_are_removed_at_every_boundary(
    tmp_path: Path, separator: str, compress: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "a.txt").write_bytes(compress(separator.join([*ENTRIES, "  ", ENTRIES[0], ""]).encode()))
    [*read] = documents(source_of(tmp_path / "a.txt", separator=separator))
    assert [document.text for document in read] == [*(entry.lstrip("\ufeff") for entry in ENTRIES), ENTRIES[0][1:]]
    assert [document.where.rpartition(":")[2] for document in read] == ["1", "2", "3", "4", "5"]


def test_windows_line_ends_have_the_same_separators(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\r\n%%\r\ntwo\n%%\nthree")
    assert texts_of(tmp_path / "a.txt", separator="\n%%\n") == ["one", "two", "three"]


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 7])
def test_a_separator_across_chunks_is_found(tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.corpus import plain_text

    monkeypatch.setattr(plain_text, "_CHUNK", chunk)
    texts = ["a", "bb%", "%%c", "d" * 20]
    (tmp_path / "a.txt").write_bytes("\r\n%%\r\n".join(texts).encode())
    assert texts_of(tmp_path / "a.txt", separator="\n%%\n") == texts


def test_a_separator_is_part_of_the_digest_and_divides_only_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo")
    digests = {fresh_digest(source_of(tmp_path / "a.txt", separator=value)) for value in (None, "\n\n", "\n")}
    assert len(digests) == 3
    (tmp_path / "a.jsonl").write_bytes(LINES)
    with pytest.raises(FormatError, match="`separator` divides plain text, but the file is JSON lines"):
        texts_of(tmp_path / "a.jsonl", separator="\n\n")
    for fields in ({"separator": ""}, {"separator": "x", "format": "parquet"}):
        with pytest.raises(ConfigError, match="`separator`"):
            source_of("a.txt", **fields)


def test_parts_of_a_divided_text_are_disjoint_and_complete(tmp_path: Path) -> None:
    from assay.corpus.source_reader import ReadOptions

    texts = [f"entry {n}" for n in range(1000)]
    (tmp_path / "a.txt").write_text("\n\n".join(texts))
    source = source_of(tmp_path / "a.txt", separator="\n\n")
    parts = [[d.text for d in documents(source, look=ReadOptions(part=part, parts=3))] for part in range(3)]
    assert sorted(text for part in parts for text in part) == sorted(texts)
    assert all(parts)
