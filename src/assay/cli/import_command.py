"""`assay import`: import external results. Also define arguments and plans of commands that use such results."""

from __future__ import annotations

import datetime
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.arguments import AsJson, Overrides, load_workspace
from assay.cli.command_group import add_command, make_group
from assay.cli.console import console, errors, print_json
from assay.cli.progress import progress_bars, spinner
from assay.core.errors import ConfigError
from assay.report.formatting import count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from assay.analysis.external.reading import ReadResults
    from assay.analysis.external.stored_results import Origin
    from assay.analysis.external.table import ExternalTable
    from assay.analysis.external.verdict import ExternalVerdict
    from assay.plan.workspace import Workspace

WANDB = "wandb://"
_OVERRIDE = re.compile(r"[+~]*[A-Za-z_][\w./@]*=")
ABOUT = """Import results of other tools, to decide on these results or to use them as history (`history=NAME`).

The default command is `add`.
"""
STATES = {
    "imported": "imported",
    "replaced": "imported; the previous results of this name were replaced",
}


class Unit(StrEnum):
    """Unit of metrics between 0 and 1."""

    FRACTION = "fraction"
    PERCENT = "percent"


ResultsName = Annotated[
    str, typer.Argument(metavar="RESULTS", help="Name of imported results, or path of a CSV or Parquet file.")
]
Baseline = Annotated[str, typer.Option("--baseline", help="Mix that the other mixes are compared with.")]
Candidate = Annotated[
    str | None, typer.Option("--candidate", help="Evaluate only this candidate (default: all candidates).")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = make_group(ABOUT, first="assay import team.csv", second="assay import list")
    add_command(
        group,
        add,
        "add",
        first="assay import add team.csv --name team --force",
        second="assay import wandb://team/mixes --field mix=recipe.name --name wandb_runs",
    )
    add_command(group, list_imports, "list", first="assay import list", second="assay import list --json")
    app.add_typer(group, name="import", rich_help_panel="Decide")


def add(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT|OVERRIDE",
            help="CSV, Parquet or lm-eval JSON files, folders or globs, or wandb://ENTITY/PROJECT, and Hydra overrides.",
            show_default=False,
        ),
    ] = None,
    *,
    name: Annotated[str | None, typer.Option("--name", help="Name of the results (default: the file's name).")] = None,
    mix: Annotated[str | None, typer.Option("--mix", help="Mix of rows without a mix.")] = None,
    seed: Annotated[str | None, typer.Option("--seed", help="Seed of rows without a seed.")] = None,
    scale: Annotated[
        str | None, typer.Option("--scale", help="Scale (model size) of rows without a scale, such as 150M or 1B.")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option("--tokens", help="Training tokens of rows without a token count.")
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            "--pattern",
            help=r"Regular expression with a named group per label, applied to paths: '(?P<mix>[^/]+)/s(?P<seed>\d+)/'.",
        ),
    ] = None,
    unit: Annotated[
        Unit | None,
        typer.Option(
            "--unit",
            help="Unit of accuracies and similar metrics in files without a column `unit`: fraction (0 to 1) or percent (0 to"
            " 100).",
        ),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option("--field", help="Map a label to a W&B config key, such as mix=recipe.name. Repeatable."),
    ] = None,
    wide: Annotated[
        bool,
        typer.Option(
            "--wide",
            help="Require tables with one column per score or source weight (default: detected; a table with none of the"
            " columns task, metric and value is wide).",
        ),
    ] = False,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            help="State the kind of a column of a wide table, or of all columns that match a pattern: mix, seed, scale, tokens,"
            " weight, skip or TASK/METRIC, such as 'train_*=weight'. Repeatable.",
        ),
    ] = None,
    prefix: Annotated[str, typer.Option("--prefix", help="Prefix of the names of scores in W&B.")] = "eval/",
    force: Annotated[bool, typer.Option("--force", help="Replace existing results of the same name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Import result files, folders or a W&B project."""
    paths, overrides = _split_inputs(inputs or ())
    space = load_workspace(overrides, needs_project=False)
    if not paths:
        raise ConfigError(
            "import: no input was given; expected at least one.",
            fix="Pass files, folders or wandb://ENTITY/PROJECT. To list the imported results, use `assay import list`.",
        )
    labels = {"mix": mix, "seed": seed, "scale": scale, "tokens": tokens, "unit": unit and str(unit)}
    with progress_bars(quiet=as_json) as report:
        if any(path.startswith(WANDB) for path in paths):
            table, origins, source = _from_wandb(paths, labels, field or (), prefix, report)
            weights = None
        else:
            result = _from_files(paths, labels, pattern, report, columns=column or (), wide=wide)
            table, source, weights = result
            origins = [str(Path(path).expanduser().absolute()) for path in paths]
    from assay.analysis.external import stored_results

    put = stored_results.put(
        space.store, name or _default_name(paths), table, origins=origins, source=source, force=force,
        now=datetime.datetime.now(datetime.UTC), weights=weights,
    )  # fmt: skip
    if as_json:
        print_json({"state": put.state, **vars(put.origin), "notes": list(table.notes)})
        return
    _print_notes(table.notes)
    outcome = STATES.get(put.state, f"already imported on {put.origin.when}, and unchanged; nothing was done")
    console.print(f"{put.origin.name}: {outcome}", markup=False, soft_wrap=True)
    console.print(f"  {_content(put.origin)}", markup=False, soft_wrap=True)


def _split_inputs(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split arguments into inputs and Hydra overrides: `paths.store=/big` is an override unless a file has that name."""
    overrides = [word for word in arguments if _OVERRIDE.match(word) and not Path(word).exists()]
    return [word for word in arguments if word not in overrides], overrides


def _from_files(
    paths: Sequence[str],
    labels: dict[str, str | None],
    pattern: str | None,
    report: Callable[[str, float], None],
    *,
    columns: Sequence[str],
    wide: bool,
) -> ReadResults:
    from assay.analysis.external import reading

    given = reading.RunLabels.parse(labels, pattern, columns=columns, wide_table=wide)
    return reading.read(reading.find(paths), given, progress=report)


def _from_wandb(
    urls: Sequence[str],
    labels: dict[str, str | None],
    fields: Sequence[str],
    prefix: str,
    report: Callable[[str, float], None],
) -> tuple[ExternalTable, list[str], str]:
    import pandas as pd

    from assay.analysis.external import table, wandb
    from assay.analysis.external.wandb_api import finished_runs
    from assay.analysis.stats.units import UNIT

    keys, known = wandb.parse_fields(fields), {key: value for key, value in labels.items() if value is not None}
    parts, notes = [], list[str]()
    for url in urls:
        project = url.removeprefix(WANDB).strip("/")
        if not url.startswith(WANDB) or project.count("/") != 1:
            raise ConfigError(
                f"{url!r} is invalid; expected one W&B project and no file.",
                fix="Write wandb://ENTITY/PROJECT, and import files separately.",
            )
        runs = finished_runs(project, progress=lambda fraction, url=url: report(url, fraction))  # type: ignore[misc]
        rows, left_out = wandb.rows_of(runs, project=project, fields=keys, prefix=prefix, given=known)
        unit = {key: value for key, value in known.items() if key == UNIT}
        parts.append(table.checked(pd.DataFrame(rows), file=url, given=unit, first=None, finite=False))
        notes += left_out
    result = table.assemble(parts, notes)
    return result, list(urls), result.digest


def _default_name(paths: Sequence[str]) -> str:
    first = paths[0].removeprefix(WANDB).rstrip("/").rpartition("/")[2] or Path(paths[0]).resolve().name
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", first.split(".")[0] or first).strip("_.-") or "results"


def _content(origin: Origin) -> str:
    weights = f", weights of {count(len(origin.sources), 'source')}" if origin.sources else ""
    return (
        f"{count(origin.rows, 'row')}: {count(len(origin.mixes), 'mix', 'mixes')}, {count(origin.seeds, 'seed')}, "
        f"{', '.join(origin.scales)}, {count(len(origin.tasks), 'task')}{weights}"
    )


def _print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        errors.print(f"note: {note}", style="yellow", markup=False)


def list_imports(overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """List the imported results of the store."""
    from assay.analysis.external.stored_results import listed

    origins = listed(load_workspace(overrides, needs_project=False).store)
    if as_json:
        print_json([vars(origin) for origin in origins])
        return
    if not origins:
        console.print("nothing was imported yet: `assay import FILE --name NAME`")
        return
    from rich.text import Text

    for origin in origins:
        where = origin.origins[0] + (f" and {len(origin.origins) - 1} more" if len(origin.origins) > 1 else "")
        console.print(Text(origin.name, style="bold"))
        console.print(Text(f"  {_content(origin)}"))
        console.print(Text(f"  {origin.when[:16].replace('T', ' ')}, from {where}", style="dim", overflow="fold"))


# --- external results in other commands


def external_workspace(overrides: Sequence[str] | None, results: str) -> Workspace:
    """Compose the study whose policy decides on external results. The study has no sweep.

    Raises:
        AssayError: a sweep is named.
    """
    space = load_workspace(overrides, needs_project=False)
    if space.study.sweep is not None:
        raise ConfigError(
            f"{results}: external results do not belong to sweep={space.study.sweep.name}.",
            fix="Leave out sweep=NAME. To use the results as a sweep's history, add history=NAME to a command of the sweep.",
        )
    return space


def external_verdict(
    overrides: Sequence[str] | None, results: str, baseline: str, candidate: str | None, *, quiet: bool
) -> ExternalVerdict:
    """Return the verdict on external results, and print its notes."""
    from assay.analysis.external.verdict import decide

    space = external_workspace(overrides, results)
    with spinner("comparing", quiet=quiet):
        outcome = decide(space.study, space.store, name=results, baseline=baseline, candidate=candidate)
    _print_notes(outcome.notes)
    return outcome


def require_history(space: Workspace) -> None:
    """Refuse a study whose history is missing, before training starts."""
    from assay.analysis.external.verdict import require_history as require

    require(space.study, space.store)


def plan_results(
    overrides: Sequence[str] | None, results: str, baseline: str, candidate: str | None, *, as_json: bool
) -> None:
    """Print the seeds, missing scores and smallest detectable effect of external results.

    The history of each candidate is that of `assay gate results`: all other mixes, and also the other candidates.
    """
    from assay.analysis.design_power import detectable_in_table
    from assay.analysis.excluded_scores import list_excluded_scores
    from assay.analysis.external.selection import coverage
    from assay.analysis.external.verdict import chosen, history
    from assay.analysis.stats.results_table import ResultsTable
    from assay.cli import plan_power
    from assay.report.reason_text import text

    space = external_workspace(overrides, results)
    with spinner("reading the results", quiet=as_json):
        selected = chosen(space.study, space.store, name=results, baseline=baseline, candidate=candidate)
        covers = coverage(selected, baseline=baseline)
        past = history(space.study, space.store)
        pairs = _history_pairs(past, selected, baseline)
        seeds_shared = min((n for cover in covers for n in cover.shared.values()), default=0)
        table = ResultsTable.of(selected.frame)
        scores = table.scores_at(selected.policy.proxy_scale)
        excluded = {name: list_excluded_scores(scores, baseline, name, known={}) for name in selected.candidates}
        arms = (baseline, selected.candidates[0])
        policy = selected.policy.for_candidates(selected.n_candidates)
        effects = detectable_in_table(table.frame, policy, n_seeds=seeds_shared, past=past, arms=arms)
    if as_json:
        detectable = plan_power.to_mapping(effects, policy)
        candidates = [vars(cover) | {"excluded": excluded[cover.candidate]} for cover in covers]
        notes = list(selected.notes)
        print_json({"results": results, "notes": notes, "candidates": candidates, **pairs, "detectable": detectable})
        return
    _print_notes(selected.notes)
    for cover in covers:
        seeds = ", ".join(f"{mix} {count(len(present), 'seed')}" for mix, present in cover.seeds.items())
        console.print(f"{cover.candidate} against {cover.baseline} at {cover.scale}: {seeds}", markup=False)
        complete = "Nothing is missing: `assay gate results` with the same arguments reaches a verdict."
        for sentence in cover.missing or (complete,):
            console.print(f"  - {sentence}", markup=False)
        for reason in excluded[cover.candidate]:
            console.print(f"  - {text(reason)}", markup=False)
    console.print(str(pairs["history"]), markup=False)
    plan_power.show(effects, policy)


def _history_pairs(past: Any, selected: Any, baseline: str) -> dict[str, Any]:
    """Count the mixes that the history has at the proxy and with the target's metric at the target; describe the count.

    A verdict excludes its two compared mixes from the history. The count is the smallest of all candidates.
    """
    from assay.analysis.stats.tables import scale_key, scale_keys

    target = selected.policy.target
    if past is None or target is None:
        lacks = "no history is named (history=NAME)" if past is None else "the policy has no target"
        return {"pairs": 0, "history": f"The verdict will be about the proxy only: {lacks}."}
    proxy, keys = str(selected.frame["scale"].iloc[0]), scale_keys(past["scale"])
    scored = (past["task"] == target.task) & (past["metric"] == target.metric) & (keys == scale_key(target.scale))
    both = set(past.loc[keys == scale_key(proxy), "mix"].astype(str)) & set(past.loc[scored, "mix"].astype(str))
    pairs = min(len(both - {baseline, candidate}) for candidate in selected.candidates)
    return {
        "pairs": pairs,
        "history": f"The history has {count(pairs, 'other mix', 'other mixes')} at both {proxy} and {target.scale}.",
    }
