"""Submission: its records and its runs; the start of processes is faked here."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pytest

from assay.config.study import Study
from assay.core.errors import AssayError
from assay.core.processes import ProcessIdentity
from assay.launch import submit as module
from assay.launch.start import job_parameters
from assay.launch.submit import submit
from assay.plan.registration import read as read_registrations
from assay.store.runs import Failure
from assay.store.submissions import Submission, SubmissionDirectory, submissions
from tests.helpers.evaluations import write_evaluation

if TYPE_CHECKING:
    from tests.launch.conftest import MakeWorkspace


class Starter:
    """A stand-in for the process that starts workers."""

    def __init__(self) -> None:
        self.folders: list[SubmissionDirectory] = []
        self.fails = False
        self.worker = subprocess.Popen(["sleep", "600"])

    def __call__(self, command: list[str], *, stdout: BinaryIO, **_: Any) -> subprocess.CompletedProcess[bytes]:
        directory = SubmissionDirectory(Path(command[-1]))
        self.intent = directory.read()
        if self.fails:
            stdout.write(b"Traceback ...\nOSError: no more processes\n")
            return subprocess.CompletedProcess(command, 1)
        directory.record_jobs([ProcessIdentity.of(self.worker.pid)])
        self.folders.append(directory)
        return subprocess.CompletedProcess(command, 0)

    def end(self) -> None:
        """Let every worker end."""
        for directory in self.folders:
            directory.record_jobs([])


@pytest.fixture
def starter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Starter]:
    starter = Starter()
    monkeypatch.setattr(module.subprocess, "run", starter)
    yield starter
    starter.worker.kill()
    starter.worker.wait()


def labels(submission: Submission) -> list[str]:
    return [run.label for run in submission.runs]


def test_the_submission_is_recorded_before_any_process_starts(workspace: MakeWorkspace, starter: Starter) -> None:
    space = workspace()
    sent = submit(space, space.planner.plan(), clock=lambda: 1_700_000_000.0)
    assert starter.intent == sent
    assert sent.id.startswith("20231114T221320-")
    assert Study.parse(sent.study) == space.study
    assert sent.evaluation == space.runs.evaluation
    for run in sent.runs:
        assert space.store.run(run.fingerprint).spec() == space.runs.spec(run.mix, run.seed)


def test_all_arms_of_a_seed_precede_the_next_seed(workspace: MakeWorkspace, starter: Starter) -> None:
    space = workspace()
    sent = submit(space, space.planner.plan())
    assert labels(sent) == ["base s0", "more_web s0", "no_books s0", "base s1", "more_web s1", "no_books s1"]


def test_mixes_with_the_same_run_are_submitted_once(workspace: MakeWorkspace, starter: Starter) -> None:
    twin = {"weights": {"code": 0.4, "web": 0.4, "books": 0.2}}
    space = workspace(mix__twin=twin, sweep__candidates=["twin", "no_books"], sweep__seeds=[0])
    assert labels(submit(space, space.planner.plan())) == ["base s0", "no_books s0"]


def test_runs_of_live_workers_are_not_resubmitted(workspace: MakeWorkspace, starter: Starter) -> None:
    space = workspace()
    assert submit(space, space.planner.plan()) is not None
    assert submit(space, space.planner.plan()) is None
    assert len(submissions(space.store, "tiny")) == 1


def test_a_damaged_record_of_an_old_submission_does_not_prevent_a_submission(
    workspace: MakeWorkspace, starter: Starter
) -> None:
    space = workspace()
    submit(space, space.planner.plan())
    (old,) = submissions(space.store, "tiny")
    starter.end()
    (old.path / "submission.json").write_text('{"id": "2026')
    assert submissions(space.store, "tiny") == []
    assert len(submit(space, space.planner.plan()).runs) == 6


def test_after_the_workers_end_only_missing_runs_are_submitted(workspace: MakeWorkspace, starter: Starter) -> None:
    space = workspace()
    first = submit(space, space.planner.plan())
    starter.end()
    for run in first.runs[:4]:
        folder = space.store.run(run.fingerprint)
        with folder.writing_evaluation(space.runs.evaluation.fingerprint) as evaluation:
            write_evaluation(evaluation)
    assert labels(submit(space, space.planner.plan())) == ["more_web s1", "no_books s1"]


def test_a_failed_run_is_resubmitted_even_during_its_live_submission(
    workspace: MakeWorkspace, starter: Starter
) -> None:
    """Workers skip failed runs, so no other process would retry it."""
    space = workspace(sweep__seeds=[0])
    first = submit(space, space.planner.plan())
    failed = space.store.run(first.runs[1].fingerprint)
    failed.update(state="failed", failure=Failure(kind="killed", message="m"))
    assert labels(submit(space, space.planner.plan())) == ["more_web s0"]
    assert failed.status().state == "queued"
    assert failed.status().failure is None


def test_a_run_that_a_process_works_on_keeps_its_state(workspace: MakeWorkspace, starter: Starter) -> None:
    space = workspace(sweep__seeds=[0])
    plan = space.planner.plan()
    run = space.store.run(plan.runs[0].fingerprint)
    run.create(plan.runs[0].spec, {})
    run.update(state="failed", failure=Failure(kind="killed", message="m"))
    plan = space.planner.plan()
    with run.claim() as held:
        assert held
        submit(space, plan)
    assert run.status().state == "failed"


def test_a_diverged_run_is_final_unless_requested(workspace: MakeWorkspace, starter: Starter) -> None:
    space = workspace(sweep__seeds=[0])
    first = submit(space, space.planner.plan())
    starter.end()
    run = space.store.run(first.runs[0].fingerprint)
    run.update(state="diverged", failure=Failure(kind="diverged", message="NaN"))
    assert "base s0" not in labels(submit(space, space.planner.plan()))
    starter.end()
    assert "base s0" in labels(submit(space, space.planner.plan(retry_failed=True)))
    assert run.status().state == "queued"


def test_a_failed_start_of_workers_is_reported_and_loses_nothing(workspace: MakeWorkspace, starter: Starter) -> None:
    space = workspace(sweep__seeds=[0])
    starter.fails = True
    with pytest.raises(AssayError, match="OSError: no more processes"):
        submit(space, space.planner.plan())
    starter.fails = False
    assert len(submit(space, space.planner.plan()).runs) == 3


def test_no_more_workers_than_runs(workspace: MakeWorkspace, starter: Starter) -> None:
    space = workspace(sweep__seeds=[0], cluster__workers=16)
    assert submit(space, space.planner.plan()).workers == 3


@pytest.mark.parametrize("mark", ["%j", "%t", "%A", "%a"])
def test_a_path_that_submitit_would_change_is_refused_before_anything_is_written(
    workspace: MakeWorkspace, starter: Starter, mark: str
) -> None:
    space = workspace(folder=f"50{mark}b")
    with pytest.raises(AssayError, match="submitit replaces"):
        submit(space, space.planner.plan())
    assert not (space.store.root / "sweeps").exists()


def test_a_job_has_its_time_limit_and_a_warning_before_it(workspace: MakeWorkspace) -> None:
    cluster = workspace(cluster__timeout_hours=2.0).study.cluster
    assert job_parameters(cluster) == {"timeout_min": 120.0, "signal_delay_s": 120}
    short = workspace(cluster__timeout_hours=0.01).study.cluster
    assert job_parameters(short) == {"timeout_min": 0.6, "signal_delay_s": 18}


def test_policy_and_suite_are_registered_before_the_start_and_final_once_results_exist(
    workspace: MakeWorkspace, starter: Starter
) -> None:
    space = workspace()
    sent = submit(space, space.planner.plan(), clock=lambda: 1_700_000_000.0)
    [entry] = read_registrations(space.store, "tiny")
    assert (entry.at, entry.code, entry.rules.policy) == (1_700_000_000.0, sent.code, space.study.policy)
    starter.end()
    candidate = next(run for run in sent.runs if run.mix == "more_web")
    with space.store.run(candidate.fingerprint).writing_evaluation(space.runs.evaluation.fingerprint) as evaluation:
        write_evaluation(evaluation)
    other = workspace(policy__alpha=0.01)
    with pytest.raises(AssayError, match=r"policy\.alpha 0\.05 -> 0\.01"):
        submit(other, other.planner.plan())
    assert len(submissions(space.store, "tiny")) == 1
    assert len(read_registrations(space.store, "tiny")) == 1
