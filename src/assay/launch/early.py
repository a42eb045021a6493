"""Looks at a sweep that still trains, and calling off the candidates that the policy lets stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from assay import stopped
from assay.errors import AssayError
from assay.launch.cancel import WAIT_SECONDS, Cancelled, cancel
from assay.study import Study

if TYPE_CHECKING:
    import pandas as pd

    from assay.early import Look
    from assay.launch.records import SubmissionDirectory
    from assay.plan import Plan
    from assay.workspace import Workspace


log = logging.getLogger(__name__)


class Stopped(NamedTuple):
    """A candidate that was stopped.

    Attributes:
        stop: what its verdict says from now on.
        cancelled: what became of its runs.
    """

    stop: stopped.Stop
    cancelled: Cancelled


def looks_of(space: Workspace, plan: Plan, *, candidate: str | None = None) -> list[Look]:
    """Look at the candidates of a sweep, by the scores that their runs have so far.

    How often such signals held is counted in the history that the study names and among the store's other runs of the same
    proxy, budget and optimiser.

    Args:
        space: the study, under the policy that judges.
        plan: its plan.
        candidate: the only one to look at; left out, all that have scores.

    Raises:
        AssayError: the sweep has no such candidate, or nothing was scored on the way.
    """
    from assay.early import look
    from assay.imports.selection import for_policy
    from assay.looks import collect_looks

    sweep = plan.sweep
    if candidate is not None:
        sweep.check_candidate(candidate)
    names = sweep.candidates if candidate is None else (candidate,)
    frame = collect_looks(space.store, plan)
    there = set(frame["mix"])
    ready = [name for name in names if {name, sweep.control(name)} <= there]
    if not ready:
        raise AssayError(
            f"sweep {sweep.name!r}: no candidate and its baseline were scored yet, on the way or at the end.",
            fix=""
            if space.study.looks
            else "Runs are scored on the way where the study says so: training.looks=[0.25,0.5,0.75].",
        )
    frame, policy = for_policy(frame, space.study.policy, proxy=space.study.proxy.name, parameters=space.parameters)
    history = _history(space)
    return [
        look(
            frame,
            policy,
            baseline=sweep.control(name),
            candidate=name,
            budget_tokens=_budget(plan, name),
            history=history,
            past=_past(space, plan, {name, sweep.control(name)}, history),
            seeds=_seeds(plan, name),
        )
        for name in ready
    ]


def stop_early(
    space: Workspace, plan: Plan, looks: Sequence[Look], *, wait_seconds: float = WAIT_SECONDS
) -> list[Stopped]:
    """Call off the runs of candidates that the policy lets stop, and keep why for their verdicts.

    A run that another arm of the sweep shares goes on, and so does a candidate that others are compared with.

    Args:
        space: the study.
        plan: its plan.
        looks: at its candidates.
        wait_seconds: as for `assay.launch.cancel.cancel`.
    """
    done = []
    for one in looks:
        runs = own_runs(plan, one.candidate)
        if one.stopped is None or not runs:
            continue
        stop = stop_of(one, at=time.time())
        stopped.write(
            space.store, plan.sweep.name, stop
        )  # first: whatever befalls the rest, nobody takes them for failed
        done.append(Stopped(stop, cancel(space.store, plan.sweep.name, runs=runs, wait_seconds=wait_seconds)))
    return done


def stop_as_the_policy_says(directory: SubmissionDirectory) -> list[Stopped]:
    """What the job that looks after a sweep does each time: look at its candidates, and stop those that the policy lets stop.

    The policy is the registered one. Whatever goes wrong is logged and stops nobody: the sweep has to be looked after.
    """
    from assay.conclude import before_the_gate
    from assay.launch.slurm.finish import frozen

    submission = directory.read()
    try:
        if Study.parse(submission.study).policy.early.stop == "none":
            return []
        space, plan, _ = before_the_gate(frozen(submission))
        if space.study.policy.early.stop == "none":
            return []
        # It does not wait for them to stop: whoever looks next finds them called off.
        done = stop_early(space, plan, looks_of(space, plan), wait_seconds=0.0)
    except AssayError as error:  # nothing was scored on the way yet, or it cannot be judged
        log.info("no look: %s", error.what)
        return []
    except Exception:
        log.exception("the candidates of %s could not be looked at", submission.sweep)
        return []
    for one in done:
        log.info("%s: %s", one.stop.candidate, one.stop.sentence)
    return done


def own_runs(plan: Plan, candidate: str) -> list[str]:
    """Fingerprints of the unfinished runs of a candidate that nobody else in the sweep needs."""
    controls = {plan.sweep.control(name) for name in plan.sweep.candidates if name != candidate}
    if candidate in controls:
        return []
    others = {run.fingerprint for run in plan.runs if run.mix != candidate}
    mine = [run for run in plan.runs if run.mix == candidate and run.status in {"todo", "running"}]
    return [run.fingerprint for run in mine if run.fingerprint is not None and run.fingerprint not in others]


def stop_of(found: Look, *, at: float) -> stopped.Stop:
    """What is kept of a look that stops its candidate."""
    seen = found.stopped
    assert seen is not None, "only such looks stop anybody"
    assert seen.outcome != "open", "what is open stops nobody"
    return stopped.Stop(
        candidate=found.candidate,
        baseline=found.baseline,
        outcome=seen.outcome,
        share=seen.tokens / found.budget_tokens,
        tokens=seen.tokens,
        reasons=found.sentences()[1:],
        at=at,
    )


def _budget(plan: Plan, candidate: str) -> float:
    """Tokens of a run; all of a candidate and its control have one budget, or comparing refuses them."""
    return float(max(run.spec.tokens for run in plan.runs if run.mix == candidate and run.spec is not None))


def _seeds(plan: Plan, candidate: str) -> list[int]:
    """The replicates that are to be waited for: those of which neither arm is refused."""
    arms = {candidate, plan.sweep.control(candidate)}
    refused = {run.seed for run in plan.runs if run.mix in arms and run.status == "refused"}
    return [seed for seed in plan.sweep.seeds if seed not in refused]


def _history(space: Workspace) -> pd.DataFrame | None:
    """The past that the study names, with every checkpoint."""
    from pathlib import Path

    from assay.imports import judge

    study = space.study
    return None if study.history is None else judge.results(space.store, study.history, root=Path(study.paths.root))


def _past(space: Workspace, plan: Plan, judged: set[str], history: pd.DataFrame | None) -> pd.DataFrame | None:
    """Where to count: the named history, and the store's other runs that are alike."""
    import pandas as pd

    from assay.imports.selection import for_policy
    from assay.past import past_runs, past_scores

    mine = {run.fingerprint for run in plan.runs if run.mix in judged}
    others = [
        run
        for run in past_runs(space, evaluation=plan.evaluation)
        if run.alike and run.record.fingerprint not in mine and run.evaluation == plan.evaluation
    ]
    own = past_scores(others, looks=True)
    if own.empty:
        return history
    own, _ = for_policy(own, space.study.policy, proxy=space.study.proxy.name, parameters=space.parameters)
    return own if history is None else pd.concat([history, own], ignore_index=True)
