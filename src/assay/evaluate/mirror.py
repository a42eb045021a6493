"""Manage a local mirror of benchmarks, which lm-eval's tasks read offline.

Set the variables of [`environment`][assay.evaluate.mirror.environment] before importing `datasets`, which reads them
once.

The demonstration's mirror has a manifest of its files, whose digest identifies them. A mirror of a team, and data sets
that a team adds to the demonstration's mirror, are identified by the bytes of each data set that a suite reads::

    <namespace>___<name>/<config>/<version>/<hash>/    dataset_info.json and Arrow files
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from assay.core.errors import Damaged, NotFound
from assay.core.files import read_json

FORMAT = 1
"""Version of the layout. Raise it when the same package would give a different mirror, so that mirrors are rebuilt."""

MANIFEST = "manifest.json"

OWN = "own mirror"
"""Identity of a mirror without a manifest; the digests of its data sets are separate."""

LOADERS = frozenset(
    {"arrow", "audiofolder", "csv", "generator", "hdf5", "imagefolder", "json", "pandas", "parquet", "text", "xml"}
)
"""Names of loaders of local files. `datasets` caches the loaded files in folders of these names."""


def environment(mirror: Path) -> dict[str, str]:
    """Return the environment variables that restrict `datasets`, and so lm-eval, to a mirror."""
    return {"HF_DATASETS_CACHE": str(mirror.absolute()), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def mirror_digest(target: Path) -> str:
    """Digest the files of the demonstration's mirror, for the identity of evaluations.

    Returns:
        The digest of its manifest; `OWN` for a mirror without a manifest.

    Raises:
        NotFound: the folder does not exist, or contains no data set.
        Damaged: a file of the manifest is missing or changed.
    """
    manifest = read_manifest(target)
    if manifest is None:
        if not any(data_sets(target)):
            raise NotFound(
                f"{target}: the mirror of the benchmarks is missing or incomplete: it contains no data set.",
                fix="Create it with `assay demo`, copy data sets into it in the cache layout of `datasets`"
                " (NAMESPACE___NAME/CONFIG/VERSION/HASH), or set `paths.benchmarks` to null to use the hub.",
            )
        return OWN
    if not is_whole(target):
        changed = next(name for name, digest in manifest["files"].items() if not _unchanged(target / name, digest))
        raise Damaged(
            f"{target / changed}: the file is missing, or differs from {MANIFEST} of the mirror of the benchmarks.",
            fix=f"Create the mirror again with `assay demo`. To use it with changed files, delete {target / MANIFEST}.",
        )
    return hashlib.sha256(json.dumps(manifest["files"], sort_keys=True).encode()).hexdigest()


def read_manifest(target: Path) -> dict[str, Any] | None:
    """Read the manifest of the demonstration's mirror; ``None`` for other mirrors."""
    path = target / MANIFEST
    manifest = read_json(path) if path.is_file() else None
    known = isinstance(manifest, dict) and isinstance(manifest.get("files"), dict) and "format" in manifest
    return manifest if known else None


def is_whole(target: Path) -> bool:
    """Return whether a mirror has this format and all files of its manifest, with their digests."""
    manifest = read_manifest(target)
    return (
        manifest is not None
        and manifest["format"] == FORMAT
        and all(_unchanged(target / name, digest) for name, digest in manifest["files"].items())
    )


def data_sets(target: Path) -> Iterator[str]:
    """Yield the names of the folders of data sets in a mirror."""
    if target.is_dir():
        for folder in sorted(target.iterdir()):
            hidden = folder.name.startswith((".", "_"))
            if folder.is_dir() and folder.name not in LOADERS and not hidden and any(folder.glob("*/*/*/*.arrow")):
                yield folder.name


def has_own_data_sets(target: Path) -> bool:
    """Return whether a mirror has data files that no manifest lists."""
    manifest = read_manifest(target)
    known = manifest["files"] if manifest is not None else {}
    return any(
        path.relative_to(target).as_posix() not in known
        for folder in data_sets(target)
        for path in _files(target / folder)
    )


def digest_data_sets(target: Path, repositories: Iterable[str] | None) -> dict[str, str]:
    """Digest the data sets that tasks read from a mirror, without the files of its manifest.

    Args:
        target: the mirror.
        repositories: names of the data sets on the hub, such as `allenai/sciq`; ``None`` for all data sets.

    Returns:
        SHA-256 of the names and bytes of the files, by folder; without folders that are missing or in the manifest.
    """
    manifest = read_manifest(target)
    known = set(manifest["files"]) if manifest is not None else set()
    folders = set(data_sets(target))
    if repositories is not None:
        folders &= {folder_of(repository) for repository in repositories}
    digests = {}
    for folder in sorted(folders):
        files = {path.relative_to(target).as_posix(): path for path in _files(target / folder)}
        read = {name: sha256_of(path) for name, path in sorted(files.items()) if name not in known}
        if read:
            read |= _newest_versions(target / folder)
            digests[folder] = hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()
    return digests


def _newest_versions(folder: Path) -> dict[str, str]:
    """Return the version of each configuration that `datasets` reads: the version that was changed last."""
    newest = {}
    for config in sorted(path for path in folder.iterdir() if path.is_dir()):
        versions = [path for path in config.glob("*/*") if path.is_dir()]
        if len(versions) > 1:
            last = max(versions, key=lambda path: path.stat().st_mtime)
            newest[f"newest of {config.name}"] = last.relative_to(config).as_posix()
    return newest


def folder_of(repository: str) -> str:
    """Return the folder in which `datasets` caches a data set.

    >>> folder_of("aps/super_glue"), folder_of("allenai/ScienceQA"), folder_of("gsm8k")
    ('aps___super_glue', 'allenai___science_qa', 'gsm8k')
    """
    *namespace, name = repository.split("/")
    snake = _UPPER_LOWER.sub(r"\1_\2", _UPPERS.sub(r"\1_\2", name)).lower()  # `datasets.naming`, without its import
    return "___".join([*namespace, snake])


_UPPERS = re.compile(r"([A-Z]+)([A-Z][a-z])")
_UPPER_LOWER = re.compile(r"([a-z\d])([A-Z])")


def _files(folder: Path) -> Iterator[Path]:
    """Yield the data files below a folder; `datasets` adds locks and caches of processed items next to them."""
    seen: set[Path] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = Path(parent).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        for name in names:
            if not name.startswith((".", "cache-", "tmp")) and not name.endswith((".lock", ".incomplete")):
                yield Path(parent, name)


def _unchanged(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_of(path) == digest


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
