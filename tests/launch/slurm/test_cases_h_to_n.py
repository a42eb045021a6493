"""Failures of plain submitit on SLURM, cases H to N: assay recovers from each."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import sys
import time
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from assay.config.study import Study
from assay.core.files import exclusive
from assay.core.processes import ProcessIdentity
from assay.launch.slurm.job import MAX_IDLE_RESTARTS
from assay.launch.status import SweepProgress, overview
from assay.launch.submit import monitor_open_submissions, submit
from assay.plan.workspace import Workspace
from assay.store.submissions import Worker
from tests.launch.polling import until
from tests.launch.slurm.sweeps import SUBMIT, PickleTrap, Sweep, gated, make_sweep
from tests.slurm.processes import tasks

if TYPE_CHECKING:
    from assay.store.runs import RunDirectory
    from tests.slurm.cluster import Cluster


def test_slurm_case_h_reused_job_ids_mix_up_neither_jobs_nor_results(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a purge, another job has the id of a job of the sweep, and new jobs get ids for which submitit has files.

    The other job is not touched, and the old files are not read.
    """
    sweep = make_sweep(cluster, tmp_path, monkeypatch)
    sweep.submit()
    done, begun = sweep.runs
    sweep.until(lambda: done.status().state == "done", "the first run to be done")
    sweep.until_checkpoint(begun)
    old, weights = sweep.task(begun), (done.model / "model.safetensors").stat()
    (purged,) = sweep.ledger.jobs("runs")
    purge(cluster, first_job=int(purged))

    asks = ("--array=0", "--output=/dev/null", "--job-name=another", "--wrap=sleep 3600")
    assert cluster.command("sbatch", "--parsable", *asks) == purged
    read = tmp_path / "a pickle was read"
    for number in range(int(purged) + 1, int(purged) + 10):
        for name in (f"{number}_0_0_result.pkl", f"{number}_0_submitted.pkl"):
            (sweep.directory.submitit / name).write_bytes(pickle.dumps(PickleTrap(read)))
        (sweep.directory.submitit / f"{number}_0_0_log.out").write_text("all runs are done\n")
    sweep.until(lambda: not begun.claimed, "the lease of the process that was killed to get stale")
    monitor_open_submissions(sweep.workspace.store, "tiny")
    assert sweep.task(begun) != old
    sweep.until_closed()

    sweep.all_done_once()
    assert cluster.job(old)["JobState"] == "RUNNING"
    assert done.status().attempt == 1
    assert (done.model / "model.safetensors").stat() == weights
    assert not read.exists()


def test_slurm_case_i_a_failed_corpus_job_fails_the_runs_with_its_error(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM cancels the dependent runs; the last monitor job publishes a verdict without them."""
    gate = tmp_path / "gate"
    sweep = make_sweep(cluster, tmp_path, monkeypatch, prepared=False, slurm=gated(gate))
    sweep.submit()
    damaged = tmp_path / "project/data/web.jsonl"
    damaged.write_text(damaged.read_text()[:-20])
    gate.touch()
    until(lambda: sweep.directory.closed, "the sweep to be closed")
    until(lambda: not sweep.queue(), "the queue to be empty")

    for run in sweep.runs:
        status, failure = run.status(), run.status().failure
        assert failure is not None
        assert (status.state, failure.kind, status.attempt) == ("failed", "prepare failed", 0)
        assert "source 'web': its files changed since" in failure.message
        assert failure.log is not None
        assert "source 'web'" in Path(failure.log).read_text()
    assert len(sweep.ledger.jobs("runs")) == 1
    closed = sweep.directory.closed
    assert closed is not None
    assert closed.decision == "INCONCLUSIVE"
    assert "failed" in (sweep.workspace.store.reports / "tiny.md").read_text()


def test_slurm_case_i_jobs_with_a_lost_dependency_build_the_missing_corpora(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM silently drops a dependency on a job that a crashed controller accepted but did not save."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch, prepared=False)
    forgetful(tmp_path, monkeypatch, "prepare")
    sweep.submit()
    (lost,) = sweep.ledger.jobs("prepare")
    assert [batch.after_success for batch in sweep.ledger.batches() if batch.kind == "runs"] == [(lost,)]
    sweep.until_closed()
    sweep.all_done_once()
    assert [run.status().attempt for run in sweep.runs] == [1, 1]


def test_slurm_case_i_a_lost_corpus_job_is_resubmitted_with_its_dependent_runs(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runs never started, so the loss of the corpus job is not their failure."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch, prepared=False)
    with hold_corpus(sweep.workspace, "web"):
        sweep.submit()
        tokenizer = sweep.workspace.sources.tokenizer_folder
        sweep.until(tokenizer.exists, "the corpus job to build the tokenizer")
        for process in tasks(cluster.folder):
            process.send(signal.SIGKILL)
        until(lambda: not tasks(cluster.folder), "its end")
    sweep.until(lambda: len(sweep.ledger.jobs("prepare")) == 2, "the corpus job to be resubmitted")
    sweep.until_closed()
    sweep.all_done_once()
    assert retry_causes(sweep) == {"job failed"}


def test_slurm_case_j_a_run_longer_than_the_time_limit_continues_after_a_requeue(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job writes a checkpoint and requeues itself at its time limit; this counts against no retry limit."""
    sweep = make_sweep(
        cluster, tmp_path, monkeypatch, slurm={"partition": "short", "grace_seconds": 20}, cluster__timeout_hours=1 / 60
    )
    sweep.submit()
    run = sweep.runs[0]
    sweep.until_checkpoint(run)
    stop_until_asked_to(sweep, run)
    sweep.until(lambda: sweep.job(run)["Restarts"] == "1", "the job to be requeued")
    sweep.until_closed()

    sweep.all_done_once()
    assert run.status().attempt == 2
    assert sweep.ledger.count_retries() == {}
    assert len(sweep.ledger.jobs("runs")) == 1
    worker = sweep.directory.worker("b2-0")
    assert worker is not None
    assert worker.spent > 30


def test_slurm_case_j_runs_without_progress_in_consecutive_jobs_fail(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This is the last of these jobs, in which a corpus is never completed. The verdict is published without the runs."""
    gate = tmp_path / "gate"
    sweep = make_sweep(
        cluster,
        tmp_path,
        monkeypatch,
        slurm={"partition": "short", "grace_seconds": 20, **gated(gate)},
        cluster__timeout_hours=1 / 60,
    )
    sweep.submit()
    name = sweep.ledger.tasks()[-2].worker
    me = ProcessIdentity.of(os.getpid())
    before = Worker(
        name=name, process=me, job="", started=time.time(), ended=time.time(), idle_restarts=MAX_IDLE_RESTARTS - 1
    )
    sweep.directory.record_worker(before)
    shutil.rmtree(sweep.workspace.store.corpora / sweep.workspace.sources.corpus_id("web"))
    with hold_corpus(sweep.workspace, "web"):
        gate.touch()
        until(lambda: sweep.directory.closed, "the sweep to be closed")
    until(lambda: not sweep.queue(), "the queue to be empty")

    for run in sweep.runs:
        status, failure = run.status(), run.status().failure
        assert failure is not None
        assert (status.state, failure.kind) == ("failed", "time limit")
        assert "cluster.timeout_hours" in failure.message
    assert len(sweep.ledger.jobs("runs")) == 1


def test_slurm_case_k_a_sweep_is_submitted_and_finished_while_slurmdbd_hangs(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The controller, which remembers end states for some minutes, reports even a job that dies meanwhile."""
    cluster.freeze("slurmdbd")
    sweep = make_sweep(cluster, tmp_path, monkeypatch)
    sweep.submit()
    run = sweep.runs[0]
    sweep.until_checkpoint(run)
    assert read_progress(sweep).counts["training"] == 1
    kill_step(sweep, run)
    sweep.until(lambda: len(sweep.ledger.jobs("runs")) == 2, "the runs to be resubmitted")
    sweep.until_closed()
    assert read_progress(sweep).complete
    sweep.all_done_once()
    assert retry_causes(sweep) == {"requeued"}


def test_slurm_case_l_without_accounting_killed_jobs_are_detected_and_resubmitted(
    bare_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One job is killed by a signal, one by a node failure; each job has a node of its own."""
    sweep = make_sweep(bare_cluster, tmp_path, monkeypatch, slurm={"runs_per_job": 1, "memory_gb": 40})
    sweep.submit()
    killed, stranded = sweep.runs
    for run in (killed, stranded):
        sweep.until_checkpoint(run)
    node = sweep.job(stranded)["NodeList"]
    kill_step(sweep, killed)
    bare_cluster.kill(node, noticed=True)
    sweep.until_closed()

    sweep.all_done_once()
    assert [run.status().attempt for run in (killed, stranded)] == [2, 2]
    assert retry_causes(sweep) == {"requeued"}
    assert stranded.status().host != node


def test_slurm_case_m_a_job_held_after_a_controller_crash_is_released(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The controller has forgotten the launch, launches the job on the node where it still runs, and then holds it."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch, slurm={"monitor_minutes": 0.5})
    held = forget_the_launch(sweep)
    until(lambda: "held" in read_progress(sweep).counts, "status to report held runs")
    sweep.until_closed()

    sweep.all_done_once()
    assert [sweep.task(run) for run in sweep.runs] == [held] * 2


def test_slurm_case_m_a_held_job_whose_runs_are_done_is_cancelled(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another sweep finished its runs meanwhile."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch)
    held = forget_the_launch(sweep)
    sweep.until(lambda: not any(run.claimed for run in sweep.runs), "the lease of the killed process to be stale")
    raw = sweep.workspace.study.raw
    cluster_here = {**raw["cluster"], "executor": "local", "workers": 1, "slurm": None}
    here = Workspace(Study.parse({**raw, "sweep": {**raw["sweep"], "name": "other"}, "cluster": cluster_here}))
    submit(here, here.planner.plan())
    sweep.until(lambda: here.planner.plan().complete, "the other sweep to finish them")
    monitor_open_submissions(sweep.workspace.store, "tiny")
    sweep.until_closed()
    sweep.all_done_once()
    assert cluster.job(held)["JobState"] == "CANCELLED"


def test_slurm_case_m_the_last_monitor_job_waits_for_a_controller_that_does_not_answer(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If that job failed, no verdict would be published and no other monitor job would run."""
    down = tmp_path / "down"
    error = "squeue: error: Unable to contact slurm controller (connect failure)"
    instead(tmp_path, monkeypatch, "squeue", f"[ -e {down} ] && {{ echo '{error}' >&2; exit 1; }}")
    sweep = make_sweep(cluster, tmp_path, monkeypatch, slurm={"monitor_minutes": 0})
    down.touch()
    sweep.submit()
    until(lambda: "This job retries" in sweep.job_logs(), "the last job to get no answer")
    down.unlink()
    sweep.until_closed()
    sweep.all_done_once()


def test_slurm_case_n_a_submission_within_a_job_requests_the_profiles_resources(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM's commands read a job's variables as options: only the variable that selects the cluster is kept."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch, slurm={"memory_gb": 1})
    study, script = tmp_path / "study.json", tmp_path / "script"
    study.write_text(json.dumps(sweep.workspace.study.raw))
    variables = " ".join(f"{name}={value}" for name, value in MISLEADING.items())
    script.write_text(f"#!/bin/sh\nexport {variables}\nexec {sys.executable} -c '{SUBMIT}' {study}\n")
    asks = ("--ntasks=2", "--cpus-per-task=3", "--mem-per-cpu=150", "--gpus=1", "--nodelist=n3", "--time=5")
    outer = cluster.command("sbatch", "--parsable", *asks, f"--output={tmp_path}/log", str(script))
    until(lambda: cluster.job(outer)["JobState"] not in {"PENDING", "RUNNING"}, "the job that submits to end")
    assert cluster.job(outer)["JobState"] == "COMPLETED", (tmp_path / "log").read_text()
    asked = sweep.job(sweep.runs[0])
    assert {name: asked.get(name) for name in PROFILE} == PROFILE
    assert "gpu" not in asked["TRES"]
    sweep.until_closed()
    sweep.all_done_once()


MISLEADING = {
    "SBATCH_PARTITION": "nowhere",
    "SBATCH_TIMELIMIT": "1",
    "SBATCH_GPUS": "9",
    "SBATCH_ARRAY_INX": "0-99",
    "SLURM_TRES_PER_TASK": "cpu:7",
    "SLURM_CLUSTERS": "elsewhere",
    "SLURM_NTASKS_PER_NODE": "2",
    "SQUEUE_STATES": "FAILED",
    "SQUEUE_FORMAT": "%i",
    "SINFO_FORMAT": "%i",
    "SLURM_TIME_FORMAT": "relative",
}
PROFILE = {
    "Partition": "main",
    "NumCPUs": "1",
    "NumTasks": "1",
    "CPUs/Task": "1",
    "MinMemoryNode": "1G",
    "TimeLimit": "00:12:00",
}
"""Resources of the job of `make_sweep`'s profile, as the controller prints them."""


def read_progress(sweep: Sweep) -> SweepProgress:
    """Read the progress that `assay status` shows."""
    return overview(sweep.workspace.store, sweep.workspace.planner.outline(), now=time.time())


def retry_causes(sweep: Sweep) -> set[str]:
    """List the causes for which runs were resubmitted."""
    return set(sum(sweep.ledger.count_retries().values(), Counter()))


def purge(cluster: Cluster, *, first_job: int) -> None:
    """Delete the state of the controller and all running jobs, and restart the job ids from a number."""
    for name in ("slurmctld", *cluster.nodes):
        cluster.kill(name)
    for path in (cluster.folder / "state").iterdir():
        path.unlink() if path.is_file() else shutil.rmtree(path)
    conf = cluster.folder / "etc/slurm.conf"
    lines = [line for line in conf.read_text().splitlines() if not line.startswith("FirstJobId=")]
    conf.write_text("\n".join([*lines, f"FirstJobId={first_job}", ""]))
    for name in ("slurmctld", *cluster.nodes):
        cluster.start(name)


def forgetful(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Lose the next job of a kind, as a controller does that crashes before saving the job."""
    answer = "echo 'Submitted batch job 77'; exit"
    instead(folder, monkeypatch, "sbatch", f'case "$*" in --test-only*) ;; *-{kind}[0-9]*) {answer} ;; esac')


def instead(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str, lines: str) -> None:
    """Execute shell lines before one of SLURM's commands, in this process and in all jobs."""
    real, bin_ = shutil.which(program), folder / "bin"
    bin_.mkdir()
    (bin_ / program).write_text(f'#!/bin/sh\n{lines}\nexec {real} "$@"\n')
    (bin_ / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")


def stop_until_asked_to(sweep: Sweep, run: RunDirectory) -> None:
    """Stop a run until its job's time limit, so that it needs another job at any speed of the machine."""
    pid = run.status().pid
    assert pid is not None

    def asked() -> bool:
        os.kill(pid, signal.SIGSTOP)  # repeatedly: SLURM's warning before the limit comes with a SIGCONT
        return signal.SIGTERM in pending(pid)

    sweep.until(asked, "the run to be asked to stop")
    os.kill(pid, signal.SIGCONT)


def pending(pid: int) -> set[int]:
    """List the pending signals of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    mask = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def hold_corpus(workspace: Workspace, source: str) -> AbstractContextManager[bool]:
    """Hold the lock of a source's corpus, so that other processes wait for it."""
    return exclusive(workspace.store.corpora / f".{workspace.sources.corpus_id(source)}.lock", wait=True)


def kill_step(sweep: Sweep, run: RunDirectory) -> None:
    """Kill every process of a run's job except its script, as the kernel or an administrator may."""
    node = sweep.job(run)["NodeList"]
    for process in tasks(sweep.cluster.folder):
        if process.daemon == node and process.program.startswith("python"):
            process.send(signal.SIGKILL)


def forget_the_launch(sweep: Sweep) -> str:
    """Kill the controller just after it launched the sweep's job, and restart it with its earlier state.

    The controller saves its state at most every 5 s. The test restores an earlier saved state, so that the timing is exact.

    Returns:
        SLURM's id of the task that it then holds.
    """
    cluster, saved = sweep.cluster, sweep.cluster.folder / "state/job_state"
    nodes = "NodeName=" + ",".join(cluster.nodes)
    cluster.command("scontrol", "update", nodes, "State=DRAIN", "Reason=test")
    sweep.submit()
    cluster.save()
    before = saved.read_bytes()
    cluster.command("scontrol", "update", nodes, "State=RESUME")
    cluster.save()
    run = sweep.runs[0]
    sweep.until_checkpoint(run)
    cluster.kill("slurmctld")
    saved.write_bytes(before)
    cluster.start("slurmctld")
    sweep.until(lambda: "held" in sweep.job(run).get("Reason", ""), "SLURM to hold the job")
    return sweep.task(run)
