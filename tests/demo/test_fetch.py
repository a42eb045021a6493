"""Downloads from a local package index appear only when they are complete and verified."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from assay.core.errors import AssayError
from assay.demo import fetch as module
from assay.demo.fetch import fetch
from tests.demo.tiny_packages import package

CONTENT = bytes(range(256)) * 4096
PINNED = package(CONTENT)


@dataclass
class Index:
    """A package index with one file and configurable failures."""

    content: bytes = CONTENT
    hang_up_after: int | None = None
    ranges: bool = True
    ranges_requested: list[str | None] = field(default_factory=list)
    """The Range header of each download."""


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    state = Index()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/simple/tiny/":
                self.answer(200, f'<a href="/files/{PINNED.file}">{PINNED.file}</a>'.encode(), "text/html")
            elif self.path == f"/files/{PINNED.file}":
                requested = self.headers.get("Range")
                state.ranges_requested.append(requested)
                start = int(requested.removeprefix("bytes=").removesuffix("-")) if requested and state.ranges else 0
                self.answer(206 if start else 200, state.content[start:], "application/gzip")
            else:
                self.answer(404, b"", "text/html")

        def answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if state.hang_up_after is not None and kind == "application/gzip":
                body = body[: state.hang_up_after]
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    use_index(monkeypatch, server.server_address[1])
    yield state
    server.shutdown()
    server.server_close()


def use_index(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    settings = {"index-url": f"http://127.0.0.1:{port}/simple", "timeout": "5"}
    monkeypatch.setattr(module, "_pip_settings", lambda: settings)


def test_a_downloaded_file_has_the_pinned_bytes_and_no_leftovers(index: Index, tmp_path: Path) -> None:
    fractions: list[float] = []
    path = fetch(PINNED, tmp_path, progress=lambda _what, done: fractions.append(done))
    assert path.read_bytes() == CONTENT
    assert [each.name for each in tmp_path.iterdir() if each.suffix != ".lock"] == [PINNED.file]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_a_cached_file_is_not_downloaded_again(index: Index, tmp_path: Path) -> None:
    fetch(PINNED, tmp_path)
    fetch(PINNED, tmp_path)
    assert len(index.ranges_requested) == 1


def test_a_truncated_cached_file_is_downloaded_again(index: Index, tmp_path: Path) -> None:
    (tmp_path / PINNED.file).write_bytes(CONTENT[:100])
    assert fetch(PINNED, tmp_path).read_bytes() == CONTENT


def test_an_interrupted_download_resumes(index: Index, tmp_path: Path) -> None:
    index.hang_up_after = 400_000
    assert fetch(PINNED, tmp_path).read_bytes() == CONTENT
    assert index.ranges_requested == [None, "bytes=400000-", "bytes=800000-"]


def test_a_server_without_ranges_sends_the_whole_file(index: Index, tmp_path: Path) -> None:
    index.ranges = False
    (tmp_path / f".{PINNED.file}.part").write_bytes(CONTENT[:1000])
    assert fetch(PINNED, tmp_path).read_bytes() == CONTENT


def test_a_file_with_another_digest_is_refused_and_deleted(index: Index, tmp_path: Path) -> None:
    index.content = CONTENT[:-1] + b"?"
    with pytest.raises(AssayError, match="does not have the pinned digest"):
        fetch(PINNED, tmp_path)
    assert [each.name for each in tmp_path.iterdir() if each.suffix != ".lock"] == []


def test_without_network_the_error_names_the_file_and_a_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        use_index(monkeypatch, unused.getsockname()[1])
    with pytest.raises(AssayError, match=r"could not fetch tiny-1\.0\.tar\.gz") as error:
        fetch(PINNED, tmp_path)
    assert "pip download" in error.value.fix
    assert str(tmp_path) in error.value.fix


def test_a_package_that_the_index_lacks_is_named(index: Index, tmp_path: Path) -> None:
    with pytest.raises(AssayError, match=r"does not offer absent==1\.0"):
        fetch(package(b"", name="absent", file="absent-1.0.tar.gz"), tmp_path)


def test_the_environment_overrules_pips_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = tmp_path / "pip.conf"
    settings.write_text(
        "[global]\nindex-url = file:///from-a-file\ntimeout = 7\n[download]\ntimeout = 9\n[install]\ntimeout = 1\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    monkeypatch.setenv("PIP_INDEX_URL", "file:///from-the-environment")
    monkeypatch.delenv("PIP_TIMEOUT", raising=False)
    options = module._pip_settings()
    assert options["index-url"] == "file:///from-the-environment"
    assert options["timeout"] == "9"
