"""Resumption of real processes that are killed with SIGKILL."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import os
import random
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load_file

from assay.config.training import TrainSettings
from assay.train.loop import train
from tests.train.small_runs import Cycles, make_run, make_spec, train_here

if TYPE_CHECKING:
    from pathlib import Path

    from assay.config.recipe import RunSpec
    from assay.store.runs import RunDirectory

Processes = multiprocessing.context.ForkServerContext
SETTINGS = {"checkpoint_steps": 3, "records": 150}


@pytest.fixture(scope="module")
def processes() -> Processes:
    """Provide a fork server that has imported torch, so that new processes start in milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["assay.train.loop", "tests.train.small_runs"])
    return context


def test_killed_five_times_a_run_ends_with_the_same_bytes(processes: Processes, tmp_path: Path) -> None:
    """SIGKILL at random moments, from before the first step to the middle of a checkpoint; then the run finishes."""
    spec = make_spec(steps=150)
    alone = make_run(tmp_path / "alone", spec)
    train_here(spec, alone, **SETTINGS)

    run = make_run(tmp_path / "killed", spec)
    seed = random.SystemRandom().randrange(10**6)
    moments, kills, reached = random.Random(seed), 0, 0
    while kills < 5 or not reached:
        process = processes.Process(target=train_here, args=(spec, run), kwargs=SETTINGS)
        process.start()
        # A random step, then a random delay: on a busy machine, a delay alone would hit few different steps.
        step, since = reached + moments.randint(0, 15), run.status().updated
        while process.is_alive() and (run.status().updated == since or last_step(run) < step):
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.03))
        assert process.is_alive(), f"it ended before kill {kills + 1} (seed {seed})"
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        kills += 1
        reached = max((int(path.name.removeprefix("step-")) for path in run.checkpoints.glob("step-*")), default=0)
    assert run.status().state == "training"
    assert run.status().weights is None

    assert train_here(spec, run, **SETTINGS).state == "trained"
    weights = [(folder.model / "model.safetensors").read_bytes() for folder in (alone, run)]
    assert weights[0] == weights[1], f"seed {seed}, {kills} kills, step {reached} reached"
    histories = [[(record["step"], record["loss"]) for record in folder.history()] for folder in (alone, run)]
    assert histories[0] == histories[1], f"seed {seed}"
    assert all(path.name.startswith("step-") for path in run.checkpoints.iterdir())


def last_step(run: RunDirectory) -> int:
    history = run.history()
    return history[-1]["step"] if history else 0


def test_two_processes_train_the_same_weights_as_one(processes: Processes, tmp_path: Path) -> None:
    """Each processes half of every step's sequences, over gloo; gradient and record cover the whole step."""
    spec = make_spec(steps=12, batch_sequences=5)
    alone, together = make_run(tmp_path / "alone", spec), make_run(tmp_path / "together", spec)
    train_here(spec, alone, records=4)
    _train_together(processes, spec, together, records=4)
    assert together.status().state == "trained"
    one, other = (load_file(run.model / "model.safetensors") for run in (alone, together))
    for name in one:
        assert one[name].allclose(other[name], atol=2e-4), name
    for left, right in zip(alone.history(), together.history(), strict=True):
        assert left["step"] == right["step"]
        assert left["loss"] == pytest.approx(right["loss"], rel=1e-4)
        assert left["grad_norm"] == pytest.approx(right["grad_norm"], rel=1e-3)
        assert left["loss_by_source"] == pytest.approx(right["loss_by_source"], rel=1e-3)


def test_two_processes_stop_and_resume_together(processes: Processes, tmp_path: Path) -> None:
    """Only one of the two is requested to stop; both stop, and the run ends like an uninterrupted one."""
    spec = make_spec(steps=12)
    whole, stopped = make_run(tmp_path / "whole", spec), make_run(tmp_path / "stopped", spec)
    _train_together(processes, spec, whole)
    _train_together(processes, spec, stopped, stop_rank_1_after=5)
    assert (stopped.status().state, stopped.status().step) == ("queued", 5)
    _train_together(processes, spec, stopped)
    assert stopped.status().weights == whole.status().weights
    assert [r["loss"] for r in stopped.history()] == [r["loss"] for r in whole.history()]


def test_two_processes_continue_after_an_interim_step_and_keep_its_weights(
    processes: Processes, tmp_path: Path
) -> None:
    """During an evaluation by one process, the other would wait; the run ends with the bytes of one without interim steps."""
    spec = make_spec(steps=12)
    whole, seen = make_run(tmp_path / "whole", spec), make_run(tmp_path / "seen", spec)
    _train_together(processes, spec, whole)
    _train_together(processes, spec, seen, interim_evaluations=(0.5,))
    assert seen.status().state == "trained"
    assert seen.status().weights == whole.status().weights
    assert [(interim.step, interim.has_weights) for interim in seen.interim_evaluations()] == [(6, True)]


def _train_together(
    processes: Processes, spec: RunSpec, run: RunDirectory, *, stop_rank_1_after: int | None = None, **settings: Any
) -> None:
    """Train with two ranks, as torchrun would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        processes.Process(
            target=_rank, args=(rank, port, spec, run), kwargs={**settings, "stop_rank_1_after": stop_rank_1_after}
        )
        for rank in (0, 1)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
    assert [process.exitcode for process in ranks] == [0, 0]


def _rank(
    rank: int, port: int, spec: RunSpec, run: RunDirectory, *, stop_rank_1_after: int | None, **settings: Any
) -> None:
    os.environ.update(
        WORLD_SIZE="2", RANK=str(rank), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    steps = iter(range(1, 1000))

    def stop() -> bool:
        return next(steps) == stop_rank_1_after and rank == 1

    train(spec, run, Cycles(spec), tokenizer=None, settings=TrainSettings(**settings), should_stop=stop)
