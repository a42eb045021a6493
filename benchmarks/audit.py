"""MB/s of a core for each of the audit's detectors and for a whole audit in one pass, beside grep for the one pattern.

    python -P benchmarks/audit.py                       # the demonstration's sources, data/text
    python -P benchmarks/audit.py --files 'x/*.jsonl'   # any other

CPU seconds, best of three, after everything was compiled.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from assay.audit.detectors import Text, detectors
from assay.audit.examine import examine
from assay.audit.gutters import find
from assay.corpus.read import Look, documents
from assay.sources import Source


def best(function: Callable[[], Any], times: int = 3) -> float:
    """Least CPU seconds of this process."""
    seconds = []
    for _ in range(times + 1):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return min(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", default=str(Path(__file__).parents[1] / "data/text/*/*.jsonl.gz"))
    given = parser.parse_args()
    source = Source(name="all", files=(given.files,), domain="web", language="en", licence=None)
    texts = [document.text for document in documents(source)]
    size = sum(len(text.encode()) for text in texts) / 1e6
    print(f"{len(texts):,} documents, {size:,.1f} MB of text; MB/s of a core")
    print(f"{'reading':28} {size / best(lambda: sum(1 for _ in documents(source))):8.0f}")
    data = [text.encode() for text in texts]
    print(f"{'gutters alone, on bytes':28} {size / best(lambda: [find(each) for each in data]):8.0f}")
    for detector in detectors():

        def look(detector: Any = detector) -> None:
            for text in texts:
                detector.look(Text(text, source))

        print(f"{detector.name:28} {size / best(look):8.0f}")

    def all_in_one() -> None:
        nothing: dict[int, set[str]] = {}
        examine(source, detectors(), look=Look(unread=print), questions=None, seconds=60.0, skip=nothing,
                progress=lambda _: None, beat=lambda _number, _name: None)  # fmt: skip

    print(f"{'all in one pass, with reading':28} {size / best(all_in_one):8.1f}")
    with tempfile.NamedTemporaryFile(suffix=".txt") as file:
        file.write(b"\n".join(data))
        file.flush()
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        subprocess.run(["grep", "-c", "1 2 3 4 5 6 7 8", file.name], check=False, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        print(f"{'grep `1 2 3 4 5 6 7 8`':28} {size / max(1e-3, after - before):8.0f}")
    print(
        f"memory at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB, the texts of it all held here"
    )


if __name__ == "__main__":
    main()
