"""Item texts have the hashes that an evaluation wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from assay.config.suite import SuiteTask
from assay.evaluate.evaluation import evaluate
from assay.evaluate.item_texts import load_item_texts
from assay.evaluate.log_filter import capture_harness_log
from assay.evaluate.offline import use_mirror
from assay.store.runs import RunDirectory
from tests.evaluate.conftest import make_spec


def test_every_item_of_an_evaluation_has_its_text(make_run: Callable[[str], RunDirectory], benchmarks: Path) -> None:
    tasks = (
        SuiteTask(task="arc_easy", limit=4),
        SuiteTask(task="hellaswag", limit=4),
        SuiteTask(task="mmlu_anatomy", limit=4),
    )
    run, spec = make_run("a"), make_spec(*tasks)
    evaluate(run, spec, {}, mirror=benchmarks, device="cpu")
    items = pd.read_parquet(run.evaluation(spec.fingerprint) / "items.parquet")
    use_mirror(benchmarks)
    with capture_harness_log():
        texts = {(item.task, item.key): item.text for item in load_item_texts(tasks, progress=lambda _fraction: None)}
    assert set(zip(items["task"], items["doc_hash"], strict=True)) <= set(texts)
    assert all(len(text) > 20 and "Answer:" not in text for text in texts.values())
