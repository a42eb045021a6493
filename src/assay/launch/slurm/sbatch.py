"""Handing a batch to SLURM: submitit writes the script, sbatch takes it, and a lost answer is found again."""

from __future__ import annotations

import os
import shlex
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import submitit

from assay.launch.slurm.commands import Unreachable, run
from assay.launch.slurm.ledger import Batch
from assay.launch.slurm.queue import find_by_name
from assay.launch.snapshot import snapshot_of

if TYPE_CHECKING:
    from assay.launch.records import Submission
    from assay.launch.slurm.ledger import Batches, Handed, Kind, Ledger
    from assay.launch.snapshot import Snapshot
    from assay.settings import Cluster, Slurm

SBATCH_SECONDS = 180.0
"""sbatch itself tries for up to two minutes where the controller's queue is full."""
ATTEMPTS = 6
CONTROL_MINUTES = 60
"""Time limit of the short jobs that prepare, look after the sweep and judge it."""
CONTROL_MEMORY_GB = 16.0
"""What they need at most: a sweep's scores and questions as data frames."""


class Arrays(submitit.SlurmExecutor):
    """submitit's executor for arrays whose tasks run one fixed command.

    submitit's own command unpickles a file that is put in place after sbatch has answered: a job that starts first,
    or a submitter that dies in between, leaves tasks that can only fail.
    """

    def script(self, command: str, tasks: int) -> Path:
        """Write the script of an array.

        Args:
            command: what each task runs, as a shell takes it.
            tasks: how many there are.
        """
        self.parameters["map_count"] = tasks
        self.folder.mkdir(parents=True, exist_ok=True)
        path = Path(self.folder) / f"{self.parameters['job_name']}.sh"
        path.write_text(self._make_submission_file_text(command, uuid.uuid4().hex), encoding="utf-8")
        return path

    def job_number(self, answer: str) -> str:
        """The number of the job in sbatch's answer."""
        return str(self._get_job_id_from_submission_command(answer))


def hand_over(ledger: Ledger, batch: Batch, cluster: Cluster, *, sleep: Callable[[float], None] = time.sleep) -> Handed:
    """Have SLURM take a batch, once.

    sbatch may answer too late for us to hear it. So before a second try SLURM is asked for the batch's key.

    Raises:
        Refused: sbatch said no, in its own words.
        Unreachable: SLURM did not answer in several tries.
        LeaseLost: somebody else has taken over to look after the submission.
    """
    return have_taken(ledger, batch, *write_script(ledger, batch, ledger.directory.read(), cluster), sleep=sleep)


def have_taken(
    batches: Batches, batch: Batch, executor: Arrays, script: Path, *, sleep: Callable[[float], None] = time.sleep
) -> Handed:
    """Have SLURM take a batch whose script is written, once; as `hand_over`."""
    for attempt in range(ATTEMPTS):
        batches.check()  # whoever has taken over has seen no job of this batch, and sends it
        try:
            answer = run(["sbatch", str(script)], timeout=SBATCH_SECONDS)
        except Unreachable as error:
            problem = error
            sleep(min(60.0, 2.0**attempt))
            try:
                found = find_by_name(batch.key)
            except Unreachable:
                continue
            if found:
                return batches.record(batch, found[0])
            continue
        return batches.record(batch, executor.job_number(answer))
    raise Unreachable(
        f"SLURM could not be reached in {ATTEMPTS} tries: {problem.what}",
        fix="What was meant is written down: the same command again sends what is missing.",
    )


def write_script(ledger: Ledger, batch: Batch, submission: Submission, cluster: Cluster) -> tuple[Arrays, Path]:
    """Write a batch's script; nothing is sent."""
    executor = Arrays(folder=ledger.directory.submitit)
    executor.update_parameters(**parameters(batch, cluster))
    code = snapshot_of(ledger.directory.store, submission.code)
    command = job_command(code, "assay.launch.slurm.job", ledger.directory.path, batch.number)
    return executor, executor.script(command, len(batch.tasks))


def job_command(code: Snapshot, module: str, path: Path, number: int) -> str:
    """What each task of a batch runs, as a shell takes it: a module of the frozen code, with the submission and the batch."""
    variables = [f"{name}={shlex.quote(value)}" for name, value in code.environment.items()]
    python = " ".join(["env", *variables, shlex.quote(sys.executable)])
    return f"{python} -u -m {module} {shlex.quote(str(path))} {number}"


def probe_script(folder: Path, cluster: Cluster, *, training: bool) -> Path:
    """Write a script with what a job would ask for, for sbatch to say whether it would take it; it runs nothing."""
    kind: Kind = "runs" if training else "tend"
    executor = Arrays(folder=folder)
    executor.update_parameters(**parameters(Batch(number=0, kind=kind, key=f"assay-{kind}", created=0.0), cluster))
    return executor.script("true", 1)


def parameters(batch: Batch, cluster: Cluster) -> dict[str, object]:
    """A batch's parameters as submitit takes them."""
    slurm = _slurm(cluster)
    training = batch.kind == "runs"
    extra: dict[str, object] = {"kill-on-invalid-dep": "yes", "requeue": True, "export": "ALL", **slurm.options}
    if batch.exclude or slurm.exclude:
        extra["exclude"] = ",".join(sorted({*batch.exclude, *slurm.exclude}))
    dependency = [f"{how}:{':'.join(jobs)}" for how, jobs in _dependencies(batch) if jobs]
    if dependency:
        extra["dependency"] = ",".join(dependency)
    if batch.begin_minutes:
        extra["begin"] = f"now+{round(batch.begin_minutes * 60)}seconds"
    memory = _memory_mb(slurm, training=training)
    asked: dict[str, object] = {
        "job_name": batch.key,
        "time": time_limit(cluster, training=training),
        "comment": batch.key,
        "partition": slurm.partition if training else slurm.control_partition or slurm.partition,
        "account": slurm.account,
        "qos": slurm.qos if training else None,
        "constraint": slurm.constraint if training else None,
        "setup": list(slurm.setup) or None,
        "signal_delay_s": signal_seconds(cluster),
        "array_parallelism": slurm.jobs_at_once or len(batch.tasks),
        "stderr_to_stdout": True,
        "additional_parameters": extra,
        "srun_args": _srun_arguments(slurm, training=training),
        "nodes": slurm.nodes if training else 1,
        "ntasks_per_node": slurm.processes_per_node if training else 1,
        "cpus_per_task": cluster.cpus_per_worker * (slurm.at_once if training else 1),
        "gpus_per_node": (slurm.gpus_per_node or None) if training else None,
        "mem": None if memory is None else f"{memory}MB",
    }
    return {name: value for name, value in asked.items() if value is not None}


def _memory_mb(slurm: Slurm, *, training: bool) -> int | None:
    if slurm.memory_gb is None:
        return None
    return round(1024 * (slurm.memory_gb if training else min(slurm.memory_gb, CONTROL_MEMORY_GB)))


def time_limit(cluster: Cluster, *, training: bool) -> int:
    """Minutes that a job asks for; SLURM counts in whole ones."""
    minutes = max(1, round(cluster.timeout_hours * 60))
    return minutes if training else min(minutes, CONTROL_MINUTES)


def signal_seconds(cluster: Cluster) -> int:
    """How long before its end a job is told of it: the grace, but no more than a third of its time."""
    return max(1, int(min(_slurm(cluster).grace_seconds, cluster.timeout_hours * 1200)))


def _dependencies(batch: Batch) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return (("afterany", batch.after), ("afterok", batch.after_success))


def _srun_arguments(slurm: Slurm, *, training: bool) -> list[str]:
    # A rank that dies takes the others along: they could only wait for it. Without --export=ALL, srun of some sites
    # starts with a bare environment.
    arguments = ["--kill-on-bad-exit=1", "--export=ALL"] if training else ["--export=ALL"]
    if slurm.container is not None:
        arguments.append(f"--container-image={slurm.container}")
        if slurm.container_mounts is not None:
            arguments.append(f"--container-mounts={slurm.container_mounts}")
    return arguments


def _slurm(cluster: Cluster) -> Slurm:
    assert cluster.slurm is not None, "checked where the profile is read"
    return cluster.slurm


def job_of_this_process() -> str:
    """What SLURM calls the job, or the array's task, that this process is in."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array and index else os.environ.get("SLURM_JOB_ID", "")
