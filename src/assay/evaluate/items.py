"""Write one row per item with the loglikelihood of each choice.

Comparisons use the rows to compare runs item by item.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.config.metrics import BITS_PER_BYTE
from assay.core.errors import Damaged
from assay.evaluate.chance import correct_choices
from assay.evaluate.item_weights import as_number, pair, weighted_items

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]


def schema() -> pa.Schema:
    """Return the columns of `items.parquet`.

    `task` is the leaf task, and `group` the suite's group that contains it (or the task). `target` is the index of the
    correct choice. `loglikelihoods` (nats), `is_greedy` and `choice_bytes` have one entry per choice. Only documents
    whose whole text is predicted have `bits` and `bytes`, which weigh their `bits_per_byte`. `weight` weighs `acc` and
    `acc_norm` (1 if null). `metrics` has all numbers that lm-eval reports for the item.
    """
    import pyarrow as pa

    return pa.schema(
        [
            ("task", pa.string()),
            ("group", pa.string()),
            ("doc_id", pa.int64()),
            ("doc_hash", pa.string()),
            ("prompt_hash", pa.string()),
            ("target", pa.int32()),
            ("choices", pa.int32()),
            ("loglikelihoods", pa.list_(pa.float64())),
            ("is_greedy", pa.list_(pa.bool_())),
            ("choice_bytes", pa.list_(pa.int32())),
            ("acc", pa.float64()),
            ("acc_norm", pa.float64()),
            ("bits_per_byte", pa.float64()),
            ("bits", pa.float64()),
            ("bytes", pa.int64()),
            ("weight", pa.float64()),
            ("metrics", pa.map_(pa.string(), pa.float64())),
        ]
    )


def write_items(path: Path, rows: Sequence[Row]) -> None:
    """Write rows in the given order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema()), path, compression="zstd")


def item_rows(
    leaf: Any, group: str, samples: Iterable[dict[str, Any]], scores: Mapping[str, Any] | None = None
) -> list[Row]:
    """Collect the rows of a leaf task, in order of item.

    Values of `acc`, `acc_norm` and `bits_per_byte` are kept only where their weighted mean is the task's score. A score
    with another aggregation, such as the mean over classes, has no items.

    Args:
        leaf: lm-eval's task.
        group: the suite's name for the task or its group.
        samples: lm-eval's log: a record for each item and each filter of its responses.
        scores: lm-eval's scores of the task, such as `acc,none` (default: they are the means of the items).

    Raises:
        AssayError: a loglikelihood is not finite.
    """
    rows: dict[int, Row] = {}
    logged: dict[int, dict[str, Any]] = {}
    for sample in samples:
        number = sample["doc_id"]
        if number not in rows:
            rows[number] = _row(leaf, group, sample)
        rows[number]["metrics"] |= _numbers(sample)
        if sample["filter"] == "none":
            logged[number] = {name: sample[name] for name in sample["metrics"]}
    ordered = [rows[doc_id] for doc_id in sorted(rows)]
    entries = [logged.get(doc_id, {}) for doc_id in sorted(rows)]
    _add_accuracies(ordered, entries, scores)
    if leaf.OUTPUT_TYPE == "loglikelihood_rolling":
        _weigh_by_bytes(ordered, entries, scores)
    return ordered


def _add_accuracies(rows: Sequence[Row], logged: Sequence[Mapping[str, Any]], scores: Mapping[str, Any] | None) -> None:
    """Add the accuracies of items, and their weights if they are not 1, where they reproduce the task's score."""
    for metric in ("acc", "acc_norm"):
        score = None if scores is None else as_number(scores.get(f"{metric},none"))
        for row in rows:
            row[metric] = row["metrics"].get(metric) if score is None else None
        if score is None:
            continue
        scored = [row for row, entry in zip(rows, logged, strict=True) if metric in entry]
        items = weighted_items([entry[metric] for entry in logged if metric in entry], score)
        if items is None or any(
            row.get("weight", weight) != weight for row, weight in zip(scored, items.weights, strict=True)
        ):
            continue  # one weight serves both accuracies
        for row, value, weight in zip(scored, items.values, items.weights, strict=True):
            row[metric] = value
            if set(items.weights) != {1.0}:
                row["weight"] = weight


def _weigh_by_bytes(rows: Sequence[Row], logged: Sequence[Mapping[str, Any]], scores: Mapping[str, Any] | None) -> None:
    """Add the bits and bytes of documents; lm-eval may count the bytes of an original text before its processing."""
    for row, entry in zip(rows, logged, strict=True):
        counted = pair(entry.get(BITS_PER_BYTE)) or pair(entry.get("byte_perplexity"))
        size = int(counted[1]) if counted is not None else row["choice_bytes"][0]
        bits = -row["loglikelihoods"][0] / math.log(2)
        row |= {"bits": bits, "bytes": size, BITS_PER_BYTE: bits / size if size else 0.0}
    score = None if scores is None else as_number(scores.get(f"{BITS_PER_BYTE},none"))
    if score is not None and not math.isclose(total_bits_per_byte(rows), score, rel_tol=1e-6, abs_tol=1e-9):
        for row in rows:
            row |= {"bits": None, "bytes": None, BITS_PER_BYTE: None}


def total_bits_per_byte(rows: Sequence[Row]) -> float:
    """Return the sum of bits divided by the sum of bytes; NaN without any byte."""
    size = sum(row["bytes"] for row in rows)
    return math.fsum(row["bits"] for row in rows) / size if size else math.nan


def _row(leaf: Any, group: str, sample: dict[str, Any]) -> Row:
    row: Row = {
        "task": leaf.task_name,
        "group": group,
        "doc_id": sample["doc_id"],
        "doc_hash": sample["doc_hash"],
        "prompt_hash": sample["prompt_hash"],
        "metrics": {},
    }
    match leaf.OUTPUT_TYPE:
        case "multiple_choice" | "loglikelihood":
            row |= _choices(leaf, sample)
        case "loglikelihood_rolling":
            size = len(sample["arguments"][0][0].encode())
            row |= _scored([(sample["filtered_resps"][0], False)], [size], target=0) | {"is_greedy": None}
        case _:  # generated text has metrics, but no loglikelihood
            pass
    _require_finite(row)
    return row


def _choices(leaf: Any, sample: dict[str, Any]) -> Row:
    arguments, answers = sample["arguments"], sample["filtered_resps"]
    if "acc_mutual_info" in sample["metrics"]:  # the second half of the answers are the choices without their prompt
        arguments, answers = arguments[: len(arguments) // 2], answers[: len(answers) // 2]
    delimiter = leaf.get_config("target_delimiter") or ""
    sizes = [len(argument[1].removeprefix(delimiter).encode()) for argument in arguments]
    target = 0 if leaf.OUTPUT_TYPE == "loglikelihood" else _target(leaf, sample, len(arguments))
    return _scored(answers, sizes, target=target)


def _scored(answers: Sequence[tuple[float, bool]], sizes: Sequence[int], *, target: int | None) -> Row:
    bits_per_byte = None
    if target is not None and sizes[target]:
        bits_per_byte = -float(answers[target][0]) / math.log(2) / sizes[target]
    return {
        "target": target,
        "choices": len(sizes),
        "loglikelihoods": [float(answer[0]) for answer in answers],
        "is_greedy": [bool(answer[1]) for answer in answers],
        "choice_bytes": list(sizes),
        "bits_per_byte": bits_per_byte,
    }


def _target(leaf: Any, sample: dict[str, Any], choices: int) -> int | None:
    """Return the index of the correct choice (the first of several), or None."""
    return next(iter(correct_choices(leaf, sample, choices)), None)


def _numbers(sample: dict[str, Any]) -> dict[str, float]:
    """Return the numeric metrics of an item. lm-eval aggregates other values over all items."""
    suffix = "" if sample["filter"] == "none" else f",{sample['filter']}"
    values = ((name, as_number(sample[name])) for name in sample["metrics"])
    return {f"{name}{suffix}": value for name, value in values if value is not None}


def _require_finite(row: Row) -> None:
    for value in row.get("loglikelihoods") or ():
        if not math.isfinite(value):
            raise Damaged(
                f"task {row['task']!r}, item {row['doc_id']}: loglikelihood {value} is invalid; expected a finite number.",
                fix="Check whether the run diverged. Its weights may not be finite.",
            )
