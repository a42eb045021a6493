"""Check a store before a submission writes to it."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from assay.core.errors import ConfigError, Refused

if TYPE_CHECKING:
    from assay.store.runs import Store


PLACEHOLDERS = ("%j", "%t", "%A", "%a")
"""Placeholders in a path that submitit replaces with a job's number."""


ROOM_BYTES = 4 << 20
"""Free space in bytes that a submission requires, for the code snapshot and the records of thousands of runs."""


def check_store(store: Store) -> None:
    """Check that jobs can be submitted from a store, before anything is written.

    Raises:
        AssayError: submitit would change the store's path, or the store is not writable.
    """
    _check_path(store)
    _check_writable(store)


def _check_path(store: Store) -> None:
    path = str(store.root.absolute())
    found = [placeholder for placeholder in PLACEHOLDERS if placeholder in path]
    if found:
        raise ConfigError(
            f"paths.store: {path!r} is invalid; submitit replaces {found[0]!r} in a path with a job's number.",
            fix="Set paths.store to a folder whose path contains none of %j, %t, %A and %a.",
        )


def _check_writable(store: Store) -> None:
    """Check that the store is writable and has free space."""
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=store.root) as file:
            os.posix_fallocate(file.fileno(), 0, ROOM_BYTES)
    except OSError as error:
        raise Refused(
            f"store {str(store.root)!r} cannot be written: {error.strerror}. Nothing was submitted.",
            fix="Free some space, or set paths.store to a folder that you and your jobs can write to.",
        ) from error
