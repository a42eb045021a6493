"""Find the local files that a pattern matches. Follow links, list each file once, and skip unwanted files."""

from __future__ import annotations

import errno
import glob
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from assay.core.errors import NotFound, Refused
from assay.corpus.path_pattern import PathPattern, States, UnwantedKind, unwanted

SkipKind = Literal["hidden", "temporary", "marker", "repeated", "unlisted"]
"""Kinds of skipped paths: `UnwantedKind`, repeated links, and files that do not belong to a saved data set."""

_FILE_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]*$")
_GRANT = "Grant read permission on the path, and execute permission on its folders."


class LocalPattern(NamedTuple):
    """A local path, split at its first wildcard.

    Attributes:
        root: the path up to the first component that is a pattern; the whole path without a pattern.
        parts: the components from there on; empty without a pattern.
    """

    root: str
    parts: tuple[str, ...]


@dataclass(kw_only=True)
class LocalMatches:
    """Files below a folder that a pattern matches."""

    files: list[str] = field(default_factory=list)
    skipped: dict[str, SkipKind] = field(default_factory=dict)
    """Matching paths that are not read, with the reason."""


def split_pattern(path: str) -> LocalPattern:
    """Split an absolute or relative local path at its first wildcard; components that exist are names.

    >>> split_pattern("no/such folder/*.jsonl")
    LocalPattern(root='no/such folder', parts=('*.jsonl',))
    """
    parts = path.split("/")
    for index, part in enumerate(parts):
        prefix = "/".join(parts[: index + 1])
        if glob.has_magic(part) and not os.path.lexists(prefix):
            return LocalPattern("/".join(parts[:index]) or ("/" if index else "."), tuple(filter(None, parts[index:])))
    return LocalPattern(path, ())


def printable(path: str) -> str:
    r"""Return a path for messages, with escapes for bytes that are not UTF-8.

    >>> printable("a\udcff.txt")
    'a\\xff.txt'
    """
    return os.fsencode(path).decode(errors="backslashreplace")


def require_target(path: str, source: str) -> None:
    """Refuse a path that contains a link to a target that does not exist.

    Raises:
        NotFound: a component is such a link; the message names the link and its target.
    """
    parts = path.split("/")
    for end in range(1, len(parts) + 1):
        prefix = "/".join(parts[:end])
        if prefix and os.path.islink(prefix) and not os.path.exists(prefix):  # noqa: PTH110, PTH114  # kept as text
            raise _dangling(prefix, source)


def _dangling(path: str, source: str) -> NotFound:
    target = os.readlink(path)  # noqa: PTH115  # kept as text
    next_to = os.path.join(os.path.dirname(path), target)  # noqa: PTH118, PTH120
    problem = "and never to a file" if os.path.lexists(next_to) else "which does not exist"
    return NotFound(
        f"source {source!r}: {printable(path)} is a link to {printable(target)}, {problem}.",
        fix="Restore the target, or remove the link.",
    )


def find_local(pattern: LocalPattern, source: str, *, records: Callable[[str], bool]) -> LocalMatches:
    """Find the files that a pattern matches. Read each file and folder once, so that cycles of links end.

    The function reads linked folders last, so that a file is listed under its own path if possible.

    Args:
        pattern: the pattern; at least one part.
        source: name of the source, for messages.
        records: returns whether a path is a file of records; see `path_pattern.unwanted`.

    Raises:
        NotFound: a link that matches, or that may lead to a folder with matches, has no target.
        Refused: a folder cannot be listed, or a match is not a regular file.
    """
    return _Walk(pattern, source, records).run()


class _Folder(NamedTuple):
    path: str
    names: tuple[str, ...]
    states: States
    linked: bool


class _Walk:
    def __init__(self, pattern: LocalPattern, source: str, records: Callable[[str], bool]) -> None:
        self._pattern, self._source, self._records = PathPattern(pattern.parts), source, records
        self._folders = deque([_Folder(pattern.root, (), self._pattern.start, linked=False)])
        self._links: deque[_Folder] = deque()
        self._visited: set[tuple[int, int, States, tuple[UnwantedKind | None, ...]]] = set()
        self._found = LocalMatches()

    def run(self) -> LocalMatches:
        while self._folders or self._links:
            folder = (self._folders or self._links).popleft()
            for entry in self._entries(folder):
                self._add(folder, entry)
        return self._found

    def _entries(self, folder: _Folder) -> Iterator[os.DirEntry[str]]:
        """Yield the entries of a folder, unless they were already read under another name with equal results."""
        parts = self._pattern.parts
        # What is skipped below a folder depends on its name, so that a wanted name of a skipped folder is read.
        skips = tuple(unwanted(folder.names, parts, records=records) for records in (False, True))
        try:
            info = os.stat(folder.path)  # noqa: PTH116  # kept as text
            key = (info.st_dev, info.st_ino, folder.states, skips)
            if key in self._visited:
                if skips == (None, None):
                    self._found.skipped[folder.path] = "repeated"
                return
            self._visited.add(key)
            with os.scandir(folder.path) as entries:
                yield from sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if skips == (None, None):
                raise Refused(
                    f"source {self._source!r}: {printable(folder.path)}: the folder cannot be listed: {error.strerror}.",
                    fix=_GRANT,
                ) from None

    def _add(self, folder: _Folder, entry: os.DirEntry[str]) -> None:
        states = self._pattern.step(folder.states, entry.name)
        if not states:
            return
        names = (*folder.names, entry.name)
        accepted = self._pattern.accepts(states)
        kind = self._unwanted(names)
        try:
            mode = entry.stat().st_mode
        except OSError as error:
            # A name such as `notes.txt` is not the name of a folder, so that its link matters only if it matches.
            if kind is None and (accepted or not _FILE_SUFFIX.search(entry.name)):
                raise self._unreachable(entry, error) from None
            return
        if stat.S_ISDIR(mode):
            if self._pattern.descends(states):
                linked = folder.linked or entry.is_symlink()
                (self._links if linked else self._folders).append(_Folder(entry.path, names, states, linked=linked))
        elif accepted and kind is not None:
            self._found.skipped[entry.path] = kind
        elif accepted and not stat.S_ISREG(mode):
            raise Refused(
                f"source {self._source!r}: {printable(entry.path)} is not a regular file, but a pipe, socket or device.",
                fix="Remove the path from the folder, or name the files of the source more narrowly.",
            )
        elif accepted:
            self._found.files.append(entry.path)

    def _unreachable(self, entry: os.DirEntry[str], error: OSError) -> NotFound | Refused:
        if entry.is_symlink() and error.errno != errno.EACCES:
            return _dangling(entry.path, self._source)
        return Refused(
            f"source {self._source!r}: {printable(entry.path)} cannot be read: {error.strerror}.", fix=_GRANT
        )

    def _unwanted(self, names: tuple[str, ...]) -> UnwantedKind | None:
        return unwanted(names, self._pattern.parts, records=self._records(names[-1])) if names else None
