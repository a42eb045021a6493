"""`assay suite check`: which metrics of a suite distinguish mixes at this proxy, and which tasks to drop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.arguments import AsJson, Overrides, load_workspace
from assay.cli.command_group import add_command, make_group
from assay.cli.console import console, print_json
from assay.cli.progress import spinner

if TYPE_CHECKING:
    from assay.analysis.suite_evidence import CheckedSuite
    from assay.plan.workspace import Workspace


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    first, second = "assay suite check sweep=first", "assay suite check --results team.csv --json"
    group = make_group("Check evaluation suites.", first=first, second=second, default=False)
    add_command(group, check, "check", first=first, second=second)
    app.add_typer(group, name="suite", rich_help_panel="Decide")


def check(
    overrides: Overrides = None,
    *,
    results: Annotated[
        str | None,
        typer.Option("--results", help="Name of imported results, or path of a file (default: the store's runs)."),
    ] = None,
    parts: Annotated[
        bool, typer.Option("--parts", help="Also rank the parts of tasks, such as MMLU's subjects.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Rank a suite's metrics by how well they distinguish mixes at the selected proxy, and list tasks to drop.

    The ranking uses the store's runs of the selected proxy and budget, and the results of history=NAME. With --results, the
    ranking uses only the given results.
    """
    from assay.analysis.stats.suite_check import droppable
    from assay.analysis.suite_evidence import check_store, check_table, without_parts
    from assay.report.reason_text import to_json

    with spinner("checking the suite", quiet=as_json):
        space = load_workspace(overrides)
        checked = check_store(space) if results is None else check_table(space, results)
        if not parts:
            checked = checked._replace(metrics=without_parts(space, checked.metrics, every=results is not None))
        drop = droppable(checked.metrics)
    if as_json:
        print_json(
            {
                "suite": space.study.suite.name,
                "of": checked.of,
                "seeds": space.study.policy.min_seeds,
                "evaluate_seconds": checked.seconds,
                "metrics": to_json(checked.metrics),
                "drop": drop,
            }
        )
        return
    _show(space, checked, drop)


def _show(space: Workspace, checked: CheckedSuite, drop: dict[str, str]) -> None:
    from rich.table import Column, Table
    from rich.text import Text

    from assay.config.metrics import is_loss

    table = Table(
        Column("task and metric", overflow="fold"),
        Column("signal", no_wrap=True),
        Column("chance", no_wrap=True),
        Column("signal/noise (90%)", no_wrap=True),
        Column("tokens", no_wrap=True, justify="right"),
        Column("ranks", no_wrap=True, justify="right"),
        box=None,
        pad_edge=False,
    )
    colors = {"ok": "green", "no signal": "red", "unknown": "yellow"}
    for checked_metric in checked.metrics:
        ratio, rises = checked_metric.worth
        table.add_row(
            Text(f"{checked_metric.task} {checked_metric.metric}"),
            Text(checked_metric.overall.state, style=colors[checked_metric.overall.state]),
            {"ok": "above", "no signal": "at", "unknown": "?"}[checked_metric.above.state]
            if not is_loss(checked_metric.metric)
            else "-",
            f"{ratio.value:.2f} ({ratio.low:.2f}-{ratio.high:.2f})" if ratio else "-",
            f"{rises.rho:+.2f}" if rises else "-",
            f"{checked_metric.accuracy.accuracy:.0%}" if checked_metric.accuracy else "-",
        )
    console.print(table)
    console.print(f"\nof {checked.of}", markup=False)
    console.print(
        "signal/noise: SD between mixes over SD between replicates; tokens: rank correlation of score and tokens;"
        " ranks: fraction of pairs ranked as at the target",
        style="dim",
    )
    if checked.seconds is not None:
        console.print(
            f"the evaluation takes {checked.seconds:.0f} s per run; the time per task is not measured", style="dim"
        )
    named = set(space.study.policy.voting_tasks)
    for task, why in drop.items():
        also = f" (policy {space.study.policy.name} names it)" if task in named else ""
        console.print(f"drop {task}{also}: {why}", style="yellow", markup=False)
    if not drop:
        console.print("nothing to drop: every task has a metric that may be informative")
