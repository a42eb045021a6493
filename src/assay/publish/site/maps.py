"""Maps of clusters that `assay clusters` made of the store's sources: which there are, and each as a page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from assay.audit import clusters
from assay.errors import AssayError
from assay.files import read_json
from assay.structure import from_mapping

DIGEST = re.compile(r"[0-9a-f]{64}")
"""The name of a result; anything else in a path is not looked for."""


class MapListed(NamedTuple):
    """One map.

    Attributes:
        digest: what it is kept under.
        sources: whose documents are on it.
        documents: that were sampled.
        clusters: how many.
        made: seconds since the epoch.
    """

    digest: str
    sources: tuple[str, ...]
    documents: int
    clusters: int
    made: float


class Maps:
    """The maps of a store. One that was read is not read again: a result is never changed."""

    def __init__(self, root: Path) -> None:
        """Maps under a store's folder."""
        self._root = root
        self._known: dict[str, MapListed | None] = {}
        self._last: tuple[str, str] = ("", "")

    def of(self, sources: Iterable[str]) -> list[MapListed]:
        """Those that hold all of some sources, the newest first."""
        wanted = set(sources)
        found = [one for one in self._all().values() if one is not None and wanted and wanted <= set(one.sources)]
        return sorted(found, key=lambda one: (-one.made, one.digest))

    def page(self, digest: str) -> str | None:
        """A map as HTML; ``None`` where there is none, or it is damaged."""
        if not DIGEST.fullmatch(digest):
            return None
        if self._last[0] != digest:
            from assay.publish.map import render

            found = clusters.load(self._root, digest)
            if found is None:
                return None
            self._last = (digest, render(found, title=", ".join(sorted(found.clusters.sources))))
        return self._last[1]

    def _all(self) -> Mapping[str, MapListed | None]:
        paths = {path.stem: path for path in clusters.folder(self._root).glob("*.json")}
        self._known = {
            digest: self._known[digest] if digest in self._known else _listed(path)
            for digest, path in paths.items()
            if DIGEST.fullmatch(digest)
        }
        return self._known


def _listed(path: Path) -> MapListed | None:
    """What a result says of itself; ``None`` where it cannot be read: `assay clusters` makes it again."""
    try:
        made = from_mapping(clusters.Clusters, read_json(path), where=str(path))
        return MapListed(
            digest=path.stem,
            sources=tuple(sorted(made.sources)),
            documents=sum(part.sampled for part in made.sources.values()),
            clusters=len(made.clusters),
            made=path.stat().st_mtime,
        )
    except (OSError, AssayError, ValueError):
        return None
