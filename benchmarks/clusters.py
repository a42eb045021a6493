"""Vectors of documents: speed, and how well their clusters keep sources apart.

`python benchmarks/clusters.py [--data data/text] [--vectors svd fasttext fasttext:skipgram]`

MB are those of the text that is looked at, 10,000 characters of a document at most; seconds are of the process on the CPU. Purity is the
share of documents whose cluster's largest source is their own. `benchmarks/map.py` measures the map.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from assay.audit import clusters, vectors
from assay.audit.clusters import Settings
from assay.corpus.read import documents
from assay.sources import Source

console = Console(highlight=False)


def sources(folder: Path) -> list[Source]:
    return [
        Source(name=path.name, files=(f"{path}/*.jsonl.gz",), domain="text", language="en", licence=None)
        for path in sorted(folder.iterdir())
        if path.is_dir()
    ]


def compare(found: list[Source], kinds: list[str], number: int) -> Table:
    texts, of = [], []
    for source in found:
        for document in documents(source):
            texts.append(document.text)
            of.append(source.name)
    looked = sum(len(text[: vectors.CHARACTERS].encode()) for text in texts) / 1e6
    table = Table(
        "vectors", "s", "MB/s", "purity", title=f"{len(texts):,} documents, {looked:.1f} MB, {number} clusters"
    )
    for kind in kinds:
        begun = time.process_time()
        rows = vectors.encoder(kind, dimensions=64, seed=0).fit(texts, lambda _share: None)
        seconds = time.process_time() - begun
        labels, _ = clusters.partition(rows, number, 0)
        largest = sum(
            Counter(name for name, label in zip(of, labels, strict=True) if label == one).most_common(1)[0][1]
            for one in set(labels.tolist())
        )
        table.add_row(kind, f"{seconds:.1f}", f"{looked / seconds:.2f}", f"{largest / len(of):.3f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("data/text"))
    parser.add_argument("--vectors", nargs="*", default=["svd", "fasttext", "fasttext:skipgram"])
    given = parser.parse_args()
    found = sources(given.data)
    settings = Settings(vectors="svd", dimensions=64, sample=20_000, clusters=None, seed=0)
    begun = time.process_time()
    made = clusters.find(found, {source.name: "0" * 64 for source in found}, settings)
    console.print(f"the whole, svd: {time.process_time() - begun:.1f} s of CPU")
    console.print(compare(found, given.vectors, len(made.clusters.clusters)))


if __name__ == "__main__":
    main()
