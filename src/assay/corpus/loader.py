"""The sequences of a run: a pure function of its mixes, its seed and the position, for any number of workers.

Every source is an endless stream: its documents in a new order each epoch, each document with its EOS, one epoch
after the other, cut into sequences: sequence n covers the stream's tokens n L to n L + L. They overlap by one token,
so that every token is an input exactly once and a target exactly once. The sequences that begin in an epoch are drawn
in an order of their own: in the stream's order a document of ten sequences would be ten steps of nearly the same
gradient, and the last documents would decide what a short run ends with. Where documents fall in an epoch takes a
table of 8 bytes a document for the epoch that a source is in, made in about 0.1 s for a million documents; nothing is
kept for the run as a whole but the schedule's small one.

A source's pool is the beginning of it, in an order of documents that knows neither seed nor mix, so that of two pools
the smaller is a part of the larger. It has exactly the tokens that were asked for: its last document is cut. The
stream is then made of the pool's documents alone, and repeats them as it does a whole corpus.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from assay.corpus.kernels import Integers, Words, copy, epoch_table, locate
from assay.corpus.schedule import MixSchedule, permutation_key, permute
from assay.corpus.shards import Corpus
from assay.errors import AssayError, did_you_mean


class EpochStart(NamedTuple):
    """Where a source begins to repeat.

    Attributes:
        source: its name.
        epoch: the epoch that begins, counted from 0: 1 is the first repetition.
        position: the first of the run's sequences that begin in that epoch.
    """

    source: str
    epoch: int
    position: int


POOL_SEED = 0
"""Of the order of which a pool is the beginning. Never a run's seed: replicates and arms share their pools."""


class SequenceReader:
    """Reads any stretch of a run's sequences.

    Args:
        corpora: at least the sources of the mixes, by name.
        stages: weights and number of sequences of each stretch of the run; in a later stage a source goes on where
            the earlier ones left it.
        seed: the replicate's seed; it and the source's name decide the order of documents.
        sequence_length: L, tokens that a sequence trains on.
        pools: by source, to how many of its tokens it is shrunk; those that are not named are whole.

    Attributes:
        names: the sources of all stages, sorted; an index into it is what the methods call a source.
        length: sequences of the run.

    Raises:
        AssayError: a mix names a source that has no corpus, a stage has no sequence, or a pool is larger than its source.
    """

    def __init__(
        self,
        corpora: Mapping[str, Corpus],
        stages: Sequence[tuple[Mapping[str, float], int]],
        *,
        seed: int,
        sequence_length: int,
        pools: Mapping[str, int] | None = None,
    ) -> None:
        if sequence_length < 1 or not stages:
            raise AssayError(
                f"reader: sequence_length is {sequence_length}, of {len(stages)} stages; each is at least 1."
            )
        self.names = tuple(sorted({name for weights, _ in stages for name in weights}))
        for name in self.names:
            if name not in corpora:
                raise AssayError(f"reader: source {name!r} has no corpus. {did_you_mean(name, corpora)}")
        self.sequence_length = sequence_length
        pools = pools or {}
        self._streams = [_Stream(corpora[name], name, seed, sequence_length, pools.get(name)) for name in self.names]
        self._stages: list[_Stage] = []
        first, before = 0, np.zeros(len(self.names), np.int64)
        for weights, length in stages:
            schedule = MixSchedule(weights, length)
            stage = _Stage(first, schedule, before, np.searchsorted(self.names, schedule.names))
            self._stages.append(stage)
            first, before = first + length, stage.counts(length)
        self.length = first

    def read(self, start: int, stop: int) -> tuple[Integers, Integers]:
        """The sequences at positions `start` up to `stop`.

        Returns:
            Token ids of shape (stop - start, L + 1), the last L of them the targets of the first L; and the index of
            each sequence's source, of shape (stop - start,).

        Raises:
            ValueError: that is not a stretch of the run.
        """
        sources, draws = self._draws(start, stop)
        tokens = np.empty((stop - start, self.sequence_length + 1), np.int64)
        order = np.argsort(sources, kind="stable")
        edges = np.flatnonzero(np.diff(sources[order])) + 1
        for rows in np.split(order, edges) if stop > start else ():
            self._streams[sources[rows[0]]].fill(draws[rows], rows, tokens)
        return tokens, sources

    def counts(self, position: int) -> Integers:
        """Sequences that each source gives before a position in [0, length]; shape (sources,)."""
        if not 0 <= position <= self.length:
            msg = f"position {position} is not in the run's {self.length}"
            raise ValueError(msg)
        stage = next(stage for stage in reversed(self._stages) if position >= stage.first)
        return stage.counts(position - stage.first)

    def delivered(self, stop: int) -> dict[str, dict[str, Any]]:
        """What each source has given before position `stop`, in plain values.

        Returns:
            By source: `sequences`; `tokens` (that were inputs); `documents` (begun, repetitions counted again);
            `epochs`; and `epoch_starts`, the positions at which its second and later epochs began.
        """
        delivered: dict[str, dict[str, Any]] = {}
        starts = self.epoch_starts(0, stop)
        for name, stream, sequences in zip(self.names, self._streams, self.counts(stop).tolist(), strict=True):
            tokens = sequences * self.sequence_length
            delivered[name] = {
                "sequences": sequences,
                "tokens": tokens,
                "documents": stream.begun(sequences),
                "epochs": tokens / stream.tokens,
                "epoch_starts": [begin.position for begin in starts if begin.source == name],
            }
        return delivered

    def epoch_starts(self, start: int, stop: int) -> list[EpochStart]:
        """The epochs after the first that begin at positions `start` up to `stop`, in order of position."""
        before, after = self.counts(start), self.counts(stop)
        found = []
        for source, (name, stream) in enumerate(zip(self.names, self._streams, strict=True)):
            low, high = int(before[source]), int(after[source])
            # An epoch shorter than a sequence may begin and end within one; it is told of all the same.
            epochs = range(max(1, stream.epoch(low - 1) + 1), stream.epoch(high - 1) + 1)
            found += [EpochStart(name, epoch, self._find(source, stream.first(epoch))) for epoch in epochs]
        return sorted(found, key=lambda begin: (begin.position, begin.source, begin.epoch))

    def _draws(self, start: int, stop: int) -> tuple[Integers, Integers]:
        """The source of each position and the number of its sequence, over all stages."""
        if not 0 <= start <= stop <= self.length:
            msg = f"positions {start} to {stop} are not a stretch of the run's {self.length}"
            raise ValueError(msg)
        parts = [
            stage.block(max(start, stage.first), min(stop, stage.stop))
            for stage in self._stages
            if start < stage.stop and stop > stage.first
        ]
        if not parts:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        sources, draws = zip(*parts, strict=True)
        return np.concatenate(sources), np.concatenate(draws)

    def _find(self, source: int, draw: int) -> int:
        """The position of a source's draw, over all stages."""
        stage = next(stage for stage in reversed(self._stages) if draw >= stage.before[source] and stage.gives(source))
        return stage.find(source, draw)


@dataclass(frozen=True)
class _Stage:
    """One stretch of a run: its schedule, and where the run stands when it begins."""

    first: int
    schedule: MixSchedule
    before: Integers
    sources: Integers
    """Index of each of the schedule's sources among the run's."""

    @property
    def stop(self) -> int:
        return self.first + self.schedule.length

    def block(self, start: int, stop: int) -> tuple[Integers, Integers]:
        sources, draws = self.schedule.block(start - self.first, stop - self.first)
        sources = self.sources[sources]
        return sources, draws + self.before[sources]

    def counts(self, position: int) -> Integers:
        counts = self.before.copy()
        counts[self.sources] += self.schedule.counts(position)
        return counts

    def gives(self, source: int) -> bool:
        return bool(self.counts(self.schedule.length)[source] > self.before[source])

    def find(self, source: int, draw: int) -> int:
        inside = int(np.flatnonzero(self.sources == source)[0])
        return self.first + self.schedule.find(inside, draw - int(self.before[source]))


class _Stream:
    """A source's documents, reordered each epoch, as one endless row of tokens cut into sequences."""

    def __init__(self, corpus: Corpus, name: str, seed: int, sequence_length: int, pool: int | None) -> None:
        self.corpus, self.name, self.seed, self.sequence_length = corpus, name, seed, sequence_length
        # Where the stream's documents are: how many of its tokens come before each, and at which of the corpus' it begins.
        self.offsets: Integers = corpus.offsets
        self.starts: Integers = corpus.offsets
        if pool is not None:
            self.offsets, self.starts = pooled(corpus, name, pool)
        self.tokens, self.documents = int(self.offsets[-1]), len(self.offsets) - 1
        self._epochs: OrderedDict[int, tuple[Words, Integers]] = OrderedDict()

    def first(self, epoch: int) -> int:
        """The first sequence, and so the first draw, that begins in an epoch."""
        return -(-epoch * self.tokens // self.sequence_length)

    def epoch(self, draw: int) -> int:
        """The epoch in which a draw's sequence begins: draws stay in the epoch whose sequences they reorder."""
        return draw * self.sequence_length // self.tokens

    def sequences(self, draws: Integers) -> Integers:
        """The sequence of each draw: within an epoch, the sequences that begin there in an order of their own."""
        found = np.empty_like(draws)
        epochs = draws * self.sequence_length // self.tokens
        for epoch in np.unique(epochs).tolist():
            inside, first = epochs == epoch, self.first(epoch)
            count = self.first(epoch + 1) - first
            name = f"{self.name}|sequences"
            found[inside] = first + permute(draws[inside] - first, count, seed=self.seed, name=name, epoch=epoch)
        return found

    def fill(self, draws: Integers, rows: Integers, out: Integers) -> None:
        """Copy the tokens of each draw into its row of `out`."""
        starts, length = self.sequences(draws) * self.sequence_length, out.shape[1]
        for epoch in range(int(starts.min()) // self.tokens, (int(starts.max()) + length - 1) // self.tokens + 1):
            key, before = self._epoch(epoch)
            pieces = locate(starts, length, epoch * self.tokens, before, self.starts, key)
            for first, shard in zip(self.corpus.shard_starts, self.corpus.shards, strict=True):
                copy(shard, first, pieces, rows, out)

    def begun(self, draws: int) -> int:
        """Documents whose first token is in one of the first `draws` sequences that were drawn."""
        epoch = self.epoch(draws)
        border = self.first(epoch)  # the stream up to here was drawn whole
        starts = self.sequences(np.arange(border, draws)) * self.sequence_length
        spans = [(0, border * self.sequence_length), *((s, s + self.sequence_length) for s in starts.tolist())]
        return sum(self._beginning(start, stop) for start, stop in spans)

    def _beginning(self, start: int, stop: int) -> int:
        """Documents whose first token is among the stream's tokens `start` up to `stop`."""
        return self._documents(stop) - self._documents(start)

    def _documents(self, tokens: int) -> int:
        epoch, rest = divmod(tokens, self.tokens)
        inside = int(np.searchsorted(self._epoch(epoch)[1][:-1], rest)) if rest else 0
        return epoch * self.documents + inside

    def _epoch(self, epoch: int) -> tuple[Words, Integers]:
        # Three are kept: a sequence may reach into the next epoch, and a step into the one after the last.
        if epoch not in self._epochs:
            key = permutation_key(seed=self.seed, name=self.name, epoch=epoch)
            self._epochs[epoch] = (key, epoch_table(self.offsets, key))
            if len(self._epochs) > 3:
                self._epochs.popitem(last=False)
        self._epochs.move_to_end(epoch)
        return self._epochs[epoch]


def pooled(corpus: Corpus, name: str, tokens: int) -> tuple[Integers, Integers]:
    """A source's pool: its first documents in an order of its own, the last one cut, so that it has exactly these tokens.

    Returns:
        Tokens of the pool before each document, and all of them; and where in the corpus each begins, and the corpus'
        end; both of shape (documents + 1,).

    Raises:
        AssayError: the source has fewer tokens.
    """
    if not 0 < tokens <= corpus.tokens:
        raise AssayError(
            f"a pool of {tokens:,} tokens of {name!r}, which has {corpus.tokens:,}.",
            fix="Ask for fewer, or make the source larger.",
        )
    order = permute(np.arange(corpus.documents), corpus.documents, seed=POOL_SEED, name=f"{name}|pool", epoch=0)
    before = np.concatenate([[0], np.cumsum((corpus.offsets[1:] - corpus.offsets[:-1])[order])])
    count = int(np.searchsorted(before, tokens))
    offsets = np.minimum(before[: count + 1], tokens).astype(np.int64)
    return offsets, np.append(corpus.offsets[order[:count]], corpus.offsets[-1]).astype(np.int64)
