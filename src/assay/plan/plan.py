"""Make the plan of a sweep: runs to train, runs to reuse, refusals and cost.

Making a plan starts no process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple

from assay.config.policy import Averaging
from assay.config.reason import Code, Reason
from assay.config.recipe import RunSpec
from assay.config.sweep import Sweep
from assay.plan.seed_stages import Held

PlanStatus = Literal["todo", "reuse", "running", "refused", "later", "skipped"]
"""Planned action of a run. `later` and `skipped` occur only with `sequential_seeds` (see `assay.plan.seed_stages`)."""


class StoredRun(NamedTuple):
    """The state of a run in the store.

    Attributes:
        state: the recorded state.
        claimed: whether a worker holds the run now.
        trained: whether the final weights of the run exist.
        evaluated: whether the run has the sweep's evaluation.
        failure: the failure that ended the run, if any.
    """

    state: str
    claimed: bool
    trained: bool
    evaluated: bool
    failure: str | None = None


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """A run of a sweep with its planned action."""

    mix: str
    """Name of the arm, which is also the name of its mix."""
    seed: int
    """Seed of the replicate."""
    spec: RunSpec | None
    """Spec of the run; None if the mix is refused, or if its weights depend on sources that are not tokenized."""
    status: PlanStatus
    """Planned action."""
    reasons: tuple[Reason, ...] = ()
    """Reasons for the status."""
    taints: tuple[Reason, ...] = ()
    """Defects of the run's sources, which exclude a started run from the verdict."""
    seconds: float | None = None
    """Estimated worker time of the remaining work in seconds; None if no speed is known."""

    @property
    def fingerprint(self) -> str | None:
        """Fingerprint of the run; None without a spec."""
        return self.spec.fingerprint if self.spec else None

    @property
    def label(self) -> str:
        """Name of the run within its sweep, such as `more_web s0`."""
        return f"{self.mix} s{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Estimated cost of the runs to do."""

    runs: int
    """Number of runs."""
    tokens: int
    """Number of tokens to train on."""
    worker_seconds: float | None
    """Time in seconds, summed over workers; None if no speed is known."""
    wall_seconds: float | None
    """Elapsed time in seconds; None if no speed is known."""
    disk_bytes: int
    """Size of weights and checkpoints in bytes."""
    basis: str
    """Source of the time estimate."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All runs of a sweep with their planned actions."""

    sweep: Sweep
    """The sweep."""
    runs: tuple[PlannedRun, ...]
    """The runs, one per mix and seed."""
    evaluation: str
    """Identity of the evaluation of every run."""
    cost: Cost
    """Cost of the runs to do."""
    warnings: tuple[Reason, ...] = field(default=())
    """Problems that do not prevent a run."""
    average: Averaging = field(default_factory=Averaging)
    """Checkpoints over which a run's scores are averaged."""

    def of(self, status: PlanStatus) -> tuple[PlannedRun, ...]:
        """Return the runs with a status."""
        return tuple(run for run in self.runs if run.status == status)

    @property
    def complete(self) -> bool:
        """Whether every run has a result, or is not needed."""
        return all(run.status in {"reuse", "skipped"} for run in self.runs)


class Speed(NamedTuple):
    """Estimated speed of a run on this machine.

    Attributes:
        tokens_per_second: training tokens per second of one worker; None if unknown.
        evaluate_seconds: seconds of the sweep's evaluation of one run; None if unknown.
        basis: source of the figures.
    """

    tokens_per_second: float | None
    evaluate_seconds: float | None
    basis: str


def make_plan(
    sweep: Sweep,
    *,
    specs: Mapping[tuple[str, int], RunSpec],
    refusals: Mapping[str, Sequence[Reason]],
    waiting: Mapping[str, Reason],
    known: Mapping[str, StoredRun],
    evaluation: str,
    tokens: int,
    speed: Speed,
    workers: int,
    retry_failed: bool = False,
    tainted: Mapping[str, Sequence[Reason]] = MappingProxyType({}),
    warnings: Sequence[Reason] = (),
    average: Averaging | None = None,
    held: Mapping[tuple[str, int], Held] = MappingProxyType({}),
) -> Plan:
    """Decide the action for each mix and seed of a sweep.

    Args:
        sweep: the sweep.
        specs: the resolved spec by mix and seed. A mix that cannot be resolved has no spec.
        refusals: reasons why a mix may not be trained, by mix.
        waiting: what must be tokenized before a mix's specs are known, by mix.
        known: the state of stored runs by fingerprint.
        evaluation: identity of the sweep's evaluation.
        tokens: token budget of a run, for runs without a spec.
        speed: measured speed, for the estimate of the cost.
        workers: number of concurrent runs.
        retry_failed: whether to retry runs that diverged.
        tainted: defects of sources for which a mix may no longer be trained, by mix. Runs that were already trained are
            kept and displayed.
        warnings: problems that do not prevent a run.
        average: checkpoints over which a run's scores are averaged (default: the final weights only).
        held: runs that are not submitted now, because they belong to a later stage or are not needed.
    """
    runs = []
    for mix in sweep.mixes:
        for seed in sweep.seeds:
            spec = specs.get((mix, seed))
            status, reasons = _decide(spec, refusals.get(mix, ()), waiting.get(mix), known, retry_failed=retry_failed)
            taints = tuple(tainted.get(mix, ())) if status != "refused" else ()
            if taints and status == "todo":
                status, reasons, taints = "refused", taints, ()
            if status == "todo" and (mix, seed) in held:
                status, reason = held[mix, seed]
                reasons = (reason,)
            trained = spec is not None and spec.fingerprint in known and known[spec.fingerprint].trained
            seconds = _seconds(0 if trained else tokens, speed) if status == "todo" else None
            runs.append(
                PlannedRun(
                    mix=mix, seed=seed, spec=spec, status=status, reasons=reasons, taints=taints, seconds=seconds
                )
            )
    return Plan(
        sweep=sweep,
        runs=tuple(runs),
        evaluation=evaluation,
        cost=_cost(runs, known, speed, tokens, workers),
        warnings=tuple(warnings),
        average=average or Averaging(),
    )


def _decide(
    spec: RunSpec | None,
    refusals: Sequence[Reason],
    waiting: Reason | None,
    known: Mapping[str, StoredRun],
    *,
    retry_failed: bool,
) -> tuple[PlanStatus, tuple[Reason, ...]]:
    if not refusals and waiting is not None:
        return "todo", (waiting,)
    if refusals or spec is None:
        return "refused", tuple(refusals)
    status, reason = _of_run(known.get(spec.fingerprint), retry_failed=retry_failed)
    return status, (reason,)


def _of_run(record: StoredRun | None, *, retry_failed: bool) -> tuple[PlanStatus, Reason]:
    """Decide the action for a permitted run from its stored state."""
    if record is None:
        return "todo", Reason(code=Code.NEVER_RUN)
    if record.evaluated:
        return "reuse", Reason(code=Code.TRAINED_AND_EVALUATED)
    if record.claimed:
        return "running", Reason(code=Code.IN_PROGRESS, figures={"state": record.state})
    if record.trained:
        return "todo", Reason(code=Code.EVALUATION_MISSING)
    failure = {"failure": record.failure}
    if record.state == "diverged" and not retry_failed:
        return "refused", Reason(code=Code.DIVERGED, figures=failure)
    if record.failure:
        return "todo", Reason(code=Code.ENDED_BEFORE, figures=failure)
    return "todo", Reason(code=Code.QUEUED if record.state == "queued" else Code.RESUMES)


def _seconds(tokens: int, speed: Speed) -> float | None:
    if speed.tokens_per_second is None:
        return None
    return tokens / speed.tokens_per_second + (speed.evaluate_seconds or 0.0)


def _cost(runs: Sequence[PlannedRun], known: Mapping[str, StoredRun], speed: Speed, tokens: int, workers: int) -> Cost:
    # A run that two arms share is trained once. A run without a spec counts separately.
    todo = {run.fingerprint or run.label: run for run in runs if run.status == "todo"}
    untrained = [run for key, run in todo.items() if not (key in known and known[key].trained)]
    seconds = [run.seconds for run in todo.values() if run.seconds is not None]
    total = sum(seconds) if len(seconds) == len(todo) else None
    rounds = -(-len(todo) // workers) if todo else 0
    wall = None if total is None else max(total / workers, rounds * max(seconds, default=0.0))
    return Cost(
        runs=len(todo),
        tokens=tokens * len(untrained),
        worker_seconds=total,
        wall_seconds=wall,
        disk_bytes=sum(_disk(run.spec) for run in untrained if run.spec),
        basis=speed.basis,
    )


def _disk(spec: RunSpec) -> int:
    """Estimate the bytes of the final weights and two checkpoints, at 4 bytes per value.

    A checkpoint includes both moments of the optimizer.
    """
    return spec.model.parameters(spec.vocabulary) * 4 * (1 + 2 * 3)
