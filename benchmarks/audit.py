"""MB/s per core of each detector and of a whole scan, compared with grep and datatrove's filters.

    python -P benchmarks/audit.py                          # the demonstration's sources, data/text
    python -P benchmarks/audit.py --files 'x/*.jsonl'      # other files
    python -P benchmarks/audit.py --datatrove VENV/bin/python   # compare; `pip install datatrove[processing] spacy nltk` there
    python -P benchmarks/audit.py memory --files 'x/*.jsonl'    # peak memory of an audit, all processes

CPU seconds, minimum of three runs, after compilation. `documents` counts documents with a hit.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from assay.audit.detectors.line_numbers import find
from assay.audit.detectors.registry import Detector, Text, detectors
from assay.audit.engine import audit
from assay.audit.scan.scan_file import scan_documents
from assay.audit.task import AuditSettings
from assay.config.sources import Source
from assay.corpus.source_reader import ReadOptions, documents, source_digest

PATTERN = r"1\s+2\s+3\s+4\s+5\s+6\s+7\s+8"
"""A regular expression for a simple line-number gutter."""
DATATROVE = """
import json, sys, time
from datatrove.data import Document
from datatrove.pipeline import filters
texts = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
sample = texts[:: max(1, len(texts) // int(sys.argv[2]))]
size = sum(len(text.encode()) for text in sample) / 1e6
for name in ("GopherRepetitionFilter", "GopherQualityFilter", "FineWebQualityFilter", "C4QualityFilter"):
    chosen = getattr(filters, name)()
    best, dropped = 1e9, 0
    for turn in range(3):
        made = [Document(text=text, id=str(number)) for number, text in enumerate(sample)]
        start = time.process_time()
        dropped = sum(chosen.filter(one) is not True for one in made)
        best = min(best, time.process_time() - start) if turn else best
    print(json.dumps([name, size / best, dropped, len(sample)]), flush=True)
"""


def best(function: Callable[[], Any], times: int = 3) -> tuple[float, Any]:
    """Return the minimum CPU seconds of several calls, and the last result."""
    seconds, result = [], None
    for _ in range(times + 1):
        start = time.process_time()
        result = function()
        seconds.append(time.process_time() - start)
    return min(seconds[1:]), result


def show(name: str, speed: float, hits: int | str = "") -> None:
    print(f"{name:34} {speed:8,.1f} {hits:>10}", flush=True)


def speeds(source: Source, datatrove: str | None) -> None:
    texts = [document.text for document in documents(source)]
    data = [text.encode() for text in texts]
    size = sum(map(len, data)) / 1e6
    print(f"{len(texts):,} documents, {size:,.1f} MB of text, load {os.getloadavg()[0]:.1f}\n")
    print(f"{'':34} {'MB/s':>8} {'documents':>10}")

    def run(detector: Detector) -> int:
        return sum(detector.detect(Text(text, source)) is not None for text in texts)

    def all_in_one() -> int:
        nothing: dict[int, set[str]] = {}
        sums, _ = scan_documents(source, detectors(), options=ReadOptions(unread=print), questions=None, seconds=60.0, skip=nothing,
                          progress=lambda _: None, beat=lambda _number, _name: None)  # fmt: skip
        return sum(hit["documents"] for hit in sums.hits.values())

    for name, function in {
        "reading": lambda: sum(1 for _ in documents(source)),
        "line_numbers.find": lambda: sum(bool(find(text)) for text in data),
        **{detector.name: lambda detector=detector: run(detector) for detector in detectors()},
        "whole scan, with reading": all_in_one,
    }.items():
        seconds, hits = best(function)
        show(name, size / seconds, hits)
    grep(data, size)
    if datatrove:
        run_datatrove(datatrove, texts)


def grep(data: list[bytes], size: float) -> None:
    with tempfile.NamedTemporaryFile(suffix=".txt") as file:
        file.write(b"\0".join(data))
        file.flush()
        for name, options in {f"grep -E '{PATTERN[:14]}...'": ["-Ecz"], "the same, LC_ALL=C": ["-Ecz"]}.items():
            place = {**os.environ, **({"LC_ALL": "C"} if "LC_ALL" in name else {})}
            seconds, hits = [], ""
            for _ in range(3):
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                done = subprocess.run(
                    ["grep", *options, PATTERN, file.name], check=False, stdout=subprocess.PIPE, env=place
                )
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
                hits = done.stdout.decode().strip()
            show(name, size / max(1e-3, min(seconds)), hits)


def run_datatrove(python: str, texts: list[str]) -> None:
    """Run datatrove's filters on a part of the text; they are too slow for all of it."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        file.writelines(json.dumps(text) + "\n" for text in texts)
        file.flush()
        command = [python, "-W", "ignore", "-c", DATATROVE, file.name, "100"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        name, speed, dropped, of = json.loads(line)
        show(f"datatrove {name}", speed, f"{dropped} of {of}")
    if done.returncode:
        print(f"datatrove: {done.stderr.strip().splitlines()[-1]}")


def memory(source: Source) -> None:
    """Audit a source in worker processes, and print the peak of their total memory."""
    most, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            held = [_resident(child.pid) for child in multiprocessing.active_children()]
            most[0] = max(most[0], _resident(os.getpid()) + sum(held))

    thread = threading.Thread(target=watch)
    thread.start()
    with tempfile.TemporaryDirectory() as folder:
        store, start = Path(folder), time.monotonic()
        digests = {source.name: (source, source_digest(source, cache=store))}
        record, _ = audit(digests, store=store, settings=AuditSettings())[source.name]
    done.set()
    thread.join()
    print(
        f"{record.documents:,} documents, {record.bytes / 1e9:.2f} GB of text in {time.monotonic() - start:,.0f} s: "
        f"{most[0] / 1024:,.0f} MiB peak, {len(os.sched_getaffinity(0))} processes"
    )


def _resident(process: int | None) -> int:
    """Return the resident KiB of a process; shared pages count in each process."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssFile")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", nargs="?", choices=["speed", "memory"], default="speed")
    parser.add_argument("--files", default=str(Path(__file__).parents[1] / "data/text/*/*.jsonl.gz"))
    parser.add_argument("--datatrove", metavar="PYTHON", help="a Python interpreter with datatrove")
    given = parser.parse_args()
    source = Source(name="all", files=(given.files,), domain="web", language="en", license=None)
    memory(source) if given.mode == "memory" else speeds(source, given.datatrove)


if __name__ == "__main__":
    sys.exit(main())
