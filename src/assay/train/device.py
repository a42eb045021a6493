"""The machine that a run trains on: its device, its threads, its peak speed, and the ranks that share the work."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch.utils import deterministic

from assay.errors import AssayError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Dense bf16 operations a second, from the makers' data sheets; the first name that the device's contains counts.
PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "GH200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
}


@dataclass(frozen=True, kw_only=True)
class Team:
    """The processes that train one run together, as torchrun starts them, and this one's place among them."""

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def slice(self, first: int, sequences: int) -> tuple[int, int]:
        """This rank's part of the sequences `first`, `first + 1`, ...: start and end; ranks differ by 1 at most."""
        return first + sequences * self.rank // self.world, first + sequences * (self.rank + 1) // self.world

    def sum(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors by their sums over all ranks, in place and in one message."""
        if self.world > 1:
            flat = torch.nn.utils.parameters_to_vector(tensors)
            dist.all_reduce(flat)
            torch.nn.utils.vector_to_parameters(flat, tensors)

    def any(self, *flags: bool) -> list[bool]:
        """Each flag, true where it is true on any rank; through the CPU, so that no GPU has to be waited for."""
        if self.world == 1:
            return list(flags)
        votes = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return [bool(vote) for vote in votes]

    def wait(self) -> None:
        """Go on once every rank is here."""
        self.any(False)  # noqa: FBT003  # nobody asks for anything; it is the meeting that counts


@contextlib.contextmanager
def team(device: str, *, threads: int) -> Iterator[Team]:
    """Take the place that torchrun's variables name (alone without them), with everything set that bits depend on.

    Args:
        device: `auto`, `cpu`, `cuda`, or one GPU as `cuda:0`.
        threads: of the CPU, for this process.
    """
    world, rank, local = (int(os.environ.get(name, default)) for name, default in _TORCHRUN)
    # cuBLAS picks its workspace at its first call; without this its sums may differ from one run to the next.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    chosen = choose(device, local)
    torch.set_num_threads(threads)
    # On a GPU an operation with no deterministic form warns: the run is then the same to rounding, and says so.
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("warn" if chosen.type == "cuda" else "error")
    # A debugging aid that costs a pass over every new buffer.
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        torch.set_float32_matmul_precision("high")
    mine = world > 1 and not dist.is_initialized()
    if mine:
        dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Team(rank=rank, world=world, device=chosen)
    finally:
        if mine:
            dist.destroy_process_group()
        torch.set_deterministic_debug_mode(before)


_TORCHRUN = (("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0"))


def choose(device: str, local: int = 0) -> torch.device:
    """The device of a name; `auto` is the GPU where there is one.

    Args:
        device: `auto`, `cpu`, `cuda`, or one GPU as `cuda:0`.
        local: which of the machine's GPUs, where the name does not say it.

    Raises:
        AssayError: the name is another one, or a GPU that is not there.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise AssayError(f"device is {device!r}.", fix="It is 'auto', 'cpu', 'cuda', or one GPU as 'cuda:0'.")
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    chosen = torch.device(device) if ":" in device else torch.device("cuda", local)
    if chosen.index >= torch.cuda.device_count():
        raise AssayError(
            f"device is {device!r}, and torch sees {torch.cuda.device_count()} GPUs here.", fix="Use 'auto' or 'cpu'."
        )
    return chosen


def autocast(device: torch.device) -> torch.autocast:
    """bf16 for matrix products on a GPU that has it, float32 elsewhere: bf16 on a CPU is 45-60 times slower."""
    on = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=on)


def peak_flops(device: torch.device) -> float | None:
    """Operations a second that the device could do at best: known for common GPUs, measured for a CPU."""
    if device.type == "cpu":
        return _cpu_peak(torch.get_num_threads())
    name = torch.cuda.get_device_name(device)
    if "MIG" in name:  # a slice of a GPU; which share of the peak it has is not in its name
        return None
    return next((peak for known, peak in PEAKS.items() if known.lower() in name.lower()), None)


@functools.cache
def _cpu_peak(threads: int) -> float:
    """The best of a few float32 matrix products with this many threads; takes about 0.1 s."""
    del threads  # part of the cache's key
    size = 768
    left, right = torch.ones(size, size), torch.ones(size, size)
    torch.mm(left, right)
    best = float("inf")
    for _ in range(8):
        # This thread's own time, in which it does its part of the product: what else the machine does is left out.
        start = time.thread_time()
        torch.mm(left, right)
        best = min(best, time.thread_time() - start)
    return 2 * size**3 / best
