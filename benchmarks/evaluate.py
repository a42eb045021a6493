"""Where the time of an evaluation goes: `python benchmarks/evaluate.py [--suite demo] [--proxy 0.3m] [--mirror data/benchmarks]`.

Scores an untrained proxy with one thread, the way a run is scored, and prints the seconds of each part; shares and speeds are of CPU seconds. The tokenizer
is trained on the questions of HellaSwag, and their text stands in for a source's validation split.
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

from assay.corpus.build import prepare
from assay.corpus.read import source_digest
from assay.corpus.tokenizer import TokenizerSpec, make_tokenizer
from assay.evaluate.harness import harness_version
from assay.evaluate.offline import use_mirror
from assay.evaluate.run import evaluate
from assay.recipe import ProxyModel
from assay.sources import Source
from assay.store import RunDirectory
from assay.structure import from_mapping
from assay.suite import EvaluationSpec, Suite
from assay.train.export import export
from assay.train.model import build

CONF = Path(__file__).parents[1] / "conf"
VOCABULARY = 4096


def declared(kind: type[Any], part: str, name: str) -> Any:
    return from_mapping(kind, yaml.safe_load((CONF / part / f"{name}.yaml").read_text()), where=name)


def write_text(mirror: Path, file: Path) -> Source:
    """HellaSwag's contexts with their endings, some 10 MB, as documents of about 3,000 bytes."""
    (arrow,) = mirror.glob("Rowan___hellaswag/*/*/*/hellaswag-validation.arrow")
    questions = pyarrow.ipc.open_stream(arrow.read_bytes()).read_all().to_pylist()
    texts = [f"{question['ctx']} {' '.join(question['endings'])}" for question in questions]
    with file.open("w") as lines:
        for start in range(0, len(texts), 4):
            lines.write(json.dumps({"text": "\n".join(texts[start : start + 4])}) + "\n")
    return Source(name="text", files=(str(file),), domain="web", language="en", licence="MIT")


def make_run(folder: Path, proxy: ProxyModel, source: Source) -> tuple[RunDirectory, Path]:
    """An untrained model with its tokenizer, and the text as a corpus."""
    spec = TokenizerSpec(name="bench", vocabulary=VOCABULARY, sources=("text",))
    tokenizer = make_tokenizer(spec, {"text": source}, "tokenizer", folder).parent
    digest = source_digest(source, cache=folder)
    corpus = prepare(source, digest=digest, tokenizer=tokenizer, identity="corpus", folder=folder)
    run = RunDirectory(folder / "run")
    export(build(proxy, VOCABULARY, seed=0), run.model, tokenizer=tokenizer)
    return run, corpus.path


class Laps:
    """Seconds that passed, and seconds of the processor, by part; on a busy machine the second is the truer one."""

    def __init__(self) -> None:
        self.parts: dict[str, np.ndarray] = {}
        self._part = ""
        self._began = self._now()

    def report(self, part: str, share: float) -> None:
        """Progress, as an evaluation tells it."""
        self.begin("" if share >= 1 else part)

    def begin(self, part: str) -> None:
        """End what was being done and start on a part; none, if its name is empty."""
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
    asked = parser.parse_args()
    torch.set_num_threads(1)
    suite, proxy = declared(Suite, "suite", asked.suite), declared(ProxyModel, "proxy", asked.proxy)
    spec = EvaluationSpec(
        tasks=suite.tasks,
        batch_size=suite.batch_size,
        validation_bytes=suite.validation_bytes,
        validation={"text": "text"},
        harness=harness_version(),
        datasets="mirror",
    )
    use_mirror(asked.mirror)
    laps = Laps()
    laps.begin("importing lm-eval")
    import datasets  # noqa: F401
    import lm_eval.evaluator
    import lm_eval.models.huggingface  # noqa: F401

    laps.begin("")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run, corpus = make_run(folder, proxy, write_text(asked.mirror, folder / "text.jsonl"))
        evaluate(run, spec, {"text": corpus}, mirror=asked.mirror, device="cpu", progress=laps.report)
        items = pq.read_table(run.evaluation(spec.fingerprint) / "items.parquet").to_pandas()
    asked_of = items.groupby("group")["loglikelihoods"].agg(
        lambda lists: sum(0 if x is None else len(x) for x in lists)
    )

    parameters = proxy.parameters(VOCABULARY)
    title = f"suite {suite.name}, {parameters:,} parameters, context {proxy.sequence_length}, one thread"
    table = Table("part", "seconds", "CPU seconds", "share", "questions", "requests", "requests/s", title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    total = sum(laps.parts.values())
    for part, (passed, spent) in laps.parts.items():
        mine = items[items["group"] == part]
        requests = int(asked_of.get(part, 0))
        rate = f"{requests / spent:,.0f}" if requests else ""
        if part.startswith("validation/"):
            rate = f"{mine['bytes'].sum() / spent / 1000:,.0f} kB/s"
        counts = (f"{len(mine):,}" if len(mine) else "", f"{requests:,}" if requests else "")
        table.add_row(part, f"{passed:.2f}", f"{spent:.2f}", f"{spent / total[1]:.0%}", *counts, rate)
    table.add_section()
    table.add_row(
        "in all", *(f"{seconds:.2f}" for seconds in total), "", f"{len(items):,}", f"{int(asked_of.sum()):,}", ""
    )
    Console(width=110).print(table)
    print(
        f"`validation/text` is {suite.validation_bytes:,} bytes of one source; a sweep measures as much of each of its sources."
    )


if __name__ == "__main__":
    main()
