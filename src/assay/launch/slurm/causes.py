"""What ended a run before its end, whose fault that is, and how often it is tried again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from assay.errors import AssayError, did_you_mean

if TYPE_CHECKING:
    from assay.settings import Slurm
    from assay.store import Failure

ENDLESS = 1000

CAPS: Mapping[str, int] = {
    "preempted": 10,
    "node failed": 5,
    "timed out": 20,
    "given back": 50,
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
"""How often a run is sent again after each class of failure that is the cluster's and not the run's own.

`preempted` is without end where the profile says `preemptible`. `given back`: it was asked to stop, wrote a
checkpoint, and its job could not be requeued. `rank lost`: of the processes that train it together one could not be
met, or went away; its own log tells why. `job failed`: its job ended before the run's own process could say
anything. `vanished`: SLURM has no record of its job. `prepare failed`: the job that makes its corpora failed by itself.
`prepare lost`: that job was lost, or began again, and SLURM took back what waited for it. `left`: another sweep had it,
and gave it up.
"""

_DEVICE = re.compile(
    r"CUDA error|CUDA driver|cuDNN|cublas|NCCL|ncclUnhandled|uncorrectable ECC|device-side|Xid", re.IGNORECASE
)

_RANKS = re.compile(r"\bgloo/|TCPStore|Dist(?:Network|Store|Backend)Error")


class Cause(NamedTuple):
    """A class of failure, and how it is to be dealt with.

    Attributes:
        kind: one of `CAPS`.
        bad_node: whether the node it happened on is to be kept away from.
        alone: whether the run is better off without neighbours next time.
    """

    kind: str
    bad_node: bool = False
    alone: bool = False


BY_SCHEDULER: Mapping[str, Cause] = {
    "preempted": Cause("preempted"),
    "node_failed": Cause("node failed", bad_node=True),
    "out_of_memory": Cause("out of memory", alone=True),
    "timed_out": Cause("timed out"),
    "completed": Cause("given back"),
    "failed": Cause("job failed"),
    "vanished": Cause("vanished"),
    "cancelled": Cause("cancelled"),
    "never_satisfied": Cause("prepare failed"),
}
"""What SLURM says of a job whose run is not at its end."""


def of_failure(failure: Failure) -> Cause | None:
    """Whose fault a run's own failure is; ``None`` where it is the run's, and would only happen again."""
    if failure.kind == "out of memory":
        return Cause("out of memory", alone=True)
    if failure.kind in {"killed", "ended without a word"}:
        return Cause("killed", alone=True)
    if _DEVICE.search(failure.message) or _DEVICE.search(failure.kind):
        return Cause("device error", bad_node=True)
    if _RANKS.search(failure.message) or _RANKS.search(failure.kind):
        return Cause("rank lost")
    return None


def cap(kind: str, slurm: Slurm) -> int:
    """How often a run is sent again after a class of failure."""
    if kind in slurm.retries:
        return slurm.retries[kind]
    return ENDLESS if kind == "preempted" and slurm.preemptible else CAPS[kind]


def check_retries(slurm: Slurm) -> None:
    """Refuse a profile that names classes there are not."""
    for kind, times in slurm.retries.items():
        if kind not in CAPS:
            raise AssayError(f"cluster.slurm.retries: nothing is called {kind!r}. {did_you_mean(kind, CAPS)}")
        if times < 0:
            raise AssayError(f"cluster.slurm.retries: {kind!r} is {times}.", fix="It is at least 0.")
