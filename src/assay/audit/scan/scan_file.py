"""Scan a file once: run all detectors on each document, and sum the hits.

If a detector raises an error or exceeds its time on a document, the scan records the failure and continues. A detector
that exceeds its time on many documents is disabled for the rest of the file. An audit of a million documents therefore
does not wait for each document.
"""

from __future__ import annotations

import hashlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from assay.audit.detectors import shingles
from assay.audit.detectors.registry import Detector, Hit, Text, masked
from assay.audit.findings import Example, Unread
from assay.config.sources import Source
from assay.core.serde import to_mapping
from assay.corpus.source_reader import ReadOptions, SourceDocument, documents

EXAMPLES = 8
"""Maximum number of examples per detector and file."""
AROUND = 240
"""Number of characters of an example before and after the match."""
SHOWN = 600
"""Maximum number of characters of a match in an example."""
WIDE = 300
"""Number of characters before and after an example that are searched for secrets that the example truncates."""
MOST_UNREAD = 50
"""Maximum number of recorded failures per file."""
MOST_LATE = 20
"""Number of documents on which a detector may exceed its time before it is disabled for the rest of the file."""
MOST_PARTS = 5000
"""Maximum number of separate snapshots, hosts or files. The rest is counted as `(others)`."""
FEWEST_WORDS = 20
"""Minimum number of words of a document for duplicate detection. Shorter documents are equal by chance."""
CONTAMINATED = 13
"""Number of consecutive words that an item and a contaminated document share, as in GPT-3 (arXiv 2005.14165)."""


class DetectorTimeout(Exception):  # noqa: N818  # as in the standard library
    """A detector exceeded its time limit."""


@dataclass(frozen=True, kw_only=True)
class ItemGrams:
    """Ascending hashes of the 13-word sequences of benchmark items, with the task of each sequence."""

    grams: shingles.Hashes
    task: shingles.Integers
    names: tuple[str, ...]


@dataclass(kw_only=True)
class FileSums:
    """Sums over the documents of a file, or a part of it."""

    documents: int = 0
    bytes: int = 0
    parts: dict[str, dict[str, list[int]]] = field(default_factory=lambda: {"snapshot": {}, "host": {}, "file": {}})
    """Counts of documents and bytes by kind (snapshot, host, file) and name."""
    hits: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Hits by detector."""
    unread: list[dict[str, Any]] = field(default_factory=list)
    unread_count: int = 0
    lengths: dict[int, int] = field(default_factory=dict)
    """Number of documents by bit length of their size in bytes."""
    fractions: dict[str, list[int]] = field(default_factory=lambda: {"symbols": [0] * 21, "digits": [0] * 21})
    """Histograms of symbol ratio and digit ratio in steps of 1/20."""

    def add_unread(self, where: str, reason: str, detector: str | None = None, *, rest: bool = False) -> None:
        """Record a location that could not be read or scanned."""
        self.unread_count += 1
        if rest or len(self.unread) < MOST_UNREAD:
            failure = Unread(where=where, reason=masked(reason[:2000])[:500], detector=detector, rest=rest)
            self.unread = first_unread([*self.unread, to_mapping(failure)])


@dataclass(frozen=True, kw_only=True)
class DocumentHashes:
    """Hashes that identify duplicates: text hash, MinHash bands and MinHash bins of each document."""

    exact: shingles.Hashes
    """Shape (n,)."""
    bands: shingles.Hashes
    """Shape (n, bands)."""
    signatures: shingles.Bytes
    """Shape (n, bins)."""
    ids: list[tuple[str, str]]
    """Id and location of each document."""


def scan_documents(
    source: Source,
    detectors: Sequence[Detector],
    *,
    options: ReadOptions,
    questions: ItemGrams | None,
    seconds: float,
    skip: Mapping[int, set[str]],
    progress: Callable[[int], None],
    beat: Callable[[int, str], None],
    observe: Callable[[SourceDocument, Text], None] = lambda _document, _text: None,
) -> tuple[FileSums, DocumentHashes]:
    """Run all detectors on every document of a source's files, in one pass.

    Args:
        source: source to read.
        detectors: detectors to run.
        options: part of each file to read.
        questions: index of benchmark items, for contamination.
        seconds: time limit of a detector in seconds per megabyte. A shorter document has the limit of one megabyte.
        skip: detectors that hung on a document, by number of the document from 0. These detectors do not scan the
            document.
        progress: called with the number of bytes that were read.
        beat: called with the number of the document and the name of the detector before a detector runs.
        observe: called with every document.
    """
    sums = FileSums()
    exact, bands, signatures = bytearray(), bytearray(), bytearray()  # 264 bytes per document
    ids: list[tuple[str, str]] = []
    late = dict.fromkeys((detector.name for detector in detectors), 0)
    tolerant = ReadOptions(
        part=options.part, parts=options.parts, unread=lambda error: sums.add_unread(*_split_place(error.what))
    )
    with detector_clock(seconds) as clock:
        for number, document in enumerate(documents(source, progress=progress, look=tolerant)):
            text = Text(document.text, source)
            places = _places(document, sums)
            _count(sums, text, places)
            observe(document, text)
            skipped = skip.get(number, set())
            allowed = seconds * max(1.0, len(text.data) / 1e6)
            for detector in detectors:
                if late[detector.name] >= MOST_LATE:
                    continue
                beat(number, detector.name)
                if detector.name in skipped:
                    sums.add_unread(document.where, "hung, and was ended", detector.name)
                    continue
                try:
                    hit = clock.run(detector.detect, text, allowed)
                except DetectorTimeout:
                    late[detector.name] += 1
                    disabled = late[detector.name] == MOST_LATE
                    more = f" {MOST_LATE} times; the detector is disabled for the rest of the file" if disabled else ""
                    reason = f"exceeded {seconds:g} s per megabyte{more}"
                    sums.add_unread(document.where, reason, detector.name, rest=disabled)
                    continue
                except Exception as error:  # noqa: BLE001  # a project's detector may raise anything; the scan continues
                    sums.add_unread(document.where, f"{type(error).__name__}: {error}", detector.name)
                    continue
                if hit is not None:
                    add_hit(sums, detector.name, hit, document, text.data, places, secret=detector.secret)
            beat(number, "")
            if questions is not None:
                _add_contamination(sums, questions, text, document, places)
            if len(text.words[0]) >= FEWEST_WORDS:
                least = shingles.signature(shingles.ngrams(text.words[0], shingles.SHINGLE), shingles.BINS)
                exact += hashlib.blake2b(text.data, digest_size=8).digest()
                bands += shingles.bands(least, shingles.BANDS, shingles.ROWS).tobytes()
                signatures += least.astype(np.uint8).tobytes()
                ids.append((document.id, document.where))
    return sums, DocumentHashes(
        exact=np.frombuffer(exact, "<u8"),
        bands=np.frombuffer(bands, np.uint64).reshape(-1, shingles.BANDS),
        signatures=np.frombuffer(signatures, np.uint8).reshape(-1, shingles.BINS),
        ids=ids,
    )


def first_unread(unread: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Select the failures to report, with failures that disabled a detector first."""
    return sorted(unread, key=lambda record: not record.get("rest", False))[:MOST_UNREAD]


def _split_place(what: str) -> tuple[str, str]:
    """Split an error about a source into location and reason."""
    where, colon, reason = what.partition(": ")
    return (where, reason) if colon else ("", what)


def _places(document: SourceDocument, sums: FileSums) -> dict[str, str]:
    file = document.where.rsplit(":", 1)[0] if document.where.rsplit(":", 1)[-1].isdigit() else document.where
    places = {"file": file, **({"host": document.host} if document.host else {})}
    if document.snapshot:
        places["snapshot"] = document.snapshot
    for kind, name in places.items():
        if name not in sums.parts[kind] and len(sums.parts[kind]) >= MOST_PARTS:
            places[kind] = "(others)"
    return places


def _count(sums: FileSums, text: Text, places: Mapping[str, str]) -> None:
    size = len(text.data)
    sums.documents += 1
    sums.bytes += size
    for kind, name in places.items():
        pair = sums.parts[kind].setdefault(name, [0, 0])
        pair[0] += 1
        pair[1] += size
    power = size.bit_length()
    sums.lengths[power] = sums.lengths.get(power, 0) + 1
    for name, counts in sums.fractions.items():
        counts[math.floor(20 * text.profile[name] / max(1, size))] += 1


class DetectorClock:
    """Time limit of the running detector."""

    def __init__(self) -> None:
        """Start without a deadline."""
        self._due = math.inf

    def run(self, detect: Callable[[Text], Hit | None], text: Text, seconds: float) -> Hit | None:
        """Run a detector with a deadline.

        Raises:
            DetectorTimeout: the detector exceeded the deadline, and the timer interrupted it.
        """
        self._due = time.monotonic() + seconds
        try:
            return detect(text)
        finally:
            self._due = math.inf

    def interrupt(self, _number: int, _frame: object) -> None:
        """Raise an error in a detector that exceeded its deadline. This is the signal handler."""
        if time.monotonic() >= self._due:
            raise DetectorTimeout


@contextmanager
def detector_clock(seconds: float) -> Iterator[DetectorClock]:
    """Interrupt detectors that exceed their time; works on the main thread only.

    The signal interrupts Python code and regular expressions. The interval timer fires 20 times per time limit. A timer
    per detector and document would need two system calls each time, which took an eighth of an audit.
    """
    clock = DetectorClock()
    if threading.current_thread() is not threading.main_thread():
        yield clock
        return
    before = signal.signal(signal.SIGALRM, clock.interrupt)
    interval = max(0.02, seconds / 20)
    signal.setitimer(signal.ITIMER_REAL, interval, interval)
    try:
        yield clock
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _add_contamination(
    sums: FileSums, questions: ItemGrams, text: Text, document: SourceDocument, places: Mapping[str, str]
) -> None:
    hashes, starts = text.words
    grams = shingles.ngrams(hashes, CONTAMINATED)
    if not len(grams) or not len(questions.grams):
        return
    at = np.minimum(np.searchsorted(questions.grams, grams), len(questions.grams) - 1)
    matches = np.flatnonzero(questions.grams[at] == grams)
    if not len(matches):
        return
    tasks = sorted({questions.names[questions.task[at[index]]] for index in matches})
    first = int(matches[0])
    stop = int(starts[first + CONTAMINATED]) if first + CONTAMINATED < len(starts) else len(text.data)
    hit = Hit(spans=((int(starts[first]), stop),), note=", ".join(tasks[:3]))
    record = add_hit(sums, "benchmark_contamination", hit, document, text.data, places)
    counts = record.setdefault("tasks", {})
    for task in tasks:
        counts[task] = counts.get(task, 0) + 1


def add_hit(  # noqa: PLR0917  # the hit and its document
    sums: FileSums,
    detector: str,
    hit: Hit,
    document: SourceDocument,
    data: bytes,
    places: Mapping[str, str],
    *,
    secret: bool = False,
) -> dict[str, Any]:
    """Add a hit to the sums, and keep it as one of the first examples."""
    record = sums.hits.setdefault(
        detector,
        {"documents": 0, "bytes": 0, "matched": 0, "parts": {"snapshot": {}, "host": {}, "file": {}}, "examples": []},
    )
    record["documents"] += 1
    record["bytes"] += len(data)
    record["matched"] += sum(stop - start for start, stop in hit.spans) if hit.spans else len(data)
    for kind, name in places.items():
        pair = record["parts"][kind].setdefault(name, [0, 0])
        pair[0] += 1
        pair[1] += len(data)
    if len(record["examples"]) < EXAMPLES:
        record["examples"].append(to_mapping(example(hit, document, data, secret=secret)))
    return record


def example(hit: Hit, document: SourceDocument, data: bytes, *, secret: bool = False) -> Example:
    """Create an example: the text around a hit's first match, with positions of matches."""
    start, stop = hit.spans[0] if hit.spans else (0, 0)
    begin = len(data[:start].decode(errors="ignore"))
    end = begin + len(data[start:stop].decode(errors="ignore"))
    offset = max(0, begin - AROUND)
    stop_at = min(end, begin + SHOWN) + AROUND
    wide = max(0, offset - WIDE)
    # Masking precedes cutting, so that no part of a secret remains at an end.
    shown = masked(document.text[wide : stop_at + WIDE])[offset - wide : stop_at - wide]
    matches = []
    for first, last in hit.spans[:50]:
        left = len(data[:first].decode(errors="ignore")) - offset
        right = left + len(data[first:last].decode(errors="ignore"))
        if left < len(shown):
            matches.append((max(0, left), min(right, len(shown))))
        if left >= len(shown):
            break
    matches.sort()
    if secret:
        for first, last in matches:
            shown = shown[:first] + _masked(shown[first:last]) + shown[last:]
    return Example(
        document=document.id,
        where=document.where,
        text=shown,
        matches=tuple(matches),
        offset=offset,
        note=hit.note,
        rule=hit.rule,
        url=document.url,
        original=document.original,
        snapshot=document.snapshot,
    )


def _masked(secret: str) -> str:
    """Mask a secret except for its first two characters."""
    return secret[:2] + "*" * (len(secret) - 2)
