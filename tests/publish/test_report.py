from __future__ import annotations

import math
from pathlib import Path

import pytest
import shown

from assay.files import write_json
from assay.publish.collect import read_runs, versions
from assay.publish.report import RunResult, finite
from assay.store import Status, Store
from assay.structure import to_mapping


def test_every_planned_run_is_shown_whatever_became_of_it() -> None:
    report = shown.make(unevaluated=[("web_and_github", 1)])
    states = {(run.mix, run.seed): (run.state, run.evaluated) for run in report.runs}
    assert len(states) == 9
    assert states["web_and_github", 0] == ("done", True)
    assert states["web_and_github", 1] == ("trained", False)
    assert states["cc_code_replace_cc", 2] == ("diverged", False)
    assert report.finished == 7


def test_a_run_that_was_never_started_says_so() -> None:
    report = shown.make(never=True)
    assert {run.state for run in report.runs} == {"never run"}
    assert (report.decision, report.finished, report.comparisons) == ("NOT JUDGED", 0, ())


def test_a_failure_is_told_once() -> None:
    run = next(run for run in shown.make().runs if run.state == "diverged")
    assert run.problem.count("the loss is 9.125") == 1


def test_steps_that_were_trained_again_after_a_kill_stand_once_with_their_last_record() -> None:
    report = shown.make()
    run = report.runs[0]
    assert run.result is not None
    twice = [*run.result.history[:5], {**run.result.history[3], "loss": 99.0}, *run.result.history[4:]]
    again = shown.remade(report, {run.fingerprint: RunResult(status=run.result.status, history=twice)})
    steps = [record["step"] for record in again.runs[0].history]
    assert steps == sorted(set(steps))
    assert again.runs[0].history[3]["loss"] == 99.0


def test_a_run_that_was_not_given_its_mix_says_so() -> None:
    report = shown.make()
    run = report.runs[0]
    assert run.result is not None
    assert run.result.delivered is not None
    given = {name: dict(part) for name, part in run.result.delivered["delivered"].items()}
    given["books"]["sequences"] -= 40
    result = RunResult(status=run.result.status, delivered={"delivered": given}, scores=run.result.scores)
    again = shown.remade(report, {run.fingerprint: result})
    assert "books gave" in again.runs[0].problem
    assert run.problem == ""


def test_weights_and_epochs_of_a_mix_agree_with_the_budget() -> None:
    report = shown.make()
    mix = report.mix("cc_code_replace_cc")
    assert math.isclose(sum(mix.weights.values()), 1.0)
    assert mix.edits == ("replace 50% of web_cc by code_cc",)
    tokens = {source.name: source.tokens for source in report.sources}
    for name, weight in mix.weights.items():
        assert mix.tokens[name] == round(weight * report.budget)
        assert mix.epochs[name] == pytest.approx(weight * report.budget / (tokens[name] or 0))


def test_means_are_over_seeds_and_one_seed_shows_no_noise() -> None:
    three, one = shown.make(failed=()), shown.make(seeds=(0,), failed=())
    wanted = [s.value for run in three.runs if run.mix == "web_and_github" for s in run.scores if _is_mmlu(s)]
    mean = next(m for m in three.mean_scores() if m.mix == "web_and_github" and _is_mmlu(m))
    assert (mean.seeds, mean.mean) == (3, pytest.approx(sum(wanted) / 3))
    assert mean.deviation is not None
    assert {m.deviation for m in one.mean_scores()} == {None}


def _is_mmlu(score: object) -> bool:
    return (getattr(score, "task", ""), getattr(score, "metric", "")) == ("mmlu", "acc")


def test_what_votes_comes_first_in_the_policys_order() -> None:
    roles = [c.role for c in shown.make().comparisons if c.candidate == "cc_code_replace_github"]
    assert roles[:4] == ["primary", "primary", "guardrail", "monitor"]
    assert roles == sorted(roles, key=["primary", "guardrail", "monitor"].index)


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "1", True])
def test_only_finite_numbers_are_figures(value: object) -> None:
    assert finite(value) is None


def test_a_damaged_record_does_not_hide_the_others(tmp_path: Path) -> None:
    report, store = shown.make(failed=()), Store(tmp_path)
    shown.fill(store, report)
    broken, cut, gone = (report.runs[place] for place in range(3))
    (store.run(broken.fingerprint or "").path / "delivered.json").write_text('{"half')
    with store.run(cut.fingerprint or "").metrics.open("a") as handle:
        handle.write('{"step": 9999, "los')
    keys = [run.fingerprint for run in report.runs if run.fingerprint]
    for path in sorted(store.run(gone.fingerprint or "").path.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    store.run(gone.fingerprint or "").path.rmdir()
    runs = read_runs(store, keys, evaluation=report.plan.evaluation)
    assert gone.fingerprint not in runs
    assert len(runs) == 8
    assert "not whole JSON" in (runs[broken.fingerprint or ""].problem or "")
    assert runs[broken.fingerprint or ""].scores
    assert len(runs[cut.fingerprint or ""].history) == len(cut.history)
    assert all(result.problem is None for key, result in runs.items() if key != broken.fingerprint)


def test_what_is_read_from_a_store_is_what_was_written_there(tmp_path: Path) -> None:
    report, store = shown.make(), Store(tmp_path)
    shown.fill(store, report)
    keys = [run.fingerprint for run in report.runs if run.fingerprint]
    again = shown.remade(report, read_runs(store, keys, evaluation=report.plan.evaluation))
    assert again == report


def test_a_status_of_another_version_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    report, store = shown.make(), Store(tmp_path)
    shown.fill(store, report)
    key = report.runs[0].fingerprint or ""
    path = store.run(key).path / "status.json"

    def read() -> Status:
        return read_runs(store, [key], evaluation=report.plan.evaluation)[key].status

    write_json(path, {**to_mapping(Status(state="done")), "state": "novelty"})
    failure = read().failure
    assert failure is not None
    assert "novelty" in failure.message
    write_json(path, {**to_mapping(Status(state="done", step=7)), "novelty": 1})
    assert read() == Status(state="done", step=7), "what a later version tells beside is left out"


def test_versions_name_what_decides_figures() -> None:
    assert {"python", "torch", "lm_eval"} <= set(versions())
