"""Small result files of other tools."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HEADER = "mix,seed,scale,tokens,task,metric,value,n,stderr"

_TEMPLATES = {
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_target": "{{choices.label.index(answerKey)}}",
    "doc_to_choice": "{{choices.text}}",
    "description": "",
    "target_delimiter": " ",
    "fewshot_delimiter": "\n\n",
    "num_fewshot": 0,
    "output_type": "multiple_choice",
    "metadata": {"version": 1.0},
}
# Output of `lm_eval run --model dummy --tasks arc_easy,mmlu_stem --limit 5 --output_path out` of lm-eval 0.4.13, reduced
# to two of mmlu_stem's subjects and the fields that assay reads.
_RECORD: dict[str, Any] = {
    "results": {
        "arc_easy": {
            "name": "arc_easy", "alias": "arc_easy", "sample_len": 5, "acc,none": 0.8,
            "acc_stderr,none": 0.19999999999999998, "acc_norm,none": 0.6, "acc_norm_stderr,none": "N/A",
        },
        "mmlu_stem": {"name": "mmlu_stem", "alias": "stem", "sample_len": 4, "acc,none": 0.25, "acc_stderr,none": 0.1},
        "mmlu_anatomy": {"name": "mmlu_anatomy", "alias": " - anatomy", "sample_len": 2, "acc,none": 0.5, "acc_stderr,none": 0.5},
        "mmlu_astronomy": {"name": "mmlu_astronomy", "alias": " - astronomy", "sample_len": 2, "acc,none": 0.0, "acc_stderr,none": 0.0},
    },
    "groups": {"mmlu_stem": {"acc,none": 0.25, "acc_stderr,none": 0.1}},
    "group_subtasks": {"mmlu_stem": ["mmlu_anatomy", "mmlu_astronomy"]},
    "configs": {name: {"task": name, **_TEMPLATES} for name in ("arc_easy", "mmlu_anatomy", "mmlu_astronomy")},
    "versions": {"arc_easy": 1.0, "mmlu_stem": 2, "mmlu_anatomy": 1.0, "mmlu_astronomy": 1.0},
    "n-shot": {"arc_easy": 0, "mmlu_stem": 0, "mmlu_anatomy": 0, "mmlu_astronomy": 0},
    "higher_is_better": {"arc_easy": {"acc": True, "acc_norm": True}},
    "n-samples": {
        "arc_easy": {"original": 2376, "effective": 5},
        "mmlu_anatomy": {"original": 135, "effective": 2},
        "mmlu_astronomy": {"original": 152, "effective": 2},
    },
    "config": {"model": "hf", "model_args": {"pretrained": "m"}, "model_num_parameters": 151898880, "limit": 5.0, "fewshot_seed": 1234},
    "lm_eval_version": "0.4.13", "task_hashes": {}, "model_name": "m", "model_name_sanitized": "m",
    "system_instruction": None, "chat_template": None, "fewshot_as_multiturn": None,
}  # fmt: skip


def harness_record(
    *,
    acc: float = 0.8,
    version: Any = 1.0,
    text: Any = None,
    shots: int = 0,
    parameters: int | None = 151898880,
    fewshot_seed: int = 1234,
) -> dict[str, Any]:
    """Return lm-eval's results of one model, with changes to arc_easy."""
    record = copy.deepcopy(_RECORD)
    record["results"]["arc_easy"]["acc,none"] = acc
    record["versions"]["arc_easy"] = version
    record["n-shot"]["arc_easy"] = record["configs"]["arc_easy"]["num_fewshot"] = shots
    record["config"] |= {"model_num_parameters": parameters, "fewshot_seed": fewshot_seed}
    if text is not None:
        record["configs"]["arc_easy"]["doc_to_text"] = text
    return record


def table(
    means: Mapping[str, float],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    scale: str = "150M",
    tokens: str = "3e9",
    task: str = "arc_easy",
    metric: str = "acc",
) -> str:
    """Return the rows of a long CSV without the header, from each mix's mean.

    Each run has its own offset, so that paired differences have noise.
    """
    rows = []
    for at, (mix, mean) in enumerate(means.items()):
        for seed in seeds:
            value = mean + 0.001 * seed + 0.0005 * ((seed * 7 + at * 3) % 5)
            rows.append(f"{mix},{seed},{scale},{tokens},{task},{metric},{value:.6f},1000,0.01")
    return "\n".join(rows) + "\n"


def write(path: Path, text: str) -> Path:
    """Write a text file and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
