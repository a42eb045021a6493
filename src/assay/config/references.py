"""Define scores of published models, and select the scores that are comparable with a suite."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from assay.config.sources import check_name
from assay.config.suite import SuiteTask
from assay.core.errors import ConfigError

PROMPT = "lm_eval"
"""Prompt format of every suite, which is lm-eval's format."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A published model."""

    name: str
    """Name of the model."""
    parameters: int
    """Number of parameters, including embeddings."""
    tokens: int | None = None
    """Training tokens; null if they were not published."""
    paper: str
    """Paper that describes the model."""
    source: str
    """Source of the scores: a URL, or a table of the paper."""
    prompt: str
    """Prompt format: `lm_eval`, or the name of another harness. assay compares only scores with the format
    `lm_eval`."""
    num_fewshot: int
    """Number of few-shot examples."""
    scores: dict[str, dict[str, float]] = field(hash=False)
    """Scores over all items, by task and metric, in the metric's unit."""

    def __post_init__(self) -> None:
        check_name("reference", self.name)
        where = f"reference {self.name!r}"
        if self.parameters < 1 or (self.tokens is not None and self.tokens < 1) or self.num_fewshot < 0:
            raise ConfigError(
                f"{where}: `parameters` {self.parameters}, `tokens` {self.tokens} or `num_fewshot` {self.num_fewshot} is invalid;"
                " expected `parameters` and `tokens` of at least 1, and `num_fewshot` of at least 0.",
                fix="Correct the invalid value.",
            )
        if not self.source or not self.paper:
            raise ConfigError(
                f"{where}: `paper` or `source` is empty.", fix="State the publication of the scores in both keys."
            )
        for task, metrics in self.scores.items():
            for metric, value in metrics.items():
                if not math.isfinite(value):
                    raise ConfigError(
                        f"{where}: {task} {metric} {value} is invalid; expected a finite number.",
                        fix="Correct the score, or remove it.",
                    )


class ReferenceScore(NamedTuple):
    """A published score that is comparable with a suite's score.

    Attributes:
        model: the published model.
        task: the task, as in the suite.
        metric: the metric, as in the results.
        value: the score, in the metric's unit.
    """

    model: Reference
    task: str
    metric: str
    value: float


def comparable(
    references: Iterable[Reference], tasks: Sequence[SuiteTask], measured: Collection[tuple[str, str]]
) -> list[ReferenceScore]:
    """Select the published scores that are comparable with a suite's scores.

    Task, metric, prompt format and number of few-shot examples must be the same. The suite must score all items of the
    task, as the published evaluation did.

    Args:
        references: the published models.
        tasks: the tasks of the suite.
        measured: tasks and metrics with results.

    Returns:
        The scores, ordered by task, metric and number of parameters.
    """
    fewshot = {task.task: task.num_fewshot for task in tasks if task.limit is None}
    scores = [
        ReferenceScore(model, task, metric, value)
        for model in references
        if model.prompt == PROMPT
        for task, metrics in model.scores.items()
        if fewshot.get(task) == model.num_fewshot
        for metric, value in metrics.items()
        if (task, metric) in measured
    ]
    return sorted(scores, key=lambda score: (score.task, score.metric, score.model.parameters, score.model.name))
