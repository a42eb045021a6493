"""Speed of building and reading corpora of synthetic text: `python benchmarks/loader.py`."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from assay.config.sources import Source
from assay.config.tokenizer import TokenizerSpec
from assay.corpus.build import prepare
from assay.corpus.kernels import epoch_table
from assay.corpus.loader import SequenceReader
from assay.corpus.manifest import corpus_identity
from assay.corpus.schedule import permutation_key
from assay.corpus.shards import Corpus
from assay.corpus.source_reader import source_digest
from assay.corpus.tokenizer import END, make_tokenizer, tokenizer_identity

MIX = {"web": 0.5, "code": 0.3, "books": 0.15, "science": 0.05}
WORDS_PER_DOCUMENT = {"web": 300, "code": 800, "books": 20_000, "science": 60}
WORDS_PER_SOURCE = 700_000
BATCH = 64


def make_source(folder: Path, name: str) -> Source:
    draw = np.random.default_rng(len(name))
    with (folder / f"{name}.jsonl").open("w") as file:
        left = WORDS_PER_SOURCE
        while left > 0:
            size = int(draw.exponential(WORDS_PER_DOCUMENT[name])) + 1
            words = draw.integers(0, 4000, min(size, left))
            file.write(json.dumps({"text": " ".join(f"w{word}" for word in words)}) + "\n")
            left -= size
    return Source(name=name, files=(str(folder / f"{name}.jsonl"),), domain=name, language="en", license="CC0-1.0")


def make_corpora(folder: Path) -> tuple[dict[str, Corpus], Table]:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({END: 0, **{f"w{i}": i + 1 for i in range(4000)}}, unk_token=END))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.save(str(folder / "words.json"))
    spec = TokenizerSpec(name="words", file=str(folder / "words.json"))
    tokenizer = make_tokenizer(spec, {}, tokenizer_identity(spec, {}), folder).parent
    table = Table(title="Building corpora (with a tokenizer of whole words, to measure everything except BPE)")
    for column in ("source", "documents", "tokens", "MB/s of text"):
        table.add_column(column, justify="left" if column == "source" else "right")
    corpora = {}
    for name in MIX:
        source = make_source(folder, name)
        digest = source_digest(source, cache=folder)
        started = time.perf_counter()
        corpora[name] = prepare(
            source,
            digest=digest,
            tokenizer=tokenizer,
            identity=corpus_identity(digest, tokenizer.name),
            folder=folder / "corpora",
        )
        speed = corpora[name].manifest.bytes / (time.perf_counter() - started) / 1e6
        table.add_row(name, f"{corpora[name].documents:,}", f"{corpora[name].tokens:,}", f"{speed:.1f}")
    return corpora, table


def measure_reading(corpora: dict[str, Corpus]) -> Table:
    table = Table(
        title=f"Reading sequences of {len(MIX)} sources, {BATCH} at a time, one core (documents shuffled and packed)"
    )
    for column in ("sequence length", "million tokens/s", "us per sequence", "epochs of the shortest source"):
        table.add_column(column, justify="right")
    for length in (256, 1024, 2048):
        sequences = 8_000_000 // length // BATCH * BATCH
        SequenceReader(corpora, [(MIX, sequences)], seed=1, sequence_length=length).read(0, BATCH)  # compiles
        reader = SequenceReader(corpora, [(MIX, sequences)], seed=0, sequence_length=length)
        started = time.perf_counter()
        for start in range(0, sequences, BATCH):
            reader.read(start, start + BATCH)
        taken = time.perf_counter() - started
        epochs = max(part["epochs"] for part in reader.delivered(sequences).values())
        speed = sequences * length / taken / 1e6
        table.add_row(f"{length:,}", f"{speed:,.0f}", f"{taken / sequences * 1e6:.1f}", f"{epochs:.1f}")
    return table


def measure_epoch_tables() -> Table:
    table = Table(title="Creating the table of document positions of an epoch")
    for column in ("documents", "seconds", "MB"):
        table.add_column(column, justify="right")
    key = permutation_key(seed=0, name="web", epoch=0)
    for count in (10_000, 1_000_000, 10_000_000):
        offsets = np.arange(count + 1, dtype=np.int64) * 700
        epoch_table(offsets[:10], key)
        started = time.perf_counter()
        size = epoch_table(offsets, key).nbytes
        table.add_row(f"{count:,}", f"{time.perf_counter() - started:.3f}", f"{size / 1e6:.1f}")
    return table


if __name__ == "__main__":
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as folder:
        corpora, building = make_corpora(Path(folder))
        console.print(building)
        console.print(measure_reading(corpora))
    console.print(measure_epoch_tables())
