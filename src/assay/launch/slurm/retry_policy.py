"""Define the causes that end a run early, and the retry limit of each cause."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from assay.core.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from assay.config.cluster import Slurm
    from assay.store.runs import Failure

UNLIMITED = 1000

RETRY_LIMITS: Mapping[str, int] = {
    "preempted": 10,
    "node failed": 5,
    "timed out": 20,
    "requeued": 50,
    "out of memory": 1,
    "killed": 2,
    "device error": 3,
    "rank lost": 3,
    "job failed": 1,
    "launch failed": 5,
    "vanished": 3,
    "prepare failed": 0,
    "prepare lost": 5,
    "left": 10,
    "cancelled": 0,
}
"""Maximum number of resubmissions of a run by the monitor job, by cause. All causes are failures of the cluster.

- `preempted`: unlimited if the profile sets `preemptible`.
- `requeued`: the job stopped the run after a checkpoint, but could not requeue itself.
- `rank lost`: a process that trains the run with others was unreachable or ended; the run's log has the error.
- `job failed`: the job ended before the run's process recorded a state.
- `vanished`: SLURM has no record of the job.
- `prepare failed`: the corpus job failed by its own error.
- `prepare lost`: the corpus job was lost or restarted, and SLURM cancelled the jobs that depend on it.
- `left`: another sweep had the run and abandoned the run.
"""

_DEVICE = re.compile(
    r"CUDA error|CUDA driver|cuDNN|cublas|NCCL|ncclUnhandled|uncorrectable ECC|device-side|Xid", re.IGNORECASE
)

_RANKS = re.compile(r"\bgloo/|TCPStore|Dist(?:Network|Store|Backend)Error")


class Cause(NamedTuple):
    """Cause of a run's early end, and its treatment.

    Attributes:
        kind: key of `RETRY_LIMITS`.
        bad_node: whether later jobs avoid the node.
        alone: whether the next job contains only this run.
    """

    kind: str
    bad_node: bool = False
    alone: bool = False


CAUSES_BY_STATUS: Mapping[str, Cause] = {
    "preempted": Cause("preempted"),
    "node_failed": Cause("node failed", bad_node=True),
    "out_of_memory": Cause("out of memory", alone=True),
    "timed_out": Cause("timed out"),
    "completed": Cause("requeued"),
    "failed": Cause("job failed"),
    "vanished": Cause("vanished"),
    "cancelled": Cause("cancelled"),
    "never_satisfied": Cause("prepare failed"),
}
"""Causes by the status of the job of an unfinished run."""


def classify_failure(failure: Failure) -> Cause | None:
    """Return the cause of a recorded failure; None if a retry would repeat the failure."""
    if failure.kind == "out of memory":
        return Cause("out of memory", alone=True)
    if failure.kind in {"killed", "ended without a word"}:
        return Cause("killed", alone=True)
    if _DEVICE.search(failure.message) or _DEVICE.search(failure.kind):
        return Cause("device error", bad_node=True)
    if _RANKS.search(failure.message) or _RANKS.search(failure.kind):
        return Cause("rank lost")
    return None


def retry_limit(kind: str, slurm: Slurm) -> int:
    """Return the maximum number of resubmissions after a cause."""
    if kind in slurm.retries:
        return slurm.retries[kind]
    return UNLIMITED if kind == "preempted" and slurm.preemptible else RETRY_LIMITS[kind]


def check_retries(slurm: Slurm) -> None:
    """Raise an error for unknown causes and negative numbers in a profile's retry limits."""
    for kind, times in slurm.retries.items():
        if kind not in RETRY_LIMITS:
            raise ConfigError(
                f"cluster.slurm.retries: {kind!r} is not a retry cause. {did_you_mean(kind, RETRY_LIMITS)}"
            )
        if times < 0:
            raise ConfigError(
                f"cluster.slurm.retries[{kind!r}]: {times} is invalid; expected at least 0.",
                fix="Set the limit to 0 or more.",
            )
