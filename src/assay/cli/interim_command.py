"""`assay interim`: interim analyses of candidates, and whether the candidates may stop early."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.arguments import AsJson, Current, Overrides, load_sweep, print_selection, selection_mapping
from assay.cli.command_group import add_command, make_group
from assay.cli.console import console, print_json
from assay.cli.gate_command import PolicyNow
from assay.cli.import_command import Baseline, Candidate, ResultsName, external_workspace
from assay.cli.progress import spinner
from assay.core.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from assay.analysis.early_stopping import InterimResult
    from assay.launch.early_stopping import Stopped

ABOUT = """Test whether a candidate is already better or worse during training, and may stop early.

The default command is `sweep`. `results` analyzes external results with several checkpoints per run.
"""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = make_group(
        ABOUT, first="assay interim sweep=first", second="assay interim results team.csv --baseline today"
    )
    add_command(
        group,
        interim_sweep,
        "sweep",
        first="assay interim sweep=first --json",
        second="assay interim sweep sweep=first policy.early_stopping.stop=losers --policy-now --cancel",
    )
    add_command(
        group,
        interim_results,
        "results",
        first="assay interim results team.csv --baseline today",
        second="assay interim results team.csv --baseline today --budget 2e6 --json",
    )
    app.add_typer(group, name="interim", rich_help_panel="Decide")


def interim_sweep(
    overrides: Overrides = None,
    *,
    candidate: Candidate = None,
    cancel: Annotated[
        bool,
        typer.Option("--cancel", help="Cancel the runs of candidates that the policy allows to stop early."),
    ] = False,
    policy_now: PolicyNow = False,
    current: Current = False,
    as_json: AsJson = False,
) -> None:
    """Analyze the intermediate checkpoints of a sweep's candidates. Alpha spending corrects for repeated analyses.

    The command gives no verdict, and exits with 0. `assay gate` decides by the final scores, or by the interim analysis
    that stopped a candidate.
    """
    from assay.analysis.verdict import register_selection
    from assay.launch.early_stopping import analyze_candidates, stop_early

    with spinner("comparing", quiet=as_json):
        selected = load_sweep(overrides, current=current)
        space, plan, _ = register_selection(selected, present=policy_now)
        if cancel and selected.other_runs:
            raise Refused(
                "--cancel: the current configuration has other runs than the submitted sweep.",
                fix="Remove --current, or remove --cancel.",
            )
        if cancel and space.study.policy.early_stopping.stop == "none":
            raise Refused(
                "--cancel: the policy stops no candidate early; expected `early_stopping.stop: losers` or `both`.",
                fix="Set `early_stopping: {stop: losers}` in the policy before you submit the runs.",
            )
        analyses = analyze_candidates(space, plan, candidate=candidate)
        stopped = stop_early(space, plan, analyses) if cancel else []
    if not as_json:
        print_selection(selected)
    _show(analyses, stopped, as_json=as_json, extra={"submission": selection_mapping(selected)})


def interim_results(
    results: ResultsName,
    overrides: Overrides = None,
    *,
    baseline: Baseline,
    candidate: Candidate = None,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget", help="Token budget of a complete run (default: the largest token count of the baseline)."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Analyze external results that have scores at several token counts per run."""
    from assay.analysis.external.early_stopping import analyze_candidates

    space = external_workspace(overrides, results)
    with spinner("comparing", quiet=as_json):
        analyses = analyze_candidates(
            space.study, space.store, name=results, baseline=baseline, candidate=candidate, budget=budget
        )
    _show(analyses, [], as_json=as_json)


def _show(
    analyses: Sequence[InterimResult],
    stopped: Sequence[Stopped],
    *,
    as_json: bool,
    extra: Mapping[str, Any] | None = None,
) -> None:
    from assay.report.reason_text import to_json

    if as_json:
        cancelled = {stop.stop.candidate: vars(stop.cancelled) for stop in stopped}
        candidates = {look.candidate: to_json(look) for look in analyses}
        print_json({"candidates": candidates, "cancelled": cancelled, **(extra or {})})
        return
    from assay.report.terminal.early_stopping import interim_view

    console.print(interim_view(analyses))
    for stop in stopped:
        runs = stop.cancelled
        running = f"; still running: {', '.join(runs.still_running)}" if runs.still_running else ""
        console.print(f"cancelled: {', '.join(runs.stopped) or 'nothing'}{running}", markup=False)
