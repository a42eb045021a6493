"""Check the tasks of a suite before any run is trained, with the proxy's context and tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from assay.config.reason import Code, Reason
from assay.core.errors import AssayError, ConfigError, Damaged, NotFound
from assay.core.files import read_json, write_json
from assay.core.fingerprint import fingerprint

if TYPE_CHECKING:
    from assay.evaluate.task_probe import TaskProbe
    from assay.plan.workspace import Workspace

_FORMAT = 1


class ProbedTask(NamedTuple):
    """A task of the suite.

    Attributes:
        task: name of the task in the suite.
        probe: results of loading the task; ``None`` if the task cannot be scored.
        error: error that prevents scoring the task.
    """

    task: str
    probe: TaskProbe | None
    error: AssayError | None


def probe_suite(space: Workspace, *, report: Callable[[str], None] = lambda _task: None) -> Iterator[ProbedTask]:
    """Load every task of the suite, and build its longest requests.

    Raises:
        AssayError: a task is unknown, or the mirror or the folder of own tasks is missing.
    """
    from assay.evaluate.task_identity import FILES, data_identity
    from assay.evaluate.task_probe import probe_tasks

    suite = space.study.suite
    if not suite.tasks:
        return
    mirror, folder = space.study.paths.mirror, space.runs.task_folder
    identity = data_identity([task.task for task in suite.tasks], mirror=mirror, tasks=folder)
    found = probe_tasks(
        suite.tasks,
        mirror=None if identity.datasets == FILES else mirror,
        folder=folder,
        context=space.study.proxy.sequence_length,
        tokenizer=_tokenizer(space),
        report=report,
    )
    for task, result in zip(suite.tasks, found, strict=True):
        if isinstance(result, AssayError):
            yield ProbedTask(task.task, None, result)
        else:
            yield ProbedTask(task.task, result, None)


def require_scorable_suite(space: Workspace, *, report: Callable[[str], None] = lambda _task: None) -> list[Reason]:
    """Refuse a suite with a task that cannot be scored, and warn about other problems of its tasks.

    The store keeps the result until the tasks, their data, the context or the tokenizer change.

    Raises:
        AssayError: the first task that cannot be scored.
    """
    if not space.study.suite.tasks:
        return []
    path = space.store.root / "probes" / f"{_identity(space)[:32]}.json"
    probes = _read(path)
    if probes is None:
        probes = []
        for probed in probe_suite(space, report=report):
            if probed.error is not None:
                raise probed.error
            assert probed.probe is not None, "a task has a probe or an error"
            probes.append(probed.probe)
        write_json(path, {"format": _FORMAT, "tasks": [asdict(probe) for probe in probes]})
    context = space.study.proxy.sequence_length
    return [reason for probe in probes for reason in _warnings(probe, context)]


def _read(path: Path) -> list[TaskProbe] | None:
    """Read stored probes. A damaged record counts as missing."""
    from assay.evaluate.task_probe import TaskProbe

    try:
        return [TaskProbe(**probe) for probe in read_json(path)["tasks"]]
    except (FileNotFoundError, Damaged, KeyError, TypeError):
        return None


def _tokenizer(space: Workspace) -> Path | None:
    """Return the file of the runs' tokenizer; ``None`` if the file does not exist, or no sweep names its sources."""
    try:
        made = space.sources.tokenizer_folder / "tokenizer.json"
        declared = space.sources.tokenizer.file
    except (ConfigError, NotFound):
        return None
    if made.exists():
        return made
    return None if declared is None else Path(declared)


def _identity(space: Workspace) -> str:
    return fingerprint(
        "probe",
        {
            "format": _FORMAT,
            "evaluation": space.runs.evaluation.fingerprint,
            "context": space.study.proxy.sequence_length,
            "tokenizer": None if _tokenizer(space) is None else space.sources.tokenizer_id,
        },
    )


def _warnings(probe: TaskProbe, context: int) -> Iterator[Reason]:
    if probe.left_out:
        figures = {"left_out": probe.left_out, "items": probe.items + probe.left_out, "context": context}
        yield Reason(code=Code.ITEMS_LEFT_OUT, subject=probe.task, figures=figures)
    if probe.truncated:
        lengths = {"truncated": probe.truncated, "probed": probe.probed, "longest": probe.longest, "context": context}
        yield Reason(code=Code.PROMPTS_TRUNCATED, subject=probe.task, figures=lengths)
    if probe.longest is None:
        yield Reason(code=Code.LENGTHS_UNKNOWN, subject=probe.task)
    if probe.examples_are_items:
        yield Reason(code=Code.EXAMPLES_ARE_ITEMS, subject=probe.task)
