"""Keep a uniform sample of each file for later analyses of an audit.

Each document has a random ticket: a hash of the document's location and beginning. The sample keeps the documents whose ticket is
below a bound. If the sample exceeds its capacity, the bound is lowered. To merge two samples, take the lower bound
(bottom-k sampling, Cohen and Kaplan, PODC 2007). Files may therefore be scanned in any order, on any machine, with
bounded memory.
"""

from __future__ import annotations

import hashlib
import heapq
import urllib.parse
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from assay.core.files import replacing
from assay.corpus.source_reader import SourceDocument

ROOM = 2_000_000
"""Maximum characters of a file's or source's sample: 500 or more documents, enough for defects in 1% of them."""
BEGINNING = 4_000
"""Number of characters kept of a document, from its beginning."""
EVERY = 1 << 64
"""Bound of the tickets of a sample with all documents."""
_COLUMNS = ("ticket", "document", "where", "text", "host", "snapshot", "url", "original")


@dataclass(frozen=True, kw_only=True)
class KeptDocument:
    """Beginning and origin of a document."""

    ticket: int
    """Random number below 2**64."""
    document: str
    where: str
    text: str
    """Beginning of the text, untrusted and not masked. Escape and mask it in every output.

    Masking takes 100 ms per megabyte, so the sample stores unmasked text.
    """
    host: str | None = None
    snapshot: str | None = None
    url: str | None = None
    original: str | None = None

    def as_document(self) -> SourceDocument:
        """Convert to the form that source readers return."""
        return SourceDocument(
            text=self.text,
            id=self.document,
            where=self.where,
            url=self.url,
            original=self.original,
            snapshot=self.snapshot,
        )


@dataclass(frozen=True, kw_only=True)
class KeptSample:
    """Sampled documents of a file or source by ascending ticket, with the tickets' bound."""

    documents: tuple[KeptDocument, ...]
    bound: int = EVERY


class SampleBuilder:
    """Builds a sample of documents in one pass."""

    def __init__(self, room: int = ROOM) -> None:
        """Start without documents.

        Args:
            room: maximum characters of the sample.
        """
        self._room, self._size, self._bound = room, 0, EVERY
        self._heap: list[tuple[int, int, KeptDocument]] = []
        self._put = 0

    def add(self, document: SourceDocument) -> None:
        """Add a document to the sample if its ticket is below the bound."""
        beginning = document.text[:BEGINNING]
        place = f"{document.where.rpartition('/')[2]} {beginning[:200]}"
        digest = hashlib.blake2b(place.encode(), digest_size=8).digest()
        ticket = int.from_bytes(digest, "little")
        if ticket < self._bound:
            self.put(
                KeptDocument(
                    ticket=ticket,
                    document=document.id,
                    where=document.where,
                    text=beginning,
                    host=_host(document.url),
                    snapshot=document.snapshot,
                    url=document.url,
                    original=document.original,
                )
            )

    def put(self, document: KeptDocument) -> None:
        """Add a document that has a ticket, if the ticket is below the bound."""
        if document.ticket >= self._bound:
            return
        self._put += 1
        heapq.heappush(self._heap, (-document.ticket, self._put, document))
        self._size += len(document.text)
        while self._size > self._room:
            ticket, _, dropped = heapq.heappop(self._heap)
            self._bound = min(self._bound, -ticket)
            self._size -= len(dropped.text)

    def limit(self, bound: int) -> None:
        """Lower the bound."""
        self._bound = min(self._bound, bound)

    def sample(self) -> KeptSample:
        """Return the sample so far."""
        documents = sorted((kept for _, _, kept in self._heap), key=lambda kept: (kept.ticket, kept.where))
        return KeptSample(documents=tuple(kept for kept in documents if kept.ticket < self._bound), bound=self._bound)


def merged(samples: Iterable[KeptSample], room: int = ROOM) -> KeptSample:
    """Merge the samples of files into the sample that a single pass would give.

    Args:
        samples: samples of the files; consumed one at a time.
        room: maximum characters of the sample.
    """
    builder = SampleBuilder(room)
    for part in samples:  # one at a time: the samples of 160 files take 1 GB
        builder.limit(part.bound)
        for document in part.documents:
            builder.put(document)
    return builder.sample()


def write(path: Path, sample: KeptSample) -> None:
    """Write a sample as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [asdict(document) for document in sample.documents]
    fields = [pa.field(name, pa.uint64() if name == "ticket" else pa.string()) for name in _COLUMNS]
    schema = pa.schema(fields, metadata={"bound": str(sample.bound)})
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary, compression="zstd")


def read(path: Path) -> KeptSample:
    """Read a sample that `write` wrote.

    Raises:
        OSError: the file is missing or truncated.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=list(_COLUMNS))
    except pa.ArrowInvalid as error:
        raise OSError(f"{path}: {error}") from None
    bound = int((table.schema.metadata or {}).get(b"bound", EVERY))
    return KeptSample(documents=tuple(KeptDocument(**row) for row in table.to_pylist()), bound=bound)


def _host(url: str | None) -> str | None:
    try:
        return urllib.parse.urlsplit(url).hostname if url else None
    except ValueError:  # `http://[`
        return None
