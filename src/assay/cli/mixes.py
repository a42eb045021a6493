"""`assay prepare`, `assay mix show`, `assay mix diff`: what a sweep is made of, and what a mix makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from assay.cli.common import AsJson, Overrides, console, print_json, progress_bars, workspace
from assay.publish.words import amount

if TYPE_CHECKING:
    from assay.mixes import Mix
    from assay.workspace import Workspace

mix_app = typer.Typer(help="Show and compare mixes.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(prepare)
    mix_app.command()(show)
    mix_app.command()(diff)
    app.add_typer(mix_app, name="mix")


def prepare(overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """Train the tokenizer and tokenise the sources of a sweep; what was made before is not made again."""
    space = workspace(overrides)
    with progress_bars(quiet=as_json) as tell:
        folders = space.prepare(progress=tell)
    rows: list[dict[str, Any]] = [
        {"source": name, "corpus": folders[name].name, "tokens": space.tokens[name]} for name in folders
    ]
    if as_json:
        print_json({"tokenizer": space.tokenizer_id, "corpora": rows})
        return
    table = Table("source", "corpus", box=None, pad_edge=False)
    table.add_column("tokens", justify="right")
    for row in rows:
        table.add_row(row["source"], row["corpus"][:12], amount(row["tokens"]))
    console.print(table)


def show(
    name: Annotated[str, typer.Argument(help="The mix.")], overrides: Overrides = None, *, as_json: AsJson = False
) -> None:
    """Show what a mix's declaration and every edit make of each weight, in tokens and epochs."""
    space = workspace(overrides)
    mix = space.mix(name)
    rows = describe(space, mix)
    if as_json:
        steps = [{"edit": step.edit, "weights": step.weights} for step in mix.steps]
        print_json({"mix": name, "budget": space.budget, "max_epochs": mix.max_epochs, "sources": rows, "steps": steps})
        return
    if mix.description:
        console.print(mix.description, markup=False)
    _print_rows(rows, space.budget)
    if len(mix.steps) > 1:
        console.print("\nhow it came about")
        console.print(_steps_table(mix))


def diff(
    left: Annotated[str, typer.Argument(help="A mix.")],
    right: Annotated[str, typer.Argument(help="Another.")],
    overrides: Overrides = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Compare two mixes: weights, tokens, epochs, licence and clearance side by side."""
    space = workspace(overrides)
    a, b = (describe(space, space.mix(name)) for name in (left, right))
    if as_json:
        print_json({"budget": space.budget, left: a, right: b})
        return
    before, after = ({row["source"]: row for row in rows} for rows in (a, b))
    console.print(f"before: {left}\nafter:  {right}", markup=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("source", no_wrap=True)
    for heading in ("before", "after", "change", "tokens", "epochs"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("licence", overflow="fold")
    table.add_column("clearance", no_wrap=True)
    for source in sorted({*before, *after}):
        old, new = before.get(source, {}), after.get(source, {})
        change = new.get("weight", 0.0) - old.get("weight", 0.0)
        colour = "green" if change > 1e-12 else "red" if change < -1e-12 else "dim"
        table.add_row(
            source,
            f"{old.get('weight', 0.0):.4f}",
            f"{new.get('weight', 0.0):.4f}",
            f"[{colour}]{change:+.4f}[/]",
            _change(amount(old.get("tokens", 0)), amount(new.get("tokens", 0))),
            _change(_epochs(old), _epochs(new)),
            (new or old)["licence"] or "-",
            (new or old)["clearance"],
        )
    console.print(table)


def describe(space: Workspace, mix: Mix) -> list[dict[str, Any]]:
    """A mix under the study's budget: weight, tokens and epochs of each source, and whether it may be used."""
    from assay.mixes import epochs

    known = space.available(mix.name, mix.weights) if space.study.sweep or space.study.tokenizer.sources else {}
    weights = (
        space.weights(mix.name, space.budget)
        if mix.max_epochs is None or set(mix.weights) <= set(known)
        else mix.weights
    )
    often = epochs(weights, space.budget, known)
    return [
        {
            "source": name,
            "weight": weight,
            "declared": mix.weights[name],
            "tokens": round(weight * space.budget),
            "epochs": often.get(name),
            "available": known.get(name),
            "domain": space.study.sources[name].domain,
            "licence": space.study.sources[name].licence,
            "clearance": space.study.sources[name].effective_clearance,
        }
        for name, weight in weights.items()
    ]


def _print_rows(rows: Sequence[dict[str, Any]], budget: int) -> None:
    table = Table("source", box=None, pad_edge=False)
    for heading in ("weight", "tokens", "epochs"):
        table.add_column(heading, justify="right")
    for heading in ("domain", "licence", "clearance"):
        table.add_column(heading)
    for row in rows:
        capped = "" if abs(row["weight"] - row["declared"]) < 1e-9 else " *"
        weight = f"{row['weight']:.4f}{capped}"
        clearance = row["clearance"] if row["clearance"] == "cleared" else f"[red]{row['clearance']}[/]"
        table.add_row(
            row["source"], weight, amount(row["tokens"]), _epochs(row), row["domain"], row["licence"] or "-", clearance
        )
    table.add_section()
    table.add_row("sum", f"{sum(row['weight'] for row in rows):.4f}", amount(budget), "", "", "", "")
    console.print(table)
    if any(abs(row["weight"] - row["declared"]) >= 1e-9 for row in rows):
        console.print("* held down, or raised in turn, by max_epochs")


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
