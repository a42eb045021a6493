"""Documents that an audit keeps: a uniform sample of each file, from which whatever was not asked before is answered.

Each document has a number in a lottery, drawn by hashing its place and its beginning; those below a bound are kept, and
the bound falls as room runs out. Two such samples are merged by taking the lower bound (bottom-k sampling, Cohen and
Kaplan, PODC 2007), so that files may be looked at apart, in any order, on any machine, with bounded memory.
"""

from __future__ import annotations

import hashlib
import heapq
import urllib.parse
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from assay.corpus.read import Document
from assay.files import replacing

ROOM = 2_000_000
"""Characters that are kept of a file, and of a source: 500 documents or more, so that what is in 1% of them is seen."""
BEGINNING = 4_000
"""Characters that are kept of a document."""
EVERY = 1 << 64
"""The bound of a sample that has all documents."""
_COLUMNS = ("ticket", "document", "where", "text", "host", "snapshot", "url", "original")


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The beginning of a document, and where it is from."""

    ticket: int
    """Its number in the lottery, below 2**64."""
    document: str
    where: str
    text: str
    """Hostile, and not masked, which takes 100 ms a megabyte: escape and mask it wherever it is shown."""
    host: str | None = None
    snapshot: str | None = None
    url: str | None = None
    original: str | None = None

    def as_document(self) -> Document:
        """What is kept of it, as a reader of its source would give it."""
        return Document(
            text=self.text,
            id=self.document,
            where=self.where,
            url=self.url,
            original=self.original,
            snapshot=self.snapshot,
        )


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Documents of a file or a source, those with the lowest numbers first, and the bound that all of them are below."""

    documents: tuple[Kept, ...]
    bound: int = EVERY


class Keeper:
    """Keeps documents as they come."""

    def __init__(self, room: int = ROOM) -> None:
        """Keep none yet.

        Args:
            room: characters to keep at most.
        """
        self._room, self._size, self._bound = room, 0, EVERY
        self._heap: list[tuple[int, int, Kept]] = []
        self._put = 0

    def add(self, document: Document) -> None:
        """Keep a document, or pass over it."""
        beginning = document.text[:BEGINNING]
        place = f"{document.where.rpartition('/')[2]} {beginning[:200]}"
        digest = hashlib.blake2b(place.encode(), digest_size=8).digest()
        ticket = int.from_bytes(digest, "little")
        if ticket < self._bound:
            self.put(
                Kept(
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

    def put(self, one: Kept) -> None:
        """Keep a document that has its number already, if that is below the bound."""
        if one.ticket >= self._bound:
            return
        self._put += 1
        heapq.heappush(self._heap, (-one.ticket, self._put, one))
        self._size += len(one.text)
        while self._size > self._room:
            ticket, _, gone = heapq.heappop(self._heap)
            self._bound = min(self._bound, -ticket)
            self._size -= len(gone.text)

    def limit(self, bound: int) -> None:
        """Keep only what is below a bound, besides."""
        self._bound = min(self._bound, bound)

    def sample(self) -> Sample:
        """What is kept by now."""
        found = sorted((one for _, _, one in self._heap), key=lambda one: (one.ticket, one.where))
        return Sample(documents=tuple(one for one in found if one.ticket < self._bound), bound=self._bound)


def merged(samples: Iterable[Sample], room: int = ROOM) -> Sample:
    """One sample of several files, as if one had looked at all of them.

    Args:
        samples: of each; one may be gone when the next is asked for.
        room: characters to keep at most.
    """
    keeper = Keeper(room)
    for part in samples:  # one at a time: 160 files' samples took 1 GB
        keeper.limit(part.bound)
        for one in part.documents:
            keeper.put(one)
    return keeper.sample()


def write(path: Path, sample: Sample) -> None:
    """Write a sample as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [asdict(one) for one in sample.documents]
    fields = [pa.field(name, pa.uint64() if name == "ticket" else pa.string()) for name in _COLUMNS]
    schema = pa.schema(fields, metadata={"bound": str(sample.bound)})
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary, compression="zstd")


def read(path: Path) -> Sample:
    """Read a sample that `write` wrote.

    Raises:
        OSError: it is not there, or not whole.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=list(_COLUMNS))
    except pa.ArrowInvalid as error:
        raise OSError(f"{path}: {error}") from None
    bound = int((table.schema.metadata or {}).get(b"bound", EVERY))
    return Sample(documents=tuple(Kept(**row) for row in table.to_pylist()), bound=bound)


def _host(url: str | None) -> str | None:
    try:
        return urllib.parse.urlsplit(url).hostname if url else None
    except ValueError:  # `http://[`
        return None
