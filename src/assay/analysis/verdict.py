"""Decide on the finished runs of a sweep under the registered policy.

The module needs no terminal, so that a SLURM job can decide on the sweep after the last training job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.config.reason import Code, Reason
from assay.plan.mix_check import MIX_CODES
from assay.plan.registration import as_registered
from assay.plan.speed import estimate_speed
from assay.store import early_stops
from assay.store.submissions import runs_in_progress

if TYPE_CHECKING:
    from assay.analysis.gate import SweepVerdict
    from assay.analysis.next_steps import DecisionContext
    from assay.analysis.results import Results
    from assay.config.policy import Policy
    from assay.config.sweep import Sweep
    from assay.plan.plan import Plan
    from assay.plan.registration import RegistrationState
    from assay.plan.sweep_selection import SelectedSweep
    from assay.plan.workspace import Workspace
    from assay.store.early_stops import Stop


class RegisteredSweep(NamedTuple):
    """A sweep under its registered policy and suite.

    Attributes:
        space: the study, under the registered policy and suite.
        plan: the plan of the sweep, with the evaluation of the registered suite.
        registration: differences between the policy and the policy registered before the results.
    """

    space: Workspace
    plan: Plan
    registration: RegistrationState


def apply_registration(
    space: Workspace, *, present: bool = False, plan: Plan | None = None, configured: Workspace | None = None
) -> RegisteredSweep:
    """Replace the policy and the suite of a study by those registered for its sweep.

    Args:
        space: the study.
        present: whether to use the current policy and suite instead of the registered ones.
        plan: plan of the study (default: a new plan).
        configured: the same runs under the current policy and suite (default: `space`).
    """
    registered, registration = as_registered(space, present=present, configured=configured)
    return RegisteredSweep(
        registered, plan if plan is not None and registered is space else registered.planner.plan(), registration
    )


def register_selection(selected: SelectedSweep, *, present: bool = False) -> RegisteredSweep:
    """Apply the registered rules to a selected sweep, and state which configuration was used.

    Args:
        selected: the sweep, as submitted or as configured.
        present: whether to use the current policy and suite instead of the registered ones.

    Raises:
        ConfigError: the current policy and suite are requested, and the current configuration is invalid.
        Refused: an override changes the policy or the suite, and the current ones are not requested.
    """
    if present and selected.problem is not None:
        raise selected.problem
    case = apply_registration(selected.workspace, present=present, configured=selected.configured)
    registered = case.registration.at is not None
    if not present and (registered or (selected.submitted is not None and not selected.current)):
        selected.refuse_unapplied_rules(case.registration.configured if registered else selected.changed)
    reasons = selected.reasons_for(present=present, registered=registered)
    return case._replace(registration=replace(case.registration, reasons=(*case.registration.reasons, *reasons)))


def decide_sweep(
    space: Workspace, plan: Plan, *, candidate: str | None = None, registration: RegistrationState | None = None
) -> SweepVerdict:
    """Decide on a sweep from the results in its store, by the policy of the study.

    Args:
        space: the study on this machine, under the registered policy (see `apply_registration`).
        plan: plan of the sweep; the verdict uses finished runs and lists all other runs as missing.
        candidate: the only candidate to decide (default: all of them).
        registration: differences between the policy and the registered policy; becomes part of the verdict.

    Raises:
        AssayError: the sweep has no such candidate.
    """
    from assay.analysis.excluded_scores import with_excluded_scores
    from assay.analysis.results import collect
    from assay.analysis.seed_stages import decide_by_stage, results_of_seeds, stage_views, without_held_runs

    sweep = plan.sweep
    if candidate is not None:
        sweep.check_candidate(candidate)
    results = collect(space.store, without_held_runs(plan))
    groups: dict[str, list[str]] = {}
    for name in sweep.candidates if candidate is None else [candidate]:
        groups.setdefault(sweep.control(name), []).append(name)
    blocked = _blocked(space)
    context = _decision_context(space, plan)
    stops = {
        name: stop for name in sweep.candidates if (stop := early_stops.read(space.store, sweep.name, name)) is not None
    }
    views = stage_views(space, plan)
    decide = partial(_decide_against, blocked=blocked, context=context, stops=stops)
    if views:
        verdicts = [
            decide_by_stage(
                views,
                names,
                space.study.policy,
                lambda group, seeds, policy, control=control: decide(  # type: ignore[misc]  # mypy cannot infer a default argument here
                    _evidence(space, results_of_seeds(results, seeds), policy), control, group
                ),
                n_candidates=len(sweep.candidates),
            )
            for control, names in groups.items()
        ]
    else:
        evidence = _evidence(space, results, space.study.policy)
        verdicts = [decide(evidence, control, names) for control, names in groups.items()]
    verdict = verdicts[0] if len(verdicts) == 1 else _merge(space, verdicts)
    if sweep.extends is not None:
        verdict = replace(verdict, note=(*verdict.note, added_seeds_reason(sweep)))
    reasons = [reason for decided in verdict.candidates.values() for reason in decided.reasons]
    mixes = tuple(reason for reason in plan.warnings if reason.code in MIX_CODES)
    lost_text = tuple(warning for warning in plan.warnings if warning.code is Code.TOKENIZER_LOSES_TEXT)
    verdict = replace(
        verdict,
        missing=with_excluded_scores(results.missing, reasons),
        mixes=mixes,
        note=(*verdict.note, *lost_text),
        running=_running(space, plan),
    )
    return verdict if registration is None else verdict.with_registration(registration)


def _running(space: Workspace, plan: Plan) -> tuple[str, ...]:
    """Return the labels of unfinished runs that a worker has or will take."""
    taken = runs_in_progress(space.store, plan.sweep.name, plan.evaluation)
    return tuple(
        run.label for run in plan.runs if run.status == "running" or (run.status == "todo" and run.fingerprint in taken)
    )


def _evidence(space: Workspace, results: Results, policy: Policy) -> dict[str, Any]:
    """Return the gate's tables and policy, which all controls share."""
    from assay.analysis.external.selection import for_policy
    from assay.analysis.external.verdict import history
    from assay.analysis.stats.history import HistoryTable
    from assay.analysis.stats.item_table import ItemTable
    from assay.analysis.stats.results_table import ResultsTable

    scores, policy = for_policy(results.scores, policy, proxy=space.study.proxy.name, parameters=space.runs.parameters)
    past = history(space.study, space.store)
    return {
        "results": ResultsTable.of(scores),
        "policy": policy,
        "items": ItemTable.of(results.items),
        "missing": results.missing,
        "trained": {mix: space.mixes.trained_sources(mix) for mix in space.study.require_sweep().mixes},
        "history": None if past is None else HistoryTable.of(past),
        "n_candidates": len(space.study.require_sweep().candidates),
    }


def _decide_against(
    evidence: Mapping[str, Any],
    control: str,
    names: Sequence[str],
    *,
    blocked: Mapping[str, Sequence[Reason]],
    context: DecisionContext,
    stops: Mapping[str, Stop],
) -> SweepVerdict:
    """Decide on the candidates that have the same control."""
    from assay.analysis.gate import gate, without_mixes

    apart = [mix for mix in blocked if mix not in {control, *names}]
    return gate(
        **{**evidence, "results": without_mixes(evidence["results"], apart)},
        baseline=control,
        candidates=names,
        blocked={name: blocked[name] for name in names if name in blocked},
        context=context,
        stops=stops,
    )


def added_seeds_reason(sweep: Sweep) -> Reason:
    """Return the note that seeds added after a verdict raise the error rate."""
    return Reason(code=Code.SEEDS_ADDED, subject=sweep.extends or "")


def _decision_context(space: Workspace, plan: Plan) -> DecisionContext:
    """Collect the cost of a run, and past runs that show the effect of larger runs."""
    import pandas as pd

    from assay.analysis.external.selection import for_policy
    from assay.analysis.external.verdict import history
    from assay.analysis.next_steps import DecisionContext
    from assay.analysis.past_runs import past_runs, past_scores

    speed, planned = estimate_speed(space.runs, space.store), {run.fingerprint for run in plan.runs}
    seconds = None
    if speed.tokens_per_second is not None:
        seconds = space.runs.budget / speed.tokens_per_second + (speed.evaluate_seconds or 0.0)
    others = [past for past in past_runs(space, evaluation=plan.evaluation) if past.run.fingerprint not in planned]
    scores, policy = past_scores(others), space.study.policy
    at_proxy = scores["scale"] == space.runs.parameters
    named, _ = for_policy(scores[at_proxy], policy, proxy=space.study.proxy.name, parameters=space.runs.parameters)
    tables = [t for t in (named, scores[~at_proxy], history(space.study, space.store)) if t is not None and not t.empty]
    return DecisionContext(
        tokens=space.runs.budget, seconds=seconds, past=pd.concat(tables, ignore_index=True) if tables else None
    )


def _merge(space: Workspace, verdicts: Sequence[SweepVerdict]) -> SweepVerdict:
    """Merge the verdicts on candidates with different controls, in the sweep's order."""
    sweep, policy = space.study.require_sweep(), space.study.policy
    by_name = {name: decided for verdict in verdicts for name, decided in verdict.candidates.items()}
    ordered = {name: by_name[name] for name in sweep.candidates if name in by_name}
    figures = {"candidates": len(ordered), "controls": len(verdicts), "alpha": policy.alpha}
    figures["expected"] = len(ordered) * policy.alpha
    note: tuple[Reason, ...] = (Reason(code=Code.SEVERAL_CONTROLS, figures=figures),)
    if policy.candidates == "all":
        from assay.analysis.gate import candidates_note

        note = candidates_note(policy, len(sweep.candidates), subject=sweep.baseline)
    return replace(verdicts[0], baseline=sweep.baseline, candidates=ordered, note=note)


def _blocked(space: Workspace) -> dict[str, list[Reason]]:
    """Return why mixes are blocked: a source of the mix or its baseline is uncleared or defective."""
    sweep = space.study.require_sweep()
    reasons = {}
    for mix in sweep.candidates:
        control = sweep.control(mix)
        shared = [
            Reason(code=Code.BASELINE_BLOCKED, subject=control, causes=(cause,))
            for cause in space.mixes.blocks(control)
        ]
        reasons[mix] = [*space.mixes.blocks(mix), *shared]
    return {mix: blocking for mix, blocking in reasons.items() if blocking}
