"""`assay plan`, `submit`, `retry`, `status`, `logs`, `cancel`, `why`: what runs, where it stands, and why it is another run."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table

from assay.cli import imports
from assay.cli.common import AsJson, Overrides, console, errors, print_json, program, progress_bars, size, workspace
from assay.cli.register import print_standing, standing_mapping
from assay.errors import AssayError
from assay.publish.words import amount, count, duration

if TYPE_CHECKING:
    from assay.cli.extend import Extended
    from assay.cli.mend import Mended
    from assay.plan import Plan
    from assay.workspace import Workspace

COLOURS = {"todo": "yellow", "reuse": "green", "running": "cyan", "refused": "red"}
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Also try again the runs that diverged.")]
MixOption = Annotated[str | None, typer.Option("--mix", help="Only the runs of this mix.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (plan, submit, retry, status, logs, cancel, why):
        app.command()(command)


def plan(
    overrides: Overrides = None,
    *,
    retry_failed: RetryFailed = False,
    results: imports.Results = None,
    baseline: imports.Baseline = None,
    to_decide: Annotated[
        bool, typer.Option("--to-decide", help="Make it a sweep: the same arms with as many seeds as would decide it.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Make it a sweep: the same arms, with repaired sources for tainted ones.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="With --to-decide, --repair: the file; else sweeps/SWEEP_decide.yaml, SWEEP_repaired.yaml."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="With --to-decide, --repair: take the place of a file.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print what a sweep would run, reuse and refuse, what it will cost and would find. Nothing is started.

    With --results: what a verdict on imported results has and lacks. With --to-decide: the sweep that would decide
    what this one left open. With --repair: the sweep that redoes what touched a defect.
    """
    if to_decide != repair and results is None:
        _derived(overrides, out, repair=repair, force=force, as_json=as_json)
        return
    if to_decide or repair or out is not None or force:
        raise AssayError(
            "--out and --force go with --to-decide or --repair, and these, one at a time, with sweep=NAME."
        )
    if results is not None:
        imports.plan(overrides, results, baseline, as_json=as_json)
        return
    imports.refuse_baseline(baseline)
    space = workspace(overrides)
    imports.require_history(space)
    made = space.plan(retry_failed=retry_failed)
    _show(space, made, as_json=as_json)


def _show(space: Workspace, made: Plan, *, as_json: bool, beside: Mapping[str, Any] | None = None) -> None:
    """A plan, how its rule stands, and what it would find."""
    from assay.cli import foresee  # what compares is loaded for this alone

    found, policy = foresee.of_sweep(space, made), space.study.policy
    if as_json:
        detectable = foresee.to_mapping(found, policy)
        registration = standing_mapping(space)
        print_json({**plan_mapping(made), "registration": registration, "detectable": detectable, **(beside or {})})
    else:
        print_plan(made)
        print_standing(space)
        foresee.show(found, policy)


def _derived(overrides: Overrides, out: Path | None, *, repair: bool, force: bool, as_json: bool) -> None:
    """Write the sweep that would decide an inconclusive one, or the one on repaired sources, and print its plan."""
    made: Mended | Extended
    if repair:
        from assay.cli.mend import mend

        made = mend(list(overrides or ()), out=out, force=force)
    else:
        from assay.cli.extend import extend

        made = extend(list(overrides or ()), out=out, force=force)
    beside = {"repair" if repair else "to_decide": made.to_mapping()}
    _show(made.space, made.space.plan(), as_json=as_json, beside=beside)
    if not as_json:
        console.print(f"\nwritten: {made.file}", markup=False, soft_wrap=True)
        for sentence in made.sentences:
            console.print(sentence, markup=False)
        arguments = shlex.join([f"sweep={made.name}", *made.left])
        console.print(f"to run it:\n  {program()} submit {arguments}", markup=False, soft_wrap=True)


def plan_mapping(made: Plan) -> dict[str, Any]:
    """A plan as JSON."""
    return {
        "sweep": made.sweep.name,
        "evaluation": made.evaluation,
        "runs": [
            {
                "fingerprint": run.fingerprint,
                "mix": run.mix,
                "seed": run.seed,
                "status": run.status,
                "reasons": list(run.reasons),
                "tokens": run.spec.tokens if run.spec else None,
                "seconds": run.seconds,
            }
            for run in made.runs
        ],
        "cost": vars(made.cost),
        "arms": [
            {
                "name": arm.name,
                "control": None if arm.name == made.sweep.baseline else made.sweep.control(arm.name),
                "about": arm.about,
            }
            for arm in made.sweep.arms
        ],
        "warnings": list(made.warnings),
    }


def print_plan(made: Plan) -> None:
    """A plan for people: run by run, or summed up by mix where they are too many to read."""
    from assay.launch.status import EACH

    for arm in made.sweep.arms:
        if arm.about:
            console.print(f"{arm.name}: {arm.about}", markup=False)
    if made.sweep.arms:
        console.print()
    console.print(_runs(made) if len(made.runs) <= EACH else _by_mix(made))
    counts = {status: len(made.of(status)) for status in COLOURS}  # type: ignore[arg-type]  # its keys are the statuses
    console.print("\n" + ", ".join(f"{number} {status}" for status, number in counts.items() if number))
    cost = made.cost
    if cost.runs:
        time_left = (
            f"{duration(cost.wall_seconds)} ({duration(cost.worker_seconds)} of workers; {cost.basis})"
            if cost.wall_seconds is not None
            else f"unknown time: {cost.basis}; `assay doctor` measures this machine"
        )
        disk = f", {size(cost.disk_bytes)} of disk" if cost.disk_bytes else ""
        console.print(f"cost: {amount(cost.tokens)} tokens, {time_left}{disk}")
    for warning in made.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False)


def _runs(made: Plan) -> Table:
    from rich.text import Text

    run_column = Column("run", overflow="fold", min_width=min(32, max(len(run.label) for run in made.runs)))
    table = Table(
        run_column,
        Column("fingerprint", no_wrap=True),
        "status",
        Column("why", overflow="fold"),
        box=None,
        pad_edge=False,
    )
    told: tuple[str, tuple[str, ...]] | None = None
    for run in made.runs:
        short = (run.fingerprint or "-")[:12]
        why = Text("; ".join(run.reasons) if (run.mix, run.reasons) != told else '"')
        told = (run.mix, run.reasons)
        table.add_row(run.label, short, Text(run.status, style=COLOURS[run.status]), why)
    return table


def _by_mix(made: Plan) -> Table:
    from rich.text import Text

    table = Table(
        Column("mix", overflow="fold"),
        Column("runs", justify="right"),
        "status",
        Column("why", overflow="fold"),
        box=None,
        pad_edge=False,
    )
    groups = Counter((run.mix, run.status, run.reasons) for run in made.runs)
    for (mix, status, reasons), runs in groups.items():
        table.add_row(mix, f"{runs:,}", Text(status, style=COLOURS[status]), Text("; ".join(reasons)))
    return table


def submit(overrides: Overrides = None, *, retry_failed: RetryFailed = False, as_json: AsJson = False) -> None:
    """Start what a sweep still needs, and return. Submitting again sends only what is missing."""
    space = workspace(overrides)
    imports.require_history(space)
    missing = space.unmeasured()
    if missing:  # the jobs make corpora by themselves, but for those that weights and so identities depend on
        with progress_bars(quiet=as_json) as tell:
            space.prepare(missing, progress=tell)
    _send(space, space.plan(retry_failed=retry_failed), overrides, as_json=as_json)


def retry(
    overrides: Overrides = None,
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Those that failed or diverged.")] = False,
    cancelled: Annotated[bool, typer.Option("--cancelled", help="Those that were called off.")] = False,
    mix: MixOption = None,
    as_json: AsJson = False,
) -> None:
    """Send runs again that had ended without a result, and nothing else of the sweep. They go on from their checkpoints."""
    if not failed and not cancelled:
        raise AssayError("retry: which runs?", fix="Add --failed, --cancelled, or both.")
    space = workspace(overrides)
    states = ({"failed", "diverged"} if failed else set()) | ({"cancelled"} if cancelled else set())
    made = space.plan(retry_failed=failed)
    chosen = {
        run.fingerprint
        for run in made.of("todo")
        if run.fingerprint and (mix is None or run.mix == mix)
        if space.store.run(run.fingerprint).status().state in states
    }
    if not chosen:
        console.print(f"no run of {made.sweep.name} is {' or '.join(sorted(states))}: nothing to retry", markup=False)
        return
    _send(space, made, overrides, as_json=as_json, only=chosen)


def _send(
    space: Workspace,
    made: Plan,
    overrides: Overrides,
    *,
    as_json: bool,
    only: set[str] | None = None,
) -> None:
    """Submit a plan, or some of its runs, and say what was sent where."""
    from assay.launch.submission import submit as send

    def warn(text: str) -> None:
        errors.print(f"warning: {text}", style="yellow", markup=False)

    sent = send(space, made, only=only, tell=warn)
    if as_json:
        print_json(
            {**plan_mapping(made), "submission": sent.id if sent else None, "sent": len(sent.runs) if sent else 0}
        )
    else:
        print_plan(made)
        if sent is not None:
            where = count(sent.workers, "job" if sent.executor == "slurm" else "worker")
            of = f" of SLURM ({sent.cluster})" if sent.executor == "slurm" else ""
            console.print(f"sent {count(len(sent.runs), 'run')} to {where}{of}; see them with:", markup=False)
            console.print(f"  {program()} status {shlex.join(overrides or ())} --watch", markup=False, soft_wrap=True)
            if sent.executor == "slurm":
                page = space.store.reports / f"{sent.sweep}.html"
                console.print("the last job judges the sweep; the page will be:", markup=False)
                console.print(f"  {page}", markup=False, soft_wrap=True)
        elif made.of("todo"):
            console.print("nothing to send: what was submitted before has all of it")
        else:
            console.print("nothing to send" + ("" if made.complete else ": see the reasons above"))
    if made.of("refused") and not made.of("todo") and not made.of("running"):
        raise typer.Exit(4)


def status(
    overrides: Overrides = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds until nothing runs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show where each run of a sweep stands: progress, how its loss falls, speed, time left, failures by cause."""
    from assay.launch.render import render
    from assay.launch.status import overview

    space = workspace(overrides)
    plan = space.outline()
    if watch and not as_json:
        follow(space, plan)
        return
    now = overview(space.store, plan, now=time.time())
    if as_json:
        print_json(now.to_mapping())
    else:
        console.print(render(now, arguments=shlex.join(overrides or ())))


def follow(space: Workspace, plan: Plan) -> None:
    """Show a sweep's progress until nothing runs."""
    from rich.live import Live

    from assay.launch.render import render
    from assay.launch.status import overview

    seen = overview(space.store, plan, now=time.time())
    with Live(render(seen), console=console, auto_refresh=False) as live:
        while seen.active:
            time.sleep(2)
            seen = overview(space.store, plan, now=time.time())
            live.update(render(seen), refresh=True)


def logs(
    run: Annotated[str, typer.Argument(help="The first digits of a run's fingerprint.")],
    overrides: Overrides = None,
    *,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many lines, from the end.")] = 60,
    as_json: AsJson = False,
) -> None:
    """Print the end of what a run's process printed."""
    from assay.launch.logs import log_of
    from assay.tails import last_lines

    path = log_of(workspace(overrides).store, run)
    if as_json:
        print_json({"log": path, "lines": last_lines(path, lines)})
        return
    errors.print(str(path), markup=False, style="dim", soft_wrap=True)
    console.print("\n".join(last_lines(path, lines)), markup=False, soft_wrap=True)


def cancel(overrides: Overrides = None, *, mix: MixOption = None, as_json: AsJson = False) -> None:
    """Stop a sweep's workers. What is finished is kept; submitting again goes on from the last checkpoints."""
    from assay.launch.cancel import cancel as stop

    space = workspace(overrides)
    done = stop(space.store, space.study.require_sweep().name, mix=mix)
    if as_json:
        print_json(vars(done))
        return
    parts = {
        "stopped": done.stopped,
        "kept, for they had ended": done.kept,
        "still held": done.still_running,
        "told to stop on other machines": done.elsewhere,
    }
    lines = [f"{what}: {len(names)} ({', '.join(names)})" for what, names in parts.items() if names]
    console.print("\n".join(lines) or "nothing was running", markup=False)


def why(
    left: Annotated[str, typer.Argument(help="The first digits of a fingerprint.")],
    right: Annotated[str, typer.Argument(help="Those of another.")],
    overrides: Overrides = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Explain which inputs make two runs differ."""
    from assay.fingerprint import differences

    space = workspace(overrides)
    specs = [_spec_of(space, prefix) for prefix in (left, right)]
    found = differences(specs[0].identity, specs[1].identity)
    if as_json:
        print_json([d._asdict() for d in found])
        return
    if not found:
        console.print("the same run")
        return
    from rich.text import Text

    table = Table("input", specs[0].short, specs[1].short, box=None, pad_edge=False)
    for difference in found:
        table.add_row(Text(difference.path), Text(str(difference.left)), Text(str(difference.right)))
    console.print(table)


def _spec_of(space: Workspace, prefix: str) -> Any:
    """The spec of a run in the store, or of one that the sweep plans."""
    if space.study.sweep is not None:
        for run in space.plan().runs:
            if run.spec is not None and run.spec.fingerprint.startswith(prefix):
                return run.spec
    return space.store.find(prefix).spec()
