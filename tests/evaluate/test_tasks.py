from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.config.suite import SuiteTask
from assay.core.errors import AssayError
from assay.evaluate.log_filter import capture_harness_log
from assay.evaluate.offline import use_mirror
from assay.evaluate.tasks import load_tasks, require_scorable, spread
from tests.evaluate.conftest import local_task


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_a_sample_has_its_size_and_gaps_that_differ_by_at_most_one(items: int, limit: int) -> None:
    sample = spread(items, limit)
    if limit >= items:
        assert sample is None
        return
    assert sample is not None
    assert len(sample) == limit
    gaps = {after - before for before, after in zip(sample, [*sample[1:], items], strict=True)}
    assert gaps <= {items // limit, items // limit + 1}


def load(lm: Any, benchmarks: Path, *tasks: SuiteTask) -> list[Any]:
    use_mirror(benchmarks)
    with capture_harness_log():
        return load_tasks(tasks, lm, report=lambda _: None)


def test_a_limit_applies_to_every_subject_of_a_group(lm: Any, benchmarks: Path) -> None:
    (mmlu,) = load(lm, benchmarks, SuiteTask(task="mmlu", limit=2))
    assert len(mmlu.samples) == 57
    assert all(len(sample) == 2 for sample in mmlu.samples.values())
    assert mmlu.requests == 57 * 2 * 4


def test_items_with_choices_that_exceed_the_context_are_omitted_and_counted(lm: Any, benchmarks: Path) -> None:
    (piqa,) = load(lm, benchmarks, SuiteTask(task="piqa", limit=400))
    kept, left_out = piqa.samples["piqa"], piqa.left_out["piqa"]
    assert 0 < left_out == 400 - len(kept)
    docs = piqa.leaves["piqa"].eval_docs
    for index in set(spread(len(docs), 400) or ()) - set(kept):
        longest = max(docs[index]["sol1"], docs[index]["sol2"], key=len)
        assert len(lm.tok_encode(f" {longest}")) > lm.max_length - 2
    with capture_harness_log():  # lm-eval fails at the first item that does not fit
        piqa.leaves["piqa"].build_all_requests(samples=kept)
        lm.loglikelihood(piqa.leaves["piqa"].instances[:40])


def test_few_shot_examples_that_lm_eval_would_drop_are_refused() -> None:
    with capture_harness_log():
        task = local_task(
            [{"q": "2 + 2 =", "a": "4"}],
            output_type="loglikelihood",
            doc_to_text="{{q}}",
            doc_to_target="{{a}}",
            num_fewshot=0,
            metric_list=[{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        )
    with pytest.raises(AssayError, match="task 'sums': `num_fewshot` 5 is invalid"):
        require_scorable(SuiteTask(task="sums", num_fewshot=5), {"sums": task})


def test_few_shot_examples_precede_the_item(lm: Any, benchmarks: Path) -> None:
    (task,) = load(lm, benchmarks, SuiteTask(task="mmlu_anatomy", num_fewshot=3, limit=1))
    with capture_harness_log():
        task.leaves["mmlu_anatomy"].build_all_requests(samples=task.samples["mmlu_anatomy"])
    assert task.leaves["mmlu_anatomy"].instances[0].args[0].count("Answer:") == 4


def test_a_task_that_the_mirror_lacks_is_reported_with_a_fix(lm: Any, benchmarks: Path) -> None:
    with pytest.raises(AssayError, match=r"task 'openbookqa': its items could not be read from the mirror") as error:
        load(lm, benchmarks, SuiteTask(task="sciq", limit=2), SuiteTask(task="openbookqa"))
    assert "Add its data set to the mirror" in error.value.fix


HUB = """
import time, types
time.sleep = lambda seconds: None  # the hub's client retries for half a minute
from assay.evaluate.tasks import load_tasks
from assay.evaluate.log_filter import capture_harness_log
from assay.config.suite import SuiteTask
with capture_harness_log():
    load_tasks([SuiteTask(task="sciq", limit=2)], types.SimpleNamespace(max_length=256), report=lambda _: None)
"""


def test_without_network_and_mirror_the_error_names_the_task_and_both_fixes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    result = subprocess.run([sys.executable, "-c", HUB], capture_output=True, text=True, check=False)
    lines = result.stderr.splitlines()
    assert lines[-2].startswith("assay.core.errors.NotFound: task 'sciq': its items could not be read from the hub")
    assert lines[-1] == (
        "Check the network. For nodes without network, point `paths.benchmarks` at a mirror on the shared file system, or run"
        " `assay doctor sweep=NAME` on a node with network and share its HF_HOME (cluster.environment), or remove 'sciq' from"
        " the suite."
    )
