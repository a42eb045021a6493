"""What a profile asks for: runs side by side, runs of several processes, sweeps that overlap; and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.launch.slurm.sweeps import SUBMIT, make_sweep
from tests.launch.waiting import until

if TYPE_CHECKING:
    from tests.slurm.cluster import Cluster


def test_two_sweeps_that_want_the_same_run_train_it_once_and_are_both_judged(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two people send them at the same moment."""
    one = make_sweep(cluster, tmp_path, monkeypatch)
    other = make_sweep(cluster, tmp_path, monkeypatch, sweep__name="other", sweep__candidates=["more_web"])
    people = []
    for sweep in (one, other):
        study = tmp_path / f"{sweep.name}.json"
        study.write_text(json.dumps(sweep.space.study.raw))
        people.append(subprocess.Popen([sys.executable, "-c", SUBMIT, str(study)]))
    assert [person.wait() for person in people] == [0, 0]
    for sweep in (one, other):
        sweep.until_closed()
        sweep.all_done_once()
    assert len({run.path for sweep in (one, other) for run in sweep.runs}) == 3
    assert [run.status().attempt for run in one.space.store.runs()] == [1, 1, 1]


def test_a_run_that_is_killed_takes_no_neighbour_along_and_goes_on_alone(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two share a job, side by side; SIGKILL is what the kernel sends where there is not enough memory."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch, slurm={"runs_per_job": 2, "runs_per_gpu": 2})
    sweep.submit()
    killed, neighbour = sweep.runs
    for run in (killed, neighbour):
        sweep.until_checkpoint(run)
    assert sweep.job(killed)["NumCPUs"] == "2"
    pid = killed.status().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: sweep.directory.closed, "the sweep to be judged and closed")

    sweep.until_closed()
    sweep.all_done_once()
    assert (killed.status().attempt, neighbour.status().attempt) == (2, 1)
    assert sweep.ledger.tries() == {killed.fingerprint: {"killed": 1}}
    assert [batch.tasks for batch in sweep.ledger.batches() if batch.kind == "runs"] == [
        ((killed.fingerprint, neighbour.fingerprint),),
        ((killed.fingerprint,),),
    ]
