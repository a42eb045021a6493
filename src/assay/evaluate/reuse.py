"""Reuse the results of earlier evaluations of a run's weights, for tasks and splits that were evaluated in the same way.

Each task is scored alone, so its results do not depend on the other tasks of a suite. An evaluation with an additional
task therefore scores only that task, and copies everything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.config.suite import VALIDATION, EvaluationSpec, SuiteTask
from assay.core.errors import Damaged
from assay.core.files import read_json
from assay.core.serde import from_record
from assay.evaluate.mirror import folder_of
from assay.evaluate.task_check import require_tasks
from assay.evaluate.task_data import task_data
from assay.evaluate.task_index import load_catalog

if TYPE_CHECKING:
    from assay.evaluate.task_folder import TaskFolder
    from assay.store.evaluations import WeightsDirectory


class TaskResults(NamedTuple):
    """The results of one task of a suite, or of one source's held-out split.

    Attributes:
        scores: score records.
        rows: item rows.
        tasks: descriptions of the task, its groups and subtasks, by name.
    """

    scores: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    tasks: dict[str, dict[str, Any]]


def reusable_parts(record: WeightsDirectory, spec: EvaluationSpec, tasks: TaskFolder | None) -> dict[str, TaskResults]:
    """Return the results of earlier evaluations that are valid for an evaluation.

    Args:
        record: the weights; a damaged evaluation of them is ignored.
        spec: the evaluation to make.
        tasks: the team's own task definitions.

    Returns:
        Results by name of the task, or by `validation/<source>`.
    """
    parts: dict[str, TaskResults] = {}
    for fingerprint in record.evaluations():
        folder = record.evaluation(fingerprint)
        try:
            plain = read_json(folder / "scores.json")
            earlier = from_record(EvaluationSpec, plain["spec"], where=str(folder))
            wanted = {name: plain["parts"][name] for name in _shared(earlier, spec, tasks) if name not in parts}
            if wanted:
                parts |= _read(folder, plain, wanted)
        except (Damaged, OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # damaged, or of a version that did not record the parts: everything is measured again
    return parts


def _shared(earlier: EvaluationSpec, spec: EvaluationSpec, tasks: TaskFolder | None) -> Iterator[str]:
    """Yield the tasks and splits that two evaluations measure under the same conditions."""
    conditions = ("harness", "batch_size", "encoding")
    if any(getattr(earlier, name) != getattr(spec, name) for name in conditions):
        return
    measured = {task.task: task for task in earlier.tasks}
    for task in spec.tasks:
        if measured.get(task.task) == task and _same_data(task, earlier, spec, tasks):
            yield task.task
    if spec.validation_bytes and earlier.validation_bytes == spec.validation_bytes:
        yield from (
            VALIDATION + source
            for source, corpus in spec.validation.items()
            if earlier.validation.get(source) == corpus
        )


def _same_data(task: SuiteTask, earlier: EvaluationSpec, spec: EvaluationSpec, tasks: TaskFolder | None) -> bool:
    """Return whether a task has the same definition and data. All own definitions must be the same."""
    if task.task not in load_catalog() and earlier.task_files != spec.task_files:
        return False
    catalog = require_tasks([task.task], include_path=None if tasks is None else tasks.path)
    data = task_data(catalog.files([task.task]), Path.cwd() if tasks is None else tasks.root)
    before, now = earlier.data_sets or {}, spec.data_sets or {}
    read = {folder_of(repository) for repository in data.repositories} if data.known else before.keys() | now.keys()
    same_place = earlier.datasets == spec.datasets or (data.known and not data.repositories)
    return same_place and all(before.get(folder) == now.get(folder) for folder in read)


def _read(folder: Path, plain: Mapping[str, Any], wanted: Mapping[str, list[str]]) -> dict[str, TaskResults]:
    import pyarrow.parquet as pq

    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in wanted}
    owner = {name: part for part, names in wanted.items() for name in names}
    for row in pq.read_table(folder / "items.parquet").to_pylist():
        if row["task"] in owner:
            rows[owner[row["task"]]].append({**row, "metrics": dict(row["metrics"] or ())})
    parts = {}
    for part, names in wanted.items():
        scores = [score for score in plain["scores"] if score["task"] in names]
        tasks = {name: plain["tasks"][name] for name in names if name in plain["tasks"]}
        if scores and rows[part]:
            parts[part] = TaskResults(scores, rows[part], tasks)
    return parts


def remaining(spec: EvaluationSpec, parts: Mapping[str, TaskResults]) -> EvaluationSpec:
    """Return an evaluation without the tasks and splits whose results exist."""
    return replace(
        spec,
        tasks=tuple(task for task in spec.tasks if task.task not in parts),
        validation={name: corpus for name, corpus in spec.validation.items() if VALIDATION + name not in parts},
    )
