"""What an audit pays for distributions, its kept sample and contrasts, beside the pass that they are part of.

    python -P benchmarks/unknown.py                       # the demonstration's sources, data/text
    python -P benchmarks/unknown.py --files 'x/*.jsonl'   # any other, as one source beside them

CPU seconds of one core, least of three, after everything was compiled.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from assay.audit import contrasts
from assay.audit.detectors import Text, detectors
from assay.audit.examine import examine
from assay.audit.unknown import Seen
from assay.corpus.read import Look, documents
from assay.sources import Source

TEXT = Path(__file__).parents[1] / "data/text"


def least(function: Callable[[], Any], times: int = 3) -> float:
    """Least CPU seconds of this process."""
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
        name: Source(name=name, files=(path,), domain="web", language="en", licence=None)
        for name, path in paths.items()
    }
    looked = next(iter(sources)) if given.files else None
    chosen = [sources[looked]] if looked else list(sources.values())
    texts = [[(one, Text(one.text, source)) for one in documents(source)] for source in chosen]
    size = sum(len(text.data) for each in texts for _, text in each) / 1e6
    for each in texts:
        for _, text in each:
            _ = text.profile  # the pass has it already

    def passing() -> None:
        for source in chosen:
            nothing: dict[int, set[str]] = {}
            examine(source, detectors(), look=Look(unread=print), questions=None, seconds=60.0, skip=nothing,
                    progress=lambda _: None, beat=lambda _number, _name: None)  # fmt: skip

    def seeing() -> list[Seen]:
        found = []
        for each in texts:
            seen = Seen()
            for one, text in each:
                seen.add(one, text)
            found.append(seen)
        return found

    def writing() -> None:
        with tempfile.TemporaryDirectory() as folder:
            for seen in made:
                seen.write(Path(folder))

    made = seeing()
    samples = {}
    for name, source in sources.items():
        seen = Seen()
        for one in documents(source):
            seen.add(one, Text(one.text, source))
        samples[name] = seen.sample()
    whole, shown, written = least(passing), least(seeing), least(writing)
    wanted = [looked] if looked else None
    contrasted = least(lambda: contrasts.find(samples, wanted=wanted))
    print(f"{size:,.1f} MB of text in {len(chosen)} sources; CPU seconds, and of them a megabyte's milliseconds")
    for what, seconds in (
        ("the pass without them", whole),
        ("distributions and sample", shown),
        ("writing them down", written),
        ("contrasts, once an audit", contrasted),
    ):
        print(f"{what:28} {seconds:7.2f} {1000 * seconds / size:8.2f} {seconds / whole:7.1%}")


if __name__ == "__main__":
    main()
