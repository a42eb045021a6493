"""`assay suite check`: which metrics of a suite tell mixes apart at this proxy, and which tasks are not worth their time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from assay.cli.common import AsJson, Overrides, console, print_json, workspace
from assay.errors import AssayError
from assay.suite import VALIDATION

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from assay.stats.check import Checked
    from assay.workspace import Workspace

suite_app = typer.Typer(help="Look at suites.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    suite_app.command()(check)
    app.add_typer(suite_app, name="suite")


@suite_app.callback()
def _root() -> None:
    """A group with one command, which is still named."""


class _Found(NamedTuple):
    """What was looked at.

    Attributes:
        metrics: the most telling first.
        of: what they rest on, in words.
        seconds: of one run's evaluation; None where it was not measured.
    """

    metrics: list[Checked]
    of: str
    seconds: float | None


def check(
    overrides: Overrides = None,
    *,
    results: Annotated[
        str | None,
        typer.Option("--results", help="Look at imported results: an import's name, or a long table's file."),
    ] = None,
    parts: Annotated[bool, typer.Option("--parts", help="Also the parts of tasks, such as MMLU's subjects.")] = False,
    as_json: AsJson = False,
) -> None:
    """Rank a suite's metrics by what they say at this proxy, from the store's runs, history= and --results."""
    from assay.stats.check import droppable

    space = workspace(overrides)
    found = _of_store(space) if results is None else _Found(*_of_table(space, results), None)
    if not parts:
        found = found._replace(metrics=_whole(space, found.metrics, every=results is not None))
    drop = droppable(found.metrics)
    if as_json:
        print_json(
            {
                "suite": space.study.suite.name,
                "of": found.of,
                "seeds": space.study.policy.min_seeds,
                "evaluate_seconds": found.seconds,
                "metrics": [one.to_mapping() for one in found.metrics],
                "drop": drop,
            }
        )
        return
    _show(space, found, drop)


def _of_store(space: Workspace) -> _Found:
    """The store's runs of this proxy and budget; signal and ranking from the history where that has more mixes."""
    from assay.imports.judge import results as imported
    from assay.past import of_one_evaluation, past_runs, past_scores
    from assay.stats.check import check as look

    policy, history = space.study.policy, space.study.history
    evaluation = space.plan().evaluation if space.study.sweep is not None else ""
    runs = of_one_evaluation([one for one in past_runs(space, evaluation=evaluation) if one.alike], evaluation)
    if not runs and history is None:
        raise AssayError(
            f"the store has no finished run of proxy {space.study.proxy.name} with this budget and optimiser.",
            fix="Train a sweep of it, or name past results: history=NAME, or --results TABLE.",
        )
    mixes = len({one.run.mix for one in runs})
    of = [f"{len(runs)} runs of {mixes} mix{'es' * (mixes != 1)} in the store"] if runs else []
    scores = past_scores(runs, looks=True)
    found = look(scores, proxy_scale=space.parameters, n_seeds=policy.min_seeds) if runs else []
    if history is not None:
        past, told = _of_frame(space, imported(space.store, history, root=Path(space.study.paths.root)))
        found, of = _joined(found, past), [*of, f"history {history}: {told}"]
    return _Found(found, "; ".join(of), space.speed().evaluate_seconds)


def _joined(store: Sequence[Checked], past: Sequence[Checked]) -> list[Checked]:
    """One of each metric: what rests on more runs, with the ranking that only a history has."""
    from assay.stats.check import ordered

    best = {(one.task, one.metric): one for one in store}
    for one in past:
        mine = best.get((one.task, one.metric))
        if mine is None or one.n_runs > mine.n_runs:
            best[one.task, one.metric] = one
        else:
            best[one.task, one.metric] = replace(mine, accuracy=one.accuracy)
    return ordered(best.values())


def _of_table(space: Workspace, name: str) -> tuple[list[Checked], str]:
    from assay.imports.judge import results as imported

    found, told = _of_frame(space, imported(space.store, name, root=Path.cwd()))
    return found, f"{name}: {told}"


def _of_frame(space: Workspace, frame: pd.DataFrame) -> tuple[list[Checked], str]:
    """A long table at the policy's proxy scale, or its smallest; ranked against the target's, or its largest."""
    from assay.imports.selection import with_labels
    from assay.imports.table import amount
    from assay.stats.check import check as look
    from assay.stats.frames import scale_key

    policy = with_labels(space.study.policy)
    scales = sorted({str(scale) for scale in frame["scale"]}, key=amount)
    target = policy.target if policy.target and policy.target.scale in scales else None
    proxy = policy.proxy_scale or scales[0]
    if proxy not in scales:
        raise AssayError(f"there are no results at the policy's proxy scale {proxy}; there are {', '.join(scales)}.")
    largest = target.scale if target else scales[-1]
    far = largest if scale_key(largest) != scale_key(proxy) else None
    found = look(frame, proxy_scale=proxy, n_seeds=policy.min_seeds, target=target, target_scale=far)
    mixes = frame[frame["scale"].astype(str) == proxy]["mix"].nunique()
    ranked = "" if far is None else f", ranked as {f'{target.task} {target.metric}' if target else 'itself'} at {far}"
    return found, f"{mixes} mixes at {proxy}{ranked}"


def _whole(space: Workspace, found: Sequence[Checked], *, every: bool) -> list[Checked]:
    """Without the parts of tasks; of a table that knows nothing of the suite, all but parts of what the suite names."""
    tasks = {task.task for task in space.study.suite.tasks}
    kept = [one for one in found if one.task in tasks or one.task.startswith(VALIDATION)]
    if every:
        kept = [one for one in found if one in kept or not any(one.task.startswith(f"{task}_") for task in tasks)]
    return kept


def _show(space: Workspace, found: _Found, drop: dict[str, str]) -> None:
    from rich.table import Column, Table
    from rich.text import Text

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
    colours = {"ok": "green", "no signal": "red", "unknown": "yellow"}
    for one in found.metrics:
        ratio, rises = one.worth
        table.add_row(
            Text(f"{one.task} {one.metric}"),
            Text(one.overall.state, style=colours[one.overall.state]),
            {"ok": "above", "no signal": "at", "unknown": "?"}[one.above.state] if not _loss(one) else "-",
            f"{ratio.value:.2f} ({ratio.low:.2f}-{ratio.high:.2f})" if ratio else "-",
            f"{rises.rho:+.2f}" if rises else "-",
            f"{one.accuracy.accuracy:.0%}" if one.accuracy else "-",
        )
    console.print(table)
    console.print(f"\nof {found.of}", markup=False)
    console.print(
        "signal/noise: SD between mixes over SD between replicates; tokens: rank correlation of score and tokens; ranks:"
        " pairs ranked as at the target",
        style="dim",
    )
    if found.seconds is not None:
        console.print(f"the evaluation takes {found.seconds:.0f} s a run; by task it is not measured", style="dim")
    named = {c.task for c in (*space.study.policy.primary, *space.study.policy.guardrails)}
    for task, why in drop.items():
        also = f" (policy {space.study.policy.name} names it)" if task in named else ""
        console.print(f"drop {task}{also}: {why}", style="yellow", markup=False)
    if not drop:
        console.print("nothing to drop: every task has a metric that may say something")


def _loss(one: Checked) -> bool:
    from assay.stats.signal import LOSSES

    return one.metric in LOSSES
