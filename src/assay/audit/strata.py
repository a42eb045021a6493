"""A sample of documents stratified by source, in one pass over each, with what is measured of every document in it."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from assay.audit import quality
from assay.audit.detectors import Detector, Text
from assay.audit.examine import Clock, clocked
from assay.audit.quality import Quality
from assay.audit.ready import get_ready
from assay.audit.task import SECONDS
from assay.audit.vectors import CHARACTERS
from assay.corpus.read import Document, Look, documents, size_of

if TYPE_CHECKING:
    from assay.errors import AssayError
    from assay.sources import Source

Tell = Callable[[str, float], None]
"""Told what is being done, and the share that is done."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What was read of a source."""

    digest: str
    documents: int
    sampled: int
    unread: int = 0
    """Records that could not be read and were passed over."""
    failed: dict[str, int] = field(default_factory=dict)
    """Documents of the sample that a detector raised or did not end on, by its name; others looked at them all the same."""


class Kept(NamedTuple):
    """A sampled document."""

    source: str
    id: str
    where: str
    text: str
    """Its beginning."""
    quality: Quality
    """Of all of it, as is the next."""
    defects: tuple[str, ...]
    """Names of the detectors that hit it."""


def gather(
    sources: Sequence[Source],
    digests: Mapping[str, str],
    *,
    looking: Sequence[Detector],
    sample: int,
    seed: int,
    tell: Tell,
) -> tuple[list[Kept], dict[str, Part]]:
    """As many documents of each source, drawn at random; what a small source lacks, the larger ones after it give.

    Args:
        sources: to draw from.
        digests: of each, by name, as they are written down.
        looking: detectors that look at every document that is drawn.
        sample: documents, over all sources.
        seed: of the draw.
        tell: told what is read, and the share that is done.
    """
    get_ready()
    kept: list[Kept] = []
    parts = {}
    ordered = sorted(sources, key=lambda source: (size_of(source), source.name))
    with clocked(SECONDS) as clock:
        for place, source in enumerate(ordered):
            room, looker = (sample - len(kept)) // (len(ordered) - place), _Looker(looking, clock)
            drawn, count, unread = _draw(source, room, seed, looker, tell)
            kept += drawn
            parts[source.name] = Part(
                digest=digests[source.name],
                documents=count,
                sampled=len(drawn),
                unread=unread,
                failed=dict(looker.failed),
            )
    return kept, dict(sorted(parts.items()))


def _draw(source: Source, room: int, seed: int, looker: _Looker, tell: Tell) -> tuple[list[Kept], int, int]:
    """The documents with the smallest numbers, where each is given one at random: a sample in one pass, in its order."""
    heap: list[tuple[int, int, Kept]] = []
    unread = 0
    read, size, count = 0, max(1, size_of(source)), 0

    def passed(_error: AssayError) -> None:
        nonlocal unread
        unread += 1

    def progress(more: int) -> None:
        nonlocal read
        read += more
        tell(f"reading {source.name}", min(1.0, read / size))

    for count, document in enumerate(documents(source, progress=progress, look=Look(unread=passed)), start=1):
        draw = int.from_bytes(hashlib.blake2b(f"{seed} {source.name} {count}".encode(), digest_size=8).digest(), "big")
        if len(heap) < room:
            heapq.heappush(heap, (-draw, count, looker.keep(document, source)))
        elif heap and draw < -heap[0][0]:
            heapq.heapreplace(heap, (-draw, count, looker.keep(document, source)))
    tell(f"reading {source.name}", 1.0)
    return [one for _, _, one in sorted(heap, key=lambda entry: entry[1])], count, unread


class _Looker:
    """Looks at documents that are kept, past detectors that fail on one, as a team's own may."""

    def __init__(self, looking: Sequence[Detector], clock: Clock) -> None:
        self._looking, self._clock = looking, clock
        self.failed: Counter[str] = Counter()

    def keep(self, document: Document, source: Source) -> Kept:
        """What is kept of a document."""
        text = Text(document.text, source)
        return Kept(
            source.name,
            document.id,
            document.where,
            document.text[:CHARACTERS],
            quality.measure(text),
            tuple(one.name for one in self._looking if self._hits(one, text)),
        )

    def _hits(self, detector: Detector, text: Text) -> bool:
        try:
            return self._clock.timed(detector.look, text, SECONDS * max(1.0, len(text.data) / 1e6)) is not None
        except Exception:  # noqa: BLE001  # a team's own may raise anything; `assay audit` tells what, and where
            self.failed[detector.name] += 1
            return False
