"""Merge overlapping or adjacent n-grams into phrases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from assay.audit.detectors import shingles
from assay.audit.detectors.document import Hit, Span
from assay.audit.detectors.secrets import masked
from assay.audit.findings import Example
from assay.audit.scan.kept_sample import KeptDocument
from assay.audit.scan.scan_file import example

LENGTHS = (3, 5)
"""Lengths of n-grams in words or tokens. Length 3 detects short phrases. Length 5 is rarer in the rest by chance."""
LONGEST = 300
"""Maximum number of characters of a phrase."""


class Cutter(Protocol):
    """Interface of classes that cut a text into words or tokens."""

    def hashes(self, text: str) -> shingles.Hashes:
        """Hash each word or token."""

    def spans(self, text: str) -> Sequence[Span]:
        """Return start and stop of each word or token, in bytes."""


def ngrams_of(hashes: shingles.Hashes, length: int) -> shingles.Hashes:
    """Hash the n-grams of a length. N-grams of different lengths have different hashes."""
    return shingles.ngrams(hashes, length) ^ np.uint64(length)


class LocatedNgrams(NamedTuple):
    """Occurrences of candidate n-grams in a document, sorted by start, then by length."""

    which: NDArray[np.int64]
    """Rank of the candidate, by occurrence."""
    first: NDArray[np.int64]
    """Index of the first word or token."""
    after: NDArray[np.int64]
    """Index after the last word or token."""

    @classmethod
    def of(cls, hashes: shingles.Hashes, candidates: shingles.Hashes, order: NDArray[np.int64]) -> LocatedNgrams:
        """Locate the candidates in a document.

        Args:
            hashes: hashes of the document's words or tokens.
            candidates: hashes of n-grams, the highest ranked first.
            order: indices that sort the candidates.
        """
        parts = []
        for length in LENGTHS:
            grams = ngrams_of(hashes, length)
            at = np.minimum(np.searchsorted(candidates, grams, sorter=order), len(candidates) - 1)
            rank = order[at]
            places = np.flatnonzero(candidates[rank] == grams)
            parts.append(np.stack([places, places + length, rank[places]]))
        first, after, which = np.concatenate(parts, axis=1)
        by = np.lexsort((after, first))
        return cls(which[by], first[by], after[by])


def phrases(located: Sequence[LocatedNgrams], count: int) -> list[list[int]]:
    """Group candidates into phrases.

    Two candidate n-grams belong to one phrase if they overlap or are adjacent in at least half of the documents that contain
    the rarer candidate.

    Returns:
        For each phrase, the ranks of its candidates, ascending (0 is the highest rank). Phrases are sorted by their
        first rank.
    """
    frequency = np.zeros(count, np.int64)
    pairs = []
    for ngrams in located:
        frequency[np.unique(ngrams.which)] += 1
        adjacent = ngrams.first[1:] <= ngrams.after[:-1]
        both = np.sort(np.stack([ngrams.which[:-1], ngrams.which[1:]]), axis=0)[:, adjacent]
        pairs.append(np.unique(both[0] * count + both[1]))
    leader = list(range(count))

    def root(at: int) -> int:
        while leader[at] != at:
            leader[at] = leader[leader[at]]
            at = leader[at]
        return at

    keys, times = np.unique(np.concatenate(pairs), return_counts=True)
    for key, together in zip(keys.tolist(), times.tolist(), strict=True):
        first, second = divmod(key, count)
        if 2 * together >= min(frequency[first], frequency[second]):
            low, high = sorted((root(first), root(second)))
            leader[high] = low
    members: dict[int, list[int]] = {}
    for at in range(count):
        members.setdefault(root(at), []).append(at)
    return [members[at] for at in sorted(members)]


def example_of(
    located: Sequence[LocatedNgrams], documents: Sequence[KeptDocument], members: Sequence[int], cutter: Cutter
) -> tuple[str, str, Example] | None:
    """Return a phrase's n-gram, its text, and an example; None if no document contains it."""
    for ngrams, document in zip(located, documents, strict=False):
        occurrences = np.flatnonzero(ngrams.which == members[0])
        if not len(occurrences):
            continue
        place = int(occurrences[0])
        of_phrase = np.flatnonzero(np.isin(ngrams.which, members))
        low = high = int(np.searchsorted(of_phrase, place))
        first, after = int(ngrams.first[place]), int(ngrams.after[place])
        while low > 0 and ngrams.after[of_phrase[low - 1]] >= first:
            low -= 1
            first = min(first, int(ngrams.first[of_phrase[low]]))
        while high + 1 < len(of_phrase) and ngrams.first[of_phrase[high + 1]] <= after:
            high += 1
            after = max(after, int(ngrams.after[of_phrase[high]]))
        spans = cutter.spans(document.text)
        span = (spans[first][0], spans[after - 1][1])
        inner = (spans[ngrams.first[place]][0], spans[ngrams.after[place] - 1][1])
        data = document.text.encode()
        excerpt = example(Hit(spans=(span,)), document.as_document(), data)
        return _line(data, inner), _line(data, span), excerpt
    return None


def _line(data: bytes, span: tuple[int, int]) -> str:
    """Return a span of a text on one line, shortened, with secrets masked."""
    text = masked(" ".join(data[slice(*span)].decode(errors="ignore").split()))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
