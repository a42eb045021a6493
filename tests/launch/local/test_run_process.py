"""The process of a run: how it stops, and what it leaves unchanged."""

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

from assay.core.errors import AssayError
from assay.launch.local.run_process import BUSY, STOPPED, debug_attempt, run_attempt
from assay.launch.local.stop_request import StopRequest, StopRequested
from assay.plan.prepare import prepare_corpora
from assay.store.runs import Failure, RunDirectory, Store
from assay.store.submissions import Submission, SubmissionDirectory, SubmittedRun
from tests.audit.finding_files import put_finding
from tests.launch.planned_sweeps import EVALUATION, record, spec
from tests.launch.polling import until

if TYPE_CHECKING:
    from assay.config.suite import EvaluationSpec
    from assay.plan.workspace import Workspace
    from tests.launch.conftest import MakeWorkspace


@pytest.fixture
def stop() -> Iterator[StopRequest]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    stop = StopRequest()
    stop.listen()
    yield stop
    for number, handler in before.items():
        signal.signal(number, handler)


def test_work_that_can_be_repeated_ends_at_once(stop: StopRequest) -> None:
    with pytest.raises(StopRequested):
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop()


def test_a_second_request_does_not_interrupt_the_cleanup_of_the_first(stop: StopRequest) -> None:
    """SLURM signals every process of a job, and the worker passes the signal on."""
    with pytest.raises(StopRequested):
        os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop()


def test_the_worker_passes_on_slurms_signal_before_the_time_limit(stop: StopRequest) -> None:
    os.kill(os.getpid(), signal.SIGUSR2)
    assert not stop()


def test_training_continues_to_the_end_of_its_step_and_polls(stop: StopRequest) -> None:
    steps = []
    with pytest.raises(StopRequested), stop.polled():
        os.kill(os.getpid(), signal.SIGTERM)
        steps.append("the step's end")
        assert stop()
    assert steps == ["the step's end"]


def test_training_without_a_stop_request_just_ends(stop: StopRequest) -> None:
    with stop.polled():
        assert not stop()


def test_exception_handlers_do_not_catch_a_stop_request() -> None:
    assert not issubclass(StopRequested, Exception)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: StopRequest) -> SubmissionDirectory:
    """Create a submission of one run, in whose process the test runs."""
    monkeypatch.setattr("assay.launch.local.run_process.end_with_parent", lambda: None)
    monkeypatch.setattr("assay.launch.local.run_process.perform", lambda *_: pytest.fail("worked on the run"))
    monkeypatch.setattr("assay.launch.local.run_process.output_to", contextlib.nullcontext)
    run = SubmittedRun(fingerprint=spec("web", 0).fingerprint, mix="web", seed=0)
    record(Store(tmp_path), "web", 0)
    return write_down(Store(tmp_path), run, digests={}, evaluation=EVALUATION, study={})


def write_down(
    store: Store, run: SubmittedRun, *, digests: dict[str, str], evaluation: EvaluationSpec, study: dict[str, Any]
) -> SubmissionDirectory:
    """Create a submission of one run, without starting it."""
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
        run_attempt(str(directory.path), run_of(directory).fingerprint, {})
    return left.value.code


def test_a_run_that_another_process_holds_is_left_to_it(directory: SubmissionDirectory) -> None:
    with run_of(directory).claim():
        assert exit_code(directory) == BUSY


def test_a_run_that_was_cancelled_meanwhile_does_not_start(directory: SubmissionDirectory) -> None:
    directory.cancel([run_of(directory).fingerprint])
    assert exit_code(directory) == STOPPED


@pytest.mark.parametrize("state", ["failed", "diverged"])
def test_a_run_that_failed_meanwhile_waits_for_the_next_submission(directory: SubmissionDirectory, state: str) -> None:
    """A worker that chose it before, and imported for 10 s, reaches it after another worker failed with it."""
    failure = Failure(kind="ValueError", message="m")
    run_of(directory).update(state=state, failure=failure)
    assert exit_code(directory) == BUSY
    assert run_of(directory).status().failure == failure


CHILD = """
import multiprocessing, os, signal, sys, time
from assay.launch.local.stop_request import end_with_parent

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
    """With any kind of end: SIGKILL leaves no time for a message."""
    from assay.core.processes import ProcessIdentity

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
    """Create a submission of the sweep's first run in its current form."""
    (planned, *_) = space.planner.plan().runs
    assert planned.spec is not None
    space.store.run(planned.spec.fingerprint).create(planned.spec, space.runs.labels(planned.mix, planned.seed))
    run = SubmittedRun(fingerprint=planned.spec.fingerprint, mix=planned.mix, seed=planned.seed)
    return write_down(
        space.store,
        run,
        digests=space.sources.digests(space.mixes.sweep_sources),
        evaluation=space.runs.evaluation,
        study=space.study.raw,
    )


def edited(text: Path) -> None:
    text.write_text(text.read_text().replace("the", "a"))


@pytest.mark.parametrize("change", [edited, Path.unlink])
def test_changes_of_the_text_after_tokenization_have_no_effect(
    workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    """The corpora and the tokenizer exist, and are those of the submission."""
    monkeypatch.setenv("ASSAY_CODE", "d" * 64)
    space = workspace()
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    directory = submitted(space)
    for text in (space.study.paths.resolve("data")).iterdir():
        change(text)
    (run,) = directory.runs()
    debug_attempt(directory, run.fingerprint)
    assert run.evaluated(directory.read().evaluation.fingerprint)
    assert run.status().state == "done"
    assert run.status().code == "d" * 64


@pytest.mark.parametrize("missing", ["books", "tokenizer"])
def test_missing_corpora_are_not_built_from_changed_text(workspace: MakeWorkspace, missing: str) -> None:
    space = workspace()
    folders = prepare_corpora(space.sources, space.mixes.sweep_sources)
    directory = submitted(space)
    shutil.rmtree(space.sources.tokenizer_folder if missing == "tokenizer" else folders["books"])
    if missing == "tokenizer":
        for folder in folders.values():
            shutil.rmtree(folder)
    edited(space.study.paths.resolve("data/books.jsonl"))
    (run,) = directory.runs()
    with pytest.raises(AssayError, match="source 'books': its files changed after the submission"):
        debug_attempt(directory, run.fingerprint)
    assert run.status().state == "failed"


def test_a_finding_after_the_submission_stops_the_run(workspace: MakeWorkspace) -> None:
    space = workspace()
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    directory = submitted(space)
    put_finding(space, "books")
    (run,) = directory.runs()
    with pytest.raises(AssayError, match="source 'books' .* has the defect line_number_gutter"):
        debug_attempt(directory, run.fingerprint)
    assert run.status().state == "failed"
    assert run.history() == []


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (
            "license: CC0-1.0\nclearance: {state: blocked, by: A. Person, reference: R-7}",
            r"is blocked by A\. Person \(R-7\)",
        ),
        ("license: null\nclearance: {state: cleared, by: A. Person}", "is pending: no license is stated"),
        ("license: CC0-1.0", "is pending: the source has not been cleared"),
        ("license: [", "cannot be read"),
    ],
)
def test_a_source_that_lost_its_clearance_stops_the_run(workspace: MakeWorkspace, now: str, why: str) -> None:
    space = workspace()
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    directory = submitted(space)
    path = space.study.paths.resolve("conf/source/books.yaml")
    path.parent.mkdir(parents=True)
    path.write_text(f"files: [data/books.jsonl]\ndomain: books\nlanguage: en\n{now}\n", encoding="utf-8")
    (run,) = directory.runs()
    with pytest.raises(AssayError, match=why):
        debug_attempt(directory, run.fingerprint)
    assert run.status().state == "failed"
    assert run.history() == []


def test_a_source_with_an_unchanged_file_keeps_its_submitted_clearance(workspace: MakeWorkspace) -> None:
    """It may have been cleared on the command line."""
    space = workspace()
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    directory = submitted(space)
    path = space.study.paths.resolve("conf/source/books.yaml")
    path.parent.mkdir(parents=True)
    path.write_text("license: CC0-1.0\nclearance: {state: pending}\n", encoding="utf-8")
    os.utime(path, (0, directory.read().created - 1))
    (run,) = directory.runs()
    debug_attempt(directory, run.fingerprint)
    assert run.status().state == "done"


def test_missing_corpora_are_built_and_existing_ones_are_unchanged(workspace: MakeWorkspace) -> None:
    space = workspace()
    folders = prepare_corpora(space.sources, space.mixes.sweep_sources)
    directory = submitted(space)
    shutil.rmtree(folders["books"])
    edited(space.study.paths.resolve("data/web.jsonl"))
    (run,) = directory.runs()
    debug_attempt(directory, run.fingerprint)
    assert run.status().state == "done"


ELSEWHERE = """
import multiprocessing, os, sys
from assay.launch.local.run_process import run_attempt

if __name__ == "__main__":
    os.environ["SLURMD_NODENAME"] = "node7"
    child = multiprocessing.get_context("forkserver").Process(target=run_attempt, args=(*sys.argv[1:3], {}))
    child.start()
    child.join()
    print(child.exitcode, flush=True)
"""


def test_a_process_does_not_write_to_a_run_that_another_node_took_over(
    workspace: MakeWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that hung for a while, and whose lease became stale, continues in the middle of training."""
    monkeypatch.setenv("ASSAY_LEASE_BEAT", "0.1")
    monkeypatch.setenv("ASSAY_LEASE_STALE", "2")
    space = workspace(steps=1_000_000)
    prepare_corpora(space.sources, space.mixes.sweep_sources)
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
        while list(run.path.glob(".*.tmp")):  # during a single write, which a lease cannot revoke
            os.kill(child, signal.SIGCONT)
            os.kill(child, signal.SIGSTOP)
        with run.claim(patience=30) as lease:
            assert lease
            run.update(state="queued")
            before = written(run)
            os.kill(child, signal.SIGCONT)
            out, errors = parent.communicate(timeout=60)
            assert int(out) == BUSY
            assert written(run) == before
            assert "its lease was taken over" in errors
            lease.check()
    finally:
        parent.kill()
        parent.communicate()


def written(run: RunDirectory) -> dict[str, tuple[int, int]]:
    """Return all files in a run's folder with size and modification time, except leases, which are renewed."""
    stats = {path: path.stat() for path in run.path.rglob("*") if path.is_file() and path.parent.name != "lease"}
    return {str(path): (stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


SERVER = """
import multiprocessing, os, signal, sys
from assay.launch.local.stop_request import StopRequest, StopRequested

def child(pipe):
    pipe.recv()
    try:
        StopRequest().listen()
    except StopRequested:
        pipe.send("asked")
    else:
        pipe.send("not asked")

if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["assay.launch.local.preload"])
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


def test_the_server_survives_a_jobs_signals_and_a_run_gets_signals_that_arrived_early(tmp_path: Path) -> None:
    """SLURM sends its signals to all processes of a step, at any moment."""
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert result.stdout.split("\n") == ["asked", "not asked", "not asked", "not asked", ""]
