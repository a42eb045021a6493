"""One pass over one file: every detector looks at every document, and what they saw is summed up.

A detector that raises, or takes longer than its time on one document, is written down and passed over; the others and the
documents after it go on. One that is late again and again is left out of the rest of the file: an audit of a million
documents must not wait for each of them.
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

from assay.audit import words
from assay.audit.detectors import Detector, Hit, Text, masked
from assay.audit.findings import Example, Unread
from assay.corpus.read import Document, Look, documents
from assay.sources import Source
from assay.structure import to_mapping

EXAMPLES = 8
"""Kept of each detector and file."""
AROUND = 240
"""Characters that are shown before and after a match."""
SHOWN = 600
"""Characters of a match that are shown."""
WIDE = 300
"""Characters beyond what is shown that are looked at for secrets."""
MOST_UNREAD = 50
MOST_LATE = 20
"""Documents of a file, or a part of one, that a detector may take too long for; then it is not asked about the others."""
MOST_PARTS = 5000
"""Hosts that are counted apart; text from more is counted under `(others)`."""
FEWEST_WORDS = 20
"""Of a document that is compared with others: shorter ones are alike by chance."""
CONTAMINATED = 13
"""Words in a row that a question and a document share, as GPT-3's authors counted it (arXiv 2005.14165)."""


class TookTooLongError(Exception):
    """A detector did not end in its time."""


@dataclass(frozen=True, kw_only=True)
class Questions:
    """The benchmarks' questions as hashes of their 13-word sequences, ascending, and the task of each."""

    grams: words.Hashes
    task: words.Integers
    names: tuple[str, ...]


@dataclass(kw_only=True)
class Sums:
    """What was seen of one file, or a part of it."""

    documents: int = 0
    bytes: int = 0
    parts: dict[str, dict[str, list[int]]] = field(default_factory=lambda: {"snapshot": {}, "host": {}, "file": {}})
    """Documents and bytes by snapshot, host and file."""
    hits: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By detector."""
    unread: list[dict[str, Any]] = field(default_factory=list)
    unread_count: int = 0
    lengths: dict[int, int] = field(default_factory=dict)
    """Documents by the power of 2 that their bytes begin with."""
    shares: dict[str, list[int]] = field(default_factory=lambda: {"signs": [0] * 21, "digits": [0] * 21})
    """Documents by twentieths of their bytes that are signs of code, or digits."""

    def missed(self, where: str, reason: str, detector: str | None = None, *, rest: bool = False) -> None:
        """Write down what could not be read or looked at."""
        self.unread_count += 1
        if rest or len(self.unread) < MOST_UNREAD:
            one = Unread(where=where, reason=masked(reason[:2000])[:500], detector=detector, rest=rest)
            self.unread = foremost([*self.unread, to_mapping(one)])


@dataclass(frozen=True, kw_only=True)
class Prints:
    """What documents are compared by: of each its text's hash and the bands of its MinHash; shapes (n,), (n, bands)."""

    exact: words.Hashes
    bands: words.Hashes
    signatures: words.Bytes
    ids: list[tuple[str, str]]
    """Id and place of each."""


def examine(
    source: Source,
    detectors: Sequence[Detector],
    *,
    look: Look,
    questions: Questions | None,
    seconds: float,
    skip: Mapping[int, set[str]],
    progress: Callable[[int], None],
    beat: Callable[[int, str], None],
    seen: Callable[[Document, Text], None] = lambda _document, _text: None,
) -> tuple[Sums, Prints]:
    """Look at every document of a source's files once, with all detectors.

    Args:
        source: what to read.
        detectors: what to look with.
        look: which part of each file.
        questions: of the benchmarks that a run is scored on.
        seconds: that a detector may take for a megabyte, or a shorter document.
        skip: detectors that are not to look at a document, by its number from 0: they did not come back from it.
        progress: told the bytes read.
        beat: told which document, and which detector, is at work.
        seen: shown every document, for what is kept beside what detectors find.
    """
    sums = Sums()
    exact, bands, signatures = bytearray(), bytearray(), bytearray()  # 264 bytes a document
    ids: list[tuple[str, str]] = []
    late = dict.fromkeys((detector.name for detector in detectors), 0)
    tolerant = Look(part=look.part, parts=look.parts, unread=lambda error: sums.missed(*_placed(error.what)))
    with clocked(seconds) as clock:
        for number, document in enumerate(documents(source, progress=progress, look=tolerant)):
            text = Text(document.text, source)
            places = _places(document, sums)
            _count(sums, text, places)
            seen(document, text)
            skipped = skip.get(number, set())
            allowed = seconds * max(1.0, len(text.data) / 1e6)
            for detector in detectors:
                if late[detector.name] >= MOST_LATE:
                    continue
                beat(number, detector.name)
                if detector.name in skipped:
                    sums.missed(document.where, "did not come back, and was ended", detector.name)
                    continue
                try:
                    hit = clock.timed(detector.look, text, allowed)
                except TookTooLongError:
                    late[detector.name] += 1
                    given_up = late[detector.name] == MOST_LATE
                    more = (
                        f", the {MOST_LATE}th time: it was not asked about what follows in the file" if given_up else ""
                    )
                    reason = f"took longer than {seconds:g} s a megabyte{more}"
                    sums.missed(document.where, reason, detector.name, rest=given_up)
                    continue
                except Exception as error:  # noqa: BLE001  # a team's own detector may raise anything; the rest goes on
                    sums.missed(document.where, f"{type(error).__name__}: {error}", detector.name)
                    continue
                if hit is not None:
                    add_hit(sums, detector.name, hit, document, text.data, places, secret=detector.secret)
            beat(number, "")
            if questions is not None:
                _contaminated(sums, questions, text, document, places)
            if len(text.words[0]) >= FEWEST_WORDS:
                least = words.signature(words.ngrams(text.words[0], words.SHINGLE), words.BINS)
                exact += hashlib.blake2b(text.data, digest_size=8).digest()
                bands += words.bands(least, words.BANDS, words.ROWS).tobytes()
                signatures += least.astype(np.uint8).tobytes()
                ids.append((document.id, document.where))
    return sums, Prints(
        exact=np.frombuffer(exact, "<u8"),
        bands=np.frombuffer(bands, np.uint64).reshape(-1, words.BANDS),
        signatures=np.frombuffer(signatures, np.uint8).reshape(-1, words.BINS),
        ids=ids,
    )


def foremost(unread: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many as are kept, in order, with those first that say something of all that follows in their file."""
    return sorted(unread, key=lambda one: not one.get("rest", False))[:MOST_UNREAD]


def _placed(what: str) -> tuple[str, str]:
    """An error about a source, as its place and what is wrong there."""
    where, colon, reason = what.partition(": ")
    return (where, reason) if colon else ("", what)


def _places(document: Document, sums: Sums) -> dict[str, str]:
    file = document.where.rsplit(":", 1)[0] if document.where.rsplit(":", 1)[-1].isdigit() else document.where
    found = {"file": file, **({"host": document.host} if document.host else {})}
    if document.snapshot:
        found["snapshot"] = document.snapshot
    for kind, name in found.items():
        if name not in sums.parts[kind] and len(sums.parts[kind]) >= MOST_PARTS:
            found[kind] = "(others)"
    return found


def _count(sums: Sums, text: Text, places: Mapping[str, str]) -> None:
    size = len(text.data)
    sums.documents += 1
    sums.bytes += size
    for kind, name in places.items():
        both = sums.parts[kind].setdefault(name, [0, 0])
        both[0] += 1
        both[1] += size
    power = size.bit_length()
    sums.lengths[power] = sums.lengths.get(power, 0) + 1
    for what, counts in sums.shares.items():
        counts[math.floor(20 * text.profile[what] / max(1, size))] += 1


class Clock:
    """When what runs now has to end."""

    def __init__(self) -> None:
        """Nothing has to end yet."""
        self._due = math.inf

    def timed(self, look: Callable[[Text], Hit | None], text: Text, seconds: float) -> Hit | None:
        """What a detector finds.

        Raises:
            TookTooLongError: it took longer, and the clock rings.
        """
        self._due = time.monotonic() + seconds
        try:
            return look(text)
        finally:
            self._due = math.inf

    def ring(self, _number: int, _frame: object) -> None:
        """End what is late."""
        if time.monotonic() >= self._due:
            raise TookTooLongError


@contextmanager
def clocked(seconds: float) -> Iterator[Clock]:
    """A clock that ends what takes longer, where that can be done: in Python and in regular expressions, on the main thread.

    It rings all the time, 20 times in so many seconds. One that is wound for each detector and document costs two calls
    of the system each time, and they were an eighth of an audit.
    """
    clock = Clock()
    if threading.current_thread() is not threading.main_thread():
        yield clock
        return
    before = signal.signal(signal.SIGALRM, clock.ring)
    interval = max(0.02, seconds / 20)
    signal.setitimer(signal.ITIMER_REAL, interval, interval)
    try:
        yield clock
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _contaminated(sums: Sums, questions: Questions, text: Text, document: Document, places: Mapping[str, str]) -> None:
    hashes, starts = text.words
    grams = words.ngrams(hashes, CONTAMINATED)
    if not len(grams) or not len(questions.grams):
        return
    at = np.minimum(np.searchsorted(questions.grams, grams), len(questions.grams) - 1)
    found = np.flatnonzero(questions.grams[at] == grams)
    if not len(found):
        return
    tasks = sorted({questions.names[questions.task[at[index]]] for index in found})
    first = int(found[0])
    stop = int(starts[first + CONTAMINATED]) if first + CONTAMINATED < len(starts) else len(text.data)
    hit = Hit(spans=((int(starts[first]), stop),), note=", ".join(tasks[:3]))
    record = add_hit(sums, "benchmark_contamination", hit, document, text.data, places)
    counts = record.setdefault("tasks", {})
    for task in tasks:
        counts[task] = counts.get(task, 0) + 1


def add_hit(  # noqa: PLR0917  # what it is about, and where it tells of it
    sums: Sums,
    detector: str,
    hit: Hit,
    document: Document,
    data: bytes,
    places: Mapping[str, str],
    *,
    secret: bool = False,
) -> dict[str, Any]:
    """Count a hit, and keep it as an example if there are few."""
    record = sums.hits.setdefault(
        detector,
        {"documents": 0, "bytes": 0, "matched": 0, "parts": {"snapshot": {}, "host": {}, "file": {}}, "examples": []},
    )
    record["documents"] += 1
    record["bytes"] += len(data)
    record["matched"] += sum(stop - start for start, stop in hit.spans) if hit.spans else len(data)
    for kind, name in places.items():
        both = record["parts"][kind].setdefault(name, [0, 0])
        both[0] += 1
        both[1] += len(data)
    if len(record["examples"]) < EXAMPLES:
        record["examples"].append(to_mapping(example(hit, document, data, secret=secret)))
    return record


def example(hit: Hit, document: Document, data: bytes, *, secret: bool = False) -> Example:
    """A hit as people see it: the place, what is around it, and where in that the defect is."""
    start, stop = hit.spans[0] if hit.spans else (0, 0)
    begin = len(data[:start].decode(errors="ignore"))
    end = begin + len(data[start:stop].decode(errors="ignore"))
    offset = max(0, begin - AROUND)
    stop_at = min(end, begin + SHOWN) + AROUND
    wide = max(0, offset - WIDE)
    # Masked before it is cut, so that no part of a secret is left at an end.
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
        url=document.url,
        original=document.original,
        snapshot=document.snapshot,
    )


def _masked(secret: str) -> str:
    """As long as it was, with two characters to know it by."""
    return secret[:2] + "*" * (len(secret) - 2)
