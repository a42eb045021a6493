from __future__ import annotations

import math
from pathlib import Path

import pytest

from assay.core.files import write_json
from assay.core.serde import to_mapping
from assay.report.collect import read_runs, versions
from assay.report.model import RunResult, finite
from assay.store.runs import Status, Store
from tests.report import page_data


def test_the_report_contains_every_planned_run_in_any_state() -> None:
    report = page_data.make(unevaluated=[("web_and_github", 1)])
    states = {(run.mix, run.seed): (run.state, run.evaluated) for run in report.runs}
    assert len(states) == 9
    assert states["web_and_github", 0] == ("done", True)
    assert states["web_and_github", 1] == ("trained", False)
    assert states["cc_code_replace_cc", 2] == ("diverged", False)
    assert report.finished == 7


def test_a_run_without_record_has_the_state_never_run() -> None:
    report = page_data.make(never=True)
    assert {run.state for run in report.runs} == {"never run"}
    assert (report.decision, report.finished, report.comparisons) == ("NO VERDICT", 0, ())


def test_a_failure_is_reported_once() -> None:
    run = next(run for run in page_data.make().runs if run.state == "diverged")
    assert run.problem.count("the loss is 9.125") == 1


def test_a_step_that_was_repeated_after_a_kill_has_only_its_last_record() -> None:
    report = page_data.make()
    run = report.runs[0]
    assert run.result is not None
    records = [*run.result.history[:5], {**run.result.history[3], "loss": 99.0}, *run.result.history[4:]]
    again = page_data.remade(report, {run.fingerprint: RunResult(status=run.result.status, history=records)})
    steps = [record["step"] for record in again.runs[0].history]
    assert steps == sorted(set(steps))
    assert again.runs[0].history[3]["loss"] == 99.0


def test_a_run_with_a_wrong_delivered_mix_has_a_problem() -> None:
    report = page_data.make()
    run = report.runs[0]
    assert run.result is not None
    assert run.result.delivered is not None
    delivered = {name: dict(part) for name, part in run.result.delivered["delivered"].items()}
    delivered["books"]["sequences"] -= 40
    result = RunResult(status=run.result.status, delivered={"delivered": delivered}, scores=run.result.scores)
    again = page_data.remade(report, {run.fingerprint: result})
    assert "source 'books' delivered" in again.runs[0].problem
    assert run.problem == ""


def test_weights_and_epochs_of_a_mix_agree_with_the_budget() -> None:
    report = page_data.make()
    mix = report.mix("cc_code_replace_cc")
    assert math.isclose(sum(mix.weights.values()), 1.0)
    assert mix.edits == ("replace 50% of web_cc by code_cc",)
    tokens = {source.name: source.tokens for source in report.sources}
    for name, weight in mix.weights.items():
        assert mix.tokens[name] == round(weight * report.budget)
        assert mix.epochs[name] == pytest.approx(weight * report.budget / (tokens[name] or 0))


def test_means_are_over_seeds_and_a_single_seed_has_no_deviation() -> None:
    three, single = page_data.make(failed=()), page_data.make(seeds=(0,), failed=())
    values = [s.value for run in three.runs if run.mix == "web_and_github" for s in run.scores if _is_mmlu(s)]
    mean = next(m for m in three.mean_scores() if m.mix == "web_and_github" and _is_mmlu(m))
    assert (mean.seeds, mean.mean) == (3, pytest.approx(sum(values) / 3))
    assert mean.deviation is not None
    assert {m.deviation for m in single.mean_scores()} == {None}


def _is_mmlu(score: object) -> bool:
    return (getattr(score, "task", ""), getattr(score, "metric", "")) == ("mmlu", "acc")


def test_voting_comparisons_come_first_in_the_order_of_the_policy() -> None:
    roles = [c.role for c in page_data.make().comparisons if c.candidate == "cc_code_replace_github"]
    assert roles[:4] == ["primary", "primary", "guardrail", "monitor"]
    assert roles == sorted(roles, key=["primary", "guardrail", "monitor"].index)


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "1", True])
def test_values_that_are_not_finite_numbers_are_dropped(value: object) -> None:
    assert finite(value) is None


def test_a_damaged_record_does_not_hide_the_others(tmp_path: Path) -> None:
    report, store = page_data.make(failed=()), Store(tmp_path)
    page_data.fill(store, report)
    broken, cut, deleted = report.runs[:3]
    (store.run(broken.fingerprint or "").path / "delivered.json").write_text('{"half')
    with store.run(cut.fingerprint or "").metrics.open("a") as handle:
        handle.write('{"step": 9999, "los')
    keys = [run.fingerprint for run in report.runs if run.fingerprint]
    for path in sorted(store.run(deleted.fingerprint or "").path.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    store.run(deleted.fingerprint or "").path.rmdir()
    runs = read_runs(store, keys, evaluation=report.plan.evaluation)
    assert deleted.fingerprint not in runs
    assert len(runs) == 8
    assert "invalid or incomplete JSON" in (runs[broken.fingerprint or ""].problem or "")
    assert runs[broken.fingerprint or ""].scores
    assert len(runs[cut.fingerprint or ""].history) == len(cut.history)
    assert all(result.problem is None for key, result in runs.items() if key != broken.fingerprint)


def test_a_report_from_a_store_equals_the_written_report(tmp_path: Path) -> None:
    report, store = page_data.make(), Store(tmp_path)
    page_data.fill(store, report)
    keys = [run.fingerprint for run in report.runs if run.fingerprint]
    again = page_data.remade(report, read_runs(store, keys, evaluation=report.plan.evaluation))
    assert again == report


def test_a_status_of_another_version_is_reported_as_a_failure(tmp_path: Path) -> None:
    report, store = page_data.make(), Store(tmp_path)
    page_data.fill(store, report)
    key = report.runs[0].fingerprint or ""
    path = store.run(key).path / "status.json"

    def read() -> Status:
        return read_runs(store, [key], evaluation=report.plan.evaluation)[key].status

    write_json(path, {**to_mapping(Status(state="done")), "state": "novelty"})
    failure = read().failure
    assert failure is not None
    assert "novelty" in failure.message
    write_json(path, {**to_mapping(Status(state="done", step=7)), "novelty": 1})
    assert read() == Status(state="done", step=7), "additional fields of a later version are ignored"


def test_versions_include_the_packages_that_affect_results() -> None:
    assert {"python", "torch", "lm_eval"} <= set(versions())
