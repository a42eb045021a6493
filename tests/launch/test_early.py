"""Candidates that a look stops: their runs are called off, what they share goes on, and the verdict says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from assay import stopped
from assay.conclude import judge
from assay.early import Advice
from assay.errors import AssayError
from assay.evaluate.items import write_items
from assay.files import write_json
from assay.launch.early import looks_of, own_runs, stop_as_the_policy_says, stop_early
from assay.launch.records import Submission, SubmissionDirectory, SubmittedRun
from assay.launch.submission import submit
from tests.finished import finish
from tests.launch.waiting import until_state

if TYPE_CHECKING:
    from assay.study import Study
    from assay.workspace import Workspace
    from tests.launch.conftest import MakeWorkspace

ENDLESS = 1_000_000
"""Steps of runs that are stopped while they train."""
SEEDS = [0, 1, 2]


def look_at(space: Workspace, mix: str, seed: int, *, share: float, code: float) -> None:
    """Record a run's scores on its way: bits per byte of code at the end of some share of its steps."""
    spec = space.spec(mix, seed)
    run = space.store.run(spec.fingerprint)
    run.create(spec, space.labels(mix, seed))
    step = round(share * spec.steps)
    look = run.look(step)
    look.path.mkdir(parents=True)
    sequences = step * spec.batch_sequences
    given = {source: {"sequences": round(weight * sequences)} for source, weight in spec.stages[0].weights.items()}
    write_json(look.path / "delivered.json", {"requested": spec.stages[0].weights, "delivered": given, "tokens": 0})
    noise = 0.002 * (seed - 1) * (1 if mix == "base" else -0.5)
    levels = {"validation/code": code + noise, "validation/web": 2.0 + noise}
    with look.writing_evaluation(space.evaluation.fingerprint) as folder:
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
    """The baseline is done, and the candidate was looked at after a quarter."""
    for seed in SEEDS:
        finish(space, "base", seed)
        look_at(space, "base", seed, share=0.25, code=2.0)
        look_at(space, "more_web", seed, share=0.25, code=code)
    return space


LOSERS = {"policy__early": {"stop": "losers"}, "sweep__seeds": SEEDS, "sweep__candidates": ["more_web"]}


def test_the_runs_of_a_stopped_candidate_end_and_its_verdict_says_that_it_did_not_fail(
    workspace: MakeWorkspace,
) -> None:
    space = with_looks(workspace(steps=ENDLESS, **LOSERS), code=2.6)
    submit(space, space.plan())
    first = space.store.run(space.spec("more_web", 0).fingerprint)
    until_state(first, "training")
    plan = space.plan()
    looks = looks_of(space, plan)
    assert [one.advice for one in looks] == [Advice.LOSER]
    (done,) = stop_early(space, plan, looks)
    assert set(done.cancelled.stopped) == {"more_web s0", "more_web s1", "more_web s2"}
    assert first.status().state == "cancelled"
    assert not first.claimed
    verdict = judge(space, space.plan()).candidates["more_web"]
    assert verdict.decision == "REJECT"
    assert "Stopped early as a loser, by the look at 25% of the budget" in verdict.reasons[0]
    assert "did not fail" in verdict.reasons[0]
    assert "validation/code bits_per_byte is worse" in verdict.reasons[1]


@pytest.fixture
def study(tiny_study: Callable[..., Study]) -> Callable[..., Workspace]:
    """Makes a workspace whose runs nobody trains."""
    from assay.workspace import Workspace

    return lambda **changes: Workspace(tiny_study(steps=400, **changes))


def test_a_candidate_that_is_not_clearly_worse_goes_on(study: Callable[..., Workspace]) -> None:
    space = with_looks(study(**LOSERS), code=2.001)
    plan = space.plan()
    looks = looks_of(space, plan)
    assert [one.advice for one in looks] == [Advice.GO_ON]
    assert stop_early(space, plan, looks) == []
    assert stopped.read(space.store, "tiny", "more_web") is None


def test_a_policy_that_stops_nobody_calls_nothing_off(study: Callable[..., Workspace]) -> None:
    space = with_looks(study(**{**LOSERS, "policy__early": {"stop": "none"}}), code=2.6)
    plan = space.plan()
    looks = looks_of(space, plan)
    assert looks[0].looks[0].outcome == "loser"
    assert stop_early(space, plan, looks) == []


def test_a_candidate_that_others_are_compared_with_goes_on(study: Callable[..., Workspace]) -> None:
    space = study(
        sweep__seeds=SEEDS,
        sweep__candidates=["more_web", "no_books"],
        sweep__arms=[{"name": "no_books", "control": "more_web"}],
    )
    plan = space.plan()
    assert own_runs(plan, "more_web") == []
    assert len(own_runs(plan, "no_books")) == 3


def test_a_sweep_without_scores_says_what_to_set(study: Callable[..., Workspace]) -> None:
    """Where the policy stops nobody, and so asks for no looks."""
    space = study()
    with pytest.raises(AssayError, match="were scored yet") as refused:
        looks_of(space, space.plan())
    assert "training.looks" in refused.value.fix
    assert study(**LOSERS).study.looks == (0.25, 0.5, 0.75)


def test_other_runs_of_the_store_say_how_often_such_signals_held(study: Callable[..., Workspace]) -> None:
    space = with_looks(study(**{**LOSERS, "sweep__candidates": ["more_web", "no_books"]}), code=2.6)
    for seed in SEEDS:
        finish(space, "no_books", seed)
        look_at(space, "no_books", seed, share=0.25, code=2.1)
    (one, _) = looks_of(space, space.plan())
    assert one.candidate == "more_web"
    assert one.looks[0].held[0].n_mixes == 1, "no_books; the judged arms are left out"
    assert "at least 6" in " ".join(one.sentences())


def test_a_damaged_record_of_a_stop_is_named(study: Callable[..., Workspace]) -> None:
    space = study(**LOSERS)
    path = space.store.sweep("tiny") / "stopped" / "more_web.json"
    path.parent.mkdir(parents=True)
    write_json(path, ["no", "record"])
    with pytest.raises(AssayError, match=r"more_web.json is no record of a stop"):
        stopped.read(space.store, "tiny", "more_web")


def submission(space: Workspace) -> SubmissionDirectory:
    """One of the sweep's candidate that nobody works on."""
    directory = SubmissionDirectory(space.store.sweep("tiny").absolute() / "submissions" / "1")
    runs = [run for run in space.plan().runs if run.mix == "more_web"]
    directory.create(
        Submission(
            id="1",
            sweep="tiny",
            created=0.0,
            cluster="local",
            executor="local",
            workers=1,
            code="c" * 64,
            digests=space.digests,
            runs=tuple(SubmittedRun(fingerprint=str(run.fingerprint), mix=run.mix, seed=run.seed) for run in runs),
            evaluation=space.evaluation,
            study=space.study.raw,
        )
    )
    return directory


@pytest.mark.parametrize(("stop", "state"), [("losers", "cancelled"), ("none", "queued")])
def test_the_job_that_looks_after_a_sweep_stops_whom_the_policy_lets_stop(
    study: Callable[..., Workspace], stop: str, state: str
) -> None:
    space = with_looks(study(**{**LOSERS, "policy__early": {"stop": stop}}), code=2.6)
    directory = submission(space)
    stop_as_the_policy_says(directory)
    stop_as_the_policy_says(directory)  # as two such jobs may
    assert [run.status().state for run in directory.runs()] == [state] * 3
    assert (stopped.read(space.store, "tiny", "more_web") is not None) == (stop == "losers")


def test_a_sweep_that_cannot_be_looked_at_is_looked_after_all_the_same(
    study: Callable[..., Workspace], caplog: pytest.LogCaptureFixture
) -> None:
    space = study(**LOSERS)
    directory = submission(space)
    with caplog.at_level("INFO"):
        assert stop_as_the_policy_says(directory) == []
    assert "were scored yet" in caplog.text
