"""`assay demo`: make and reuse texts, benchmarks, runs, verdict and page of a first sweep."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape

from assay.cli.arguments import AsJson, Overrides, load_workspace, program
from assay.cli.command_group import add_command
from assay.cli.console import console, errors, print_json
from assay.cli.plan_command import print_plan
from assay.cli.progress import progress_bars
from assay.cli.sweep_command import follow
from assay.core.errors import Refused
from assay.report.formatting import duration
from assay.report.publish import conclude, verdict_mapping
from assay.report.reason_text import text, with_fix

if TYPE_CHECKING:
    from assay.launch.status import SweepProgress
    from assay.plan.plan import Plan
    from assay.plan.workspace import Workspace

LINE_SECONDS = 15.0
"""Seconds between two lines of progress if standard error is not a terminal."""


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    second = "assay demo sweep=code_replace --json"
    add_command(app, demo, "demo", panel="Project", first="assay demo", second=second)


def demo(overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """Fetch real text and benchmarks, train a first sweep on this machine, and print its verdict.

    A second call reuses text, benchmarks and runs, and takes seconds.
    """
    selected = list(overrides or ())
    if not any(override.startswith("sweep=") for override in selected):
        selected.insert(0, "sweep=code_replace")
    started = time.time()
    space = load_workspace(selected)
    if space.study.paths.mirror is None:  # no mirror yet, and the hub is not asked
        selected.append("paths.benchmarks=${paths.data}/benchmarks")
    space = load_workspace([*selected, "taint.severity=never"])
    result = run_demo(space, audited=load_workspace(selected), quiet=as_json)
    if as_json:
        print_json(result)
        return
    errors.print(f"took {duration(time.time() - started)}")
    _print_next_commands(result, space.study.require_sweep().name)


def _print_next_commands(result: dict[str, Any], sweep: str) -> None:
    console.print(f"\npage: {result['page']}", markup=False, soft_wrap=True)
    console.print("\ncommands to try next:")
    commands = (
        f"mix diff {result['baseline']} {result['candidate']} sweep={sweep}",
        f"gate sweep={sweep} --markdown",
        f"taint sweep={sweep}",
        f"audit repair code_cc --dry-run sweep={sweep}",
        f"plan sweep={sweep} proxy=1m budget.tokens=2e6",
    )
    for arguments in commands:
        console.print(f"  {program()} {arguments}", markup=False, soft_wrap=True)


def run_demo(space: Workspace, *, audited: Workspace, quiet: bool) -> dict[str, Any]:
    """Run the demonstration from texts to a verdict and a page, and audit the sources last.

    The audit comes last, as in the case that the demonstration follows. After training, the audit detects the damage
    that the crawl's extractor did to code, and the verdict becomes BLOCKED.

    Args:
        space: the composed sweep, whose runs no finding blocks. Texts and benchmarks go to its `paths.data` and
            `paths.benchmarks`.
        audited: the same sweep with the taint rule that applies outside of the demonstration.
        quiet: whether to print nothing.

    Returns:
        The verdict as plain values, the page's path, and the names for the next commands.

    Raises:
        AssayError: a text or benchmark cannot be fetched, or a run failed.
    """
    from assay.cli.audit_scan import scan_locally
    from assay.demo.benchmarks import make_mirror
    from assay.demo.texts import make_texts
    from assay.launch.submit import submit

    data = space.study.paths.resolve(space.study.paths.data)
    mirror = space.study.paths.mirror or data / "benchmarks"
    _print_step(quiet, "[bold]1/5[/] real text and real benchmarks")
    with progress_bars(quiet=quiet) as report:
        make_texts(data, progress=report)
        make_mirror(mirror, packages=data / "packages", progress=report)
    from assay.plan.prepare import prepare_corpora

    _print_step(quiet, "[bold]2/5[/] tokenizer and corpora")
    with progress_bars(quiet=quiet) as report:
        prepare_corpora(space.sources, space.mixes.prepared_sources, progress=report)
    plan = space.planner.plan()
    if not plan.complete:
        _print_step(quiet, f"[bold]3/5[/] {len(plan.of('todo'))} runs to train and score")
        if not quiet:
            print_plan(plan)
        if plan.of("todo"):
            # The demonstration may run again with other settings; nothing depends on its earlier runs.
            submit(space, plan, replace_runs=True, warn=lambda text: errors.print(f"warning: {text}", markup=False))
        _wait(space, plan, quiet=quiet)
        plan = space.planner.plan()
    else:
        _print_step(quiet, f"[bold]3/5[/] all {len(plan.runs)} runs are trained and scored")
    if not plan.complete:
        missing = "; ".join(
            f"{run.label}: {', '.join(map(with_fix, run.reasons))}" for run in plan.runs if run.status != "reuse"
        )
        raise Refused(
            f"the sweep is not complete: {missing}",
            fix="Read the reasons in `assay status`, then run `assay demo` again.",
        )
    _print_step(quiet, "[bold]4/5[/] verdict, page, W&B")
    with progress_bars(quiet=quiet) as report:
        concluded = conclude(space, plan, progress=report)
    if not quiet:
        from assay.report.terminal.verdict import verdict_view

        console.print(verdict_view(concluded.verdict))
    _print_step(quiet, "[bold]5/5[/] an audit of the text")
    findings = scan_locally(
        space, {name: space.sources.source(name) for name in space.mixes.sweep_sources}, quiet=quiet
    )
    sweep, plan = plan.sweep, audited.planner.plan()
    tainted = {text(taint) for mix in sweep.mixes for taint in audited.mixes.tainted(mix)}
    if tainted:
        concluded = conclude(audited, plan)
    if not quiet:
        for sentence in sorted(tainted):
            console.print(f"[bold red]finding[/] {escape(sentence)}.", highlight=False)
        console.print(f"The verdict is {concluded.verdict.decision}: the figures do not apply to clean code.")
    return {
        "findings": [
            finding.as_json() for _, listed in findings.values() for finding in listed if not finding.isolated
        ],
        **verdict_mapping(plan, concluded.verdict),
        "page": str(concluded.page.resolve()),
        "wandb": vars(concluded.wandb),
        "baseline": sweep.baseline,
        "candidate": sweep.candidates[0],
    }


def _print_step(quiet: bool, text: str) -> None:  # noqa: FBT001  # positional in every call
    if not quiet:
        errors.print(text)


def _wait(space: Workspace, plan: Plan, *, quiet: bool) -> None:
    if errors.is_terminal and not quiet:
        follow(space, plan)
        return
    from assay.launch.status import overview

    printed = 0.0
    while (progress := overview(space.store, plan, now=time.time())).active:
        if not quiet and time.monotonic() - printed >= LINE_SECONDS:
            errors.print(_progress_line(progress), markup=False)
            printed = time.monotonic()
        time.sleep(1)


def _progress_line(progress: SweepProgress) -> str:
    counts = ", ".join(f"{count} {state}" for state, count in sorted(progress.counts.items()))
    bound = "at least " if progress.at_least else ""
    left = f", {bound}{duration(progress.seconds_left)} left" if progress.seconds_left else ""
    return f"{counts}; {progress.tokens_per_second:,.0f} tokens/s{left}"
