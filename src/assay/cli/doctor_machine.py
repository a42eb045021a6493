"""Checks of the machine: versions, cores, device, SLURM, the store's disk and permissions, and training speed."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from assay.cli.doctor_check import Check, attempt, failed
from assay.core.errors import AssayError
from assay.report.formatting import byte_count, duration

if TYPE_CHECKING:
    from assay.config.cluster import Cluster
    from assay.plan.workspace import Workspace

PACKAGES = ("torch", "transformers", "lm_eval", "hydra-core", "submitit", "wandb", "pandas")
LEAST_BYTES = 1_000_000_000
"""Minimum free bytes of the store's file system for the start of a run."""


def check_versions() -> Iterator[Check]:
    """Check the versions of Python and of the packages that assay needs."""
    from importlib.metadata import PackageNotFoundError, version

    python = platform.python_version()
    supported = (3, 11) <= tuple(int(part) for part in python.split(".")[:2]) < (3, 14)
    fix = "" if supported else "Install assay with Python 3.11, 3.12 or 3.13."
    yield Check(name="python", value=python, status="ok" if supported else "error", fix=fix)
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            yield Check(name=name, value=version(name))
            continue
        yield Check(name=name, value="not installed", status="error", fix="Install assay with its dependencies.")


def check_hardware() -> Iterator[Check]:
    """Report the cores and devices of this machine."""
    import torch

    yield Check(name="cores", value=str(len(os.sched_getaffinity(0))))
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield Check(name="device", value=", ".join(devices) or "CPU")


def check_slurm(cluster: Cluster) -> Iterator[Check]:
    """Check the cluster and its partitions, and whether the cluster accepts the profile's jobs."""
    from assay.launch.slurm.capabilities import read_capabilities
    from assay.launch.slurm.submit import check_cluster

    try:
        site = read_capabilities()
    except AssayError as error:
        yield failed("slurm", error)
        return
    accounts = "with accounting" if site.accounting else "without accounting"
    arrays = f"arrays of up to {site.array_limit:,} jobs"
    yield Check(name="slurm", value=f"{site.name}, version {site.version}, {accounts}; {arrays}")
    for partition in site.partitions.values():
        gpus = max((group.gpus for group in partition.groups), default=0)
        limit = "no time limit" if partition.max_minutes is None else f"at most {duration(partition.max_minutes * 60)}"
        preempted = "" if partition.preempt_mode == "OFF" else f", preempted ({partition.preempt_mode.lower()})"
        up = partition.state == "UP"
        yield Check(
            name=f"partition {partition.name}{' (default)' if partition.default else ''}",
            value=f"{partition.nodes} nodes, up to {gpus} GPUs each, {limit}{preempted}"
            + ("" if up else f", {partition.state}"),
            status="ok" if up else "error",
            fix="" if up else "Use another partition: cluster.slurm.partition=NAME.",
        )
    name = f"profile {cluster.name}"
    try:
        warnings = check_cluster(cluster)
    except AssayError as error:
        yield failed(name, error)
        return
    yield Check(
        name=name,
        value="; ".join(warnings) or "sbatch would accept its jobs",
        status="warning" if warnings else "ok",
        fix=f"Adapt conf/cluster/{cluster.name}.yaml." if warnings else "",
    )


def check_store(folder: Path) -> Check:
    """Check that this process can write, rename and lock files in the store, and that a team can share the files."""
    return attempt("store", lambda: _writable(folder))


def _writable(folder: Path) -> Check:
    from assay.core.files import exclusive, replacing

    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".doctor-{os.getpid()}"
    with exclusive(probe, wait=False), replacing(probe.with_suffix(".renamed")) as written:
        written.write_text("assay doctor", encoding="utf-8")
    for path in (probe, probe.with_suffix(".renamed")):
        path.unlink(missing_ok=True)
    mode = stat.S_IMODE(folder.stat().st_mode)
    umask = _umask()
    if mode & stat.S_IWGRP and umask & stat.S_IWGRP:
        value = f"{folder}: shared with its group ({mode:04o}), but the umask {umask:04o} hides new files from writers"
        return Check(name="store", value=value, status="warning", fix="Run `umask 0002` before assay.")
    return Check(name="store", value=f"{folder}, writable")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def check_disk(folder: Path, needed: int) -> Check:
    """Compare the free space of the store's file system with what a sweep needs.

    Args:
        folder: the store.
        needed: bytes of weights and checkpoints that the sweep still writes; 0 without a sweep.
    """
    free = shutil.disk_usage(folder).free
    value = f"{byte_count(free)} free{f'; the sweep needs about {byte_count(needed)}' if needed else ''}"
    fix = "Free space, or move the store with paths.store or ASSAY_STORE."
    if free < max(needed, LEAST_BYTES):
        return Check(name="disk", value=value, status="error", fix=fix)
    if free < 2 * needed:
        return Check(name="disk", value=value, status="warning", fix=fix)
    return Check(name="disk", value=value)


def measure_speed(space: Workspace) -> float:
    """Measure tokens per second over a few training steps with one worker's threads."""
    import torch

    from assay.train.model import build

    torch.set_num_threads(space.study.cluster.cpus_per_worker)
    proxy, batch = space.study.proxy, space.study.batch
    model = build(proxy, space.runs.vocabulary, seed=0)
    data = torch.randint(0, space.runs.vocabulary, (batch.micro, proxy.sequence_length))
    steps, start = 0, 0.0
    while steps < 3 or time.perf_counter() - start < 2:
        if steps == 1:
            start = time.perf_counter()  # the first step is warm-up
        model(input_ids=data, labels=data).loss.backward()
        steps += 1
    return (steps - 1) * data.numel() / (time.perf_counter() - start)
