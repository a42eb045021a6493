"""N-grams that are far more frequent in one source, snapshot or host than in the rest: defects that nobody thought of.

What is counted is documents: a page that says a thing a hundred times counts once. The counting is over the samples that
audits keep (`assay.audit.kept`), in two passes: one that counts all n-grams in a table that tells some of them not apart,
one that counts exactly those few that it found often enough. N-grams are ranked by their weighted log-odds with an
informative Dirichlet prior (Monroe, Colaresi and Quinn, "Fightin' Words", Political Analysis 16, 2008, equations 16 to 22),
the prior being their frequency over all.

A contrast is no finding: sources differ by right. It stops nothing, and is for a person to look at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from assay.audit import words
from assay.audit.findings import Example
from assay.audit.kept import Kept, Sample
from assay.audit.phrases import LENGTHS, Cutter, Walked, example_of, ngrams_of, phrases
from assay.audit.text import Span
from assay.corpus.kernels import compiled

FORMAT = 1
"""Raised whenever the same samples would give other contrasts."""
Unit = Literal["word", "token"]
Kind = Literal["source", "snapshot", "host"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FEWEST = 5
"""Documents of a group that have an n-gram, before it is told of."""
SMALLEST = 10
"""Documents of a snapshot or host, before it is a group of its own."""
GROUPS = 60
"""Snapshots and hosts of a source that are looked at, the largest first."""
LEAST = 4.0
"""How many times as frequent as in the rest it is, at least."""
SURE = 6.0
"""Standard errors that its log-odds are above the rest's, at least: there are a million n-grams to choose from."""
PRIOR = 20.0
"""Documents that the prior counts for."""
CANDIDATES = 3_000
"""N-grams of a group, those of the highest rank, that are looked at again to be merged into phrases."""
WALKED = 60
"""Documents of a group that are read again for that."""
SHOWN = 20
"""Phrases that are kept of a group."""
SLOTS = 1 << 21
"""Of the first count: 4 bytes for each, and 4 for the document that was counted last."""


class Words:
    """Words as the detectors have them: stretches of letters and digits, whatever their case."""

    def hashes(self, text: str) -> words.Hashes:
        """A hash of each word."""
        return self._cut(text)[1]

    def spans(self, text: str) -> list[Span]:
        """Where each word begins and stops, in bytes."""
        data, _, starts = self._cut(text)
        gaps = np.append(np.flatnonzero(words.WORD[data] == 0), len(data))
        return list(zip(starts.tolist(), gaps[np.searchsorted(gaps, starts)].tolist(), strict=True))

    @staticmethod
    def _cut(text: str) -> tuple[words.Bytes, words.Hashes, words.Integers]:
        data = np.frombuffer(text.encode(), np.uint8)
        room = len(data) // 2 + 1
        hashes, starts = np.empty(room, np.uint64), np.empty(room, np.int64)
        count = words.words(data, words.WORD, hashes, starts)
        return data, hashes[:count], starts[:count]


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A phrase that a group has far more often than the rest."""

    unit: Unit
    ngram: str
    """The n-gram of the highest rank, as `assay audit ngram` finds it. Hostile, as all text."""
    phrase: str
    """The whole stretch of n-grams that go with it, in the example."""
    source: str
    kind: Kind
    group: str
    """The source, snapshot or host that has it; the rest of a snapshot or host are its source's other documents."""
    documents: int
    """Of the group's sampled documents, those that have the n-gram."""
    of: int
    elsewhere: int
    """Of the sampled documents of the rest, those that have it."""
    of_elsewhere: int
    score: float
    """Standard errors by which its log-odds are above the rest's: see Monroe et al. (2008)."""
    ngrams: int
    """N-grams that are merged in this phrase."""
    nearest: str = ""
    """Of a source, the other source with the largest share of documents that have it; none where no other has it."""
    nearest_rate: float = 0.0
    example: Example

    @property
    def rate(self) -> float:
        """Share of the group's documents that have it."""
        return self.documents / max(1, self.of)

    @property
    def rate_elsewhere(self) -> float:
        """Share of the rest's documents that have it."""
        return self.elsewhere / max(1, self.of_elsewhere)


class _Table(NamedTuple):
    """Which document has which n-gram, for those that are frequent enough; a row each, once a document."""

    gram: NDArray[np.int64]
    """Its place in `hashes`."""
    document: NDArray[np.int64]
    hashes: words.Hashes
    """Ascending."""


class _Group(NamedTuple):
    source: str
    kind: Kind
    name: str
    inside: NDArray[np.bool_]
    """By document."""
    outside: NDArray[np.bool_]


def find(
    samples: Mapping[str, Sample],
    *,
    wanted: Sequence[str] | None = None,
    unit: Unit = "word",
    cutter: Cutter | None = None,
    repairs: Mapping[str, str | None] = {},  # read only
    tell: Callable[[float], None] = lambda _share: None,
) -> list[Contrast]:
    """Contrast each source with the others, and its snapshots and hosts with the rest of it.

    Args:
        samples: of each source, as the audits kept them.
        wanted: sources to tell of; all if left out.
        unit: what texts are cut into.
        cutter: what cuts them; into words, if left out.
        repairs: the source that each repairs, if any: one is not contrasted with the other, which has its text.
        tell: told the share that is done.

    Returns:
        The contrasts of each group, the highest first.
    """
    owners = [(name, one) for name, sample in sorted(samples.items()) for one in sample.documents]
    cut = cutter or Words()
    hashes = []
    for number, (_, one) in enumerate(owners):
        hashes.append(cut.hashes(one.text))
        if number % 100 == 0:
            tell(0.7 * number / len(owners))
    table = _counted(hashes)
    tell(0.8)
    found: list[Contrast] = []
    for group, inner in _groups(owners, table, samples if wanted is None else wanted, repairs):
        found += _striking(group, inner, owners, hashes, unit, cut)
    tell(1.0)
    return found


def without_words(tokens: Sequence[Contrast], found: Sequence[Contrast]) -> list[Contrast]:
    """Contrasts of tokens that those of words do not tell of already."""
    told: dict[tuple[str, str], str] = {}
    for one in found:
        key = (one.kind, one.group)
        told[key] = f"{told.get(key, '')} | {_plain(one.phrase)} "
    return [one for one in tokens if f" {_plain(one.ngram)} " not in told.get((one.kind, one.group), "")]


def _plain(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


# --- counting


@compiled
def _count(grams: words.Hashes, document: int, last: NDArray[np.uint32], counts: NDArray[np.uint32]) -> None:
    """Count a document for the slot of each of its n-grams, once."""
    mask = np.uint64(len(counts) - 1)
    mark = np.uint32(document + 1)
    for gram in grams:
        slot = gram & mask
        if last[slot] != mark:
            last[slot] = mark
            counts[slot] += np.uint32(1)


@compiled
def _frequent(grams: words.Hashes, counts: NDArray[np.uint32], least: int) -> int:
    """Move those n-grams to the front whose slot was counted so often, in order; returns how many."""
    mask = np.uint64(len(counts) - 1)
    count = 0
    for gram in grams:
        if counts[gram & mask] >= least:
            grams[count] = gram
            count += 1
    return count


def _counted(documents: Sequence[words.Hashes]) -> _Table:
    last, counts = np.zeros(SLOTS, np.uint32), np.zeros(SLOTS, np.uint32)
    for number, hashes in enumerate(documents):
        for length in LENGTHS:
            _count(ngrams_of(hashes, length), number, last, counts)
    found, owner = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for number, hashes in enumerate(documents):
        made = np.concatenate([ngrams_of(hashes, length) for length in LENGTHS])
        often = np.unique(made[: _frequent(made, counts, FEWEST)])
        found.append(often)
        owner.append(np.full(len(often), number, np.int64))
    unique, place = np.unique(np.concatenate(found), return_inverse=True)
    return _Table(place.astype(np.int64), np.concatenate(owner), unique)


# --- groups, and what is striking in each


def _groups(
    owners: Sequence[tuple[str, Kept]], table: _Table, wanted: Iterable[str], repairs: Mapping[str, str | None]
) -> Iterator[tuple[_Group, _Table]]:
    """The groups that there are, each with the table that it is counted in."""
    names = np.array([name for name, _ in owners])
    origin = {kind: np.array([getattr(one, kind) or "" for _, one in owners]) for kind in KINDS[1:]}
    for source in sorted(wanted):
        mine = names == source
        if not mine.any():
            continue
        kin = [each for each in set(names) if repairs.get(each) == source or repairs.get(source) == each]
        rest = ~np.isin(names, [source, *kin])
        if rest.any():
            yield _Group(source, "source", source, mine, rest), table
        inner = _narrowed(table, mine)
        for kind in KINDS[1:]:
            of = origin[kind]
            parts, sizes = np.unique(of[mine], return_counts=True)
            for at in np.argsort(-sizes, kind="stable")[:GROUPS].tolist():
                inside = mine & (of == parts[at])
                if parts[at] and SMALLEST <= sizes[at] < mine.sum():
                    yield _Group(source, kind, str(parts[at]), inside, mine & ~inside), inner


def _narrowed(table: _Table, documents: NDArray[np.bool_]) -> _Table:
    """The rows of some documents, and their n-grams only: a host's are counted in its source's, not among all."""
    rows = documents[table.document]
    grams = table.gram[rows]
    there = np.zeros(len(table.hashes), np.bool_)
    there[grams] = True
    places = np.cumsum(there) - 1  # np.unique would sort
    return _Table(places[grams], table.document[rows], table.hashes[there])


def scores(inside: NDArray[np.int64], of: int, outside: NDArray[np.int64], of_outside: int) -> NDArray[np.float64]:
    """Weighted log-odds of each n-gram, in standard errors (Monroe et al. 2008, equations 16, 19, 20 and 22).

    Args:
        inside: documents of the group that have it; shape (n-grams,).
        of: documents of the group.
        outside: documents of the rest that have it.
        of_outside: documents of the rest.
    """
    pooled = (inside + outside + 0.5) / (of + of_outside + 1)
    prior = PRIOR * pooled
    x, y = inside + prior, outside + prior
    log_odds = np.log(x / (of + PRIOR - x)) - np.log(y / (of_outside + PRIOR - y))
    found: NDArray[np.float64] = log_odds / np.sqrt(1 / x + 1 / y)
    return found


def _striking(  # noqa: PLR0917  # a group, and all that is known
    group: _Group,
    table: _Table,
    owners: Sequence[tuple[str, Kept]],
    hashes: Sequence[words.Hashes],
    unit: Unit,
    cutter: Cutter,
) -> list[Contrast]:
    size = len(table.hashes)
    inside = np.bincount(table.gram[group.inside[table.document]], minlength=size)
    outside = np.bincount(table.gram[group.outside[table.document]], minlength=size)
    of, rest = int(group.inside.sum()), int(group.outside.sum())
    ranks = scores(inside, of, outside, rest)
    often = (inside >= FEWEST) & (ranks >= SURE) & (inside * rest >= LEAST * outside * of)
    chosen = np.flatnonzero(often)
    chosen = chosen[np.argsort(-ranks[chosen], kind="stable")][:CANDIDATES]
    if not len(chosen):
        return []
    places = np.flatnonzero(group.inside)[:WALKED].tolist()
    order = np.argsort(table.hashes[chosen])
    walked = [Walked.of(hashes[at], table.hashes[chosen], order) for at in places]
    sizes = Counter(name for name, _ in owners)
    made: list[Contrast] = []
    for members in phrases(walked, len(chosen))[:SHOWN]:
        best = members[0]  # of the highest rank
        shown = example_of(walked, [owners[at][1] for at in places], members, cutter)
        if shown is None:
            continue
        ngram, phrase, sample = shown
        at = chosen[best]
        having = [owners[one][0] for one in table.document[table.gram == at].tolist() if group.outside[one]]
        nearest = _nearest(having, sizes) if group.kind == "source" else ("", 0.0)
        made.append(
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
    return made


def _nearest(having: Sequence[str], sizes: Mapping[str, int]) -> tuple[str, float]:
    """The source with the largest share of documents among those named, each once for every document."""
    rates = {name: count / sizes[name] for name, count in Counter(having).items()}
    return max(rates.items(), key=lambda entry: (entry[1], entry[0]), default=("", 0.0))
