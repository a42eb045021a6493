"""Behavior of the test cluster on which the tests of sweeps depend."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.launch.polling import until
from tests.launch.slurm import conftest
from tests.slurm import cluster as module
from tests.slurm.cluster import PACKAGES, Cluster, missing
from tests.slurm.processes import daemons, started, tasks

ROOT = Path(__file__).parents[3]
TASK = """
import os, pathlib, signal, sys, time
out = pathlib.Path(sys.argv[1])
def report(*words):
    with out.open("a") as file:
        print(*words, file=file)
warned = False
def terminated(*_):
    global warned
    report("SIGTERM", time.time())
    if warned:
        sys.exit()
    warned = True
signal.signal(signal.SIGTERM, terminated)
report("started", os.environ["SLURMD_NODENAME"], os.getpid())
while not out.with_name("enough").exists():
    time.sleep(0.05)
report("finished")
"""
"""Program that reports its signals, and ends when a file exists or at its second SIGTERM."""


class Job:
    """A job of one step, `TASK`, and its reports."""

    def __init__(self, cluster: Cluster, folder: Path, *options: str) -> None:
        (folder / "task.py").write_text(TASK)
        self.out, self.enough = folder / "reports", folder / "enough"
        command = f"srun --overlap {sys.executable} {folder}/task.py {self.out}"
        self.id = sbatch(cluster, *options, "--requeue", f"--output={folder}/log", f"--wrap={command}")

    def reports(self, word: str) -> list[list[str]]:
        """Return the reports that start with a word, without the word."""
        lines = self.out.read_text().splitlines() if self.out.exists() else []
        return [line.split()[1:] for line in lines if line.startswith(word)]

    def until_started(self, times: int = 1) -> tuple[str, int]:
        """Wait until the job has started this many times; return its node and process id."""
        until(lambda: len(self.reports("started")) == times, f"the job's start number {times}")
        node, pid = self.reports("started")[-1]
        return node, int(pid)

    def finish(self) -> None:
        """Make the job end by itself, and wait for its end."""
        self.enough.touch()
        until(lambda: self.reports("finished"), "the job to finish")


def sbatch(cluster: Cluster, *options: str) -> str:
    return cluster.command("sbatch", "--parsable", *options)


def until_state(cluster: Cluster, job: str, *states: str) -> None:
    until(lambda: cluster.job(job)["JobState"] in states, f"job {job} to be {' or '.join(states)}")


def recorded(cluster: Cluster, job: str) -> str:
    """Query accounting for the state of a job, in its last start."""
    return cluster.command("sacct", "--allocations", "--noheader", "--format=State", f"--jobs={job}")


def test_the_controller_and_accounting_report_how_a_job_ended(cluster: Cluster, tmp_path: Path) -> None:
    good = sbatch(cluster, f"--output={tmp_path}/%j", "--wrap=echo here")
    bad = sbatch(cluster, "--output=/dev/null", "--wrap=exit 3")
    until_state(cluster, good, "COMPLETED")
    until_state(cluster, bad, "FAILED")
    assert (tmp_path / good).read_text() == "here\n"
    assert cluster.job(bad)["ExitCode"] == "3:0"
    until(lambda: (recorded(cluster, good), recorded(cluster, bad)) == ("COMPLETED", "FAILED"), "accounting to know")


def test_every_task_of_an_array_runs_once(cluster: Cluster, tmp_path: Path) -> None:
    wrap = f"--wrap=echo $SLURM_ARRAY_TASK_ID >> {tmp_path}/$SLURM_ARRAY_TASK_ID"
    sbatch(cluster, "--array=0-39", "--output=/dev/null", wrap)
    until(lambda: not cluster.command("squeue", "--noheader"), "the array to end")
    assert sorted(int(file.read_text()) for file in tmp_path.iterdir()) == list(range(40))


def test_a_step_spans_nodes(cluster: Cluster, tmp_path: Path) -> None:
    wrap = "--wrap=srun bash -c 'echo $SLURM_PROCID $SLURMD_NODENAME'"
    job = sbatch(cluster, "--nodes=2", "--ntasks-per-node=2", f"--output={tmp_path}/out", wrap)
    until_state(cluster, job, "COMPLETED")
    ranks = sorted((tmp_path / "out").read_text().splitlines())
    nodes = [rank.split()[1] for rank in ranks]
    assert [rank.split()[0] for rank in ranks] == ["0", "1", "2", "3"]
    assert nodes[0] == nodes[1] != nodes[2] == nodes[3]


def test_gpus_are_counted_and_assigned_to_jobs(cluster: Cluster, tmp_path: Path) -> None:
    wrap = "--wrap=echo $CUDA_VISIBLE_DEVICES $SLURM_JOB_GPUS; sleep 600"
    wants = ("--nodelist=n1", "--gres=gpu:2", f"--output={tmp_path}/%j", wrap)
    first, second, third = (sbatch(cluster, *wants) for _ in range(3))
    until(
        lambda: all((tmp_path / job).exists() and (tmp_path / job).read_text() for job in (first, second)), "two jobs"
    )
    assert {(tmp_path / job).read_text() for job in (first, second)} == {"0,1 0,1\n", "2,3 2,3\n"}
    until(lambda: cluster.job(third)["Reason"] == "Resources", "the third to wait for GPUs")


def test_after_a_node_failure_a_job_is_requeued_and_runs_on_another_node(cluster: Cluster, tmp_path: Path) -> None:
    job = Job(cluster, tmp_path)
    node, pid = job.until_started()
    cluster.kill(node)
    assert started(pid) is None
    assert node not in cluster.alive
    second, _ = job.until_started(2)
    assert second != node
    assert cluster.job(job.id)["Restarts"] == "1"
    assert not job.reports("SIGTERM")
    job.finish()
    until(lambda: recorded(cluster, job.id) == "COMPLETED", "accounting to know")


def test_a_reported_node_failure_is_handled_immediately_and_a_restarted_node_runs_jobs(
    bare_cluster: Cluster, tmp_path: Path
) -> None:
    job = Job(bare_cluster, tmp_path, "--nodelist=n2")
    job.until_started()
    bare_cluster.kill("n2", noticed=True)
    assert bare_cluster.job(job.id)["JobState"] == "PENDING"
    bare_cluster.start("n2")
    assert job.until_started(2)[0] == "n2"
    job.finish()


def test_tasks_outlive_their_slurmd_and_a_new_one_finds_them(bare_cluster: Cluster, tmp_path: Path) -> None:
    job = Job(bare_cluster, tmp_path, "--nodelist=n1")
    _, pid = job.until_started()
    bare_cluster.kill_slurmd_only("n1")
    assert "n1" not in bare_cluster.alive
    assert started(pid) is not None
    bare_cluster.start("n1")
    assert bare_cluster.job(job.id)["JobState"] == "RUNNING"
    job.finish()
    until_state(bare_cluster, job.id, "COMPLETED")


def test_preemption_on_scavenge_sends_sigterm_waits_and_requeues(cluster: Cluster, tmp_path: Path) -> None:
    """SLURM sends SIGTERM immediately, ends the job after the grace time, and requeues it if it has not ended before."""
    job = Job(cluster, tmp_path, "--partition=scavenge", "--nodelist=n1")
    job.until_started()
    winner = cluster.preempt("n1")
    until_state(cluster, winner, "RUNNING")
    assert cluster.job(job.id)["JobState"] == "PENDING"
    warned = float(job.reports("SIGTERM")[0][0])
    until(lambda: recorded(cluster, winner) == "RUNNING", "accounting to know")
    begun = cluster.command("sacct", "--allocations", "--noheader", "--format=Start", f"--jobs={winner}")
    grace = 10
    assert time.mktime(time.strptime(begun, "%Y-%m-%dT%H:%M:%S")) - warned > grace - 1  # SLURM prints whole seconds
    cluster.cancel(winner)
    job.until_started(2)
    job.finish()
    until(lambda: recorded(cluster, job.id) == "COMPLETED", "accounting to know")


def test_preemption_on_kill_cancels(cluster: Cluster, tmp_path: Path) -> None:
    job = Job(cluster, tmp_path, "--partition=kill", "--nodelist=n1")
    job.until_started()
    winner = cluster.preempt("n1")
    until_state(cluster, winner, "RUNNING")
    assert cluster.job(job.id)["JobState"] == "PREEMPTED"
    until(lambda: recorded(cluster, job.id) == "PREEMPTED", "accounting to know")


def test_jobs_survive_a_crash_of_slurmctld(cluster: Cluster, tmp_path: Path) -> None:
    job = Job(cluster, tmp_path)
    _, pid = job.until_started()
    waits = sbatch(cluster, "--hold", "--output=/dev/null", "--wrap=true")
    cluster.save()
    cluster.kill("slurmctld")
    with pytest.raises(subprocess.CalledProcessError):
        cluster.command("squeue")
    assert started(pid) is not None
    cluster.start("slurmctld")
    assert cluster.job(job.id)["JobState"] == "RUNNING"
    assert cluster.job(waits)["Reason"] == "JobHeldUser"
    job.finish()
    until_state(cluster, job.id, "COMPLETED")


def test_a_frozen_slurmdbd_blocks_sacct_and_not_sbatch(cluster: Cluster, tmp_path: Path) -> None:
    cluster.freeze("slurmdbd")
    job = sbatch(cluster, f"--output={tmp_path}/out", "--wrap=echo here")
    until_state(cluster, job, "COMPLETED")
    with pytest.raises(subprocess.TimeoutExpired):
        cluster.command("sacct", timeout=3)
    cluster.thaw("slurmdbd")
    until(lambda: recorded(cluster, job) == "COMPLETED", "accounting to learn what it missed")


def test_a_restarted_slurmdbd_receives_missed_updates(cluster: Cluster) -> None:
    cluster.kill("slurmdbd")
    with pytest.raises(subprocess.CalledProcessError):
        cluster.command("sacct")
    job = sbatch(cluster, "--output=/dev/null", "--wrap=true")
    until_state(cluster, job, "COMPLETED")
    cluster.start("slurmdbd")
    until(lambda: recorded(cluster, job) == "COMPLETED", "accounting to learn what it missed")


def test_without_accounting_jobs_run_and_sacct_fails(bare_cluster: Cluster) -> None:
    job = sbatch(bare_cluster, "--output=/dev/null", "--wrap=true")
    until_state(bare_cluster, job, "COMPLETED")
    with pytest.raises(subprocess.CalledProcessError) as error:
        bare_cluster.command("sacct")
    assert "accounting storage is disabled" in error.value.__notes__[0]


def test_reset_removes_everything_that_a_test_left_behind(bare_cluster: Cluster, tmp_path: Path) -> None:
    job = Job(bare_cluster, tmp_path, "--nodelist=n1")
    job.until_started()
    bare_cluster.command("scontrol", "suspend", job.id)
    sbatch(bare_cluster, "--hold", "--output=/dev/null", "--wrap=true")
    orphan = sbatch(
        bare_cluster, "--nodelist=n2", "--output=/dev/null", "--wrap=trap '' TERM; while sleep 0.1; do :; done"
    )
    until_state(bare_cluster, orphan, "RUNNING")
    bare_cluster.kill_slurmd_only("n2")
    bare_cluster.kill("n3", noticed=True)
    bare_cluster.command("scontrol", "update", "NodeName=n4", "State=DRAIN", "Reason=test")
    bare_cluster.command("scontrol", "update", "PartitionName=kill", "State=DOWN", "MaxTime=5")
    bare_cluster.kill("slurmctld")
    bare_cluster.reset()
    assert bare_cluster.command("squeue", "--all", "--noheader") == ""
    assert bare_cluster.command("sinfo", "--noheader", "--partition=main", "--format=%t %D") == "idle 4"
    assert bare_cluster.command("sinfo", "--noheader", "--partition=kill", "--format=%a %l") == "up infinite"
    assert not tasks(bare_cluster.folder)
    assert {process.program for process in daemons(bare_cluster.folder)} == {"munged", "slurmctld", "slurmd"}


def test_up_keeps_a_running_cluster(bare_cluster: Cluster, tmp_path: Path) -> None:
    job = Job(bare_cluster, tmp_path)
    job.until_started()
    before = daemons(bare_cluster.folder)
    assert Cluster.up(bare_cluster.folder, accounting=False) == bare_cluster
    assert daemons(bare_cluster.folder) == before
    assert bare_cluster.job(job.id)["JobState"] == "RUNNING"


def test_a_folder_with_other_contents_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("years")
    for act in (Cluster.up, lambda folder: Cluster(folder).down()):
        with pytest.raises(ValueError, match="is not empty, and not a cluster's"):
            act(tmp_path)
    assert (tmp_path / "thesis").read_text() == "years"


@pytest.mark.skipif(bool(missing()), reason=missing() or "there is one")
@pytest.mark.parametrize("guarded", [True, False])
def test_a_cluster_is_removed_after_its_process_was_killed(guarded: bool) -> None:
    """Its guard removes it. If the guard was killed too, the next start of a cluster does."""
    code = (
        "import signal; from tests.slurm.cluster import Cluster\n"
        "with Cluster.temporary(accounting=False, nodes=1) as cluster: print(cluster.folder, flush=True); signal.pause()"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner, owner.stdout:
        folder = Path(owner.stdout.readline().strip())
        assert daemons(folder)
        if not guarded:
            children = Path(f"/proc/{owner.pid}/task/{owner.pid}/children").read_text().split()
            (guard,) = [int(child) for child in children if started(int(child)) is not None]
            os.kill(guard, signal.SIGKILL)
        owner.kill()
    if not guarded:
        assert daemons(folder)
        with Cluster.temporary(accounting=False, nodes=1):
            pass
    until(lambda: not folder.exists() and not daemons(folder), "the cluster to be gone")


def test_without_slurm_tests_are_skipped_with_instructions_unless_slurm_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATH", str(tmp_path))
    monkeypatch.delenv("ASSAY_REQUIRE_SLURM", raising=False)
    with pytest.raises(pytest.skip.Exception, match=f"slurmctld.* not found.*apt-get install .*{PACKAGES[-1]}"):
        next(conftest._cluster(accounting=True))
    monkeypatch.setenv("ASSAY_REQUIRE_SLURM", "1")
    with pytest.raises(pytest.fail.Exception, match="ASSAY_REQUIRE_SLURM=1, and no SLURM here"):
        next(conftest._cluster(accounting=True))
