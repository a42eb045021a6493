"""Find n-grams that are far more frequent in one source, snapshot or host than elsewhere.

Such contrasts reveal defects without a detector. Counts are counts of documents, so that repetition within a document
counts once. The documents are the samples that audits keep (`assay.audit.scan.kept_sample`). The first of two passes
counts all n-grams approximately, in a hash table with collisions. The second pass counts the frequent n-grams exactly.
N-grams are ranked by weighted log-odds with an informative Dirichlet prior (Monroe, Colaresi and Quinn, "Fightin'
Words", Political Analysis 16, 2008, equations 16 to 22). The prior is the frequency of the n-grams over all sources.

A contrast is not a finding, because sources differ by design. Contrasts are for human review and never block training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from assay.audit.detectors import shingles
from assay.audit.detectors.document import Span
from assay.audit.explore.phrases import LENGTHS, Cutter, LocatedNgrams, example_of, ngrams_of, phrases
from assay.audit.findings import Example
from assay.audit.scan.kept_sample import KeptDocument, KeptSample
from assay.corpus.kernels import compiled

FORMAT = 1
"""Version of the results. Raise it when the same samples give other contrasts."""
Unit = Literal["word", "token"]
Kind = Literal["source", "snapshot", "host"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FEWEST = 5
"""Minimum number of a group's documents that contain a reported n-gram."""
SMALLEST = 10
"""Minimum number of documents of a snapshot or a host that forms a group."""
GROUPS = 60
"""Maximum number of compared snapshots per source, and of compared hosts; the largest are compared."""
MIN_RATIO = 4.0
"""Minimum ratio of the frequency in the group to the frequency in the rest."""
MIN_Z = 6.0
"""Minimum z-score of the log-odds. The value is high because a million n-grams are tested."""
PRIOR = 20.0
"""Weight of the prior, in documents."""
CANDIDATES = 3_000
"""Maximum number of n-grams per group to merge into phrases, the highest ranked first."""
PHRASE_DOCUMENTS = 60
"""Number of documents per group that are read again to merge n-grams into phrases."""
SHOWN = 20
"""Maximum number of phrases per group."""
SLOTS = 1 << 21
"""Number of slots of the approximate count. A slot takes 4 bytes, and 4 bytes for the last counted document."""


class WordCutter:
    """Cuts texts into words as detectors do: sequences of letters and digits, ignoring case."""

    def hashes(self, text: str) -> shingles.Hashes:
        """Hash each word."""
        return self._cut(text)[1]

    def spans(self, text: str) -> list[Span]:
        """Return start and stop of each word, in bytes."""
        data, _, starts = self._cut(text)
        gaps = np.append(np.flatnonzero(shingles.WORD[data] == 0), len(data))
        return list(zip(starts.tolist(), gaps[np.searchsorted(gaps, starts)].tolist(), strict=True))

    @staticmethod
    def _cut(text: str) -> tuple[shingles.Bytes, shingles.Hashes, shingles.Integers]:
        data = np.frombuffer(text.encode(), np.uint8)
        room = len(data) // 2 + 1
        hashes, starts = np.empty(room, np.uint64), np.empty(room, np.int64)
        count = shingles.words(data, shingles.WORD, hashes, starts)
        return data, hashes[:count], starts[:count]


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A phrase that is far more frequent in a group than in the rest."""

    unit: Unit
    ngram: str
    """The highest ranked n-gram, in the form that `assay audit ngram` takes. Untrusted: escape it in outputs."""
    phrase: str
    """The phrase that the merged n-grams form in the example."""
    source: str
    kind: Kind
    group: str
    """Name of the source, snapshot or host.

    A source is compared with the other sources. A snapshot or host is compared with the other documents of its source.
    """
    documents: int
    """Number of the group's sampled documents with the n-gram."""
    of: int
    """Number of the group's sampled documents."""
    elsewhere: int
    """Number of the rest's sampled documents with the n-gram."""
    of_elsewhere: int
    """Number of the rest's sampled documents."""
    score: float
    """z-score of the log-odds; see Monroe et al. (2008)."""
    ngrams: int
    """Number of n-grams that are merged into this phrase."""
    nearest: str = ""
    """The other source with the largest fraction of documents with the n-gram; empty without such a source."""
    nearest_rate: float = 0.0
    """Fraction of the documents of `nearest` with the n-gram."""
    example: Example

    @property
    def rate(self) -> float:
        """Fraction of the group's documents with the n-gram."""
        return self.documents / max(1, self.of)

    @property
    def rate_elsewhere(self) -> float:
        """Fraction of the rest's documents with the n-gram."""
        return self.elsewhere / max(1, self.of_elsewhere)


class _Incidence(NamedTuple):
    """Pairs of a frequent n-gram and a document that contains it, without duplicates."""

    gram: NDArray[np.int64]
    """Index of the n-gram in `hashes`, by pair."""
    document: NDArray[np.int64]
    """Index of the document, by pair."""
    hashes: shingles.Hashes
    """Hashes of the n-grams, ascending."""


class _Group(NamedTuple):
    source: str
    kind: Kind
    name: str
    inside: NDArray[np.bool_]
    """Whether each document is in the group."""
    outside: NDArray[np.bool_]
    """Whether each document is in the rest."""


def find(
    samples: Mapping[str, KeptSample],
    *,
    wanted: Sequence[str] | None = None,
    unit: Unit = "word",
    cutter: Cutter | None = None,
    repairs: Mapping[str, str | None] = {},  # read only
    progress: Callable[[float], None] = lambda _fraction: None,
) -> list[Contrast]:
    """Contrast each source with the others, and its snapshots and hosts with its rest.

    Args:
        samples: samples that the audits kept, by source.
        wanted: sources to report (default: all).
        unit: unit of the n-grams.
        cutter: cuts texts into units (default: into words).
        repairs: the source that each source repairs, if any. These two sources share text and are not contrasted.
        progress: called with the completed fraction.

    Returns:
        The contrasts of each group, the highest z-score first.
    """
    owners = [(name, document) for name, sample in sorted(samples.items()) for document in sample.documents]
    cut = cutter or WordCutter()
    hashes = []
    for number, (_, document) in enumerate(owners):
        hashes.append(cut.hashes(document.text))
        if number % 100 == 0:
            progress(0.7 * number / len(owners))
    table = _count_documents(hashes)
    progress(0.8)
    contrasts: list[Contrast] = []
    for group, inner in _groups(owners, table, samples if wanted is None else wanted, repairs):
        contrasts += _contrasts_of(group, inner, owners, hashes, unit, cut)
    progress(1.0)
    return contrasts


def without_words(by_token: Sequence[Contrast], by_word: Sequence[Contrast]) -> list[Contrast]:
    """Select the token contrasts that no word contrast of the same group contains."""
    phrases_of: dict[tuple[str, str], str] = {}
    for contrast in by_word:
        key = (contrast.kind, contrast.group)
        phrases_of[key] = f"{phrases_of.get(key, '')} | {_plain(contrast.phrase)} "
    return [
        contrast
        for contrast in by_token
        if f" {_plain(contrast.ngram)} " not in phrases_of.get((contrast.kind, contrast.group), "")
    ]


def _plain(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


# --- counting


@compiled
def _count(grams: shingles.Hashes, document: int, last: NDArray[np.uint32], counts: NDArray[np.uint32]) -> None:
    """Increment the slots of a document's n-grams, each slot once."""
    mask = np.uint64(len(counts) - 1)
    mark = np.uint32(document + 1)
    for gram in grams:
        slot = gram & mask
        if last[slot] != mark:
            last[slot] = mark
            counts[slot] += np.uint32(1)


@compiled
def _frequent(grams: shingles.Hashes, counts: NDArray[np.uint32], least: int) -> int:
    """Move the n-grams with at least `least` counts to the front, in order; return their number."""
    mask = np.uint64(len(counts) - 1)
    count = 0
    for gram in grams:
        if counts[gram & mask] >= least:
            grams[count] = gram
            count += 1
    return count


def _count_documents(documents: Sequence[shingles.Hashes]) -> _Incidence:
    last, counts = np.zeros(SLOTS, np.uint32), np.zeros(SLOTS, np.uint32)
    for number, hashes in enumerate(documents):
        for length in LENGTHS:
            _count(ngrams_of(hashes, length), number, last, counts)
    frequent, owner = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for number, hashes in enumerate(documents):
        grams = np.concatenate([ngrams_of(hashes, length) for length in LENGTHS])
        selected = np.unique(grams[: _frequent(grams, counts, FEWEST)])
        frequent.append(selected)
        owner.append(np.full(len(selected), number, np.int64))
    unique, place = np.unique(np.concatenate(frequent), return_inverse=True)
    return _Incidence(place.astype(np.int64), np.concatenate(owner), unique)


# --- groups, and the contrasts of each


def _groups(
    owners: Sequence[tuple[str, KeptDocument]],
    table: _Incidence,
    wanted: Iterable[str],
    repairs: Mapping[str, str | None],
) -> Iterator[tuple[_Group, _Incidence]]:
    """Yield the groups, each with the pairs of n-grams and documents to count."""
    names = np.array([name for name, _ in owners])
    origin = {kind: np.array([getattr(document, kind) or "" for _, document in owners]) for kind in KINDS[1:]}
    for source in sorted(wanted):
        of_source = names == source
        if not of_source.any():
            continue
        related = [name for name in set(names) if repairs.get(name) == source or repairs.get(source) == name]
        rest = ~np.isin(names, [source, *related])
        if rest.any():
            yield _Group(source, "source", source, of_source, rest), table
        inner = _select(table, of_source)
        for kind in KINDS[1:]:
            of = origin[kind]
            parts, sizes = np.unique(of[of_source], return_counts=True)
            for at in np.argsort(-sizes, kind="stable")[:GROUPS].tolist():
                inside = of_source & (of == parts[at])
                if parts[at] and SMALLEST <= sizes[at] < of_source.sum():
                    yield _Group(source, kind, str(parts[at]), inside, of_source & ~inside), inner


def _select(table: _Incidence, documents: NDArray[np.bool_]) -> _Incidence:
    """Select the pairs of some documents with only their n-grams, to count hosts within a source."""
    rows = documents[table.document]
    grams = table.gram[rows]
    there = np.zeros(len(table.hashes), np.bool_)
    there[grams] = True
    places = np.cumsum(there) - 1  # np.unique would sort
    return _Incidence(places[grams], table.document[rows], table.hashes[there])


def scores(inside: NDArray[np.int64], of: int, outside: NDArray[np.int64], of_outside: int) -> NDArray[np.float64]:
    """Compute the z-score of each n-gram's weighted log-odds.

    The formulas are equations 16, 19, 20 and 22 of Monroe et al. (2008).

    Args:
        inside: number of the group's documents with each n-gram; shape (n-grams,).
        of: number of the group's documents.
        outside: number of the rest's documents with each n-gram; shape (n-grams,).
        of_outside: number of the rest's documents.
    """
    pooled = (inside + outside + 0.5) / (of + of_outside + 1)
    prior = PRIOR * pooled
    x, y = inside + prior, outside + prior
    log_odds = np.log(x / (of + PRIOR - x)) - np.log(y / (of_outside + PRIOR - y))
    z: NDArray[np.float64] = log_odds / np.sqrt(1 / x + 1 / y)
    return z


def _contrasts_of(  # noqa: PLR0917  # a group and the counts
    group: _Group,
    table: _Incidence,
    owners: Sequence[tuple[str, KeptDocument]],
    hashes: Sequence[shingles.Hashes],
    unit: Unit,
    cutter: Cutter,
) -> list[Contrast]:
    size = len(table.hashes)
    inside = np.bincount(table.gram[group.inside[table.document]], minlength=size)
    outside = np.bincount(table.gram[group.outside[table.document]], minlength=size)
    of, rest = int(group.inside.sum()), int(group.outside.sum())
    ranks = scores(inside, of, outside, rest)
    selected = (inside >= FEWEST) & (ranks >= MIN_Z) & (inside * rest >= MIN_RATIO * outside * of)
    chosen = np.flatnonzero(selected)
    chosen = chosen[np.argsort(-ranks[chosen], kind="stable")][:CANDIDATES]
    if not len(chosen):
        return []
    places = np.flatnonzero(group.inside)[:PHRASE_DOCUMENTS].tolist()
    order = np.argsort(table.hashes[chosen])
    located = [LocatedNgrams.of(hashes[at], table.hashes[chosen], order) for at in places]
    sizes = Counter(name for name, _ in owners)
    contrasts: list[Contrast] = []
    for members in phrases(located, len(chosen))[:SHOWN]:
        best = members[0]  # the highest ranked
        excerpt = example_of(located, [owners[at][1] for at in places], members, cutter)
        if excerpt is None:
            continue
        ngram, phrase, sample = excerpt
        at = chosen[best]
        having = [owners[number][0] for number in table.document[table.gram == at].tolist() if group.outside[number]]
        nearest = _nearest(having, sizes) if group.kind == "source" else ("", 0.0)
        contrasts.append(
            Contrast(
                unit=unit,
                ngram=ngram,
                phrase=phrase,
                source=group.source,
                kind=group.kind,
                group=group.name,
                documents=int(inside[at]),
                of=of,
                elsewhere=int(outside[at]),
                of_elsewhere=rest,
                score=round(float(ranks[at]), 2),
                ngrams=len(members),
                nearest=nearest[0],
                nearest_rate=nearest[1],
                example=sample,
            )
        )
    return contrasts


def _nearest(having: Sequence[str], sizes: Mapping[str, int]) -> tuple[str, float]:
    """Select the source with the largest fraction of documents; count each document once."""
    rates = {name: count / sizes[name] for name, count in Counter(having).items()}
    return max(rates.items(), key=lambda entry: (entry[1], entry[0]), default=("", 0.0))
