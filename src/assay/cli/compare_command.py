"""`assay compare`: effects of candidates on every metric, with intervals and without a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.analysis.verdict import decide_sweep, register_selection
from assay.cli import compare_breakdown
from assay.cli.arguments import AsJson, Current, Overrides, load_sweep, selection_mapping
from assay.cli.command_group import add_command, make_group
from assay.cli.console import console, print_json
from assay.cli.gate_command import PolicyNow
from assay.cli.import_command import Baseline, Candidate, ResultsName, external_verdict
from assay.cli.progress import spinner
from assay.config.references import ReferenceScore, comparable

if TYPE_CHECKING:
    from assay.analysis.gate import SweepVerdict
    from assay.analysis.tokens_to_match import Matches

ABOUT = """Compare candidates with the baseline on every metric. Print effects with confidence intervals, without a verdict.

The default command is `sweep`. `results` compares external results.
"""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = make_group(
        ABOUT, first="assay compare sweep=first", second="assay compare results team.csv --baseline today"
    )
    add_command(
        group,
        compare_sweep,
        "sweep",
        first="assay compare sweep=first --tokens-to-match",
        second="assay compare sweep sweep=first --by source --ranks",
    )
    add_command(
        group,
        compare_results,
        "results",
        first="assay compare results team.csv --baseline today",
        second="assay compare results team.csv --baseline today --json",
    )
    app.add_typer(group, name="compare", rich_help_panel="Decide")


def compare_sweep(
    overrides: Overrides = None,
    *,
    candidate: Candidate = None,
    policy_now: PolicyNow = False,
    current: Current = False,
    tokens_to_match: Annotated[
        bool,
        typer.Option(
            "--tokens-to-match",
            help="Print, for each source, the tokens that a candidate needs to reach the final loss of its control, and the"
            " reverse, as ratios to the tokens of the run.",
        ),
    ] = False,
    by: compare_breakdown.By = None,
    ranks: compare_breakdown.WithRanks = False,
    as_json: AsJson = False,
) -> None:
    """Compare the candidates of a sweep with its baseline on every metric."""
    from assay.analysis.tokens_to_match import match
    from assay.config.search_path import references

    with spinner("comparing", quiet=as_json):
        selected = load_sweep(overrides, current=current)
        case = register_selection(selected, present=policy_now)
        space, plan, standing = case
        verdict = decide_sweep(space, plan, candidate=candidate, registration=standing)
        extra = compare_breakdown.break_down(case, verdict, by, ranks=ranks)
        published = comparable(references(), space.study.suite.tasks, baseline_means(verdict))
        matches = match(space.store, plan, candidate=candidate) if tokens_to_match else None
    if as_json:
        more = {**_extra_mapping(published, matches), **extra.to_mapping(), "submission": selection_mapping(selected)}
        _print_comparisons_json(verdict, more)
        return
    from assay.report.terminal.extras import matches_view, references_view

    _print_comparisons(verdict, only_missing=by is not None)
    for view in compare_breakdown.views(extra):
        console.print(view)
    if published:
        console.print(references_view(published, baseline_means(verdict)))
    if matches is not None:
        console.print(matches_view(matches))


def compare_results(
    results: ResultsName,
    overrides: Overrides = None,
    *,
    baseline: Baseline,
    candidate: Candidate = None,
    as_json: AsJson = False,
) -> None:
    """Compare the mixes of external results with a baseline on every metric."""
    verdict, notes = external_verdict(overrides, results, baseline, candidate, quiet=as_json)
    if as_json:
        _print_comparisons_json(verdict, {**_extra_mapping([], None), "notes": list(notes)})
    else:
        _print_comparisons(verdict)


def _print_comparisons(verdict: SweepVerdict, *, only_missing: bool = False) -> None:
    from assay.report.terminal.verdict import comparisons_view, missing_view, registration_view

    if verdict.registration is not None:
        console.print(registration_view(verdict.registration))
    if verdict.missing:
        console.print(missing_view(verdict.missing))
    for name, candidate in verdict.candidates.items() if not only_missing else ():
        console.print(f"{name} against {candidate.baseline}", markup=False)
        console.print(comparisons_view(candidate.comparisons))


def _print_comparisons_json(verdict: SweepVerdict, extra: dict[str, Any]) -> None:
    from assay.report.reason_text import to_json

    candidates = {name: plain["comparisons"] for name, plain in to_json(verdict)["candidates"].items()}
    registration = to_json(verdict.registration)
    missing = {mix: list(why) for mix, why in verdict.missing.items()}
    print_json({"candidates": candidates, "registration": registration, "missing": missing, **extra})


def baseline_means(verdict: SweepVerdict) -> dict[tuple[str, str], float]:
    """Return the baseline's mean scores by task and metric."""
    candidates = verdict.candidates.values()
    comparisons = (c for candidate in candidates for c in candidate.comparisons if c.baseline == verdict.baseline)
    return {(c.task, c.metric): c.baseline_mean for c in comparisons}


def _extra_mapping(published: Sequence[ReferenceScore], matches: Matches | None) -> dict[str, Any]:
    """Return reference scores and tokens to match as plain values, if they exist."""
    from assay.report.reason_text import to_json

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
        plain["tokens_to_match"] = to_json(matches.found)
        plain["notes"] = list(matches.notes)
    return plain
