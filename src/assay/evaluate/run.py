"""One evaluation of one model, from its weights to `scores.json` and `items.parquet`."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import AssayError
from assay.evaluate.harness import harness_version
from assay.evaluate.offline import use_mirror
from assay.evaluate.quiet import Commentary, quietly
from assay.files import write_json
from assay.structure import to_mapping
from assay.suite import VALIDATION

if TYPE_CHECKING:
    from assay.evaluate.items import Row
    from assay.evaluate.questions import LoadedTask
    from assay.evaluate.scores import Record
    from assay.evaluate.validation import Document
    from assay.store import Measured
    from assay.suite import EvaluationSpec

Report = Callable[[str, float], None]
"""Told what is being done, and the share that is done, from 0 to 1."""

BOOTSTRAPS = 1000
"""For the standard errors of metrics that have no formula, such as F1; lm-eval's command line takes 100,000."""
_EVERY = 0.5
"""Seconds between two reports of progress."""


@dataclass(kw_only=True)
class Outcome:
    """What an evaluation found."""

    scores: list[Record] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    tasks: dict[str, Record] = field(default_factory=dict)


def evaluate(
    record: Measured,
    spec: EvaluationSpec,
    corpora: Mapping[str, Path],
    *,
    mirror: Path | None,
    device: str = "auto",
    progress: Report | None = None,
) -> None:
    """Score weights and put the evaluation beside them; one that is there already is kept.

    Scores are those of lm-eval's command line pointed at the same model with the same tasks, number of solved
    examples, batch size and questions. Each task of the suite is scored by itself, so that its loglikelihoods do not
    depend, in their last digits, on what else is in the suite.

    Args:
        record: the run, for its final weights, or a look at it; its model has to be there.
        spec: what to measure.
        corpora: folder of each source's corpus, for the sources in `spec.validation`.
        mirror: local mirror of the benchmarks; `None` takes them from the hub.
        device: `auto` (a GPU where there is one), or as torch names it.
        progress: told twice a second at most.

    Raises:
        AssayError: there is no whole model; the installed lm-eval is another one than the spec's; a task is unknown or
            its questions cannot be had; or the weights are broken.
    """
    if record.evaluated(spec.fingerprint):
        return
    _check(record, spec, corpora)
    if mirror is not None and spec.tasks:
        use_mirror(mirror)
    started = time.monotonic()
    report = _Progress(progress or (lambda _what, _share: None))
    with quietly() as commentary, _full_precision():
        lm = load_model(record.model, batch_size=spec.batch_size, device=device)
        outcome = _measure(lm, spec, corpora, report, commentary)
    with record.writing_evaluation(spec.fingerprint) as folder:
        folder.mkdir()
        _write(folder, spec, outcome, seconds=time.monotonic() - started)
    report.end()


def load_model(model: Path, *, batch_size: int, device: str = "auto") -> Any:
    """lm-eval's Hugging Face model on a run's folder, as its command line would make it.

    Raises:
        AssayError: the folder holds no whole model and tokenizer, or there is no such device.
    """
    import torch
    from lm_eval.models.huggingface import HFLM

    from assay.train.device import choose

    chosen = choose(device)
    try:
        return HFLM(pretrained=str(model), device=str(chosen), batch_size=batch_size)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:
        raise AssayError(
            f"{model}: the model could not be loaded: {' '.join(str(error).split()) or type(error).__name__}",
            fix="If a file there was cut or changed, delete the folder and submit again: the run goes on from its last checkpoint.",
        ) from error


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Products of float32 in float32, as in a fresh process: training lets GPUs round them, for all that comes after."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _check(record: Measured, spec: EvaluationSpec, corpora: Mapping[str, Path]) -> None:
    if spec.harness != harness_version():
        raise AssayError(
            f"the evaluation is of {spec.harness}; {harness_version()} is installed here.",
            fix="Install the same version everywhere, or plan and submit again with this one.",
        )
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (record.model / name).exists():
            raise AssayError(f"{record.model}: no {name} to evaluate.", fix="Train the run to its end first.")
    missing = sorted(set(spec.validation) - set(corpora))
    if missing and spec.validation_bytes:
        raise AssayError(f"evaluation: no corpus is given for {', '.join(missing)}.", fix="Prepare the sources first.")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise AssayError(
            "evaluation was started by several processes together (WORLD_SIZE is above 1).",
            fix="Evaluate in one process: how questions are shared out would change the last digits of scores.",
        )


def _measure(
    lm: Any, spec: EvaluationSpec, corpora: Mapping[str, Path], report: _Progress, commentary: Commentary
) -> Outcome:
    from assay.evaluate.questions import load_tasks
    from assay.evaluate.validation import read_splits

    report.say("loading questions")
    tasks = load_tasks(spec.tasks, lm, report=lambda task: report.say(f"loading {task}")) if spec.tasks else []
    wanted = {source: corpora[source] for source in spec.validation} if spec.validation_bytes else {}
    splits = read_splits(wanted, limit=spec.validation_bytes, lm=lm)
    windows = sum(len(document.windows) for documents in splits.values() for document in documents)
    report.total = sum(task.requests for task in tasks) + windows
    outcome = Outcome()
    for task in tasks:
        _measure_task(lm, task, outcome, report, commentary)
    for source, documents in splits.items():
        _measure_split(lm, source, documents, outcome, report)
    return outcome


def _measure_task(lm: Any, loaded: LoadedTask, outcome: Outcome, report: _Progress, commentary: Commentary) -> None:
    from lm_eval import evaluator

    from assay.evaluate.items import item_rows
    from assay.evaluate.questions import seed_everything
    from assay.evaluate.scores import describe, task_scores

    name = loaded.task.task
    report.begin(name)
    lm.set_cache_hook(_Counter(report))
    before = commentary.truncated
    seed_everything()
    try:
        results = evaluator.evaluate(
            lm=lm,
            task_dict=loaded.harness,
            samples=loaded.samples or None,
            bootstrap_iters=BOOTSTRAPS,
            log_samples=True,
        )
    except Exception as error:
        error.add_note(f"while lm-eval scored the task {name!r}")
        raise
    # A tag stands for several tasks and has no score of its own, so its tasks belong to nothing.
    rows = [
        row
        for leaf_name, leaf in loaded.leaves.items()
        for row in item_rows(leaf, name if loaded.groups else leaf_name, results["samples"][leaf_name])
    ]
    outcome.rows += rows
    outcome.scores += task_scores(loaded, results, rows)
    outcome.tasks |= describe(loaded, results, rows, truncated=commentary.truncated - before)
    report.finish(loaded.requests)


def _measure_split(lm: Any, source: str, documents: list[Document], outcome: Outcome, report: _Progress) -> None:
    from assay.evaluate.scores import digest, split_score
    from assay.evaluate.validation import validation_rows

    task = VALIDATION + source
    report.begin(task)
    rows = validation_rows(source, documents, lm, done=report.add)
    outcome.rows += rows
    outcome.scores.append(split_score(task, rows))
    outcome.tasks[task] = {
        "version": None,
        "num_fewshot": 0,
        "n": len(rows),
        "dataset": source,
        "bytes": sum(row["bytes"] for row in rows),
        "questions": digest(rows),
    }
    report.finish(sum(len(document.windows) for document in documents))


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
            "lm_eval": harness_version(),
            "seconds": round(seconds, 3),
        },
    )


class _Progress:
    """Counts what the model has answered and tells of it now and then."""

    def __init__(self, report: Report) -> None:
        self.total = 0
        self._report = report
        self._what = ""
        self._done = self._in_part = 0
        self._told = 0.0
        report("loading the model", 0.0)

    def say(self, what: str) -> None:
        """Tell of something that is not counted."""
        self._what = what
        self._tell()

    def begin(self, part: str) -> None:
        """Start on a part of the whole."""
        self._what, self._in_part = part, 0
        self._tell()

    def add(self, count: int = 1) -> None:
        """So many more answers."""
        self._in_part += count
        if time.monotonic() - self._told >= _EVERY:
            self._tell()

    def finish(self, count: int) -> None:
        """The part is done; it was expected to be of so many answers."""
        self._done += count
        self._in_part = 0

    def end(self) -> None:
        """All is written."""
        self._report("evaluated", 1.0)

    def _tell(self) -> None:
        self._told = time.monotonic()
        share = min(1.0, (self._done + self._in_part) / self.total) if self.total else 0.0
        self._report(self._what, min(share, 0.999))


class _Counter:
    """What lm-eval tells of each answer as it comes: its hook for a cache, used to count."""

    def __init__(self, report: _Progress) -> None:
        self._report = report

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        """Take note of one answer."""
        del attr, req, res
        self._report.add()
