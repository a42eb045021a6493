"""Notes on files that the patterns of a source match but assay does not read."""

from __future__ import annotations

from assay.config.reason import Code, Reason
from assay.config.sources import Source
from assay.core.errors import NotFound
from assay.corpus.source_files import EXAMPLES, list_files


def listing_notes(source: Source) -> list[Reason]:
    """Return notes on skipped files and absent shards of a source; empty if its files are archived."""
    try:
        listing = list_files(source)
    except NotFound:
        return []
    notes = []
    if listing.skipped:
        figures = {**listing.skipped_counts, "examples": sorted(listing.skipped)[:EXAMPLES]}
        notes.append(Reason(code=Code.SOURCE_FILES_SKIPPED, subject=source.name, figures=figures))
    for shards in listing.partial_sets:
        figures = {"files": shards.name, "present": shards.present, "total": shards.total}
        notes.append(Reason(code=Code.SOURCE_SHARDS_ABSENT, subject=source.name, figures=figures))
    return notes
