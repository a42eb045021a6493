"""Failures of plain submitit on SLURM, cases A to G: assay recovers from each."""

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
from assay.core.errors import AssayError
from assay.core.lease import LeaseTimes
from assay.launch.slurm.monitor import monitor_submission
from assay.launch.snapshot import code_digest
from assay.store.runs import RunDirectory
from tests.launch.slurm.sweeps import SUBMIT, PickleTrap, Sweep, gated, make_sweep
from tests.slurm.cluster import Cluster
from tests.slurm.processes import Process, tasks


def test_slurm_case_a_after_a_node_failure_a_run_continues_from_its_last_checkpoint(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM requeues the job; only the steps after the checkpoint are repeated, and no failure is recorded."""
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
    # Records contain the speed: repeated steps would have another one.
    assert history(run)[: len(kept)] == kept
    assert len(kept) > 1
    assert len(sweep.ledger.jobs("runs")) == 1


def test_slurm_case_b_a_run_preempted_with_cancel_and_no_grace_time_is_resubmitted(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM allows `KillWait` (2 s) from SIGTERM to SIGKILL and does not requeue; the runs are resubmitted."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch, slurm={"partition": "kill", "control_partition": "main"})
    sweep.submit()
    run = sweep.runs[0]
    sweep.until_checkpoint(run, after=100)
    job = sweep.task(run)
    winner = cluster.preempt(sweep.job(run)["NodeList"])
    sweep.until(lambda: cluster.job(job)["JobState"] == "PREEMPTED", "the job to be cancelled")
    sweep.until(lambda: len(sweep.ledger.jobs("runs")) == 2, "the runs to be resubmitted")
    cluster.cancel(winner)
    sweep.until_closed()

    sweep.all_done_once()
    assert run.status().attempt == 2
    assert {cause for tries in sweep.ledger.count_retries().values() for cause in tries} == {"preempted"}
    assert len(sweep.ledger.jobs("runs")) == 2


def test_slurm_case_c_a_suspended_job_is_kept_and_continues(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suspended job is neither done nor failed: its runs are not resubmitted."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch)
    sweep.submit()
    run = sweep.runs[0]
    sweep.until_checkpoint(run)
    suspend(sweep, run)
    before = contents(run)
    sweep.until(lambda: not run.claimed, "its lease to get stale")

    assert (sweep.job_status(run).kind, sweep.job_status(run).final) == ("suspended", False)
    result = monitor_submission(sweep.directory)
    assert (result.actions, result.over) == ({"keep": 2}, False)
    assert contents(run) == before

    resume(sweep, run)
    sweep.until_closed()
    sweep.all_done_once()
    assert run.status().attempt == 1
    assert len(sweep.ledger.jobs("runs")) == 1


def test_slurm_case_c_a_job_that_lost_its_lease_while_suspended_writes_nothing(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job checks its lease before it writes, waits for the new holder, and continues after the release."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch)
    sweep.submit()
    run = sweep.runs[0]
    sweep.until_checkpoint(run)
    suspend(sweep, run)
    with run.claim(LeaseTimes.from_environment().patience) as lease:
        assert lease is not None
        before = contents(run)
        resume(sweep, run)
        sweep.until(lambda: "is another worker's" in sweep.job_logs(), "the job to find its run taken")
        assert contents(run) == before
    sweep.until_closed()
    sweep.all_done_once()
    assert run.status().attempt == 2


def test_slurm_case_d_a_second_copy_waits_for_the_first_that_outlived_its_slurmd(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM considers the node dead and starts the job on another one, while the first copy still trains."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch)
    sweep.submit()
    run = sweep.runs[0]
    sweep.until_checkpoint(run)
    first = sweep.job(run)["NodeList"]
    cluster.kill_slurmd_only(first)
    survivors = tasks_on(cluster, first)
    for process in survivors:  # otherwise it finishes before SLURM notices
        process.send(signal.SIGSTOP)
    sweep.until(lambda: sweep.job(run)["Restarts"] == "1", "SLURM to consider the node dead")
    sweep.until(lambda: any(worker.process.host != first for worker in sweep.directory.workers()), "the second copy")
    second = sweep.job(run)["NodeList"]
    for process in survivors:
        process.send(signal.SIGCONT)
    sweep.until(lambda: run.status().state == "done", "the run to be done")

    assert second != first
    assert (run.status().host, run.status().attempt) == (first, 1)
    sweep.until_closed()
    sweep.all_done_once()


def test_slurm_case_d_a_copy_that_hung_during_a_takeover_writes_nothing(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This happens if a node loses its connection to the file system and to the controller.

    When the srun of the first copy resumes, it may end the step of the second copy, which has the same id (observed with
    SLURM 22.05). Then the run continues a third time.
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
    sweep.until(lambda: "is another worker's" in sweep.job_logs(), "the first copy to find its run taken")
    sweep.until_closed()

    sweep.all_done_once()
    assert "This process stops writing to the folder of the run." in sweep.job_logs()
    assert run.status().attempt in {2, 3}


def test_slurm_case_e_a_job_whose_submitter_died_before_recording_it_is_found_by_name(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Repeating the command recovers the running job and submits none twice."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch)
    killer(tmp_path, monkeypatch)
    with pytest.raises(AssayError, match="could not be submitted"):
        sweep.submit()
    (batch,) = [batch for batch in sweep.ledger.batches() if batch.kind == "runs"]
    assert sweep.ledger.job(batch) is None
    (job,) = arrays(cluster, batch.key)

    assert sweep.submit() is None
    assert sweep.ledger.jobs("runs") == {job: batch.key}
    sweep.until_closed()
    sweep.all_done_once()
    assert sweep.ledger.jobs("runs") == {job: batch.key}
    assert arrays(cluster, batch.key) == {job}
    assert [run.status().attempt for run in sweep.runs] == [1, 1]


def test_slurm_case_e_the_periodic_monitor_job_finds_an_unrecorded_job(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs on a node, where the submitter's death is not visible, and waits until the lease is stale."""
    sweep = make_sweep(cluster, tmp_path, monkeypatch, slurm={"monitor_minutes": 0.1})
    killer(tmp_path, monkeypatch)
    with pytest.raises(AssayError, match="could not be submitted"):
        sweep.submit()
    (batch,) = [batch for batch in sweep.ledger.batches() if batch.kind == "runs"]
    (job,) = arrays(cluster, batch.key)
    sweep.until_closed()
    sweep.all_done_once()
    assert sweep.ledger.jobs("runs") == {job: batch.key}
    assert arrays(cluster, batch.key) == {job}
    assert [run.status().attempt for run in sweep.runs] == [1, 1]


def test_slurm_case_f_jobs_run_the_submitted_code_despite_later_edits(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of each run contains the digest of the code."""
    gate = tmp_path / "gate"
    sweep = make_sweep(cluster, tmp_path, monkeypatch, slurm=gated(gate))
    package = tmp_path / "edited" / "assay"
    shutil.copytree(Path(assay.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    with (package / "__init__.py").open("a") as file:
        file.write("# edited\n")
    submitted = code_digest(package)
    study = tmp_path / "study.json"
    study.write_text(json.dumps(sweep.workspace.study.raw))
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


def test_slurm_case_g_leftover_files_damage_no_result_and_no_pickle_is_loaded(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leftovers are partial files of killed jobs, and submitit's pickles, which can execute code when loaded."""
    gate, read = tmp_path / "gate", tmp_path / "a pickle was read"
    sweep = make_sweep(cluster, tmp_path, monkeypatch, slurm=gated(gate))
    sweep.submit()
    evil = pickle.dumps(PickleTrap(read))
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
    pickle.loads(evil)  # the trap works
    assert read.exists()


def leave_behind(run: RunDirectory, evil: bytes) -> None:
    """Create leftovers of a killed process in a run's folder, with pickles in it."""
    for name in (".model.stale.tmp", "checkpoints/.step-400.stale.tmp", "checkpoints/step-900", "model"):
        (run.path / name).mkdir(parents=True)
        for file in ("pytorch_model.bin", "optimizer.pt", "state.json"):
            (run.path / name / file).write_bytes(evil)
    for name in (".status.json.stale.tmp", ".delivered.json.stale.tmp"):
        (run.path / name).write_text('{"state": "do')
    (run.path / "lease").mkdir(exist_ok=True)
    (run.path / "lease/.1.stale.tmp").write_text('{"tok')


def killer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill the process that submits runs once, after SLURM accepted them and before sbatch answers."""
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
    """List the ids of all arrays with this name that the controller knows, including ended ones."""
    return set(cluster.command("squeue", "--noheader", "--states=all", f"--name={key}", "--format=%F").split())


def suspend(sweep: Sweep, run: RunDirectory) -> None:
    """Suspend a run's job, and wait until all its processes are stopped."""
    node = sweep.job(run)["NodeList"]
    sweep.cluster.command("scontrol", "suspend", sweep.task(run))
    sweep.until(lambda: all(stopped(task.pid) for task in tasks_on(sweep.cluster, node)), "all its processes to stop")


def resume(sweep: Sweep, run: RunDirectory) -> None:
    sweep.cluster.command("scontrol", "resume", sweep.task(run))


def tasks_on(cluster: Cluster, node: str) -> list[Process]:
    return [task for task in tasks(cluster.folder) if task.daemon == node]


def stopped(pid: int) -> bool:
    """Check whether a process is stopped or has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "TtZX"
    except OSError:
        return True


def contents(run: RunDirectory) -> dict[str, bytes]:
    """Read all files in a run's folder except its lease."""
    files = (path for path in run.path.rglob("*") if path.is_file() and "lease" not in path.parts)
    return {str(path): path.read_bytes() for path in files}


def history(run: RunDirectory) -> list[bytes]:
    """Read the complete lines of a run's history."""
    return run.metrics.read_bytes().split(b"\n")[:-1]


def newest_checkpoint(run: RunDirectory) -> int:
    return max(int(path.name.removeprefix("step-")) for path in run.checkpoints.glob("step-*"))
