"""Run interim analyses during training, and cancel the candidates that the policy stops."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from assay.core.errors import NotFound, Refused
from assay.launch.cancel import WAIT_SECONDS, Cancelled, cancel
from assay.plan.frozen_workspace import frozen_workspace
from assay.plan.seed_stages import HELD
from assay.report.reason_text import text
from assay.store import early_stops

if TYPE_CHECKING:
    import pandas as pd

    from assay.analysis.early_stopping import InterimResult
    from assay.analysis.stats.history import HistoryTable
    from assay.plan.plan import Plan
    from assay.plan.workspace import Workspace
    from assay.store.submissions import SubmissionDirectory


log = logging.getLogger(__name__)


class Stopped(NamedTuple):
    """A candidate that was stopped.

    Attributes:
        stop: the record that the candidate's verdict reports from now on.
        cancelled: the outcome of cancelling the candidate's runs.
    """

    stop: early_stops.Stop
    cancelled: Cancelled


def analyze_candidates(space: Workspace, plan: Plan, *, candidate: str | None = None) -> list[InterimResult]:
    """Analyze the candidates of a sweep with the current scores of their runs.

    Persistence is the fraction of past differences of similar size that lasted to the end of training. The past
    differences come from the study's history, and from the store's other runs with the same proxy, budget and
    optimizer.

    Args:
        space: the study, with the policy to apply.
        plan: the sweep's plan.
        candidate: the only candidate to analyze (default: all candidates with scores).

    Raises:
        AssayError: the sweep has no such candidate, or no checkpoint has scores.
    """
    from assay.analysis.checkpoint_scores import collect_checkpoint_scores
    from assay.analysis.early_stopping import analyze_interim
    from assay.analysis.external.selection import for_policy
    from assay.analysis.stats.results_table import ResultsTable

    sweep = plan.sweep
    if candidate is not None:
        sweep.check_candidate(candidate)
    names = sweep.candidates if candidate is None else (candidate,)
    frame = collect_checkpoint_scores(space.store, plan)
    scored = set(frame["mix"])
    ready = [name for name in names if {name, sweep.control(name)} <= scored]
    if not ready:
        raise NotFound(
            f"sweep {sweep.name!r}: there are no scores yet for both a candidate and its control.",
            fix="Wait for the first intermediate checkpoint."
            if space.study.interim_fractions
            else "Evaluate intermediate checkpoints: training.interim_evaluations=[0.25,0.5,0.75].",
        )
    frame, policy = for_policy(
        frame, space.study.policy, proxy=space.study.proxy.name, parameters=space.runs.parameters
    )
    policy = policy.for_candidates(len(sweep.candidates))
    history, table = _history(space), ResultsTable.of(frame)
    return [
        analyze_interim(
            table,
            policy,
            baseline=sweep.control(name),
            candidate=name,
            budget_tokens=_budget(plan, name),
            history=history,
            past=_past(space, plan, {name, sweep.control(name)}, history),
            seeds=_seeds(plan, name),
            trained={mix: space.mixes.trained_sources(mix) for mix in (name, sweep.control(name))},
        )
        for name in ready
    ]


def stop_early(
    space: Workspace, plan: Plan, results: Sequence[InterimResult], *, wait_seconds: float = WAIT_SECONDS
) -> list[Stopped]:
    """Cancel the runs of candidates that the policy stops, and record the reasons.

    A run that another arm of the sweep shares continues. A candidate that is the control of other candidates also
    continues.

    Args:
        space: the study.
        plan: the sweep's plan.
        results: interim analyses of the candidates.
        wait_seconds: see `assay.launch.cancel.cancel`.
    """
    done = []
    for result in results:
        runs = own_runs(plan, result.candidate)
        if result.stopped is None or not runs:
            continue
        stop = stop_of(result, at=time.time())
        # Write the record first: if the cancellation fails midway, the cancelled runs do not count as failures.
        early_stops.write(space.store, plan.sweep.name, stop)
        done.append(Stopped(stop, cancel(space.store, plan.sweep.name, runs=runs, wait_seconds=wait_seconds)))
    return done


def apply_stopping_policy(directory: SubmissionDirectory) -> list[Stopped]:
    """Analyze the candidates of a sweep, and cancel those that the policy stops.

    The monitor job calls this function. The registered policy applies. Errors are logged and not raised, because the
    monitor job must continue.
    """
    from assay.analysis.verdict import apply_registration

    submission = directory.read()
    try:
        if submission.frozen_study().policy.early_stopping.stop == "none":
            return []
        space, plan, _ = apply_registration(frozen_workspace(submission))
        if space.study.policy.early_stopping.stop == "none":
            return []
        # Do not wait for the runs to stop: the next monitor job detects the cancelled runs.
        done = stop_early(space, plan, analyze_candidates(space, plan), wait_seconds=0.0)
    except (NotFound, Refused) as error:  # no checkpoint has scores yet, or the gate cannot decide
        log.info("no interim analysis: %s", error.what)
        return []
    except Exception:
        log.exception("the interim analysis of %s failed", submission.sweep)
        return []
    for stopped in done:
        log.info("%s: %s", stopped.stop.candidate, text(stopped.stop.reason))
    return done


def own_runs(plan: Plan, candidate: str) -> list[str]:
    """Return the fingerprints of a candidate's unfinished runs that other arms do not need."""
    controls = {plan.sweep.control(name) for name in plan.sweep.candidates if name != candidate}
    if candidate in controls:
        return []
    others = {run.fingerprint for run in plan.runs if run.mix != candidate}
    unfinished = [run for run in plan.runs if run.mix == candidate and run.status in {"todo", "running"}]
    return [run.fingerprint for run in unfinished if run.fingerprint is not None and run.fingerprint not in others]


def stop_of(result: InterimResult, *, at: float) -> early_stops.Stop:
    """Return the record of an analysis that stops its candidate."""
    analysis = result.stopped
    assert analysis is not None, "only such analyses stop a candidate"
    assert analysis.outcome != "open", "an open outcome stops no candidate"
    return early_stops.Stop(
        candidate=result.candidate,
        baseline=result.baseline,
        outcome=analysis.outcome,
        fraction=analysis.tokens / result.budget_tokens,
        tokens=analysis.tokens,
        reasons=result.reasons()[1:],
        at=at,
    )


def _budget(plan: Plan, candidate: str) -> float:
    """Return the token budget of a run.

    A candidate and its control have the same budget. Otherwise `compare` raises an error.
    """
    return float(max(run.spec.tokens for run in plan.runs if run.mix == candidate and run.spec is not None))


def _seeds(plan: Plan, candidate: str) -> list[int]:
    """Return the seeds to wait for, without seeds in which an arm is refused or has no run in the current stage."""
    arms = {candidate, plan.sweep.control(candidate)}
    refused = {run.seed for run in plan.runs if run.mix in arms and run.status in {"refused", *HELD}}
    return [seed for seed in plan.sweep.seeds if seed not in refused]


def _history(space: Workspace) -> HistoryTable | None:
    """Return the study's history, with every checkpoint."""
    from pathlib import Path

    from assay.analysis.external import verdict
    from assay.analysis.stats.history import HistoryTable

    study = space.study
    if study.history is None:
        return None
    return HistoryTable.of(verdict.results(space.store, study.history, root=Path(study.paths.root)))


def _past(
    space: Workspace, plan: Plan, analyzed: set[str], history: HistoryTable | None
) -> pd.DataFrame | HistoryTable | None:
    """Return the data for persistence counts: the study's history and the store's comparable runs."""
    import pandas as pd

    from assay.analysis.external.selection import for_policy
    from assay.analysis.past_runs import past_runs, past_scores

    compared = {run.fingerprint for run in plan.runs if run.mix in analyzed}
    others = [
        run
        for run in past_runs(space, evaluation=plan.evaluation)
        if run.comparable and run.record.fingerprint not in compared and run.evaluation == plan.evaluation
    ]
    own = past_scores(others, intermediate=True)
    if own.empty:
        return history
    own, _ = for_policy(own, space.study.policy, proxy=space.study.proxy.name, parameters=space.runs.parameters)
    return own if history is None else pd.concat([history.frame, own], ignore_index=True)
