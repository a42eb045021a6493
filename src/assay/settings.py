"""Places and habits: where things are kept, how jobs run, who is told. None of it bears identity."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from assay.errors import AssayError


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Folders; relative ones are taken from the project's root."""

    root: str
    store: str
    data: str
    benchmarks: str | None
    """The local mirror of the benchmarks' data sets; left out, they come from the hub."""

    def resolve(self, path: str) -> Path:
        """A path of the project as an absolute one."""
        return Path(self.root, path).absolute()


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """What is asked of SLURM for a sweep's jobs. What is left out is the cluster's own default."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    """Features that nodes must have, in sbatch's words."""
    exclude: tuple[str, ...] = ()
    """Nodes that are never used; those that jobs died on are left out by themselves."""
    nodes: int = 1
    """Of a job. More than one, or more than one process a node, and each run is trained by all of them together."""
    processes_per_node: int = 1
    """Ranks of one run on each node; with GPUs, as many as `gpus_per_node`."""
    gpus_per_node: int = 0
    memory_gb: float | None = None
    """Of a job on each node."""
    runs_per_job: int = 1
    """Runs that a job does, one after the other or side by side: a queue wait and an import for all of them."""
    runs_per_gpu: int = 1
    """Runs side by side on a GPU; without GPUs, in a job."""
    jobs_at_once: int | None = None
    """Jobs of a sweep that may run at the same time."""
    preemptible: bool = False
    """Whether the partition's jobs are expected to be put aside for others; then that is retried without end."""
    grace_seconds: float = 60.0
    """What a run has to write a checkpoint in, before the time is up and once it was asked to make room."""
    setup: tuple[str, ...] = ()
    """Lines of shell that a job runs first: modules, environments."""
    container: str | None = None
    """Image in which jobs run, through pyxis' `srun --container-image`; it must have assay's Python."""
    container_mounts: str | None = None
    """Folders it sees, as `--container-mounts` takes them; the store and the project have to be among them."""
    control_partition: str | None = None
    """Where the short jobs that look after the sweep and judge it run; left out, `partition`. They need no GPU."""
    tend_minutes: float = 15.0
    """How often a job looks after the sweep by the clock, beside the one that comes when its runs have ended; 0 for never."""
    retries: dict[str, int] = field(default_factory=dict)
    """How often a run is tried again after each kind of failure, beside the defaults of `assay.launch.slurm.causes`."""
    options: dict[str, str] = field(default_factory=dict)
    """Any other option of sbatch, by its long name."""

    def __post_init__(self) -> None:
        for name in ("nodes", "processes_per_node", "runs_per_job", "runs_per_gpu", "jobs_at_once"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise AssayError(f"cluster.slurm.{name} is {value}.", fix="It is at least 1.")
        for name in ("gpus_per_node", "tend_minutes", "grace_seconds"):
            if getattr(self, name) < 0:
                raise AssayError(f"cluster.slurm.{name} is {getattr(self, name)}.", fix="It is at least 0.")
        if self.memory_gb is not None and not self.memory_gb > 0:
            raise AssayError(f"cluster.slurm.memory_gb is {self.memory_gb}.", fix="It is above 0.")
        if self.ranks > 1 and self.runs_per_gpu > 1:
            raise AssayError(
                f"cluster.slurm: a run is trained by {self.ranks} processes, and runs_per_gpu is {self.runs_per_gpu}.",
                fix="Runs that share a GPU are trained by one process each: set one of the two to 1.",
            )
        for name, value in (("partition", self.partition), ("account", self.account), ("qos", self.qos)):
            if value is not None and (not value or any(mark.isspace() for mark in value)):
                raise AssayError(f"cluster.slurm.{name} is {value!r}.", fix="It is one word, or null.")

    @property
    def ranks(self) -> int:
        """Processes that train one run together."""
        return self.nodes * self.processes_per_node

    @property
    def at_once(self) -> int:
        """Runs that a job works on side by side."""
        return 1 if self.ranks > 1 else min(self.runs_per_job, self.runs_per_gpu * max(1, self.gpus_per_node))


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where runs are trained, and with what."""

    name: str
    executor: Literal["local", "debug", "slurm"]
    """submitit's executor: processes of this machine, this very process, or jobs of SLURM."""
    workers: int | None = None
    """Runs at the same time on this machine; left out, one for each `cpus_per_worker` cores."""
    cpus_per_worker: int
    """Threads of a run's process. One a core trains small models 1.3 to 1.9 times faster than all cores on one."""
    device: str
    """`auto`, `cpu`, `cuda` or `cuda:0`."""
    environment: dict[str, str]
    """Set for the workers before Python starts there."""
    timeout_hours: float
    """What a worker, or a job, may take; a run that is not done by then goes on in the next."""
    slurm: Slurm | None = None
    """For `executor: slurm`."""

    def __post_init__(self) -> None:
        if self.cpus_per_worker < 1 or (self.workers is not None and self.workers < 1):
            raise AssayError(f"cluster {self.name!r}: workers and cpus_per_worker are at least 1.")
        if not self.timeout_hours > 0:
            raise AssayError(f"cluster {self.name!r}: timeout_hours is {self.timeout_hours}.", fix="It is above 0.")
        if (self.executor == "slurm") != (self.slurm is not None):
            raise AssayError(
                f"cluster {self.name!r}: executor is {self.executor!r}, and the section `slurm` is "
                f"{'missing' if self.slurm is None else 'there'}.",
                fix="A profile for SLURM has both, as conf/cluster/slurm.yaml does; others have neither.",
            )

    @property
    def width(self) -> int:
        """Runs at the same time; on a cluster, as many as jobs may run, where that is limited."""
        if self.slurm is not None:
            return self.slurm.at_once * (self.slurm.jobs_at_once or UNLIMITED_JOBS)
        if self.workers is not None:
            return self.workers
        return max(1, len(os.sched_getaffinity(0)) // self.cpus_per_worker)

    @property
    def gpus_per_run(self) -> float:
        """GPUs that a run has for itself; below 1 where several share one."""
        if self.slurm is None:
            return 0.0
        return self.slurm.nodes * self.slurm.gpus_per_node / self.slurm.at_once


UNLIMITED_JOBS = 256
"""Jobs that are assumed to run at the same time where a profile names no limit: for estimates of time only."""


@dataclass(frozen=True, kw_only=True)
class Clustering:
    """How `assay clusters` groups documents, where its options do not say otherwise."""

    vectors: str = "svd"
    """As `assay.audit.vectors.encoder` takes it."""
    dimensions: int = 64
    """Of the vectors."""
    sample: int = 20_000
    """Documents, over all sources."""
    number: int | None = None
    """Of clusters; left out, it follows from that of the documents."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Weights & Biases."""

    mode: Literal["offline", "online", "disabled"]
    project: str
    entity: str | None
    sweep: str | None = None
    """A sweep of W&B's own (`wandb sweep`) that the runs belong to: its id, the last part of its address."""
    upload_weights: bool = False
    """Whether the final weights go to W&B with their record."""
    patience_seconds: float = 20.0
    """What W&B may take to answer; for all that it is to take of one run, twice that. No run waits for it while it trains."""

    def __post_init__(self) -> None:
        if not self.patience_seconds > 0:
            raise AssayError(f"tracking.patience_seconds is {self.patience_seconds}.", fix="It is above 0.")
        if self.sweep is not None and (not self.sweep or "/" in self.sweep):
            raise AssayError(
                f"tracking.sweep is {self.sweep!r}.",
                fix="Give the sweep's id alone: `abc123` of entity/project/abc123.",
            )
