"""CPU seconds of distributions, kept sample and contrasts, compared with the scan that they are part of.

    python -P benchmarks/explore.py                       # the demonstration's sources, data/text
    python -P benchmarks/explore.py --files 'x/*.jsonl'   # other files, as one source in addition

CPU seconds of one core, minimum of three runs, after compilation.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from assay.audit.detectors.registry import Text, detectors
from assay.audit.explore import contrasts
from assay.audit.scan.collector import DocumentCollector
from assay.audit.scan.scan_file import scan_documents
from assay.config.sources import Source
from assay.corpus.source_reader import ReadOptions, documents

TEXT = Path(__file__).parents[1] / "data/text"


def least(function: Callable[[], Any], times: int = 3) -> float:
    """Return the minimum CPU seconds of several calls."""
    seconds = []
    for _ in range(times + 1):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return min(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", default=None)
    given = parser.parse_args()
    paths = {path.name: f"{path}/*.jsonl.gz" for path in sorted(TEXT.iterdir()) if path.is_dir()}
    if given.files:
        paths = {"given": given.files, **paths}
    sources = {
        name: Source(name=name, files=(path,), domain="web", language="en", license=None)
        for name, path in paths.items()
    }
    measured = next(iter(sources)) if given.files else None
    chosen = [sources[measured]] if measured else list(sources.values())
    texts = [[(document, Text(document.text, source)) for document in documents(source)] for source in chosen]
    size = sum(len(text.data) for pairs in texts for _, text in pairs) / 1e6
    for pairs in texts:
        for _, text in pairs:
            _ = text.profile  # the scan computes it anyway

    def scan() -> None:
        for source in chosen:
            nothing: dict[int, set[str]] = {}
            scan_documents(source, detectors(), options=ReadOptions(unread=print), questions=None, seconds=60.0, skip=nothing,
                    progress=lambda _: None, beat=lambda _number, _name: None)  # fmt: skip

    def collect() -> list[DocumentCollector]:
        filled = []
        for pairs in texts:
            collector = DocumentCollector()
            for document, text in pairs:
                collector.add(document, text)
            filled.append(collector)
        return filled

    def write() -> None:
        with tempfile.TemporaryDirectory() as folder:
            for collector in collectors:
                collector.write(Path(folder))

    collectors = collect()
    samples = {}
    for name, source in sources.items():
        collector = DocumentCollector()
        for document in documents(source):
            collector.add(document, Text(document.text, source))
        samples[name] = collector.sample()
    whole, collected, written = least(scan), least(collect), least(write)
    wanted = [measured] if measured else None
    contrasted = least(lambda: contrasts.find(samples, wanted=wanted))
    print(
        f"{size:,.1f} MB of text in {len(chosen)} sources; CPU seconds, milliseconds per megabyte, fraction of the scan"
    )
    for step, seconds in (
        ("scan without them", whole),
        ("distributions and sample", collected),
        ("writing them", written),
        ("contrasts, once per audit", contrasted),
    ):
        print(f"{step:28} {seconds:7.2f} {1000 * seconds / size:8.2f} {seconds / whole:7.1%}")


if __name__ == "__main__":
    main()
