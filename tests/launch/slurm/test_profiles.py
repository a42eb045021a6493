"""What a profile asks for: runs side by side, runs of several processes, sweeps that overlap; and what is refused."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from assay.errors import AssayError
from assay.launch.records import submissions
from assay.store import Store
from tests.launch.slurm.sweeps import SUBMIT, make_sweep, times_trained
from tests.launch.waiting import LONGEST, until
from tests.slurm.processes import tasks

if TYPE_CHECKING:
    from tests.launch.slurm.sweeps import Sweep
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


def test_two_nodes_train_what_torchrun_trains_and_go_on_when_one_of_them_loses_its_process(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit. The rank that is left cannot say more than that the other is gone: no failure of the run's own."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch, slurm={"nodes": 2})
    sweep.submit()
    run, other = sweep.runs
    assert sweep.job(run)["NumNodes"] in {"2", "2-2"}
    sweep.until_checkpoint(run)
    first = run.status().host
    (second,) = {process.daemon for process in tasks(cluster.folder)} - {first}
    newest = max(process.pid for process in tasks(cluster.folder) if process.daemon == second)
    os.kill(newest, signal.SIGKILL)
    until(lambda: sweep.directory.closed, "the sweep to be judged and closed")

    done_together(sweep, torchrun(sweep, tmp_path))
    assert (run.status().attempt, other.status().attempt) == (2, 1)
    assert sweep.ledger.tries() == {run.fingerprint: {"rank lost": 1}}


def test_several_processes_of_a_node_train_the_runs_of_a_job_one_after_the_other(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time all of them, and one of them evaluates."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch, steps=200, slurm={"processes_per_node": 2})
    sweep.submit()
    sweep.until_closed()
    done_together(sweep, torchrun(sweep, tmp_path))
    assert [run.status().attempt for run in sweep.runs] == [1, 1]
    assert len(sweep.ledger.jobs("runs")) == 1


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no such partition": ({"partition": "mian"}, "partition 'mian' does not exist. Did you mean 'main'?"),
    "over its time limit": ({"partition": "short"}, "partition 'short' allows 1 min, 12 are asked for."),
    "more GPUs": ({"gpus_per_node": 5}, "partition 'main' has nodes with up to 4 GPUs, 5 are asked for."),
    "more nodes": ({"nodes": 5}, "partition 'main' allows 4 nodes a job, 5 are asked for."),
    "more memory": (
        {"memory_gb": 100},
        "partition 'main' has nodes with up to 64000 MB of memory, 102400 are asked for.",
    ),
    "no such control partition": ({"control_partition": "mian"}, "partition 'mian' does not exist."),
    "no such option": ({"options": {"nosuch": "1"}}, "sbatch would refuse its jobs: sbatch: unrecognized option"),
    "no such class": ({"retries": {"node fail": 1}}, "nothing is called 'node fail'. Did you mean 'node failed'?"),
}
"""Profiles that this cluster could never run, and what is said of them."""


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_cluster_could_never_run_is_refused_before_anything_is_submitted(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    profile, said = REFUSED[case]
    sweep = make_sweep(cluster, tmp_path, monkeypatch, prepared=False, slurm=profile)
    refused(sweep, said)


def test_where_there_is_no_slurm_nothing_is_submitted(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep(cluster, tmp_path, monkeypatch, prepared=False)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        refused(sweep, "no SLURM on this machine: scontrol is not on PATH.")


def test_into_a_store_that_may_only_be_read_nothing_is_submitted(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep(cluster, tmp_path, monkeypatch, prepared=False)
    sweep.space.store.root.mkdir(exist_ok=True)
    with mounted(sweep.space.store.root, "ro"):
        refused(sweep, "cannot be written: Read-only file system.")


def test_into_a_store_that_is_full_nothing_is_submitted(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep(cluster, tmp_path, monkeypatch, prepared=False)
    sweep.space.store.root.mkdir(exist_ok=True)
    with mounted(sweep.space.store.root, "size=1m"):
        refused(sweep, "cannot be written: No space left on device.")


def refused(sweep: Sweep, said: str) -> None:
    """Check that a sweep is refused in these words, and that nothing came to be: no job, no run, no submission."""
    with pytest.raises(AssayError) as error:
        sweep.submit()
    assert said in str(error.value)
    assert error.value.fix or "Known:" in str(error.value)
    assert not sweep.queue()
    assert sweep.space.store.runs() == []
    assert submissions(sweep.space.store, sweep.name) == []


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """An empty file system over a folder, where this machine lets root mount one."""
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("nothing can be mounted here: the container has no CAP_SYS_ADMIN")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


TRAIN = """
import json, pathlib, sys
from dataclasses import replace
from assay.store import Store
from assay.study import Study
from assay.train.loop import train
from assay.workspace import Workspace
study = Study.parse(json.loads(pathlib.Path(sys.argv[1]).read_text()))
space = Workspace(study)
settings = replace(study.training, device="cpu", threads=1, micro_batch=study.batch.micro)
(spec,) = [planned.spec for planned in space.plan().runs if planned.fingerprint == sys.argv[2]]
run = Store(sys.argv[3]).run(sys.argv[2])
run.create(spec, {})
train(spec, run, space.reader(spec), tokenizer=space.tokenizer_folder(), settings=settings)
"""


def torchrun(sweep: Sweep, folder: Path) -> dict[str, str | None]:
    """The weights of a sweep's runs by fingerprint, as torchrun's two processes train them."""
    study, script, store = folder / "study.json", folder / "train.py", Store(folder / "together")
    study.write_text(json.dumps(sweep.space.study.raw))
    script.write_text(TRAIN)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    for run in sweep.runs:
        subprocess.run([*command, str(study), run.fingerprint, str(store.root)], check=True, timeout=LONGEST)
    return {run.fingerprint: run.status().weights for run in store.runs()}


def done_together(sweep: Sweep, weights: dict[str, str | None]) -> None:
    """Check that a sweep's runs are done and have these weights, and that each was trained to its end once."""
    assert {run.fingerprint: run.status().weights for run in sweep.runs} == weights
    assert {run.status().state for run in sweep.runs} == {"done"}
    assert [times_trained(run) for run in sweep.runs] == [1] * len(sweep.runs)
    assert all(run.evaluated(sweep.space.evaluation.fingerprint) for run in sweep.runs)
