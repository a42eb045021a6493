"""The demonstration's course: texts, benchmarks, runs, verdict, page, each made once and reused after."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from assay.cli.common import console, errors, progress_bars
from assay.cli.runs import follow, print_plan
from assay.conclude import conclude, verdict_mapping
from assay.errors import AssayError
from assay.publish.words import duration

if TYPE_CHECKING:
    from assay.launch.status import SweepProgress
    from assay.plan import Plan
    from assay.workspace import Workspace

LINE_SECONDS = 15.0
"""Between two lines of progress where standard error is not a terminal."""


def run_demo(space: Workspace, *, audited: Workspace, quiet: bool) -> dict[str, Any]:
    """Take the demonstration from nothing to a verdict and a page, and then to what neither of them shows.

    The audit comes last, as it did where this happened: it finds what the crawl's extractor did to code after all was
    trained, and the verdict is BLOCKED.

    Args:
        space: the composed sweep; texts and benchmarks go to its `paths.data` and `paths.benchmarks`. What is known of its
            sources stops none of its runs.
        audited: the same, under the rule on findings that holds outside of the demonstration.
        quiet: whether to print nothing on the way.

    Returns:
        The verdict as plain values, the page's path, and names for what to try next.

    Raises:
        AssayError: a text or benchmark cannot be fetched, or a run failed.
    """
    from assay.cli.audit import look_at
    from assay.demo.texts import make_texts
    from assay.evaluate.mirror import make_mirror
    from assay.launch.submission import submit

    data = space.study.paths.resolve(space.study.paths.data)
    mirror = space.mirror or data / "benchmarks"
    _say(quiet, "[bold]1/5[/] real text and real benchmarks")
    with progress_bars(quiet=quiet) as tell:
        make_texts(data, progress=tell)
        make_mirror(mirror, packages=data / "packages", progress=tell)
    _say(quiet, "[bold]2/5[/] tokenizer and corpora")
    with progress_bars(quiet=quiet) as tell:
        space.prepare(progress=tell)
    plan = space.plan()
    if not plan.complete:
        _say(quiet, f"[bold]3/5[/] {len(plan.of('todo'))} runs, trained and scored")
        if not quiet:
            print_plan(plan)
        if plan.of("todo"):
            submit(space, plan)
        _wait(space, plan, quiet=quiet)
        plan = space.plan()
    else:
        _say(quiet, f"[bold]3/5[/] all {len(plan.runs)} runs are there, trained and scored")
    if not plan.complete:
        lacking = "; ".join(f"{run.label}: {', '.join(run.reasons)}" for run in plan.runs if run.status != "reuse")
        raise AssayError(f"the sweep is not complete: {lacking}", fix="`assay status` has the reasons; run it again.")
    _say(quiet, "[bold]4/5[/] verdict, page, W&B")
    with progress_bars(quiet=quiet) as tell:
        concluded = conclude(space, plan, progress=tell)
    if not quiet:
        from assay.publish.terminal import verdict_view

        console.print(verdict_view(concluded.verdict))
    _say(quiet, "[bold]5/5[/] what the charts do not show: an audit of the text")
    findings = look_at(space, {name: space.source(name) for name in space.sources}, quiet=quiet)
    sweep, plan = plan.sweep, audited.plan()
    tainted = {taint.sentence for mix in sweep.mixes for taint in audited.tainted(mix)}
    if tainted:
        concluded = conclude(audited, plan)
    if not quiet:
        for sentence in sorted(tainted):
            console.print(f"[bold red]found[/] {escape(sentence)}.", highlight=False)
        console.print(f"The verdict is {concluded.verdict.decision}: the figures stay, and say nothing of clean code.")
    return {
        "findings": [finding.as_json() for _, found in findings.values() for finding in found if not finding.isolated],
        **verdict_mapping(plan, concluded.verdict),
        "page": str(concluded.page.resolve()),
        "wandb": vars(concluded.wandb),
        "baseline": sweep.baseline,
        "candidate": sweep.candidates[0],
    }


def _say(quiet: bool, text: str) -> None:  # noqa: FBT001  # one caller, one meaning
    if not quiet:
        errors.print(text)


def _wait(space: Workspace, plan: Plan, *, quiet: bool) -> None:
    if errors.is_terminal and not quiet:
        follow(space, plan)
        return
    from assay.launch.status import overview

    told = 0.0
    while (seen := overview(space.store, plan, now=time.time())).active:
        if not quiet and time.monotonic() - told >= LINE_SECONDS:
            errors.print(_line(seen), markup=False)
            told = time.monotonic()
        time.sleep(1)


def _line(seen: SweepProgress) -> str:
    counts = ", ".join(f"{count} {state}" for state, count in sorted(seen.counts.items()))
    left = f", {'at least ' if seen.at_least else ''}{duration(seen.seconds_left)} left" if seen.seconds_left else ""
    return f"{counts}; {seen.tokens_per_second:,.0f} tokens/s{left}"
