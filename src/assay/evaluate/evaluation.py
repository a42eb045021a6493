"""Evaluate the weights of a run, and write `scores.json` and `items.parquet`."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.config.suite import VALIDATION
from assay.core.errors import AssayError, Damaged, NotFound, Refused
from assay.core.files import write_json
from assay.core.serde import to_mapping
from assay.evaluate.log_filter import HarnessLog, capture_harness_log
from assay.evaluate.offline import fresh_items, use_mirror
from assay.evaluate.reuse import TaskResults, remaining, reusable_parts
from assay.evaluate.task_check import harness_version
from assay.evaluate.task_folder import TaskFolder, digest_task_folder
from assay.evaluate.task_identity import FILES, require_planned_data

if TYPE_CHECKING:
    from assay.config.suite import EvaluationSpec
    from assay.evaluate.heldout import HeldOutDocument
    from assay.evaluate.items import Row
    from assay.evaluate.scores import Record
    from assay.evaluate.tasks import LoadedTask
    from assay.store.evaluations import WeightsDirectory

log = logging.getLogger(__name__)

ReportProgress = Callable[[str, float], None]
"""Function that receives the current activity and the completed fraction, from 0 to 1."""

BOOTSTRAPS = 1000
"""Bootstrap samples for metrics without a formula for the standard error, such as F1. The lm-eval CLI uses 100,000."""
_REPORT_SECONDS = 0.5
"""Minimum seconds between two progress reports."""


@dataclass(kw_only=True)
class Outcome:
    """Scores, item rows and task descriptions of an evaluation."""

    scores: list[Record] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    tasks: dict[str, Record] = field(default_factory=dict)
    parts: dict[str, list[str]] = field(default_factory=dict)
    """Names of the scores and items of each suite task and each split. Later evaluations reuse results by these
    names."""

    def add(self, name: str, part: TaskResults) -> None:
        """Add the results of a task of the suite, or of a split."""
        self.scores += part.scores
        self.rows += part.rows
        self.tasks |= part.tasks
        self.parts[name] = list(part.tasks)


def evaluate(
    record: WeightsDirectory,
    spec: EvaluationSpec,
    corpora: Mapping[str, Path],
    *,
    mirror: Path | None,
    include_path: Path | None = None,
    root: Path | None = None,
    device: str = "auto",
    progress: ReportProgress | None = None,
) -> None:
    """Score weights and write the evaluation next to the weights, unless the evaluation exists.

    Scores equal those of lm-eval's command line for the same model, tasks, number of few-shot examples, batch size and
    items. Each task of the suite is scored alone. The last digits of its loglikelihoods therefore do not depend on the
    other tasks.

    Args:
        record: the run, for its final weights, or an intermediate checkpoint. Its model must exist.
        spec: the tasks and splits to measure.
        corpora: folder of each source's corpus, for the sources in `spec.validation`.
        mirror: local mirror of the benchmarks; `None` takes them from the hub.
        include_path: folder of the team's own task definitions, whose digest is `spec.task_files`.
        root: project root, from which relative data files of own tasks start (default: the working directory).
        device: `auto` (a GPU if the machine has one), or a torch device.
        progress: called at most twice per second.

    Raises:
        AssayError: the model is incomplete; the installed lm-eval differs from the spec's version; a task is unknown or
            its items cannot be read; or the weights are broken.
    """
    if record.evaluated(spec.fingerprint):
        return
    _check(record, spec, corpora)
    tasks = None if include_path is None else TaskFolder(include_path.absolute(), (root or Path.cwd()).absolute())
    _check_task_folder(spec, tasks)
    require_planned_data(spec, mirror=mirror, tasks=tasks)
    if mirror is not None and spec.tasks and spec.datasets != FILES:
        use_mirror(mirror)
    started = time.monotonic()
    report = _Progress(progress or (lambda _what, _fraction: None))
    parts = reusable_parts(record, spec, tasks)
    todo = remaining(spec, parts)
    if todo.tasks or (todo.validation and todo.validation_bytes):
        with capture_harness_log() as harness_log, _full_precision(), fresh_items(fresh=bool(spec.data_sets)):
            lm = load_model(record.model, batch_size=spec.batch_size, device=device)
            with contextlib.nullcontext() if tasks is None else contextlib.chdir(tasks.root):
                parts |= _measure(lm, todo, corpora, tasks=tasks, report=report, harness_log=harness_log)
    outcome = Outcome()
    for name in (*(task.task for task in spec.tasks), *(VALIDATION + source for source in sorted(spec.validation))):
        if name in parts:
            outcome.add(name, parts[name])
    with record.writing_evaluation(spec.fingerprint) as folder:
        folder.mkdir()
        _write(folder, spec, outcome, seconds=time.monotonic() - started)
    report.end()


def load_model(model: Path, *, batch_size: int, device: str = "auto") -> Any:
    """Create lm-eval's Hugging Face model from a run's folder.

    Apart from the batch size, the device and the encoding of text, the settings are the defaults of lm-eval's command line.
    Text is encoded as in training (see `HarnessModel`).

    Raises:
        AssayError: the folder has no complete model and tokenizer, or the machine lacks the device.
    """
    import torch

    from assay.evaluate.harness_model import HarnessModel
    from assay.train.device import choose_device

    chosen = choose_device(device)
    try:
        return HarnessModel(model, batch_size=batch_size, device=str(chosen))
    except (torch.cuda.OutOfMemoryError, AssayError):
        raise
    except Exception as error:
        raise Damaged(
            f"{model}: the model could not be loaded: {' '.join(str(error).split()) or type(error).__name__}",
            fix="If a file was truncated or changed, delete the folder and submit again. The run then resumes.",
        ) from error


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Multiply float32 in full precision, although training allows GPUs to round products."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _check(record: WeightsDirectory, spec: EvaluationSpec, corpora: Mapping[str, Path]) -> None:
    if spec.harness != harness_version():
        raise Refused(
            f"evaluation: {harness_version()} is installed; expected {spec.harness}.",
            fix="Install the same version on all machines, or plan and submit again with the installed version.",
        )
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (record.model / name).exists():
            raise NotFound(f"{record.model}: {name} is missing.", fix="Train the run to its end.")
    missing = sorted(set(spec.validation) - set(corpora))
    if missing and spec.validation_bytes:
        raise NotFound(
            f"evaluation: the corpora of {', '.join(missing)} are missing.",
            fix="Prepare the sources with `assay prepare`.",
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise Refused(
            f"evaluation: WORLD_SIZE {os.environ['WORLD_SIZE']} is invalid; expected 1.",
            fix="Evaluate in one process. Several processes would change the last digits of scores.",
        )


def _check_task_folder(spec: EvaluationSpec, tasks: TaskFolder | None) -> None:
    digest = None if tasks is None else digest_task_folder(tasks.path, root=tasks.root)
    if digest != spec.task_files:
        folder = None if tasks is None else tasks.path
        raise Refused(
            f"the files of suite.include_path ({folder}) changed after the evaluation was planned.",
            fix="Restore the files, or plan and submit again with the changed ones.",
        )


def _measure(
    lm: Any,
    spec: EvaluationSpec,
    corpora: Mapping[str, Path],
    *,
    tasks: TaskFolder | None,
    report: _Progress,
    harness_log: HarnessLog,
) -> dict[str, TaskResults]:
    """Measure all tasks and splits of an evaluation; return their results by name."""
    from assay.evaluate.heldout import read_splits
    from assay.evaluate.tasks import load_tasks

    report.show("loading items")
    loaded = []
    if spec.tasks:
        include_path = None if tasks is None else tasks.path
        loaded = load_tasks(
            spec.tasks, lm, report=lambda task: report.show(f"loading {task}"), include_path=include_path
        )
    wanted = {source: corpora[source] for source in spec.validation} if spec.validation_bytes else {}
    splits = read_splits(wanted, limit=spec.validation_bytes, lm=lm)
    windows = sum(len(document.windows) for documents in splits.values() for document in documents)
    report.total = sum(task.requests for task in loaded) + windows
    parts = {task.task.task: _measure_task(lm, task, report, harness_log) for task in loaded}
    for source, documents in splits.items():
        parts[VALIDATION + source] = _measure_split(lm, source, documents, report)
    return parts


def _measure_task(lm: Any, loaded: LoadedTask, report: _Progress, harness_log: HarnessLog) -> TaskResults:
    from lm_eval import evaluator

    from assay.evaluate.items import item_rows
    from assay.evaluate.scores import describe, task_scores
    from assay.evaluate.tasks import seed_everything

    name = loaded.task.task
    report.begin(name)
    lm.set_cache_hook(_Counter(report))
    before, apart = harness_log.truncated, lm.encoded_apart
    seed_everything()
    try:
        results = evaluator.evaluate(
            lm=lm,
            task_dict=loaded.harness,
            samples=loaded.samples or None,
            bootstrap_iters=BOOTSTRAPS,
            log_samples=True,
        )
    except AssayError as error:
        raise type(error)(f"task {name!r}: {error.what}", fix=error.fix) from error
    except Exception as error:
        error.add_note(f"while lm-eval scored the task {name!r}")
        raise
    # A tag has no score of its own, so the tasks of a tag have no group.
    rows = [
        row
        for leaf_name, leaf in loaded.leaves.items()
        for row in item_rows(
            leaf,
            name if loaded.groups else leaf_name,
            results["samples"][leaf_name],
            results["results"][leaf_name],
        )
    ]
    report.finish(loaded.requests)
    described = describe(loaded, results, rows, truncated=harness_log.truncated - before)
    if lm.encoded_apart > apart:
        described[name]["encoded_apart"] = lm.encoded_apart - apart
        log.warning(
            "task %s: in %d pairs of prompt and answer, one token spans the end of the prompt and the start of the answer;"
            " assay encodes prompt and answer of these pairs separately",
            name,
            lm.encoded_apart - apart,
        )
    return TaskResults(task_scores(loaded, results, rows), rows, described)


def _measure_split(lm: Any, source: str, documents: list[HeldOutDocument], report: _Progress) -> TaskResults:
    from assay.evaluate.heldout import validation_rows
    from assay.evaluate.scores import digest_items, split_score

    task = VALIDATION + source
    report.begin(task)
    rows = validation_rows(source, documents, lm, progress=report.add)
    report.finish(sum(len(document.windows) for document in documents))
    description = {
        "version": None,
        "num_fewshot": 0,
        "n": len(rows),
        "dataset": source,
        "bytes": sum(row["bytes"] for row in rows),
        **({"lost_bytes": lost} if (lost := sum(document.lost for document in documents)) else {}),
        "questions": digest_items(rows),
    }
    return TaskResults([split_score(task, rows)], rows, {task: description})


def _write(folder: Path, spec: EvaluationSpec, outcome: Outcome, *, seconds: float) -> None:
    from assay.evaluate.items import write_items

    write_items(folder / "items.parquet", outcome.rows)
    write_json(
        folder / "scores.json",
        {
            "spec": to_mapping(spec),
            "fingerprint": spec.fingerprint,
            "scores": outcome.scores,
            "tasks": outcome.tasks,
            "parts": outcome.parts,
            "lm_eval": harness_version(),
            "seconds": round(seconds, 3),
        },
    )


class _Progress:
    """Counter of the model's responses that reports progress at intervals."""

    def __init__(self, report: ReportProgress) -> None:
        self.total = 0
        self._report = report
        self._what = ""
        self._done = self._in_part = 0
        self._reported_at = 0.0
        report("loading the model", 0.0)

    def show(self, what: str) -> None:
        """Report an activity that has no requests."""
        self._what = what
        self._send()

    def begin(self, part: str) -> None:
        """Start a part of the evaluation, such as a task."""
        self._what, self._in_part = part, 0
        self._send()

    def add(self, count: int = 1) -> None:
        """Count further responses."""
        self._in_part += count
        if time.monotonic() - self._reported_at >= _REPORT_SECONDS:
            self._send()

    def finish(self, count: int) -> None:
        """Complete a part that has `count` requests."""
        self._done += count
        self._in_part = 0

    def end(self) -> None:
        """Report completion."""
        self._report("evaluated", 1.0)

    def _send(self) -> None:
        self._reported_at = time.monotonic()
        fraction = min(1.0, (self._done + self._in_part) / self.total) if self.total else 0.0
        self._report(self._what, min(fraction, 0.999))


class _Counter:
    """An lm-eval cache hook that counts responses."""

    def __init__(self, report: _Progress) -> None:
        self._report = report

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        """Count a response."""
        del attr, req, res
        self._report.add()
