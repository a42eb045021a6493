"""Nobody ever meets half a file, and only one holds a lock."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from assay.errors import AssayError
from assay.files import exclusive, read_json, replacing, write_json


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert read_json(tmp_path / "a.json") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_is_put_in_place_whole(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with replacing(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / "x").write_text(content)
    assert (tmp_path / "folder" / "x").read_text() == "new"


def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with replacing(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "x").write_text("old")

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError), replacing(tmp_path / "folder") as temporary:
        temporary.mkdir()
    assert (tmp_path / "folder" / "x").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match="the disk is full"), replacing(tmp_path / "a"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_json_that_was_cut_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"state": "trai')
    with pytest.raises(AssayError, match=r"a\.json: not whole JSON"):
        read_json(tmp_path / "a.json")
    assert (tmp_path / "a.json").exists()


def test_a_lock_has_one_holder_and_dies_with_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    code = f"""
from pathlib import Path
from assay.files import exclusive
with exclusive(Path({str(lock)!r}), wait=True):
    print("held", flush=True)
    input()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with exclusive(lock, wait=False) as held:
            assert not held
        holder.send_signal(signal.SIGKILL)
    with exclusive(lock, wait=False) as held:
        assert held
