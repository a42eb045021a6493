"""Define aggregates: the weighted mean of several tasks as one metric of a policy."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from assay.config.metrics import Better, metric_facts
from assay.core.errors import ConfigError, did_you_mean

AGGREGATE = "aggregate/"
"""Prefix of a task that is a mean of tasks: `aggregate/knowledge`."""

SEED_SDS = "seed_sds"
"""Metric of an aggregate of standardized scores. Higher is better."""

MARGINS = "margins"
"""Metric of the mean of all guardrails, each divided by its margin. Higher is better."""

JOINT = f"{AGGREGATE}guardrails"
"""Task of the mean of all guardrails (see `assay.analysis.joint_guardrails`)."""


def is_aggregate(task: str) -> bool:
    """Report whether a task is a mean of other tasks.

    >>> is_aggregate("aggregate/knowledge"), is_aggregate("mmlu")
    (True, False)
    """
    return task.startswith(AGGREGATE)


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """Weighted mean of several tasks, formed for each run and tested as one primary metric.

    Many tasks that each change by less than their noise can together show an improvement. The mean of 30 tasks with
    independent noise has about a fifth of the noise of one task.
    """

    name: str
    """Name of the aggregate. Reports show the task `aggregate/NAME`."""
    metric: str
    """Metric of each task and group, unless `metrics` names another one."""
    tasks: tuple[str, ...] = ()
    """Names of lm-eval tasks, or `validation/SOURCE` for the held-out documents of a source."""
    groups: tuple[str, ...] = ()
    """Names of lm-eval groups, such as `mmlu`. A group counts as one task: by its own score, or by the mean of its tasks
    if the results have no score of the group."""
    metrics: dict[str, str] = field(default_factory=dict, hash=False)
    """Metrics of single tasks or groups that differ from `metric`. Requires `standardize: seed_sd`."""
    better: dict[str, Literal["higher", "lower"]] = field(default_factory=dict, hash=False)
    """Direction of improvement by metric. Required for metrics whose direction assay does not know."""
    standardize: Literal["seed_sd", "none"] = "seed_sd"
    """`seed_sd`: divide each score by the SD between seeds, from the replicates of the history or of all arms. `none`: average
    the scores in their own unit, which requires one metric."""
    weights: dict[str, float] = field(default_factory=dict, hash=False)
    """Weights of tasks and groups (default: 1 each)."""
    margin: float = 0.0
    """Gain that the aggregate must exceed, in its unit: seed SDs, or the unit of the metric with `standardize: none`."""

    def __post_init__(self) -> None:
        self._check_names()
        self._check_weights()
        for metric in sorted({self.metric, *self.metrics.values(), *self.better}):
            self._check_direction(metric)
        if self.standardize == "none" and len({self.metric_of(part) for part in self.parts}) > 1:
            raise ConfigError(
                f"{self._label}: `standardize: none` with several metrics is invalid; expected one metric.",
                fix="Set `standardize: seed_sd`, or use one metric for all tasks.",
            )
        if not 0 <= self.margin < math.inf:
            raise ConfigError(
                f"{self._label}: `margin` {self.margin} is invalid; expected a finite number of at least 0.",
                fix="Set `margin` to 0 or a positive number.",
            )

    @property
    def _label(self) -> str:
        return f"aggregate {self.name!r}"

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of all tasks and groups."""
        return (*self.tasks, *self.groups)

    @property
    def task(self) -> str:
        """Name of the aggregate among the tasks of the results."""
        return f"{AGGREGATE}{self.name}"

    @property
    def result_metric(self) -> str:
        """Metric of the aggregate."""
        return SEED_SDS if self.standardize == "seed_sd" else self.metric_of(self.parts[0])

    @property
    def result_better(self) -> Better:
        """Direction of improvement of the aggregate."""
        return "higher" if self.standardize == "seed_sd" else self.direction(self.result_metric)

    def metric_of(self, part: str) -> str:
        """Return the metric of a task or group."""
        return self.metrics.get(part, self.metric)

    def direction(self, metric: str) -> Better:
        """Return the direction of improvement of a metric."""
        known = self.better.get(metric) or metric_facts(metric).better
        assert known is not None, "`__post_init__` requires a direction"
        return known

    def _check_names(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", self.name) or f"{AGGREGATE}{self.name}" == JOINT:
            raise ConfigError(
                f"aggregate: `name` {self.name!r} is invalid; expected letters, digits, `_`, `-` or `.`, and not 'guardrails'.",
                fix="Write for example `name: knowledge`.",
            )
        if len(self.parts) < 2:
            raise ConfigError(
                f"{self._label}: {len(self.parts)} tasks and groups are invalid; expected at least 2.",
                fix="Add tasks, or name the metric in `primary`.",
            )
        twice = sorted({part for part in self.parts if self.parts.count(part) > 1})
        if twice:
            raise ConfigError(f"{self._label} names {', '.join(twice)} twice.", fix="Keep one entry for each task.")
        for group in self.groups:
            inside = sorted(part for part in self.parts if part.startswith(f"{group}_"))
            if inside:
                raise ConfigError(
                    f"{self._label}: {', '.join(inside)} would count twice, because group {group!r} contains"
                    f" {'it' if len(inside) == 1 else 'them'}.",
                    fix="Keep the group or its tasks.",
                )
        for key, named in (("metrics", self.metrics), ("weights", self.weights)):
            for part in named:
                if part not in self.parts:
                    raise ConfigError(
                        f"{self._label}: `{key}` names {part!r}, which is not a task or group of the aggregate."
                        f" {did_you_mean(part, self.parts)}"
                    )

    def _check_weights(self) -> None:
        for part, weight in self.weights.items():
            if not 0 < weight < math.inf:
                raise ConfigError(
                    f"{self._label}: weight {weight} of {part} is invalid; expected a finite number above 0.",
                    fix="Remove the task, or set a positive weight. Directions of metrics are set in `better`.",
                )

    def _check_direction(self, metric: str) -> None:
        known = metric_facts(metric)
        if known.better is None and metric not in self.better:
            raise ConfigError(
                f"{self._label}: the direction of metric {metric!r} is unknown.",
                fix=f"Add `better: {{{metric}: higher}}` or `better: {{{metric}: lower}}`.",
            )
        if known.kind != "other" and self.better.get(metric, known.better) != known.better:
            raise ConfigError(
                f"{self._label}: direction {self.better[metric]!r} of metric {metric!r} is invalid; expected {known.better!r}.",
                fix="Remove the metric from `better`.",
            )

    def require_directions(self, others: Mapping[tuple[str, str], Better]) -> None:
        """Refuse directions that contradict those of the policy's single metrics.

        Args:
            others: direction by task and metric.

        Raises:
            ConfigError: names the task and both directions.
        """
        for part in self.parts:
            metric = self.metric_of(part)
            other = others.get((part, metric), self.direction(metric))
            if other != self.direction(metric):
                raise ConfigError(
                    f"{self._label}: {part} {metric} is better if {self.direction(metric)}, but the policy states {other!r}.",
                    fix="State one direction for the metric.",
                )
