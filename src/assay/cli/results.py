"""`assay compare`, `gate`, `report`, `sync`: what came out, what is decided, and who sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from assay import conclude
from assay.cli import effects, imports, since
from assay.cli.common import AsJson, Overrides, console, errors, print_json, progress_bars, workspace
from assay.errors import AssayError
from assay.references import ReferenceScore, comparable

if TYPE_CHECKING:
    from assay.conclude import Synced
    from assay.curves import Matches
    from assay.gate import SweepVerdict

Candidate = Annotated[str | None, typer.Option("--candidate", help="Judge only this candidate of the sweep.")]

PolicyNow = Annotated[
    bool,
    typer.Option(
        "--policy-now",
        help="Judge by policy and suite as they are configured now, not as they were registered; the verdict says so.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (compare, gate, report, sync):
        app.command()(command)


def compare(
    overrides: Overrides = None,
    *,
    candidate: Candidate = None,
    results: imports.Results = None,
    baseline: imports.Baseline = None,
    policy_now: PolicyNow = False,
    tokens_to_match: Annotated[
        bool,
        typer.Option("--tokens-to-match", help="Also how many tokens of each arm are worth the other's, by source."),
    ] = False,
    by: effects.By = None,
    ranks: effects.WithRanks = False,
    as_json: AsJson = False,
) -> None:
    """Compare candidates with the baseline on every metric: effects with intervals; nothing is decided."""
    from assay.curves import match
    from assay.roots import references

    published, matches, more = list[ReferenceScore](), None, effects.NOTHING
    if results is not None:
        effects.refuse(by, ranks=ranks)
        if tokens_to_match:
            raise AssayError("imported results have no curves by tokens.", fix="Leave out --tokens-to-match.")
        _, (verdict, _) = imports.judged(overrides, results, baseline, candidate)
    else:
        imports.refuse_baseline(baseline)
        case = conclude.before_the_gate(workspace(overrides), present=policy_now)
        space, plan, standing = case
        verdict = conclude.judge(space, plan, candidate=candidate, standing=standing)
        more = effects.asked(case, verdict, by, ranks=ranks)
        published = comparable(references(), space.study.suite.tasks, means(verdict))
        matches = match(space.store, plan, candidate=candidate) if tokens_to_match else None
    if as_json:
        found = {name: v["comparisons"] for name, v in verdict.to_mapping()["candidates"].items()}
        registration = verdict.registration.to_mapping() if verdict.registration else None
        beside = {**_beside_mapping(published, matches), **more.to_mapping()}
        missing = {mix: list(why) for mix, why in verdict.missing.items()}
        print_json({"candidates": found, "registration": registration, "missing": missing, **beside})
        return
    from assay.publish.beside import matches_view, references_view
    from assay.publish.terminal import comparisons_view, missing_view, registration_view

    if verdict.registration is not None:
        console.print(registration_view(verdict.registration))
    if verdict.missing:
        console.print(missing_view(verdict.missing))
    for name, judged in verdict.candidates.items() if by is None else ():
        console.print(f"{name} against {judged.baseline}", markup=False)
        console.print(comparisons_view(judged.comparisons))
    for view in effects.views(more):
        console.print(view)
    if published:
        console.print(references_view(published, means(verdict)))
    if matches is not None:
        console.print(matches_view(matches))


def means(verdict: SweepVerdict) -> dict[tuple[str, str], float]:
    """The baseline's mean scores by task and metric."""
    every = (c for one in verdict.candidates.values() for c in one.comparisons if c.baseline == verdict.baseline)
    return {(c.task, c.metric): c.baseline_mean for c in every}


def _beside_mapping(published: Sequence[ReferenceScore], matches: Matches | None) -> dict[str, Any]:
    """Reference scores and tokens to match as plain values, where there are any."""
    plain: dict[str, Any] = {
        "reference_models": [
            {
                "model": score.model.name,
                "parameters": score.model.parameters,
                "tokens": score.model.tokens,
                "task": score.task,
                "metric": score.metric,
                "value": score.value,
                "source": score.model.source,
            }
            for score in published
        ]
    }
    if matches is not None:
        plain["tokens_to_match"] = [one.to_mapping() for one in matches.found]
        plain["notes"] = list(matches.notes)
    return plain


def gate(
    overrides: Overrides = None,
    *,
    candidate: Candidate = None,
    results: imports.Results = None,
    baseline: imports.Baseline = None,
    policy_now: PolicyNow = False,
    revision: since.Since = None,
    allow_inconclusive: since.AllowInconclusive = False,
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown for a pull request.")] = False,
) -> None:
    """Accept or reject the recipe change. Exits 0 ACCEPT, 1 REJECT, 3 INCONCLUSIVE, 4 BLOCKED, 2 on an error.

    Of several candidates the worst verdict counts: 0 says that every one of them may be merged. A sweep is judged by the
    policy and the suite that it was first submitted with. With --since the sweeps of the mixes that a branch changes are judged, and Markdown is printed.
    """
    from assay.gate import EXIT_CODES

    since.refuse_mixed(revision, others=[results, baseline, candidate], allow_inconclusive=allow_inconclusive)
    if revision is not None:
        since.review(overrides, revision, allow_inconclusive=allow_inconclusive, as_json=as_json)
    if results is not None:
        _gate_results(overrides, results, baseline, candidate, as_json=as_json, markdown=markdown)
    imports.refuse_baseline(baseline)
    space, plan, standing = conclude.before_the_gate(workspace(overrides), present=policy_now)
    verdict = conclude.judge(space, plan, candidate=candidate, standing=standing)
    if as_json:
        print_json(conclude.verdict_mapping(plan, verdict))
    elif markdown:
        from assay.publish.markdown import render

        typer.echo(render(conclude.make_report(space, plan, verdict)), nl=False)
    else:
        from assay.publish.terminal import verdict_view

        console.print(verdict_view(verdict))
    raise typer.Exit(EXIT_CODES[verdict.decision])


def _gate_results(
    overrides: Overrides, results: str, baseline: str | None, candidate: str | None, *, as_json: bool, markdown: bool
) -> NoReturn:
    _, (verdict, notes) = imports.judged(overrides, results, baseline, candidate)
    if as_json:
        print_json({"results": results, "notes": list(notes), **verdict.to_mapping()})
    elif markdown:
        from assay.publish.review import imported

        typer.echo(imported(verdict, results=results, notes=notes), nl=False)
    else:
        from assay.publish.terminal import verdict_view

        console.print(verdict_view(verdict))
    raise typer.Exit(verdict.exit_code)


def report(
    overrides: Overrides = None,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="The HTML file; left out, store/reports/SWEEP.html.")
    ] = None,
    policy_now: PolicyNow = False,
    as_json: AsJson = False,
) -> None:
    """Write the sweep's page: one self-contained HTML file."""
    space, plan, standing = conclude.before_the_gate(workspace(overrides), present=policy_now)
    shown = conclude.make_report(space, plan, conclude.judge(space, plan, standing=standing))
    path = conclude.write_page(shown, out or space.store.reports / f"{plan.sweep.name}.html")
    if as_json:
        print_json({"page": path, "bytes": path.stat().st_size})
    else:
        console.print(str(path), markup=False, soft_wrap=True)


def sync(
    overrides: Overrides = None,
    *,
    send: Annotated[
        bool, typer.Option("--send", help="Send to the server, whatever tracking.mode says; needs `wandb login`.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Tell W&B what it was told before, too.")] = False,
    views: Annotated[
        bool, typer.Option("--report", help="Also save the sweep's report and workspace; needs `wandb login`.")
    ] = False,
    policy_now: PolicyNow = False,
    as_json: AsJson = False,
) -> None:
    """Bring W&B up to date with the store: runs, evaluations, comparisons, the verdict, and what they came from.

    What W&B has is left alone, so that it may be called again at any time. Without a server it is written to disk.
    Exits with 2 where something could not be told.
    """
    asked = [*(overrides or ()), *(["tracking.mode=online"] if send else [])]
    space, plan, standing = conclude.before_the_gate(workspace(asked), present=policy_now)
    shown = conclude.make_report(space, plan, conclude.judge(space, plan, standing=standing))
    with progress_bars(quiet=as_json) as tell:
        done = conclude.publish(space, shown, again=again, progress=tell)
        saved = views and not done.missing  # what W&B did not take of the runs it would not take of the report
        made = conclude.publish_views(space, shown, save=saved, progress=tell) if done.folder or views else {}
    if as_json:
        print_json({**vars(done), "views": made})
    else:
        _say_synced(done, made, saved=saved)
    if done.problems:
        raise typer.Exit(2)


def _say_synced(done: Synced, made: Mapping[str, Any], *, saved: bool) -> None:
    console.print(f"{done.published} published to W&B ({done.mode}): {done.folder}", markup=False, soft_wrap=True)
    for name, where in made.items():
        console.print(f"{name}: {where}", markup=False, soft_wrap=True)
    if made and not saved:
        console.print("Only written: `assay sync --report` saves the report and the workspace to W&B.", markup=False)
    if done.mode == "offline":
        console.print("Only written: `assay sync --send` sends it from where W&B can be reached.", markup=False)
    for problem in done.problems:
        errors.print(f"W&B: {problem}", markup=False)
    if done.missing:
        total = done.missing + done.published
        errors.print(
            f"{done.missing} of {total} runs are not there yet. The store has them: call this again.", markup=False
        )
