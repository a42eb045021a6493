"""What `assay plan` says of a design before it runs: the smallest effect that it would find, and on what noise that rests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assay.cli.common import console
from assay.design import Detectable, cautions, detectable, sized, with_questions
from assay.imports.judge import history
from assay.imports.selection import with_labels
from assay.past import of_one_evaluation, past_items, past_runs, past_scores
from assay.stats.history import noise_by_metric
from assay.stats.power import POWER
from assay.stats.replicates import Noise, replicate_noise

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from assay.plan import Plan
    from assay.stats.frames import Metric
    from assay.suite import Policy
    from assay.workspace import Workspace


def of_sweep(space: Workspace, made: Plan) -> tuple[Detectable, ...]:
    """What a sweep would find, from the store's runs that are alike, whichever sweep's, and from the history."""
    policy = space.study.policy
    past = history(space.study, space.store)
    scale = with_labels(policy).proxy_scale or space.parameters
    return detectable(
        policy,
        n_seeds=len(made.sweep.seeds),
        noise=_store_noise(space, made.evaluation),
        where="the store",
        prior=None if past is None else noise_by_metric(past, proxy_scale=scale, without=made.sweep.mixes),
    )


def of_table(frame: pd.DataFrame, policy: Policy, *, n_seeds: int, past: pd.DataFrame | None) -> tuple[Detectable, ...]:
    """What imported arms would find, from their own replicates and from the history."""
    mixes = [str(mix) for mix in frame["mix"].unique()]
    scale = frame["scale"].iloc[0]
    return detectable(
        policy,
        n_seeds=n_seeds,
        noise=replicate_noise(frame),
        where="the table",
        prior=None if past is None else noise_by_metric(past, proxy_scale=scale, without=mixes),
    )


def _store_noise(space: Workspace, evaluation: str) -> dict[Metric, Noise]:
    alike = [past for past in past_runs(space, evaluation=evaluation) if past.alike]
    runs = of_one_evaluation(alike, evaluation)
    scores = past_scores(runs)
    return with_questions(replicate_noise(scores), scores, past_items(runs), space.study.policy)


def to_mapping(found: Sequence[Detectable], policy: Policy) -> dict[str, Any]:
    """For JSON."""
    return {
        "power": POWER,
        "alpha": policy.alpha,
        "metrics": [one.to_mapping() for one in found],
        "cautions": cautions(tuple(found), policy),
    }


def show(found: Sequence[Detectable], policy: Policy) -> None:
    """For people: a table, where the noise is known from, and what is bad news."""
    from rich.table import Column, Table
    from rich.text import Text

    seeds = f"{found[0].n_seeds} seed{'s' * (found[0].n_seeds != 1)} of each mix" if found else ""
    console.print(f"\nsmallest difference that {seeds} would find (power {POWER}, alpha {policy.alpha}):")
    right = {"justify": "right", "no_wrap": True}
    table = Table(
        Column("task and metric", overflow="fold"),
        "role",
        Column("finds", **right),  # type: ignore[arg-type]  # literals in a dict
        Column("margin", **right),  # type: ignore[arg-type]
        Column("held", **right),  # type: ignore[arg-type]
        Column("noise (df)", **right),  # type: ignore[arg-type]
        box=None,
        pad_edge=False,
    )
    for one in found:
        known = one.noise > 0
        table.add_row(
            Text(f"{one.task} {one.metric}"),
            one.role,
            sized(one, one.smallest) if known else "unknown",
            sized(one, one.margin) if one.margin or one.role == "guardrail" else "-",
            f"{one.holds:.0%}" if one.holds >= 0 else "-",
            f"{sized(one, one.noise)} ({one.noise_df:.3g})" if known else "-",
        )
    console.print(table)
    for basis in dict.fromkeys(one.basis for one in found):
        which = [f"{one.task} {one.metric}" for one in found if one.basis == basis]
        whose = "" if len(which) == len(found) else f" of {', '.join(which)}"
        console.print(f"noise{whose}: {basis}", markup=False, style="dim")
    if any(one.noise > 0 for one in found):
        console.print(
            "noise is the SD of a paired difference from seed to seed; held is the chance to show that the margin holds"
            " where nothing changes",
            style="dim",
        )
    for caution in cautions(tuple(found), policy):
        console.print(f"warning: {caution}", style="yellow", markup=False)
