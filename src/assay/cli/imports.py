"""`assay import`, and the judgement of what was imported: `--results` of compare, gate and plan."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.common import AsJson, console, errors, print_json, progress_bars, workspace
from assay.errors import AssayError
from assay.publish.words import count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from assay.imports.judge import Judged
    from assay.imports.shelf import Origin
    from assay.imports.table import Table as Rows
    from assay.workspace import Workspace

WANDB = "wandb://"
_OVERRIDE = re.compile(r"[+~]*[A-Za-z_][\w./@]*=")

Results = Annotated[
    str | None, typer.Option("--results", help="Judge imported results: an import's name, or a long table's file.")
]
Baseline = Annotated[str | None, typer.Option("--baseline", help="With --results: the mix to measure against.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("import")(import_results)


def import_results(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="CSV, Parquet, lm-eval's JSON; folders and globs of them; wandb://ENTITY/PROJECT; Hydra overrides.",
            show_default=False,
        ),
    ] = None,
    *,
    name: Annotated[
        str | None, typer.Option("--name", help="What it is called here; left out, the file's name.")
    ] = None,
    mix: Annotated[str | None, typer.Option("--mix", help="The mix, where the files do not say it.")] = None,
    seed: Annotated[str | None, typer.Option("--seed", help="The seed, likewise.")] = None,
    scale: Annotated[str | None, typer.Option("--scale", help="The model's size, likewise: 150M, 1B.")] = None,
    tokens: Annotated[str | None, typer.Option("--tokens", help="The tokens it was trained on, likewise.")] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            "--pattern",
            help=r"Regular expression with groups that finds them in a path: '(?P<mix>[^/]+)/s(?P<seed>\d+)/'.",
        ),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option("--field", help="W&B: where a label stands in a run's config, as mix=recipe.name."),
    ] = None,
    prefix: Annotated[str, typer.Option("--prefix", help="W&B: what the names of scores begin with.")] = "eval/",
    force: Annotated[bool, typer.Option("--force", help="Take the place of other results of that name.")] = False,
    show: Annotated[bool, typer.Option("--list", help="List what was imported, and import nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring in results from elsewhere, to judge them or to serve as history: see `--results` and `history=`."""
    given, overrides = _split(sources or ())
    space = workspace(overrides)
    if show:
        _list(space, as_json=as_json)
        return
    if not given:
        raise AssayError(
            "import: of what?", fix="Name files, folders or wandb://ENTITY/PROJECT; --list shows what is there."
        )
    labels = {"mix": mix, "seed": seed, "scale": scale, "tokens": tokens}
    with progress_bars(quiet=as_json) as tell:
        if any(one.startswith(WANDB) for one in given):
            table, origins, source = _from_wandb(given, labels, field or (), prefix, tell)
        else:
            table, origins, source = _from_files(given, labels, pattern, tell)
    from assay.imports import shelf

    put = shelf.put(
        space.store, name or _default_name(given), table, origins=origins, source=source, force=force,
        now=datetime.datetime.now(datetime.UTC),
    )  # fmt: skip
    if as_json:
        print_json({"state": put.state, **vars(put.origin), "notes": list(table.notes)})
        return
    for note in table.notes:
        errors.print(f"note: {note}", style="yellow", markup=False)
    told = {
        "imported": "imported",
        "replaced": "imported in the place of what was there",
        "unchanged": f"was imported before ({put.origin.when}) and is the same: nothing was done",
    }
    console.print(f"{put.origin.name}: {told[put.state]}", markup=False, soft_wrap=True)
    console.print(f"  {_content(put.origin)}", markup=False, soft_wrap=True)


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """What to import, and Hydra's overrides: `paths.store=/big` is one unless there is a file called so."""
    overrides = [one for one in arguments if _OVERRIDE.match(one) and not Path(one).exists()]
    return [one for one in arguments if one not in overrides], overrides


def _from_files(
    given: Sequence[str], labels: dict[str, str | None], pattern: str | None, tell: Callable[[str, float], None]
) -> tuple[Rows, list[str], str]:
    from assay.imports import read

    known = read.Given.parse(labels, pattern)
    found = read.read(read.find(given), known, progress=tell)
    return found.table, [str(Path(one).expanduser().absolute()) for one in given], found.source


def _from_wandb(
    given: Sequence[str],
    labels: dict[str, str | None],
    fields: Sequence[str],
    prefix: str,
    tell: Callable[[str, float], None],
) -> tuple[Rows, list[str], str]:
    import pandas as pd

    from assay.imports import table, tracked
    from assay.publish.wandb_runs import finished_runs

    places, told = tracked.parse_fields(fields), {key: value for key, value in labels.items() if value is not None}
    parts, notes = [], list[str]()
    for url in given:
        project = url.removeprefix(WANDB).strip("/")
        if not url.startswith(WANDB) or project.count("/") != 1:
            raise AssayError(
                f"{url!r} is not a project of W&B.", fix="Write wandb://ENTITY/PROJECT, and import files apart."
            )
        runs = finished_runs(project, progress=lambda share, url=url: tell(url, share))  # type: ignore[misc]
        rows, left_out = tracked.rows_of(runs, project=project, fields=places, prefix=prefix, given=told)
        parts.append(table.checked(pd.DataFrame(rows), file=url, given={}, first=None))
        notes += left_out
    made = table.assemble(parts, notes)
    return made, list(given), made.digest


def _default_name(given: Sequence[str]) -> str:
    first = given[0].removeprefix(WANDB).rstrip("/").rpartition("/")[2] or Path(given[0]).resolve().name
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", first.split(".")[0] or first).strip("_.-") or "results"


def _content(origin: Origin) -> str:
    return (
        f"{count(origin.rows, 'row')}: {count(len(origin.mixes), 'mix', 'mixes')}, {count(origin.seeds, 'seed')}, "
        f"{', '.join(origin.scales)}, {count(len(origin.tasks), 'task')}"
    )


def _list(space: Workspace, *, as_json: bool) -> None:
    from assay.imports.shelf import listed

    found = listed(space.store)
    if as_json:
        print_json([vars(origin) for origin in found])
        return
    if not found:
        console.print("nothing was imported yet: `assay import FILE --name NAME`")
        return
    from rich.text import Text

    for origin in found:
        where = origin.origins[0] + (f" and {len(origin.origins) - 1} more" if len(origin.origins) > 1 else "")
        console.print(Text(origin.name, style="bold"))
        console.print(Text(f"  {_content(origin)}"))
        console.print(Text(f"  {origin.when[:16].replace('T', ' ')}, from {where}", style="dim", overflow="fold"))


# --- judging


def judged(
    overrides: Sequence[str] | None, results: str, baseline: str | None, candidate: str | None
) -> tuple[Workspace, Judged]:
    """The verdict on imported results, and the study whose policy judged them."""
    from assay.imports.judge import judge

    space = imported_space(overrides, results, baseline)
    assert baseline is not None, "imported_space refuses a missing one"
    found = judge(space.study, space.store, name=results, baseline=baseline, candidate=candidate)
    for note in found.notes:
        errors.print(f"note: {note}", style="yellow", markup=False)
    return space, found


def refuse_baseline(baseline: str | None) -> None:
    """A sweep names its own.

    Raises:
        AssayError: `--baseline` was given without `--results`.
    """
    if baseline is not None:
        raise AssayError(
            "--baseline goes with --results: a sweep names its own.", fix="Set sweep.baseline=MIX instead."
        )


def require_history(space: Workspace) -> None:
    """Refuse a history that is not there, before anything is trained for a verdict that needs it."""
    from assay.imports.judge import require_history as require

    require(space.study, space.store)


def plan(overrides: Sequence[str] | None, results: str, baseline: str | None, *, as_json: bool) -> None:
    """Print what a verdict on imported results has and what it lacks."""
    from assay.cli import foresee
    from assay.imports.judge import chosen, history
    from assay.imports.selection import coverage

    space = imported_space(overrides, results, baseline)
    assert baseline is not None, "imported_space refuses a missing one"
    found = chosen(space.study, space.store, name=results, baseline=baseline, candidate=None)
    covers = [coverage(found, baseline=baseline, candidate=one) for one in found.candidates]
    past = history(space.study, space.store)
    pairs = _pairs(past, found)
    seeds_shared = min((n for one in covers for n in one.shared.values()), default=0)
    finds = foresee.of_table(found.frame, found.policy, n_seeds=seeds_shared, past=past)
    if as_json:
        detectable = foresee.to_mapping(finds, found.policy)
        print_json({"results": results, "candidates": [vars(one) for one in covers], **pairs, "detectable": detectable})
        return
    for one in covers:
        seeds = ", ".join(f"{mix} {count(len(there), 'seed')}" for mix, there in one.seeds.items())
        console.print(f"{one.candidate} against {one.baseline} at {one.scale}: {seeds}", markup=False)
        for sentence in one.missing or ("Nothing is missing: `assay gate` with the same arguments judges it.",):
            console.print(f"  - {sentence}", markup=False)
    console.print(str(pairs["history"]), markup=False)
    foresee.show(finds, found.policy)


def _pairs(past: Any, found: Any) -> dict[str, Any]:
    """How many mixes the history has at both scales of the policy, and that in words."""
    target = found.policy.target
    if past is None or target is None:
        lacks = "no history is named (history=NAME)" if past is None else "the policy has no target"
        return {"pairs": 0, "history": f"The verdict will be about the proxy only: {lacks}."}
    proxy = str(found.frame["scale"].iloc[0])
    at = {scale: set(past[past["scale"] == scale]["mix"]) for scale in (proxy, target.scale)}
    both = (at[proxy] & at[target.scale]) - set(found.frame["mix"])
    return {
        "pairs": len(both),
        "history": f"The history has {count(len(both), 'other mix', 'other mixes')} at both {proxy} and {target.scale}.",
    }


def imported_space(overrides: Sequence[str] | None, results: str, baseline: str | None) -> Workspace:
    """The study whose policy judges imported results, which has no sweep.

    Raises:
        AssayError: a sweep is named, or no baseline.
    """
    space = workspace(overrides)
    if space.study.sweep is not None:
        raise AssayError(
            f"--results {results} and sweep={space.study.sweep.name}: which of the two?",
            fix="Judge imported results without a sweep; as a sweep's history, name them with history=NAME.",
        )
    if baseline is None:
        raise AssayError(f"--results {results}: measured against what?", fix="Name the baseline with --baseline MIX.")
    return space
