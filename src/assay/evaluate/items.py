"""One row a question: what the model gave to each of its choices, so that runs can be compared question by question."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import AssayError

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]


def schema() -> pa.Schema:
    """The columns of `items.parquet`.

    `task` is the leaf task and `group` the suite's name for it where that is a group. `target` is the index of the
    right choice. `loglikelihoods` (nats), `is_greedy` and `choice_bytes` have one entry a choice. `bits` and `bytes`
    are filled for documents of a validation split only. `metrics` has every number that lm-eval gives to the question.
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
            ("metrics", pa.map_(pa.string(), pa.float64())),
        ]
    )


def write_items(path: Path, rows: Sequence[Row]) -> None:
    """Write rows in the order given."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema()), path, compression="zstd")


def item_rows(leaf: Any, group: str, samples: Iterable[dict[str, Any]]) -> list[Row]:
    """The rows of one leaf task, by question.

    Args:
        leaf: lm-eval's task.
        group: the suite's name for what it belongs to.
        samples: what lm-eval logged: a record for each question and each filter of its answers.

    Raises:
        AssayError: a loglikelihood is not finite.
    """
    rows: dict[int, Row] = {}
    for sample in samples:
        if sample["doc_id"] not in rows:
            rows[sample["doc_id"]] = _row(leaf, group, sample)
        rows[sample["doc_id"]]["metrics"] |= _numbers(sample)
    for row in rows.values():
        row["acc"], row["acc_norm"] = row["metrics"].get("acc"), row["metrics"].get("acc_norm")
    return [rows[doc_id] for doc_id in sorted(rows)]


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
        case _:  # a generated text has no loglikelihood; its metrics are all there is
            pass
    _require_finite(row)
    return row


def _choices(leaf: Any, sample: dict[str, Any]) -> Row:
    arguments, answers = sample["arguments"], sample["filtered_resps"]
    if "acc_mutual_info" in sample["metrics"]:  # the second half are the choices without the question
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
    """Index of the right choice, out of the forms in which tasks give it; the first where several are right."""
    # With several inputs (winogrande) the choices stand in the prompt, and the right one is told by `doc_to_text`.
    several = getattr(leaf, "multiple_input", 0)
    right = leaf.doc_to_text(sample["doc"]) if several else sample["target"]
    for candidate in right if isinstance(right, list) else [right]:
        if isinstance(candidate, str):
            texts = leaf.doc_to_choice(sample["doc"]) if leaf.get_config("doc_to_choice") is not None else []
            candidate = texts.index(candidate) if candidate in texts else None  # noqa: PLW2901  # one idea, two forms
        if candidate is not None and 0 <= int(candidate) < choices:
            return int(candidate)
    return None


def _numbers(sample: dict[str, Any]) -> dict[str, float]:
    """A question's metrics that are plain numbers; some are parts from which lm-eval computes one for all questions."""
    suffix = "" if sample["filter"] == "none" else f",{sample['filter']}"
    values = ((name, sample[name]) for name in sample["metrics"])
    return {f"{name}{suffix}": float(value) for name, value in values if _is_number(value)}


def _is_number(value: Any) -> bool:
    import numpy as np

    return isinstance(value, (bool, int, float, np.number, np.bool_))


def _require_finite(row: Row) -> None:
    for value in row.get("loglikelihoods") or ():
        if not math.isfinite(value):
            raise AssayError(
                f"task {row['task']!r}, question {row['doc_id']}: the model gives a loglikelihood of {value}.",
                fix="Its weights are broken; see whether the run diverged.",
            )
