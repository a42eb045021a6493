"""Sequential seeds: stages are decided once, undecided candidates get further seeds, and verdicts state the stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from assay.analysis.verdict import decide_sweep
from assay.config.reason import Code
from assay.core.errors import AssayError
from assay.core.files import write_json
from assay.launch.seed_stages import record_stages, submit_next_stage
from assay.launch.submit import submit
from assay.store import stage_decisions
from assay.store.runs import Failure
from assay.store.submissions import submissions
from tests.helpers.finished import finish
from tests.helpers.reasons import first
from tests.launch.polling import until

if TYPE_CHECKING:
    from assay.analysis.gate import Verdict
    from assay.config.study import Study
    from assay.plan.workspace import Workspace
    from tests.launch.conftest import MakeWorkspace

STAGES = {"stages": [2, 3, 5], "spending": "pocock"}
SEEDS = [0, 1, 2, 3, 4]
BETTER, EQUAL, WORSE = {"code": -0.4}, {"code": 0.0}, {"code": 0.4}


@pytest.fixture
def study(tiny_study: Callable[..., Study]) -> Callable[..., Workspace]:
    """Provide a function that creates a workspace with stages of 2, 3 and 5 seeds."""
    from assay.plan.workspace import Workspace

    def make(**changes: Any) -> Workspace:
        defaults = {"policy__sequential_seeds": STAGES, "sweep__seeds": SEEDS, "policy__guardrails": []}
        return Workspace(tiny_study(**{**defaults, **changes}))

    return make


def train(space: Workspace, *seeds: int, **effects: dict[str, float]) -> None:
    """Record finished runs of the baseline and of candidates with these effects."""
    for seed in seeds:
        finish(space, "base", seed)
        for mix, bits in effects.items():
            finish(space, mix, seed, bits=bits)


def statuses(space: Workspace) -> dict[str, str]:
    """Return the planned actions by mix, one letter per seed in the order of the seeds."""
    plan = space.planner.plan()
    return {mix: "".join(run.status[0] for run in plan.runs if run.mix == mix) for mix in plan.sweep.mixes}


def verdict(space: Workspace, mix: str) -> Verdict:
    return decide_sweep(space, space.planner.plan()).candidates[mix]


def test_only_the_seeds_of_the_first_stage_are_planned_at_first(study: Callable[..., Workspace]) -> None:
    space = study()
    assert statuses(space) == {"base": "ttlll", "more_web": "ttlll", "no_books": "ttlll"}
    assert record_stages(space) == []
    assert space.planner.plan().cost.runs == 6


def test_a_decided_candidate_gets_no_further_seeds_and_an_undecided_one_does(study: Callable[..., Workspace]) -> None:
    space = study()
    train(space, 0, 1, more_web=BETTER, no_books=EQUAL)
    done = {decision.candidate: decision for decision in record_stages(space)}
    assert (done["more_web"].decision, done["more_web"].final) == ("ACCEPT", True)
    assert (done["no_books"].decision, done["no_books"].final) == ("INCONCLUSIVE", False)
    assert statuses(space) == {"base": "rrtll", "more_web": "rrsss", "no_books": "rrtll"}
    train(space, 2, no_books=EQUAL)
    record_stages(space)
    assert statuses(space) == {"base": "rrrtt", "more_web": "rrsss", "no_books": "rrrtt"}


def test_the_verdict_states_stages_levels_and_the_deciding_stage(study: Callable[..., Workspace]) -> None:
    space = study()
    train(space, 0, 1, more_web=BETTER, no_books=EQUAL)
    record_stages(space)
    train(space, 2, no_books=EQUAL)
    record_stages(space)
    accepted, undecided = verdict(space, "more_web"), verdict(space, "no_books")
    assert accepted.decision == "ACCEPT"
    decided = first(accepted.reasons, Code.STAGE_DECIDED).figures
    assert (decided["stage"], decided["n_seeds"], decided["left"]) == (1, 2, 3)
    assert accepted.comparisons[0].n_seeds == 2
    assert accepted.comparisons[0].level == pytest.approx(1 - 0.0262, abs=1e-4)
    scope = first(accepted.scope, Code.SCOPE_STAGES).figures
    assert (scope["stage"], scope["stages"]) == (1, (2, 3, 5))
    assert sum(scope["levels"]) == pytest.approx(0.05)
    assert undecided.decision == "INCONCLUSIVE"
    need = undecided.needed[0].figures
    assert (undecided.needed[0].code, need["stage"], need["seeds"], need["n_seeds"]) == (Code.NEED_STAGE, 3, 2, 5)
    assert undecided.reasons[0].code is Code.STAGE_OPEN
    assert undecided.options == ()


def test_the_last_stage_decides_like_a_sweep_without_stages_at_its_level(study: Callable[..., Workspace]) -> None:
    space = study(sweep__candidates=["more_web"])
    for seeds in ((0, 1), (2,)):
        train(space, *seeds, more_web=EQUAL)
        record_stages(space)
    train(space, 3, 4, more_web=EQUAL)
    assert record_stages(space) == []
    last = verdict(space, "more_web")
    assert (last.decision, last.comparisons[0].n_seeds) == ("INCONCLUSIVE", 5)
    assert last.comparisons[0].level == pytest.approx(1 - 0.0146, abs=1e-4)
    assert Code.NEED_STAGE not in {need.code for need in last.needed}
    assert space.planner.plan().complete


def test_results_between_two_stages_decide_nothing(study: Callable[..., Workspace]) -> None:
    """One seed of two has a result, or runs of another arm are still to come."""
    space = study()
    train(space, 0, more_web=BETTER, no_books=EQUAL)
    finish(space, "base", 1)
    finish(space, "more_web", 1, bits=BETTER)
    assert record_stages(space) == []
    waiting = verdict(space, "more_web")
    assert waiting.decision == "INCONCLUSIVE"
    assert waiting.reasons[0].causes[0].figures["runs"] == ("no_books s1",)
    assert statuses(space)["base"] == "rrlll"


def test_results_after_a_stage_do_not_change_its_decision(study: Callable[..., Workspace]) -> None:
    """As with runs of another sweep, whose results exist before the stage."""
    space = study(sweep__candidates=["more_web"])
    train(space, 0, 1, more_web=EQUAL)
    train(space, 2, 3, more_web=WORSE)
    (recorded,) = record_stages(space)[:1]
    assert (recorded.stage, recorded.decision, recorded.n_seeds) == (1, "INCONCLUSIVE", 2)


def test_a_decision_is_recorded_once(study: Callable[..., Workspace]) -> None:
    space = study(sweep__candidates=["more_web"])
    train(space, 0, 1, more_web=BETTER)
    record_stages(space)
    before = stage_decisions.read(space.store, "tiny", 1, "more_web")
    finish(space, "more_web", 1, bits=WORSE)
    assert record_stages(space) == []
    assert stage_decisions.read(space.store, "tiny", 1, "more_web") == before
    again = verdict(space, "more_web")
    assert (again.decision, Code.BETTER in {reason.code for reason in again.reasons}) == ("ACCEPT", True)


def test_a_decision_about_other_runs_is_ignored(study: Callable[..., Workspace]) -> None:
    space = study(sweep__candidates=["more_web"])
    train(space, 0, 1, more_web=BETTER)
    record_stages(space)
    changed = study(sweep__candidates=["more_web"], optim__peak_lr=0.02)
    assert statuses(changed) == {"base": "ttlll", "more_web": "ttlll"}


def test_a_policy_that_ends_only_losers_keeps_winners(study: Callable[..., Workspace]) -> None:
    space = study(policy__sequential_seeds={**STAGES, "stop": "losers"})
    train(space, 0, 1, more_web=BETTER, no_books=WORSE)
    done = {decision.candidate: decision for decision in record_stages(space)}
    assert (done["more_web"].decision, done["more_web"].final) == ("INCONCLUSIVE", False)
    assert (done["no_books"].decision, done["no_books"].final) == ("REJECT", True)
    assert statuses(space) == {"base": "rrtll", "more_web": "rrtll", "no_books": "rrsss"}


def test_failed_and_cancelled_runs_hold_the_next_stage_of_their_candidate(study: Callable[..., Workspace]) -> None:
    space = study()
    train(space, 0, 1, no_books=EQUAL)
    finish(space, "more_web", 0, bits=EQUAL)
    spec = space.runs.spec("more_web", 1)
    failed = space.store.run(spec.fingerprint)
    failed.create(spec, {})
    failed.update(state="failed", failure=Failure(kind="out of memory", message="the GPU has 80 GiB"))
    assert [decision.candidate for decision in record_stages(space)] == ["no_books"]
    waiting = verdict(space, "more_web")
    assert waiting.reasons[0].causes[0].figures["runs"] == ("more_web s1",)
    assert statuses(space) == {"base": "rrtll", "more_web": "rtlll", "no_books": "rrtll"}


def test_a_blocked_candidate_gets_no_further_seeds(study: Callable[..., Workspace]) -> None:
    space = study(sweep__candidates=["more_web"])
    train(space, 0, 1, more_web=EQUAL)
    blocked = study(sweep__candidates=["more_web"], source__code__clearance={"state": "blocked"})
    assert record_stages(blocked) == []
    assert verdict(blocked, "more_web").decision == "BLOCKED"
    assert not blocked.planner.plan().of("todo")


def test_a_damaged_record_is_an_error(study: Callable[..., Workspace]) -> None:
    space = study()
    path = space.store.sweep("tiny") / "stages" / "1" / "more_web.json"
    path.parent.mkdir(parents=True)
    write_json(path, ["no", "record"])
    with pytest.raises(AssayError, match=r"more_web.json is not a record of a stage"):
        space.planner.plan()


def test_a_sweep_needs_as_many_seeds_as_the_stages(study: Callable[..., Workspace]) -> None:
    with pytest.raises(AssayError, match="3 seeds are invalid; expected 5 seeds"):
        study(sweep__seeds=[0, 1, 2]).planner.plan()


def test_a_sweep_that_extends_another_trains_all_seeds_at_once(study: Callable[..., Workspace]) -> None:
    space = study(sweep__seeds=[*SEEDS, 5], sweep__extends="tiny", sweep__candidates=["more_web"])
    assert statuses(space) == {"base": "tttttt", "more_web": "tttttt"}


def test_the_last_worker_on_a_machine_submits_the_next_stage(workspace: MakeWorkspace) -> None:
    """Real runs: two stages of two and three seeds follow each other without a further command."""
    space = workspace(
        policy__sequential_seeds={"stages": [2, 3]},
        sweep__seeds=[0, 1, 2],
        sweep__candidates=["more_web"],
        policy__guardrails=[],
    )
    sent = submit(space, space.planner.plan())
    assert sent is not None
    assert sorted(run.label for run in sent.runs) == ["base s0", "base s1", "more_web s0", "more_web s1"]
    until(lambda: space.planner.plan().complete, "the second stage to end")
    first_submission, second = submissions(space.store, "tiny")
    assert sorted(run.label for run in second.read().runs) == ["base s2", "more_web s2"]
    assert submit_next_stage(first_submission) is None, "as in a monitor job that repeats its work"
    recorded = stage_decisions.read(space.store, "tiny", 1, "more_web")
    assert recorded is not None
    assert not recorded.final


def test_a_process_that_was_killed_between_decision_and_submission_loses_nothing(
    workspace: MakeWorkspace,
) -> None:
    """The decision is recorded and no submission exists: the next process submits the stage, and a repetition nothing."""
    space = workspace(
        policy__sequential_seeds={"stages": [2, 3]},
        sweep__seeds=[0, 1, 2],
        sweep__candidates=["more_web"],
        policy__guardrails=[],
        cluster__executor="debug",
    )
    submit(space, space.planner.plan())
    (directory,) = submissions(space.store, "tiny")
    record_stages(space)
    sent = submit_next_stage(directory)
    assert sent is not None
    assert sorted(run.label for run in sent.runs) == ["base s2", "more_web s2"]
    assert submit_next_stage(directory) is None
    assert space.planner.plan().complete


def test_a_cancelled_submission_gets_no_next_stage(study: Callable[..., Workspace]) -> None:
    space = study(cluster__executor="debug", sweep__candidates=["more_web"], policy__guardrails=[])
    train(space, 0, 1, more_web=EQUAL)
    assert submit(space, space.planner.plan()) is None
    (directory,) = submissions(space.store, "tiny")
    directory.cancel(None)
    assert submit_next_stage(directory) is None
    assert statuses(space) == {"base": "rrlll", "more_web": "rrlll"}
