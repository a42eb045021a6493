"""`assay submit`, `status`, `logs`, `cancel`, `retry`, `why`: the runs of a sweep."""

from __future__ import annotations

import contextlib
import shlex
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from assay.cli import import_command, plan_stages
from assay.cli.arguments import (
    AsJson,
    Current,
    Overrides,
    check_project,
    load_sweep,
    load_workspace,
    print_selection,
    selection_mapping,
)
from assay.cli.command_group import add_command
from assay.cli.console import console, errors, print_json
from assay.cli.plan_command import RetryFailed, plan_mapping, print_plan, print_sent, with_probed_suite
from assay.cli.progress import progress_bars, spinner
from assay.core.errors import ConfigError, Damaged

if TYPE_CHECKING:
    from assay.plan.plan import Plan
    from assay.plan.workspace import Workspace
    from assay.store.runs import Store

PANEL = "Sweeps"
BLOCKED = 4
"""The exit code if the plan refuses every missing run."""
WATCH_SECONDS = 2.0
PrefixArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="First digits of a run's fingerprint, as `assay status` prints it.")
]
MixOption = Annotated[str | None, typer.Option("--mix", help="Affect only the runs of this mix (default: all mixes).")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    first = "assay submit sweep=first"
    add_command(app, submit, "submit", panel=PANEL, first=first, second="assay submit sweep=first cluster=slurm")
    first = "assay status sweep=first"
    add_command(app, status, "status", panel=PANEL, first=first, second="assay status sweep=first --watch")
    add_command(app, logs, "logs", panel=PANEL, first="assay logs 3f9c1a", second="assay logs 3f9c1a --lines 200")
    first = "assay cancel sweep=first"
    add_command(app, cancel, "cancel", panel=PANEL, first=first, second="assay cancel sweep=first --mix more_code")
    first = "assay retry sweep=first --failed"
    add_command(app, retry, "retry", panel=PANEL, first=first, second="assay retry sweep=first --cancelled --mix today")
    add_command(app, why, "why", panel=PANEL, first="assay why 3f9c1a 7be204", second="assay why 3f9c1a 7be204 --json")


def submit(
    overrides: Overrides = None,
    *,
    retry_failed: RetryFailed = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Allow new settings to replace submitted runs that have results."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start the runs that a sweep still needs, and return at once. A second submission starts only missing runs.

    The submission freezes the configuration: later commands on the sweep use it, and need no overrides.
    """
    space = load_workspace(overrides)
    import_command.require_history(space)
    from assay.launch.seed_stages import record_stages
    from assay.plan.prepare import prepare_corpora

    unmeasured = space.mixes.untokenized()
    if unmeasured:  # jobs prepare corpora themselves, except those that weights, and thus identities, depend on
        with progress_bars(quiet=as_json) as report:
            prepare_corpora(space.sources, unmeasured, progress=report)
    with spinner("planning", quiet=as_json):
        decisions = record_stages(space)
        plan = with_probed_suite(space, space.planner.plan(retry_failed=retry_failed))
    if not as_json:
        plan_stages.show_decisions(decisions)
    _submit(space, plan, overrides, as_json=as_json, replace=replace)


def retry(
    overrides: Overrides = None,
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Resubmit runs that failed or diverged.")] = False,
    cancelled: Annotated[bool, typer.Option("--cancelled", help="Resubmit runs that were cancelled.")] = False,
    mix: MixOption = None,
    as_json: AsJson = False,
) -> None:
    """Resubmit runs that ended without a result; each resumes from its last checkpoint. Requires --failed or --cancelled."""
    if not failed and not cancelled:
        raise ConfigError(
            "retry: no kind of run was given; expected at least one.", fix="Add --failed, --cancelled, or both."
        )
    states = ({"failed", "diverged"} if failed else set()) | ({"cancelled"} if cancelled else set())
    with spinner("planning", quiet=as_json):
        selected = load_sweep(overrides)
        space = selected.workspace
        plan = space.planner.plan(retry_failed=failed)
        runs = {
            run.fingerprint
            for run in plan.of("todo")
            if run.fingerprint and (mix is None or run.mix == mix)
            if space.store.run(run.fingerprint).status().state in states
        }
    if not as_json:
        print_selection(selected)
    if not runs:
        if as_json:
            print_json({**plan_mapping(plan), "submission": None, "sent": 0})
            return
        console.print(f"no run of {plan.sweep.name} is {' or '.join(sorted(states))}: nothing to retry", markup=False)
        return
    _submit(space, plan, overrides, as_json=as_json, only=runs)


def _submit(
    space: Workspace,
    plan: Plan,
    overrides: Overrides,
    *,
    as_json: bool,
    only: set[str] | None = None,
    replace: bool = False,
) -> None:
    """Submit a plan, or some of its runs, and print the jobs or workers."""
    from assay.launch.submit import submit as start

    def warn(text: str) -> None:
        errors.print(f"warning: {text}", style="yellow", markup=False)

    sent = start(space, plan, only=only, replace_runs=replace, warn=warn)
    if as_json:
        runs = len(sent.runs) if sent else 0
        print_json({**plan_mapping(plan), "submission": sent.id if sent else None, "sent": runs})
    else:
        print_plan(plan)
        plan_stages.show(space, plan)
        if sent is not None:
            print_sent(sent, space, overrides)
        elif plan.of("todo"):
            console.print("nothing to submit: an earlier submission includes all runs")
        else:
            console.print("nothing to submit" + ("" if plan.complete else ": see the reasons above"))
    if plan.of("refused") and not plan.of("todo") and not plan.of("running"):
        raise typer.Exit(BLOCKED)


def status(
    overrides: Overrides = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every two seconds until no run is active.")] = False,
    current: Current = False,
    as_json: AsJson = False,
) -> None:
    """Show the state of each run of a sweep: progress, loss, speed, time left, and failures by cause."""
    from assay.launch.status import overview
    from assay.launch.status_view import render
    from assay.report.reason_text import to_json

    with spinner("reading the runs", quiet=as_json):
        selected = load_sweep(overrides, current=current)
        space = selected.workspace
        plan = space.planner.outline()
        progress = overview(space.store, plan, now=time.time())
    if as_json:
        print_json({**to_json(progress), "submission": selection_mapping(selected)})
        return
    print_selection(selected)
    if watch:
        follow(space, plan)
    else:
        console.print(render(progress, arguments=shlex.join(overrides or ())))


def follow(space: Workspace, plan: Plan) -> None:
    """Show a sweep's progress until no run is active."""
    from rich.live import Live

    from assay.launch.status import overview
    from assay.launch.status_view import render

    progress = overview(space.store, plan, now=time.time())
    with Live(render(progress), console=console, auto_refresh=False) as live:
        while progress.active:
            time.sleep(WATCH_SECONDS)
            progress = overview(space.store, plan, now=time.time())
            live.update(render(progress), refresh=True)


def logs(
    run: PrefixArgument,
    overrides: Overrides = None,
    *,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="Number of lines to print.")] = 60,
    as_json: AsJson = False,
) -> None:
    """Print the last lines of a run's log."""
    from assay.core.log_tail import last_lines
    from assay.launch.logs import log_of
    from assay.plan.sweep_selection import locate_sweep

    check_project(overrides, needs_project=False)
    path = log_of(locate_sweep(list(overrides or ()))[0], run)
    if as_json:
        print_json({"log": path, "lines": last_lines(path, lines)})
        return
    errors.print(str(path), markup=False, style="dim", soft_wrap=True)
    console.print("\n".join(last_lines(path, lines)), markup=False, soft_wrap=True)


def cancel(overrides: Overrides = None, *, mix: MixOption = None, as_json: AsJson = False) -> None:
    """Stop the active runs of a sweep, and keep finished runs. `assay submit` resumes stopped runs from their checkpoints."""
    from assay.launch.cancel import cancel as stop

    with spinner("cancelling", quiet=as_json):
        store, name = _sweep_to_cancel(list(overrides or ()))
        outcome = stop(store, name, mix=mix)
    if as_json:
        print_json(vars(outcome))
        return
    parts = {
        "stopped": outcome.stopped,
        "kept, because they had ended": outcome.kept,
        "still running": outcome.still_running,
        "asked to stop on other machines": outcome.elsewhere,
    }
    lines = [f"{what}: {len(names)} ({', '.join(names)})" for what, names in parts.items() if names]
    console.print("\n".join(lines) or "no run was active", markup=False)


def _sweep_to_cancel(overrides: list[str]) -> tuple[Store, str]:
    """Return store and name of a sweep, even if its configuration is unreadable, so that its workers can stop."""
    from assay.plan.sweep_selection import locate_sweep

    with contextlib.suppress(Damaged):
        space = load_sweep(overrides).workspace
        return space.store, space.study.require_sweep().name
    store, name = locate_sweep(overrides)
    if name is None:
        raise ConfigError("sweep: no sweep is selected.", fix="Add `sweep=NAME` to select the file sweeps/NAME.yaml.")
    return store, name


def why(left: PrefixArgument, right: PrefixArgument, overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """List the inputs in which two runs differ."""
    from assay.core.fingerprint import differences

    with spinner("comparing two runs", quiet=as_json):
        space = load_workspace(overrides, needs_project=False)
        specs = [_spec_of(space, prefix) for prefix in (left, right)]
        different = differences(specs[0].identity, specs[1].identity)
    if as_json:
        print_json([difference._asdict() for difference in different])
        return
    if not different:
        console.print("both arguments name the same run")
        return
    from rich.text import Text

    table = Table("input", specs[0].short, specs[1].short, box=None, pad_edge=False)
    for difference in different:
        table.add_row(Text(difference.path), Text(str(difference.left)), Text(str(difference.right)))
    console.print(table)


def _spec_of(space: Workspace, prefix: str) -> Any:
    """Return the spec of a run in the store, or of a run that the sweep plans."""
    if space.study.sweep is not None:
        for run in space.planner.plan().runs:
            if run.spec is not None and run.spec.fingerprint.startswith(prefix):
                return run.spec
    return space.store.find(prefix).spec()
