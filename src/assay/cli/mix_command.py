"""`assay mix show` and `assay mix diff`: the weights, tokens and epochs of mixes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from assay.cli.arguments import AsJson, Overrides, load_workspace
from assay.cli.command_group import add_command, make_group
from assay.cli.completion import complete_mix
from assay.cli.console import console, print_json
from assay.cli.progress import spinner
from assay.report.formatting import amount

if TYPE_CHECKING:
    from assay.config.mixes import Mix
    from assay.plan.workspace import Workspace


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    first, second = "assay mix show more_code", "assay mix diff today more_code sweep=first"
    group = make_group("Show and compare mixes.", first=first, second=second, default=False)
    add_command(group, show, "show", first=first, second="assay mix show more_code sweep=first --json")
    add_command(group, diff, "diff", first=second, second="assay mix diff today more_code --json")
    app.add_typer(group, name="mix", rich_help_panel="Mixes")


def show(
    name: Annotated[str, typer.Argument(metavar="MIX", help="Name of the mix.", autocompletion=complete_mix)],
    overrides: Overrides = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show the weights, tokens and epochs of a mix, and the weights after each of its edits."""
    with spinner("reading the sources", quiet=as_json):
        space = load_workspace(overrides)
        mix = space.mixes.resolve(name)
        rows = describe(space, mix)
    if as_json:
        steps = [{"edit": step.edit, "weights": step.weights} for step in mix.steps]
        print_json(
            {"mix": name, "budget": space.runs.budget, "max_epochs": mix.max_epochs, "sources": rows, "steps": steps}
        )
        return
    if mix.description:
        console.print(mix.description, markup=False)
    _print_rows(rows, space.runs.budget)
    if len(mix.steps) > 1:
        console.print("\nweights after each edit")
        console.print(_steps_table(mix))


def diff(
    left: Annotated[str, typer.Argument(metavar="BEFORE", help="Name of the first mix.", autocompletion=complete_mix)],
    right: Annotated[str, typer.Argument(metavar="AFTER", help="Name of the second mix.", autocompletion=complete_mix)],
    overrides: Overrides = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Compare two mixes: weights, tokens, epochs, license and clearance side by side."""
    with spinner("reading the sources", quiet=as_json):
        space = load_workspace(overrides)
        a, b = (describe(space, space.mixes.resolve(name)) for name in (left, right))
    if as_json:
        print_json({"budget": space.runs.budget, left: a, right: b})
        return
    before, after = ({row["source"]: row for row in rows} for rows in (a, b))
    console.print(f"before: {left}\nafter:  {right}", markup=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("source", no_wrap=True)
    for heading in ("before", "after", "change", "tokens", "epochs"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("license", overflow="fold")
    table.add_column("clearance", no_wrap=True)
    for source in sorted({*before, *after}):
        old, new = before.get(source, {}), after.get(source, {})
        change = new.get("weight", 0.0) - old.get("weight", 0.0)
        color = "green" if change > 1e-12 else "red" if change < -1e-12 else "dim"
        table.add_row(
            source,
            f"{old.get('weight', 0.0):.4f}",
            f"{new.get('weight', 0.0):.4f}",
            f"[{color}]{change:+.4f}[/]",
            _change(amount(old.get("tokens", 0)), amount(new.get("tokens", 0))),
            _change(_epochs(old), _epochs(new)),
            (new or old)["license"] or "-",
            (new or old)["clearance"],
        )
    console.print(table)


def describe(space: Workspace, mix: Mix) -> list[dict[str, Any]]:
    """Return weight, tokens, epochs and clearance of each source of a mix under the study's budget."""
    from assay.config.mixes import epochs

    available = (
        space.runs.available(mix.name, mix.weights) if space.study.sweep or space.study.tokenizer.sources else {}
    )
    weights = (
        space.mixes.weights(mix.name, space.runs.budget, budget=space.runs.budget)
        if mix.max_epochs is None or set(mix.weights) <= set(available)
        else mix.weights
    )
    repeats = epochs(weights, space.runs.budget, available)
    return [
        {
            "source": name,
            "weight": weight,
            "declared": mix.weights[name],
            "tokens": round(weight * space.runs.budget),
            "epochs": repeats.get(name),
            "available": available.get(name),
            "domain": space.study.sources[name].domain,
            "license": space.study.sources[name].license,
            "clearance": space.sources.clearance(name),
        }
        for name, weight in weights.items()
    ]


def _print_rows(rows: Sequence[dict[str, Any]], budget: int) -> None:
    table = Table("source", box=None, pad_edge=False)
    for heading in ("weight", "tokens", "epochs"):
        table.add_column(heading, justify="right")
    for heading in ("domain", "license", "clearance"):
        table.add_column(heading)
    for row in rows:
        capped = "" if abs(row["weight"] - row["declared"]) < 1e-9 else " *"
        weight = f"{row['weight']:.4f}{capped}"
        clearance = row["clearance"] if row["clearance"] == "cleared" else f"[red]{row['clearance']}[/]"
        table.add_row(
            row["source"], weight, amount(row["tokens"]), _epochs(row), row["domain"], row["license"] or "-", clearance
        )
    table.add_section()
    table.add_row("sum", f"{sum(row['weight'] for row in rows):.4f}", amount(budget), "", "", "", "")
    console.print(table)
    if any(abs(row["weight"] - row["declared"]) >= 1e-9 for row in rows):
        console.print("* changed by max_epochs: capped, or raised by what a cap freed")


def _change(before: str, after: str) -> str:
    return before if before == after else f"{before} > {after}"


def _epochs(row: dict[str, Any]) -> str:
    return "?" if row and row.get("epochs") is None else f"{row.get('epochs', 0) or 0:.2f}"


def _steps_table(mix: Mix) -> Table:
    names = sorted({name for step in mix.steps for name in step.weights})
    table = Table("edit", box=None, pad_edge=False)
    for name in names:
        table.add_column(name, justify="right", overflow="fold")
    before: dict[str, float] = {}
    for step in mix.steps:
        cells = []
        for name in names:
            now = step.weights.get(name, 0.0)
            changed = bool(before) and abs(now - before.get(name, 0.0)) > 1e-12
            cells.append(f"[bold]{now:.3f}[/]" if changed else f"{now:.3f}")
        table.add_row(step.edit, *cells)
        before = step.weights
    return table
