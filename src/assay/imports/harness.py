"""The files that lm-eval's command line writes: `results_<time>.json`, one for each evaluation of a model.

What was asked travels with the scores: the task's version, its few-shot number, and a digest of its templates. A group
(`mmlu`) has those of its subtasks, and as many questions as they have together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from assay.errors import AssayError
from assay.files import read_json
from assay.fingerprint import fingerprint

PATTERN = "results*.json"
PROMPT = (
    *("doc_to_text", "doc_to_target", "doc_to_choice", "description", "target_delimiter", "fewshot_delimiter"),
    *("fewshot_split", "gen_prefix", "output_type"),
)
"""Fields of a task's configuration that decide the text that a model sees."""
PROMPT_DIGITS = 16

Row = dict[str, Any]


def rows_of(path: Path) -> list[Row]:
    """The scores in a file, with the names of a long table's columns.

    Raises:
        AssayError: the file is not whole JSON, or not lm-eval's.
    """
    record = read_json(path)
    if not isinstance(record, Mapping) or not isinstance(record.get("results"), Mapping):
        raise AssayError(
            f"{path}: this JSON is not what lm-eval writes: it has no `results`.",
            fix="Name the folder that `lm_eval --output_path` was given, or a long CSV or Parquet file.",
        )
    if not record["results"]:
        raise AssayError(f"{path}: its `results` are empty.", fix="The evaluation scored no task: run it again.")
    try:
        found = [row for task, values in record["results"].items() for row in _task(record, task, values)]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise AssayError(f"{path}: not laid out as lm-eval does: {type(error).__name__}: {error}.") from None
    if not found:
        raise AssayError(f"{path}: no metric in it is a number.", fix="The evaluation scored nothing: run it again.")
    return found


def parameters_of(path: Path) -> str | None:
    """The model's size, where lm-eval counted it."""
    config = read_json(path).get("config")
    count = config.get("model_num_parameters") if isinstance(config, Mapping) else None
    return str(count) if isinstance(count, int) and count > 0 else None


def _task(record: Mapping[str, Any], task: str, values: Mapping[str, Any]) -> Iterator[Row]:
    asked = {
        "n": _questions(record, task, values),
        "version": _version(record, task),
        "num_fewshot": _first(record.get("n-shot", {}).get(task)),
        "prompt": _prompt(record, task),
    }
    for key, value in values.items():
        metric, _, answer_filter = key.partition(",")
        if not answer_filter or metric.endswith("_stderr") or not _is_number(value):
            continue
        stderr = values.get(f"{metric}_stderr,{answer_filter}")
        yield {
            "task": task,
            "metric": metric if answer_filter == "none" else key,
            "value": float(value),
            "stderr": float(stderr) if _is_number(stderr) else None,
            **asked,
        }


def _questions(record: Mapping[str, Any], task: str, values: Mapping[str, Any]) -> int | None:
    counts = record.get("n-samples", {})
    if task in counts:
        return int(counts[task]["effective"])
    leaves = list(_leaves(record, task))
    if leaves and all(leaf in counts for leaf in leaves):
        return sum(int(counts[leaf]["effective"]) for leaf in leaves)
    return _first(values.get("sample_len"))


def _version(record: Mapping[str, Any], task: str) -> str | None:
    version = record.get("versions", {}).get(task)
    return None if version is None else str(version)


def _prompt(record: Mapping[str, Any], task: str) -> str | None:
    """Digest of the templates; for a group of those of its subtasks."""
    configs = record.get("configs", {})
    whole = {key: record.get(key) for key in ("system_instruction", "chat_template", "fewshot_as_multiturn")}
    names = [task] if task in configs else sorted(_leaves(record, task))
    if not names or any(name not in configs for name in names):
        return None
    return fingerprint("prompt", [_templates(record, configs[name], whole) for name in names])[:PROMPT_DIGITS]


def _templates(record: Mapping[str, Any], config: Mapping[str, Any], whole: Mapping[str, Any]) -> Row:
    shots = _first(config.get("num_fewshot")) or 0
    found: Row = {key: _steady(config.get(key)) for key in PROMPT}
    found["whole"] = {key: _steady(value) for key, value in whole.items()}
    if shots:  # which examples are shown is drawn from this seed
        found["examples"] = [shots, _steady(record.get("config", {}).get("fewshot_seed"))]
    return found


def _leaves(record: Mapping[str, Any], task: str) -> Iterator[str]:
    """The tasks below a group, through groups of groups."""
    below = record.get("group_subtasks", {})
    for name in below.get(task) or ():
        if below.get(name):
            yield from _leaves(record, name)
        else:
            yield name


def _steady(value: Any) -> Any:
    """A template as text; one that is a function was written with its address, which says nothing."""
    if value is None or isinstance(value, (bool, int)):
        return value
    return re.sub(r" at 0x[0-9a-fA-F]+", "", str(value))


def _first(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
