"""Samples of a source for people to read: evenly over its tenths, hosts, snapshots or clusters, not only at random.

At random, a host with one page in ten thousand is never seen, and neither are the shortest and the longest documents. One
pass over the files, with memory for a few thousand beginnings of documents whatever the source.
"""

from __future__ import annotations

import hashlib
import heapq
import statistics
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

from assay.audit import quality
from assay.audit.quality import Quality
from assay.audit.text import Text
from assay.corpus.read import Document, Look, documents, expand
from assay.errors import AssayError
from assay.sources import Source

By = Literal["length", "compression", "quality", "host", "snapshot", "file", "random", "cluster", "bits"]
BYS: tuple[By, ...] = get_args(By)
KNOWN: tuple[By, ...] = ("cluster", "bits")
"""Of documents that were looked at before, by others: their samples are drawn of those."""
MOST = 100
"""Documents of a sample."""
DRAWN = 4_096
"""Documents that tenths are taken from: each tenth holds 8.6% to 11.4% of the source in all but 3 of 1,000 samples."""
TENTHS = 10
STRATA = 300
"""Hosts, files and snapshots that are told apart; documents of more come under `(others)`."""
PREVIEW = 2_000
"""Characters of each document that are kept."""
MEASURED = 65_536
"""Characters that a document's compression is measured on."""


@dataclass(frozen=True, kw_only=True)
class Picked:
    """A document of a sample."""

    document: str
    where: str
    stratum: str
    """The tenth, host or snapshot that it was picked from."""
    characters: int
    text: str
    """Its beginning; hostile."""
    text_digest: str
    """SHA-256 of its text in UTF-8."""
    compression: float
    """Size of its beginning compressed by its size: below 0.2 it repeats itself, above 0.8 it is hardly language."""
    url: str | None = None
    original: str | None = None
    snapshot: str | None = None
    measured: float | None = None
    """What the tenths are of, where that is not its length or compression: bits per byte, or how odd its quality is."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """A sample, and what it was drawn from."""

    source: str
    by: By
    seed: int
    documents: int
    """That were looked at."""
    bytes: int
    """That were read, as they are stored."""
    whole: bool
    """Whether that is all of the source."""
    strata: dict[str, int]
    """How many documents each part has; of tenths, how many were drawn."""
    picked: tuple[Picked, ...]


class _Drawn:
    """The documents with the lowest numbers in a lottery; a uniform sample, whatever the order they come in."""

    def __init__(self, most: int) -> None:
        self._most, self._heap = most, list[tuple[int, int, Picked]]()
        self.seen = 0

    def wants(self, ticket: int) -> bool:
        return len(self._heap) < self._most or ticket < -self._heap[0][0]

    def add(self, ticket: int, one: Picked) -> None:
        (heapq.heappush if len(self._heap) < self._most else heapq.heapreplace)(self._heap, (-ticket, -self.seen, one))

    def lowest(self) -> list[Picked]:
        return [one for _, _, one in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]


def sample(
    source: Source,
    *,
    count: int,
    by: By,
    seed: int = 0,
    known: Mapping[str, str | float] | None = None,
    most_bytes: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Sampled:
    """Draw a sample; the same one for the same files, count, kind and seed, wherever the files lie.

    Args:
        source: to read; what cannot be read of it is passed over.
        count: documents, 1 to `MOST`.
        by: what the sample is spread over evenly.
        seed: another one draws other documents.
        known: of samples by cluster or bits: the cluster or the bits per byte of each document, by `where`.
        most_bytes: stored bytes after which no more is read. The files come in an order drawn by the seed then.
        progress: told the stored bytes that were read.

    Raises:
        AssayError: `count` or `by` is none of those, or the source has no file.
    """
    if not 1 <= count <= MOST:
        raise AssayError(f"a sample of {count} documents.", fix=f"Ask for 1 to {MOST}; another seed draws others.")
    if by not in BYS:
        raise AssayError(f"a sample by {by!r}.", fix=f"It is one of {', '.join(BYS)}.")
    if (by in KNOWN) != (known is not None):
        raise AssayError(f"a sample by {by!r}: what is known of its documents goes with {' and '.join(KNOWN)}.")
    numeric = by not in ("host", "snapshot", "file", "cluster")
    parts: dict[str, _Drawn] = {}
    qualities: dict[str, Quality] = {}
    read, looked = 0, 0

    def told(size: int) -> None:
        nonlocal read
        read += size
        if progress is not None:
            progress(size)

    whole = True
    for number, document in _in_order(source, told, seed if most_bytes is not None else None):
        if most_bytes is not None and read > most_bytes:
            whole = False
            break
        looked += 1
        if known is not None and document.where not in known:
            continue
        name = "" if numeric else str(known[document.where]) if known is not None else _stratum(document, by)
        drawn = parts.get(name) or parts.setdefault(
            name if len(parts) < STRATA else "(others)", _Drawn(DRAWN if numeric else count)
        )
        drawn.seen += 1
        ticket = _ticket(seed, number)
        if drawn.wants(ticket):
            one = _picked(document, name)
            if known is not None and numeric:
                one = replace(one, measured=float(known[document.where]))
            if by == "quality":
                qualities[one.where] = quality.measure(Text(document.text, source))
            drawn.add(ticket, one)
    if numeric and parts:
        lowest = parts[""].lowest()
        groups = _tenths(_odd(lowest, qualities) if by == "quality" else lowest, by)
    else:
        groups = {name: one.lowest() for name, one in parts.items()}
    sizes = {name: len(group) if numeric else parts[name].seen for name, group in groups.items()}
    return Sampled(
        source=source.name,
        by=by,
        seed=seed,
        documents=looked,
        bytes=read,
        whole=whole,
        strata=sizes,
        picked=tuple(_evenly(groups, sizes, count, seed)),
    )


def _in_order(source: Source, told: Callable[[int], None], seed: int | None) -> Iterator[tuple[int, Document]]:
    """The documents, each with its number; file after file in their own order, or in one that a seed draws."""
    look = Look(unread=lambda _: None)  # what cannot be read is the audit's to tell
    if seed is None:
        yield from enumerate(documents(source, progress=told, look=look))
        return
    files = expand(source)
    order = sorted(range(len(files)), key=lambda place: _ticket(seed, -1 - place))
    for place in order:
        for line, document in enumerate(documents(replace(source, files=(files[place],)), progress=told, look=look)):
            yield (place << 40) + line, document


def _ticket(seed: int, number: int) -> int:
    digest = hashlib.blake2b(f"{seed} {number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _picked(document: Document, stratum: str) -> Picked:
    text = document.text
    begun = text[:MEASURED].encode()
    return Picked(
        document=document.id,
        where=document.where,
        stratum=stratum,
        characters=len(text),
        text=text[:PREVIEW],
        text_digest=hashlib.sha256(text.encode()).hexdigest(),
        compression=len(zlib.compress(begun, 1)) / max(1, len(begun)),
        url=document.url,
        original=document.original,
        snapshot=document.snapshot,
    )


def _stratum(document: Document, by: By) -> str:
    if by == "host":
        return document.host or "(no host)"
    if by == "snapshot":
        return document.snapshot or "(no snapshot)"
    return document.where.rpartition(":")[0] if document.where.rpartition(":")[2].isdecimal() else document.where


def _tenths(drawn: Sequence[Picked], by: By) -> dict[str, list[Picked]]:
    """Drawn documents by tenths of their length or another measure, each in the order of the lottery."""
    if by == "random":
        return {"all": list(drawn)}

    def measure(one: Picked) -> float:
        if one.measured is not None:
            return one.measured
        return one.compression if by == "compression" else one.characters

    ranked = sorted(range(len(drawn)), key=lambda place: (measure(drawn[place]), place))
    groups: dict[str, list[Picked]] = {}
    for tenth in range(TENTHS):
        places = ranked[tenth * len(ranked) // TENTHS : (tenth + 1) * len(ranked) // TENTHS]
        if not places:
            continue
        low, high = measure(drawn[places[0]]), measure(drawn[places[-1]])
        span = f"{low:,} to {high:,} characters" if by == "length" else f"{low:.2f} to {high:.2f}"
        name = f"{by} {tenth + 1}/{TENTHS}: {span}"
        groups[name] = [replace(drawn[place], stratum=name) for place in sorted(places)]
    return groups


def _odd(drawn: Sequence[Picked], qualities: Mapping[str, Quality]) -> list[Picked]:
    """Drawn documents with how odd each is: the mean, over the measures of quality, of its distance from their median.

    Distances are in median absolute deviations and 10 at most, so that no one measure decides alone.
    """
    names = [field.name for field in fields(Quality)]
    table = [[float(getattr(qualities[one.where], name)) for name in names] for one in drawn]
    middles = [statistics.median(column) for column in zip(*table, strict=True)]
    spreads = [
        max(1e-3, statistics.median(abs(value - middle) for value in column))
        for middle, column in zip(middles, zip(*table, strict=True), strict=True)
    ]
    return [
        replace(
            one,
            measured=statistics.fmean(
                min(10.0, abs(value - middle) / spread)
                for value, middle, spread in zip(row, middles, spreads, strict=True)
            ),
        )
        for one, row in zip(drawn, table, strict=True)
    ]


def _evenly(groups: dict[str, list[Picked]], sizes: dict[str, int], count: int, seed: int) -> list[Picked]:
    """One document of each part in turn; where there are more parts than documents, of parts of every size."""
    names = list(groups)
    if len(names) > count:
        ranked = sorted(names, key=lambda name: (-sizes[name], name))
        start = _ticket(seed, -1) / 2**64
        names = [ranked[int((place + start) * len(ranked) / count)] for place in range(count)]
    chosen: dict[str, int] = dict.fromkeys(names, 0)
    left = count
    while left:
        open_ = [name for name in names if chosen[name] < len(groups[name])]
        if not open_:
            break
        if left < len(open_):  # the last of them go to both ends as well as to the middle
            open_ = [open_[place * (len(open_) - 1) // max(1, left - 1)] for place in range(left)]
        for name in open_:
            chosen[name] += 1
        left -= len(open_)
    return [one for name in names for one in groups[name][: chosen[name]]]
