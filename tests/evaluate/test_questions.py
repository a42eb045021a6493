from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import AssayError
from assay.evaluate.offline import use_mirror
from assay.evaluate.questions import _check, load_tasks, spread
from assay.evaluate.quiet import quietly
from assay.suite import Task
from tests.evaluate.conftest import local_task


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_a_sample_has_its_size_and_its_gaps_differ_by_one_at_most(questions: int, limit: int) -> None:
    sample = spread(questions, limit)
    if limit >= questions:
        assert sample is None
        return
    assert sample is not None
    assert len(sample) == limit
    gaps = {after - before for before, after in zip(sample, [*sample[1:], questions], strict=True)}
    assert gaps <= {questions // limit, questions // limit + 1}


def load(lm: Any, benchmarks: Path, *tasks: Task) -> list[Any]:
    use_mirror(benchmarks)
    with quietly():
        return load_tasks(tasks, lm, report=lambda _: None)


def test_a_limit_counts_for_every_subject_of_a_group(lm: Any, benchmarks: Path) -> None:
    (mmlu,) = load(lm, benchmarks, Task(task="mmlu", limit=2))
    assert len(mmlu.samples) == 57
    assert all(len(sample) == 2 for sample in mmlu.samples.values())
    assert mmlu.requests == 57 * 2 * 4


def test_questions_whose_answers_do_not_fit_the_context_are_left_out_and_counted(lm: Any, benchmarks: Path) -> None:
    (piqa,) = load(lm, benchmarks, Task(task="piqa", limit=400))
    kept, left_out = piqa.samples["piqa"], piqa.left_out["piqa"]
    assert 0 < left_out == 400 - len(kept)
    docs = piqa.leaves["piqa"].eval_docs
    for index in set(spread(len(docs), 400) or ()) - set(kept):
        longest = max(docs[index]["sol1"], docs[index]["sol2"], key=len)
        assert len(lm.tok_encode(f" {longest}")) > lm.max_length - 2
    with quietly():  # lm-eval stops at the first question that does not fit
        piqa.leaves["piqa"].build_all_requests(samples=kept)
        lm.loglikelihood(piqa.leaves["piqa"].instances[:40])


def test_solved_examples_that_lm_eval_would_drop_in_silence_are_refused() -> None:
    with quietly():
        task = local_task(
            [{"q": "2 + 2 =", "a": "4"}],
            output_type="loglikelihood",
            doc_to_text="{{q}}",
            doc_to_target="{{a}}",
            num_fewshot=0,
            metric_list=[{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        )
    with pytest.raises(AssayError, match="'sums' is defined with 0 solved examples; num_fewshot is 5"):
        _check(Task(task="sums", num_fewshot=5), {"sums": task})


def test_solved_examples_stand_before_the_question(lm: Any, benchmarks: Path) -> None:
    (task,) = load(lm, benchmarks, Task(task="mmlu_anatomy", num_fewshot=3, limit=1))
    with quietly():
        task.leaves["mmlu_anatomy"].build_all_requests(samples=task.samples["mmlu_anatomy"])
    assert task.leaves["mmlu_anatomy"].instances[0].args[0].count("Answer:") == 4


def test_a_task_that_the_mirror_lacks_is_named_with_what_to_do(lm: Any, benchmarks: Path) -> None:
    with pytest.raises(
        AssayError, match=r"task 'openbookqa': its questions could not be read from the mirror"
    ) as error:
        load(lm, benchmarks, Task(task="sciq", limit=2), Task(task="openbookqa"))
    assert "Add its data set to the mirror" in error.value.fix


HUB = """
import time, types
time.sleep = lambda seconds: None  # the hub's client tries again for half a minute
from assay.evaluate.questions import load_tasks
from assay.evaluate.quiet import quietly
from assay.suite import Task
with quietly():
    load_tasks([Task(task="sciq", limit=2)], types.SimpleNamespace(max_length=256), report=lambda _: None)
"""


def test_no_network_and_no_mirror_names_the_task_and_both_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    result = subprocess.run([sys.executable, "-c", HUB], capture_output=True, text=True, check=False)
    said = result.stderr.splitlines()
    assert said[-2].startswith("assay.errors.AssayError: task 'sciq': its questions could not be read from the hub")
    assert said[-1] == ("Check the network, or point `paths.benchmarks` at a mirror, or leave 'sciq' out of the suite.")
