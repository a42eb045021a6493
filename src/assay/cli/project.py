"""`assay init`, `doctor`, `demo`: a project of one's own, a machine that is ready, and a first sweep."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from assay.cli.common import AsJson, Overrides, console, errors, print_json, program, progress_bars, size, workspace
from assay.errors import AssayError
from assay.publish.words import duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from assay.settings import Cluster
    from assay.workspace import Workspace


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (demo, init, doctor):
        app.command()(command)


def init(
    folder: Annotated[Path, typer.Argument(help="Where; made if it is not there.")] = Path(),
    *,
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
) -> None:
    """Begin a project of your own: `conf/` and `sweeps/` to edit, found before the packaged ones."""
    from assay.roots import packaged

    here = Path(__file__).parent / "templates"
    copies = {path: folder / path.relative_to(here) for path in sorted(here.rglob("*.*")) if path.is_file()}
    for group in ("policy/default.yaml", "suite/demo.yaml", "cluster/local.yaml", "cluster/slurm.yaml"):
        copies[packaged() / "conf" / group] = folder / "conf" / group
    taken = [target for target in copies.values() if target.exists()]
    if taken and not force:
        raise AssayError(
            f"{', '.join(str(path) for path in taken[:5])}: there already; nothing was written.",
            fix="Choose another folder, or add --force to write over them.",
        )
    for origin, target in copies.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(origin, target)
        console.print(str(target), markup=False)
    console.print("\nNow name your sources in conf/source/, your mixes in conf/mix/, and a sweep in sweeps/; then:")
    console.print(f"  cd {folder}\n  assay plan sweep=first", markup=False)


def doctor(overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """Check this machine: versions, cores, disk, device, and how fast it trains the chosen proxy.

    With cluster=slurm, or a profile of your own: whether SLURM is here, and would take its jobs; nothing is trained.
    """
    space, speed = workspace(overrides), None
    checks = [*_versions(), *(_machine() if space.study.cluster.slurm is None else _slurm(space.study.cluster))]
    if space.study.cluster.slurm is None:
        with progress_bars(quiet=as_json) as tell:
            tell("measuring the proxy", 0.0)
            speed = _measure(space)
            tell("measuring the proxy", 1.0)
        space.remember_speed(speed)
        checks.append(("proxy", f"{space.study.proxy.name}: {speed:,.0f} tokens/s a worker", True))
    checks.append(("store", *_store(space)))
    if as_json:
        print_json({name: {"value": value, "ok": ok} for name, value, ok in checks} | {"tokens_per_second": speed})
    else:
        table = Table(box=None, show_header=False, pad_edge=False)
        for name, value, ok in checks:
            table.add_row("[green]ok[/]" if ok else "[red]bad[/]", name, Text(value))
        console.print(table)
    if not all(ok for _, _, ok in checks):
        raise typer.Exit(1)


def _versions() -> Iterator[tuple[str, str, bool]]:
    from importlib.metadata import PackageNotFoundError, version

    python = platform.python_version()
    yield "python", python, (3, 11) <= tuple(int(part) for part in python.split(".")[:2]) < (3, 14)
    for name in ("torch", "transformers", "lm_eval", "hydra-core", "submitit", "wandb", "pandas"):
        with contextlib.suppress(PackageNotFoundError):
            yield name, version(name), True
            continue
        yield name, "not installed", False


def _machine() -> Iterator[tuple[str, str, bool]]:
    import torch

    cores = len(os.sched_getaffinity(0))
    yield "cores", str(cores), True
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield "device", ", ".join(devices) or "CPU", True


def _slurm(cluster: Cluster) -> Iterator[tuple[str, str, bool]]:
    """The cluster, its partitions, and whether the profile suits it."""
    from assay.launch.slurm.site import ask_site
    from assay.launch.slurm.start import check_cluster

    try:
        site = ask_site()
    except AssayError as error:
        yield "slurm", " ".join(str(error).split()), False
        return
    accounts = "with accounting" if site.accounting else "without accounting"
    yield "slurm", f"{site.name}, version {site.version}, {accounts}; arrays of up to {site.array_limit:,} jobs", True
    for partition in site.partitions.values():
        gpus = max((shape.gpus for shape in partition.shapes), default=0)
        limit = "no time limit" if partition.max_minutes is None else f"at most {duration(partition.max_minutes * 60)}"
        preempted = "" if partition.preempt_mode == "OFF" else f", preempted ({partition.preempt_mode.lower()})"
        default = " (default)" if partition.default else ""
        shape = f"{partition.nodes} nodes, up to {gpus} GPUs each, {limit}{preempted}"
        yield f"partition {partition.name}{default}", shape, partition.state == "UP"
    try:
        warnings = check_cluster(cluster)
    except AssayError as error:
        yield f"profile {cluster.name}", " ".join(str(error).split()), False
        return
    yield f"profile {cluster.name}", "; ".join(warnings) or "sbatch would take its jobs", True


def _store(space: Workspace) -> tuple[str, bool]:
    folder = space.store.root
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    return f"{folder}, {size(free)} free", os.access(folder, os.W_OK) and free > 1e9


def _measure(space: Workspace) -> float:
    """Tokens a second of a few training steps with one worker's threads."""
    import torch

    from assay.train.model import build

    torch.set_num_threads(space.study.cluster.cpus_per_worker)
    proxy, batch = space.study.proxy, space.study.batch
    model = build(proxy, space.vocabulary, seed=0)
    data = torch.randint(0, space.vocabulary, (batch.micro, proxy.sequence_length))
    steps, start = 0, 0.0
    while steps < 3 or time.perf_counter() - start < 2:
        if steps == 1:
            start = time.perf_counter()  # the first step warms up
        model(input_ids=data, labels=data).loss.backward()
        steps += 1
    return (steps - 1) * data.numel() / (time.perf_counter() - start)


def demo(overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """Fetch real text and benchmarks, train a first sweep on this machine, and judge it. Again: seconds."""
    from assay.cli.demo import run_demo

    chosen = list(overrides or ())
    if not any(override.startswith("sweep=") for override in chosen):
        chosen.insert(0, "sweep=code_replace")
    started = time.time()
    space = workspace([*chosen, "taint.severity=never"])
    found = run_demo(space, audited=workspace(chosen), quiet=as_json)
    if as_json:
        print_json(found)
        return
    name = space.study.require_sweep().name
    errors.print(f"took {duration(time.time() - started)}")
    _print_found(found, name)


def _print_found(found: dict[str, Any], sweep: str) -> None:
    console.print(f"\npage: {found['page']}", markup=False, soft_wrap=True)
    console.print("\ncommands to try next:")
    tries = (
        f"mix diff {found['baseline']} {found['candidate']} sweep={sweep}",
        f"gate sweep={sweep} --markdown",
        "taint",
        "repair code_cc --dry-run",
        f"plan sweep={sweep} proxy=1m budget.tokens=2e6",
    )
    for arguments in tries:
        console.print(f"  {program()} {arguments}", markup=False, soft_wrap=True)
