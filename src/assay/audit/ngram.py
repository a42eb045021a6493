"""How often a string stands in a source, and where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from assay.audit.detectors import Hit
from assay.audit.examine import example
from assay.audit.findings import Example
from assay.corpus.read import Look, documents, size_of
from assay.errors import AssayError
from assay.sources import Source

EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class Count:
    """How often a string stands in a source."""

    documents: int
    """That have it."""
    of: int
    occurrences: int
    examples: tuple[Example, ...]
    unread: int
    """Places that could not be read."""

    @property
    def share(self) -> float:
        """Share of the source's documents that have it."""
        return self.documents / max(1, self.of)


def count(source: Source, text: str, *, progress: Callable[[float], None]) -> Count:
    """Count a string in a source, as it stands: case, spaces and line ends matter.

    Args:
        source: where to look.
        text: what to look for.
        progress: told the share of the source that was read.
    """
    wanted = text.encode()
    total, read = max(1, size_of(source)), 0
    unread: list[AssayError] = []

    def tell(size: int) -> None:
        nonlocal read
        read += size
        progress(min(0.99, read / total))

    having = occurrences = of = 0
    examples: list[Example] = []
    for document in documents(source, progress=tell, look=Look(unread=unread.append)):
        of += 1
        data = document.text.encode()
        times = data.count(wanted)  # 4 GB/s; decompressing and parsing take longer
        if not times:
            continue
        having += 1
        occurrences += times
        if len(examples) < EXAMPLES:
            at = data.find(wanted)
            examples.append(example(Hit(spans=((at, at + len(wanted)),)), document, data))
    progress(1.0)
    return Count(documents=having, of=of, occurrences=occurrences, examples=tuple(examples), unread=len(unread))
