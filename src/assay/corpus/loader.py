"""Deliver the sequences of a run as a pure function of its mixes, seed and position.

The number of workers has no effect. Each source is an endless stream of epochs. An epoch has all documents in a new
order, each followed by EOS. The stream is cut into sequences: sequence n covers its tokens n L to n L + L. Sequences
overlap by one token, so that every token is an input exactly once and a target exactly once. The sequences that begin
in the same epoch are shuffled. In the stream's order, a document of ten sequences would cause ten steps of nearly the
same gradient, and the last documents would dominate the end of a short run.

The order of documents in an epoch takes a table of 8 bytes per document. The table exists only for the epochs in use.
Building it takes about 0.1 s per million documents. The only table for the whole run is the small table of the
schedule.

The pool of a source consists of its first documents, in an order that depends on neither seed nor mix. A smaller pool
is therefore part of a larger pool. A pool has exactly the requested number of tokens: its last document is truncated.
The stream then consists of the pool's documents alone, and repeats them as it would repeat a whole corpus.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from assay.core.errors import ConfigError, NotFound, did_you_mean
from assay.corpus.kernels import Integers, Words, copy, epoch_table, locate
from assay.corpus.schedule import MixSchedule, permutation_key, permute
from assay.corpus.shards import Corpus

if TYPE_CHECKING:
    from assay.config.recipe import RunSpec


class EpochStart(NamedTuple):
    """The position at which a source begins to repeat.

    Attributes:
        source: name of the source.
        epoch: number of the epoch that begins, counted from 0. Epoch 1 is the first repetition.
        position: position of the first sequence of the run that begins in the epoch.
    """

    source: str
    epoch: int
    position: int


POOL_SEED = 0
"""Seed of the order of documents in pools. It is not a run's seed, so that replicates and arms share pools."""


class SequenceReader:
    """Reader of any range of a run's sequences.

    Args:
        corpora: corpora by source name, at least those of the mixes.
        stages: weights and number of sequences of each stage. A source continues in a later stage where the previous
            stage ended.
        seed: the replicate's seed. The seed and the source's name determine the order of documents.
        sequence_length: L, the number of tokens that a sequence trains on.
        pools: tokens of each source's pool. A source without an entry is used as a whole.

    Attributes:
        names: the sources of all stages, sorted. Methods denote a source by its index in `names`.
        length: number of sequences of the run.

    Raises:
        AssayError: a mix names a source without corpus, a stage has no sequence, or a pool is larger than its source.
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
            raise ConfigError(
                f"reader: sequence_length {sequence_length} or number of stages {len(stages)} is invalid; expected at least 1.",
                fix="Set sequence_length to at least 1 token, and pass at least one stage.",
            )
        self.names = tuple(sorted({name for weights, _ in stages for name in weights}))
        for name in self.names:
            if name not in corpora:
                raise NotFound(f"reader: source {name!r} has no corpus. {did_you_mean(name, corpora)}")
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

    @classmethod
    def open(cls, spec: RunSpec, corpora: Path) -> SequenceReader:
        """Open the corpora of a run.

        Args:
            spec: the run.
            corpora: folder with a corpus for each identity in the spec.
        """
        return cls(
            {name: Corpus.open(corpora / identity) for name, identity in spec.corpora.items()},
            [(stage.weights, stage.steps * spec.batch_sequences) for stage in spec.stages],
            seed=spec.seed,
            sequence_length=spec.model.sequence_length,
            pools=spec.pools,
        )

    def read(self, start: int, stop: int) -> tuple[Integers, Integers]:
        """Read the sequences at positions `start` up to `stop`.

        Returns:
            Token ids of shape (stop - start, L + 1), whose last L columns are the targets of the first L; and the index
            of each sequence's source, of shape (stop - start,).

        Raises:
            ValueError: the range is not within the run.
        """
        sources, draws = self._draws(start, stop)
        tokens = np.empty((stop - start, self.sequence_length + 1), np.int64)
        order = np.argsort(sources, kind="stable")
        edges = np.flatnonzero(np.diff(sources[order])) + 1
        for rows in np.split(order, edges) if stop > start else ():
            self._streams[sources[rows[0]]].fill(draws[rows], rows, tokens)
        return tokens, sources

    def counts(self, position: int) -> Integers:
        """Count the sequences of each source before a position in [0, length]; shape (sources,)."""
        if not 0 <= position <= self.length:
            msg = f"position {position} is invalid; expected 0 to {self.length}"
            raise ValueError(msg)
        stage = next(stage for stage in reversed(self._stages) if position >= stage.first)
        return stage.counts(position - stage.first)

    def delivered(self, stop: int) -> dict[str, dict[str, Any]]:
        """Report what each source delivered before position `stop`, as JSON values.

        Returns:
            By source: `sequences`; `tokens` (inputs); `documents` (begun, with repetitions); `epochs`; and
            `epoch_starts`, the positions at which its second and later epochs began.
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
        """List the repeated epochs that begin at positions `start` up to `stop`, by position."""
        before, after = self.counts(start), self.counts(stop)
        begun = []
        for source, (name, stream) in enumerate(zip(self.names, self._streams, strict=True)):
            low, high = int(before[source]), int(after[source])
            # An epoch shorter than a sequence may begin and end within one sequence; the list contains this epoch too.
            epochs = range(max(1, stream.epoch(low - 1) + 1), stream.epoch(high - 1) + 1)
            begun += [EpochStart(name, epoch, self._find(source, stream.first(epoch))) for epoch in epochs]
        return sorted(begun, key=lambda begin: (begin.position, begin.source, begin.epoch))

    def _draws(self, start: int, stop: int) -> tuple[Integers, Integers]:
        """Return each position's source and the number of its sequence, over all stages."""
        if not 0 <= start <= stop <= self.length:
            msg = f"positions {start} to {stop} are invalid; expected a range within 0 to {self.length}"
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
        """Find the position of a source's draw, over all stages."""
        stage = next(stage for stage in reversed(self._stages) if draw >= stage.before[source] and stage.gives(source))
        return stage.find(source, draw)


@dataclass(frozen=True)
class _Stage:
    """One stage of a run, with its schedule and the counts of all sources at its start."""

    first: int
    schedule: MixSchedule
    before: Integers
    sources: Integers
    """Index in the run's sources of each source of the schedule."""

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
    """The endless token stream of a source, reordered in each epoch and cut into sequences."""

    def __init__(self, corpus: Corpus, name: str, seed: int, sequence_length: int, pool: int | None) -> None:
        self.corpus, self.name, self.seed, self.sequence_length = corpus, name, seed, sequence_length
        # For each document: the number of tokens before it in the stream, and its first token in the corpus.
        self.offsets: Integers = corpus.offsets
        self.starts: Integers = corpus.offsets
        if pool is not None:
            self.offsets, self.starts = select_pool(corpus, name, pool)
        self.tokens, self.documents = int(self.offsets[-1]), len(self.offsets) - 1
        self._epochs: OrderedDict[int, tuple[Words, Integers]] = OrderedDict()

    def first(self, epoch: int) -> int:
        """Return the first sequence that begins in an epoch, which is also the epoch's first draw."""
        return -(-epoch * self.tokens // self.sequence_length)

    def epoch(self, draw: int) -> int:
        """Return the epoch in which a draw's sequence begins.

        Draws reorder sequences only within an epoch.
        """
        return draw * self.sequence_length // self.tokens

    def sequences(self, draws: Integers) -> Integers:
        """Return the sequence of each draw. The sequences of an epoch are permuted."""
        sequences = np.empty_like(draws)
        epochs = draws * self.sequence_length // self.tokens
        for epoch in np.unique(epochs).tolist():
            inside, first = epochs == epoch, self.first(epoch)
            count = self.first(epoch + 1) - first
            name = f"{self.name}|sequences"
            sequences[inside] = first + permute(draws[inside] - first, count, seed=self.seed, name=name, epoch=epoch)
        return sequences

    def fill(self, draws: Integers, rows: Integers, out: Integers) -> None:
        """Copy the tokens of each draw into its row of `out`."""
        starts, length = self.sequences(draws) * self.sequence_length, out.shape[1]
        for epoch in range(int(starts.min()) // self.tokens, (int(starts.max()) + length - 1) // self.tokens + 1):
            key, before = self._epoch(epoch)
            pieces = locate(starts, length, epoch * self.tokens, before, self.starts, key)
            for first, shard in zip(self.corpus.shard_starts, self.corpus.shards, strict=True):
                copy(shard, first, pieces, rows, out)

    def begun(self, draws: int) -> int:
        """Count documents whose first token is in one of the first `draws` drawn sequences."""
        epoch = self.epoch(draws)
        border = self.first(epoch)  # all sequences before this one were drawn
        starts = self.sequences(np.arange(border, draws)) * self.sequence_length
        spans = [(0, border * self.sequence_length), *((s, s + self.sequence_length) for s in starts.tolist())]
        return sum(self._beginning(start, stop) for start, stop in spans)

    def _beginning(self, start: int, stop: int) -> int:
        """Count documents whose first token is among the stream's tokens `start` up to `stop`."""
        return self._documents(stop) - self._documents(start)

    def _documents(self, tokens: int) -> int:
        epoch, rest = divmod(tokens, self.tokens)
        inside = int(np.searchsorted(self._epoch(epoch)[1][:-1], rest)) if rest else 0
        return epoch * self.documents + inside

    def _epoch(self, epoch: int) -> tuple[Words, Integers]:
        # Three epochs are cached: a sequence may extend into a second epoch, and a step into a third epoch.
        if epoch not in self._epochs:
            key = permutation_key(seed=self.seed, name=self.name, epoch=epoch)
            self._epochs[epoch] = (key, epoch_table(self.offsets, key))
            if len(self._epochs) > 3:
                self._epochs.popitem(last=False)
        self._epochs.move_to_end(epoch)
        return self._epochs[epoch]


def select_pool(corpus: Corpus, name: str, tokens: int) -> tuple[Integers, Integers]:
    """Select a source's pool: its first documents in pool order.

    The last document is truncated so that the pool has `tokens` tokens.

    Returns:
        Two arrays of shape (documents + 1,): the pool's tokens before each document, followed by the pool's total;
        and the first token of each document in the corpus, followed by the end of the corpus.

    Raises:
        ConfigError: the source has fewer than `tokens` tokens.
    """
    if not 0 < tokens <= corpus.tokens:
        raise ConfigError(
            f"pool of source {name!r}: {tokens:,} tokens is invalid; expected 1 to {corpus.tokens:,}.",
            fix="Reduce the pool, or enlarge the source.",
        )
    order = permute(np.arange(corpus.documents), corpus.documents, seed=POOL_SEED, name=f"{name}|pool", epoch=0)
    before = np.concatenate([[0], np.cumsum((corpus.offsets[1:] - corpus.offsets[:-1])[order])])
    count = int(np.searchsorted(before, tokens))
    offsets = np.minimum(before[: count + 1], tokens).astype(np.int64)
    return offsets, np.append(corpus.offsets[order[:count]], corpus.offsets[-1]).astype(np.int64)
