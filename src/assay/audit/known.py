"""What is known of single documents from before, that samples can be spread over: their clusters, and a proxy's surprise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from assay.audit import unknown
from assay.errors import AssayError
from assay.files import read_json

if TYPE_CHECKING:
    from assay.audit.sample import By

TERMS = 3
"""Words that a cluster is called by."""


def known(store: Path, source: str, digest: str | None, by: By) -> dict[str, str | float] | None:
    """The cluster or the bits per byte of a version's documents, by `where`; ``None`` where a sample asks for neither.

    Args:
        store: the folder in which `audits/` is.
        source: its name.
        digest: of the version that is there now; ``None`` where its files are not.
        by: what the sample is spread over.

    Raises:
        AssayError: nobody has clustered this version, or measured it; what to run is said.
    """
    if by == "cluster":
        return _clusters(store, source, digest)
    if by != "bits":
        return None
    found = unknown.proxied(store, source, digest) if digest else None
    if found is None:
        raise AssayError(
            f"a sample of {source} by bits: no proxy has measured this version.",
            fix=f"First: assay audit {source} --proxy RUN, with the beginning of a finished run's fingerprint.",
        )
    return dict(found.by_place)


def _clusters(store: Path, source: str, digest: str | None) -> dict[str, str | float]:
    """Of the newest clusters that this version has a part in."""
    from assay.audit import clusters

    made = clusters.folder(store).glob("*.json")
    for path in sorted(made, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            part = read_json(path)["sources"].get(source, {})
        except (OSError, AssayError, KeyError, AttributeError):
            continue
        if not digest or part.get("digest") != digest:
            continue
        found = clusters.load(store, path.stem)
        if found is None:
            continue
        names = {one.number: f"{one.number}: {' '.join(one.terms[:TERMS])}" for one in found.clusters.clusters}
        mine = found.documents[found.documents["source"] == source]
        return {where: names[int(number)] for where, number in zip(mine["where"], mine["cluster"], strict=True)}
    raise AssayError(
        f"a sample of {source} by cluster: this version is in no clusters.",
        fix="First: assay clusters (or name sources, this one among them).",
    )
