"""`assay gate`: the verdict on a sweep, on the changes of a git branch, or on external results."""

from __future__ import annotations

from typing import Annotated

import typer

from assay.analysis.verdict import decide_sweep, register_selection
from assay.cli.arguments import AsJson, Current, Overrides, load_sweep
from assay.cli.command_group import add_command, make_group
from assay.cli.console import console, errors, print_json
from assay.cli.import_command import Baseline, Candidate, ResultsName, external_verdict
from assay.cli.progress import progress_bars, spinner
from assay.report.publish import make_report

INCONCLUSIVE = 3
ABOUT = """Accept or reject the recipe change. Exits with 0 ACCEPT, 1 REJECT, 3 INCONCLUSIVE, 4 BLOCKED, 2 on an error.

The default command is `sweep`. `branch` evaluates the sweeps that a git branch changes. `results` evaluates external results.
"""

PolicyNow = Annotated[
    bool,
    typer.Option(
        "--policy-now",
        help="Use the current policy and suite instead of the registered ones. The verdict records this choice.",
    ),
]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print the verdict as Markdown, for a pull request.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = make_group(ABOUT, first="assay gate sweep=first", second="assay gate branch origin/main")
    add_command(
        group,
        gate_sweep,
        "sweep",
        first="assay gate sweep=first --markdown",
        second="assay gate sweep sweep=first --candidate more_code --json",
    )
    add_command(
        group,
        gate_branch,
        "branch",
        first="assay gate branch origin/main",
        second="assay gate branch HEAD~1 sweep=first --allow-inconclusive",
    )
    add_command(
        group,
        gate_results,
        "results",
        first="assay gate results team.csv --baseline today",
        second="assay gate results team.csv --baseline today --candidate more_code --json",
    )
    app.add_typer(group, name="gate", rich_help_panel="Decide")


def gate_sweep(
    overrides: Overrides = None,
    *,
    candidate: Candidate = None,
    policy_now: PolicyNow = False,
    current: Current = False,
    markdown: Markdown = False,
    as_json: AsJson = False,
) -> None:
    """Print the verdict on a sweep. Exits with 0 ACCEPT, 1 REJECT, 3 INCONCLUSIVE, 4 BLOCKED, 2 on an error.

    With several candidates, the worst verdict sets the exit code. The verdict uses the runs as submitted, and the policy and
    the suite that were registered at the sweep's first submission.
    """
    from assay.analysis.gate import EXIT_CODES

    with spinner("comparing", quiet=as_json):
        selected = load_sweep(overrides, current=current)
        space, plan, standing = register_selection(selected, present=policy_now)
        verdict = decide_sweep(space, plan, candidate=candidate, registration=standing)
    if as_json:
        from assay.report.publish import verdict_mapping

        print_json(verdict_mapping(plan, verdict))
    elif markdown:
        from assay.report.markdown import render

        typer.echo(render(make_report(space, plan, verdict)), nl=False)
    else:
        from assay.report.terminal.verdict import verdict_view

        console.print(verdict_view(verdict))
    raise typer.Exit(EXIT_CODES[verdict.decision])


def gate_branch(
    revision: Annotated[
        str, typer.Argument(metavar="REVISION", help="Git revision to compare the branch with, such as origin/main.")
    ],
    overrides: Overrides = None,
    *,
    allow_inconclusive: Annotated[
        bool,
        typer.Option(
            "--allow-inconclusive", help="Exit with 0 instead of 3 on INCONCLUSIVE, for example if runs are missing."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print, as Markdown, the verdicts on the mixes, sources and sweeps that a git branch changes.

    The worst verdict of the affected sweeps sets the exit code. With sweep=NAME, evaluate only that sweep.
    """
    from assay.report.branch_review import review_branch
    from assay.report.pull_request import render_branch
    from assay.report.reason_text import to_json

    with progress_bars(quiet=as_json) as report:
        review = review_branch(list(overrides or ()), revision, report)
    if review.uncommitted and not as_json:
        errors.print(
            f"note: the evaluation includes uncommitted files of the work tree: {', '.join(review.uncommitted)}",
            style="yellow", markup=False,
        )  # fmt: skip
    if as_json:
        print_json(to_json(review))
    else:
        typer.echo(render_branch(review), nl=False)
    raise typer.Exit(0 if allow_inconclusive and review.exit_code == INCONCLUSIVE else review.exit_code)


def gate_results(
    results: ResultsName,
    overrides: Overrides = None,
    *,
    baseline: Baseline,
    candidate: Candidate = None,
    markdown: Markdown = False,
    as_json: AsJson = False,
) -> None:
    """Print the verdict on external results, with the exit codes of `assay gate sweep`."""
    from assay.report.reason_text import to_json

    verdict, notes = external_verdict(overrides, results, baseline, candidate, quiet=as_json)
    if as_json:
        print_json({"results": results, "notes": list(notes), **to_json(verdict)})
    elif markdown:
        from assay.report.pull_request import render_external_verdict

        typer.echo(render_external_verdict(verdict, results=results, notes=notes), nl=False)
    else:
        from assay.report.terminal.verdict import verdict_view

        console.print(verdict_view(verdict))
    raise typer.Exit(verdict.exit_code)
