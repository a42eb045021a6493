"""How one run's process stops, and what it leaves alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.launch.attempt import BUSY, STOPPED, Stop, StopAsked, attempt_in_child
from assay.launch.records import Submission, SubmissionDirectory, SubmittedRun
from assay.store import Failure, RunDirectory
from tests.launch.planned import EVALUATION, record, spec


@pytest.fixture
def stop() -> Iterator[Stop]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    stop = Stop()
    stop.listen()
    yield stop
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_what_is_simply_done_again_ends_at_once(stop: Stop, number: int) -> None:
    with pytest.raises(StopAsked):
        os.kill(os.getpid(), number)
    assert stop()


def test_training_goes_on_to_the_end_of_its_step_and_is_asked(stop: Stop) -> None:
    steps = []
    with pytest.raises(StopAsked), stop.after_a_step():
        os.kill(os.getpid(), signal.SIGTERM)
        steps.append("the step's end")
        assert stop()
    assert steps == ["the step's end"]


def test_training_that_nobody_asked_to_stop_just_ends(stop: Stop) -> None:
    with stop.after_a_step():
        assert not stop()


def test_nothing_that_catches_exceptions_catches_the_stop() -> None:
    assert not issubclass(StopAsked, Exception)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: Stop) -> SubmissionDirectory:
    """A submission of one run, in whose process this test pretends to be."""
    monkeypatch.setattr("assay.launch.attempt.end_with_parent", lambda: None)
    monkeypatch.setattr("assay.launch.attempt._perform", lambda *_: pytest.fail("worked on the run"))
    monkeypatch.setattr("assay.launch.attempt._print_to", lambda _: None)
    monkeypatch.setattr("assay.launch.records.time.sleep", lambda _: None)
    run = SubmittedRun(fingerprint=spec("web", 0).fingerprint, mix="web", seed=0)
    directory = SubmissionDirectory(tmp_path / "sweeps" / "tiny" / "submissions" / "1")
    directory.create(
        Submission(
            id="1",
            sweep="tiny",
            created=0.0,
            cluster="local",
            workers=1,
            runs=(run,),
            evaluation=EVALUATION,
            study={},
        )
    )
    record(directory.store, "web", 0)
    return directory


def run_of(directory: SubmissionDirectory) -> RunDirectory:
    return directory.runs()[0]


def exit_code(directory: SubmissionDirectory) -> object:
    with pytest.raises(SystemExit) as left:
        attempt_in_child(str(directory.path), run_of(directory).fingerprint)
    return left.value.code


def test_a_run_that_another_process_has_is_theirs(directory: SubmissionDirectory) -> None:
    with run_of(directory).claim():
        assert exit_code(directory) == BUSY


def test_a_run_that_was_called_off_meanwhile_is_not_begun(directory: SubmissionDirectory) -> None:
    directory.cancel([run_of(directory).fingerprint])
    assert exit_code(directory) == STOPPED


@pytest.mark.parametrize("state", ["failed", "diverged"])
def test_a_run_that_failed_meanwhile_waits_for_the_next_submission(directory: SubmissionDirectory, state: str) -> None:
    """A worker that chose it before, and imported for 10 s, comes to it after another one has failed with it."""
    failure = Failure(kind="ValueError", message="m")
    run_of(directory).update(state=state, failure=failure)
    assert exit_code(directory) == BUSY
    assert run_of(directory).status().failure == failure


CHILD = """
import multiprocessing, os, signal, sys, time
from assay.launch.attempt import end_with_parent

def child(pipe):
    end_with_parent()
    pipe.send(os.getpid())
    time.sleep(600)

if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    mine, its = context.Pipe()
    context.Process(target=child, args=(its,)).start()
    print(mine.recv(), multiprocessing.forkserver._forkserver._forkserver_pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("victim", ["the worker", "the server it was forked from"])
def test_a_runs_process_ends_with_its_worker_and_with_the_server(tmp_path: Path, victim: str) -> None:
    """However they go: SIGKILL leaves nobody time to say anything."""
    from assay.processes import ProcessIdentity
    from tests.launch.waiting import until

    script = tmp_path / "parent.py"
    script.write_text(CHILD)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child, server = (int(pid) for pid in parent.stdout.readline().split())
    identity = ProcessIdentity.of(child)
    assert identity.alive
    os.kill(parent.pid if victim == "the worker" else server, signal.SIGKILL)
    until(lambda: not identity.alive, "the run's process to end")
    parent.kill()
    parent.communicate()
