"""List and render the topic maps that `assay audit topics` computed for sources of the store."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from assay.audit.explore import topics
from assay.core.errors import Damaged
from assay.core.files import read_json
from assay.core.serde import from_record

DIGEST = re.compile(r"[0-9a-f]{64}")
"""Pattern of the name of a stored result. Any other path component is rejected."""


class TopicMapEntry(NamedTuple):
    """A stored topic map.

    Attributes:
        digest: the key of the stored result.
        sources: names of the sources on the map.
        documents: number of sampled documents.
        topics: number of topics.
        made: time of computation in seconds since the epoch.
    """

    digest: str
    sources: tuple[str, ...]
    documents: int
    topics: int
    made: float


class TopicMaps:
    """The topic maps of a store. Each map is read once, because stored results never change."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._entries: dict[str, TopicMapEntry | None] = {}
        self._last: tuple[str, str] = ("", "")

    def covering(self, sources: Iterable[str]) -> list[TopicMapEntry]:
        """Return the maps that contain all given sources, the newest first."""
        wanted = set(sources)
        entries = [
            entry for entry in self._all().values() if entry is not None and wanted and wanted <= set(entry.sources)
        ]
        return sorted(entries, key=lambda entry: (-entry.made, entry.digest))

    def page(self, digest: str) -> str | None:
        """Return a map as HTML; None if the map is missing or damaged."""
        if not DIGEST.fullmatch(digest):
            return None
        if self._last[0] != digest:
            from assay.report.topic_map import render

            topic_map = topics.load(self._root, digest)
            if topic_map is None:
                return None
            self._last = (digest, render(topic_map, title=", ".join(sorted(topic_map.summary.sources))))
        return self._last[1]

    def _all(self) -> Mapping[str, TopicMapEntry | None]:
        paths = {path.stem: path for path in topics.folder(self._root).glob("*.json")}
        self._entries = {
            digest: self._entries[digest] if digest in self._entries else _read_entry(path)
            for digest, path in paths.items()
            if DIGEST.fullmatch(digest)
        }
        return self._entries


def _read_entry(path: Path) -> TopicMapEntry | None:
    """Read a stored summary; return None if unreadable, because it can be recomputed."""
    try:
        summary = from_record(topics.TopicSummary, read_json(path), where=str(path))
        return TopicMapEntry(
            digest=path.stem,
            sources=tuple(sorted(summary.sources)),
            documents=sum(part.sampled for part in summary.sources.values()),
            topics=len(summary.topics),
            made=path.stat().st_mtime,
        )
    except (OSError, Damaged, ValueError):
        return None
