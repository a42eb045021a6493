"""Reading a source yields the contents of its files, or an error that names the file and the line."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import threading
import tracemalloc
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assay.core.errors import AssayError
from assay.corpus import source_digest as digest_module
from assay.corpus.source_reader import documents, expand, fresh_digest, source_digest
from tests.corpus.conftest import some_texts, source_of, write_jsonl

TEXTS = ["first", "a line separator:\u2028a form feed:\x0ca next line:\x85end", 'quote " and \n newline', "größe 数"]
LINES = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in TEXTS).encode()


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


def texts_of(*files: Path | str, **fields: object) -> list[str]:
    return [document.text for document in documents(source_of(*files, **fields))]


@pytest.mark.parametrize("ending", COMPRESS)
def test_json_lines_are_read_from_every_compression(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"a.jsonl{ending}"
    file.write_bytes(COMPRESS[ending](LINES))
    assert texts_of(file) == TEXTS


@pytest.mark.parametrize("ending", COMPRESS)
def test_a_text_file_is_a_document(tmp_path: Path, ending: str) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.txt{ending}").write_bytes(COMPRESS[ending](f"{name}\r\n\nend".encode()))
    assert texts_of(tmp_path / "*.txt*") == ["a\r\n\nend", "b\r\n\nend"]


def test_parquet_is_read_in_order_over_all_row_groups(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(1000)]
    pq.write_table(pa.table({"id": range(1000), "body": texts}), tmp_path / "a.parquet", row_group_size=70)
    rows = list(documents(source_of(tmp_path / "a.parquet", text_field="body")))
    assert [document.text for document in rows] == texts
    assert (rows[999].where, rows[999].id) == (f"{tmp_path}/a.parquet:1000", "999")


def test_files_are_read_from_any_fsspec_file_system() -> None:
    with fsspec.open("memory://texts/a.jsonl.gz", "wb") as file:
        file.write(gzip.compress(LINES))
    source = source_of("memory://texts/*.jsonl.gz")
    assert expand(source) == ["memory:///texts/a.jsonl.gz"]
    assert [document.text for document in documents(source)] == TEXTS


def test_the_files_of_several_patterns_are_read_once_and_sorted(tmp_path: Path) -> None:
    for name in ("b/2", "a/10", "a/9"):
        write_jsonl(tmp_path / f"{name}.jsonl", [name])
    patterns = (tmp_path / "b/2.jsonl", tmp_path / "**/*.jsonl", tmp_path / "a/*.jsonl")
    assert texts_of(*patterns) == ["a/10", "a/9", "b/2"]


def test_an_existing_file_name_with_brackets_is_no_pattern(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "part[1].jsonl", ["here"])
    assert texts_of(tmp_path / "part[1].jsonl") == ["here"]


def test_a_document_has_its_place_and_keeps_its_id(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "x", "id": "doc-7"}\n\n{"text": "y"}', encoding="utf-8")
    first, second = documents(source_of(file))
    assert (first.id, first.where) == ("doc-7", f"{file}:1")
    assert (second.id, second.where) == (f"{file}:3", f"{file}:3")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"text": "x"}\n{"text": "y"\n', r"a\.jsonl:2: the line is not JSON"),
        (b'{"text": "x"}\n["y"]\n', r"a\.jsonl:2: the line is a list; expected a JSON object"),
        (b'{"text": "x"}\n{"txet": "y"}\n', r"a\.jsonl:2: no field is called 'text'\. Did you mean 'txet'"),
        (b'{"text": "x"}\n{"text": null}\n', r"a\.jsonl:2: the field 'text' is None, not text"),
        (b'{"text": ["AKIA"]}\n', r"'text' is of type list, not text"),  # the value may be a secret
        (b'{"text": "x"}\n{"text": "\xff"}\n', r"a\.jsonl:2: the text is not UTF-8 \(byte 0xff at 10\)"),
        (b'{"text": "x"}\n{"text": "a\\ud800b"}\n', r"a\.jsonl:2: character 1 is half of a surrogate pair"),
        (b'{"text": ' + b"[" * 100_000, r"a\.jsonl:1: the line is not JSON"),
        (b"", r"a\.jsonl: the file of source 'web' is empty"),
        (b"\n \n", r"a\.jsonl: the file of source 'web' is empty"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(AssayError, match=problem):
        texts_of(tmp_path / "a.jsonl")


def test_documents_before_a_broken_line_are_yielded(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "x"}\nbroken\n')
    assert next(documents(source_of(tmp_path / "a.jsonl"))).text == "x"


def test_invalid_utf8_in_a_text_file_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\nthr\xe9e\n")
    with pytest.raises(AssayError, match=r"a\.txt:3: the text is not UTF-8"):
        texts_of(tmp_path / "a.txt")


@pytest.mark.parametrize("ending", ["a.txt", "a.jsonl.gz", "a.parquet"])
def test_an_empty_file_is_an_error(tmp_path: Path, ending: str) -> None:
    (tmp_path / ending).write_bytes(b"")
    with pytest.raises(AssayError, match=f"{ending}"):
        texts_of(tmp_path / ending)


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_a_truncated_file_is_an_error_and_never_a_shorter_source(tmp_path: Path, ending: str, kept: float) -> None:
    data = COMPRESS[ending](LINES * 50)
    (tmp_path / f"a.jsonl{ending}").write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(AssayError, match=rf"a\.jsonl{ending}:\d+: cannot be read any further"):
        texts_of(tmp_path / f"a.jsonl{ending}")


def test_a_truncated_parquet_file_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["x"] * 100}), file)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(AssayError, match=r"a\.parquet:1: cannot be read any further"):
        texts_of(file)


def test_a_missing_column_names_the_nearest(tmp_path: Path) -> None:
    pq.write_table(pa.table({"content": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(AssayError, match="Did you mean 'content'"):
        texts_of(tmp_path / "a.parquet", text_field="contents")


def test_a_pattern_without_files_is_an_error_that_names_source_and_pattern(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match=r"source 'web': no file matches .*nothing/\*\.jsonl"):
        expand(source_of(tmp_path / "nothing/*.jsonl"))


def test_a_folder_is_an_error_with_the_pattern_to_use(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match=r"This path is a folder"):
        expand(source_of(tmp_path))


def test_an_unknown_suffix_requires_a_format(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    with pytest.raises(AssayError, match="does not determine the format"):
        texts_of(tmp_path / "a.py")
    assert texts_of(tmp_path / "a.py", format="text") == ["x = 1\n"]


def test_an_unknown_protocol_is_an_error() -> None:
    with pytest.raises(AssayError, match="gopher"):
        expand(source_of("gopher://x/y.jsonl"))


def test_progress_ends_at_the_size_of_the_files(tmp_path: Path) -> None:
    for name, ending in (("a", ".gz"), ("b", ".zst"), ("c", "")):
        (tmp_path / f"{name}.jsonl{ending}").write_bytes(COMPRESS[ending](LINES * 100))
    pq.write_table(pa.table({"text": ["x"] * 1000}), tmp_path / "d.parquet")
    reported: list[int] = []
    assert list(documents(source_of(tmp_path / "*"), progress=reported.append))
    assert sum(reported) == sum(file.stat().st_size for file in tmp_path.iterdir())


def test_memory_does_not_grow_with_the_source(tmp_path: Path) -> None:
    """A source of 16 MB is read in under 5 MB."""
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "' + b"x" * 16_000 + b'"}\n', 1) * 1000)
    tracemalloc.start()
    count = sum(1 for _ in documents(source_of(tmp_path / "a.jsonl.gz")))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 1000
    assert peak < 5_000_000


def test_an_unreachable_address_is_an_error_that_names_it() -> None:
    # No process listens at port 9.
    with pytest.raises(AssayError, match=r"source 'web': http://127\.0\.0\.1:9/a\.jsonl cannot be reached"):
        expand(source_of("http://127.0.0.1:9/a.jsonl"))


def test_files_are_read_over_http(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(LINES))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        remote = source_of(f"http://127.0.0.1:{server.server_port}/a.jsonl.gz")
        assert [document.text for document in documents(remote)] == TEXTS
        assert source_digest(remote, cache=tmp_path) == fresh_digest(source_of(tmp_path / "a.jsonl.gz"))
        server.shutdown()


# --- digests


def old(path: Path, seconds: float = 100.0) -> Path:
    """Set the modification time of a file to the past."""
    changed = path.stat().st_mtime - seconds
    os.utime(path, (changed, changed))
    return path


def test_the_digest_depends_on_the_bytes_and_not_on_the_path(tmp_path: Path) -> None:
    left = source_of(*(write_jsonl(tmp_path / f"left/{n}.jsonl", [n]) for n in "ab"))
    right = source_of(*(write_jsonl(tmp_path / f"right/{n}.jsonl", [n]) for n in "ab"), name="other")
    assert source_digest(left, cache=tmp_path) == source_digest(right, cache=tmp_path)


@pytest.mark.parametrize("change", [{"text_field": "body"}, {"format": "text"}])
def test_the_digest_covers_how_the_bytes_are_read(tmp_path: Path, change: dict[str, str]) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", ["x"])
    assert fresh_digest(source_of(file)) != fresh_digest(source_of(file, **change))


def test_the_order_of_files_is_part_of_the_digest_as_it_is_of_the_corpus(tmp_path: Path) -> None:
    left = source_of(write_jsonl(tmp_path / "1/a.jsonl", ["x"]), write_jsonl(tmp_path / "1/b.jsonl", ["y"]))
    right = source_of(write_jsonl(tmp_path / "2/a.jsonl", ["y"]), write_jsonl(tmp_path / "2/b.jsonl", ["x"]))
    assert fresh_digest(left) != fresh_digest(right)


def test_a_file_that_did_not_change_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of(old(write_jsonl(tmp_path / "a.jsonl", some_texts(10))))
    digest = source_digest(source, cache=tmp_path / "store")
    monkeypatch.setattr(digest_module, "_sha256", lambda file: pytest.fail(f"{file.url} was read again"))
    assert source_digest(source, cache=tmp_path / "store") == digest


def test_a_change_that_keeps_the_size_changes_the_digest(tmp_path: Path) -> None:
    source = source_of(old(write_jsonl(tmp_path / "a.jsonl", ["one"])))
    before = source_digest(source, cache=tmp_path / "store")
    old(write_jsonl(tmp_path / "a.jsonl", ["two"]), seconds=50)
    assert source_digest(source, cache=tmp_path / "store") != before


def test_a_file_that_changed_a_moment_ago_is_read_again(tmp_path: Path) -> None:
    """A second change within a tick of the clock would keep size and time."""
    file = write_jsonl(tmp_path / "a.jsonl", ["one"])
    before, times = source_digest(source_of(file), cache=tmp_path / "store"), file.stat()
    write_jsonl(file, ["two"])
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert source_digest(source_of(file), cache=tmp_path / "store") != before


def test_a_damaged_cache_of_digests_is_recreated(tmp_path: Path) -> None:
    source = source_of(old(write_jsonl(tmp_path / "a.jsonl", ["x"])))
    digest = source_digest(source, cache=tmp_path / "store")
    (tmp_path / "store/digests.json").write_text("{", encoding="utf-8")
    assert source_digest(source, cache=tmp_path / "store") == digest
    assert "sha256" in (tmp_path / "store/digests.json").read_text(encoding="utf-8")
