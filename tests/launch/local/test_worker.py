"""The setup of a worker, and its handling of ended run processes."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from assay.config.cluster import Cluster
from assay.launch.local import process_pool, worker
from assay.launch.local.process_pool import ProcessOutcome
from assay.launch.local.run_failure import record_exception
from assay.launch.local.run_process import BUSY, FAILED, STOPPED
from assay.launch.local.worker import GPUS, worker_environment
from assay.store.runs import Failure, RunDirectory, Status, Store
from assay.store.submissions import SubmissionDirectory
from tests.launch.planned_sweeps import record


def cluster(**changes: Any) -> Cluster:
    fields = {"name": "c", "executor": "local", "workers": 2, "cpus_per_worker": 1, "device": "auto"}
    return Cluster(**{**fields, "environment": {}, "timeout_hours": 1.0, **changes})


def test_every_library_gets_the_threads_of_the_job() -> None:
    variables = worker_environment(cluster(cpus_per_worker=3), 0, {})
    names = ("OMP", "MKL", "OPENBLAS", "NUMBA", "RAYON")
    assert {variables[f"{name}_NUM_THREADS"] for name in names} == {"3"}


def test_the_environment_of_the_cluster_has_precedence() -> None:
    variables = worker_environment(cluster(environment={"OMP_NUM_THREADS": "7", "X": "y"}), 0, {})
    assert (variables["OMP_NUM_THREADS"], variables["X"]) == ("7", "y")


@pytest.mark.parametrize(
    ("device", "visible", "number", "expected"),
    [
        ("auto", "0,1", 0, "0"),
        ("auto", "0,1", 1, "1"),
        ("cuda", "4,GPU-abc", 3, "GPU-abc"),
        ("cuda:1", "4,5", 0, "4,5"),
        ("auto", "", 1, ""),
        ("cpu", "0,1", 0, ""),
    ],
)
def test_workers_take_the_submitters_gpus_in_turn(device: str, visible: str, number: int, expected: str) -> None:
    assert worker_environment(cluster(device=device), number, {GPUS: visible})["CUDA_VISIBLE_DEVICES"] == expected


def test_gpus_that_a_scheduler_assigned_are_unchanged() -> None:
    assert "CUDA_VISIBLE_DEVICES" not in worker_environment(cluster(), 0, {"CUDA_VISIBLE_DEVICES": "3"})


def test_a_worker_waits_for_a_free_slot_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sweeps on one machine share its cores instead of halving each other's speed."""
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.01)
    directory = SubmissionDirectory(tmp_path / "sweeps" / "s" / "submissions" / "1")
    directory.path.mkdir(parents=True)
    looks = iter([False, False, True])
    one = cluster(workers=1)
    with worker._slot(directory, one, lambda: False) as first:
        assert first
        with worker._slot(directory, one, lambda: next(looks)) as second:
            assert not second
    with worker._slot(directory, one, lambda: False) as third:
        assert third


def test_a_worker_of_a_cancelled_submission_does_not_wait_for_a_slot(tmp_path: Path) -> None:
    directory = SubmissionDirectory(tmp_path / "sweeps" / "s" / "submissions" / "1")
    directory.cancel(None)
    with worker._slot(directory, cluster(), lambda: False) as had:
        assert not had


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = record(Store(tmp_path), "web", 0, state="training", step=5)
    run.log.write_text("step 5\nloss 3.2\n")
    return run


def recorded_status(run: RunDirectory, ended: ProcessOutcome) -> Status:
    process_pool._record_end(run, ended, str(ended))
    return run.status()


def test_a_run_that_the_kernel_killed_for_memory_reports_it(run: RunDirectory) -> None:
    status = recorded_status(run, ProcessOutcome(-signal.SIGKILL, out_of_memory=True))
    assert status.state == "failed"
    assert status.failure.kind == "out of memory"
    assert "loss 3.2" in status.failure.message
    assert status.failure.log == str(run.log)


def test_a_killed_run_reports_the_signal(run: RunDirectory) -> None:
    failure = recorded_status(run, ProcessOutcome(-signal.SIGSEGV)).failure
    assert (failure.kind, "SIGSEGV" in failure.message) == ("killed", True)


def test_a_run_that_just_ended_reports_its_exit_code(run: RunDirectory) -> None:
    failure = recorded_status(run, ProcessOutcome(3)).failure
    assert (failure.kind, "exit code 3" in failure.message) == ("ended without a word", True)


def test_a_run_that_was_killed_after_a_stop_request_has_not_failed(run: RunDirectory) -> None:
    status = recorded_status(run, ProcessOutcome(-signal.SIGKILL, stop_requested=True))
    assert (status.state, status.failure) == ("queued", None)


def test_a_failure_that_a_run_recorded_is_kept(run: RunDirectory) -> None:
    run.update(state="failed", failure=Failure(kind="ValueError", message="m"))
    assert recorded_status(run, ProcessOutcome(FAILED)).failure == Failure(kind="ValueError", message="m")


@pytest.mark.parametrize("code", [0, BUSY, STOPPED])
def test_after_an_orderly_end_nothing_is_recorded(run: RunDirectory, code: int) -> None:
    before = run.status()
    assert recorded_status(run, ProcessOutcome(code)) == before


def test_a_run_that_another_process_has_taken_is_left_to_it(run: RunDirectory) -> None:
    with run.claim():
        assert recorded_status(run, ProcessOutcome(-signal.SIGKILL)).state == "training"


def test_reading_the_state_of_a_run_does_not_block_a_worker(run: RunDirectory) -> None:
    """`claimed` only reads, at any moment."""
    ended, seen = threading.Event(), set[bool]()

    def look() -> None:
        while not ended.is_set():
            seen.add(run.claimed)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(50):
            with RunDirectory(run.path).claim() as held:
                assert held
    finally:
        ended.set()
        thread.join()
    assert seen


def no_memory() -> RuntimeError:
    return RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("x"), "ValueError"),
        (MemoryError(), "out of memory"),
        (no_memory(), "out of memory"),
        (OSError(28, "No space left on device"), "disk full"),
    ],
)
def test_failures_have_a_short_class(
    run: RunDirectory, error: Exception, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    record_exception(run, error)
    assert run.status().failure.kind == kind
    assert type(error).__name__ in capfd.readouterr().err


def test_a_long_message_is_truncated_to_one_line(run: RunDirectory) -> None:
    record_exception(run, ValueError("a\n" * 10_000))
    message = run.status().failure.message
    assert len(message) <= 600
    assert "\n" not in message


def test_the_entry_point_is_a_name_and_its_arguments_are_plain() -> None:
    """submitit pickles a reference and two plain values: never user code, never a study."""
    import cloudpickle

    pickled = cloudpickle.dumps((worker.work, (str(Path("/somewhere")), 0)))
    assert len(pickled) < 200
    assert b"assay.launch.local.worker" in pickled
