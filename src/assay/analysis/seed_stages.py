"""Decide on the candidates of a sweep whose seeds are trained in stages.

The gate decides after each stage, at the level of the stage, with the seeds up to the end of the stage. A candidate in
an unfinished stage keeps the state of its previous stage, because a decision between two stages would be an additional
test. The levels of all stages sum to the policy's alpha (see `assay.config.sequential_seeds`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from assay.analysis.explanations import ArmSeeds, not_paired
from assay.analysis.gate import Decision, SweepVerdict, Verdict, candidates_note, gate
from assay.analysis.stats.tables import seed_order
from assay.config.reason import Code, Reason
from assay.plan.seed_stages import HELD, CandidateStage, current_stages, fingerprints, recorded, stages_of
from assay.store.stage_decisions import StageDecision

if TYPE_CHECKING:
    import pandas as pd

    from assay.analysis.results import Results
    from assay.analysis.stats.tables import Seed
    from assay.config.policy import Policy
    from assay.config.sequential_seeds import SequentialSeeds
    from assay.plan.plan import Plan, PlannedRun
    from assay.plan.workspace import Workspace

LISTED = 6
"""Maximum number of waiting runs that a reason lists by name."""


@dataclass(frozen=True, kw_only=True)
class StageView:
    """The stage on which the verdict on a candidate rests."""

    state: CandidateStage
    """Current stage of the candidate."""
    number: int
    """Number of the stage of the verdict, from 1. It precedes the current stage while that stage waits for runs."""
    plan: SequentialSeeds
    """Stages of the policy."""
    alpha: float
    """Alpha of all stages together, for one candidate."""
    levels: tuple[float, ...]
    """Level of each stage, for one candidate."""
    seeds: tuple[Seed, ...]
    """Seeds of the verdict: those up to the end of its stage."""
    waiting: tuple[str, ...] = ()
    """Labels of the runs that the decision of the current stage waits for."""
    scored: bool = False
    """Whether both arms have a result in the current stage."""
    left_out: tuple[Seed, ...] = ()
    """Seeds with results that the verdict does not use, because no completed stage contains them."""
    external: bool = False
    """Whether the results are external, so that no command of assay trains the seeds of the next stage."""
    lacking: tuple[Reason, ...] = ()
    """Why external results do not complete the first stage, from all seeds of the two arms."""

    @property
    def n_seeds(self) -> int:
        """Seeds per mix up to the end of the stage of the verdict."""
        return self.plan.stages[self.number - 1]

    @property
    def is_last(self) -> bool:
        """Whether the verdict rests on the last stage."""
        return self.number == len(self.plan.stages)

    @property
    def is_due(self) -> bool:
        """Whether the decision of the current stage can be recorded now."""
        return self.state.decided is None and not self.waiting and self.scored and not self.is_last


def stage_views(space: Workspace, plan: Plan) -> dict[str, StageView]:
    """Return the stage of the verdict on each candidate; empty for a sweep without stages.

    Args:
        space: the study, under the rules of its verdict.
        plan: its plan.
    """
    policy, sweep = space.study.policy, plan.sweep
    stages = stages_of(policy, sweep)
    if stages is None:
        return {}
    specs = {(run.mix, run.seed): run.spec for run in plan.runs if run.spec is not None}
    current = current_stages(policy, sweep, specs, plan.evaluation, recorded(space.store, sweep))
    return {name: _view(space, plan, state, stages, current) for name, state in current.items()}


def _view(
    space: Workspace,
    plan: Plan,
    state: CandidateStage,
    stages: SequentialSeeds,
    current: Mapping[str, CandidateStage],
) -> StageView:
    seeds = plan.sweep.seeds[: stages.stages[state.number - 1]]
    view = StageView(
        state=state,
        number=state.number,
        plan=stages,
        seeds=seeds,
        **_levels(space.study.policy, len(plan.sweep.candidates)),
    )
    if state.decided is not None:
        return view
    own = {state.candidate, state.control}
    same = [other for other in current.values() if other.decided is None and other.number == state.number]
    others = {mix for other in same for mix in (other.candidate, other.control)} - own
    runs = [run for run in plan.runs if run.seed in seeds and run.status not in {"reuse", "refused"}]
    active = [run for run in runs if not _ended(space, run)]
    waiting = [run for run in runs if run.mix in own]
    if view.is_last:  # as without stages, failed and cancelled runs do not prevent the last verdict
        waiting = [run for run in active if run.mix in own]
    else:  # the noise estimate uses all arms, so that runs in progress delay the decisions on all candidates
        waiting += [run for run in active if run.mix in others]
    scored = {run.mix for run in plan.runs if run.seed in seeds and run.mix in own and run.status == "reuse"}
    number = max(1, state.number - 1) if waiting else state.number
    labels, of_verdict = tuple(run.label for run in waiting), plan.sweep.seeds[: stages.stages[number - 1]]
    return replace(view, number=number, seeds=of_verdict, waiting=labels, scored=scored == own)


def _ended(space: Workspace, run: PlannedRun) -> bool:
    """Return whether a run ended without a result, so that no process works on the run."""
    return run.fingerprint is not None and run.status != "running" and space.store.run(run.fingerprint).status().ended


def gate_external(
    frame: pd.DataFrame, policy: Policy, *, baseline: str, candidates: Sequence[str], **arguments: Any
) -> SweepVerdict:
    """Decide on external results under a policy with stages.

    The stage of a candidate is the last one that its shared seeds with the baseline complete, in the order of the seeds.
    Further seeds are not used before the next stage is complete, and the scope of the verdict names them.

    Args:
        frame: long results of all mixes.
        policy: the policy, with the stages.
        baseline: the mix to compare with.
        candidates: the changed mixes.
        **arguments: further arguments of `assay.analysis.gate.gate`.
    """
    stages = policy.sequential_seeds
    assert stages is not None, "a policy with stages"
    number_of_candidates = arguments.setdefault("n_candidates", len(candidates))
    seeds_of = {mix: set(frame.loc[frame["mix"] == mix, "seed"]) for mix in (baseline, *candidates)}
    views = {}
    for name in candidates:
        shared = tuple(sorted(seeds_of[baseline] & seeds_of[name], key=seed_order))
        complete = sum(n_seeds <= len(shared) for n_seeds in stages.stages)
        used = shared[: stages.stages[complete - 1]] if complete else shared
        number = max(1, complete)
        views[name] = StageView(
            state=CandidateStage(candidate=name, control=baseline, number=number),
            number=number,
            plan=stages,
            **_levels(policy, number_of_candidates),
            seeds=used,
            waiting=() if complete else (f"{name} ({len(shared)} of {stages.stages[0]} shared seeds)",),
            left_out=shared[len(used) :],
            external=True,
            lacking=() if complete else _lacking(seeds_of, baseline, name, first=stages.stages[0]),
        )

    def decide(group: Sequence[str], seeds: tuple[Seed, ...], at_stage: Policy) -> SweepVerdict:
        rows = frame[frame["seed"].isin(seeds)] if seeds else frame
        return gate(rows, at_stage, baseline=baseline, candidates=group, **arguments)

    return decide_by_stage(views, candidates, policy, decide, n_candidates=number_of_candidates)


def _lacking(
    seeds_of: Mapping[str, Collection[Seed]], baseline: str, candidate: str, *, first: int
) -> tuple[Reason, ...]:
    """State which arm has too few seeds for the first stage, or that the arms share too few.

    Args:
        seeds_of: seeds with results, by mix.
        baseline: the mix to compare with.
        candidate: the changed mix.
        first: number of seeds of the first stage.
    """
    arms = [ArmSeeds(mix, tuple(sorted(seeds_of[mix], key=seed_order)), ()) for mix in (baseline, candidate)]
    few = tuple(arm.too_few(first) for arm in arms if len(arm.present) < first)
    return few or (not_paired(*arms),)


def _levels(policy: Policy, n_candidates: int) -> dict[str, Any]:
    """Return the levels of the stages and their sum for each of several candidates, as arguments of `StageView`."""
    return {
        "alpha": policy.alpha / policy.sharing(n_candidates),
        "levels": policy.stage_levels(n_candidates),
    }


def without_held_runs(plan: Plan) -> Plan:
    """Return a plan without the runs of later stages and of decided candidates, which no result lacks."""
    return replace(plan, runs=tuple(run for run in plan.runs if run.status not in HELD))


def results_of_seeds(results: Results, seeds: Sequence[Seed]) -> Results:
    """Return the results of some seeds, with the missing runs among these seeds."""
    missing: dict[str, list[Reason]] = {}
    for mix, reasons in results.missing.items():
        for reason in reasons:
            left = [seed for seed in reason.figures["seeds"] if seed in seeds]
            if left:
                missing.setdefault(mix, []).append(replace(reason, figures={**reason.figures, "seeds": left}))
    scores, items = results.scores, results.items
    return results._replace(
        scores=scores[scores["seed"].isin(seeds)], items=items[items["seed"].isin(seeds)], missing=missing
    )


def decide_by_stage(
    views: Mapping[str, StageView],
    names: Sequence[str],
    policy: Policy,
    decide: Callable[[Sequence[str], tuple[Seed, ...], Policy], SweepVerdict],
    *,
    n_candidates: int,
) -> SweepVerdict:
    """Decide on candidates with the same control, each at its own stage.

    Args:
        views: stages of the candidates.
        names: the candidates, at least one.
        policy: the policy, with the stages.
        decide: returns the verdict on some candidates from some seeds, under the policy of a stage.
        n_candidates: number of candidates of the whole sweep, as for `assay.analysis.gate.gate`.
    """
    groups: dict[tuple[int, tuple[Seed, ...]], list[str]] = {}
    for name in names:
        groups.setdefault((views[name].number, views[name].seeds), []).append(name)
    verdicts = [decide(group, seeds, policy.at_stage(number)) for (number, seeds), group in groups.items()]
    decided = {name: verdict for group in verdicts for name, verdict in group.candidates.items()}
    candidates = {name: at_its_stage(decided[name], views[name]) for name in names}
    missing = {mix: reasons for group in verdicts for mix, reasons in group.missing.items()}
    counted = n_candidates if policy.candidates == "all" else len(names)
    several = candidates_note(policy, counted, subject=verdicts[0].baseline) if counted > 1 else ()
    of_groups = (Code.SEVERAL_CANDIDATES, Code.CANDIDATES_CONTROLLED)  # about one group, at the level of its stage
    note = tuple(reason for reason in verdicts[0].note if reason.code not in of_groups)
    return replace(verdicts[0], candidates=candidates, missing=missing, note=(*several, *note))


def at_its_stage(verdict: Verdict, view: StageView) -> Verdict:
    """Return the verdict on a candidate with its stage: the decision that the stage permits, and the next stage."""
    figures = {
        "stage": view.number,
        "stages": view.plan.stages,
        "levels": view.levels,
        "spending": view.plan.spending,
        "alpha": view.alpha,
        "left_out": view.left_out,
    }
    scope = (*verdict.scope, Reason(code=Code.SCOPE_STAGES, subject=verdict.candidate, figures=figures))
    verdict = replace(verdict, scope=scope)
    if verdict.decision is Decision.BLOCKED:
        return verdict
    if view.state.decided is not None:
        return _decided(verdict, view, view.state.decided)
    if view.is_last and not view.waiting:
        return verdict
    if not view.waiting and ends_candidate(verdict, view):
        return _with_note(verdict, view)
    return _open(verdict, view)


def ends_candidate(verdict: Verdict, view: StageView) -> bool:
    """Return whether a decision after a stage before the last ends the candidate."""
    allowed = {Decision.REJECT} if view.plan.stop == "losers" else {Decision.ACCEPT, Decision.REJECT}
    return verdict.decision in allowed


def _decided(verdict: Verdict, view: StageView, record: StageDecision) -> Verdict:
    """Return the recorded decision. The figures are those of the current results, which normally are the same."""
    reasons = verdict.reasons if verdict.decision == record.decision else record.reasons
    return _with_note(replace(verdict, decision=Decision(record.decision), reasons=reasons), view)


def _with_note(verdict: Verdict, view: StageView) -> Verdict:
    figures = {
        "stage": view.number,
        "stages": len(view.plan.stages),
        "n_seeds": view.n_seeds,
        "left": view.plan.stages[-1] - view.n_seeds,
        "level": view.levels[view.number - 1],
    }
    note = Reason(code=Code.STAGE_DECIDED, subject=verdict.candidate, figures=figures)
    return replace(verdict, reasons=(*verdict.reasons, note), needed=(), options=())


def _open(verdict: Verdict, view: StageView) -> Verdict:
    """Return the verdict on an undecided candidate before the last stage."""
    causes: tuple[Reason, ...] = ()
    reasons = verdict.reasons if verdict.decision is Decision.INCONCLUSIVE else ()
    if view.lacking:  # the gate saw only the shared seeds, and counted the others as missing
        reasons = (*view.lacking, *(reason for reason in reasons if reason.code not in _COUNTS))
    if view.waiting:
        listed, more = view.waiting[:LISTED], max(0, len(view.waiting) - LISTED)
        causes = (Reason(code=Code.STAGE_WAITS, subject=verdict.candidate, figures={"runs": listed, "more": more}),)
    elif verdict.decision is Decision.ACCEPT:
        causes, reasons = (Reason(code=Code.STAGE_KEEPS_WINNERS),), verdict.reasons
    current = view.state.number
    figures = {"stage": current, "stages": len(view.plan.stages), "n_seeds": view.plan.stages[current - 1]}
    opened = Reason(code=Code.STAGE_OPEN, subject=verdict.candidate, figures=figures, causes=causes)
    following = current if view.waiting else current + 1
    before = 0 if following == 1 else view.plan.stages[following - 2]
    if view.external:
        before = len(view.seeds) + len(view.left_out)
    needed = Reason(
        code=Code.NEED_STAGE,
        subject=verdict.candidate,
        figures={
            "stage": following,
            "stages": len(view.plan.stages),
            "seeds": view.plan.stages[following - 1] - before,
            "n_seeds": view.plan.stages[following - 1],
            "level": view.levels[following - 1],
            "most": view.plan.stages[-1],
            "begun": bool(view.waiting),
            "external": view.external,
            "control": view.state.control,
        },
    )
    return replace(verdict, decision=Decision.INCONCLUSIVE, reasons=(opened, *reasons), needed=(needed,), options=())


def decisions_of(
    plan: Plan, views: Mapping[str, StageView], verdict: SweepVerdict, *, at: float
) -> list[StageDecision]:
    """Return the decisions of completed stages that are not recorded yet.

    A stage is complete if each run of both arms has a result, diverged or is refused, and if no other run of the
    stage is in progress. A blocked candidate gets no decision, and therefore no further seeds.

    Args:
        plan: the plan of the sweep.
        views: stages of the candidates.
        verdict: the verdict on the sweep from the same plan.
        at: time of the record, in seconds since the epoch.
    """
    specs = {(run.mix, run.seed): run.spec for run in plan.runs if run.spec is not None}
    decisions = []
    for name, view in views.items():
        decided = verdict.candidates[name]
        if not view.is_due or decided.decision is Decision.BLOCKED:
            continue
        decisions.append(
            StageDecision(
                candidate=name,
                baseline=view.state.control,
                stage=view.number,
                n_seeds=view.n_seeds,
                level=view.levels[view.number - 1],
                decision=str(decided.decision),  # type: ignore[arg-type]  # BLOCKED is excluded above
                final=decided.decision is not Decision.INCONCLUSIVE,
                reasons=tuple(reason for reason in decided.reasons if reason.code not in _OF_STAGE),
                runs=fingerprints(specs, (view.state.control, name), plan.sweep.seeds[: view.n_seeds]),
                evaluation=plan.evaluation,
                at=at,
            )
        )
    return decisions


_COUNTS = frozenset({Code.SEEDS_MISSING, Code.SEEDS_NOT_PAIRED})
_OF_STAGE = frozenset({Code.STAGE_DECIDED, Code.STAGE_OPEN})
