"""Archives are read, never unpacked."""

from __future__ import annotations

from pathlib import Path

from assay.demo import archives
from tests.demo.tiny_packages import archive


def test_names_that_lead_out_of_the_archive_write_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    file = home / "evil.tar.gz"
    file.write_bytes(archive({"evil-1.0/../../loot.txt": b"out", "/evil-1.0/docs/a.txt": b"in"}))
    assert dict(archives.read_texts(file, "*.txt"))
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["evil.tar.gz", "home"]


def test_members_are_in_order_of_name_in_any_archive_order(tmp_path: Path) -> None:
    file = tmp_path / "a.tar.gz"
    file.write_bytes(archive({"a-1/docs/z.txt": b"z", "a-1/docs/b.txt": b"b", "a-1/x.py": b"x"}))
    assert list(archives.read_texts(file, "docs/*.txt")) == [("a-1/docs/b.txt", "b"), ("a-1/docs/z.txt", "z")]


def test_files_that_are_not_utf8_are_skipped_and_line_ends_are_unix(tmp_path: Path) -> None:
    file = tmp_path / "a.tar.gz"
    file.write_bytes(archive({"a-1/latin.txt": b"caf\xe9", "a-1/dos.txt": b"\xef\xbb\xbfone\r\ntwo"}))
    assert list(archives.read_texts(file, "*.txt")) == [("a-1/dos.txt", "one\ntwo")]
