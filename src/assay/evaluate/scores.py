"""From lm-eval's results and our questions to the records that comparing reads."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from assay.evaluate.items import Row
from assay.evaluate.questions import LoadedTask

ACCURACIES = frozenset({"acc", "acc_norm", "acc_bytes", "acc_mutual_info"})
"""Metrics that guessing scores on."""
BITS = "bits_per_byte"

Record = dict[str, Any]
"""A score: task, metric, value, n, stderr, chance."""


def task_scores(loaded: LoadedTask, results: dict[str, Any], rows: Sequence[Row]) -> list[Record]:
    """The scores of one task of the suite: its groups as lm-eval aggregates them, then its leaf tasks.

    Values are lm-eval's own, and so are their standard errors. Added to them is `bits_per_byte` of the right choice
    (the task loss of Bhagia et al., 2024, arXiv:2412.04403): the mean over questions of -loglikelihood / ln 2 / bytes,
    with the standard error of a mean; a group aggregates it as it does accuracy.

    Args:
        loaded: the task.
        results: what lm-eval's `evaluate` gave.
        rows: its questions.
    """
    values = results["results"]
    leaves = {name: _leaf_scores(name, values[name], rows, loaded.task.chance) for name in loaded.leaves}
    groups = [
        _group_scores(group, values[name], [leaves[leaf.task_name] for leaf in group.get_all_tasks()])
        for name, group in loaded.groups.items()
        if group.has_aggregation
    ]
    return [record for records in (*groups, *leaves.values()) for record in records]


def split_score(task: str, rows: Sequence[Row]) -> Record:
    """Bits per byte of a validation split: all bits over all bytes.

    The standard error is that of a ratio estimator over documents (Cochran, "Sampling Techniques", 1977, 6.3).
    """
    bits, size, n = math.fsum(row["bits"] for row in rows), sum(row["bytes"] for row in rows), len(rows)
    ratio = bits / size
    residuals = math.fsum((row["bits"] - ratio * row["bytes"]) ** 2 for row in rows)
    stderr = math.sqrt(residuals * n / (n - 1)) / size if n > 1 else None
    return _record(task, BITS, ratio, n=n, stderr=stderr)


def describe(loaded: LoadedTask, results: dict[str, Any], rows: Sequence[Row], *, truncated: int) -> dict[str, Record]:
    """What was asked, by task: version, solved examples, questions and data set, and what did not fit.

    Args:
        loaded: the task.
        results: what lm-eval gave.
        rows: its questions.
        truncated: inputs of the whole task that lost their beginning, since the model's context is too short.
    """
    described: dict[str, Record] = {}
    for name, leaf in loaded.leaves.items():
        asked = [row for row in rows if row["task"] == name]
        described[name] = {
            "version": _plain(results["versions"].get(name)),
            "num_fewshot": loaded.task.num_fewshot,
            "n": len(asked),
            "of": len(leaf.eval_docs),
            "left_out": loaded.left_out.get(name, 0),
            "dataset": "/".join(str(part) for part in (leaf.DATASET_PATH, leaf.DATASET_NAME) if part),
            "questions": digest(asked),
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


def digest(rows: Iterable[Row]) -> str:
    """SHA-256 over the questions as they were asked: equal where two evaluations asked the same."""
    text = "\n".join(f"{row['doc_hash']} {row['prompt_hash']}" for row in rows)
    return hashlib.sha256(text.encode()).hexdigest()


def _leaf_scores(task: str, values: dict[str, Any], rows: Sequence[Row], chance: float | None) -> list[Record]:
    asked = [row for row in rows if row["task"] == task]
    records = _harness_records(task, values, n=len(asked))
    bits = [row[BITS] for row in asked if row.get(BITS) is not None]
    if len(bits) == len(asked) and not any(record["metric"] == BITS for record in records):
        stderr = statistics.stdev(bits) / math.sqrt(len(bits)) if len(bits) > 1 else None
        records.append(_record(task, BITS, math.fsum(bits) / len(bits), n=len(bits), stderr=stderr))
    guess = _guess(asked) if chance is None else chance
    return [{**record, "chance": guess} if record["metric"] in ACCURACIES else record for record in records]


def _group_scores(group: Any, values: dict[str, Any], leaves: Sequence[list[Record]]) -> list[Record]:
    by_size = group.aggregate_metric_list[0].weight_by_size
    records = _harness_records(group.name, values, n=sum(leaf[0]["n"] for leaf in leaves if leaf))
    bits = _of_metric(leaves, BITS)
    if len(bits) == len(leaves) and not any(record["metric"] == BITS for record in records):
        records.append(_aggregate(group.name, bits, by_size=by_size))
    for record in records:
        if record["metric"] in ACCURACIES:
            record["chance"] = _mean_guess(_of_metric(leaves, record["metric"]), by_size=by_size)
    return records


def _mean_guess(parts: Sequence[Record], *, by_size: bool) -> float | None:
    weights = [part["n"] if by_size else 1 for part in parts]
    if any(part["chance"] is None for part in parts):
        return None
    return math.fsum(part["chance"] * weight for part, weight in zip(parts, weights, strict=True)) / sum(weights)


def _of_metric(leaves: Iterable[list[Record]], metric: str) -> list[Record]:
    return [record for leaf in leaves for record in leaf if record["metric"] == metric]


def _aggregate(task: str, parts: Sequence[Record], *, by_size: bool) -> Record:
    """A mean over tasks with lm-eval's own formulas for means and their standard errors."""
    from lm_eval.api.metrics import aggregate_subtask_metrics, pooled_sample_stderr, unweighted_mean_stderr

    values, sizes = [part["value"] for part in parts], [part["n"] for part in parts]
    stderrs = [part["stderr"] for part in parts]
    stderr = None
    if None not in stderrs:
        stderr = float(pooled_sample_stderr(stderrs, sizes) if by_size else unweighted_mean_stderr(stderrs))
    value = float(aggregate_subtask_metrics(values, sizes, by_size))
    return _record(task, BITS, value, n=sum(sizes), stderr=stderr)


def _harness_records(task: str, values: dict[str, Any], *, n: int) -> list[Record]:
    """lm-eval's metrics of one task or group; one that is no finite number for these answers is left out."""
    records = []
    for key, value in values.items():
        metric, _, answer_filter = key.partition(",")
        if not answer_filter or metric.endswith("_stderr") or not _finite(value):
            continue
        stderr = values.get(f"{metric}_stderr,{answer_filter}")
        name = metric if answer_filter == "none" else key
        records.append(_record(task, name, float(value), n=n, stderr=_number(stderr)))
    return records


def _record(task: str, metric: str, value: float, *, n: int, stderr: float | None) -> Record:
    return {"task": task, "metric": metric, "value": value, "n": n, "stderr": stderr, "chance": None}


def _guess(rows: Sequence[Row]) -> float | None:
    """Expected accuracy of guessing; ``None`` where there are no choices to guess among."""
    choices = [row.get("choices") or 0 for row in rows]
    return math.fsum(1 / count for count in choices) / len(choices) if min(choices) > 1 else None


def _number(value: Any) -> float | None:
    return float(value) if _finite(value) else None


def _finite(value: Any) -> bool:
    import numpy as np

    return isinstance(value, (int, float, np.number)) and math.isfinite(float(value))


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (int, float, str)) else str(value)
