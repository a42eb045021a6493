"""Draw samples of a source for review.

Samples are random, or stratified by deciles of a measure, hosts, snapshots or topics.

A random sample rarely contains rare hosts, or the shortest and longest documents. Sampling takes one pass over the
files. Memory holds a few thousand beginnings of documents for any source.
"""

from __future__ import annotations

import hashlib
import heapq
import statistics
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

from assay.audit.detectors.document import Text
from assay.audit.scan import quality
from assay.audit.scan.quality import Quality
from assay.config.sources import Source
from assay.core.errors import ConfigError
from assay.corpus.source_reader import ReadOptions, SourceDocument, documents, expand

By = Literal["length", "compression", "quality", "host", "snapshot", "file", "random", "topic", "bits"]
BYS: tuple[By, ...] = get_args(By)
PRECOMPUTED: tuple[By, ...] = ("topic", "bits")
"""Strata that other commands compute. Samples by these strata contain only documents with a stratum."""
MOST = 100
"""Maximum number of documents of a sample."""
DRAWN = 4_096
"""Number of documents for computing deciles. Each decile has 8.6% to 11.4% of the source in 997 of 1,000 samples."""
DECILES = 10
STRATA = 300
"""Maximum number of hosts, files or snapshots. The rest forms the stratum `(others)`."""
PREVIEW = 2_000
"""Number of characters kept of each document, from its beginning."""
MEASURED = 65_536
"""Number of compressed characters of a document, from its beginning."""


@dataclass(frozen=True, kw_only=True)
class SampledDocument:
    """A document of a sample for review."""

    document: str
    where: str
    stratum: str
    """Decile, host, snapshot or other stratum of the document."""
    characters: int
    text: str
    """Beginning of the text. Untrusted: escape it in every output."""
    text_digest: str
    """SHA-256 of the text in UTF-8."""
    compression: float
    """zlib compression ratio of the beginning. Repetitive text is below 0.2. Text above 0.8 is hardly language."""
    url: str | None = None
    original: str | None = None
    snapshot: str | None = None
    measured: float | None = None
    """Value of the stratified measure: bits per byte, or quality (mean deviation from the medians)."""


@dataclass(frozen=True, kw_only=True)
class ReviewSample:
    """A sample of a source for review."""

    source: str
    by: By
    seed: int
    documents: int
    """Number of documents that were read."""
    bytes: int
    """Stored bytes that were read."""
    whole: bool
    """Whether the whole source was read."""
    strata: dict[str, int]
    """Number of documents by stratum. For deciles, the number of drawn documents."""
    picked: tuple[SampledDocument, ...]


class _Reservoir:
    """The documents with the lowest random tickets, a uniform sample in any order of documents."""

    def __init__(self, most: int) -> None:
        self._most, self._heap = most, list[tuple[int, int, SampledDocument]]()
        self.seen = 0

    def accepts(self, ticket: int) -> bool:
        return len(self._heap) < self._most or ticket < -self._heap[0][0]

    def add(self, ticket: int, document: SampledDocument) -> None:
        (heapq.heappush if len(self._heap) < self._most else heapq.heapreplace)(
            self._heap, (-ticket, -self.seen, document)
        )

    def lowest(self) -> list[SampledDocument]:
        return [document for _, _, document in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]


def sample(
    source: Source,
    *,
    count: int,
    by: By,
    seed: int = 0,
    strata: Mapping[str, str | float] | None = None,
    most_bytes: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> ReviewSample:
    """Draw a sample that depends only on the files' content, `count`, `by` and `seed`.

    Args:
        source: source to read; unreadable records are skipped.
        count: number of documents, 1 to `MOST`.
        by: property by which the sample is stratified evenly.
        seed: seed of the draw.
        strata: for `by` in `PRECOMPUTED`, the topic or bits per byte of each document, by `where`.
        most_bytes: maximum stored bytes to read, in an order of files that the seed determines (default: all).
        progress: called with the number of stored bytes read.

    Raises:
        AssayError: `count` or `by` is invalid, or the source has no file.
    """
    if not 1 <= count <= MOST:
        raise ConfigError(
            f"sample: `count` {count} is invalid; expected 1 to {MOST}.",
            fix="Lower the count, and draw further samples with other seeds.",
        )
    if by not in BYS:
        raise ConfigError(
            f"sample: `by={by}` is invalid; expected one of {', '.join(BYS)}.", fix="Set `by` to one of these values."
        )
    if (by in PRECOMPUTED) != (strata is not None):
        raise ConfigError(
            f"sample: `by={by}` is invalid {'without' if strata is None else 'with'} `strata`; expected `strata` for"
            f" {' and '.join(PRECOMPUTED)} only.",
            fix="Pass `strata` if and only if `by` is one of these values.",
        )
    numeric = by not in ("host", "snapshot", "file", "topic")
    reservoirs: dict[str, _Reservoir] = {}
    qualities: dict[str, Quality] = {}
    read, count_read = 0, 0

    def count_bytes(size: int) -> None:
        nonlocal read
        read += size
        if progress is not None:
            progress(size)

    whole = True
    for number, document in _in_order(source, count_bytes, seed if most_bytes is not None else None):
        if most_bytes is not None and read > most_bytes:
            whole = False
            break
        count_read += 1
        if strata is not None and document.where not in strata:
            continue
        name = "" if numeric else str(strata[document.where]) if strata is not None else _stratum(document, by)
        reservoir = reservoirs.get(name) or reservoirs.setdefault(
            name if len(reservoirs) < STRATA else "(others)", _Reservoir(DRAWN if numeric else count)
        )
        reservoir.seen += 1
        ticket = _ticket(seed, number)
        if reservoir.accepts(ticket):
            sampled = _sampled(document, name)
            if strata is not None and numeric:
                sampled = replace(sampled, measured=float(strata[document.where]))
            if by == "quality":
                qualities[sampled.where] = quality.measure(Text(document.text, source))
            reservoir.add(ticket, sampled)
    if numeric and reservoirs:
        lowest = reservoirs[""].lowest()
        groups = _deciles(_with_deviation(lowest, qualities) if by == "quality" else lowest, by)
    else:
        groups = {name: reservoir.lowest() for name, reservoir in reservoirs.items()}
    sizes = {name: len(group) if numeric else reservoirs[name].seen for name, group in groups.items()}
    return ReviewSample(
        source=source.name,
        by=by,
        seed=seed,
        documents=count_read,
        bytes=read,
        whole=whole,
        strata=sizes,
        picked=tuple(_evenly(groups, sizes, count, seed)),
    )


def _in_order(
    source: Source, progress: Callable[[int], None], seed: int | None
) -> Iterator[tuple[int, SourceDocument]]:
    """Yield numbered documents, with the files in their order or in a seeded random order."""
    look = ReadOptions(unread=lambda _: None)  # the audit reports unreadable records
    if seed is None:
        yield from enumerate(documents(source, progress=progress, look=look))
        return
    files = expand(source)
    order = sorted(range(len(files)), key=lambda place: _ticket(seed, -1 - place))
    for place in order:
        for line, document in enumerate(
            documents(replace(source, files=(files[place],)), progress=progress, look=look)
        ):
            yield (place << 40) + line, document


def _ticket(seed: int, number: int) -> int:
    digest = hashlib.blake2b(f"{seed} {number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _sampled(document: SourceDocument, stratum: str) -> SampledDocument:
    text = document.text
    beginning = text[:MEASURED].encode()
    return SampledDocument(
        document=document.id,
        where=document.where,
        stratum=stratum,
        characters=len(text),
        text=text[:PREVIEW],
        text_digest=hashlib.sha256(text.encode()).hexdigest(),
        compression=len(zlib.compress(beginning, 1)) / max(1, len(beginning)),
        url=document.url,
        original=document.original,
        snapshot=document.snapshot,
    )


def _stratum(document: SourceDocument, by: By) -> str:
    if by == "host":
        return document.host or "(no host)"
    if by == "snapshot":
        return document.snapshot or "(no snapshot)"
    return document.where.rpartition(":")[0] if document.where.rpartition(":")[2].isdecimal() else document.where


def _deciles(drawn: Sequence[SampledDocument], by: By) -> dict[str, list[SampledDocument]]:
    """Group documents by deciles of a measure such as length, each group in ticket order."""
    if by == "random":
        return {"all": list(drawn)}

    def measure(document: SampledDocument) -> float:
        if document.measured is not None:
            return document.measured
        return document.compression if by == "compression" else document.characters

    ranked = sorted(range(len(drawn)), key=lambda place: (measure(drawn[place]), place))
    groups: dict[str, list[SampledDocument]] = {}
    for decile in range(DECILES):
        places = ranked[decile * len(ranked) // DECILES : (decile + 1) * len(ranked) // DECILES]
        if not places:
            continue
        low, high = measure(drawn[places[0]]), measure(drawn[places[-1]])
        span = f"{low:,} to {high:,} characters" if by == "length" else f"{low:.2f} to {high:.2f}"
        name = f"{by} {decile + 1}/{DECILES}: {span}"
        groups[name] = [replace(drawn[place], stratum=name) for place in sorted(places)]
    return groups


def _with_deviation(drawn: Sequence[SampledDocument], qualities: Mapping[str, Quality]) -> list[SampledDocument]:
    """Measure each document's deviation: its mean distance from the medians of the quality measures.

    Distances are in median absolute deviations, at most 10, so that no single measure dominates.
    """
    names = [field.name for field in fields(Quality)]
    table = [[float(getattr(qualities[document.where], name)) for name in names] for document in drawn]
    middles = [statistics.median(column) for column in zip(*table, strict=True)]
    spreads = [
        max(1e-3, statistics.median(abs(value - middle) for value in column))
        for middle, column in zip(middles, zip(*table, strict=True), strict=True)
    ]
    return [
        replace(
            document,
            measured=statistics.fmean(
                min(10.0, abs(value - middle) / spread)
                for value, middle, spread in zip(row, middles, spreads, strict=True)
            ),
        )
        for document, row in zip(drawn, table, strict=True)
    ]


def _evenly(
    groups: dict[str, list[SampledDocument]], sizes: dict[str, int], count: int, seed: int
) -> list[SampledDocument]:
    """Take documents of each stratum in turn.

    With more strata than documents, take documents from strata of all sizes.
    """
    names = list(groups)
    if len(names) > count:
        ranked = sorted(names, key=lambda name: (-sizes[name], name))
        start = _ticket(seed, -1) / 2**64
        names = [ranked[int((place + start) * len(ranked) / count)] for place in range(count)]
    chosen: dict[str, int] = dict.fromkeys(names, 0)
    left = count
    while left:
        available = [name for name in names if chosen[name] < len(groups[name])]
        if not available:
            break
        if left < len(available):  # the last documents come from both ends and the middle
            available = [available[place * (len(available) - 1) // max(1, left - 1)] for place in range(left)]
        for name in available:
            chosen[name] += 1
        left -= len(available)
    return [document for name in names for document in groups[name][: chosen[name]]]
