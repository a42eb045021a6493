"""The texts behind items are found under the hashes that an evaluation wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from assay.evaluate.asked import questions
from assay.evaluate.offline import use_mirror
from assay.evaluate.quiet import quietly
from assay.evaluate.run import evaluate
from assay.store import RunDirectory
from assay.suite import Task
from tests.evaluate.conftest import make_spec


def test_every_item_of_an_evaluation_finds_its_question(
    make_run: Callable[[str], RunDirectory], benchmarks: Path
) -> None:
    tasks = (Task(task="arc_easy", limit=4), Task(task="hellaswag", limit=4), Task(task="mmlu_anatomy", limit=4))
    run, spec = make_run("a"), make_spec(*tasks)
    evaluate(run, spec, {}, mirror=benchmarks, device="cpu")
    items = pd.read_parquet(run.evaluation(spec.fingerprint) / "items.parquet")
    use_mirror(benchmarks)
    with quietly():
        found = {(one.task, one.key): one.text for one in questions(tasks, tell=lambda _share: None)}
    assert set(zip(items["task"], items["doc_hash"], strict=True)) <= set(found)
    assert all(len(text) > 20 and "Answer:" not in text for text in found.values())
