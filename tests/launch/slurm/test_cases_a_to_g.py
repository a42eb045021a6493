"""The ways in which submitit alone goes wrong on SLURM, A to G: assay comes through every one of them."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import assay
from assay.errors import AssayError
from assay.launch.slurm.tend import tend
from assay.launch.snapshot import code_digest
from assay.lease import LeaseTimes
from assay.store import RunDirectory
from tests.launch.slurm.sweeps import SUBMIT, Evil, Sweep, gated, make_sweep
from tests.slurm.cluster import Cluster
from tests.slurm.processes import Process, tasks


def test_slurm_case_a_a_run_whose_node_dies_goes_on_elsewhere_from_its_last_checkpoint(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM requeues the job; nothing is lost but what came after the checkpoint, and nobody calls it a failure."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch)
    sweep.submit()
    run = sweep.runs[0]
    sweep.until_checkpoint(run, after=100)
    node = sweep.job(run)["NodeList"]
    cluster.kill(node)
    kept, step = history(run), newest_checkpoint(run)
    kept = [line for line in kept if json.loads(line)["step"] <= step]
    sweep.until(lambda: sweep.job(run)["Restarts"] == "1", "SLURM to requeue the job")
    sweep.until_closed()

    sweep.all_done_once()
    assert run.status().attempt == 2
    assert run.status().host != node
    # Records tell the speed, too: steps that were done again would tell another.
    assert history(run)[: len(kept)] == kept
    assert len(kept) > 1
    assert len(sweep.ledger.jobs("runs")) == 1


def test_slurm_case_b_a_run_that_is_preempted_without_grace_and_cancelled_is_sent_again(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM gives it `KillWait` from SIGTERM to SIGKILL, here 2 s, and then forgets it; its runs are sent as a new job."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch, slurm={"partition": "kill", "control_partition": "main"})
    sweep.submit()
    run = sweep.runs[0]
    sweep.until_checkpoint(run, after=100)
    job = sweep.task(run)
    winner = cluster.preempt(sweep.job(run)["NodeList"])
    sweep.until(lambda: cluster.job(job)["JobState"] == "PREEMPTED", "the job to be cancelled")
    sweep.until(lambda: len(sweep.ledger.jobs("runs")) == 2, "the runs to be sent again")
    cluster.cancel(winner)
    sweep.until_closed()

    sweep.all_done_once()
    assert run.status().attempt == 2
    assert {cause for tries in sweep.ledger.tries().values() for cause in tries} == {"preempted"}
    assert len(sweep.ledger.jobs("runs")) == 2


def test_slurm_case_c_a_suspended_job_is_left_alone_and_goes_on(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Suspended is neither done nor failed, however long it lasts: nobody sends its runs again."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch)
    sweep.submit()
    run = sweep.runs[0]
    sweep.until_checkpoint(run)
    suspend(sweep, run)
    before = contents(run)
    sweep.until(lambda: not run.claimed, "its lease to get stale")

    assert (sweep.settled(run).kind, sweep.settled(run).final) == ("suspended", False)
    tended = tend(sweep.directory)
    assert (tended.actions, tended.sent, tended.over) == ({"leave": 2}, 0, False)
    assert contents(run) == before

    resume(sweep, run)
    sweep.until_closed()
    sweep.all_done_once()
    assert run.status().attempt == 1
    assert len(sweep.ledger.jobs("runs")) == 1


def test_slurm_case_c_a_job_that_lost_its_run_while_it_was_suspended_writes_nothing_more(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds out before it writes, leaves the run to whoever has it, and goes on when that one gives it back."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch)
    sweep.submit()
    run = sweep.runs[0]
    sweep.until_checkpoint(run)
    suspend(sweep, run)
    with run.claim(LeaseTimes.from_environment().patience) as lease:
        assert lease is not None
        before = contents(run)
        resume(sweep, run)
        sweep.until(lambda: "is another worker's" in sweep.said(), "the job to find its run taken")
        assert contents(run) == before
    sweep.until_closed()
    sweep.all_done_once()
    assert run.status().attempt == 2


def test_slurm_case_d_a_second_copy_waits_for_one_that_outlived_its_slurmd(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM takes the node for dead and starts the job elsewhere, while the first copy trains on."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch)
    sweep.submit()
    run = sweep.runs[0]
    sweep.until_checkpoint(run)
    first = sweep.job(run)["NodeList"]
    cluster.kill_slurmd_only(first)
    survivors = tasks_on(cluster, first)
    for process in survivors:  # or it would be done before SLURM has noticed anything
        process.send(signal.SIGSTOP)
    sweep.until(lambda: sweep.job(run)["Restarts"] == "1", "SLURM to take the node for dead")
    sweep.until(lambda: any(worker.process.host != first for worker in sweep.directory.workers()), "the second copy")
    second = sweep.job(run)["NodeList"]
    for process in survivors:
        process.send(signal.SIGCONT)
    sweep.until(lambda: run.status().state == "done", "the run to be done")

    assert second != first
    assert (run.status().host, run.status().attempt) == (first, 1)
    sweep.until_closed()
    sweep.all_done_once()


def test_slurm_case_d_a_copy_that_hung_while_a_second_one_took_over_writes_nothing_more(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a node was cut off from the file system, and SLURM from the node.

    The srun of the first copy, when it goes on, may end the step of the second one, which has the same number (seen with
    SLURM 22.05). Then the run goes on a third time.
    """
    sweep = make_sweep(cluster, tmp_path, monkeypatch)
    sweep.submit()
    run = sweep.runs[0]
    step = sweep.until_checkpoint(run)
    first = sweep.job(run)["NodeList"]
    cluster.kill_slurmd_only(first)
    survivors = tasks_on(cluster, first)
    for process in survivors:
        process.send(signal.SIGSTOP)
    sweep.until(lambda: run.status().attempt == 2, "a second copy to take the run over")
    sweep.until_checkpoint(run, after=step)
    for process in survivors:
        process.send(signal.SIGCONT)
    sweep.until(lambda: "is another worker's" in sweep.said(), "the first copy to find its run taken")
    sweep.until_closed()

    sweep.all_done_once()
    assert "Nothing more is written here." in sweep.said()
    assert run.status().attempt in {2, 3}


def test_slurm_case_e_a_job_whose_submitter_died_before_it_noted_it_is_found_by_its_key(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command again takes the job up that runs already, and sends none twice."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch)
    killer(tmp_path, monkeypatch)
    with pytest.raises(AssayError, match="could not be sent"):
        sweep.submit()
    (batch,) = [batch for batch in sweep.ledger.batches() if batch.kind == "runs"]
    assert sweep.ledger.handed(batch) is None
    (job,) = arrays(cluster, batch.key)

    assert sweep.submit() is None
    assert sweep.ledger.jobs("runs") == {job: batch.key}
    sweep.until_closed()
    sweep.all_done_once()
    assert sweep.ledger.jobs("runs") == {job: batch.key}
    assert arrays(cluster, batch.key) == {job}
    assert [run.status().attempt for run in sweep.runs] == [1, 1]


def test_slurm_case_e_where_nobody_submits_again_the_job_that_comes_by_the_clock_finds_it(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a node, which cannot see that the submitter died, and has to wait until its lease is stale."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch, slurm={"tend_minutes": 0.1})
    killer(tmp_path, monkeypatch)
    with pytest.raises(AssayError, match="could not be sent"):
        sweep.submit()
    (batch,) = [batch for batch in sweep.ledger.batches() if batch.kind == "runs"]
    (job,) = arrays(cluster, batch.key)
    sweep.until_closed()
    sweep.all_done_once()
    assert sweep.ledger.jobs("runs") == {job: batch.key}
    assert arrays(cluster, batch.key) == {job}
    assert [run.status().attempt for run in sweep.runs] == [1, 1]


def test_slurm_case_f_jobs_run_the_code_that_was_submitted_whatever_is_edited_afterwards(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each run's record says which code that was."""
    gate = tmp_path / "gate"
    sweep = make_sweep(cluster, tmp_path, monkeypatch, slurm=gated(gate))
    package = tmp_path / "edited" / "assay"
    shutil.copytree(Path(assay.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    with (package / "__init__.py").open("a") as file:
        file.write("# Like no other.\n")
    submitted = code_digest(package)
    study = tmp_path / "study.json"
    study.write_text(json.dumps(sweep.space.study.raw))
    subprocess.run(
        [sys.executable, "-c", SUBMIT, str(study)],
        env={**os.environ, "PYTHONPATH": str(package.parent)},
        cwd=tmp_path,
        check=True,
    )
    for path in package.rglob("*.py"):
        path.write_text("raise SystemExit('edited')\n")
    gate.touch()
    sweep.until_closed()

    sweep.all_done_once()
    assert submitted != code_digest(Path(assay.__file__).parent)
    assert [run.status().code for run in sweep.runs] == [submitted] * 2


def test_slurm_case_g_what_others_left_in_the_folders_costs_no_result_and_no_pickle_is_read(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half-written files of killed jobs, and submitit's pickles, which run whatever they like when they are read."""
    gate, read = tmp_path / "gate", tmp_path / "a pickle was read"
    sweep = make_sweep(cluster, tmp_path, monkeypatch, slurm=gated(gate))
    sweep.submit()
    evil = pickle.dumps(Evil(read))
    for job in sweep.ledger.jobs():
        for name in (f"{job}_0_0_result.pkl", f"{job}_0_submitted.pkl", f"{job}_0_0_result.save_tmp", f"{job}.pkl"):
            (sweep.directory.submitit / name).write_bytes(evil)
    for run in sweep.runs:
        leave_behind(run, evil)
    gate.touch()
    sweep.until_closed()

    sweep.all_done_once()
    assert not read.exists()
    assert [run.status().attempt for run in sweep.runs] == [1, 1]
    pickle.loads(evil)  # it would have been seen
    assert read.exists()


def leave_behind(run: RunDirectory, evil: bytes) -> None:
    """What kills leave in a run's folder at the worst moments, with pickles in it."""
    for name in (".model.stale.tmp", "checkpoints/.step-400.stale.tmp", "checkpoints/step-900", "model"):
        (run.path / name).mkdir(parents=True)
        for file in ("pytorch_model.bin", "optimizer.pt", "state.json"):
            (run.path / name / file).write_bytes(evil)
    for name in (".status.json.stale.tmp", ".delivered.json.stale.tmp"):
        (run.path / name).write_text('{"state": "do')
    (run.path / "lease").mkdir(exist_ok=True)
    (run.path / "lease/.1.stale.tmp").write_text('{"tok')


def killer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have whoever sends runs be killed once, when SLURM has taken them and before it can say so."""
    sbatch, bin_ = shutil.which("sbatch"), folder / "bin"
    bin_.mkdir()
    script = f"""\
        #!/bin/sh
        {sbatch} "$@" || exit
        case "$*" in --test-only*) ;; *-runs*) mkdir {folder}/killed 2>/dev/null && kill -KILL $PPID ;; esac
        """
    (bin_ / "sbatch").write_text("\n".join(line.strip() for line in script.splitlines()))
    (bin_ / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")


def arrays(cluster: Cluster, key: str) -> set[str]:
    """The numbers of all arrays of this name that the controller knows, those that have ended too."""
    return set(cluster.command("squeue", "--noheader", "--states=all", f"--name={key}", "--format=%F").split())


def suspend(sweep: Sweep, run: RunDirectory) -> None:
    """Have SLURM suspend a run's job, and wait until none of its processes runs any more."""
    node = sweep.job(run)["NodeList"]
    sweep.cluster.command("scontrol", "suspend", sweep.task(run))
    sweep.until(lambda: all(stopped(task.pid) for task in tasks_on(sweep.cluster, node)), "all its processes to stop")


def resume(sweep: Sweep, run: RunDirectory) -> None:
    sweep.cluster.command("scontrol", "resume", sweep.task(run))


def tasks_on(cluster: Cluster, node: str) -> list[Process]:
    return [task for task in tasks(cluster.folder) if task.daemon == node]


def stopped(pid: int) -> bool:
    """Whether a process is stopped, or gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "TtZX"
    except OSError:
        return True


def contents(run: RunDirectory) -> dict[str, bytes]:
    """All that is in a run's folder but its lease."""
    files = (path for path in run.path.rglob("*") if path.is_file() and "lease" not in path.parts)
    return {str(path): path.read_bytes() for path in files}


def history(run: RunDirectory) -> list[bytes]:
    """The whole lines of a run's history."""
    return run.metrics.read_bytes().split(b"\n")[:-1]


def newest_checkpoint(run: RunDirectory) -> int:
    return max(int(path.name.removeprefix("step-")) for path in run.checkpoints.glob("step-*"))
