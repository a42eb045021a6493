"""Live publication of a real run that is killed and resumed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from assay.config.study import Study
from assay.launch.local.run_process import run_attempt
from assay.plan.workspace import Workspace
from assay.report.wandb.content import wandb_id
from assay.store.runs import RunDirectory
from tests.launch.polling import until
from tests.launch.test_interim_evaluations import done, final, submitted
from tests.report.wandb import wandb_stub

STEPS = 600
ONLINE = {"mode": "online", "project": "assay", "entity": "team"}


@contextmanager
def attempting(space: Workspace, name: str) -> Iterator[tuple[BaseProcess, RunDirectory]]:
    """Start a process that performs the sweep's first run in the same way as a worker does."""
    directory, run = submitted(space, name)
    process = get_context("spawn").Process(target=run_attempt, args=(str(directory.path), run.fingerprint, {}))
    process.start()
    try:
        yield process, run
    finally:
        process.kill()
        process.join()


def publisher_of(process: BaseProcess) -> int:
    """Return the id of the process that publishes the run which `process` trains."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (publisher,) = [int(pid) for pid in children if "report.wandb.live" in Path(f"/proc/{pid}/cmdline").read_text()]
    return publisher


def steps_of(run: RunDirectory) -> list[int]:
    return [record["step"] for record in run.history()]


def stop_at(process: BaseProcess, run: RunDirectory, step: int, published: Callable[[], bool]) -> None:
    """Stop a run at a step until it is published; on a busy machine it would otherwise finish first."""
    until(lambda: process.exitcode is not None or max(steps_of(run), default=0) >= step, f"step {step}")
    assert process.exitcode is None
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    until(published, "the publication")


def test_a_run_whose_processes_are_all_killed_resumes_in_the_same_wandb_run(
    tiny_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A node failure: no step is missing or duplicated, interim scores are there, weights equal those without W&B."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    settings = {
        "steps": STEPS,
        "training__checkpoint_steps": 100,
        "training__records": 60,
        "training__interim_evaluations": [0.5],
    }
    alone = done(Workspace(tiny_study(**settings, paths__store="alone")))
    space = Workspace(tiny_study(**settings, tracking=ONLINE))
    with wandb_stub.serve() as (url, received):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        with attempting(space, "1") as (process, run):
            get = received.runs.get
            identity = wandb_id(run.fingerprint)
            stop_at(process, run, 120, lambda: bool((server_run := get(identity)) and server_run.lines))
            publisher = publisher_of(process)
            process.kill()
            os.killpg(publisher, signal.SIGKILL)  # it has its own session
        before = len(received.runs[identity].lines)
        assert 0 < before < STEPS / 10
        with attempting(space, "2") as (process, run):
            first = max(steps_of(run))
            stop_at(process, run, first + 60, lambda: len(received.runs[identity].lines) > before)
            assert process.pid is not None
            os.kill(process.pid, signal.SIGCONT)
            process.join()
            assert process.exitcode == 0
    (server_run,) = (each for each in received.runs.values() if each.fields["jobType"] == "train")
    assert (server_run.name, server_run.state) == (identity, "finished")
    *trained, final = server_run.history
    assert [(row["_step"], row["train/loss"]) for row in trained] == [
        (record["step"], record["loss"]) for record in alone.history()
    ]
    interim = [row["interim/tokens"] for row in (*trained, final) if "interim/tokens" in row]
    assert interim == [run.spec().tokens // 2, run.spec().tokens]
    assert (run.status().attempt, run.status().weights) == (2, alone.status().weights)


def record_of(run: RunDirectory) -> dict[str, Any]:
    """Return everything in a run's folder except for times and its log."""
    status, speeds = run.status(), ("tokens_per_second", "mfu", "train_seconds")
    return {
        "files": sorted(str(path.relative_to(run.path)) for path in run.path.rglob("*") if path != run.log),
        "bytes": final(run),
        "status": [status.state, status.step, status.tokens, status.attempt, status.weights, status.failure],
        "history": [{key: value for key, value in record.items() if key not in speeds} for record in run.history()],
        "delivered": run.delivered(),
        "scores": [run.scores(evaluation) for evaluation in run.evaluations()],
    }


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_a_failure_of_wandb_changes_no_record_file_or_exit_code_of_a_run(
    tiny_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: str
) -> None:
    """Offline, its folder cannot be created; online, the server fails. Only a marker of the failure may remain."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    alone = done(Workspace(tiny_study(paths__store="alone")))
    space = Workspace(tiny_study(tracking={**ONLINE, "mode": mode}))
    with wandb_stub.serve(status=500) as (url, _):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        if mode == "offline":
            space.store.root.mkdir(parents=True)
            space.store.wandb.write_text("a file in place of W&B's folder")
        with attempting(space, "1") as (process, run):
            process.join()
    assert process.exitcode == 0
    for marker in run.path.glob("wandb-*.json"):
        assert '"sent": true' not in marker.read_text()
        marker.unlink()
    assert record_of(run) == record_of(alone)
