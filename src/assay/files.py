"""Writing so that a reader, or a kill, never meets half a file."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assay.errors import AssayError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and vanishes otherwise.

    The block may make a file or a folder there. Contents are flushed to disk before the rename, so that a
    machine that loses power shows the old thing or the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mktemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))  # noqa: S306  # the name only; made by the block, and unique enough beside one target
    old = temporary.with_suffix(".old")
    try:
        yield temporary
        if temporary.is_dir():
            _sync_tree(temporary)
            if path.exists():  # a folder cannot be renamed over a full one: step aside first, for an instant
                path.rename(old)
        else:
            _sync(temporary)
        temporary.replace(path)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise AssayError(
                f"{path}: the disk is full.", fix="Free some space and run the same command again."
            ) from error
        raise
    finally:
        if old.is_dir() and not path.exists():
            old.rename(path)
        for left in (temporary, old):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Put a text file in place, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Put a JSON file in place, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def json_text(value: Any) -> str:
    """Plain values as JSON for other programs: a number that is none becomes null, a path its text, a tuple a list."""
    return json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):  # a scalar of numpy's
        return value.item()
    raise TypeError(f"{type(value).__name__} is not plain")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        AssayError: the file is not whole JSON; it is named, with what to do.
        FileNotFoundError: there is none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AssayError(
            f"{path}: not whole JSON ({error}).",
            fix="Something other than assay wrote or cut it; move it away and run again.",
        ) from error


@contextlib.contextmanager
def exclusive(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock file; the kernel lets go of it however the process ends.

    Args:
        path: the lock file; made where it is missing, and never removed.
        wait: whether to wait for another holder.

    Yields:
        Whether the lock is held; always true with `wait`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def _sync(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def _sync_tree(path: Path) -> None:
    for file in path.rglob("*"):
        if file.is_file():
            _sync(file)
