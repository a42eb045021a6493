"""What a sweep still needs: runs to do, runs to reuse, refusals, and the cost. Building a plan runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple

from assay.arms import Arm
from assay.errors import AssayError, did_you_mean
from assay.recipe import RunSpec
from assay.sources import check_name
from assay.suite import Averaging

PlanStatus = Literal["todo", "reuse", "running", "refused"]


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A study: one baseline, its candidates and the replicates."""

    name: str
    question: str = ""
    """What the team wants to know, in a sentence; the page begins with it."""
    baseline: str
    candidates: tuple[str, ...]
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...] = ()
    """What arms change beside their mix; those that are not named here change nothing."""
    extends: str | None = None
    """The sweep that this one adds seeds to, its verdict having been seen; `assay plan --to-decide` writes it."""

    def __post_init__(self) -> None:
        check_name("sweep", self.name)
        where = f"sweep {self.name!r}"
        if len(self.name) > 100:
            raise AssayError(f"{where}: its name has {len(self.name)} characters.", fix="It names files: at most 100.")
        if not self.candidates or not self.seeds:
            raise AssayError(f"{where}: give at least one candidate and one seed.")
        if self.baseline in self.candidates:
            raise AssayError(
                f"{where}: {self.baseline!r} is baseline and candidate.", fix="Leave it out of candidates."
            )
        for kind, values in (("candidates", self.candidates), ("seeds", self.seeds)):
            if len(set(values)) < len(values):
                raise AssayError(f"{where}: {kind} {list(values)} name one twice.")
        if min(self.seeds) < 0:
            raise AssayError(f"{where}: seed {min(self.seeds)} is below 0.")
        named = [arm.name for arm in self.arms]
        for name in (*named, *(arm.control for arm in self.arms if arm.control is not None)):
            if name not in self.mixes or named.count(name) > 1:
                problem = "is described twice" if named.count(name) > 1 else "is neither baseline nor candidate"
                raise AssayError(f"{where}: arm {name!r} {problem}. {did_you_mean(name, self.mixes)}")
        if self.arm(self.baseline).control is not None:
            raise AssayError(
                f"{where}: the baseline {self.baseline!r} has a control.", fix="It is compared with nothing."
            )

    @property
    def mixes(self) -> tuple[str, ...]:
        """The baseline, then the candidates."""
        return (self.baseline, *self.candidates)

    def arm(self, name: str) -> Arm:
        """An arm by name."""
        return next((arm for arm in self.arms if arm.name == name), Arm(name=name))

    def control(self, candidate: str) -> str:
        """What a candidate is compared with."""
        return self.arm(candidate).control or self.baseline

    def check_candidate(self, name: str) -> None:
        """Refuse a name that is no candidate of this sweep."""
        if name not in self.candidates:
            raise AssayError(f"sweep {self.name!r} has no candidate {name!r}. {did_you_mean(name, self.candidates)}")


class Known(NamedTuple):
    """What the store says of a run.

    Attributes:
        state: the recorded state.
        claimed: whether a worker holds it right now.
        trained: whether its final weights are there.
        evaluated: whether the sweep's evaluation is there too.
        failure: why it ended without a result, if it did.
    """

    state: str
    claimed: bool
    trained: bool
    evaluated: bool
    failure: str | None = None


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run of a sweep, and what will happen to it."""

    mix: str
    seed: int
    spec: RunSpec | None
    """None where the mix is refused, or its weights are only known once its sources are tokenised."""
    status: PlanStatus
    reasons: tuple[str, ...] = ()
    seconds: float | None = None
    """Estimated worker time of what is left to do; ``None`` where no speed is known."""

    @property
    def fingerprint(self) -> str | None:
        """The run's identity."""
        return self.spec.fingerprint if self.spec else None

    @property
    def label(self) -> str:
        """What people call the run inside its sweep."""
        return f"{self.mix} s{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the runs to do will take."""

    runs: int
    tokens: int
    worker_seconds: float | None
    """Summed over workers; ``None`` where no speed is known yet."""
    wall_seconds: float | None
    disk_bytes: int
    basis: str
    """Where the estimate of time comes from."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All runs of a sweep with what will happen to each."""

    sweep: Sweep
    runs: tuple[PlannedRun, ...]
    evaluation: str
    """Identity of the evaluation that every run gets."""
    cost: Cost
    warnings: tuple[str, ...] = field(default=())
    average: Averaging = field(default_factory=Averaging)
    """Over which of a run's checkpoints its scores are averaged."""

    def of(self, status: PlanStatus) -> tuple[PlannedRun, ...]:
        """The runs of one status."""
        return tuple(run for run in self.runs if run.status == status)

    @property
    def complete(self) -> bool:
        """Whether every run is there to be judged."""
        return all(run.status == "reuse" for run in self.runs)


class Speed(NamedTuple):
    """What a run costs on this kind of machine.

    Attributes:
        tokens_per_second: of training, one worker.
        evaluate_seconds: of the sweep's evaluation.
        basis: where the figures come from.
    """

    tokens_per_second: float | None
    evaluate_seconds: float | None
    basis: str


def make_plan(
    sweep: Sweep,
    *,
    specs: Mapping[tuple[str, int], RunSpec],
    refusals: Mapping[str, Sequence[str]],
    waiting: Mapping[str, str],
    known: Mapping[str, Known],
    evaluation: str,
    tokens: int,
    speed: Speed,
    workers: int,
    retry_failed: bool = False,
    tainted: Mapping[str, Sequence[tuple[str, str]]] = MappingProxyType({}),
    warnings: Sequence[str] = (),
    average: Averaging | None = None,
) -> Plan:
    """Decide for each mix and seed of a sweep what is to be done.

    Args:
        sweep: the study.
        specs: the resolved spec by mix and seed; a mix that cannot be resolved has none.
        refusals: why a mix may not be trained, by mix.
        waiting: what has to be made before a mix's specs are known, by mix.
        known: what the store says, by fingerprint; runs it has never seen are left out.
        evaluation: identity of the sweep's evaluation.
        tokens: budget of a run, for those whose spec is not known yet.
        speed: measured costs, for the estimate.
        workers: runs at the same time.
        retry_failed: whether runs that diverged are tried again.
        tainted: why a mix may not be trained any more, by mix: defects of its sources, and what to do
            about each. What was trained before stays, and is shown.
        warnings: what people should know, though it stops nothing.
        average: over which of a run's checkpoints its scores are averaged; left out, its final weights count alone.
    """
    runs = []
    for mix in sweep.mixes:
        for seed in sweep.seeds:
            spec = specs.get((mix, seed))
            status, reasons = _decide(spec, refusals.get(mix, ()), waiting.get(mix), known, retry_failed=retry_failed)
            status, reasons = _with_taints(status, reasons, tainted.get(mix, ()))
            trained = spec is not None and spec.fingerprint in known and known[spec.fingerprint].trained
            seconds = _seconds(0 if trained else tokens, speed) if status == "todo" else None
            runs.append(PlannedRun(mix=mix, seed=seed, spec=spec, status=status, reasons=reasons, seconds=seconds))
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
    refusals: Sequence[str],
    waiting: str | None,
    known: Mapping[str, Known],
    *,
    retry_failed: bool,
) -> tuple[PlanStatus, tuple[str, ...]]:
    if not refusals and waiting is not None:
        return "todo", (waiting,)
    if refusals or spec is None:
        return "refused", tuple(refusals)
    record = known.get(spec.fingerprint)
    if record is None:
        return "todo", ("never run",)
    if record.evaluated:
        return "reuse", ("trained and evaluated",)
    if record.claimed:
        return "running", (record.state,)
    if record.trained:
        return "todo", ("trained; this evaluation is missing",)
    if record.state == "diverged" and not retry_failed:
        return "refused", (
            f"{record.failure}; the same spec would diverge again: change the recipe, or add --retry-failed",
        )
    if record.failure:
        return "todo", (f"ended before: {record.failure}",)
    return "todo", ("begun; goes on from its last checkpoint",) if record.state != "queued" else ("queued",)


TAINTED = "TAINTED: "
"""How the reasons begin for which a run that is done does not vote."""


def _with_taints(
    status: PlanStatus, reasons: tuple[str, ...], taints: Sequence[tuple[str, str]]
) -> tuple[PlanStatus, tuple[str, ...]]:
    if not taints or status == "refused":
        return status, reasons
    if status == "todo":
        return "refused", tuple(f"{what}; {fix}" for what, fix in taints)
    return status, (*reasons, *(f"{TAINTED}{what}" for what, _ in taints))


def _seconds(tokens: int, speed: Speed) -> float | None:
    if speed.tokens_per_second is None:
        return None
    return tokens / speed.tokens_per_second + (speed.evaluate_seconds or 0.0)


def _cost(runs: Sequence[PlannedRun], known: Mapping[str, Known], speed: Speed, tokens: int, workers: int) -> Cost:
    # A run that two arms share is done once; one whose spec is not known yet counts for itself.
    todo = {run.fingerprint or run.label: run for run in runs if run.status == "todo"}
    fresh = [run for key, run in todo.items() if not (key in known and known[key].trained)]
    seconds = [run.seconds for run in todo.values() if run.seconds is not None]
    total = sum(seconds) if len(seconds) == len(todo) else None
    rounds = -(-len(todo) // workers) if todo else 0
    wall = None if total is None else max(total / workers, rounds * max(seconds, default=0.0))
    return Cost(
        runs=len(todo),
        tokens=tokens * len(fresh),
        worker_seconds=total,
        wall_seconds=wall,
        disk_bytes=sum(_disk(run.spec) for run in fresh if run.spec),
        basis=speed.basis,
    )


def _disk(spec: RunSpec) -> int:
    """Final weights, and two checkpoints of weights with both moments, four bytes a parameter each."""
    return spec.model.parameters(spec.vocabulary) * 4 * (1 + 2 * 3)
