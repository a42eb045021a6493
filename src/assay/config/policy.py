"""Define gate policies: the requirements on a candidate, fixed before the results exist."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

from assay.config.aggregate import Aggregate, is_aggregate
from assay.config.metrics import Better, is_loss, metric_facts, without_filter
from assay.config.sequential_seeds import LEAST_LEVEL, SequentialSeeds
from assay.config.suite import Role
from assay.core.errors import ConfigError
from assay.core.serde import from_mapping


def _require_possible_direction(name: str, metric: str, better: Better) -> None:
    """Refuse the direction `higher` for a known loss.

    Raises:
        ConfigError: names the metric.
    """
    if better == "higher" and is_loss(metric):
        raise ConfigError(
            f"policy: direction `higher` of {name} is invalid; expected `lower`, because the metric is a loss.",
            fix=f"Write `lower` as the direction of {name}.",
        )


LEAST_ALPHA = 1e-12
"""Smallest error rate, also of one of several candidates. The t distribution has no exact values for smaller levels."""

MOST_MIN_SEEDS = 1000
"""Largest `min_seeds`. No study of proxy models has as many replicates, so a larger number is a typing error."""


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """A metric that counts for the verdict."""

    task: str
    """Name of an lm-eval task, group or subtask, or `validation/SOURCE` for the held-out documents of a source."""
    metric: str
    """Metric of the task, for example `acc`, `acc_norm` or `bits_per_byte`."""
    better: Literal["higher", "lower"]
    """Direction of improvement."""
    margin: float = 0.0
    """Margin in the metric's unit. A primary metric must improve by more than the margin. A guardrail must decline by less
    than the margin."""

    def __post_init__(self) -> None:
        _require_possible_direction(f"{self.task} {self.metric}", self.metric, self.better)
        if not 0 <= self.margin < float("inf"):
            raise ConfigError(
                f"policy: `margin` {self.margin} of {self.task} {self.metric} is invalid; expected a finite number of at least 0.",
                fix="Set `margin` to 0 or a positive number.",
            )


@dataclass(frozen=True, kw_only=True)
class Target:
    """Metric that the gate predicts at the scale of the large run.

    The prediction uses past mixes that were trained both at the proxy scale and at the target scale.
    """

    scale: str
    """Scale (model size) of the large run, spelled as in the history, for example `1B`."""
    task: str
    """Name of an lm-eval task in the history."""
    metric: str
    """Name of a metric in the history."""
    better: Literal["higher", "lower"]
    """Direction of improvement."""
    predictor: Literal["own", "best"] = "own"
    """Proxy metrics that predict the target. `own`: the target's metric, or the mean of all metrics if the proxy lacks it.
    `best`: the metric, or the mean of all metrics, that best predicts past mixes, each from the other past mixes."""

    def __post_init__(self) -> None:
        _require_possible_direction(f"{self.task} {self.metric}", self.metric, self.better)


@dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """Rules that stop candidates during training, after an interim analysis of intermediate checkpoints."""

    stop: Literal["none", "losers", "both"] = "none"
    """Candidates that may be stopped: `none`, `losers` (shown to be worse), or `both` (shown to be worse or better)."""
    interim_analyses: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Fractions of the token budget (0 to 1). assay runs one interim analysis after each fraction."""
    alpha_fraction: float = 0.2
    """Fraction of `alpha` for all interim analyses together. The final verdict has the rest. Unused if `stop` is
    `none`."""
    min_persistence: float = 0.0
    """Minimum persistence (0 to 1) for stopping a candidate. Persistence is the fraction of past pairs of mixes that
    kept their order to the end of training. Only pairs with a similar difference at the same fraction of the budget
    count. A value above 0 requires a history."""

    def __post_init__(self) -> None:
        ends = (0.0, *self.interim_analyses, 1.0)
        if not self.interim_analyses or any(low >= high for low, high in pairwise(ends)):
            raise ConfigError(
                f"policy: early_stopping.interim_analyses {list(self.interim_analyses)} is invalid; expected ascending"
                " fractions of the budget between 0 and 1.",
                fix="Write for example `interim_analyses: [0.25, 0.5, 0.75]`.",
            )
        if not 0 < self.alpha_fraction < 1:
            raise ConfigError(
                f"policy: early_stopping.alpha_fraction {self.alpha_fraction} is invalid; expected a number between 0 and 1.",
                fix="Write for example `alpha_fraction: 0.2`.",
            )
        if not 0 <= self.min_persistence <= 1:
            raise ConfigError(
                f"policy: early_stopping.min_persistence {self.min_persistence} is invalid; expected a number from 0 to 1.",
                fix="Set `min_persistence` to a number from 0 to 1.",
            )


@dataclass(frozen=True, kw_only=True)
class Averaging:
    """Average of a score over the last checkpoints of a run (see `assay.analysis.stats.checkpoint_average`)."""

    last: int = 1
    """Number of checkpoints to average, including the final weights. 1 uses only the final weights."""
    every: float = 0.05
    """Distance between two checkpoints, as a fraction of the run. External results use their existing checkpoints."""

    def __post_init__(self) -> None:
        if self.last < 1 or not 0 < self.every < 1 or (self.last - 1) * self.every >= 1:
            raise ConfigError(
                f"policy: `average` with `last` {self.last} and `every` {self.every:g} is invalid; expected last >= 1, 0 < every < 1 and"
                " (last - 1) * every < 1.",
                fix="Lower `last` or `every`, so that all averaged checkpoints lie within the run.",
            )

    @property
    def shares(self) -> tuple[float, ...]:
        """Fractions of a run at which the averaged checkpoints are evaluated, without the final checkpoint."""
        return tuple(1 - before * self.every for before in range(self.last - 1, 0, -1))


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Requirements of the gate on a candidate, fixed before the results exist."""

    name: str
    """Name of the policy (default: the file's name)."""
    primary: tuple[Criterion, ...] = ()
    """Metrics that must improve at the proxy. If the list is empty, the policy needs an `aggregate`, or a `target`, which then
    decides alone."""
    aggregate: Aggregate | None = None
    """Mean of several tasks, tested before all primary metrics at the full `alpha`. With `require: any`, an ACCEPT requires that
    the aggregate improves, and primary metrics are claimed to improve only if it does. Null for none."""
    guardrails: tuple[Criterion, ...] = ()
    """Metrics that must not decline by more than their margins, as shown by a non-inferiority test."""
    guardrail_rule: Literal["each", "joint"] = "each"
    """`each`: every guardrail is shown to stay within its margin. `joint`: the mean of all guardrails is shown to stay within
    the margin, every estimate is within its margin, and no guardrail may have lost `guardrail_limit` margins. With many
    guardrails, `each` rarely accepts, and `joint` can accept the loss of one margin on a single guardrail."""
    guardrail_limit: float = 3.0
    """Largest loss of a single guardrail under `guardrail_rule: joint`, in margins. A test shows that each loss is below it."""
    alpha: float
    """Maximum probability of any false positive over all voting metrics (family-wise error rate)."""
    candidates: Literal["each", "all"] = "each"
    """`each`: `alpha` applies to each candidate of a sweep. `all`: `alpha` applies to all candidates together, so each candidate
    is tested at `alpha` divided by their number (Bonferroni)."""
    min_seeds: int
    """Minimum number of replicates (seeds) per mix. With 1, past runs provide the noise estimate, if they exist."""
    require: Literal["any", "all"] = "any"
    """`any`: at least one primary metric must improve and none may decline. `all`: every primary metric must improve."""
    exclude_one_arm_sources: bool = False
    """A primary metric on held-out documents of a source that only the candidate trains on improves by construction. If
    this key is true, such metrics alone cannot cause an ACCEPT."""
    proxy_scale: str | None = None
    """Scale (model size) of the proxy, spelled as in the column `scale` of the results. Required for results with
    several scales."""
    target: Target | None = None
    """Metric at the target scale that the verdict predicts. Null selects a verdict about the proxy."""
    average: Averaging = Averaging()
    """Checkpoints at the end of a run over which each score is averaged."""
    early_stopping: EarlyStopping = EarlyStopping()
    """Rules for stopping candidates during training (see `assay.analysis.early_stopping`)."""
    directions: dict[str, Literal["higher", "lower"]] = field(default_factory=dict, hash=False)
    """Directions of improvement of other metrics, by `METRIC` or `TASK METRIC`, such as `{toxicity: lower}`. Required for metrics
    that assay does not know and that predict the target. Without a direction, a monitor metric is neither better nor worse."""
    sequential_seeds: SequentialSeeds | None = None
    """Stages in which the seeds of a sweep are trained. Null trains all seeds at once."""

    def __post_init__(self) -> None:
        if not self.primary and self.aggregate is None and self.target is None:
            raise ConfigError(
                f"policy {self.name!r} has no primary metric, no aggregate and no target.",
                fix="Name at least one metric that must improve: `primary: [{task, metric, better}]`.",
            )
        if not LEAST_ALPHA <= self.alpha < 0.5:
            raise ConfigError(
                f"policy {self.name!r}: `alpha` {self.alpha} is invalid; expected a number from {LEAST_ALPHA:g} to below 0.5.",
                fix="Write for example `alpha: 0.05`.",
            )
        if not 1 <= self.min_seeds <= MOST_MIN_SEEDS:
            raise ConfigError(
                f"policy {self.name!r}: `min_seeds` {self.min_seeds:.6g} is invalid; expected a whole number from 1 to {MOST_MIN_SEEDS}.",
                fix="Write for example `min_seeds: 3`.",
            )
        self._check_sequential_seeds()
        pairs = [(c.task, c.metric) for c in (*self.primary, *self.guardrails)]
        twice = sorted({f"{task} {metric}" for task, metric in pairs if pairs.count((task, metric)) > 1})
        if twice:
            raise ConfigError(
                f"policy {self.name!r} names {', '.join(twice)} twice.", fix="Keep one criterion for each metric."
            )
        self._require_consistent_directions()
        self._check_joint_rule()
        if self.aggregate is not None:
            own = [(part, self.aggregate.metric_of(part)) for part in self.aggregate.parts]
            known = {name: better for name in own if (better := self.direction(*name)) is not None}
            self.aggregate.require_directions(known)

    def _check_joint_rule(self) -> None:
        if not 1 <= self.guardrail_limit < float("inf"):
            raise ConfigError(
                f"policy {self.name!r}: `guardrail_limit` {self.guardrail_limit} is invalid; expected a finite number of at least 1.",
                fix="Write for example `guardrail_limit: 3`.",
            )
        if self.guardrail_rule == "joint":
            for criterion in self.guardrails:
                if criterion.margin <= 0:
                    raise ConfigError(
                        f"policy {self.name!r}: margin {criterion.margin:g} of guardrail {criterion.task} {criterion.metric} is"
                        " invalid with `guardrail_rule: joint`; expected a margin above 0.",
                        fix="Set a margin, or `guardrail_rule: each`.",
                    )

    @property
    def voting_tasks(self) -> tuple[str, ...]:
        """Names of the tasks and groups of all primary metrics, guardrails and the aggregate."""
        parts = () if self.aggregate is None else self.aggregate.parts
        return tuple(
            dict.fromkeys((*(c.task for c in (*self.primary, *self.guardrails) if not is_aggregate(c.task)), *parts))
        )

    @property
    def primary_metrics(self) -> tuple[tuple[str, str], ...]:
        """Measured tasks and metrics of all primary metrics, with the tasks and groups of the aggregate instead of the aggregate."""
        own = self.aggregate
        parts = () if own is None else tuple((part, own.metric_of(part)) for part in own.parts)
        named = ((c.task, c.metric) for c in self.primary if not is_aggregate(c.task))
        return tuple(dict.fromkeys((*named, *parts)))

    @property
    def part_criteria(self) -> tuple[Criterion, ...]:
        """A criterion for each task of the aggregate that is not a primary metric or guardrail. Groups are not included."""
        own = self.aggregate
        if own is None:
            return ()
        parts = [(part, own.metric_of(part)) for part in own.tasks]
        return tuple(
            Criterion(task=task, metric=metric, better=own.direction(metric))
            for task, metric in parts
            if self.criterion(task, metric)[1] is None
        )

    @property
    def with_aggregate(self) -> Policy:
        """The policy with the aggregate as its first primary metric."""
        own = self.aggregate
        if own is None or self.criterion(own.task, own.result_metric)[1] is not None:
            return self
        first = Criterion(task=own.task, metric=own.result_metric, better=own.result_better, margin=own.margin)
        return replace(self, primary=(first, *self.primary))

    def for_candidates(self, number: int) -> Policy:
        """Return the policy for each of several candidates. With `candidates: all`, each has a part of alpha (Bonferroni).

        For a policy with stages, this is the policy of the last stage: its level is divided, because the levels of a
        divided alpha would differ from the divided levels (see `stage_levels`).
        """
        if self.candidates == "each":
            return self
        own = self if self.sequential_seeds is None else self.at_the_end
        return replace(own, alpha=own.alpha / self.sharing(number), candidates="each")

    def sharing(self, number: int) -> int:
        """Return how many of several candidates share alpha: 1 if alpha applies to each of them."""
        return max(number, 1) if self.candidates == "all" else 1

    def stage_levels(self, number: int) -> tuple[float, ...]:
        """Return the levels of the stages for each of several candidates; empty without stages."""
        if self.sequential_seeds is None:
            return ()
        return tuple(level / self.sharing(number) for level in self.sequential_seeds.levels(self.alpha))

    def _require_consistent_directions(self) -> None:
        for key, better in self.directions.items():
            parts = key.split()
            if len(parts) not in (1, 2) or key != " ".join(parts):
                raise ConfigError(
                    f"policy {self.name!r}: the key {key!r} of `directions` is invalid; expected `METRIC` or `TASK METRIC`.",
                    fix="Write for example `directions: {toxicity: lower}`.",
                )
            _require_possible_direction(key, parts[-1], better)
        named = [(c.task, c.metric, c.better) for c in (*self.primary, *self.guardrails)]
        if self.target is not None:
            named.append((self.target.task, self.target.metric, self.target.better))
        for task, metric, better in named:
            others = {self._declared(task, metric), self.criterion_direction(task, metric)}
            if others - {None, better}:
                raise ConfigError(
                    f"policy {self.name!r}: direction `{better}` of {task} {metric} is invalid; expected the other direction that"
                    " the policy declares for this metric.",
                    fix=f"Declare one direction, or write the exception as `{task} {metric}` in `directions`.",
                )

    def criterion_direction(self, task: str, metric: str) -> Better | None:
        """Return the direction in the criterion of a metric; None for a metric without criterion."""
        _, criterion = self.criterion(task, metric)
        return criterion.better if criterion is not None else None

    def unused_directions(self, metrics: Iterable[tuple[str, str]]) -> tuple[str, ...]:
        """Return the keys of `directions` that match none of several metrics."""
        used = {name for task, metric in metrics for name in _direction_names(task, metric)}
        return tuple(key for key in self.directions if key not in used)

    def _declared(self, task: str, metric: str) -> Better | None:
        """Return the direction in `directions`; the entry of one task precedes that of all tasks."""
        names = _direction_names(task, metric)
        return next((self.directions[name] for name in names if name in self.directions), None)

    def direction(self, task: str, metric: str) -> Better | None:
        """Return the direction of improvement of a metric; None if unknown.

        The direction comes from the criterion, the target or `directions`, else from `assay.config.metrics`.
        """
        if self.target is not None and (self.target.task, self.target.metric) == (task, metric):
            return self.target.better
        own = self.criterion_direction(task, metric) or self._declared(task, metric)
        return own or metric_facts(metric).better

    def _check_sequential_seeds(self) -> None:
        """Raise an error for stages that cannot decide, or that would spend alpha twice."""
        if self.sequential_seeds is None:
            return
        first = self.sequential_seeds.stages[0]
        if first < self.min_seeds:
            raise ConfigError(
                f"policy {self.name!r}: sequential_seeds.stages {list(self.sequential_seeds.stages)} is invalid; expected at least"
                f" {self.min_seeds} seeds in the first stage, because `min_seeds` is {self.min_seeds}.",
                fix=f"Lower `min_seeds` to {first}, or raise the first stage.",
            )
        least = min(self.sequential_seeds.levels(self.alpha))
        if least < LEAST_LEVEL:
            raise ConfigError(
                f"policy {self.name!r}: sequential_seeds.stages {list(self.sequential_seeds.stages)} is invalid; expected stages with"
                f" levels of at least {LEAST_LEVEL:g}, but the smallest level is {least:.2g}.",
                fix="Start with more seeds, use fewer stages, or set `spending: pocock`.",
            )
        if self.early_stopping.stop != "none":
            raise ConfigError(
                f"policy {self.name!r}: `sequential_seeds` with early_stopping.stop {self.early_stopping.stop!r} is invalid; expected"
                " only one of the two, because each spends alpha.",
                fix="Set `early_stopping.stop: none`, or `sequential_seeds: null`.",
            )

    def criterion(self, task: str, metric: str) -> tuple[Role, Criterion | None]:
        """Return the role of a metric, and its criterion if the metric votes."""
        for role, criteria in (("primary", self.primary), ("guardrail", self.guardrails)):
            for criterion in criteria:
                if (criterion.task, criterion.metric) == (task, metric):
                    return role, criterion  # type: ignore[return-value]  # mypy widens the literal in the tuple
        return "monitor", None

    @property
    def at_the_end(self) -> Policy:
        """The policy of the final verdict: alpha without the fraction for interim analyses and earlier stages."""
        if self.sequential_seeds is not None:
            return self.at_stage(len(self.sequential_seeds.stages))
        if self.early_stopping.stop == "none":
            return self
        return replace(
            self, alpha=self.alpha * (1 - self.early_stopping.alpha_fraction), early_stopping=EarlyStopping()
        )

    def at_stage(self, number: int) -> Policy:
        """Return the policy of one stage of the seeds: alpha is the level of the stage.

        Args:
            number: number of the stage, from 1.
        """
        assert self.sequential_seeds is not None, "a policy with stages"
        return replace(self, alpha=self.sequential_seeds.levels(self.alpha)[number - 1], sequential_seeds=None)

    @classmethod
    def from_yaml(cls, path: Path | str) -> Policy:
        """Read a policy file.

        Raises:
            ConfigError: the file is not a mapping, a key is unknown or missing, or a value is invalid.
        """
        from assay.config.yaml_file import read_yaml

        path = Path(path)
        plain = read_yaml(path)
        if not plain:
            raise ConfigError(
                f"policy {path} has no keys.",
                fix="Set `primary` or `target`, `alpha` and `min_seeds`. `guardrails` is optional.",
            )
        return from_mapping(cls, {"name": path.stem, **plain}, where=f"policy {path}")


def _direction_names(task: str, metric: str) -> tuple[str, ...]:
    """Return the keys of `directions` that apply to a metric, with the most specific first."""
    names = (f"{prefix}{name}" for prefix in (f"{task} ", "") for name in (metric, without_filter(metric)))
    return tuple(dict.fromkeys(names))
