"""Match local paths with glob patterns, and recognize hidden, temporary and marker files.

A component of a pattern that exists under exactly this name is a name, not a pattern: `dump [en]/*.jsonl` reads the
folder `dump [en]` if it exists.
"""

from __future__ import annotations

import fnmatch
import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

UnwantedKind = Literal["hidden", "temporary", "marker"]
"""Kinds of files that a glob skips: hidden files, unfinished files, and metadata of Spark, Hive and Arrow."""

States = frozenset[int]
"""Positions in a pattern that the components of a path can reach."""

_ANY_DEPTH = "**"
_TEMPORARY = (
    ".tmp", ".temp", ".part", ".partial", ".incomplete", ".crdownload", ".download", ".aria2", ".filepart",
    ".swp", ".swo", ".bak", ".lock", "~", "._copying_",
)  # fmt: skip
"""Suffixes of unfinished files, and of backup copies that editors write."""
_SYSTEM = ("__macosx", "__pycache__", "lost+found", "@eadir", "$recycle.bin", "system volume information", "thumbs.db",
           "desktop.ini", "ehthumbs.db")  # fmt: skip
"""Files and folders that operating systems and interpreters write next to data."""
_MARKER = re.compile(
    r"_(temporary|temp|tmp|staging|scratch|success|failure|metadata|common_metadata|delta_log|spark_metadata|logs|"
    r"symlink_format_manifest|change_data|(committed|started|distcp|impala|checkpoint)\b.*|(committed|started)_.*)",
    re.IGNORECASE,
)
"""Names that Spark, Hive, Impala and Delta reserve, for data of every format."""
_CACHE = re.compile(r"(cache|indices)-[0-9a-f]{8,}.*\.arrow")
"""Results of `datasets.Dataset.map` and `filter`, next to the files that they were computed from."""
_RECORDS = {".jsonl", ".ndjson", ".json", ".parquet", ".pq", ".arrow", ".feather", ".csv", ".tsv", ".avro", ".orc"}
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
"""Suffixes of compressed files that assay reads."""


@dataclass(frozen=True)
class PathPattern:
    """A glob pattern for paths below a folder."""

    parts: tuple[str, ...]
    """Components; `**` matches any number of folders, including none."""

    @property
    def start(self) -> States:
        """The states before the first component."""
        return self._reach({0})

    def step(self, states: States, name: str) -> States:
        """Return the states after a component of a path."""
        reached = set()
        for state in states:
            if state == len(self.parts):
                continue
            if self.parts[state] == _ANY_DEPTH:
                reached.add(state)
            elif matches(name, self.parts[state]):
                reached.add(state + 1)
        return self._reach(reached)

    def descends(self, states: States) -> bool:
        """Return whether a folder in these states can contain matches."""
        return any(state < len(self.parts) for state in states)

    def accepts(self, states: States) -> bool:
        """Return whether a file in these states matches."""
        return len(self.parts) in states

    def _reach(self, states: set[int]) -> States:
        """Add the states that `**` reaches without a component."""
        for state in sorted(states):
            position = state
            while position < len(self.parts) and self.parts[position] == _ANY_DEPTH:
                position += 1
                states.add(position)
        return frozenset(states)


def matches(name: str, part: str) -> bool:
    """Return whether a file name matches a component of a pattern, as a name or as a glob.

    >>> matches("dump [en]", "dump [en]"), matches("dump e", "dump [en]"), matches("a", "b*")
    (True, True, False)
    """
    return name == part or (glob.has_magic(part) and fnmatch.fnmatchcase(name, part))


def unwanted(names: Sequence[str], parts: Sequence[str], *, records: bool) -> UnwantedKind | None:
    """Return why a glob skips a file; ``None`` if the glob selects the file.

    Next to files of records, a leading underscore marks metadata of Spark, Hive, Arrow and `datasets`. Source code and
    documentation use an underscore for content (`__init__.py`, `_posts/`), so text files are not skipped for it.

    Args:
        names: the components of the file's path that the glob matched.
        parts: the components of the pattern. A component with the same marker, such as `_old*` or `*.tmp`, names
            the file.
        records: whether a file contains records instead of one document.

    >>> unwanted(["_temporary", "0", "a.jsonl"], ["**", "*.jsonl"], records=True)
    'marker'
    >>> unwanted(["_temporary", "0", "a.jsonl"], ["_temporary", "*", "*.jsonl"], records=True) is None
    True
    >>> unwanted(["_vendor", "__init__.py"], ["**", "*.py"], records=False) is None
    True
    """
    for index, name in enumerate(names):
        last = index == len(names) - 1
        kind = _kind(name, parts, records=records, bare=last and not PurePosixPath(name).suffix)
        if kind is not None:
            return kind
    return None


def _kind(name: str, parts: Sequence[str], *, records: bool, bare: bool) -> UnwantedKind | None:
    explicit = [part for part in parts if part != _ANY_DEPTH and matches(name, part)]
    if name in explicit:
        return None
    lower = name.lower()
    if name.startswith(".") and not any(part.startswith(".") for part in explicit):
        return "hidden"
    if lower in _SYSTEM:
        return "hidden"
    ending = next((suffix for suffix in _TEMPORARY if lower.endswith(suffix)), None)
    if ending is not None and not any(part.lower().endswith(ending) for part in explicit):
        return "temporary"
    if _CACHE.fullmatch(name) and not any(part.startswith(("cache", "indices")) for part in explicit):
        return "temporary"
    if name.startswith("_") and not any(part.startswith("_") for part in explicit):
        return "marker" if records or bare or _MARKER.fullmatch(name) else None
    return None


def has_record_suffix(path: str) -> bool:
    """Return whether a file name has the suffix of a record format, such as `.jsonl` or `.csv.gz`."""
    name = PurePosixPath(path.lower())
    return (PurePosixPath(name.stem) if name.suffix in COMPRESSIONS else name).suffix in _RECORDS
