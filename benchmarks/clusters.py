"""Vectors of documents: speed, and how well their clusters keep sources apart.

`python benchmarks/clusters.py [--data data/text] [--vectors svd fasttext fasttext:skipgram] [--points 100000]`

MB are those of the text that is looked at, 10,000 characters of a document at most; seconds are of the process on the CPU. Purity is the
share of documents whose cluster's largest source is their own. With --points the map of so many points (the sample, over and over) is opened
in headless Chromium, where there is one.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from assay.audit import clusters, vectors
from assay.audit.clusters import Found, Settings
from assay.corpus.read import documents
from assay.publish import map as map_page
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


def open_map(found: Found, points: int) -> str:
    from playwright.sync_api import sync_playwright

    rows = np.resize(np.arange(len(found.documents)), points)
    many = found.documents.iloc[rows].assign(
        x=lambda table: table["x"] + np.random.default_rng(0).normal(0, 0.02, points),
        y=lambda table: table["y"] + np.random.default_rng(1).normal(0, 0.02, points),
    )
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        page = Path(folder) / "map.html"
        page.write_text(map_page.render(found._replace(documents=many), title="benchmark"), encoding="utf-8")
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.goto(page.as_uri())
        tab.wait_for_selector("html[data-map=ready]", state="attached")
        opened = tab.get_attribute("html", "data-opened")
        drawn = []
        for _ in range(20):
            tab.mouse.move(400, 400)
            tab.mouse.wheel(0, -40)
            tab.wait_for_timeout(100)
            drawn.append(float(str(tab.get_attribute("#map", "data-milliseconds"))))
        browser.close()
        size = page.stat().st_size / 1e6
    return f"{points:,} points: {size:.1f} MB, open after {opened} ms, drawn in {np.median(drawn):.0f} ms (worst {max(drawn):.0f})"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("data/text"))
    parser.add_argument("--vectors", nargs="*", default=["svd", "fasttext", "fasttext:skipgram"])
    parser.add_argument("--points", type=int, default=100_000)
    given = parser.parse_args()
    found = sources(given.data)
    settings = Settings(vectors="svd", dimensions=64, sample=20_000, clusters=None, seed=0)
    begun = time.process_time()
    made = clusters.find(found, {source.name: "0" * 64 for source in found}, settings)
    console.print(f"the whole, svd: {time.process_time() - begun:.1f} s of CPU")
    console.print(open_map(made, given.points))
    console.print(compare(found, given.vectors, len(made.clusters.clusters)))


if __name__ == "__main__":
    main()
