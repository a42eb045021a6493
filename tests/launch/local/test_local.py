"""Real workers on this machine, inspected during training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.launch.submit import submit
from assay.plan.workspace import Workspace
from assay.store.runs import RunDirectory
from assay.store.submissions import submissions
from tests.helpers.tiny import tiny_study
from tests.launch.polling import end_workers, until

Training = tuple[RunDirectory, RunDirectory]
ENDLESS = 1_000_000
"""Steps of runs that are inspected during training, and stopped."""
MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}
SUBMIT = """
import json, sys
from assay.launch.submit import submit
from assay.store.runs import RunDirectory
from assay.config.study import Study
from assay.plan.workspace import Workspace
space = Workspace(Study.parse(json.load(sys.stdin)))
submit(space, space.planner.plan())
"""


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Return a workspace with two workers in training, whose submitter has ended; its path has special characters."""
    folder = tmp_path_factory.mktemp("launch") / "a b'c\"d $HOME é 数 &;#"
    study = tiny_study(
        folder,
        steps=ENDLESS,
        overrides={"sweep.seeds": [0], "cluster.workers": 2, "cluster.environment": MEMORY},
    )
    # Its output is a pipe, as in `assay submit | cat`: this returns once no process holds the other end.
    subprocess.run(
        [sys.executable, "-c", SUBMIT], input=json.dumps(study.raw).encode(), check=True, stdout=subprocess.PIPE
    )
    space = Workspace(study)
    yield space
    end_workers(space.store)


@pytest.fixture
def training(busy: Workspace) -> Training:
    """Return the first two runs, both in training."""
    first, second, _ = submissions(busy.store, "tiny")[-1].runs()
    until(lambda: {first.status().state, second.status().state} == {"training"}, "both workers to train")
    return first, second


def test_submit_returns_while_runs_train(busy: Workspace, training: Training) -> None:
    """Reaching this point is the test: the submitter has ended, and both runs train."""
    assert all(run.claimed for run in training)
    assert len({run.status().pid for run in training}) == 2


def test_workers_are_in_a_session_without_a_terminal(busy: Workspace, training: Training) -> None:
    """A closed terminal or its Ctrl-C does not reach them."""
    for worker in submissions(busy.store, "tiny")[-1].workers():
        assert os.getsid(worker.process.pid) != os.getsid(0)
        terminal = Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()[4]
        assert terminal == "0"


def test_runs_get_the_threads_and_the_memory_settings_of_their_job(busy: Workspace, training: Training) -> None:
    """They apply in the process that trains, whose heap grew by MALLOC_TOP_PAD_ at once."""
    for run in training:
        process = Path("/proc", str(run.status().pid))
        environment = dict(
            entry.split("=", 1) for entry in process.joinpath("environ").read_text().split("\0") if entry
        )
        assert environment["OMP_NUM_THREADS"] == "1"
        assert environment.items() >= MEMORY.items()
        heap = next(line for line in process.joinpath("maps").read_text().splitlines() if line.endswith("[heap]"))
        start, end = (int(edge, 16) for edge in heap.split()[0].split("-"))
        assert end - start >= int(MEMORY["MALLOC_TOP_PAD_"])


def test_submitting_again_while_workers_have_all_runs_submits_nothing(busy: Workspace, training: Training) -> None:
    assert submit(busy, busy.planner.plan()) is None
    assert len(submissions(busy.store, "tiny")) == 1
