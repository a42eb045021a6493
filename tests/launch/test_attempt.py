"""How one run's process stops, and what it leaves alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from assay.errors import AssayError
from assay.launch.attempt import BUSY, STOPPED, Stop, StopAsked, attempt_here, attempt_in_child
from assay.launch.records import Submission, SubmissionDirectory, SubmittedRun
from assay.store import Failure, RunDirectory, Store
from tests.audit.found import put_finding
from tests.launch.planned import EVALUATION, record, spec
from tests.launch.waiting import until

if TYPE_CHECKING:
    from assay.suite import EvaluationSpec
    from assay.workspace import Workspace
    from tests.launch.conftest import MakeWorkspace


@pytest.fixture
def stop() -> Iterator[Stop]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    stop = Stop()
    stop.listen()
    yield stop
    for number, handler in before.items():
        signal.signal(number, handler)


def test_what_is_simply_done_again_ends_at_once(stop: Stop) -> None:
    with pytest.raises(StopAsked):
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop()


def test_being_asked_twice_does_not_interrupt_what_the_first_time_has_begun(stop: Stop) -> None:
    """SLURM asks every process of a job, and the worker passes it on."""
    with pytest.raises(StopAsked):
        os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop()


def test_what_slurm_sends_before_the_time_is_up_is_the_workers_to_pass_on(stop: Stop) -> None:
    os.kill(os.getpid(), signal.SIGUSR2)
    assert not stop()


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
    monkeypatch.setattr("assay.launch.attempt._printing_to", contextlib.nullcontext)
    run = SubmittedRun(fingerprint=spec("web", 0).fingerprint, mix="web", seed=0)
    record(Store(tmp_path), "web", 0)
    return write_down(Store(tmp_path), run, digests={}, evaluation=EVALUATION, study={})


def write_down(
    store: Store, run: SubmittedRun, *, digests: dict[str, str], evaluation: EvaluationSpec, study: dict[str, Any]
) -> SubmissionDirectory:
    """A submission of one run; nothing is started."""
    directory = SubmissionDirectory(store.sweep("tiny").absolute() / "submissions" / "1")
    directory.create(
        Submission(
            id="1",
            sweep="tiny",
            created=0.0,
            cluster="local",
            executor="local",
            workers=1,
            code="c" * 64,
            digests=digests,
            runs=(run,),
            evaluation=evaluation,
            study=study,
        )
    )
    return directory


def run_of(directory: SubmissionDirectory) -> RunDirectory:
    return directory.runs()[0]


def exit_code(directory: SubmissionDirectory) -> object:
    with pytest.raises(SystemExit) as left:
        attempt_in_child(str(directory.path), run_of(directory).fingerprint, {})
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


def submitted(space: Workspace) -> SubmissionDirectory:
    """A submission of the sweep's first run, as it is now."""
    (planned, *_) = space.plan().runs
    assert planned.spec is not None
    space.store.run(planned.spec.fingerprint).create(planned.spec, space.labels(planned.mix, planned.seed))
    run = SubmittedRun(fingerprint=planned.spec.fingerprint, mix=planned.mix, seed=planned.seed)
    return write_down(space.store, run, digests=space.digests, evaluation=space.evaluation, study=space.study.raw)


def edited(text: Path) -> None:
    text.write_text(text.read_text().replace("the", "a"))


@pytest.mark.parametrize("change", [edited, Path.unlink])
def test_what_becomes_of_the_text_once_it_is_tokenised_changes_nothing(
    workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    """The corpora and the tokenizer are there, and are those that the run was submitted with."""
    monkeypatch.setenv("ASSAY_CODE", "d" * 64)
    space = workspace()
    space.prepare()
    directory = submitted(space)
    for text in (space.study.paths.resolve("data")).iterdir():
        change(text)
    (run,) = directory.runs()
    attempt_here(directory, run.fingerprint)
    assert run.evaluated(directory.read().evaluation.fingerprint)
    assert run.status().state == "done"
    assert run.status().code == "d" * 64


@pytest.mark.parametrize("missing", ["books", "tokenizer"])
def test_what_was_not_made_yet_is_not_made_of_other_text_than_was_submitted(
    workspace: MakeWorkspace, missing: str
) -> None:
    space = workspace()
    folders = space.prepare()
    directory = submitted(space)
    shutil.rmtree(space.tokenizer_folder() if missing == "tokenizer" else folders["books"])
    if missing == "tokenizer":
        for folder in folders.values():
            shutil.rmtree(folder)
    edited(space.study.paths.resolve("data/books.jsonl"))
    (run,) = directory.runs()
    with pytest.raises(AssayError, match="source 'books': its files changed after this was submitted"):
        attempt_here(directory, run.fingerprint)
    assert run.status().state == "failed"


def test_a_defect_that_was_found_after_the_run_was_submitted_stops_it(workspace: MakeWorkspace) -> None:
    space = workspace()
    space.prepare()
    directory = submitted(space)
    put_finding(space, "books")
    (run,) = directory.runs()
    with pytest.raises(AssayError, match="source 'books' .* has the defect line_number_gutter"):
        attempt_here(directory, run.fingerprint)
    assert run.status().state == "failed"
    assert run.history() == []


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (
            "licence: CC0-1.0\nclearance: {state: blocked, by: A. Person, reference: R-7}",
            r"is blocked by A\. Person \(R-7\)",
        ),
        ("licence: null\nclearance: {state: cleared, by: A. Person}", "is pending: no licence is stated"),
        ("licence: CC0-1.0", "is pending: nobody has cleared it"),
        ("licence: [", "cannot be read"),
    ],
)
def test_a_source_that_is_not_cleared_any_more_when_a_runs_turn_comes_stops_it(
    workspace: MakeWorkspace, now: str, why: str
) -> None:
    space = workspace()
    space.prepare()
    directory = submitted(space)
    path = space.study.paths.resolve("conf/source/books.yaml")
    path.parent.mkdir(parents=True)
    path.write_text(f"files: [data/books.jsonl]\ndomain: books\nlanguage: en\n{now}\n", encoding="utf-8")
    (run,) = directory.runs()
    with pytest.raises(AssayError, match=why):
        attempt_here(directory, run.fingerprint)
    assert run.status().state == "failed"
    assert run.history() == []


def test_a_source_whose_file_did_not_change_since_is_as_it_was_submitted(workspace: MakeWorkspace) -> None:
    """It may have been cleared on the command line."""
    space = workspace()
    space.prepare()
    directory = submitted(space)
    path = space.study.paths.resolve("conf/source/books.yaml")
    path.parent.mkdir(parents=True)
    path.write_text("licence: CC0-1.0\nclearance: {state: pending}\n", encoding="utf-8")
    os.utime(path, (0, directory.read().created - 1))
    (run,) = directory.runs()
    attempt_here(directory, run.fingerprint)
    assert run.status().state == "done"


def test_what_was_not_made_yet_is_made_and_the_rest_is_left_alone(workspace: MakeWorkspace) -> None:
    space = workspace()
    folders = space.prepare()
    directory = submitted(space)
    shutil.rmtree(folders["books"])
    edited(space.study.paths.resolve("data/web.jsonl"))
    (run,) = directory.runs()
    attempt_here(directory, run.fingerprint)
    assert run.status().state == "done"


ELSEWHERE = """
import multiprocessing, os, sys
from assay.launch.attempt import attempt_in_child

if __name__ == "__main__":
    os.environ["SLURMD_NODENAME"] = "node7"
    child = multiprocessing.get_context("forkserver").Process(target=attempt_in_child, args=(*sys.argv[1:3], {}))
    child.start()
    child.join()
    print(child.exitcode, flush=True)
"""


def test_a_run_that_another_node_took_over_is_not_written_to_by_whoever_had_it(
    workspace: MakeWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that hung for a while, and that everybody took for dead, comes back in the middle of training."""
    monkeypatch.setenv("ASSAY_LEASE_BEAT", "0.1")
    monkeypatch.setenv("ASSAY_LEASE_STALE", "2")
    space = workspace(steps=1_000_000)
    space.prepare()
    directory = submitted(space)
    (run,) = directory.runs()
    script = tmp_path / "elsewhere.py"
    script.write_text(ELSEWHERE)
    parent = subprocess.Popen(
        [sys.executable, str(script), str(directory.path), run.fingerprint],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: run.status().state == "training" and run.status().step > 0, "it to train")
        child = run.status().pid
        assert child is not None
        os.kill(child, signal.SIGSTOP)
        while list(run.path.glob(".*.tmp")):  # in the middle of one write, which no lease can take back
            os.kill(child, signal.SIGCONT)
            os.kill(child, signal.SIGSTOP)
        with run.claim(patience=30) as lease:
            assert lease
            run.update(state="queued")
            before = written(run)
            os.kill(child, signal.SIGCONT)
            out, told = parent.communicate(timeout=60)
            assert int(out) == BUSY
            assert written(run) == before
            assert "its lease was taken over" in told
            lease.check()
    finally:
        parent.kill()
        parent.communicate()


def written(run: RunDirectory) -> dict[str, tuple[int, int]]:
    """Everything in a run's folder, with its size and the time of its last change; leases go on beating."""
    stats = {path: path.stat() for path in run.path.rglob("*") if path.is_file() and path.parent.name != "lease"}
    return {str(path): (stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


SERVER = """
import multiprocessing, os, signal, sys
from assay.launch.attempt import Stop, StopAsked

def child(pipe):
    pipe.recv()
    try:
        Stop().listen()
    except StopAsked:
        pipe.send("asked")
    else:
        pipe.send("not asked")

if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["assay.launch.preload"])
    for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT, None):
        mine, its = context.Pipe()
        process = context.Process(target=child, args=(its,))
        process.start()
        if number is not None:
            os.kill(multiprocessing.forkserver._forkserver._forkserver_pid, number)
            os.kill(process.pid, number)
        mine.send("listen")
        print(mine.recv(), flush=True)
        process.join()
"""


def test_the_server_outlives_what_a_job_is_sent_and_a_run_hears_what_came_before_it_listened(tmp_path: Path) -> None:
    """SLURM sends its signals to all processes of a step, at whatever moment."""
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert result.stdout.split("\n") == ["asked", "not asked", "not asked", "not asked", ""]
