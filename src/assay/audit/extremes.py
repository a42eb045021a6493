"""Distributions over a source's documents, and the documents at both ends of each: what is odd shows there first.

Histograms have fixed bins and lists a fixed length, so that those of any files are merged by adding and sorting, whatever
the order. Of a bin's documents a quantile takes them to be evenly spread: it is off by a bin's width at most.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from assay.audit.secrets import masked

if TYPE_CHECKING:
    from assay.audit.text import Text
    from assay.corpus.read import Document

Measure = Literal["length", "compression", "signs", "bits"]
ENDS = 8
"""Documents that are kept of each end."""
LEAST_BYTES = 200
"""Of a document whose compression and signs are measured: those of a few words are extreme by chance."""
COMPRESSED = 16_384
"""Bytes of a document that are compressed, from its beginning: 1.5 ms for a megabyte of text."""
BEGINNING = 400
"""Characters that are kept of an extreme document."""
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The bins of a measure: bin k begins at `begin(k)`."""

    label: str
    """What it is, with its unit."""
    doubling: bool
    """Whether bins widen with the value, `fine` in each doubling; else there are `fine` of the same width in 0 to 1."""
    fine: int

    def place(self, value: float) -> int:
        """The bin of a value."""
        if self.doubling:
            return math.floor(self.fine * math.log2(max(1.0, value)))
        return math.floor(self.fine * max(0.0, value))

    def begin(self, place: int) -> float:
        """The least value of a bin."""
        return 2.0 ** (place / self.fine) if self.doubling else place / self.fine


SCALES: Mapping[Measure, Scale] = {
    "length": Scale(label="bytes", doubling=True, fine=4),
    "compression": Scale(label="bytes compressed by bytes", doubling=False, fine=50),
    "signs": Scale(label="share of signs of code", doubling=False, fine=200),
    "bits": Scale(label="bits per byte under the proxy", doubling=False, fine=10),
}


@dataclass(frozen=True, kw_only=True)
class Extreme:
    """A document at an end of a distribution."""

    value: float
    document: str
    where: str
    text: str
    """Its beginning; of distributions that are `finished`, secrets are masked. Hostile: escape it wherever it is shown."""
    url: str | None = None


@dataclass(kw_only=True)
class Distribution:
    """How a measure is spread over documents; grows as they come."""

    measure: Measure
    counts: dict[str, int] = field(default_factory=dict)
    """Documents by bin, in text as JSON has its keys."""
    lowest: list[Extreme] = field(default_factory=list)
    highest: list[Extreme] = field(default_factory=list)
    """Both the most extreme first."""

    @property
    def documents(self) -> int:
        """That were measured."""
        return sum(self.counts.values())

    def add(self, value: float, document: Document) -> None:
        """Count a document."""
        key = str(SCALES[self.measure].place(value))
        self.counts[key] = self.counts.get(key, 0) + 1
        low = len(self.lowest) < ENDS or value < self.lowest[-1].value
        high = len(self.highest) < ENDS or value > self.highest[-1].value
        if not (low or high):
            return
        one = Extreme(
            value=round(value, 4),
            document=document.id,
            where=document.where,
            text=document.text[: 2 * BEGINNING],
            url=document.url,
        )
        if low:
            self.lowest = _lowest([*self.lowest, one])
        if high:
            self.highest = _highest([*self.highest, one])

    def quantile(self, share: float) -> float:
        """The value that a share of the documents is below.

        Raises:
            ValueError: no document was measured.
        """
        scale = SCALES[self.measure]
        place, inner = self._at(share)
        low, high = scale.begin(place), scale.begin(place + 1)
        found = low * (high / low) ** inner if scale.doubling else low + (high - low) * inner
        return min(max(found, self.lowest[0].value), self.highest[0].value)

    def place(self, share: float) -> int:
        """The bin that a quantile is in; errors as of `quantile`."""
        return self._at(share)[0]

    def _at(self, share: float) -> tuple[int, float]:
        """The bin that a quantile is in, and how far in it."""
        wanted, passed = share * self.documents, 0
        for place, count in self.bins():
            if passed + count >= wanted:
                return place, (wanted - passed) / count
            passed += count
        raise ValueError("no document was measured")

    def bins(self) -> list[tuple[int, int]]:
        """Each bin with documents, and how many it has; ascending."""
        return sorted((int(place), count) for place, count in self.counts.items())

    def quantiles(self) -> dict[str, float]:
        """Of `QUANTILES`, in per cent; empty where no document was measured."""
        return {f"{100 * share:g}": self.quantile(share) for share in QUANTILES} if self.counts else {}


def _lowest(ends: Iterable[Extreme]) -> list[Extreme]:
    return sorted(ends, key=lambda one: (one.value, one.where))[:ENDS]


def _highest(ends: Iterable[Extreme]) -> list[Extreme]:
    return sorted(ends, key=lambda one: (-one.value, one.where))[:ENDS]


def merged(parts: Sequence[Distribution]) -> Distribution:
    """The distribution over all of several files' documents; at least one part, all of one measure."""
    counts: dict[str, int] = {}
    for part in parts:
        for place, count in part.counts.items():
            counts[place] = counts.get(place, 0) + count
    return Distribution(
        measure=parts[0].measure,
        counts=counts,
        lowest=_lowest(one for part in parts for one in part.lowest),
        highest=_highest(one for part in parts for one in part.highest),
    )


def finished(spread: Distribution) -> Distribution:
    """A distribution as it may be kept: secrets masked, before texts are cut, so that no part of one is left.

    Not before: a text takes 80 us, and most that come to an end of a distribution do not stay there.
    """

    def shown(ends: Sequence[Extreme]) -> list[Extreme]:
        return [replace(one, text=masked(one.text)[:BEGINNING]) for one in ends]

    return replace(spread, lowest=shown(spread.lowest), highest=shown(spread.highest))


class Extremes:
    """The distributions of one file, in the pass over its documents."""

    def __init__(self) -> None:
        """Nothing was measured yet."""
        self.found: dict[Measure, Distribution] = {
            measure: Distribution(measure=measure) for measure in ("length", "compression", "signs")
        }

    def add(self, document: Document, text: Text) -> None:
        """Measure a document.

        Args:
            document: for the lists of extreme ones.
            text: the same, as detectors see it.
        """
        size = len(text.data)
        self.found["length"].add(size, document)
        if size >= LEAST_BYTES:
            self.found["compression"].add(compression(text.data), document)
            self.found["signs"].add(text.profile["signs"] / size, document)


def compression(data: bytes) -> float:
    """Size of a text's beginning after LZ4 by its size before: little for repetition, 1 for what repeats nothing.

    It costs a sixth of zlib's measure, which `assay clusters` and `assay sample` use on a part of the documents.
    """
    begin = data[:COMPRESSED]
    return len(_codec().compress(begin, asbytes=True)) / max(1, len(begin))


@functools.cache
def _codec() -> Any:
    import pyarrow as pa

    return pa.Codec("lz4_raw")
