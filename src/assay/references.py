"""Published models to set a proxy's scores beside: only where both were asked the same questions in the same way."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from assay.errors import AssayError
from assay.sources import check_name
from assay.suite import Task

PROMPT = "lm_eval"
"""The wording of questions that suites ask in: the harness' own."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A published model."""

    name: str
    parameters: int
    tokens: int | None = None
    """That it was trained on, where that was published."""
    paper: str
    source: str
    """Where the scores stand: a URL, or the paper's table."""
    prompt: str
    """Who worded the questions: `lm_eval`, or the name of another harness, with which nothing is compared."""
    num_fewshot: int
    """Solved examples before each question."""
    scores: dict[str, dict[str, float]] = field(hash=False)
    """By task, of all of its questions, and by metric."""

    def __post_init__(self) -> None:
        check_name("reference", self.name)
        where = f"reference {self.name!r}"
        if self.parameters < 1 or (self.tokens is not None and self.tokens < 1) or self.num_fewshot < 0:
            raise AssayError(f"{where}: parameters and tokens are at least 1, num_fewshot at least 0.")
        if not self.source or not self.paper:
            raise AssayError(f"{where}: it names no source.", fix="Say in `paper` and `source` where its scores stand.")
        for task, metrics in self.scores.items():
            for metric, value in metrics.items():
                if not math.isfinite(value):
                    raise AssayError(f"{where}: its {task} {metric} is {value}.", fix="Leave out what is not known.")


class ReferenceScore(NamedTuple):
    """A published score that may be set beside a suite's.

    Attributes:
        model: the reference it is of.
        task: as in the suite.
        metric: as in the results.
        value: in the metric's unit.
    """

    model: Reference
    task: str
    metric: str
    value: float


def comparable(
    references: Iterable[Reference], tasks: Sequence[Task], measured: Collection[tuple[str, str]]
) -> list[ReferenceScore]:
    """The published scores that a suite's can be set beside.

    The task and the metric have to be the same, and so do the wording and the number of solved examples; and the suite has to
    ask all of the task's questions, as those who published did.

    Args:
        references: the models.
        tasks: what the suite asks.
        measured: tasks and metrics that there are results of.

    Returns:
        By task and metric, and by the models' size.
    """
    asked = {task.task: task.num_fewshot for task in tasks if task.limit is None}
    found = [
        ReferenceScore(model, task, metric, value)
        for model in references
        if model.prompt == PROMPT
        for task, metrics in model.scores.items()
        if asked.get(task) == model.num_fewshot
        for metric, value in metrics.items()
        if (task, metric) in measured
    ]
    return sorted(found, key=lambda score: (score.task, score.metric, score.model.parameters, score.model.name))
