"""Read strata of documents that other commands computed: topics, and bits per byte under a proxy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from assay.audit.explore import records
from assay.core.errors import Damaged, NotFound
from assay.core.files import read_json

if TYPE_CHECKING:
    from assay.audit.review.sample import By

TERMS = 3
"""Number of terms in the label of a topic."""


def read_strata(store: Path, source: str, digest: str | None, by: By) -> dict[str, str | float] | None:
    """Return topics or bits per byte of documents by `where`; None if `by` is neither.

    Args:
        store: folder that contains `audits/`.
        source: name of the source.
        digest: digest of the current version; ``None`` if its files are missing.
        by: property by which the sample is stratified.

    Raises:
        AssayError: this version has no topics, or no bits per byte; the fix names the command to run.
    """
    if by == "topic":
        return _topics(store, source, digest)
    if by != "bits":
        return None
    bits = records.read_bits(store, source, digest) if digest else None
    if bits is None:
        raise NotFound(
            f"source {source!r}: this version has no bits per byte of a proxy.",
            fix=f"Run `assay audit {source} --proxy RUN` with the first digits of a finished run's fingerprint.",
        )
    return dict(bits.by_place)


def _topics(store: Path, source: str, digest: str | None) -> dict[str, str | float]:
    """Read the newest topics that include this version."""
    from assay.audit.explore import topics

    results = topics.folder(store).glob("*.json")
    for path in sorted(results, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            part = read_json(path)["sources"].get(source, {})
        except (OSError, Damaged, KeyError, AttributeError):
            continue
        if not digest or part.get("digest") != digest:
            continue
        result = topics.load(store, path.stem)
        if result is None:
            continue
        names = {topic.number: f"{topic.number}: {' '.join(topic.terms[:TERMS])}" for topic in result.summary.topics}
        rows = result.documents[result.documents["source"] == source]
        return {where: names[int(number)] for where, number in zip(rows["where"], rows["topic"], strict=True)}
    raise NotFound(
        f"source {source!r}: this version has no topics.",
        fix="Run `assay audit topics`; if you name sources, include this one.",
    )
