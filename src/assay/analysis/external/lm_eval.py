"""Read the files of lm-eval's command line: one `results_<time>.json` per evaluation of a model.

Each score has its evaluation settings: the version of the task, the number of few-shot examples, and a digest of the
templates. A task group (`mmlu`) has the settings of its subtasks, and the sum of their item counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from assay.analysis.external.table import finite_or_none, score_of
from assay.core.errors import Damaged
from assay.core.files import read_json
from assay.core.fingerprint import fingerprint

PATTERN = "results*.json"
PROMPT = (
    *("doc_to_text", "doc_to_target", "doc_to_choice", "description", "target_delimiter", "fewshot_delimiter"),
    *("fewshot_split", "gen_prefix", "output_type"),
)
"""Fields of a task's configuration that determine the prompt."""
PROMPT_DIGITS = 16

Row = dict[str, Any]


def rows_of(path: Path) -> list[Row]:
    """Read the scores of a file, with the column names of a long table; a score may be NaN or infinite.

    Raises:
        AssayError: the file is not valid JSON, or lm-eval did not write the file.
    """
    record = read_json(path)
    if not isinstance(record, Mapping) or not isinstance(record.get("results"), Mapping):
        raise Damaged(
            f"{path}: this JSON is not from lm-eval; expected a key `results`.",
            fix="Pass the folder of `lm_eval --output_path`, or a long CSV or Parquet file.",
        )
    if not record["results"]:
        raise Damaged(f"{path}: `results` is empty; expected at least one task.", fix="Run the evaluation again.")
    try:
        rows = [row for task, values in record["results"].items() for row in _task(record, task, values)]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Damaged(
            f"{path}: the file does not have lm-eval's layout: {type(error).__name__}: {error}.",
            fix="Run the evaluation again with `lm_eval --output_path`.",
        ) from None
    if not rows:
        raise Damaged(f"{path}: no metric has a numeric value; expected at least one.", fix="Run the evaluation again.")
    return rows


def parameters_of(path: Path) -> str | None:
    """Return the model's number of parameters, if the file of lm-eval contains this number."""
    config = read_json(path).get("config")
    count = config.get("model_num_parameters") if isinstance(config, Mapping) else None
    return str(count) if isinstance(count, int) and count > 0 else None


def _task(record: Mapping[str, Any], task: str, values: Mapping[str, Any]) -> Iterator[Row]:
    settings = {
        "n": _item_count(record, task, values),
        "version": _version(record, task),
        "num_fewshot": _as_int(record.get("n-shot", {}).get(task)),
        "prompt": _prompt(record, task),
    }
    for key, value in values.items():
        metric, _, answer_filter = key.partition(",")
        score = score_of(value)
        if not answer_filter or metric.endswith("_stderr") or score is None:
            continue
        stderr = score_of(values.get(f"{metric}_stderr,{answer_filter}"))
        yield {
            "task": task,
            "metric": metric if answer_filter == "none" else key,
            "value": score,
            "stderr": finite_or_none(stderr),
            **settings,
        }


def _item_count(record: Mapping[str, Any], task: str, values: Mapping[str, Any]) -> int | None:
    counts = record.get("n-samples", {})
    if task in counts:
        return int(counts[task]["effective"])
    leaves = list(_leaves(record, task))
    if leaves and all(leaf in counts for leaf in leaves):
        return sum(int(counts[leaf]["effective"]) for leaf in leaves)
    return _as_int(values.get("sample_len"))


def _version(record: Mapping[str, Any], task: str) -> str | None:
    version = record.get("versions", {}).get(task)
    return None if version is None else str(version)


def _prompt(record: Mapping[str, Any], task: str) -> str | None:
    """Return the digest of the templates of a task, or of all subtasks of a group."""
    configs = record.get("configs", {})
    whole = {key: record.get(key) for key in ("system_instruction", "chat_template", "fewshot_as_multiturn")}
    names = [task] if task in configs else sorted(_leaves(record, task))
    if not names or any(name not in configs for name in names):
        return None
    return fingerprint("prompt", [_templates(record, configs[name], whole) for name in names])[:PROMPT_DIGITS]


def _templates(record: Mapping[str, Any], config: Mapping[str, Any], whole: Mapping[str, Any]) -> Row:
    shots = _as_int(config.get("num_fewshot")) or 0
    settings: Row = {key: _steady(config.get(key)) for key in PROMPT}
    settings["whole"] = {key: _steady(value) for key, value in whole.items()}
    if shots:  # the few-shot examples are drawn with this seed
        settings["examples"] = [shots, _steady(record.get("config", {}).get("fewshot_seed"))]
    return settings


def _leaves(record: Mapping[str, Any], task: str) -> Iterator[str]:
    """Yield the tasks of a group, recursively."""
    below = record.get("group_subtasks", {})
    for name in below.get(task) or ():
        if below.get(name):
            yield from _leaves(record, name)
        else:
            yield name


def _steady(value: Any) -> Any:
    """Return a template as text, without the memory address in the text of a function."""
    if value is None or isinstance(value, (bool, int)):
        return value
    return re.sub(r" at 0x[0-9a-fA-F]+", "", str(value))


def _as_int(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
