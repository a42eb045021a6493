from __future__ import annotations

import json
import math
import statistics
from typing import Any

import pytest

from assay.config.suite import SuiteTask
from assay.evaluate.items import item_rows
from assay.evaluate.log_filter import capture_harness_log
from assay.evaluate.scores import BITS, _bits_record, describe, digest_items, task_scores
from assay.evaluate.tasks import LoadedTask
from tests.evaluate.conftest import local_task

ACC = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}
NOUNS = ["cow", "sea", "cup", "ball", "captain", "river", "mill", "morning", "word"]


def quiz(name: str, items: int, choices: int) -> Any:
    rows = [{"q": f"{NOUNS[i]} and", "choices": NOUNS[i : i + choices], "gold": i % choices} for i in range(items)]
    return local_task(
        rows,
        task=name,
        output_type="multiple_choice",
        doc_to_text="{{q}}",
        doc_to_choice="choices",
        doc_to_target="gold",
        metric_list=[ACC],
    )


def score(lm: Any, *, by_size: bool, chance: float | None = None) -> tuple[dict[tuple[str, str], Any], Any, Any, Any]:
    """Score a group of two tasks of 5 and 2 items with 2 and 4 choices."""
    from lm_eval import evaluator
    from lm_eval.api.group import Group
    from lm_eval.config.group import AggMetricConfig

    with capture_harness_log():
        tasks = {"large": quiz("large", 5, 2), "small": quiz("small", 2, 4)}
        group = Group(name="both", aggregate_metric_list=[AggMetricConfig(metric="acc", weight_by_size=by_size)])
        for task in tasks.values():
            group.add(task)
        harness = {"tasks": tasks, "groups": {"both": group}, "group_map": {"both": list(tasks)}}
        results = evaluator.evaluate(lm=lm, task_dict=harness, log_samples=True, bootstrap_iters=10)
    task = SuiteTask(task="both", chance=chance)
    loaded = LoadedTask(task=task, harness=harness, samples={}, left_out={"small": 3}, requests=18)
    rows = [row for name in tasks for row in item_rows(tasks[name], "both", results["samples"][name])]
    records = task_scores(loaded, results, rows)
    return {(record["task"], record["metric"]): record for record in records}, loaded, results, rows


@pytest.mark.parametrize("by_size", [True, False])
def test_a_group_has_lm_evals_accuracy_and_the_bits_of_its_tasks_with_the_same_weights(lm: Any, by_size: bool) -> None:
    scores, _, results, rows = score(lm, by_size=by_size)
    assert list(scores) == [
        (task, metric) for task in ("both", "large", "small") for metric in ("acc", "bits_per_byte")
    ]
    for task in ("both", "large", "small"):
        actual, expected = scores[task, "acc"], results["results"][task]
        assert (actual["value"], actual["stderr"]) == (expected["acc,none"], expected["acc_stderr,none"])
    bits = {name: [row["bits_per_byte"] for row in rows if row["task"] == name] for name in ("large", "small")}
    for name, values in bits.items():
        assert scores[name, "bits_per_byte"]["value"] == pytest.approx(statistics.fmean(values))
        assert scores[name, "bits_per_byte"]["stderr"] == pytest.approx(
            statistics.stdev(values) / math.sqrt(len(values))
        )
    means = [statistics.fmean(values) for values in bits.values()]
    weighted = (5 * means[0] + 2 * means[1]) / 7 if by_size else statistics.fmean(means)
    assert scores["both", "bits_per_byte"]["value"] == pytest.approx(weighted)
    assert [scores[task, "acc"]["n"] for task in ("both", "large", "small")] == [7, 5, 2]


def test_the_chance_level_is_one_over_the_choices_and_groups_weight_it_like_accuracy(lm: Any) -> None:
    scores, *_ = score(lm, by_size=True)
    assert [scores[task, "acc"]["chance"] for task in ("large", "small")] == [0.5, 0.25]
    assert scores["both", "acc"]["chance"] == pytest.approx((5 * 0.5 + 2 * 0.25) / 7)
    assert scores["both", "bits_per_byte"]["chance"] is None
    unweighted, *_ = score(lm, by_size=False)
    assert unweighted["both", "acc"]["chance"] == pytest.approx(0.375)


def test_the_suites_chance_level_holds_for_the_task_and_its_members(lm: Any) -> None:
    scores, *_ = score(lm, by_size=True, chance=0.4)
    assert [scores[task, "acc"]["chance"] for task in ("both", "large", "small")] == pytest.approx([0.4] * 3)


def test_each_task_is_described_with_its_items(lm: Any) -> None:
    _, loaded, results, rows = score(lm, by_size=True)
    described = describe(loaded, results, rows, truncated=4)
    assert described["both"]["n"] == 7
    assert described["both"]["truncated"] == 4
    assert (described["small"]["n"], described["small"]["left_out"], described["small"]["dataset"]) == (2, 3, "local")
    assert described["large"]["questions"] == digest_items(rows[:5]) != digest_items(rows[:4])


def test_metrics_that_are_not_finite_are_recorded_as_text() -> None:
    """A dropped score would let the gate compare the other seeds without a word on the diverged one."""
    loaded = LoadedTask(task=SuiteTask(task="t"), harness={"tasks": {"t": None}}, samples={}, left_out={}, requests=1)
    results = {
        "results": {"t": {"alias": "t", "perplexity,none": math.inf, "acc,strict": 0.5, "acc_stderr,strict": "N/A"}}
    }
    rows = [{"task": "t", "bits_per_byte": None}]
    facts = {"task": "t", "n": 1, "stderr": None, "chance": None}
    records = task_scores(loaded, results, rows)
    assert records == [
        {**facts, "metric": "perplexity", "value": None, "not_finite": "inf"},
        {**facts, "metric": "acc,strict", "value": 0.5},
    ]
    json.dumps(records, allow_nan=False)


def test_a_document_without_bytes_has_no_weight_in_bits_per_byte() -> None:
    """Such a document does not replace total bits per total bytes by a mean over documents."""
    rows = [{BITS: bits / size if size else 0.0, "bits": bits, "bytes": size} for bits, size in ((8.0, 2), (30.0, 30))]
    empty = {BITS: 0.0, "bits": 0.0, "bytes": 0}
    assert _bits_record("t", [*rows, empty])["value"] == pytest.approx(38 / 32)
    assert _bits_record("t", [empty, empty])["value"] == 0.0
