"""From n-grams to the phrases that they are of: those that follow each other in a text are one thing to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from assay.audit import words
from assay.audit.examine import example
from assay.audit.findings import Example
from assay.audit.kept import Kept
from assay.audit.secrets import masked
from assay.audit.text import Hit, Span

LENGTHS = (3, 5)
"""Words or tokens of an n-gram: a phrase of three is found, and one of five is rarer in the rest by chance."""
LONGEST = 300
"""Characters of a phrase that are kept."""


class Cutter(Protocol):
    """What cuts a text into words or tokens."""

    def hashes(self, text: str) -> words.Hashes:
        """A hash of each."""

    def spans(self, text: str) -> Sequence[Span]:
        """Where each begins and stops, in bytes."""


def ngrams_of(hashes: words.Hashes, length: int) -> words.Hashes:
    """Hashes that tell n-grams of different lengths apart."""
    return words.ngrams(hashes, length) ^ np.uint64(length)


class Walked(NamedTuple):
    """Where a document has candidates: by begin, the shorter first."""

    which: NDArray[np.int64]
    """The candidate's rank."""
    first: NDArray[np.int64]
    """The word that each begins with, and the one after its last."""
    after: NDArray[np.int64]

    @classmethod
    def of(cls, hashes: words.Hashes, candidates: words.Hashes, order: NDArray[np.int64]) -> Walked:
        """Find the candidates in a document.

        Args:
            hashes: of its words or tokens.
            candidates: n-grams, those of the highest rank first.
            order: that sorts them.
        """
        parts = []
        for length in LENGTHS:
            made = ngrams_of(hashes, length)
            at = np.minimum(np.searchsorted(candidates, made, sorter=order), len(candidates) - 1)
            rank = order[at]
            places = np.flatnonzero(candidates[rank] == made)
            parts.append(np.stack([places, places + length, rank[places]]))
        first, after, which = np.concatenate(parts, axis=1)
        by = np.lexsort((after, first))
        return cls(which[by], first[by], after[by])


def phrases(walked: Sequence[Walked], count: int) -> list[list[int]]:
    """Candidates by the phrase that they are of: those that follow on or overlap in half of the documents that have both.

    Returns:
        The ranks in each phrase, ascending; the phrase with the highest rank first.
    """
    having = np.zeros(count, np.int64)
    pairs = []
    for one in walked:
        having[np.unique(one.which)] += 1
        near = one.first[1:] <= one.after[:-1]
        both = np.sort(np.stack([one.which[:-1], one.which[1:]]), axis=0)[:, near]
        pairs.append(np.unique(both[0] * count + both[1]))
    leader = list(range(count))

    def led(at: int) -> int:
        while leader[at] != at:
            leader[at] = leader[leader[at]]
            at = leader[at]
        return at

    keys, times = np.unique(np.concatenate(pairs), return_counts=True)
    for key, together in zip(keys.tolist(), times.tolist(), strict=True):
        one, other = divmod(key, count)
        if 2 * together >= min(having[one], having[other]):
            low, high = sorted((led(one), led(other)))
            leader[high] = low
    members: dict[int, list[int]] = {}
    for at in range(count):
        members.setdefault(led(at), []).append(at)
    return [members[at] for at in sorted(members)]


def example_of(
    walked: Sequence[Walked], documents: Sequence[Kept], members: Sequence[int], cutter: Cutter
) -> tuple[str, str, Example] | None:
    """The n-gram, the phrase around it, and a document that has it; ``None`` where no walked document does."""
    for one, document in zip(walked, documents, strict=False):
        found = np.flatnonzero(one.which == members[0])
        if not len(found):
            continue
        place = int(found[0])
        mine = np.flatnonzero(np.isin(one.which, members))
        low = high = int(np.searchsorted(mine, place))
        first, after = int(one.first[place]), int(one.after[place])
        while low > 0 and one.after[mine[low - 1]] >= first:
            low -= 1
            first = min(first, int(one.first[mine[low]]))
        while high + 1 < len(mine) and one.first[mine[high + 1]] <= after:
            high += 1
            after = max(after, int(one.after[mine[high]]))
        spans = cutter.spans(document.text)
        span = (spans[first][0], spans[after - 1][1])
        inner = (spans[one.first[place]][0], spans[one.after[place] - 1][1])
        data = document.text.encode()
        shown = example(Hit(spans=(span,)), document.as_document(), data)
        return _line(data, inner), _line(data, span), shown
    return None


def _line(data: bytes, span: tuple[int, int]) -> str:
    """A stretch of a text on one line, secrets masked, its end left out where it is long."""
    text = masked(" ".join(data[slice(*span)].decode(errors="ignore").split()))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
