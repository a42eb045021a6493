"""Profiles on a real cluster: concurrent runs, runs of several processes, overlapping sweeps, and rejected profiles."""

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

from assay.core.errors import AssayError
from assay.store.runs import Store
from assay.store.submissions import submissions
from tests.launch.polling import LONGEST, until
from tests.launch.slurm.sweeps import SUBMIT, make_sweep, times_trained
from tests.slurm.processes import tasks

if TYPE_CHECKING:
    from tests.launch.slurm.sweeps import Sweep
    from tests.slurm.cluster import Cluster


def test_two_sweeps_that_share_a_run_train_it_once_and_both_get_a_verdict(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two users submit them at the same time."""
    one = make_sweep(cluster, tmp_path, monkeypatch)
    other = make_sweep(cluster, tmp_path, monkeypatch, sweep__name="other", sweep__candidates=["more_web"])
    submitters = []
    for sweep in (one, other):
        study = tmp_path / f"{sweep.name}.json"
        study.write_text(json.dumps(sweep.workspace.study.raw))
        submitters.append(subprocess.Popen([sys.executable, "-c", SUBMIT, str(study)]))
    assert [submitter.wait() for submitter in submitters] == [0, 0]
    for sweep in (one, other):
        sweep.until_closed()
        sweep.all_done_once()
    assert len({run.path for sweep in (one, other) for run in sweep.runs}) == 3
    assert [run.status().attempt for run in one.workspace.store.runs()] == [1, 1, 1]


def test_a_killed_run_is_resubmitted_alone_and_its_neighbor_continues(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs share a job concurrently; the kernel sends SIGKILL when memory is exhausted."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch, slurm={"runs_per_job": 2, "runs_per_gpu": 2})
    sweep.submit()
    killed, neighbor = sweep.runs
    for run in (killed, neighbor):
        sweep.until_checkpoint(run)
    assert sweep.job(killed)["NumCPUs"] == "2"
    pid = killed.status().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: sweep.directory.closed, "the sweep to be closed with a verdict")

    sweep.until_closed()
    sweep.all_done_once()
    assert (killed.status().attempt, neighbor.status().attempt) == (2, 1)
    assert sweep.ledger.count_retries() == {killed.fingerprint: {"killed": 1}}
    assert [batch.tasks for batch in sweep.ledger.batches() if batch.kind == "runs"] == [
        ((killed.fingerprint, neighbor.fingerprint),),
        ((killed.fingerprint,),),
    ]


def test_two_nodes_train_the_weights_of_torchrun_and_recover_from_a_lost_rank(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are identical in every bit. The loss of a rank is not a failure of the run itself."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch, slurm={"nodes": 2})
    sweep.submit()
    run, other = sweep.runs
    assert sweep.job(run)["NumNodes"] in {"2", "2-2"}
    sweep.until_checkpoint(run)
    first = run.status().host
    (second,) = {process.daemon for process in tasks(cluster.folder)} - {first}
    newest = max(process.pid for process in tasks(cluster.folder) if process.daemon == second)
    os.kill(newest, signal.SIGKILL)
    until(lambda: sweep.directory.closed, "the sweep to be closed with a verdict")

    done_together(sweep, torchrun(sweep, tmp_path))
    assert (run.status().attempt, other.status().attempt) == (2, 1)
    assert sweep.ledger.count_retries() == {run.fingerprint: {"rank lost": 1}}


def test_several_processes_of_a_node_train_the_runs_of_a_job_in_sequence(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All processes train each run, and one of them evaluates it."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch, steps=200, slurm={"processes_per_node": 2})
    sweep.submit()
    sweep.until_closed()
    done_together(sweep, torchrun(sweep, tmp_path))
    assert [run.status().attempt for run in sweep.runs] == [1, 1]
    assert len(sweep.ledger.jobs("runs")) == 1


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no such partition": ({"partition": "mian"}, "partition 'mian' does not exist. Did you mean 'main'?"),
    "over its time limit": ({"partition": "short"}, "partition 'short' allows 1 min per job; 12 are requested."),
    "more GPUs": ({"gpus_per_node": 5}, "partition 'main' has nodes with up to 4 GPUs; 5 are requested."),
    "more nodes": ({"nodes": 5}, "partition 'main' allows 4 nodes per job; 5 are requested."),
    "more memory": (
        {"memory_gb": 100},
        "partition 'main' has nodes with up to 64000 MB of memory; 102400 are requested.",
    ),
    "no such control partition": ({"control_partition": "mian"}, "partition 'mian' does not exist."),
    "no such option": ({"options": {"nosuch": "1"}}, "sbatch rejects the jobs: sbatch: unrecognized option"),
    "no such class": ({"retries": {"node fail": 1}}, "'node fail' is not a retry cause. Did you mean 'node failed'?"),
}
"""Profiles that this cluster can never run, and their error messages."""


@pytest.mark.parametrize("case", REFUSED)
def test_a_profile_that_the_cluster_can_never_run_is_rejected_before_submission(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    profile, message = REFUSED[case]
    sweep = make_sweep(cluster, tmp_path, monkeypatch, prepared=False, slurm=profile)
    assert_rejected(sweep, message)


def test_without_slurm_nothing_is_submitted(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = make_sweep(cluster, tmp_path, monkeypatch, prepared=False)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        assert_rejected(sweep, "SLURM is not available on this machine: scontrol is not on the PATH.")


def test_with_a_read_only_store_nothing_is_submitted(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep(cluster, tmp_path, monkeypatch, prepared=False)
    sweep.workspace.store.root.mkdir(exist_ok=True)
    with mounted(sweep.workspace.store.root, "ro"):
        assert_rejected(sweep, "cannot be written: Read-only file system.")


def test_with_a_full_store_nothing_is_submitted(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep(cluster, tmp_path, monkeypatch, prepared=False)
    sweep.workspace.store.root.mkdir(exist_ok=True)
    with mounted(sweep.workspace.store.root, "size=1m"):
        assert_rejected(sweep, "cannot be written: No space left on device.")


def assert_rejected(sweep: Sweep, message: str) -> None:
    """Assert that a sweep is rejected with this message and leaves no job, run or submission."""
    with pytest.raises(AssayError) as error:
        sweep.submit()
    assert message in str(error.value)
    assert error.value.fix or "Known:" in str(error.value)
    assert not sweep.queue()
    assert sweep.workspace.store.runs() == []
    assert submissions(sweep.workspace.store, sweep.name) == []


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Mount an empty file system over a folder; skip the test if this machine does not allow it."""
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("cannot mount: the container has no CAP_SYS_ADMIN")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


TRAIN = """
import json, pathlib, sys
from dataclasses import replace
from assay.store.runs import Store
from assay.config.study import Study
from assay.corpus.loader import SequenceReader
from assay.train.loop import train
from assay.plan.workspace import Workspace
study = Study.parse(json.loads(pathlib.Path(sys.argv[1]).read_text()))
space = Workspace(study)
settings = replace(study.training, device="cpu", threads=1, micro_batch=study.batch.micro)
(spec,) = [planned.spec for planned in space.planner.plan().runs if planned.fingerprint == sys.argv[2]]
run = Store(sys.argv[3]).run(sys.argv[2])
run.create(spec, {})
train(spec, run, SequenceReader.open(spec, space.store.corpora), tokenizer=space.sources.tokenizer_folder, settings=settings)
"""


def torchrun(sweep: Sweep, folder: Path) -> dict[str, str | None]:
    """Train a sweep's runs with two processes of torchrun and return the weights, by fingerprint."""
    study, script, store = folder / "study.json", folder / "train.py", Store(folder / "together")
    study.write_text(json.dumps(sweep.workspace.study.raw))
    script.write_text(TRAIN)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    for run in sweep.runs:
        subprocess.run([*command, str(study), run.fingerprint, str(store.root)], check=True, timeout=LONGEST)
    return {run.fingerprint: run.status().weights for run in store.runs()}


def done_together(sweep: Sweep, weights: dict[str, str | None]) -> None:
    """Assert that a sweep's runs are done, have these weights, and finished training once."""
    assert {run.fingerprint: run.status().weights for run in sweep.runs} == weights
    assert {run.status().state for run in sweep.runs} == {"done"}
    assert [times_trained(run) for run in sweep.runs] == [1] * len(sweep.runs)
    assert all(run.evaluated(sweep.workspace.runs.evaluation.fingerprint) for run in sweep.runs)
