"""Write files atomically, so that readers never see a partial file.

Killed processes never leave a partial file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assay.core.errors import Damaged, Refused


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` if the block succeeds, and is removed otherwise.

    The block may create a file or a folder at the temporary path. The content is flushed to disk before the rename. A
    power failure therefore leaves either the old or the new content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mktemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))  # noqa: S306  # only the name; the block creates it
    old = temporary.with_suffix(".old")
    try:
        yield temporary
        _apply_umask(temporary)
        if temporary.is_dir():
            _sync_tree(temporary)
            if path.exists():  # a rename cannot replace a folder that is not empty: move the old folder away
                path.rename(old)
        else:
            _sync(temporary)
        temporary.replace(path)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise Refused(
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
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def json_text(value: Any) -> str:
    """Serialize plain values as JSON for other programs.

    NaN and infinity become null, paths become text, and tuples become lists.
    """
    return json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):  # a numpy scalar
        return value.item()
    raise TypeError(f"{type(value).__name__} is not plain")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> Any:
    """Read the value in a JSON file.

    Raises:
        Damaged: the file is not complete JSON.
        FileNotFoundError: the file does not exist.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise Damaged(
            f"{path}: invalid or incomplete JSON ({error}).",
            fix="Move the file away and run the command again. Another program wrote or truncated the file.",
        ) from error


@contextlib.contextmanager
def exclusive(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock file during the block.

    The kernel releases the lock when the process ends for any reason.

    Args:
        path: the lock file, which is created if missing and never removed.
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


def _apply_umask(path: Path) -> None:
    """Give a file, or everything in a folder, the permissions that the umask allows.

    Some libraries create files for their owner only: safetensors writes weights with mode 0600, and colleagues who share a store
    could not read them. Read-only files stay read-only.
    """
    allowed = 0o777 & ~_umask()
    for part in (path, *path.rglob("*")) if path.is_dir() else (path,):
        if part.is_symlink():
            continue
        mode = stat.S_IMODE(part.stat().st_mode)
        # What the owner may do is granted as far as the umask allows; a folder is always open to its owner.
        wanted = 0o777 if part.is_dir() else sum(bit * 0o111 for bit in (4, 2, 1) if mode & (bit << 6))
        if mode | (wanted & allowed) != mode:
            part.chmod(mode | (wanted & allowed))


def _umask() -> int:
    """Return this process's umask."""
    with contextlib.suppress(OSError, StopIteration):  # Linux; reading it has no effect on other threads
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def _sync_tree(path: Path) -> None:
    for file in path.rglob("*"):
        if file.is_file():
            _sync(file)
