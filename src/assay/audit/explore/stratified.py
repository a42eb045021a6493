"""Draw a document sample stratified by source, with quality measures and defects."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from assay.audit.detectors.registry import Detector, Text
from assay.audit.explore.embeddings import CHARACTERS
from assay.audit.scan import quality
from assay.audit.scan.quality import Quality
from assay.audit.scan.scan_file import DetectorClock, detector_clock
from assay.audit.scan.warm_up import warm_up
from assay.audit.task import SECONDS
from assay.corpus.source_reader import ReadOptions, SourceDocument, documents, size_of

if TYPE_CHECKING:
    from assay.config.sources import Source
    from assay.core.errors import AssayError

StepProgress = Callable[[str, float], None]
"""Function that receives the current step and its completed fraction."""


@dataclass(frozen=True, kw_only=True)
class StratifiedPart:
    """Counts of the part of the sample that one source provides."""

    digest: str
    documents: int
    """Number of documents in the source."""
    sampled: int
    """Number of sampled documents."""
    unread: int = 0
    """Number of records that could not be read."""
    failed: dict[str, int] = field(default_factory=dict)
    """Number of sampled documents on which a detector failed or exceeded its time, by detector."""


class StratifiedDocument(NamedTuple):
    """A sampled document."""

    source: str
    id: str
    where: str
    text: str
    """Beginning of the text."""
    quality: Quality
    """Measures of the whole text."""
    defects: tuple[str, ...]
    """Names of the detectors with hits in the whole text."""


def draw_sample(
    sources: Sequence[Source],
    digests: Mapping[str, str],
    *,
    detectors: Sequence[Detector],
    sample: int,
    seed: int,
    progress: StepProgress,
) -> tuple[list[StratifiedDocument], dict[str, StratifiedPart]]:
    """Draw equally many documents of each source at random.

    If a source has too few documents, the larger sources provide the rest of the sample.

    Args:
        sources: sources to sample.
        digests: digests of the sources, by name.
        detectors: detectors that scan the sampled documents.
        sample: number of documents over all sources.
        seed: seed of the draw.
        progress: called with the current source and the completed fraction.
    """
    warm_up()
    kept: list[StratifiedDocument] = []
    parts = {}
    ordered = sorted(sources, key=lambda source: (size_of(source), source.name))
    with detector_clock(SECONDS) as clock:
        for place, source in enumerate(ordered):
            room, measurer = (sample - len(kept)) // (len(ordered) - place), _Measurer(detectors, clock)
            drawn, count, unread = _draw(source, room, seed, measurer, progress)
            kept += drawn
            parts[source.name] = StratifiedPart(
                digest=digests[source.name],
                documents=count,
                sampled=len(drawn),
                unread=unread,
                failed=dict(measurer.failed),
            )
    return kept, dict(sorted(parts.items()))


def _draw(
    source: Source, room: int, seed: int, measurer: _Measurer, progress: StepProgress
) -> tuple[list[StratifiedDocument], int, int]:
    """Draw the documents with the smallest random numbers in one pass; return them in file order."""
    heap: list[tuple[int, int, StratifiedDocument]] = []
    unread = 0
    read, size, count = 0, max(1, size_of(source)), 0

    def count_unread(_error: AssayError) -> None:
        nonlocal unread
        unread += 1

    def count_bytes(more: int) -> None:
        nonlocal read
        read += more
        progress(f"reading {source.name}", min(1.0, read / size))

    for count, document in enumerate(
        documents(source, progress=count_bytes, look=ReadOptions(unread=count_unread)), start=1
    ):
        draw = int.from_bytes(hashlib.blake2b(f"{seed} {source.name} {count}".encode(), digest_size=8).digest(), "big")
        if len(heap) < room:
            heapq.heappush(heap, (-draw, count, measurer.measure(document, source)))
        elif heap and draw < -heap[0][0]:
            heapq.heapreplace(heap, (-draw, count, measurer.measure(document, source)))
    progress(f"reading {source.name}", 1.0)
    return [document for _, _, document in sorted(heap, key=lambda entry: entry[1])], count, unread


class _Measurer:
    """Measures sampled documents; counts failures of detectors instead of raising them."""

    def __init__(self, detectors: Sequence[Detector], clock: DetectorClock) -> None:
        self._detectors, self._clock = detectors, clock
        self.failed: Counter[str] = Counter()

    def measure(self, document: SourceDocument, source: Source) -> StratifiedDocument:
        """Measure a document, and run the detectors on it."""
        text = Text(document.text, source)
        return StratifiedDocument(
            source.name,
            document.id,
            document.where,
            document.text[:CHARACTERS],
            quality.measure(text),
            tuple(detector.name for detector in self._detectors if self._hits(detector, text)),
        )

    def _hits(self, detector: Detector, text: Text) -> bool:
        try:
            return self._clock.run(detector.detect, text, SECONDS * max(1.0, len(text.data) / 1e6)) is not None
        except Exception:  # noqa: BLE001  # a project's detector may raise anything; `assay audit` reports where
            self.failed[detector.name] += 1
            return False
