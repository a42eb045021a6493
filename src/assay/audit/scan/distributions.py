"""Measure distributions over a source's documents, with the most extreme documents.

Histograms have fixed bins, and lists of extremes have a fixed length. Files are therefore merged by adding and sorting,
in any order. Quantiles assume a uniform distribution within a bin, so their error is at most the width of a bin.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from assay.audit.detectors.secrets import masked

if TYPE_CHECKING:
    from assay.audit.detectors.document import Text
    from assay.corpus.source_reader import SourceDocument

Measure = Literal["length", "compression", "symbol_ratio", "bits"]
ENDS = 8
"""Number of extreme documents at each end of a distribution."""
LEAST_BYTES = 200
"""Minimum size in bytes of a document for compression and symbol ratio. Few words give extreme values by chance."""
COMPRESSED = 16_384
"""Number of compressed bytes of a document, from its beginning. Compression takes 1.5 ms per megabyte of text."""
BEGINNING = 400
"""Number of characters kept of an extreme document, from its beginning."""
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass(frozen=True, kw_only=True)
class MeasureScale:
    """The bins of a measure. Bin k begins at `begin(k)`."""

    label: str
    """Name of the measure with its unit."""
    doubling: bool
    """Whether bins are logarithmic, with `fine` bins per doubling. Otherwise `fine` equal bins cover 0 to 1."""
    fine: int

    def place(self, value: float) -> int:
        """Return the bin of a value."""
        if self.doubling:
            return math.floor(self.fine * math.log2(max(1.0, value)))
        return math.floor(self.fine * max(0.0, value))

    def begin(self, place: int) -> float:
        """Return the lower bound of a bin."""
        return 2.0 ** (place / self.fine) if self.doubling else place / self.fine


SCALES: Mapping[Measure, MeasureScale] = {
    "length": MeasureScale(label="bytes", doubling=True, fine=4),
    "compression": MeasureScale(label="compressed bytes per byte", doubling=False, fine=50),
    "symbol_ratio": MeasureScale(label="symbol ratio", doubling=False, fine=200),
    "bits": MeasureScale(label="bits per byte under the proxy", doubling=False, fine=10),
}


@dataclass(frozen=True, kw_only=True)
class Extreme:
    """A document at one end of a distribution."""

    value: float
    document: str
    where: str
    text: str
    """Beginning of the text; `finished` masks its secrets. Untrusted: escape it in every output."""
    url: str | None = None


@dataclass(kw_only=True)
class Distribution:
    """Distribution of a measure over documents."""

    measure: Measure
    counts: dict[str, int] = field(default_factory=dict)
    """Number of documents by bin; the keys are strings for JSON."""
    lowest: list[Extreme] = field(default_factory=list)
    """The lowest values, ascending."""
    highest: list[Extreme] = field(default_factory=list)
    """The highest values, descending."""

    @property
    def documents(self) -> int:
        """Number of measured documents."""
        return sum(self.counts.values())

    def add(self, value: float, document: SourceDocument) -> None:
        """Add the value of a document."""
        key = str(SCALES[self.measure].place(value))
        self.counts[key] = self.counts.get(key, 0) + 1
        low = len(self.lowest) < ENDS or value < self.lowest[-1].value
        high = len(self.highest) < ENDS or value > self.highest[-1].value
        if not (low or high):
            return
        extreme = Extreme(
            value=round(value, 4),
            document=document.id,
            where=document.where,
            text=document.text[: 2 * BEGINNING],
            url=document.url,
        )
        if low:
            self.lowest = _lowest([*self.lowest, extreme])
        if high:
            self.highest = _highest([*self.highest, extreme])

    def quantile(self, fraction: float) -> float:
        """Return the value below which a fraction of the documents lies.

        Raises:
            ValueError: no document was measured.
        """
        scale = SCALES[self.measure]
        place, inner = self._at(fraction)
        low, high = scale.begin(place), scale.begin(place + 1)
        value = low * (high / low) ** inner if scale.doubling else low + (high - low) * inner
        return min(max(value, self.lowest[0].value), self.highest[0].value)

    def place(self, fraction: float) -> int:
        """Return the bin of a quantile.

        Raises:
            ValueError: no document was measured.
        """
        return self._at(fraction)[0]

    def _at(self, fraction: float) -> tuple[int, float]:
        """Return the bin of a quantile, and the position in it."""
        wanted, passed = fraction * self.documents, 0
        for place, count in self.bins():
            if passed + count >= wanted:
                return place, (wanted - passed) / count
            passed += count
        raise ValueError("no document was measured")

    def bins(self) -> list[tuple[int, int]]:
        """Return each non-empty bin with its count, ascending."""
        return sorted((int(place), count) for place, count in self.counts.items())

    def quantiles(self) -> dict[str, float]:
        """Compute `QUANTILES` by percentage as text; empty without documents."""
        return {f"{100 * fraction:g}": self.quantile(fraction) for fraction in QUANTILES} if self.counts else {}


def _lowest(ends: Iterable[Extreme]) -> list[Extreme]:
    return sorted(ends, key=lambda extreme: (extreme.value, extreme.where))[:ENDS]


def _highest(ends: Iterable[Extreme]) -> list[Extreme]:
    return sorted(ends, key=lambda extreme: (-extreme.value, extreme.where))[:ENDS]


def merged(parts: Sequence[Distribution]) -> Distribution:
    """Merge at least one distribution of the same measure."""
    counts: dict[str, int] = {}
    for part in parts:
        for place, count in part.counts.items():
            counts[place] = counts.get(place, 0) + count
    return Distribution(
        measure=parts[0].measure,
        counts=counts,
        lowest=_lowest(extreme for part in parts for extreme in part.lowest),
        highest=_highest(extreme for part in parts for extreme in part.highest),
    )


def finished(spread: Distribution) -> Distribution:
    """Mask the secrets of a distribution's texts, and shorten the texts.

    Masking takes 80 us per text, so it is done after all extremes are known.
    """

    def mask(ends: Sequence[Extreme]) -> list[Extreme]:
        return [replace(extreme, text=masked(extreme.text)[:BEGINNING]) for extreme in ends]

    return replace(spread, lowest=mask(spread.lowest), highest=mask(spread.highest))


class FileDistributions:
    """Distributions of one file, filled during the scan."""

    def __init__(self) -> None:
        """Start without measurements."""
        self.distributions: dict[Measure, Distribution] = {
            measure: Distribution(measure=measure) for measure in ("length", "compression", "symbol_ratio")
        }

    def add(self, document: SourceDocument, text: Text) -> None:
        """Measure a document.

        Args:
            document: the document, for the lists of extremes.
            text: the same document, with the features of detectors.
        """
        size = len(text.data)
        self.distributions["length"].add(size, document)
        if size >= LEAST_BYTES:
            self.distributions["compression"].add(compression(text.data), document)
            self.distributions["symbol_ratio"].add(text.profile["symbols"] / size, document)


def compression(data: bytes) -> float:
    """Compute the LZ4 compression ratio of a text's beginning; 1 without repetition.

    The ratio costs a sixth of the zlib ratio, which `assay audit topics` and `assay audit sample` compute for sampled
    documents.
    """
    begin = data[:COMPRESSED]
    return len(_codec().compress(begin, asbytes=True)) / max(1, len(begin))


@functools.cache
def _codec() -> Any:
    import pyarrow as pa

    return pa.Codec("lz4_raw")
