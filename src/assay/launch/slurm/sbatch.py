"""Submit job arrays through submitit's script and sbatch.

If sbatch's answer is lost, the job is recovered by its name.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import submitit

from assay.launch.slurm.batches import JobBatch
from assay.launch.slurm.capabilities import ResourceRequest, array_limit
from assay.launch.slurm.commands import Unreachable, run
from assay.launch.slurm.queue import find_jobs_by_name
from assay.launch.snapshot import snapshot_of

if TYPE_CHECKING:
    from assay.config.cluster import Cluster, Slurm
    from assay.launch.slurm.batches import D, JobKind, Ledger

SBATCH_SECONDS = 180.0
"""Timeout of sbatch in seconds. sbatch itself retries for up to two minutes if the controller's queue is full."""
ATTEMPTS = 6
CONTROL_MINUTES = 60
"""Time limit in minutes of the control jobs: corpus preparation, monitor and verdict."""
CONTROL_MEMORY_MB = 16 * 1024
"""Maximum memory of a control job, which reads a sweep's scores and items as data frames."""


class ArrayExecutor(submitit.SlurmExecutor):
    """submitit's executor for arrays whose tasks run one fixed command.

    submitit's own command unpickles a file that submitit writes after sbatch has answered. If the job starts before
    this file exists, or if the submitter dies before writing it, the tasks can only fail.
    """

    def script(self, command: str, tasks: int) -> Path:
        """Write the script of an array.

        Args:
            command: shell command of each task.
            tasks: number of tasks.
        """
        self.parameters["map_count"] = tasks
        self.folder.mkdir(parents=True, exist_ok=True)
        path = Path(self.folder) / f"{self.parameters['job_name']}.sh"
        path.write_text(self._make_submission_file_text(command, uuid.uuid4().hex), encoding="utf-8")
        return path

    def job_number(self, answer: str) -> str:
        """Parse the job id from sbatch's answer."""
        return str(self._get_job_id_from_submission_command(answer))


def submit_arrays(
    ledger: Ledger[D],
    kind: JobKind,
    tasks: Sequence[Sequence[str]],
    cluster: Cluster,
    *,
    causes: Mapping[str, str] | None = None,
    requeue: Callable[[str], None] = lambda _item: None,
    **options: Any,
) -> list[str]:
    """Submit tasks in arrays of a length that the cluster accepts.

    Args:
        ledger: ledger of the submission.
        kind: kind of the jobs.
        tasks: work of each task.
        cluster: profile of the cluster.
        causes: retry causes of resubmitted items.
        requeue: resets the record of an item before its job is submitted.
        **options: further fields of `JobBatch`.

    Returns:
        The job ids of the arrays.
    """
    limit = array_limit() if tasks else 1
    jobs = []
    for first in range(0, len(tasks), limit):
        part = tasks[first : first + limit]
        items = {item for task in part for item in task}
        part_causes = {item: cause for item, cause in (causes or {}).items() if item in items}
        batch = ledger.declare(kind, part, causes=part_causes, **options)
        for item in items:
            requeue(item)
        jobs.append(submit_batch(ledger, batch, cluster))
    return jobs


def submit_batch(
    ledger: Ledger[D], batch: JobBatch, cluster: Cluster, *, sleep: Callable[[float], None] = time.sleep
) -> str:
    """Submit a declared batch exactly once, and return its job id.

    The answer of sbatch can be lost. Before the next attempt, the function looks up the batch's job name in SLURM.

    Raises:
        Rejected: sbatch rejected the batch.
        Unreachable: SLURM did not answer in several attempts.
        LeaseLost: another process has taken over the submission.
    """
    directory = ledger.directory
    executor = ArrayExecutor(folder=directory.submitit)
    executor.update_parameters(**parameters(batch, cluster))
    code = snapshot_of(directory.store, directory.read().code)
    variables = [f"{name}={shlex.quote(value)}" for name, value in code.environment.items()]
    python = " ".join(["env", *variables, shlex.quote(sys.executable)])
    command = f"{python} -u -m assay.launch.slurm.job {shlex.quote(str(directory.path))} {batch.number}"
    script = executor.script(command, len(batch.tasks))
    for attempt in range(ATTEMPTS):
        directory.check()  # if another process has taken over, that process submits the batch
        try:
            answer = run(["sbatch", str(script)], timeout=SBATCH_SECONDS)
        except Unreachable as error:
            problem = error
            sleep(min(60.0, 2.0**attempt))
            try:
                jobs = find_jobs_by_name(batch.key)
            except Unreachable:
                continue
            if jobs:
                return ledger.record(batch, jobs[0])
            continue
        return ledger.record(batch, executor.job_number(answer))
    raise Unreachable(
        f"SLURM did not answer in {ATTEMPTS} attempts: {problem.what}",
        fix="Repeat the command later: it submits only the missing jobs.",
    )


def probe_script(folder: Path, cluster: Cluster, kind: JobKind) -> Path:
    """Write a script that runs nothing, for `sbatch --test-only` with a job kind's parameters."""
    executor = ArrayExecutor(folder=folder)
    executor.update_parameters(**parameters(JobBatch(number=0, kind=kind, key=f"assay-{kind}", created=0.0), cluster))
    return executor.script("true", 1)


def request_resources(cluster: Cluster, kind: JobKind) -> ResourceRequest:
    """Return the resources of a job. Audits and control jobs get one node and no GPU."""
    slurm, cpus = _slurm(cluster), cluster.cpus_per_worker
    minutes = max(1, round(cluster.timeout_hours * 60))  # SLURM requires whole minutes
    memory = None if slurm.memory_gb is None else round(slurm.memory_gb * 1024)
    if kind == "runs":
        return ResourceRequest(
            partition=slurm.partition,
            nodes=slurm.nodes,
            gpus_per_node=slurm.gpus,
            cpus_per_node=cpus * slurm.processes_per_node * slurm.at_once,
            memory_mb_per_node=memory,
            minutes=minutes,
            constraint=slurm.constraint,
            exclude=slurm.exclude,
            account=slurm.account,
            qos=slurm.qos,
            grace_seconds=slurm.grace_seconds,
        )
    control = kind in {"prepare", "monitor"}
    return ResourceRequest(
        partition=slurm.control_partition or slurm.partition,
        cpus_per_node=cpus if control else cpus * slurm.at_once,
        memory_mb_per_node=min(memory, CONTROL_MEMORY_MB) if control and memory is not None else memory,
        minutes=min(minutes, CONTROL_MINUTES) if control else minutes,
        exclude=slurm.exclude,
        account=slurm.account,
    )


def parameters(batch: JobBatch, cluster: Cluster) -> dict[str, object]:
    """Convert a batch to submitit's parameters."""
    slurm, resources = _slurm(cluster), request_resources(cluster, batch.kind)
    processes = slurm.processes_per_node if batch.kind == "runs" else 1
    defaults: dict[str, bool | int | float | str] = {"kill-on-invalid-dep": "yes", "requeue": True, "export": "ALL"}
    extra: dict[str, object] = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in {**defaults, **slurm.options}.items()
        if value is not False
    }
    if batch.exclude or slurm.exclude:
        extra["exclude"] = ",".join(sorted({*batch.exclude, *slurm.exclude}))
    dependencies = (("afterany", batch.after), ("afterok", batch.after_success))
    if dependency := [f"{how}:{':'.join(jobs)}" for how, jobs in dependencies if jobs]:
        extra["dependency"] = ",".join(dependency)
    if batch.begin_minutes:
        extra["begin"] = f"now+{round(batch.begin_minutes * 60)}seconds"
    values: dict[str, object] = {
        "job_name": batch.key,
        "time": resources.minutes,
        "comment": batch.key,
        "partition": resources.partition,
        "account": resources.account,
        "qos": resources.qos,
        "constraint": resources.constraint,
        "setup": list(slurm.setup) or None,
        "signal_delay_s": signal_seconds(cluster),
        "array_parallelism": slurm.jobs_at_once or len(batch.tasks),
        "stderr_to_stdout": True,
        "additional_parameters": extra,
        "srun_args": _srun_arguments(slurm, batch.kind),
        "nodes": resources.nodes,
        "ntasks_per_node": processes,
        "cpus_per_task": resources.cpus_per_node // processes,
        "gpus_per_node": (slurm.gpus_per_node or None) if resources.gpus_per_node else None,
        "mem": None if resources.memory_mb_per_node is None else f"{resources.memory_mb_per_node}MB",
    }
    return {name: value for name, value in values.items() if value is not None}


def signal_seconds(cluster: Cluster) -> int:
    """Return the seconds between a job's signal and its time limit.

    The result is the grace period, but at most a third of the limit.
    """
    return max(1, int(min(_slurm(cluster).grace_seconds, cluster.timeout_hours * 1200)))


def _srun_arguments(slurm: Slurm, kind: JobKind) -> list[str]:
    # If a rank dies, srun ends the other ranks, which could only wait for the dead rank. On some clusters, srun starts
    # with an empty environment without --export=ALL.
    arguments = ["--kill-on-bad-exit=1", "--export=ALL"] if kind == "runs" else ["--export=ALL"]
    if slurm.container is not None:
        arguments.append(f"--container-image={slurm.container}")
        if slurm.container_mounts is not None:
            arguments.append(f"--container-mounts={slurm.container_mounts}")
    return arguments


def _slurm(cluster: Cluster) -> Slurm:
    assert cluster.slurm is not None, "checked by Cluster"
    return cluster.slurm


def job_of_this_process() -> str:
    """Return the SLURM id of this process's job or array task; empty outside a job."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array and index else os.environ.get("SLURM_JOB_ID", "")
