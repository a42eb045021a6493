"""Convert lm-eval's results and item rows to score records for comparisons.

A score that is NaN or infinite, as a diverged run has, is recorded with `value: null` and `not_finite`: JSON has no such numbers.
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from assay.config.metrics import BITS_PER_BYTE as BITS
from assay.config.metrics import WITH_CHANCE_LEVEL
from assay.evaluate.chance import Guesses, guesses_of_group, guesses_of_task
from assay.evaluate.items import Row, total_bits_per_byte
from assay.evaluate.tasks import LoadedTask

NOT_FINITE = "not_finite"
"""Key of a score that is `nan`, `inf` or `-inf`."""

Record = dict[str, Any]
"""A score (task, metric, value, n, stderr, chance), or the description of a task."""


def task_scores(loaded: LoadedTask, results: dict[str, Any], rows: Sequence[Row]) -> list[Record]:
    """Collect the scores of a suite task: lm-eval's groups first, then the leaf tasks.

    Values and standard errors are lm-eval's. The function adds `bits_per_byte` of the correct choice, which is the task
    loss of Bhagia et al. (2024, arXiv:2412.04403). It is the mean over items of -loglikelihood / ln 2 / bytes, with the
    standard error of a mean. A group aggregates `bits_per_byte` like accuracy.

    Args:
        loaded: the task.
        results: the result of lm-eval's `evaluate`.
        rows: the task's items.
    """
    values = results["results"]
    guesses = {
        name: _chance_levels(leaf, results.get("samples", {}).get(name, ()), values[name], loaded.task.chance)
        for name, leaf in loaded.leaves.items()
    }
    leaves = {name: _leaf_scores(name, values[name], rows, guesses[name]) for name in loaded.leaves}
    groups = [
        _group_scores(group, values[name], _members(group, leaves), guesses)
        for name, group in loaded.groups.items()
        if group.has_aggregation
    ]
    return [record for records in (*groups, *leaves.values()) for record in records]


def split_score(task: str, rows: Sequence[Row]) -> Record:
    """Compute bits per byte of a validation split: total bits divided by total bytes.

    The standard error is that of a ratio estimator over documents (Cochran, "Sampling Techniques", 1977, 6.3).
    """
    size, n, ratio = sum(row["bytes"] for row in rows), len(rows), total_bits_per_byte(rows)
    residuals = math.fsum((row["bits"] - ratio * row["bytes"]) ** 2 for row in rows)
    stderr = math.sqrt(residuals * n / (n - 1)) / size if n > 1 else None
    return _record(task, BITS, ratio, n=n, stderr=stderr)


def describe(loaded: LoadedTask, results: dict[str, Any], rows: Sequence[Row], *, truncated: int) -> dict[str, Record]:
    """Describe each task: version, few-shot examples, data set, number of items.

    The number of items is given in total, and for omitted items.

    Args:
        loaded: the task.
        results: the result of lm-eval's `evaluate`.
        rows: the task's items.
        truncated: number of inputs that lost their beginning because they exceed the model's context.
    """
    described: dict[str, Record] = {}
    for name, leaf in loaded.leaves.items():
        items = [row for row in rows if row["task"] == name]
        described[name] = {
            "version": _plain(results["versions"].get(name)),
            "num_fewshot": loaded.task.num_fewshot,
            "n": len(items),
            "of": len(leaf.eval_docs),
            "left_out": loaded.left_out.get(name, 0),
            "dataset": "/".join(str(part) for part in (leaf.DATASET_PATH, leaf.DATASET_NAME) if part),
            "questions": digest_items(items),
        }
    for name, group in loaded.groups.items():
        below = [described[leaf.task_name] for leaf in group.get_all_tasks()]
        described[name] = {
            "version": _plain(results["versions"].get(name)),
            "num_fewshot": loaded.task.num_fewshot,
            **{count: sum(entry[count] for entry in below) for count in ("n", "of", "left_out")},
            "dataset": None,
            "questions": None,
        }
    if loaded.task.task in described:
        described[loaded.task.task]["truncated"] = truncated
    return described


def digest_items(rows: Iterable[Row]) -> str:
    """Compute the SHA-256 of all items with their prompts. Equal items give equal digests."""
    text = "\n".join(f"{row['doc_hash']} {row['prompt_hash']}" for row in rows)
    return hashlib.sha256(text.encode()).hexdigest()


def _leaf_scores(
    task: str, values: dict[str, Any], rows: Sequence[Row], guesses: Mapping[str, Guesses]
) -> list[Record]:
    items = [row for row in rows if row["task"] == task]
    records = _harness_records(task, values, n=len(items))
    bits = [row[BITS] for row in items if row.get(BITS) is not None]
    if items and len(bits) == len(items) and not any(record["metric"] == BITS for record in records):
        records.append(_bits_record(task, items))
    return [
        {**record, "chance": guesses[record["metric"]].level} if record["metric"] in guesses else record
        for record in records
    ]


def _members(group: Any, leaves: Mapping[str, list[Record]]) -> dict[str, list[Record]]:
    return {leaf.task_name: leaves[leaf.task_name] for leaf in group.get_all_tasks()}


def _bits_record(task: str, items: Sequence[Row]) -> Record:
    """Compute bits per byte: total bits divided by total bytes for documents, and the mean over items for choices.

    A document of 0 bytes has weight 0. Without any byte, the mean over items remains.
    """
    if all(row.get("bytes") is not None for row in items) and any(row["bytes"] for row in items):
        return split_score(task, items)
    bits = [row[BITS] for row in items]
    stderr = statistics.stdev(bits) / math.sqrt(len(bits)) if len(bits) > 1 else None
    return _record(task, BITS, math.fsum(bits) / len(bits), n=len(bits), stderr=stderr)


def _chance_levels(leaf: Any, samples: Any, values: Mapping[str, Any], declared: float | None) -> dict[str, Guesses]:
    """Return the chance levels of a task's accuracies. A level that the suite declares replaces all of them."""
    metrics = {key.removesuffix(",none") for key in values} & WITH_CHANCE_LEVEL
    if not metrics or declared is None:
        return guesses_of_task(leaf, samples) if metrics else {}
    return {metric: Guesses(uniform=declared) for metric in metrics}


def _group_scores(
    group: Any,
    values: dict[str, Any],
    leaves: Mapping[str, list[Record]],
    guesses: Mapping[str, Mapping[str, Guesses]],
) -> list[Record]:
    """Return the scores of a group. Average bits per byte and chance levels like the group's first metric."""
    by_size = {config.metric: config.weight_by_size for config in group.aggregate_metric_list}
    first = group.aggregate_metric_list[0].weight_by_size
    records = _harness_records(group.name, values, n=sum(leaf[0]["n"] for leaf in leaves.values() if leaf))
    bits = _of_metric(leaves.values(), BITS)
    if bits and len(bits) == len(leaves) and not any(record["metric"] == BITS for record in records):
        records.append(_aggregate(group.name, bits, by_size=first))
    for record in records:
        metric = record["metric"]
        if metric in WITH_CHANCE_LEVEL:
            sizes = {part["task"]: part["n"] for part in _of_metric(leaves.values(), metric)}
            parts = [guesses[task].get(metric) for task in sizes]
            known = [part for part in parts if part is not None]
            if known and len(known) == len(parts):
                weights = [size if by_size.get(metric, first) else 1 for size in sizes.values()]
                record["chance"] = guesses_of_group(known, weights).level
    return records


def _of_metric(leaves: Iterable[list[Record]], metric: str) -> list[Record]:
    return [record for leaf in leaves for record in leaf if record["metric"] == metric]


def _aggregate(task: str, parts: Sequence[Record], *, by_size: bool) -> Record:
    """Average over tasks with lm-eval's formulas for means and their standard errors."""
    from lm_eval.api.metrics import aggregate_subtask_metrics, pooled_sample_stderr, unweighted_mean_stderr

    values = [float(part[NOT_FINITE]) if NOT_FINITE in part else part["value"] for part in parts]
    sizes = [part["n"] for part in parts]
    stderrs = [part["stderr"] for part in parts]
    stderr = None
    if None not in stderrs:
        stderr = float(pooled_sample_stderr(stderrs, sizes) if by_size else unweighted_mean_stderr(stderrs))
    value = float(aggregate_subtask_metrics(values, sizes, by_size))
    return _record(task, BITS, value, n=sum(sizes), stderr=stderr)


def _harness_records(task: str, values: dict[str, Any], *, n: int) -> list[Record]:
    """Return lm-eval's metrics of a task or group."""
    records = []
    for key, value in values.items():
        metric, _, answer_filter = key.partition(",")
        if not answer_filter or metric.endswith("_stderr") or not _is_number(value):
            continue
        stderr = values.get(f"{metric}_stderr,{answer_filter}")
        name = metric if answer_filter == "none" else key
        records.append(_record(task, name, float(value), n=n, stderr=_number(stderr)))
    return records


def _record(task: str, metric: str, value: float, *, n: int, stderr: float | None) -> Record:
    record = {"task": task, "metric": metric, "value": value, "n": n, "stderr": stderr, "chance": None}
    return record if math.isfinite(value) else {**record, "value": None, NOT_FINITE: str(value)}


def _number(value: Any) -> float | None:
    return float(value) if _is_number(value) and math.isfinite(float(value)) else None


def _is_number(value: Any) -> bool:
    import numpy as np

    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (int, float, str)) else str(value)
