"""Define clusters: the machines that execute runs, and their resources."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Literal

from assay.core.errors import ConfigError

GPUS = re.compile(r"\d{1,4}|[A-Za-z][\w.-]*:\d{1,4}(,[A-Za-z][\w.-]*:\d{1,4})*")
"""Values of `sbatch --gpus-per-node`: `[type:]number`, separated by commas."""
OPTION = re.compile(r"[a-z][a-z0-9_-]*")
RESERVED = frozenset({"array", "comment", "dependency", "job-name", "output", "signal"})
"""sbatch options that assay sets itself, to find, order and signal its jobs."""


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """SLURM settings of a sweep's jobs. For a setting that is null, the cluster's default applies."""

    partition: str | None = None
    """Partition of the training jobs."""
    account: str | None = None
    """Account that jobs are charged to."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Required node features, in the syntax of `sbatch --constraint`."""
    exclude: tuple[str, ...] = ()
    """Nodes to avoid. Nodes on which jobs failed are excluded automatically."""
    nodes: int = 1
    """Nodes per job. If a job has more than one process, all its processes train each run together."""
    processes_per_node: int = 1
    """Processes (ranks) of one run on each node. With GPUs, use the value of `gpus_per_node`."""
    gpus_per_node: int | str = 0
    """GPUs per node of a job: a number, or types with numbers, such as `h100:1` or `a100:2,h100:2`."""
    memory_gb: float | None = None
    """Memory of a job on each node, in GB."""
    runs_per_job: int = 1
    """Runs per job. `runs_per_gpu` sets how many train concurrently. The runs of a job share one queue wait and one start-up."""
    runs_per_gpu: int = 1
    """Number of concurrent runs per GPU, or per job if the job has no GPU."""
    jobs_at_once: int | None = None
    """Maximum number of a sweep's jobs that run at the same time."""
    preemptible: bool = False
    """Whether the partition preempts jobs. If true, the monitor job resubmits preempted runs without a retry limit."""
    grace_seconds: float = 60.0
    """Time that a run has to write a checkpoint before the time limit, or after a preemption signal."""
    setup: tuple[str, ...] = ()
    """Shell lines that run at the start of each job, for example to load modules."""
    container: str | None = None
    """Container image of the jobs, for pyxis' `srun --container-image`. The image must contain assay's Python."""
    container_mounts: str | None = None
    """Mounted folders, in the syntax of `--container-mounts`. The store and the project must be among the folders."""
    control_partition: str | None = None
    """Partition of the jobs that need no GPU: corpus preparation, monitor, verdict (default: the value of `partition`)."""
    monitor_minutes: float = 15.0
    """Interval of the monitor job, which resubmits failed jobs. Another monitor job runs after the last training
    job, even if the interval is 0."""
    retries: dict[str, int] = field(default_factory=dict)
    """Maximum number of resubmissions for each cause of failure. docs/reference/slurm.md lists the causes and
    defaults."""
    options: dict[str, bool | int | float | str] = field(default_factory=dict)
    """Further sbatch options by long name, such as `{reservation: night, nice: 100, exclusive: true}`. Write `true`
    for an option without a value, and `false` to omit an option."""

    def __post_init__(self) -> None:
        for name in ("nodes", "processes_per_node", "runs_per_job", "runs_per_gpu", "jobs_at_once"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(
                    f"cluster.slurm.{name}: {value} is invalid; expected at least 1.", fix=f"Set `{name}` to 1 or more."
                )
        self._check_gpus()
        self._check_options()
        for name in ("monitor_minutes", "grace_seconds"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"cluster.slurm.{name}: {getattr(self, name)} is invalid; expected at least 0.",
                    fix=f"Set `{name}` to 0 or more.",
                )
        if self.memory_gb is not None and not self.memory_gb > 0:
            raise ConfigError(
                f"cluster.slurm.memory_gb: {self.memory_gb} is invalid; expected more than 0.",
                fix="Set `memory_gb` to a number above 0, or to null.",
            )
        if self.ranks > 1 and self.runs_per_gpu > 1:
            raise ConfigError(
                f"cluster.slurm.runs_per_gpu: {self.runs_per_gpu} is invalid; expected 1 if {self.ranks} processes train a run.",
                fix="Set runs_per_gpu to 1, or nodes and processes_per_node to 1.",
            )
        for name, value in (("partition", self.partition), ("account", self.account), ("qos", self.qos)):
            if value is not None and (not value or any(mark.isspace() for mark in value)):
                raise ConfigError(
                    f"cluster.slurm.{name}: {value!r} is invalid; expected one word or null.",
                    fix=f"Set `{name}` to a name without white space, or to null.",
                )

    def _check_gpus(self) -> None:
        gpus = self.gpus_per_node
        valid = gpus >= 0 if isinstance(gpus, int) else GPUS.fullmatch(gpus)
        if not valid:
            raise ConfigError(
                f"cluster.slurm.gpus_per_node: {gpus!r} is invalid; expected a number of at least 0, or TYPE:NUMBER.",
                fix="Write for example `gpus_per_node: h100:1`.",
            )

    def _check_options(self) -> None:
        for name, value in self.options.items():
            where = f"cluster.slurm.options.{name}: "
            if not OPTION.fullmatch(name):
                raise ConfigError(
                    f"{where}the name is invalid; expected a long name of an sbatch option.",
                    fix="Remove the dashes before the name.",
                )
            if name.replace("_", "-") in RESERVED:
                raise ConfigError(f"{where}assay sets this option to identify its jobs.", fix="Remove the option.")
            if value == "" or (isinstance(value, str) and not value.isprintable()):
                raise ConfigError(
                    f"{where}{value!r} is invalid; expected text in one line, a number, or `true` for an option without a value.",
                    fix="Write `true`, or remove the option.",
                )

    @property
    def gpus(self) -> int:
        """Number of GPUs per node, of all types."""
        if isinstance(self.gpus_per_node, int):
            return self.gpus_per_node
        return sum(int(part.rpartition(":")[2]) for part in self.gpus_per_node.split(","))

    @property
    def ranks(self) -> int:
        """Number of processes that train one run together."""
        return self.nodes * self.processes_per_node

    @property
    def at_once(self) -> int:
        """Number of runs that a job trains concurrently."""
        return 1 if self.ranks > 1 else min(self.runs_per_job, self.runs_per_gpu * max(1, self.gpus))


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Profile of the machine or cluster that trains the runs."""

    name: str
    """Name of the profile."""
    executor: Literal["local", "debug", "slurm"]
    """Where runs execute: `local` in processes on this machine, `debug` in the calling process, `slurm` in SLURM jobs."""
    workers: int | None = None
    """Number of concurrent runs on this machine (default: the number of cores divided by `cpus_per_worker`)."""
    cpus_per_worker: int
    """Threads per run. For small models, use 1: a second thread makes a run only 1.3 to 1.9 times as fast."""
    device: str
    """Device of a run: `auto`, `cpu`, `cuda` or `cuda:0`."""
    environment: dict[str, str]
    """Environment variables of the workers, set before Python starts."""
    timeout_hours: float
    """Time limit of a worker or job. The next job resumes an unfinished run from its last checkpoint."""
    slurm: Slurm | None = None
    """Settings for `executor: slurm`."""

    def __post_init__(self) -> None:
        if self.cpus_per_worker < 1 or (self.workers is not None and self.workers < 1):
            raise ConfigError(
                f"cluster {self.name!r}: `workers` {self.workers} and `cpus_per_worker` {self.cpus_per_worker} are invalid;"
                " expected at least 1 each, or `workers: null` for as many runs as the cores allow.",
                fix="Set `cpus_per_worker: 1` and `workers: null`.",
            )
        if not self.timeout_hours > 0:
            raise ConfigError(
                f"cluster {self.name!r}: `timeout_hours` {self.timeout_hours} is invalid; expected more than 0.",
                fix="Set `timeout_hours` to a number above 0.",
            )
        if (self.executor == "slurm") != (self.slurm is not None):
            raise ConfigError(
                f"cluster {self.name!r}: executor {self.executor!r} is invalid "
                f"{'without' if self.slurm is None else 'with'} a section `slurm`; expected both or neither.",
                fix="Copy conf/cluster/slurm.yaml for a SLURM profile, or remove the section `slurm`.",
            )

    @property
    def width(self) -> int:
        """Number of concurrent runs. On SLURM, the limit on concurrent jobs determines this number."""
        if self.slurm is not None:
            return self.slurm.at_once * (self.slurm.jobs_at_once or UNLIMITED_JOBS)
        if self.workers is not None:
            return self.workers
        return max(1, len(os.sched_getaffinity(0)) // self.cpus_per_worker)

    @property
    def gpus_per_run(self) -> float:
        """GPUs per run; below 1 if several runs share a GPU."""
        if self.slurm is None:
            return 0.0
        return self.slurm.nodes * self.slurm.gpus / self.slurm.at_once


UNLIMITED_JOBS = 256
"""Assumed number of concurrent jobs if the profile sets no limit; used only for time estimates."""
