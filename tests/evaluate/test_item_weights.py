"""Items of every metric add up to lm-eval's score, with their weights, or are not kept."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assay.analysis.compare import compare
from assay.analysis.results import _long
from assay.config.metrics import ITEM_METRICS
from assay.config.policy import Criterion, Policy
from assay.config.suite import SuiteTask
from assay.evaluate.items import item_rows
from assay.evaluate.log_filter import capture_harness_log
from assay.evaluate.scores import task_scores
from assay.evaluate.tasks import LoadedTask
from tests.evaluate.conftest import local_task

TEXTS = [
    "The sea.",
    "A long grey morning over the mill, and no one at the water. " * 3,
    "Rosé, and the river rose.",
    "The captain saw nothing at all of the cup, the ball, or the cow. " * 2,
]
PERPLEXITIES = [
    {"metric": name, "aggregation": aggregation, "higher_is_better": False}
    for name, aggregation in (
        ("word_perplexity", "weighted_perplexity"),
        ("byte_perplexity", "weighted_perplexity"),
        ("bits_per_byte", "bits_per_byte"),
    )
]


def documents(name: str = "pages", texts: list[str] | None = None, **config: Any) -> Any:
    rows = [{"text": text, "page": text.replace(" ", "  ")} for text in texts or TEXTS]
    fields = {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"}
    return local_task(rows, task=name, **{**fields, "metric_list": PERPLEXITIES, **config})


def quiz(**config: Any) -> Any:
    rows = [{"q": f"{n} and", "choices": ["cow", "sea", "cup"][: 2 + n % 2], "gold": n % 2} for n in range(6)]
    fields = {"output_type": "multiple_choice", "doc_to_text": "{{q}}", "doc_to_choice": "choices"}
    return local_task(rows, task="quiz", **{**fields, "doc_to_target": "gold", **config})


def score(lm: Any, *tasks: Any, by_size: bool | None = None) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Return the item rows and the score records of tasks, or of a group of them."""
    from lm_eval import evaluator
    from lm_eval.api.group import Group
    from lm_eval.config.group import AggMetricConfig

    leaves = {task.task_name: task for task in tasks}
    harness: dict[str, Any] = {"tasks": leaves}
    if by_size is not None:
        metrics = [AggMetricConfig(metric="bits_per_byte", weight_by_size=by_size)]
        group = Group(name="all", aggregate_metric_list=metrics)
        for task in tasks:
            group.add(task)
        harness |= {"groups": {"all": group}, "group_map": {"all": list(leaves)}}
    with capture_harness_log():
        results = evaluator.evaluate(lm=lm, task_dict=harness, log_samples=True, bootstrap_iters=0)
    loaded = LoadedTask(task=SuiteTask(task="all"), harness=harness, samples={}, left_out={}, requests=1)
    rows = [
        row
        for name, leaf in leaves.items()
        for row in item_rows(
            leaf, name if by_size is None else "all", results["samples"][name], results["results"][name]
        )
    ]
    return pd.DataFrame(rows), task_scores(loaded, results, rows)


def two_arms(rows: pd.DataFrame, scores: list[dict[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make two arms of two seeds, whose documents need the same amount more or fewer bits, from one evaluation."""
    items, table = [], []
    for mix, seed, extra in (("base", 0, 0.0), ("base", 1, 0.02), ("new", 0, -0.05), ("new", 1, -0.02)):
        shifted = rows.assign(bits_per_byte=rows["bits_per_byte"] + extra)
        items.append(_long(shifted).assign(mix=mix, seed=seed))
        table += [
            {**record, "mix": mix, "seed": seed, "value": record["value"] + extra}
            for record in scores
            if record["metric"] == "bits_per_byte"
        ]
    kept = pd.concat(items, ignore_index=True)
    return pd.DataFrame(table), kept[kept["metric"] == "bits_per_byte"]


def policy(task: str) -> Policy:
    primary = (Criterion(task=task, metric="bits_per_byte", better="lower"),)
    return Policy(name="test", primary=primary, guardrails=(), alpha=0.05, min_seeds=2)


def value(scores: list[dict[str, Any]], task: str, metric: str) -> float:
    (record,) = [record for record in scores if (record["task"], record["metric"]) == (task, metric)]
    return float(record["value"])


def test_documents_of_different_lengths_are_weighed_by_their_bytes(lm: Any) -> None:
    rows, scores = score(lm, documents())
    assert rows["bytes"].tolist() == [len(text.encode()) for text in TEXTS]
    expected = value(scores, "pages", "bits_per_byte")
    assert np.average(rows["bits_per_byte"], weights=rows["bytes"]) == pytest.approx(expected)
    assert rows["bits_per_byte"].mean() != pytest.approx(expected, rel=1e-3)
    (c,) = compare(*two_arms(rows, scores)[:1], policy("pages"), baseline="base", items=two_arms(rows, scores)[1])
    assert (c.effect, c.n_items) == (pytest.approx(-0.045), 4)


def original_bytes(doc: dict[str, Any], results: list[float]) -> dict[str, Any]:
    """Score a processed text by the words and bytes of its original, as wikitext does."""
    (loglikelihood,) = results
    words, size = len(doc["page"].split()), len(doc["page"].encode())
    pairs = {"word_perplexity": words, "byte_perplexity": size, "bits_per_byte": size}
    return {metric: (loglikelihood, weight) for metric, weight in pairs.items()}


def test_the_bytes_are_those_that_the_task_counts(lm: Any) -> None:
    rows, scores = score(lm, documents(process_results=original_bytes))
    assert rows["bytes"].tolist() == [len(text.replace(" ", "  ").encode()) for text in TEXTS]
    total = np.average(rows["bits_per_byte"], weights=rows["bytes"])
    assert total == pytest.approx(value(scores, "pages", "bits_per_byte"))


def test_without_a_metric_of_bytes_bits_per_byte_are_over_all_bytes(lm: Any) -> None:
    rows, scores = score(lm, documents(metric_list=PERPLEXITIES[:1]))
    bits = -sum(loglikelihoods[0] for loglikelihoods in rows["loglikelihoods"]) / math.log(2)
    assert value(scores, "pages", "bits_per_byte") == pytest.approx(bits / sum(len(text.encode()) for text in TEXTS))


@pytest.mark.parametrize("by_size", [True, False])
def test_a_group_of_documents_is_compared_with_the_weights_of_the_group(lm: Any, by_size: bool) -> None:
    """lm-eval averages tasks equally or by their number of documents, independent of the documents' lengths."""
    rows, scores = score(
        lm, documents("long"), documents("short", ["A cow.", "The mill and the cup."]), by_size=by_size
    )
    table, items = two_arms(rows, scores)
    comparisons = {c.task: c for c in compare(table, policy("all"), baseline="base", items=items)}
    assert comparisons["all"].effect == pytest.approx(-0.045)
    assert comparisons["all"].n_items == 6
    assert comparisons["all"].item_variance >= 0


def weighted(doc: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, Any]:
    best = max(range(len(results)), key=lambda index: results[index][0])
    return {"acc": (float(best == doc["gold"]), 1 + doc["gold"] * 3)}


def weighted_mean(items: list[tuple[float, float]]) -> float:
    return sum(value * weight for value, weight in items) / sum(weight for _, weight in items)


def test_items_with_weights_of_their_own_are_weighed(lm: Any) -> None:
    metric = {"metric": "acc", "aggregation": weighted_mean, "higher_is_better": True}
    rows, scores = score(lm, quiz(process_results=weighted, metric_list=[metric]))
    assert rows["weight"].tolist() == [1, 4] * 3
    assert np.average(rows["acc"], weights=rows["weight"]) == pytest.approx(value(scores, "quiz", "acc"))
    long = _long(rows)
    assert set(long.loc[long["metric"] == "acc", "weight"]) == {1.0, 4.0}
    assert set(long.loc[long["metric"] == "bits_per_byte", "weight"]) == {1.0}


def best_only(values: list[float]) -> float:
    """An aggregation that no accuracy over six items equals."""
    return max(values) * 0.37 + 0.01


def test_a_score_that_is_no_mean_has_no_items(lm: Any) -> None:
    metric = {"metric": "acc", "aggregation": best_only, "higher_is_better": True}
    rows, scores = score(lm, quiz(metric_list=[metric]))
    assert value(scores, "quiz", "acc") in {0.01, 0.38}
    assert rows["acc"].isna().all()
    assert all("acc" in metrics for metrics in rows["metrics"])


def test_documents_of_evaluations_of_earlier_versions_are_weighed_by_their_text(lm: Any) -> None:
    rows, _ = score(lm, documents())
    earlier = rows.drop(columns=["bits", "bytes"]).assign(bytes=math.nan, acc=math.nan, acc_norm=math.nan)
    assert set(ITEM_METRICS) <= set(earlier)
    assert _long(earlier)["weight"].tolist() == [len(text.encode()) for text in TEXTS]
