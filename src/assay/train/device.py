"""Set up the training hardware: device, threads, peak speed, and the ranks of a run."""

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

from assay.core.errors import ConfigError, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Dense bf16 operations per second, from the vendors' data sheets. The first key that the device name contains applies.
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
class DistributedContext:
    """The ranks that train one run together, started by torchrun, and this process's rank."""

    rank: int
    world: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run's files."""
        return self.rank == 0

    def slice(self, first: int, sequences: int) -> tuple[int, int]:
        """Return start and end of this rank's part of `sequences` sequences from `first`.

        The sizes of the parts differ by at most 1.
        """
        return first + sequences * self.rank // self.world, first + sequences * (self.rank + 1) // self.world

    def all_reduce_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors by their sums over all ranks, in place and in one message."""
        if self.world > 1:
            flat = torch.nn.utils.parameters_to_vector(tensors)
            dist.all_reduce(flat)
            torch.nn.utils.vector_to_parameters(flat, tensors)

    def all_reduce_any(self, *flags: bool) -> list[bool]:
        """Reduce each flag by logical OR over all ranks.

        The reduction runs on the CPU, so that no GPU synchronizes.
        """
        if self.world == 1:
            return list(flags)
        votes = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return [bool(vote) for vote in votes]

    def barrier(self) -> None:
        """Wait until every rank has reached this call."""
        self.all_reduce_any(False)  # noqa: FBT003  # the value is irrelevant: the collective call synchronizes


@contextlib.contextmanager
def distributed(device: str, *, threads: int) -> Iterator[DistributedContext]:
    """Join the ranks that torchrun's variables describe, and enable deterministic operations.

    Without torchrun's variables, there is one rank.

    Args:
        device: `auto`, `cpu`, `cuda`, or one GPU as `cuda:0`.
        threads: number of CPU threads of this process.
    """
    world, rank, local = (int(os.environ.get(name, default)) for name, default in _TORCHRUN)
    # cuBLAS picks its workspace at its first call. With other settings, its sums may differ between runs.
    if os.environ.get(_CUBLAS) not in {":4096:8", ":16:8"}:
        os.environ[_CUBLAS] = ":4096:8"
    chosen = choose_device(device, local)
    torch.set_num_threads(threads)
    # Not "warn": in that mode the backward passes of torch's GPU kernels for attention add in random order (torch 2.11,
    # attention_backward.cu). The proxy needs no operation that lacks a deterministic form.
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("error")
    # This debugging aid of torch writes every new buffer once.
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        torch.set_float32_matmul_precision("high")
    initialized = world > 1 and not dist.is_initialized()
    if initialized:
        dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield DistributedContext(rank=rank, world=world, device=chosen)
    finally:
        if initialized:
            dist.destroy_process_group()
        torch.set_deterministic_debug_mode(before)


_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
_TORCHRUN = (("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0"))


def choose_device(device: str, local: int = 0) -> torch.device:
    """Resolve a device name. `auto` selects a GPU if one is available.

    Args:
        device: `auto`, `cpu`, `cuda`, or one GPU as `cuda:0`.
        local: index of the GPU on this machine if the name has no index.

    Raises:
        AssayError: the name is invalid, or the GPU does not exist.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ConfigError(
            f"device: {device!r} is invalid; expected 'auto', 'cpu', 'cuda', or a GPU such as 'cuda:0'.",
            fix="Use one of these names.",
        )
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    chosen = torch.device(device) if ":" in device else torch.device("cuda", local)
    if chosen.index >= torch.cuda.device_count():
        raise NotFound(
            f"device: {device!r} is not available; torch sees {torch.cuda.device_count()} GPUs here.",
            fix="Use 'auto' or 'cpu'.",
        )
    return chosen


def autocast(device: torch.device) -> torch.autocast:
    """Return bf16 autocast for GPUs that support bf16, and disabled autocast otherwise.

    On a CPU, bf16 is 45-60 times slower.
    """
    on = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=on)


def peak_flops(device: torch.device) -> float | None:
    """Return the device's peak operations per second; None if unknown.

    The value is from the data sheet for common GPUs, and measured for a CPU.
    """
    if device.type == "cpu":
        return _cpu_peak(torch.get_num_threads())
    name = torch.cuda.get_device_name(device)
    if "MIG" in name:  # a slice of a GPU, whose name does not contain its fraction of the peak
        return None
    return next((peak for known, peak in PEAKS.items() if known.lower() in name.lower()), None)


@functools.cache
def _cpu_peak(threads: int) -> float:
    """Return the best speed of several float32 matrix products with this many threads.

    The measurement takes about 0.1 s.
    """
    del threads  # part of the cache's key
    size = 768
    left, right = torch.ones(size, size), torch.ones(size, size)
    torch.mm(left, right)
    best = float("inf")
    for _ in range(8):
        # CPU time of this thread, which computes its part of the product. Other processes do not affect this time.
        start = time.thread_time()
        torch.mm(left, right)
        best = min(best, time.thread_time() - start)
    return 2 * size**3 / best
