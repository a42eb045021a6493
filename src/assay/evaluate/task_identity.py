"""Identify the data sets that the tasks of a suite read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from assay.core.errors import Refused
from assay.evaluate.mirror import OWN, digest_data_sets, has_own_data_sets, mirror_digest
from assay.evaluate.task_check import require_tasks
from assay.evaluate.task_data import task_data

if TYPE_CHECKING:
    from assay.config.suite import EvaluationSpec
    from assay.evaluate.task_folder import TaskFolder


FILES = "files"
"""Identity of the data sets of tasks that read local files only, and neither a mirror nor the hub."""


class DataIdentity(NamedTuple):
    """Identity of the data sets of an evaluation.

    Attributes:
        datasets: `EvaluationSpec.datasets`.
        data_sets: `EvaluationSpec.data_sets`.
    """

    datasets: str
    data_sets: dict[str, str] | None


def data_identity(names: Sequence[str], *, mirror: Path | None, tasks: TaskFolder | None) -> DataIdentity:
    """Identify the data sets that tasks read.

    Each data set that a team added to a mirror has a separate digest. A further data set for a new task therefore
    changes no other evaluation. Definitions in Python do not name their data, so all added data sets count for their
    tasks.

    Args:
        names: tasks, groups and tags of a suite.
        mirror: local mirror of the benchmarks; `None` for the hub.
        tasks: the team's own task definitions.

    Raises:
        AssayError: the mirror is missing or damaged, or a task is unknown.
    """
    if tasks is not None and _read_files_only(names, tasks):
        return DataIdentity(FILES, None)
    if mirror is None or not names:
        return DataIdentity("hub", None)
    datasets = mirror_digest(mirror)
    if not has_own_data_sets(mirror):
        return DataIdentity(datasets, None)
    catalog = require_tasks(names, include_path=None if tasks is None else tasks.path)
    data = task_data(catalog.files(names), Path.cwd() if tasks is None else tasks.root)
    return DataIdentity(datasets, digest_data_sets(mirror, data.repositories if data.known else None) or None)


def _read_files_only(names: Sequence[str], tasks: TaskFolder) -> bool:
    """Return whether tasks read only local files, which the digest of the task definitions includes."""
    data = task_data(require_tasks(names, include_path=tasks.path).files(names), tasks.root)
    return data.known and bool(data.files) and not data.repositories


def require_planned_data(spec: EvaluationSpec, *, mirror: Path | None, tasks: TaskFolder | None) -> None:
    """Refuse data sets that changed after an evaluation was planned.

    Raises:
        AssayError: a data set was changed, added or removed, or the mirror is missing or damaged.
    """
    if spec.data_sets is None and spec.datasets != OWN:
        return  # the plan verified the manifest, files belong to `task_files`, and the hub has no digest
    now = data_identity([task.task for task in spec.tasks], mirror=mirror, tasks=tasks)
    if now != DataIdentity(spec.datasets, spec.data_sets):
        before, after = spec.data_sets or {}, now.data_sets or {}
        changed = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
        raise Refused(
            f"{mirror}: {', '.join(changed) or 'the mirror of the benchmarks'} changed after the evaluation was planned.",
            fix="Restore the data sets, or plan and submit again with the changed ones.",
        )
