"""`assay plan`: the runs that a sweep would start, and follow-up sweeps of undecided or tainted sweeps."""

from __future__ import annotations

import contextlib
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table

from assay.cli import import_command, plan_designs, plan_stages
from assay.cli.arguments import AsJson, Overrides, load_sweep, load_workspace, print_selection, program
from assay.cli.command_group import add_command, make_group
from assay.cli.console import console, print_json
from assay.cli.progress import spinner
from assay.cli.register_command import print_registration, registration_mapping
from assay.core.errors import ConfigError, Damaged, NotFound, Refused
from assay.report.formatting import amount, byte_count, count, duration
from assay.report.reason_text import label, text, with_fix

if TYPE_CHECKING:
    from assay.analysis.followup.extended_sweep import ExtendedSweep
    from assay.analysis.followup.repaired_sweep import RepairedSweep
    from assay.plan.plan import Plan, PlannedRun
    from assay.plan.workspace import Workspace

COLORS = {
    "todo": "yellow",
    "reuse": "green",
    "running": "cyan",
    "refused": "red",
    "later": "yellow",
    "skipped": "green",
}
ABOUT = """Print the runs that a sweep would train, reuse or refuse, their cost, and the smallest detectable effect.

No command of this group starts a run. The default command is `show`. `extend` and `repair` write a follow-up sweep. `designs`
compares designs.
"""

RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Count diverged runs as missing, so that a submission trains them again.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite an existing sweep file.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = make_group(ABOUT, first="assay plan sweep=first", second="assay plan extend sweep=first")
    add_command(
        group,
        show,
        "show",
        first="assay plan show sweep=first",
        second="assay plan sweep=first budget.tokens=1e6 --json",
    )
    add_command(
        group,
        extend,
        "extend",
        first="assay plan extend sweep=first",
        second="assay plan extend sweep=first --out sweeps/first_more_seeds.yaml",
    )
    add_command(
        group, repair, "repair", first="assay plan repair sweep=first", second="assay plan repair sweep=first --force"
    )
    add_command(
        group,
        results,
        "results",
        first="assay plan results team.csv --baseline today",
        second="assay plan results team.csv --baseline today policy=default --json",
    )
    add_command(
        group,
        plan_designs.designs,
        "designs",
        first="assay plan designs sweep=first --effect 0.01",
        second="assay plan designs sweep=first --effect 2sd --write more_seeds --choose 3",
    )
    app.add_typer(group, name="plan", rich_help_panel="Sweeps")


def show(overrides: Overrides = None, *, retry_failed: RetryFailed = False, as_json: AsJson = False) -> None:
    """Print the runs that a sweep would train, reuse or refuse, their cost, and the smallest detectable effect."""
    with spinner("planning", quiet=as_json):
        space = load_workspace(overrides)
        import_command.require_history(space)
        plan = with_probed_suite(space, space.planner.plan(retry_failed=retry_failed))
    _show(space, plan, as_json=as_json)


def with_probed_suite(space: Workspace, plan: Plan) -> Plan:
    """Add the results of probing the suite's tasks to a plan that starts runs.

    Raises:
        AssayError: a task cannot be scored, so that the runs would fail after their training.
    """
    from assay.plan.suite_probe import require_scorable_suite

    if not any(run.spec is not None for run in plan.of("todo")):
        return plan
    return replace(plan, warnings=(*plan.warnings, *require_scorable_suite(space)))


def extend(
    overrides: Overrides = None,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="File of the new sweep (default: sweeps/SWEEP_decide.yaml).")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write a sweep file with the additional seeds that an inconclusive sweep needs, and print the plan of that file."""
    from assay.analysis.followup.extended_sweep import write_extended_sweep

    with spinner("extending the sweep", quiet=as_json):
        selected = load_sweep(overrides)
        followup = write_extended_sweep(selected, list(overrides or ()), out=out, force=force, render=text)
    if not as_json:
        print_selection(selected)
    _show_followup(followup, "extend", as_json=as_json)


def repair(
    overrides: Overrides = None,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="File of the new sweep (default: sweeps/SWEEP_repaired.yaml).")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write a sweep file that repeats tainted runs on repaired sources, and print the plan of that file.

    Requires a repaired version of each tainted source; `assay audit repair SOURCE` writes it.
    """
    from assay.analysis.followup.repaired_sweep import write_repaired_sweep

    with spinner("writing the repaired sweep", quiet=as_json):
        followup = write_repaired_sweep(load_workspace(overrides), list(overrides or ()), out=out, force=force)
    _show_followup(followup, "repair", as_json=as_json)


def results(
    table: import_command.ResultsName,
    overrides: Overrides = None,
    *,
    baseline: import_command.Baseline,
    candidate: import_command.Candidate = None,
    as_json: AsJson = False,
) -> None:
    """Print the seeds, missing scores and smallest detectable effect of external results."""
    import_command.plan_results(overrides, table, baseline, candidate, as_json=as_json)


def _show(space: Workspace, plan: Plan, *, as_json: bool, extra: Mapping[str, Any] | None = None) -> None:
    """Print a plan, the state of its registration, and the effects that it would detect."""
    from assay.analysis.design_power import detectable_in_sweep
    from assay.cli import plan_power  # loads the statistics

    with spinner("estimating the power", quiet=as_json):
        effects = detectable_in_sweep(space, plan)
        policy = space.study.policy.for_candidates(len(plan.sweep.candidates))
    if as_json:
        detectable = plan_power.to_mapping(effects, policy)
        registration = registration_mapping(space)
        mirror = space.study.paths.mirror
        print_json(
            {
                **plan_mapping(plan),
                "benchmarks": "hub" if mirror is None else mirror,
                "registration": registration,
                "sequential_seeds": plan_stages.to_mapping(space, plan),
                "detectable": detectable,
                **(extra or {}),
            }
        )
    else:
        print_plan(plan)
        plan_stages.show(space, plan)
        _print_benchmarks(space)
        print_registration(space)
        plan_power.show(effects, policy)


def _print_benchmarks(space: Workspace) -> None:
    """Print the origin of the data sets of the suite's tasks."""
    from assay.evaluate.task_identity import FILES, data_identity

    names, mirror = [task.task for task in space.study.suite.tasks], space.study.paths.mirror
    if not names:
        return
    origin = "the Hugging Face hub" if mirror is None else f"the mirror {mirror}"
    with contextlib.suppress(ConfigError, Damaged, NotFound, Refused):  # the plan states why its runs are refused
        if data_identity(names, mirror=mirror, tasks=space.runs.task_folder).datasets == FILES:
            origin = "local files of the tasks"
    console.print(f"benchmarks: {origin}", markup=False, soft_wrap=True)


def _show_followup(followup: RepairedSweep | ExtendedSweep, kind: str, *, as_json: bool) -> None:
    from assay.report.reason_text import to_json

    with spinner("planning", quiet=as_json):
        plan = followup.space.planner.plan()
    _show(followup.space, plan, as_json=as_json, extra={kind: to_json(followup)})
    if not as_json:
        console.print(f"\nwritten: {followup.file}", markup=False, soft_wrap=True)
        for sentence in followup.sentences:
            console.print(sentence, markup=False)
        arguments = shlex.join([f"sweep={followup.name}", *followup.command_overrides])
        console.print(f"to run it:\n  {program()} submit {arguments}", markup=False, soft_wrap=True)


def plan_mapping(plan: Plan) -> dict[str, Any]:
    """Return a plan as plain values for JSON."""
    return {
        "sweep": plan.sweep.name,
        "evaluation": plan.evaluation,
        "runs": [
            {
                "fingerprint": run.fingerprint,
                "mix": run.mix,
                "seed": run.seed,
                "status": run.status,
                "reasons": list(run.reasons),
                "taints": list(run.taints),
                "tokens": run.spec.tokens if run.spec else None,
                "seconds": run.seconds,
            }
            for run in plan.runs
        ],
        "cost": vars(plan.cost),
        "arms": [
            {
                "name": arm.name,
                "control": None if arm.name == plan.sweep.baseline else plan.sweep.control(arm.name),
                "about": arm.about,
            }
            for arm in plan.sweep.arms
        ],
        "warnings": list(plan.warnings),
    }


def print_plan(plan: Plan) -> None:
    """Print a plan run by run, or by mix for a large plan."""
    from assay.launch.status import MAX_LISTED

    for arm in plan.sweep.arms:
        if arm.about:
            console.print(f"{arm.name}: {arm.about}", markup=False)
    if plan.sweep.arms:
        console.print()
    console.print(_run_table(plan) if len(plan.runs) <= MAX_LISTED else _mix_table(plan))
    counts = {status: len(plan.of(status)) for status in COLORS}  # type: ignore[arg-type]  # its keys are the statuses
    console.print("\n" + ", ".join(f"{number} {status}" for status, number in counts.items() if number))
    cost = plan.cost
    if cost.runs:
        time_left = (
            f"{duration(cost.wall_seconds)} ({duration(cost.worker_seconds)} of workers; {cost.basis})"
            if cost.wall_seconds is not None
            else f"unknown time: {cost.basis}; `assay doctor` measures this machine"
        )
        disk = f", {byte_count(cost.disk_bytes)} of disk" if cost.disk_bytes else ""
        console.print(f"cost: {amount(cost.tokens)} tokens, {time_left}{disk}")
    for warning in plan.warnings:
        console.print(f"{label(warning)}: {text(warning)}", style="yellow", markup=False, soft_wrap=True)


def _run_table(plan: Plan) -> Table:
    from rich.text import Text

    run_column = Column("run", overflow="fold", min_width=min(32, max(len(run.label) for run in plan.runs)))
    table = Table(
        run_column,
        Column("fingerprint", no_wrap=True),
        "status",
        Column("why", overflow="fold"),
        box=None,
        pad_edge=False,
    )
    previous: tuple[str, str] | None = None
    for run in plan.runs:
        short = (run.fingerprint or "-")[:12]
        why = _why(run)
        cell = Text('"' if (run.mix, why) == previous else why)
        previous = (run.mix, why)
        table.add_row(run.label, short, Text(run.status, style=COLORS[run.status]), cell)
    return table


def _mix_table(plan: Plan) -> Table:
    from rich.text import Text

    table = Table(
        Column("mix", overflow="fold"),
        Column("runs", justify="right"),
        "status",
        Column("why", overflow="fold"),
        box=None,
        pad_edge=False,
    )
    groups = Counter((run.mix, run.status, _why(run)) for run in plan.runs)
    for (mix, status, why), runs in groups.items():
        table.add_row(mix, f"{runs:,}", Text(status, style=COLORS[status]), Text(why))
    return table


def _why(run: PlannedRun) -> str:
    """Render the reason for the planned action of a run, with its taints."""
    return "; ".join([*map(with_fix, run.reasons), *(f"TAINTED: {text(taint)}" for taint in run.taints)])


def print_sent(sent: Any, space: Workspace, overrides: Overrides) -> None:
    """Print the jobs or workers of a submission, and the commands that show their progress."""
    if sent.executor == "debug":
        console.print(f"ran {count(len(sent.runs), 'run')} in this process; show the results with:", markup=False)
        console.print(f"  {program()} status {shlex.join(overrides or ())}", markup=False, soft_wrap=True)
        return
    where = count(sent.workers, "job" if sent.executor == "slurm" else "worker")
    of = f" on SLURM ({sent.cluster})" if sent.executor == "slurm" else ""
    console.print(f"submitted {count(len(sent.runs), 'run')} to {where}{of}; follow them with:", markup=False)
    console.print(f"  {program()} status {shlex.join(overrides or ())} --watch", markup=False, soft_wrap=True)
    if sent.executor == "slurm":
        page = space.store.reports / f"{sent.sweep}.html"
        console.print("the last job reaches the verdict and writes the page:", markup=False)
        console.print(f"  {page}", markup=False, soft_wrap=True)
