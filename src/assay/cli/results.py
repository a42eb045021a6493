"""`assay compare`, `gate`, `report`, `sync`: what came out, what is decided, and who sees it."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.common import AsJson, Overrides, console, errors, print_json, progress_bars, workspace

if TYPE_CHECKING:
    from assay.gate import SweepVerdict
    from assay.plan import Plan
    from assay.publish.report import Report
    from assay.workspace import Workspace

Candidate = Annotated[str | None, typer.Option("--candidate", help="Judge only this candidate of the sweep.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (compare, gate, report, sync):
        app.command()(command)


def judge(space: Workspace, plan: Plan, *, candidate: str | None = None) -> SweepVerdict:
    """The verdict on a sweep, from what its store has."""
    from assay.gate import gate as decide
    from assay.results import collect

    sweep = plan.sweep
    if candidate is not None:
        sweep.check_candidate(candidate)
    results = collect(space.store, plan)
    return decide(
        results.scores,
        space.study.policy,
        baseline=sweep.baseline,
        candidates=sweep.candidates if candidate is None else [candidate],
        items=results.items,
        missing=results.missing,
        blocked=_blocked(space, sweep.baseline),
    )


def _blocked(space: Workspace, baseline: str) -> dict[str, list[str]]:
    """Reasons why a mix may not be judged: it, or what it is compared with, has a source that is not cleared."""
    sources = space.study.sources

    def refusals(mix: str) -> list[str]:
        return [reason for name in space.mix(mix).weights if (reason := sources[name].refusal) is not None]

    shared = [f"baseline {baseline}: {reason}" for reason in refusals(baseline)]
    found = {mix: [*refusals(mix), *shared] for mix in space.study.require_sweep().candidates}
    return {mix: reasons for mix, reasons in found.items() if reasons}


def make_report(space: Workspace, plan: Plan, verdict: SweepVerdict | None) -> Report:
    """All that is shown of a sweep."""
    from assay.publish.collect import read_runs, versions
    from assay.publish.report import make_report as build

    return build(
        sweep=plan.sweep,
        plan=plan,
        mixes={name: space.mix(name) for name in plan.sweep.mixes},
        sources=space.study.sources,
        tokens=space.tokens,
        budget=space.budget,
        runs=read_runs(
            space.store, [run.fingerprint for run in plan.runs if run.fingerprint], evaluation=plan.evaluation
        ),
        verdict=verdict,
        evaluation=space.evaluation if plan.evaluation else None,
        policy=space.study.policy,
        made=datetime.datetime.now(datetime.UTC),
        versions=versions(),
    )


def compare(overrides: Overrides = None, *, candidate: Candidate = None, as_json: AsJson = False) -> None:
    """Compare candidates with the baseline on every metric: effects with intervals; nothing is decided."""
    space = workspace(overrides)
    verdict = judge(space, space.plan(), candidate=candidate)
    if as_json:
        print_json({"candidates": {name: v["comparisons"] for name, v in verdict.to_mapping()["candidates"].items()}})
        return
    from assay.publish.terminal import comparisons_view

    for name, judged in verdict.candidates.items():
        console.print(f"{name} against {verdict.baseline}", markup=False)
        console.print(comparisons_view(judged.comparisons))


def gate(
    overrides: Overrides = None,
    *,
    candidate: Candidate = None,
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown for a pull request.")] = False,
) -> None:
    """Accept or reject the recipe change. Exits 0 ACCEPT, 1 REJECT, 3 INCONCLUSIVE, 4 BLOCKED, 2 on an error.

    Of several candidates the worst verdict counts: 0 says that every one of them may be merged.
    """
    from assay.gate import EXIT_CODES

    space = workspace(overrides)
    plan = space.plan()
    verdict = judge(space, plan, candidate=candidate)
    if as_json:
        print_json({"sweep": plan.sweep.name, **verdict.to_mapping()})
    elif markdown:
        from assay.publish.markdown import render

        typer.echo(render(make_report(space, plan, verdict)))
    else:
        from assay.publish.terminal import verdict_view

        console.print(verdict_view(verdict))
    raise typer.Exit(EXIT_CODES[verdict.decision])


def report(
    overrides: Overrides = None,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="The HTML file; left out, store/reports/SWEEP.html.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the sweep's page: one self-contained HTML file."""
    space = workspace(overrides)
    path = write_page(space, out=out)
    if as_json:
        print_json({"page": path, "bytes": path.stat().st_size})
    else:
        console.print(str(path), markup=False, soft_wrap=True)


def write_page(space: Workspace, *, out: Path | None = None) -> Path:
    """Write a sweep's page, whatever is finished by now."""
    from assay.files import write_text
    from assay.publish.page import render

    plan = space.plan()
    verdict = judge(space, plan)
    path = out or space.store.reports / f"{plan.sweep.name}.html"
    write_text(path, render(make_report(space, plan, verdict)))
    return path


def sync(overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """Bring W&B up to date with the store: a run for each run of the sweep, and one for its verdict."""
    space = workspace(overrides)
    done = publish(space, quiet=as_json)
    if as_json:
        print_json(done)
        return
    console.print(
        f"{done['published']} published to W&B ({done['mode']}): {done['folder']}", markup=False, soft_wrap=True
    )
    for problem in done["problems"]:
        errors.print(f"W&B: {problem}", markup=False)


def publish(space: Workspace, *, quiet: bool) -> dict[str, Any]:
    """Publish every finished run of a sweep, and its verdict, to W&B; what is there and the same is left alone."""
    from assay.publish.tracking import publish_run, publish_verdict, session

    plan, settings, told = space.plan(), space.study.tracking, []
    if settings.mode == "disabled":
        return {"published": 0, "mode": "disabled", "folder": None, "problems": []}
    finished = plan.of("reuse")
    with progress_bars(quiet=quiet) as tell, session(space.store):
        for i, run in enumerate(finished):
            assert run.fingerprint is not None
            record = space.store.run(run.fingerprint)
            told.append(
                publish_run(space.store, record, sweep=plan.sweep.name, evaluation=plan.evaluation, settings=settings)
            )
            tell("W&B", (i + 1) / (len(finished) + 1))
        if finished:
            report = make_report(space, plan, judge(space, plan))
            told.append(publish_verdict(space.store, report, settings=settings))
        tell("W&B", 1.0)
    problems = [one.problem for one in told if one is not None and one.problem]
    published = sum(one is not None and one.folder is not None for one in told)
    return {"published": published, "mode": settings.mode, "folder": space.store.wandb, "problems": problems}
