"""Documents that are there more than once, in one source or in several.

What they are compared by lies on disk, 264 bytes a document, and is read as it is needed: memory holds 80 bytes a document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from assay.audit import words
from assay.audit.examine import EXAMPLES, Prints
from assay.files import read_json, write_json

ALIKE = 0.8
"""Share of shingles that near duplicates have in common, as MinHash estimates it."""
CHUNK = 100_000
"""Documents that are compared at a time: 26 MB."""
IDS = "ids.json"

Places = NDArray[np.int64]


class File(NamedTuple):
    """What was kept of a file's documents.

    Attributes:
        source: the name of the file's source.
        folder: where it was kept.
    """

    source: str
    folder: Path

    def array(self, name: str) -> NDArray[Any]:
        """One of the arrays of `Prints`; its pages are no longer in memory when nobody holds it."""
        found: NDArray[Any] = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        return found


def keep(folder: Path, prints: Prints) -> None:
    """Write down what a file's documents are compared by, in its folder."""
    for name in ("exact", "bands", "signatures"):
        np.save(folder / f"{name}.npy", getattr(prints, name), allow_pickle=False)
    write_json(folder / IDS, prints.ids)


class Corpus:
    """The documents of all files, numbered in their order."""

    def __init__(self, files: Sequence[File]) -> None:
        self.files = files
        sizes = [len(file.array("exact")) for file in files]
        self._ends = np.cumsum(sizes, dtype=np.int64) if sizes else np.empty(0, np.int64)
        self._begins = self._ends - np.array(sizes, np.int64)
        self._ids = lru_cache(maxsize=4)(lambda number: read_json(self.files[number].folder / IDS))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def source(self, index: int) -> str:
        """The source that a document is of."""
        return self.files[self._file(index)].source

    def named(self, index: int) -> tuple[str, str]:
        """A document's id and place."""
        number = self._file(index)
        document, where = self._ids(number)[index - int(self._begins[number])]
        return document, where

    def column(self, name: str, place: int | None = None) -> words.Hashes:
        """A hash of each document; shape (n,)."""
        found = np.empty(len(self), np.uint64)
        for file, begin, end in zip(self.files, self._begins, self._ends, strict=True):
            array = file.array(name)
            found[begin:end] = array if place is None else array[:, place]
        return found

    def signatures(self, indices: Places) -> words.Bytes:
        """The signatures of some documents; shape (indices, bins)."""
        found = np.empty((len(indices), words.BINS), np.uint8)
        files = np.searchsorted(self._ends, indices, side="right")
        for number in np.unique(files).tolist():
            mine = files == number
            found[mine] = self.files[number].array("signatures")[indices[mine] - self._begins[number]]
        return found

    def _file(self, index: int) -> int:
        return int(np.searchsorted(self._ends, index, side="right"))


def compare(totals: Mapping[str, dict[str, Any]], files: Sequence[File], repairs: Mapping[str, str | None]) -> None:
    """Write copies down as hits of each source.

    Args:
        totals: what `merge.summed` gave, by source.
        files: of all sources, in order.
        repairs: the source that each repairs, if any.
    """
    corpus = Corpus(files)
    exact, near = earlier(corpus)
    _add(totals, corpus, "exact_duplicates", exact, repairs)
    _add(totals, corpus, "near_duplicates", near, repairs)


def earlier(corpus: Corpus) -> tuple[Places, Places]:
    """The earlier document that each one is a copy of, over all sources in order.

    Returns:
        Number of the first document with the same text, and of an earlier one that is nearly the same; -1 where there
        is none. A document that is an exact copy is no near copy besides.
    """
    numbers = np.arange(len(corpus))
    first = _first_alike(corpus.column("exact"))
    exact = np.where(first == numbers, -1, first)
    near = np.full(len(corpus), -1, np.int64)
    for band in range(words.BANDS):
        first = _first_alike(corpus.column("bands", band))
        open_ = np.flatnonzero((first != numbers) & (near < 0) & (exact < 0))
        for begin in range(0, len(open_), CHUNK):
            chunk = open_[begin : begin + CHUNK]
            agree = (corpus.signatures(chunk) == corpus.signatures(first[chunk])).mean(axis=1)
            # One byte of each bin is kept, and two that differ are the same one time in 256.
            alike = chunk[(agree - 1 / 256) / (1 - 1 / 256) >= ALIKE]
            near[alike] = first[alike]
    return exact, near


def _first_alike(values: words.Hashes) -> Places:
    """The number of the first with the same value, for each."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(values) else np.empty(0, np.int64)
    found = np.empty(len(values), np.int64)
    found[order] = np.repeat(order[begins], np.diff(np.r_[begins, len(values)]))
    return found


def _add(
    totals: Mapping[str, dict[str, Any]],
    corpus: Corpus,
    name: str,
    copies: Places,
    repairs: Mapping[str, str | None],
) -> None:
    """Write down the copies that `earlier` found; a source and the one that it repairs have their documents in common by right."""
    first: dict[tuple[str, int], int] = {}
    for index in np.flatnonzero(copies >= 0).tolist():
        source = corpus.source(index)
        original = int(copies[index])
        other = corpus.source(original)
        if repairs.get(source) == other or repairs.get(other) == source:
            original = first.setdefault((source, original), index)  # copies within the source still count
            if original == index:
                continue
            other = source
        total = totals[source]
        record = total["hits"].setdefault(
            name, {"documents": 0, "bytes": 0, "matched": 0, "parts": {}, "examples": [], "tasks": {}, "with": {}}
        )
        size = total["bytes"] // max(1, total["documents"])  # its own size is not kept; the mean serves
        record["documents"] += 1
        record["bytes"] += size
        record["matched"] += size
        record["with"][other] = record["with"].get(other, 0) + 1
        if len(record["examples"]) < EXAMPLES:
            document, where = corpus.named(index)
            other_id, other_where = corpus.named(original)
            note = f"as {other_id} of {other}, {other_where}"
            record["examples"].append({"document": document, "where": where, "text": "", "matches": [], "note": note})
