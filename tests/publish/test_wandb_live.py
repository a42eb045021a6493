"""A real run that W&B is told of while it trains, killed and begun again."""

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
import wandb_stub
from tests.launch.test_looks import done, final, submitted
from tests.launch.waiting import until

from assay.launch.attempt import attempt_in_child
from assay.publish.tracking.content import wandb_id
from assay.store import RunDirectory
from assay.study import Study
from assay.workspace import Workspace

STEPS = 600
ONLINE = {"mode": "online", "project": "assay", "entity": "team"}


@contextmanager
def attempting(space: Workspace, name: str) -> Iterator[tuple[BaseProcess, RunDirectory]]:
    """A process that does the sweep's first run, as a worker starts it."""
    directory, run = submitted(space, name)
    process = get_context("spawn").Process(target=attempt_in_child, args=(str(directory.path), run.fingerprint, {}))
    process.start()
    try:
        yield process, run
    finally:
        process.kill()
        process.join()


def told_by(process: BaseProcess) -> int:
    """The process that tells W&B of the run which this one trains."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (found,) = [int(pid) for pid in children if "tracking.live" in Path(f"/proc/{pid}/cmdline").read_text()]
    return found


def steps_of(run: RunDirectory) -> list[int]:
    return [record["step"] for record in run.history()]


def hold_until(process: BaseProcess, run: RunDirectory, step: int, told: Callable[[], bool]) -> None:
    """Let a run come to a step, and have it wait there until W&B was told: on a busy machine it would be over by then."""
    until(lambda: process.exitcode is not None or max(steps_of(run), default=0) >= step, f"step {step}")
    assert process.exitcode is None
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    until(told, "W&B to be told")


def test_a_run_that_is_killed_with_all_its_processes_goes_on_in_the_same_wandb_run(
    tiny_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As when its node dies. No step is there twice, none is missing, scores by tokens are there; its weights are those of a run without W&B."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    asked = {"steps": STEPS, "training__checkpoint_steps": 100, "training__records": 60, "training__looks": [0.5]}
    alone = done(Workspace(tiny_study(**asked, paths__store="alone")))
    space = Workspace(tiny_study(**asked, tracking=ONLINE))
    with wandb_stub.serve() as (url, received):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        with attempting(space, "1") as (process, run):
            seen = received.runs.get
            identity = wandb_id(run.fingerprint)
            hold_until(process, run, 120, lambda: bool((known := seen(identity)) and known.lines))
            teller = told_by(process)
            process.kill()
            os.killpg(teller, signal.SIGKILL)  # it has a session of its own
        before = len(received.runs[identity].lines)
        assert 0 < before < STEPS / 10
        with attempting(space, "2") as (process, run):
            begun = max(steps_of(run))
            hold_until(process, run, begun + 60, lambda: len(received.runs[identity].lines) > before)
            assert process.pid is not None
            os.kill(process.pid, signal.SIGCONT)
            process.join()
            assert process.exitcode == 0
    (told,) = (one for one in received.runs.values() if one.fields["jobType"] == "train")
    assert (told.name, told.state) == (identity, "finished")
    *trained, final = told.history
    assert [(row["_step"], row["train/loss"]) for row in trained] == [
        (record["step"], record["loss"]) for record in alone.history()
    ]
    looked = [row["looks/tokens"] for row in (*trained, final) if "looks/tokens" in row]
    assert looked == [run.spec().tokens // 2, run.spec().tokens]
    assert (run.status().attempt, run.status().weights) == (2, alone.status().weights)


def record_of(run: RunDirectory) -> dict[str, Any]:
    """All that a run leaves in its folder but what clocks and the log of its process say."""
    status, speeds = run.status(), ("tokens_per_second", "mfu", "train_seconds")
    return {
        "files": sorted(str(path.relative_to(run.path)) for path in run.path.rglob("*") if path != run.log),
        "bytes": final(run),
        "status": [status.state, status.step, status.tokens, status.attempt, status.weights, status.failure],
        "history": [{key: value for key, value in one.items() if key not in speeds} for one in run.history()],
        "delivered": run.delivered(),
        "scores": [run.scores(evaluation) for evaluation in run.evaluations()],
    }


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_where_wandb_fails_a_runs_record_exit_code_and_files_are_as_without_it(
    tiny_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: str
) -> None:
    """Offline its folder cannot be made, online its server fails. At most a note is left, that nothing was sent."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    alone = done(Workspace(tiny_study(paths__store="alone")))
    space = Workspace(tiny_study(tracking={**ONLINE, "mode": mode}))
    with wandb_stub.serve(status=500) as (url, _):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        if mode == "offline":
            space.store.root.mkdir(parents=True)
            space.store.wandb.write_text("a file, where W&B's folder has to be")
        with attempting(space, "1") as (process, run):
            process.join()
    assert process.exitcode == 0
    for marker in run.path.glob("wandb-*.json"):
        assert '"sent": true' not in marker.read_text()
        marker.unlink()
    assert record_of(run) == record_of(alone)
