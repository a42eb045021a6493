"""`assay doctor`: checks of the machine, the project, and everything that a sweep needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from rich.text import Text

from assay.cli.arguments import AsJson, Overrides, load_workspace
from assay.cli.command_group import add_command
from assay.cli.console import console, print_json
from assay.cli.doctor_check import Check, attempt, failed
from assay.cli.progress import progress_bars, spinner
from assay.core.errors import AssayError
from assay.report.formatting import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assay.plan.workspace import Workspace

STYLES = {"ok": "green", "warning": "yellow", "error": "red"}


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    first, second = "assay doctor sweep=first", "assay doctor cluster=slurm --json"
    add_command(app, doctor, "doctor", panel="Project", first=first, second=second)


def doctor(overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """Check this machine: versions, cores, device, store, and training speed of the selected proxy.

    With sweep=NAME, also check what the sweep's runs need: sources, tokenizer, benchmarks, tasks, plan, disk space and
    W&B. With cluster=slurm or another SLURM profile, do not measure the speed. Instead, check that SLURM answers and would
    accept the jobs. Exits with 0 if no check ends with an error, 1 if a check does, and 2 if the command itself fails. These codes differ
    from the codes of `assay gate`, where 1 means REJECT.
    """
    from assay.cli.doctor_machine import check_disk, check_store, check_versions
    from assay.cli.doctor_sweep import check_sweep, check_tokenizer

    space = load_workspace(overrides, needs_project=False)
    tokenizer = check_tokenizer(space)
    checks = [_project(space), *check_versions()]
    machine, speed = _machine(space, measured=tokenizer.status == "ok", quiet=as_json)
    checks += [*machine, check_store(space.store.root), tokenizer]
    if space.study.sweep is None:
        checks.append(attempt("disk", lambda: check_disk(space.store.root, needed=0)))
    else:
        with spinner("checking the sweep", quiet=as_json):
            checks += check_sweep(space, tokenizer=tokenizer)
    if as_json:
        print_json({check.name: _mapping(check) for check in checks} | {"tokens_per_second": speed})
    else:
        _print(checks)
    if any(check.status == "error" for check in checks):
        raise typer.Exit(1)


def _project(space: Workspace) -> Check:
    """Report which project is checked."""
    from assay.config.search_path import find_project

    if find_project() is not None:
        return Check(name="project", value=space.study.paths.root)
    return Check(
        name="project",
        value=f"{space.study.paths.root} is in no project; the packaged demonstration is checked",
        status="warning",
        fix="Run `assay init` to create a project here, or change to its folder.",
    )


def _machine(space: Workspace, *, measured: bool, quiet: bool) -> tuple[list[Check], float | None]:
    """Check the SLURM cluster, or this machine; return the checks and the tokens/s of one worker, if they are measured."""
    from assay.cli.doctor_machine import check_hardware, check_slurm, measure_speed
    from assay.plan.speed import save_speed

    if space.study.cluster.slurm is not None:
        return [*check_slurm(space.study.cluster)], None
    checks, speed = [*check_hardware()], None
    if not measured:
        return checks, None
    with progress_bars(quiet=quiet) as report:
        report("measuring the proxy", 0.0)
        try:
            speed = measure_speed(space)
            save_speed(space.runs, space.store, speed)
            checks.append(Check(name="proxy", value=f"{space.study.proxy.name}: {speed:,.0f} tokens/s per worker"))
        except (AssayError, OSError) as error:  # the other checks still run
            checks.append(failed("proxy", error))
        report("measuring the proxy", 1.0)
    return checks, speed


def _mapping(check: Check) -> dict[str, Any]:
    return {"status": check.status, "ok": check.status != "error", "value": check.value, "fix": check.fix or None}


def _print(checks: Sequence[Check]) -> None:
    """Print one line per check: status, name, result and fix."""
    width = max(len(check.name) for check in checks)
    for check in checks:
        line = Text(f"{check.status:<8}", style=STYLES[check.status])
        line.append(f"{check.name:<{width}}  {check.value}", style="default")
        if check.fix:
            line.append(f"{'' if check.value.endswith('.') else '.'} {check.fix}", style="default")
        console.print(line, soft_wrap=True)
    counts = {status: sum(check.status == status for check in checks) for status in ("error", "warning")}
    console.print(", ".join(count(number, status) for status, number in counts.items() if number) or "no problem")
