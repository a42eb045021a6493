"""Determine the current stage of each candidate of a sweep whose seeds are trained in stages.

The policy's `sequential_seeds` defines the stages. The runs of later stages wait until the gate has decided after the
current stage. The runs of a decided candidate are skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from assay.config.reason import Code, Reason
from assay.core.errors import ConfigError
from assay.store import stage_decisions

if TYPE_CHECKING:
    from assay.config.policy import Policy
    from assay.config.recipe import RunSpec
    from assay.config.sequential_seeds import SequentialSeeds
    from assay.config.sweep import Sweep
    from assay.store.runs import Store
    from assay.store.stage_decisions import StageDecision

HELD = frozenset({"later", "skipped"})
"""Planned statuses of runs that no submission sends: the run belongs to a later stage, or the candidate is decided."""

Specs = Mapping[tuple[str, int], "RunSpec"]
Held = tuple[Literal["later", "skipped"], Reason]
"""Status and reason of a run that is not submitted now."""
ReadDecision = Callable[[int, str], "StageDecision | None"]
"""Read the recorded decision after a stage on a candidate."""


@dataclass(frozen=True, kw_only=True)
class CandidateStage:
    """The current stage of a candidate."""

    candidate: str
    control: str
    number: int
    """Number of the stage, from 1: the stage that decided the candidate, or whose results the next decision needs."""
    decided: StageDecision | None = None
    """The decision that ended the candidate; None for an undecided candidate."""
    last: StageDecision | None = None
    """The recorded decision of the previous stage; None in the first stage and for a decided candidate."""


def stages_of(policy: Policy, sweep: Sweep) -> SequentialSeeds | None:
    """Return the stages of a sweep; None if all seeds are trained at once.

    A sweep that extends another sweep trains all its seeds at once, because the stages of that sweep have ended.

    Raises:
        ConfigError: the sweep has another number of seeds than the stages.
    """
    stages = policy.sequential_seeds
    if stages is None or sweep.extends is not None:
        return None
    if len(sweep.seeds) != stages.stages[-1]:
        raise ConfigError(
            f"sweep {sweep.name!r}: {len(sweep.seeds)} {'seed is' if len(sweep.seeds) == 1 else 'seeds are'} invalid;"
            f" expected {stages.stages[-1]} seeds, because policy {policy.name!r} has sequential_seeds.stages {list(stages.stages)}.",
            fix="Change `seeds` of the sweep, or the stages. `policy.sequential_seeds=null` trains all seeds at once.",
        )
    return stages


def current_stages(
    policy: Policy, sweep: Sweep, specs: Specs, evaluation: str, read: ReadDecision
) -> dict[str, CandidateStage]:
    """Return the current stage of each candidate; empty for a sweep without stages.

    Args:
        policy: the policy, with the stages.
        sweep: the sweep.
        specs: specs of the runs, by mix and seed. Refused mixes have no specs.
        evaluation: identity of the evaluation of the runs.
        read: reads recorded decisions. Decisions about other runs are ignored.
    """
    stages = stages_of(policy, sweep)
    if stages is None:
        return {}
    levels = policy.stage_levels(len(sweep.candidates))
    current = {}
    for candidate in sweep.candidates:
        control, last = sweep.control(candidate), None
        state = CandidateStage(candidate=candidate, control=control, number=len(levels))
        for number, (n_seeds, level) in enumerate(zip(stages.stages, levels, strict=True), start=1):
            decision = read(number, candidate)
            runs = fingerprints(specs, (control, candidate), sweep.seeds[:n_seeds])
            if decision is None or not decision.rests_on(
                runs=runs, evaluation=evaluation, n_seeds=n_seeds, level=level
            ):
                state = CandidateStage(candidate=candidate, control=control, number=number, last=last)
                break
            if decision.final:
                state = CandidateStage(candidate=candidate, control=control, number=number, decided=decision)
                break
            last = decision
        current[candidate] = state
    return current


def fingerprints(specs: Specs, mixes: tuple[str, ...], seeds: tuple[int, ...]) -> tuple[str, ...]:
    """Return the sorted fingerprints of the runs of some mixes and seeds, without refused runs."""
    keys = ((mix, seed) for mix in mixes for seed in seeds)
    return tuple(sorted(specs[key].fingerprint for key in keys if key in specs))


def recorded(store: Store, sweep: Sweep) -> ReadDecision:
    """Return a function that reads the recorded decisions of a sweep."""
    return lambda stage, candidate: stage_decisions.read(store, sweep.name, stage, candidate)


def held_runs(
    current: Mapping[str, CandidateStage], sweep: Sweep, stages: SequentialSeeds
) -> dict[tuple[str, int], Held]:
    """Return the runs that are not submitted now, by mix and seed.

    A control is trained on the seeds that its candidates need.
    """
    held: dict[tuple[str, int], Held] = {}
    for mix in sweep.mixes:
        needing = [state for state in current.values() if mix in (state.candidate, state.control)]
        n_seeds = max(stages.stages[state.number - 1] for state in needing)
        is_open = any(state.decided is None for state in needing)
        for number, seed in _later_seeds(sweep, stages, n_seeds):
            figures = {"stage": number, "stages": len(stages.stages)}
            if is_open:
                held[mix, seed] = "later", Reason(code=Code.STAGE_LATER, figures=figures)
            else:
                ended = max(state.number for state in needing)
                held[mix, seed] = "skipped", Reason(code=Code.STAGE_SKIPPED, figures={**figures, "decided": ended})
    return held


def _later_seeds(sweep: Sweep, stages: SequentialSeeds, n_seeds: int) -> Iterator[tuple[int, int]]:
    """Yield the stage and the seed of each replicate after the first `n_seeds`."""
    for position, seed in enumerate(sweep.seeds[n_seeds:], start=n_seeds):
        yield next(number for number, n in enumerate(stages.stages, start=1) if position < n), seed
