"""The ways in which submitit alone goes wrong on SLURM, H to N: assay comes through every one of them."""

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

from assay.files import exclusive
from assay.launch.records import Worker
from assay.launch.slurm.job import FRUITLESS
from assay.launch.status import SweepProgress, overview
from assay.launch.submission import submit, tend_open
from assay.processes import ProcessIdentity
from assay.study import Study
from assay.workspace import Workspace
from tests.launch.slurm.sweeps import SUBMIT, Evil, Sweep, gated, make_sweep
from tests.launch.waiting import until
from tests.slurm.processes import tasks

if TYPE_CHECKING:
    from assay.store import RunDirectory
    from tests.slurm.cluster import Cluster


def test_slurm_case_h_numbers_that_begin_anew_mix_up_neither_jobs_nor_results(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a purge another job has the number of ours, and ours get numbers that submitit has files of.

    The other one is left alone and never taken for ours, and of the old files nothing is read.
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
            (sweep.directory.submitit / name).write_bytes(pickle.dumps(Evil(read)))
        (sweep.directory.submitit / f"{number}_0_0_log.out").write_text("all runs are done\n")
    sweep.until(lambda: not begun.claimed, "the lease of the process that was killed to get stale")
    tend_open(sweep.space.store, "tiny")
    assert sweep.task(begun) != old
    sweep.until_closed()

    sweep.all_done_once()
    assert cluster.job(old)["JobState"] == "RUNNING"
    assert done.status().attempt == 1
    assert (done.model / "model.safetensors").stat() == weights
    assert not read.exists()


def test_slurm_case_i_where_the_corpora_cannot_be_made_nothing_is_pending_and_the_sweep_says_why(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM takes the runs back with the job that they depend on; whoever looks last judges without them."""
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
        assert "source 'web': its files changed since its digest was taken" in failure.message
        assert failure.log is not None
        assert "source 'web'" in Path(failure.log).read_text()
    assert len(sweep.ledger.jobs("runs")) == 1
    closed = sweep.directory.closed
    assert closed is not None
    assert closed.decision == "INCONCLUSIVE"
    assert "failed" in (sweep.space.store.reports / "tiny.md").read_text()


def test_slurm_case_i_jobs_whose_parent_slurm_does_not_know_begin_and_make_what_they_miss(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM drops such a dependency without a word: a controller that crashed had taken the parent, and not saved it."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch, prepared=False)
    forgetful(tmp_path, monkeypatch, "prepare")
    sweep.submit()
    (lost,) = sweep.ledger.jobs("prepare")
    assert [batch.after_success for batch in sweep.ledger.batches() if batch.kind == "runs"] == [(lost,)]
    sweep.until_closed()
    sweep.all_done_once()
    assert [run.status().attempt for run in sweep.runs] == [1, 1]


def test_slurm_case_i_a_job_that_makes_the_corpora_and_is_lost_is_sent_again_with_what_waits_for_it(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the cluster has ended it is no failure of the runs, which never began."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch, prepared=False)
    with making(sweep.space, "web"):
        sweep.submit()
        tokenizer = sweep.space.tokenizer_folder()
        sweep.until(tokenizer.exists, "the job that makes the corpora to have made the tokenizer")
        for process in tasks(cluster.folder):
            process.send(signal.SIGKILL)
        until(lambda: not tasks(cluster.folder), "its end")
    sweep.until(lambda: len(sweep.ledger.jobs("prepare")) == 2, "it to be sent again")
    sweep.until_closed()
    sweep.all_done_once()
    assert tries(sweep) == {"job failed"}


def test_slurm_case_j_a_run_longer_than_its_jobs_limit_of_a_minute_goes_on_in_the_next(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is requeued when its time is up, with a checkpoint; that is no failure, and counts against no limit."""
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
    assert sweep.ledger.tries() == {}
    assert len(sweep.ledger.jobs("runs")) == 1
    worker = sweep.directory.worker("b2-0")
    assert worker is not None
    assert worker.spent > 30


def test_slurm_case_j_runs_that_come_no_further_in_job_after_job_are_given_up(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the last of these jobs, in which a corpus does not get done. They say so, and the sweep is judged without them."""
    gate = tmp_path / "gate"
    sweep = make_sweep(
        cluster,
        tmp_path,
        monkeypatch,
        slurm={"partition": "short", "grace_seconds": 20, **gated(gate)},
        cluster__timeout_hours=1 / 60,
    )
    sweep.submit()
    name = sweep.ledger.batches()[-2].worker(0)
    me = ProcessIdentity.of(os.getpid())
    before = Worker(name=name, process=me, job="", started=time.time(), ended=time.time(), idle_restarts=FRUITLESS - 1)
    sweep.directory.record_worker(before)
    shutil.rmtree(sweep.space.store.corpora / sweep.space.corpus_id("web"))
    with making(sweep.space, "web"):
        gate.touch()
        until(lambda: sweep.directory.closed, "the sweep to be closed")
    until(lambda: not sweep.queue(), "the queue to be empty")

    for run in sweep.runs:
        status, failure = run.status(), run.status().failure
        assert failure is not None
        assert (status.state, failure.kind) == ("failed", "time limit")
        assert "cluster.timeout_hours" in failure.message
    assert len(sweep.ledger.jobs("runs")) == 1


def test_slurm_case_k_a_sweep_is_sent_seen_and_finished_while_slurmdbd_hangs(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even a job that dies meanwhile is told: by the controller, which remembers for some minutes how it ended."""
    cluster.freeze("slurmdbd")
    sweep = make_sweep(cluster, tmp_path, monkeypatch)
    sweep.submit()
    run = sweep.runs[0]
    sweep.until_checkpoint(run)
    assert look(sweep).counts["training"] == 1
    kill_step(sweep, run)
    sweep.until(lambda: len(sweep.ledger.jobs("runs")) == 2, "the runs to be sent again")
    sweep.until_closed()
    assert look(sweep).complete
    sweep.all_done_once()
    assert tries(sweep) == {"given back"}


def test_slurm_case_l_without_accounting_jobs_that_are_killed_are_told_and_sent_again(
    bare_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by a signal, one with its node; each job has a node for itself."""
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
    assert tries(sweep) == {"given back"}
    assert stranded.status().host != node


def test_slurm_case_m_a_job_that_is_held_after_its_controller_died_is_released(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The controller has forgotten that it had started the job, starts it where it still runs, and then holds it."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch, slurm={"tend_minutes": 0.5})
    held = forget_the_launch(sweep)
    until(lambda: "held" in look(sweep).counts, "status to say that runs are held")
    sweep.until_closed()

    sweep.all_done_once()
    assert [sweep.task(run) for run in sweep.runs] == [held] * 2


def test_slurm_case_m_a_held_job_whose_results_are_there_is_taken_back(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else did its runs meanwhile."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch)
    held = forget_the_launch(sweep)
    sweep.until(lambda: not any(run.claimed for run in sweep.runs), "the lease of what was killed to get stale")
    raw = sweep.space.study.raw
    cluster_here = {**raw["cluster"], "executor": "local", "workers": 1, "slurm": None}
    here = Workspace(Study.parse({**raw, "sweep": {**raw["sweep"], "name": "other"}, "cluster": cluster_here}))
    submit(here, here.plan())
    sweep.until(lambda: here.plan().complete, "somebody else to do them")
    tend_open(sweep.space.store, "tiny")
    sweep.until_closed()
    sweep.all_done_once()
    assert cluster.job(held)["JobState"] == "CANCELLED"


def test_slurm_case_m_whoever_looks_last_waits_for_a_controller_that_does_not_answer(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where that job failed, nobody would judge the sweep, and nobody look any more."""
    down = tmp_path / "down"
    error = "squeue: error: Unable to contact slurm controller (connect failure)"
    instead(tmp_path, monkeypatch, "squeue", f"[ -e {down} ] && {{ echo '{error}' >&2; exit 1; }}")
    sweep = make_sweep(cluster, tmp_path, monkeypatch, slurm={"tend_minutes": 0})
    down.touch()
    sweep.submit()
    until(lambda: "This job tries again" in sweep.said(), "the last job to get no answer")
    down.unlink()
    sweep.until_closed()
    sweep.all_done_once()


def test_slurm_case_n_a_sweep_that_is_submitted_within_a_job_asks_for_what_its_profile_says(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM's commands take the job's variables for options: none gets through, but for the one that leads to the cluster."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch, slurm={"memory_gb": 1})
    study, script = tmp_path / "study.json", tmp_path / "script"
    study.write_text(json.dumps(sweep.space.study.raw))
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
"""What the job of `make_sweep`'s profile asks for, in the controller's words."""


def look(sweep: Sweep) -> SweepProgress:
    """What `assay status` shows."""
    return overview(sweep.space.store, sweep.space.outline(), now=time.time())


def tries(sweep: Sweep) -> set[str]:
    """The causes for which runs were sent again."""
    return set(sum(sweep.ledger.tries().values(), Counter()))


def purge(cluster: Cluster, *, first_job: int) -> None:
    """Have the controller lose all that it knew, with what ran, and number jobs from here on."""
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
    """Have a job of this kind taken and forgotten at once: what a controller does that crashes before it has saved it."""
    answer = "echo 'Submitted batch job 77'; exit"
    instead(folder, monkeypatch, "sbatch", f'case "$*" in --test-only*) ;; *-{kind}[0-9]*) {answer} ;; esac')


def instead(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str, lines: str) -> None:
    """Have lines of shell come before one of SLURM's commands, here and in all jobs."""
    real, bin_ = shutil.which(program), folder / "bin"
    bin_.mkdir()
    (bin_ / program).write_text(f'#!/bin/sh\n{lines}\nexec {real} "$@"\n')
    (bin_ / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")


def stop_until_asked_to(sweep: Sweep, run: RunDirectory) -> None:
    """Hold a run where it is until its job's time is up: whatever the machine's speed, it needs the next job, too."""
    pid = run.status().pid
    assert pid is not None

    def asked() -> bool:
        os.kill(pid, signal.SIGSTOP)  # again and again: SLURM's warning before the time is up comes with a SIGCONT
        return signal.SIGTERM in pending(pid)

    sweep.until(asked, "the run to be asked to stop")
    os.kill(pid, signal.SIGCONT)


def pending(pid: int) -> set[int]:
    """The signals that a process has been sent and has not taken yet."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    mask = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def making(space: Workspace, source: str) -> AbstractContextManager[bool]:
    """A stretch in which somebody else makes a source's corpus and does not come to an end; others wait for it."""
    return exclusive(space.store.corpora / f".{space.corpus_id(source)}.lock", wait=True)


def kill_step(sweep: Sweep, run: RunDirectory) -> None:
    """Kill every process of a run's job but its script, as the kernel or an administrator may."""
    node = sweep.job(run)["NodeList"]
    for process in tasks(sweep.cluster.folder):
        if process.daemon == node and process.program.startswith("python"):
            process.send(signal.SIGKILL)


def forget_the_launch(sweep: Sweep) -> str:
    """Kill the controller just after it has launched the sweep's job, and bring it back as it was before.

    It saves its state every 5 s at most; what it had saved is put back here, so that the moment is the right one.

    Returns:
        SLURM's name of the task that it then holds.
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
