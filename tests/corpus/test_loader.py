"""A run's sequences are a pure function of position, and no token is lost or repeated."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from assay.core.errors import AssayError
from assay.corpus import build
from assay.corpus.loader import SequenceReader, select_pool
from assay.corpus.schedule import permute
from assay.corpus.shards import Corpus
from tests.corpus.conftest import corpus_from, some_texts, source_of, write_jsonl

Corpora = dict[str, Corpus]
L = 32


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory, tokenizer: Path) -> Corpora:
    """Sources of 30 to 400 documents; `code` in many shards."""
    folder = tmp_path_factory.mktemp("corpora")

    def make(name: str, count: int, seed: int) -> Corpus:
        source = source_of(write_jsonl(folder / f"{name}.jsonl", some_texts(count, seed=seed)), name=name)
        return corpus_from(source, tokenizer, folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "SHARD_TOKENS", 700)
        code = make("code", 200, 1)
    return {"web": make("web", 400, 0), "code": code, "books": make("books", 30, 2), "tiny": make("tiny", 2, 3)}


def stream(corpus: Corpus, name: str, *, seed: int, length: int) -> NDArray[np.int64]:
    """A source's tokens in the order of a run, concatenated document by document."""
    parts: list[NDArray[np.int64]] = []
    epoch = 0
    while sum(map(len, parts)) < length:
        order = permute(np.arange(corpus.documents), corpus.documents, seed=seed, name=name, epoch=epoch)
        parts += [corpus.document(index).astype(np.int64) for index in order.tolist()]
        epoch += 1
    return np.concatenate(parts)[:length]


def rows_of(reader: SequenceReader, name: str) -> NDArray[np.int64]:
    """A source's sequences over the whole run, in order of draws; shape (draws, L + 1)."""
    tokens, sources = reader.read(0, reader.length)
    return tokens[sources == reader.names.index(name)]


def drawn(corpus: Corpus, name: str, *, seed: int, draws: int, length: int = L) -> list[int]:
    """The stream's sequence of each draw: those that begin in an epoch, shuffled."""
    order: list[int] = []
    epoch = 0
    while len(order) < draws:
        first, after = (-(-e * corpus.tokens // length) for e in (epoch, epoch + 1))
        inside = permute(np.arange(after - first), after - first, seed=seed, name=f"{name}|sequences", epoch=epoch)
        order += [first + int(i) for i in inside]
        epoch += 1
    return order[:draws]


def expected_rows(corpus: Corpus, name: str, *, seed: int, draws: int, length: int = L) -> NDArray[np.int64]:
    """A source's sequences, computed independently."""
    order = drawn(corpus, name, seed=seed, draws=draws, length=length)
    row = stream(corpus, name, seed=seed, length=(max(order, default=0) + 1) * length + 1)
    return np.array([row[n * length : n * length + length + 1] for n in order]).reshape(draws, length + 1)


MIX = {"web": 0.5, "code": 0.3, "books": 0.2}


def test_no_token_is_lost_or_repeated_over_several_epochs(corpora: Corpora) -> None:
    """Each source delivers its documents with their EOS, in the order of each epoch, and nothing else."""
    reader = SequenceReader(corpora, [(MIX, 3000)], seed=4, sequence_length=L)
    for name in reader.names:
        rows = rows_of(reader, name)
        np.testing.assert_array_equal(rows, expected_rows(corpora[name], name, seed=4, draws=len(rows)))
    assert {name: part["epochs"] > 2 for name, part in reader.delivered(3000).items()} == dict.fromkeys(MIX, True)


@pytest.mark.parametrize("name", ["web", "code", "books"])
def test_the_draws_of_whole_epochs_are_the_stream_each_token_a_target_once(corpora: Corpora, name: str) -> None:
    corpus = corpora[name]
    draws = -(-2 * corpus.tokens // L)
    reader = SequenceReader(corpora, [({name: 1.0}, draws)], seed=0, sequence_length=L)
    row = stream(corpus, name, seed=0, length=draws * L + 1)
    expected = Counter(tuple(row[n * L : n * L + L + 1].tolist()) for n in range(draws))
    assert Counter(map(tuple, rows_of(reader, name).tolist())) == expected
    assert Counter(rows_of(reader, name)[:, 1:].ravel().tolist()) == Counter(row[1:].tolist())


def test_sequences_of_one_document_are_not_drawn_one_after_the_other(corpora: Corpora) -> None:
    """Neighbors in the stream overlap by a token; neighbors in the order of draws rarely do."""
    rows = rows_of(SequenceReader(corpora, [({"web": 1.0}, 400)], seed=0, sequence_length=L), "web")
    following = (rows[1:, 0] == rows[:-1, -1]) & (rows[:-1, -1] != corpora["web"].manifest.eos)
    by_chance = max(Counter(rows[:, 0].tolist()).values()) / len(rows)
    assert following.mean() < 2 * by_chance + 0.02


def test_every_document_comes_once_an_epoch(corpora: Corpora) -> None:
    corpus = corpora["code"]
    known = Counter(tuple(corpus.document(i).tolist()) for i in range(corpus.documents))
    tokens = stream(corpus, "code", seed=0, length=2 * corpus.tokens)
    for epoch in (tokens[: corpus.tokens], tokens[corpus.tokens :]):
        ends = np.flatnonzero(epoch == corpus.manifest.eos) + 1
        assert Counter(tuple(part.tolist()) for part in np.split(epoch, ends)[:-1]) == known
    assert not np.array_equal(tokens[: corpus.tokens], tokens[corpus.tokens :])


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_any_number_of_workers_reads_the_same_run(corpora: Corpora, workers: int) -> None:
    """Each worker has its own reader and reads its slice of each step, in any order of steps."""
    batch, steps, stages = 24, 20, [(MIX, 200), ({"web": 0.3, "tiny": 0.7}, 280)]
    expected, sources = SequenceReader(corpora, stages, seed=1, sequence_length=L).read(0, batch * steps)
    readers = [SequenceReader(corpora, stages, seed=1, sequence_length=L) for _ in range(workers)]
    size = batch // workers
    for step in np.random.default_rng(0).permutation(steps).tolist():
        for worker, reader in enumerate(readers):
            start = step * batch + worker * size
            tokens, indices = reader.read(start, start + size)
            np.testing.assert_array_equal(tokens, expected[start : start + size])
            np.testing.assert_array_equal(indices, sources[start : start + size])


@given(data=st.data(), length=st.integers(1, 300), seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_reading_a_range_returns_that_range_of_the_run(
    corpora: Corpora, data: st.DataObject, length: int, seed: int
) -> None:
    """Holds for any sequence length, including epochs shorter than a sequence."""
    stages = [({"tiny": 0.6, "books": 0.4}, 40), ({"code": 1.0}, 7)]
    reader = SequenceReader(corpora, stages, seed=seed, sequence_length=length)
    whole, sources = reader.read(0, 47)
    start = data.draw(st.integers(0, 47))
    stop = data.draw(st.integers(start, 47))
    tokens, indices = SequenceReader(corpora, stages, seed=seed, sequence_length=length).read(start, stop)
    np.testing.assert_array_equal(tokens, whole[start:stop])
    np.testing.assert_array_equal(indices, sources[start:stop])
    tiny = rows_of(reader, "tiny")
    np.testing.assert_array_equal(
        tiny, expected_rows(corpora["tiny"], "tiny", seed=seed, draws=len(tiny), length=length)
    )


def test_two_mixes_that_share_a_source_read_it_in_the_same_order(corpora: Corpora) -> None:
    left = SequenceReader(corpora, [({"web": 0.5, "books": 0.5}, 400)], seed=2, sequence_length=L)
    right = SequenceReader(corpora, [({"code": 0.7, "web": 0.3}, 400)], seed=2, sequence_length=L)
    first, second = rows_of(left, "web"), rows_of(right, "web")
    both = min(len(first), len(second))
    assert both > 100
    np.testing.assert_array_equal(first[:both], second[:both])


def test_adding_a_source_leaves_the_order_of_the_others(corpora: Corpora) -> None:
    """Holds even if its name sorts before theirs."""
    before = SequenceReader(corpora, [({"code": 0.5, "web": 0.5}, 300)], seed=2, sequence_length=L)
    after = SequenceReader(corpora, [({"books": 0.2, "code": 0.4, "web": 0.4}, 300)], seed=2, sequence_length=L)
    for name in ("code", "web"):
        longer, shorter = rows_of(before, name), rows_of(after, name)
        np.testing.assert_array_equal(longer[: len(shorter)], shorter)


def test_another_seed_gives_another_order(corpora: Corpora) -> None:
    first, second = (
        SequenceReader(corpora, [(MIX, 50)], seed=seed, sequence_length=L).read(0, 50)[0] for seed in (0, 1)
    )
    assert not np.array_equal(first, second)


def test_a_later_stage_continues_a_source_where_the_earlier_ones_ended(corpora: Corpora) -> None:
    stages = [({"web": 0.5, "code": 0.5}, 101), ({"books": 0.9, "web": 0.1}, 60), ({"web": 1.0}, 50)]
    reader = SequenceReader(corpora, stages, seed=0, sequence_length=L)
    rows = rows_of(reader, "web")
    np.testing.assert_array_equal(rows, expected_rows(corpora["web"], "web", seed=0, draws=len(rows)))
    assert reader.length == 211
    assert reader.counts(211).sum() == 211
    assert reader.counts(161)[reader.names.index("web")] == len(rows) - 50


def test_a_source_of_weight_0_delivers_nothing_and_a_source_of_weight_1_everything(corpora: Corpora) -> None:
    reader = SequenceReader(corpora, [({"web": 1.0, "code": 0.0}, 20)], seed=0, sequence_length=L)
    assert [part["sequences"] for part in reader.delivered(20).values()] == [0, 20]
    assert reader.delivered(20)["code"] == {
        "sequences": 0,
        "tokens": 0,
        "documents": 0,
        "epochs": 0.0,
        "epoch_starts": [],
    }


@pytest.mark.parametrize("stop", [0, 1, 777, 2000])
def test_delivered_counts_equal_the_sequences_read(corpora: Corpora, stop: int) -> None:
    """Counts of the sequences: a document begins after an EOS, an epoch after the source's last token."""
    reader = SequenceReader(corpora, [(MIX, 900), ({"tiny": 0.5, "books": 0.5}, 1100)], seed=3, sequence_length=L)
    tokens, sources = reader.read(0, stop)
    for index, (name, part) in enumerate(reader.delivered(stop).items()):
        corpus, rows = corpora[name], tokens[sources == index]
        assert part["sequences"] * L == part["tokens"] == rows[:, :-1].size
        # An EOS anywhere but at the end of a row is followed by a document's first token in the same row; one that
        # begins with a row was preceded by an EOS that is the last target of some row, or begins the stream.
        inside = int((rows[:, :-2] == corpus.manifest.eos).sum())
        at_edges = part["documents"] - inside
        assert 0 <= at_edges <= len(rows)
        chosen = set(drawn(corpus, name, seed=3, draws=len(rows)))
        row = stream(corpus, name, seed=3, length=(len(rows) + 2 * corpus.tokens // L + 3) * L + 1)
        edges = [n for n in range(len(row) // L) if n == 0 or row[n * L - 1] == corpus.manifest.eos]
        assert at_edges == len(chosen & set(edges))
        assert part["epochs"] == pytest.approx(part["tokens"] / corpus.tokens)
        positions = np.flatnonzero(sources == index)
        firsts = [-(-epoch * corpus.tokens // L) for epoch in range(1, 1 + len(rows) * L // corpus.tokens + 1)]
        assert part["epoch_starts"] == [int(positions[first]) for first in firsts if first < len(rows)]


def test_every_epoch_start_is_listed_for_any_division_into_steps(corpora: Corpora) -> None:
    reader = SequenceReader(corpora, [(MIX, 900), ({"tiny": 0.5, "books": 0.5}, 1100)], seed=3, sequence_length=L)
    listed = [begin for start in range(0, 2000, 7) for begin in reader.epoch_starts(start, min(start + 7, 2000))]
    assert listed == reader.epoch_starts(0, 2000)
    for name, part in reader.delivered(2000).items():
        starts = [begin for begin in listed if begin.source == name]
        assert [begin.position for begin in starts] == part["epoch_starts"]
        assert [begin.epoch for begin in starts] == list(range(1, 1 + len(starts)))
    assert len({begin.source for begin in listed}) == 4


def test_ranges_outside_the_run_are_refused(corpora: Corpora) -> None:
    reader = SequenceReader(corpora, [(MIX, 10)], seed=0, sequence_length=L)
    for start, stop in ((0, 11), (-1, 2), (5, 4)):
        with pytest.raises(ValueError, match="expected a range within"):
            reader.read(start, stop)
    assert reader.read(10, 10)[0].shape == (0, L + 1)
    with pytest.raises(ValueError, match="position 11 is invalid; expected 0 to 10"):
        reader.delivered(11)


def test_a_source_without_a_corpus_is_named(corpora: Corpora) -> None:
    with pytest.raises(AssayError, match=r"source 'wbe' has no corpus\. Did you mean 'web'"):
        SequenceReader(corpora, [({"wbe": 1.0}, 10)], seed=0, sequence_length=L)


@pytest.mark.parametrize("seed", [0, 7])
def test_a_pool_has_the_requested_tokens_and_is_repeated_in_epochs(corpora: Corpora, seed: int) -> None:
    """Pool of a quarter of the draws: 4 epochs, with each token of the pool equally often a target."""
    corpus = corpora["web"]
    draws = corpus.tokens // L
    pool = draws * L // 4
    reader = SequenceReader(corpora, [({"web": 1.0}, draws)], seed=seed, sequence_length=L, pools={"web": pool})
    assert reader.delivered(draws)["web"]["epochs"] == pytest.approx(4, abs=1e-2)
    assert [begin.epoch for begin in reader.epoch_starts(0, draws)] == [1, 2, 3]
    row = in_pool(corpus, "web", pool)
    assert len(row) == pool
    seen = Counter(rows_of(reader, "web")[:, :-1].ravel().tolist())
    assert sum(abs(seen[token] - 4 * count) for token, count in Counter(row.tolist()).items()) <= 4 * L


@given(small=st.integers(1, 6000), more=st.integers(0, 6000))
@settings(max_examples=40, deadline=None)
def test_a_smaller_pool_is_the_beginning_of_a_larger_one(corpora: Corpora, small: int, more: int) -> None:
    corpus = corpora["code"]
    small, large = min(small, corpus.tokens), min(small + more, corpus.tokens)
    np.testing.assert_array_equal(in_pool(corpus, "code", small), in_pool(corpus, "code", large)[:small])


def test_a_pool_of_one_source_leaves_the_order_of_the_others(corpora: Corpora) -> None:
    whole, shrunk = (
        SequenceReader(corpora, [(MIX, 600)], seed=1, sequence_length=L, pools=pools) for pools in (None, {"web": 500})
    )
    for name in ("code", "books"):
        np.testing.assert_array_equal(rows_of(whole, name), rows_of(shrunk, name))
    assert set(rows_of(shrunk, "web").ravel().tolist()) <= set(in_pool(corpora["web"], "web", 500).tolist())


def test_delivered_documents_of_a_pool_are_those_of_the_pool(corpora: Corpora) -> None:
    corpus = corpora["code"]
    offsets, _ = select_pool(corpus, "code", 900)
    draws = -(-3 * 900 // L)
    reader = SequenceReader(corpora, [({"code": 1.0}, draws)], seed=0, sequence_length=L, pools={"code": 900})
    assert reader.delivered(draws)["code"]["documents"] == pytest.approx(3 * (len(offsets) - 1), abs=2)


def test_a_pool_larger_than_its_source_is_refused(corpora: Corpora) -> None:
    tokens = corpora["tiny"].tokens
    whole = SequenceReader(corpora, [({"tiny": 1.0}, 4)], seed=0, sequence_length=L, pools={"tiny": tokens})
    assert whole.delivered(4)["tiny"]["epochs"] == pytest.approx(4 * L / tokens)
    with pytest.raises(
        AssayError, match=rf"pool of source 'tiny': {tokens + 1:,} tokens is invalid; expected 1 to {tokens:,}"
    ):
        SequenceReader(corpora, [({"tiny": 1.0}, 4)], seed=0, sequence_length=L, pools={"tiny": tokens + 1})


def in_pool(corpus: Corpus, name: str, tokens: int) -> NDArray[np.int64]:
    """The tokens of a pool, concatenated document by document."""
    offsets, starts = select_pool(corpus, name, tokens)
    row = np.concatenate([np.asarray(shard) for shard in corpus.shards]).astype(np.int64)
    lengths = np.diff(offsets)
    return np.concatenate([row[start : start + n] for start, n in zip(starts, lengths, strict=False)])
