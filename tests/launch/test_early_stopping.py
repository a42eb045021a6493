"""Early stopping of candidates: their runs are cancelled, shared runs continue, and the verdict has the reasons."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from assay.analysis.early_stopping import Advice
from assay.analysis.verdict import decide_sweep
from assay.config.reason import Code
from assay.core.errors import AssayError
from assay.core.files import write_json
from assay.evaluate.items import write_items
from assay.launch.early_stopping import analyze_candidates, apply_stopping_policy, own_runs, stop_early
from assay.launch.submit import submit
from assay.store import early_stops
from assay.store.submissions import Submission, SubmissionDirectory, SubmittedRun
from tests.helpers.finished import finish
from tests.helpers.reasons import facts, first
from tests.launch.polling import until_state

if TYPE_CHECKING:
    from assay.config.study import Study
    from assay.plan.workspace import Workspace
    from tests.launch.conftest import MakeWorkspace

ENDLESS = 1_000_000
"""Steps of runs that are stopped during training."""
SEEDS = [0, 1, 2]


def look_at(space: Workspace, mix: str, seed: int, *, share: float, code: float) -> None:
    """Record interim scores of a run: bits per byte of code after a fraction of its steps."""
    spec = space.runs.spec(mix, seed)
    run = space.store.run(spec.fingerprint)
    run.create(spec, space.runs.labels(mix, seed))
    step = round(share * spec.steps)
    look = run.interim(step)
    look.path.mkdir(parents=True)
    sequences = step * spec.batch_sequences
    given = {source: {"sequences": round(weight * sequences)} for source, weight in spec.stages[0].weights.items()}
    write_json(look.path / "delivered.json", {"requested": spec.stages[0].weights, "delivered": given, "tokens": 0})
    noise = 0.002 * (seed - 1) * (1 if mix == "base" else -0.5)
    levels = {"validation/code": code + noise, "validation/web": 2.0 + noise}
    with look.writing_evaluation(space.runs.evaluation.fingerprint) as folder:
        folder.mkdir()
        rows = [
            {"task": task, "group": task, "doc_id": 0, "doc_hash": task, "prompt_hash": "", "bits_per_byte": level}
            | {"bits": 100 * level, "bytes": 100, "metrics": {}}
            for task, level in levels.items()
        ]
        write_items(folder / "items.parquet", rows)
        write_json(
            folder / "scores.json",
            {"scores": [{"task": t, "metric": "bits_per_byte", "value": v, "n": 1} for t, v in levels.items()]},
        )


def with_looks(space: Workspace, *, code: float) -> Workspace:
    """Record a finished baseline, and an interim evaluation of the candidate after a quarter."""
    for seed in SEEDS:
        finish(space, "base", seed)
        look_at(space, "base", seed, share=0.25, code=2.0)
        look_at(space, "more_web", seed, share=0.25, code=code)
    return space


LOSERS = {"policy__early_stopping": {"stop": "losers"}, "sweep__seeds": SEEDS, "sweep__candidates": ["more_web"]}


def test_the_runs_of_a_stopped_candidate_end_without_failure_and_its_verdict_has_the_reason(
    workspace: MakeWorkspace,
) -> None:
    space = with_looks(workspace(steps=ENDLESS, **LOSERS), code=2.6)
    submit(space, space.planner.plan())
    first = space.store.run(space.runs.spec("more_web", 0).fingerprint)
    until_state(first, "training")
    plan = space.planner.plan()
    looks = analyze_candidates(space, plan)
    assert [one.advice for one in looks] == [Advice.LOSER]
    (done,) = stop_early(space, plan, looks)
    assert set(done.cancelled.stopped) == {"more_web s0", "more_web s1", "more_web s2"}
    assert first.status().state == "cancelled"
    assert not first.claimed
    verdict = decide_sweep(space, space.planner.plan()).candidates["more_web"]
    assert verdict.decision == "REJECT"
    assert verdict.reasons[0].code is Code.STOPPED_EARLY
    assert (verdict.reasons[0].figures["outcome"], verdict.reasons[0].figures["fraction"]) == ("loser", 0.25)
    assert facts(verdict.reasons[1]) == (Code.WORSE, "validation/code bits_per_byte")


@pytest.fixture
def study(tiny_study: Callable[..., Study]) -> Callable[..., Workspace]:
    """Provide a function that creates a workspace whose runs are not trained."""
    from assay.plan.workspace import Workspace

    return lambda **changes: Workspace(tiny_study(steps=400, **changes))


def test_a_candidate_that_is_not_clearly_worse_continues(study: Callable[..., Workspace]) -> None:
    space = with_looks(study(**LOSERS), code=2.001)
    plan = space.planner.plan()
    looks = analyze_candidates(space, plan)
    assert [one.advice for one in looks] == [Advice.GO_ON]
    assert stop_early(space, plan, looks) == []
    assert early_stops.read(space.store, "tiny", "more_web") is None


def test_a_policy_without_early_stopping_cancels_nothing(study: Callable[..., Workspace]) -> None:
    space = with_looks(study(**{**LOSERS, "policy__early_stopping": {"stop": "none"}}), code=2.6)
    plan = space.planner.plan()
    looks = analyze_candidates(space, plan)
    assert looks[0].analyses[0].outcome == "loser"
    assert stop_early(space, plan, looks) == []


def test_a_candidate_that_is_a_baseline_of_others_continues(study: Callable[..., Workspace]) -> None:
    space = study(
        sweep__seeds=SEEDS,
        sweep__candidates=["more_web", "no_books"],
        sweep__arms=[{"name": "no_books", "control": "more_web"}],
    )
    plan = space.planner.plan()
    assert own_runs(plan, "more_web") == []
    assert len(own_runs(plan, "no_books")) == 3


def test_a_sweep_without_scores_reports_the_setting_to_change(study: Callable[..., Workspace]) -> None:
    """With a policy that does not stop candidates, and so requires no interim evaluations."""
    space = study()
    with pytest.raises(AssayError, match="no scores yet for both a candidate and its control") as refused:
        analyze_candidates(space, space.planner.plan())
    assert "training.interim_evaluations" in refused.value.fix
    assert study(**LOSERS).study.interim_fractions == (0.25, 0.5, 0.75)


def test_persistence_is_counted_among_other_runs_of_the_store(study: Callable[..., Workspace]) -> None:
    space = with_looks(study(**{**LOSERS, "sweep__candidates": ["more_web", "no_books"]}), code=2.6)
    for seed in SEEDS:
        finish(space, "no_books", seed)
        look_at(space, "no_books", seed, share=0.25, code=2.1)
    (one, _) = analyze_candidates(space, space.planner.plan())
    assert one.candidate == "more_web"
    assert one.analyses[0].persistence[0].n_mixes == 1, "no_books; the analyzed arms are excluded"
    unknown = first(one.reasons(), Code.PERSISTENCE_UNKNOWN)
    assert "at least 6" in unknown.figures["problem"]


def test_a_damaged_record_of_a_stop_is_reported(study: Callable[..., Workspace]) -> None:
    space = study(**LOSERS)
    path = space.store.sweep("tiny") / "stopped" / "more_web.json"
    path.parent.mkdir(parents=True)
    write_json(path, ["no", "record"])
    with pytest.raises(AssayError, match=r"more_web.json is not a record of an early stop"):
        early_stops.read(space.store, "tiny", "more_web")


def submission(space: Workspace) -> SubmissionDirectory:
    """Return a submission of the sweep without workers."""
    directory = SubmissionDirectory(space.store.sweep("tiny").absolute() / "submissions" / "1")
    runs = [run for run in space.planner.plan().runs if run.mix == "more_web"]
    directory.create(
        Submission(
            id="1",
            sweep="tiny",
            created=0.0,
            cluster="local",
            executor="local",
            workers=1,
            code="c" * 64,
            digests=space.sources.digests(space.mixes.sweep_sources),
            runs=tuple(SubmittedRun(fingerprint=str(run.fingerprint), mix=run.mix, seed=run.seed) for run in runs),
            evaluation=space.runs.evaluation,
            study=space.study.raw,
        )
    )
    return directory


@pytest.mark.parametrize(("stop", "state"), [("losers", "cancelled"), ("none", "queued")])
def test_the_monitor_job_stops_the_candidates_that_the_policy_stops(
    study: Callable[..., Workspace], stop: str, state: str
) -> None:
    space = with_looks(study(**{**LOSERS, "policy__early_stopping": {"stop": stop}}), code=2.6)
    directory = submission(space)
    apply_stopping_policy(directory)
    apply_stopping_policy(directory)  # as with two monitor jobs
    assert [run.status().state for run in directory.runs()] == [state] * 3
    assert (early_stops.read(space.store, "tiny", "more_web") is not None) == (stop == "losers")


def test_a_sweep_that_cannot_be_analyzed_is_still_monitored(
    study: Callable[..., Workspace], caplog: pytest.LogCaptureFixture
) -> None:
    space = study(**LOSERS)
    directory = submission(space)
    with caplog.at_level("INFO"):
        assert apply_stopping_policy(directory) == []
    assert "no scores yet for both a candidate and its control" in caplog.text
