"""What `submit` writes down and whom it sends; the start of processes is the boundary, and is faked here."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pytest

from assay.errors import AssayError
from assay.launch import submission as module
from assay.launch.records import Submission, SubmissionDirectory, submissions
from assay.launch.submission import job_parameters, submit
from assay.processes import ProcessIdentity
from assay.registered import read as read_registrations
from assay.store import Failure
from assay.study import Study
from tests.evaluations import write_evaluation

if TYPE_CHECKING:
    from tests.launch.conftest import MakeWorkspace


class Starter:
    """Stands in for the process that starts workers."""

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
        """Every worker is gone."""
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


def test_the_intent_is_whole_on_disk_before_anything_is_started(workspace: MakeWorkspace, starter: Starter) -> None:
    space = workspace()
    sent = submit(space, space.plan(), clock=lambda: 1_700_000_000.0)
    assert starter.intent == sent
    assert sent.id.startswith("20231114T221320-")
    assert Study.parse(sent.study) == space.study
    assert sent.evaluation == space.evaluation
    for run in sent.runs:
        assert space.store.run(run.fingerprint).spec() == space.spec(run.mix, run.seed)


def test_the_baseline_and_the_candidates_of_one_seed_come_before_the_next_seed(
    workspace: MakeWorkspace, starter: Starter
) -> None:
    space = workspace()
    sent = submit(space, space.plan())
    assert labels(sent) == ["base s0", "more_web s0", "no_books s0", "base s1", "more_web s1", "no_books s1"]


def test_two_mixes_that_are_the_same_run_are_sent_once(workspace: MakeWorkspace, starter: Starter) -> None:
    twin = {"weights": {"code": 0.4, "web": 0.4, "books": 0.2}}
    space = workspace(mix__twin=twin, sweep__candidates=["twin", "no_books"], sweep__seeds=[0])
    assert labels(submit(space, space.plan())) == ["base s0", "no_books s0"]


def test_what_live_workers_have_already_is_not_sent_again(workspace: MakeWorkspace, starter: Starter) -> None:
    space = workspace()
    assert submit(space, space.plan()) is not None
    assert submit(space, space.plan()) is None
    assert len(submissions(space.store, "tiny")) == 1


def test_a_damaged_record_of_an_old_submission_stops_nothing(workspace: MakeWorkspace, starter: Starter) -> None:
    space = workspace()
    submit(space, space.plan())
    (old,) = submissions(space.store, "tiny")
    starter.end()
    (old.path / "submission.json").write_text('{"id": "2026')
    assert submissions(space.store, "tiny") == []
    assert len(submit(space, space.plan()).runs) == 6


def test_only_what_is_missing_is_sent_once_the_workers_are_gone(workspace: MakeWorkspace, starter: Starter) -> None:
    space = workspace()
    first = submit(space, space.plan())
    starter.end()
    for run in first.runs[:4]:
        folder = space.store.run(run.fingerprint)
        with folder.writing_evaluation(space.evaluation.fingerprint) as evaluation:
            write_evaluation(evaluation)
    assert labels(submit(space, space.plan())) == ["more_web s1", "no_books s1"]


def test_a_failed_run_is_sent_again_even_while_its_submission_lives(workspace: MakeWorkspace, starter: Starter) -> None:
    """Workers leave a run that failed alone, so nobody else would come to it."""
    space = workspace(sweep__seeds=[0])
    first = submit(space, space.plan())
    failed = space.store.run(first.runs[1].fingerprint)
    failed.update(state="failed", failure=Failure(kind="killed", message="m"))
    assert labels(submit(space, space.plan())) == ["more_web s0"]
    assert failed.status().state == "queued"
    assert failed.status().failure is None


def test_a_run_that_somebody_works_on_keeps_the_state_they_gave_it(workspace: MakeWorkspace, starter: Starter) -> None:
    space = workspace(sweep__seeds=[0])
    plan = space.plan()
    run = space.store.run(plan.runs[0].fingerprint)
    run.create(plan.runs[0].spec, {})
    run.update(state="failed", failure=Failure(kind="killed", message="m"))
    plan = space.plan()
    with run.claim() as held:
        assert held
        submit(space, plan)
    assert run.status().state == "failed"


def test_a_diverged_run_is_final_unless_asked_for(workspace: MakeWorkspace, starter: Starter) -> None:
    space = workspace(sweep__seeds=[0])
    first = submit(space, space.plan())
    starter.end()
    run = space.store.run(first.runs[0].fingerprint)
    run.update(state="diverged", failure=Failure(kind="diverged", message="NaN"))
    assert "base s0" not in labels(submit(space, space.plan()))
    starter.end()
    assert "base s0" in labels(submit(space, space.plan(retry_failed=True)))
    assert run.status().state == "queued"


def test_workers_that_cannot_be_started_are_told_of_and_nothing_is_lost(
    workspace: MakeWorkspace, starter: Starter
) -> None:
    space = workspace(sweep__seeds=[0])
    starter.fails = True
    with pytest.raises(AssayError, match="OSError: no more processes"):
        submit(space, space.plan())
    starter.fails = False
    assert len(submit(space, space.plan()).runs) == 3


def test_no_more_workers_than_runs(workspace: MakeWorkspace, starter: Starter) -> None:
    space = workspace(sweep__seeds=[0], cluster__workers=16)
    assert submit(space, space.plan()).workers == 3


@pytest.mark.parametrize("mark", ["%j", "%t", "%A", "%a"])
def test_a_path_that_submitit_would_change_is_refused_before_anything_is_written(
    workspace: MakeWorkspace, starter: Starter, mark: str
) -> None:
    space = workspace(folder=f"50{mark}b")
    with pytest.raises(AssayError, match="submitit replaces"):
        submit(space, space.plan())
    assert not (space.store.root / "sweeps").exists()


def test_a_job_gets_the_time_it_was_given_and_is_warned_before_that_is_up(workspace: MakeWorkspace) -> None:
    cluster = workspace(cluster__timeout_hours=2.0).study.cluster
    assert job_parameters(cluster) == {"timeout_min": 120.0, "signal_delay_s": 120}
    short = workspace(cluster__timeout_hours=0.01).study.cluster
    assert job_parameters(short) == {"timeout_min": 0.6, "signal_delay_s": 18}


def test_policy_and_suite_are_registered_before_anything_starts_and_stand_once_there_are_results(
    workspace: MakeWorkspace, starter: Starter
) -> None:
    space = workspace()
    sent = submit(space, space.plan(), clock=lambda: 1_700_000_000.0)
    [entry] = read_registrations(space.store, "tiny")
    assert (entry.at, entry.code, entry.rules.policy) == (1_700_000_000.0, sent.code, space.study.policy)
    starter.end()
    candidate = next(run for run in sent.runs if run.mix == "more_web")
    with space.store.run(candidate.fingerprint).writing_evaluation(space.evaluation.fingerprint) as evaluation:
        write_evaluation(evaluation)
    other = workspace(policy__alpha=0.01)
    with pytest.raises(AssayError, match=r"policy\.alpha 0\.05 -> 0\.01"):
        submit(other, other.plan())
    assert len(submissions(space.store, "tiny")) == 1
    assert len(read_registrations(space.store, "tiny")) == 1
