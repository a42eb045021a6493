"""List the files of a source: literal paths, globs and URLs of any file system that fsspec supports."""

from __future__ import annotations

import contextlib
import functools
import glob
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from assay.config.sources import Source
from assay.core.errors import NotFound, Refused
from assay.corpus.local_walk import SkipKind, find_local, printable, require_target, split_pattern
from assay.corpus.path_pattern import COMPRESSIONS, has_record_suffix, unwanted

EXAMPLES = 3
"""Maximum number of paths that a report of skipped files names."""
_LISTED = 1000
"""Maximum number of files of a folder that the hint of an error considers."""
_SHARD = re.compile(r"(?P<stem>.*?)[-_.](?P<index>\d{3,6})-of-(?P<total>\d{3,6})(?P<rest>\D.*|)")


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file of a source, before it is opened."""

    url: str
    """The URL; the plain path of a local file."""
    system: Any
    """The fsspec file system."""
    path: str
    """Path in the file system."""


@dataclass(frozen=True, kw_only=True)
class ShardSet:
    """Numbered files of one set (`train-00002-of-00004.parquet`) of which a source has only some."""

    name: str
    """Path of the files, with `*` for the number."""
    present: int
    total: int


@dataclass(frozen=True, kw_only=True)
class FileListing:
    """The files that a source's patterns select, and the matching files that are skipped."""

    files: tuple[SourceFile, ...]
    """Selected files, sorted by URL. There is at least one file."""
    skipped: dict[str, SkipKind]
    """Skipped paths that a pattern matches, with the reason."""

    @property
    def skipped_counts(self) -> dict[str, int]:
        """Number of skipped files by reason."""
        return dict(sorted(Counter(self.skipped.values()).items()))

    @property
    def partial_sets(self) -> tuple[ShardSet, ...]:
        """Sets of numbered files that lack some files, or that mix files with different totals."""
        groups: dict[tuple[str, int], set[int]] = {}
        for file in self.files:
            folder, _, name = file.url.rpartition("/")
            if match := _SHARD.fullmatch(name):
                total = int(match["total"])
                key = f"{folder}/{match['stem']}-*-of-{match['total']}{match['rest']}"
                groups.setdefault((key, total), set()).add(int(match["index"]))
        return tuple(
            ShardSet(name=key, present=len(numbers), total=total)
            for (key, total), numbers in sorted(groups.items())
            if len(numbers) < total
        )


def list_files(source: Source) -> FileListing:
    """List the files of a source.

    A path of an existing file is never a glob, and its file is always listed. A glob follows links, lists each file
    once, and skips hidden, temporary and marker files (see `path_pattern.unwanted`).

    Raises:
        NotFound: a pattern matches no file, a link has no target, or a file system cannot be reached.
        Refused: a folder cannot be listed.
    """
    named: dict[str, SourceFile] = {}
    matched: dict[str, SourceFile] = {}
    skipped: dict[str, SkipKind] = {}
    for pattern in source.files:
        selected = _select(source, pattern)
        (named if selected.literal else matched).update({file.url: file for file in selected.files})
        skipped.update(selected.skipped)
    files, repeated = _without_repetitions(named, matched)
    skipped |= dict.fromkeys(repeated, "repeated")
    for file in files:
        _require_utf8(source, file.url)
    chosen = {file.url for file in files}
    unread = {printable(path): kind for path, kind in skipped.items() if path not in chosen}
    return FileListing(files=files, skipped=unread)


def _require_utf8(source: Source, url: str) -> None:
    """Refuse a file name that is not UTF-8, because no record of the file could be written."""
    if printable(url) != url:
        raise Refused(
            f"source {source.name!r}: the file name {printable(url)} is not UTF-8.",
            fix="Rename the file, for example with convmv.",
        )


@dataclass(frozen=True, kw_only=True)
class _Selection:
    files: Sequence[SourceFile]
    literal: bool = False
    skipped: dict[str, SkipKind]


def _select(source: Source, pattern: str) -> _Selection:
    local = _local_path(pattern)
    selected = _select_remote(source, pattern) if local is None else _select_local(source, local)
    if selected.files:
        return selected
    if selected.skipped:
        example = printable(next(iter(selected.skipped)))
        raise NotFound(
            f"source {source.name!r}: {pattern!r} matches only hidden, temporary and marker files, such as {example}.",
            fix="List the files by name to read them.",
        )
    fix = _hint(pattern if local is None else local, local=local is not None)
    raise NotFound(f"source {source.name!r}: no file matches {pattern!r}.", fix=fix)


def _local_path(pattern: str) -> str | None:
    """Return the local path of a pattern; ``None`` for a URL. An existing path is no fsspec chain (`a::b`)."""
    if "://" not in pattern:
        return str(Path(pattern).absolute())
    if pattern.startswith(("file://", "local://")):
        path = str(_local_system()._strip_protocol(pattern))  # noqa: SLF001  # the documented hook of file systems
        if "::" not in pattern or os.path.lexists(split_pattern(path).root):
            return path
    return None


def _select_local(source: Source, path: str) -> _Selection:
    require_target(path, source.name)
    split = split_pattern(path)
    make = functools.partial(SourceFile, system=_local_system())
    if split.parts and os.path.isdir(split.root):  # noqa: PTH112  # kept as text
        found = find_local(split, source.name, records=functools.partial(_has_records, source))
        unlisted = _unlisted_arrow_files(found.files)
        files = [make(url=file, path=file) for file in found.files if file not in unlisted]
        return _Selection(files=files, skipped=found.skipped | dict.fromkeys(unlisted, "unlisted"))
    if not split.parts and os.path.isfile(path):  # noqa: PTH113
        return _Selection(files=[make(url=path, path=path)], literal=True, skipped={})
    _require_reachable(source, split.root)
    return _Selection(files=[], skipped={})


def _unlisted_arrow_files(paths: Sequence[str]) -> set[str]:
    """Return the Arrow files next to a `state.json` of `datasets` that do not belong to the data set.

    `save_to_disk` into a folder with an older version leaves its files there, and `map` writes its cache next to them.
    """
    unlisted: set[str] = set()
    folders: dict[str, list[str]] = {}
    for path in paths:
        if path.endswith(".arrow"):
            folders.setdefault(os.path.dirname(path), []).append(path)  # noqa: PTH120
    for folder, arrow_files in folders.items():
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # no description of a saved data set
            state = json.loads(Path(folder, "state.json").read_bytes())
            listed = {entry["filename"] for entry in state["_data_files"]}
            unlisted |= {path for path in arrow_files if listed and path.rpartition("/")[2] not in listed}
    return unlisted


def _require_reachable(source: Source, path: str) -> None:
    """Refuse a path that cannot be checked for existence, or that is neither a file nor a folder."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise Refused(
            f"source {source.name!r}: {printable(path)} cannot be read: {error.strerror}.",
            fix="Grant read permission on the file, and execute permission on its folders.",
        ) from None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise Refused(
            f"source {source.name!r}: {printable(path)} is not a regular file, but a pipe, socket or device.",
            fix="Write its content to a file, and list the file.",
        )


def _has_records(source: Source, path: str) -> bool:
    """Return whether a file contains records, by its name or the declared format."""
    return source.format not in ("auto", "text") or (source.format == "auto" and has_record_suffix(path))


@functools.cache
def _local_system() -> Any:
    """Return fsspec's local file system."""
    from fsspec.implementations.local import LocalFileSystem

    return LocalFileSystem()


def _select_remote(source: Source, pattern: str) -> _Selection:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(pattern)
        literal = system.isfile(path)
        paths = [path] if literal else [match for match in system.glob(path) if system.isfile(match)]
        folder = not paths and not glob.has_magic(path) and system.isdir(path)
    except ImportError as error:
        raise NotFound(
            f"source {source.name!r}: {pattern}: {error}.", fix="Install the package that the message names."
        ) from error
    except Exception as error:  # each file system has its own errors, such as those of its HTTP client
        raise NotFound(
            f"source {source.name!r}: {pattern} cannot be reached: {error}.", fix="Check the address and the network."
        ) from error
    if folder:
        fix = f"This path is a folder. List its files, as in {pattern.rstrip('/')}/*.jsonl."
        raise NotFound(f"source {source.name!r}: no file matches {pattern!r}.", fix=fix)
    files, skipped = [], dict[str, SkipKind]()
    parts = path.split("/")
    wild = next((index for index, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    for match in paths:
        url = system.unstrip_protocol(match)
        names = match.split("/")[wild:]
        kind = None if literal or not names else unwanted(names, parts[wild:], records=_has_records(source, match))
        if kind is None:
            files.append(SourceFile(url=url, system=system, path=match))
        else:
            skipped[url] = kind
    return _Selection(files=files, literal=literal, skipped=skipped)


def _without_repetitions(
    named: dict[str, SourceFile], matched: dict[str, SourceFile]
) -> tuple[tuple[SourceFile, ...], list[str]]:
    """Return the files to read, sorted by URL, and the links in `matched` to other matched files."""
    real = functools.cache(_real_path)
    taken = {real(file) for file in named.values()}
    chosen, repeated = dict(named), list[str]()
    for url in sorted(matched.keys() - named.keys(), key=lambda url: (real(matched[url]) != url, url)):
        target = real(matched[url])
        if target in taken:
            repeated.append(url)
        else:
            taken.add(target)
            chosen[url] = matched[url]
    return tuple(chosen[url] for url in sorted(chosen)), repeated


def _real_path(file: SourceFile) -> str:
    """Return the path of a local file without links; the URL of another file."""
    return os.path.realpath(file.path) if file.system is _local_system() else file.url


# --- hints


def _hint(pattern: str, *, local: bool) -> str:
    """Return the fix for a pattern that matches no file: the patterns that match files next to it."""
    if not local:
        return "Check the path."
    if "{" in pattern and "}" in pattern:
        return "Write one pattern per alternative, because braces are not expanded."
    root = split_pattern(pattern).root
    if not os.path.isdir(root):  # noqa: PTH112
        return "Check the path."
    known = _patterns_of(Path(root)) or [f"{root.rstrip('/')}/*.jsonl"]
    folder = "This path is a folder. " if root.rstrip("/") == pattern.rstrip("/") else ""
    return f"{folder}List its files, as in {' or '.join(known[:EXAMPLES])}."


def _patterns_of(folder: Path) -> list[str]:
    """Return globs for the data files below a folder, the most frequent suffix first."""
    folders: dict[str, Counter[str]] = {}
    for base, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith((".", "_")))
        for name in names:
            if suffix := _data_suffix(name):
                folders.setdefault(suffix, Counter())[base] += 1
        if sum(counts.total() for counts in folders.values()) > _LISTED:
            break
    if ".arrow" in folders:  # a saved data set has its description next to its Arrow files
        folders.pop(".json", None)
    patterns = []
    for suffix, counts in sorted(folders.items(), key=lambda item: -item[1].total()):
        # The folders of a saved `DatasetDict` are its splits, which one pattern would mix.
        bases = sorted(counts) if len(counts) <= EXAMPLES else [f"{str(folder).rstrip('/')}/**"]
        patterns += [f"{base.rstrip('/')}/*{suffix}" for base in bases]
    return patterns


def _data_suffix(name: str) -> str:
    path = PurePosixPath(name)
    compression = path.suffix if path.suffix.lower() in COMPRESSIONS else ""
    suffix = PurePosixPath(path.stem).suffix if compression else path.suffix
    return f"{suffix}{compression}" if suffix.lower() in _SUFFIXES else ""


_SUFFIXES = {".jsonl", ".ndjson", ".json", ".parquet", ".pq", ".arrow", ".feather", ".txt", ".text", ".md", ".rst"}
