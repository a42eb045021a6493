"""Detect exact and near duplicates of documents, within a source and between sources.

The compared hashes and signatures are stored on disk (264 bytes per document) and read as needed. Memory holds
80 bytes per document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from assay.audit.detectors import shingles
from assay.audit.scan.scan_file import EXAMPLES, DocumentHashes
from assay.core.files import read_json, write_json

SIMILARITY = 0.8
"""Minimum fraction of common shingles of near duplicates, estimated by MinHash."""
CHUNK = 100_000
"""Number of documents per comparison; their signatures take 26 MB."""
IDS = "ids.json"

Places = NDArray[np.int64]


class FileHashes(NamedTuple):
    """Stored hashes and signatures of a file's documents.

    Attributes:
        source: name of the file's source.
        folder: folder with the arrays of `DocumentHashes`.
    """

    source: str
    folder: Path

    def array(self, name: str) -> NDArray[Any]:
        """Map an array of `DocumentHashes` into memory.

        Deleting the last reference to the array releases its memory pages.
        """
        array: NDArray[Any] = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        return array


def write_hashes(folder: Path, hashes: DocumentHashes) -> None:
    """Write the hashes and signatures of a file's documents to its folder."""
    for name in ("exact", "bands", "signatures"):
        np.save(folder / f"{name}.npy", getattr(hashes, name), allow_pickle=False)
    write_json(folder / IDS, hashes.ids)


class HashIndex:
    """Hashes and signatures of the documents of all files, numbered in file order."""

    def __init__(self, files: Sequence[FileHashes]) -> None:
        self.files = files
        sizes = [len(file.array("exact")) for file in files]
        self._ends = np.cumsum(sizes, dtype=np.int64) if sizes else np.empty(0, np.int64)
        self._begins = self._ends - np.array(sizes, np.int64)
        self._ids = lru_cache(maxsize=4)(lambda number: read_json(self.files[number].folder / IDS))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def source(self, index: int) -> str:
        """Return the source of a document."""
        return self.files[self._file(index)].source

    def identify(self, index: int) -> tuple[str, str]:
        """Return the id and the location of a document."""
        number = self._file(index)
        document, where = self._ids(number)[index - int(self._begins[number])]
        return document, where

    def column(self, name: str, place: int | None = None) -> shingles.Hashes:
        """Read one hash of every document; shape (n,).

        Args:
            name: name of the stored array.
            place: column of a two-dimensional array, such as the band.
        """
        values = np.empty(len(self), np.uint64)
        for file, begin, end in zip(self.files, self._begins, self._ends, strict=True):
            array = file.array(name)
            values[begin:end] = array if place is None else array[:, place]
        return values

    def signatures(self, indices: Places) -> shingles.Bytes:
        """Read the signatures of documents; shape (indices, bins)."""
        signatures = np.empty((len(indices), shingles.BINS), np.uint8)
        files = np.searchsorted(self._ends, indices, side="right")
        for number in np.unique(files).tolist():
            in_file = files == number
            signatures[in_file] = self.files[number].array("signatures")[indices[in_file] - self._begins[number]]
        return signatures

    def _file(self, index: int) -> int:
        return int(np.searchsorted(self._ends, index, side="right"))


def add_duplicates(
    totals: Mapping[str, dict[str, Any]], files: Sequence[FileHashes], repairs: Mapping[str, str | None]
) -> None:
    """Add exact and near duplicates to the hits of each source.

    Args:
        totals: results of `aggregate.sum_files` by source; modified.
        files: files of all sources, in order.
        repairs: the source that each source repairs, if any.
    """
    corpus = HashIndex(files)
    exact, near = find_copies(corpus)
    _add(totals, corpus, "exact_duplicates", exact, repairs)
    _add(totals, corpus, "near_duplicates", near, repairs)


def find_copies(corpus: HashIndex) -> tuple[Places, Places]:
    """Find the earlier document that each document duplicates, over all sources in order.

    Returns:
        For each document, the index of the first document with the same text, and the index of an earlier near
        duplicate;     -1 if there is none. An exact duplicate is not reported as a near duplicate.
    """
    numbers = np.arange(len(corpus))
    first = _first_equal(corpus.column("exact"))
    exact = np.where(first == numbers, -1, first)
    near = np.full(len(corpus), -1, np.int64)
    for band in range(shingles.BANDS):
        first = _first_equal(corpus.column("bands", band))
        candidates = np.flatnonzero((first != numbers) & (near < 0) & (exact < 0))
        for begin in range(0, len(candidates), CHUNK):
            chunk = candidates[begin : begin + CHUNK]
            agree = (corpus.signatures(chunk) == corpus.signatures(first[chunk])).mean(axis=1)
            # One byte of each bin is stored; the bytes of two different bins are equal one time in 256.
            similar = chunk[(agree - 1 / 256) / (1 - 1 / 256) >= SIMILARITY]
            near[similar] = first[similar]
    return exact, near


def _first_equal(values: shingles.Hashes) -> Places:
    """Return for each value the index of the first equal value."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(values) else np.empty(0, np.int64)
    first = np.empty(len(values), np.int64)
    first[order] = np.repeat(order[begins], np.diff(np.r_[begins, len(values)]))
    return first


def _add(
    totals: Mapping[str, dict[str, Any]],
    corpus: HashIndex,
    name: str,
    copies: Places,
    repairs: Mapping[str, str | None],
) -> None:
    """Add the copies of `find_copies` to the hits.

    Copies between a source and the source that it repairs do not count, because these sources share documents by
    design.
    """
    first: dict[tuple[str, int], int] = {}
    for index in np.flatnonzero(copies >= 0).tolist():
        source = corpus.source(index)
        original = int(copies[index])
        other = corpus.source(original)
        if repairs.get(source) == other or repairs.get(other) == source:
            original = first.setdefault((source, original), index)  # duplicates within the source still count
            if original == index:
                continue
            other = source
        total = totals[source]
        record = total["hits"].setdefault(
            name, {"documents": 0, "bytes": 0, "matched": 0, "parts": {}, "examples": [], "tasks": {}, "with": {}}
        )
        size = total["bytes"] // max(1, total["documents"])  # the document's size is not stored; use the mean size
        record["documents"] += 1
        record["bytes"] += size
        record["matched"] += size
        record["with"][other] = record["with"].get(other, 0) + 1
        if len(record["examples"]) < EXAMPLES:
            document, where = corpus.identify(index)
            other_id, other_where = corpus.identify(original)
            note = f"as {other_id} of {other}, {other_where}"
            record["examples"].append({"document": document, "where": where, "text": "", "matches": [], "note": note})
