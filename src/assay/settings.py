"""Places and habits: where things are kept, how jobs run, who is told. None of it bears identity."""

from __future__ import annotations

import os
from dataclasses import dataclass
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
class Cluster:
    """Where runs are trained, and with what."""

    name: str
    executor: Literal["local", "debug"]
    """submitit's executor: processes of this machine, or this very process."""
    workers: int | None
    """Runs at the same time; left out, one for each `cpus_per_worker` cores."""
    cpus_per_worker: int
    """Threads of a worker. One a core trains small models 1.3 to 1.9 times faster than all cores on one."""
    device: str
    """`auto`, `cpu`, `cuda` or `cuda:0`."""
    environment: dict[str, str]
    """Set for the workers before Python starts there."""
    timeout_hours: float

    def __post_init__(self) -> None:
        if self.cpus_per_worker < 1 or (self.workers is not None and self.workers < 1):
            raise AssayError(f"cluster {self.name!r}: workers and cpus_per_worker are at least 1.")

    @property
    def width(self) -> int:
        """Runs at the same time."""
        if self.workers is not None:
            return self.workers
        return max(1, len(os.sched_getaffinity(0)) // self.cpus_per_worker)


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Weights & Biases."""

    mode: Literal["offline", "online", "disabled"]
    project: str
    entity: str | None
