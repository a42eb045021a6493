"""Readers never see a partial file, and a lock has only one holder."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.core.errors import AssayError
from assay.core.files import exclusive, read_json, replacing, write_json


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert read_json(tmp_path / "a.json") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_is_replaced_atomically(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with replacing(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / "x").write_text(content)
    assert (tmp_path / "folder" / "x").read_text() == "new"


def test_a_folder_that_cannot_be_replaced_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_truncated_json_is_reported_and_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"state": "trai')
    with pytest.raises(AssayError, match=r"a\.json: invalid or incomplete JSON"):
        read_json(tmp_path / "a.json")
    assert (tmp_path / "a.json").exists()


def test_a_lock_has_one_holder_and_ends_with_its_process(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    code = f"""
from pathlib import Path
from assay.core.files import exclusive
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


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize(
    ("mask", "file", "folder"), [(0o022, 0o644, 0o755), (0o002, 0o664, 0o775), (0o077, 0o600, 0o700)]
)
def test_permissions_follow_the_umask(tmp_path: Path, mask: int, file: int, folder: int) -> None:
    """Also those of libraries that create files for their owner only."""
    with umask(mask):
        write_json(tmp_path / "record.json", {})
        with replacing(tmp_path / "weights") as temporary:
            (temporary / "part").mkdir(parents=True, mode=0o700)
            private = os.open(temporary / "part" / "private", os.O_CREAT | os.O_WRONLY, 0o600)
            os.close(private)
    assert mode(tmp_path / "record.json") == file
    assert (mode(tmp_path / "weights"), mode(tmp_path / "weights/part")) == (folder, folder)
    assert mode(tmp_path / "weights/part/private") == file


def test_weights_can_be_read_by_the_group(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    with umask(0o027), replacing(tmp_path / "model.safetensors") as temporary:
        save_file({"a": torch.zeros(2)}, temporary)
    assert mode(tmp_path / "model.safetensors") == 0o640


def test_a_read_only_file_stays_so_and_a_program_stays_executable(tmp_path: Path) -> None:
    with umask(0o022), replacing(tmp_path / "folder") as temporary:
        temporary.mkdir()
        for name, bits in (("kept", 0o400), ("program", 0o700)):
            (temporary / name).write_text("x")
            (temporary / name).chmod(bits)
    assert (mode(tmp_path / "folder/kept"), mode(tmp_path / "folder/program")) == (0o444, 0o755)


def test_a_link_in_a_folder_keeps_the_permissions_of_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("x")
    (tmp_path / "target").chmod(0o600)
    with umask(0o022), replacing(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "link").symlink_to(tmp_path / "target")
        (temporary / "dangling").symlink_to(tmp_path / "nowhere")
    assert mode(tmp_path / "target") == 0o600
