"""Speed of embeddings, and how well their topics separate sources.

`python benchmarks/topics.py [--data data/text] [--vectors svd fasttext fasttext:skipgram]`

MB count the embedded text, at most 10,000 characters per document. Seconds are CPU seconds of the process. Purity is the
fraction of documents whose source is the largest source of their topic. `benchmarks/map.py` measures the map.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from assay.audit.explore import embeddings, topics
from assay.audit.explore.topics import TopicSettings
from assay.config.sources import Source
from assay.corpus.source_reader import documents

console = Console(highlight=False)


def sources(folder: Path) -> list[Source]:
    return [
        Source(name=path.name, files=(f"{path}/*.jsonl.gz",), domain="text", language="en", license=None)
        for path in sorted(folder.iterdir())
        if path.is_dir()
    ]


def compare(compared: list[Source], kinds: list[str], number: int) -> Table:
    texts, of = [], []
    for source in compared:
        for document in documents(source):
            texts.append(document.text)
            of.append(source.name)
    megabytes = sum(len(text[: embeddings.CHARACTERS].encode()) for text in texts) / 1e6
    table = Table(
        "vectors", "s", "MB/s", "purity", title=f"{len(texts):,} documents, {megabytes:.1f} MB, {number} topics"
    )
    for kind in kinds:
        start = time.process_time()
        rows = embeddings.encoder(kind, dimensions=64, seed=0).fit(texts, lambda _fraction: None)
        seconds = time.process_time() - start
        labels, _ = topics.partition(rows, number, 0)
        largest = sum(
            Counter(name for name, label in zip(of, labels, strict=True) if label == topic).most_common(1)[0][1]
            for topic in set(labels.tolist())
        )
        table.add_row(kind, f"{seconds:.1f}", f"{megabytes / seconds:.2f}", f"{largest / len(of):.3f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("data/text"))
    parser.add_argument("--vectors", nargs="*", default=["svd", "fasttext", "fasttext:skipgram"])
    given = parser.parse_args()
    selected = sources(given.data)
    settings = TopicSettings(vectors="svd", dimensions=64, sample=20_000, topics=None, seed=0)
    start = time.process_time()
    result = topics.find(selected, {source.name: "0" * 64 for source in selected}, settings)
    console.print(f"svd, all steps: {time.process_time() - start:.1f} s of CPU")
    console.print(compare(selected, given.vectors, len(result.summary.topics)))


if __name__ == "__main__":
    main()
