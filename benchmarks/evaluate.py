"""Time of an evaluation: `python benchmarks/evaluate.py [--suite demo] [--proxy 0.3m] [--mirror data/benchmarks]`.

Evaluates an untrained proxy with one thread, like a run, and prints the seconds of each part. Percentages and speeds
refer to CPU seconds. The tokenizer is trained on the items of HellaSwag, whose text also serves as a source.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.ipc
import pyarrow.parquet as pq
import torch
import yaml
from rich.console import Console
from rich.table import Table

from assay.config.recipe import ProxyModel
from assay.config.sources import Source
from assay.config.suite import EvaluationSpec, Suite
from assay.config.tokenizer import TokenizerSpec
from assay.core.serde import from_mapping
from assay.corpus.build import prepare
from assay.corpus.source_reader import source_digest
from assay.corpus.tokenizer import make_tokenizer
from assay.evaluate.evaluation import evaluate
from assay.evaluate.offline import use_mirror
from assay.evaluate.task_check import harness_version
from assay.store.runs import RunDirectory
from assay.train.export import export
from assay.train.model import build

CONF = Path(__file__).parents[1] / "conf"
VOCABULARY = 4096


def read_config(kind: type[Any], part: str, name: str) -> Any:
    return from_mapping(kind, yaml.safe_load((CONF / part / f"{name}.yaml").read_text()), where=name)


def write_text(mirror: Path, file: Path) -> Source:
    """Write HellaSwag's contexts with their endings, about 10 MB, as documents of about 3,000 bytes."""
    (arrow,) = mirror.glob("Rowan___hellaswag/*/*/*/hellaswag-validation.arrow")
    items = pyarrow.ipc.open_stream(arrow.read_bytes()).read_all().to_pylist()
    texts = [f"{item['ctx']} {' '.join(item['endings'])}" for item in items]
    with file.open("w") as lines:
        for start in range(0, len(texts), 4):
            lines.write(json.dumps({"text": "\n".join(texts[start : start + 4])}) + "\n")
    return Source(name="text", files=(str(file),), domain="web", language="en", license="MIT")


def make_run(folder: Path, proxy: ProxyModel, source: Source) -> tuple[RunDirectory, Path]:
    """Create an untrained model with its tokenizer, and the corpus of the text."""
    spec = TokenizerSpec(name="bench", vocabulary=VOCABULARY, sources=("text",))
    tokenizer = make_tokenizer(spec, {"text": source}, "tokenizer", folder).parent
    digest = source_digest(source, cache=folder)
    corpus = prepare(source, digest=digest, tokenizer=tokenizer, identity="corpus", folder=folder)
    run = RunDirectory(folder / "run")
    export(build(proxy, VOCABULARY, seed=0), run.model, tokenizer=tokenizer)
    return run, corpus.path


class Laps:
    """Elapsed seconds and CPU seconds by part; on a busy machine, CPU seconds are more reliable."""

    def __init__(self) -> None:
        self.parts: dict[str, np.ndarray] = {}
        self._part = ""
        self._began = self._now()

    def report(self, part: str, fraction: float) -> None:
        """Receive the progress of an evaluation."""
        self.begin("" if fraction >= 1 else part)

    def begin(self, part: str) -> None:
        """End the present part and begin another, or none if its name is empty."""
        now = self._now()
        if self._part:
            self.parts[self._part] = self.parts.get(self._part, 0) + now - self._began
        self._part, self._began = part, now

    def _now(self) -> np.ndarray:
        return np.array([time.perf_counter(), time.process_time()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", default="demo")
    parser.add_argument("--proxy", default="0.3m")
    parser.add_argument("--mirror", type=Path, default=Path("data/benchmarks"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    suite, proxy = read_config(Suite, "suite", options.suite), read_config(ProxyModel, "proxy", options.proxy)
    spec = EvaluationSpec(
        tasks=suite.tasks,
        batch_size=suite.batch_size,
        validation_bytes=suite.validation_bytes,
        validation={"text": "text"},
        harness=harness_version(),
        datasets="mirror",
    )
    use_mirror(options.mirror)
    laps = Laps()
    laps.begin("importing lm-eval")
    import datasets  # noqa: F401
    import lm_eval.evaluator
    import lm_eval.models.huggingface  # noqa: F401

    laps.begin("")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run, corpus = make_run(folder, proxy, write_text(options.mirror, folder / "text.jsonl"))
        evaluate(run, spec, {"text": corpus}, mirror=options.mirror, device="cpu", progress=laps.report)
        items = pq.read_table(run.evaluation(spec.fingerprint) / "items.parquet").to_pandas()
    requests_by_part = items.groupby("group")["loglikelihoods"].agg(
        lambda lists: sum(0 if x is None else len(x) for x in lists)
    )

    parameters = proxy.parameters(VOCABULARY)
    title = f"suite {suite.name}, {parameters:,} parameters, context {proxy.sequence_length}, one thread"
    table = Table("part", "seconds", "CPU seconds", "% of CPU", "items", "requests", "requests/s", title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    total = sum(laps.parts.values())
    for part, (elapsed, cpu) in laps.parts.items():
        rows = items[items["group"] == part]
        requests = int(requests_by_part.get(part, 0))
        rate = f"{requests / cpu:,.0f}" if requests else ""
        if part.startswith("validation/"):
            rate = f"{rows['bytes'].sum() / cpu / 1000:,.0f} kB/s"
        counts = (f"{len(rows):,}" if len(rows) else "", f"{requests:,}" if requests else "")
        table.add_row(part, f"{elapsed:.2f}", f"{cpu:.2f}", f"{cpu / total[1]:.0%}", *counts, rate)
    table.add_section()
    table.add_row(
        "total", *(f"{seconds:.2f}" for seconds in total), "", f"{len(items):,}", f"{int(requests_by_part.sum()):,}", ""
    )
    Console(width=110).print(table)
    print(
        f"`validation/text` has {suite.validation_bytes:,} bytes of one source; a sweep measures as much of every source."
    )


if __name__ == "__main__":
    main()
