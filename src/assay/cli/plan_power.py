"""Print the smallest effect that a design would detect, and the noise that determines it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from assay.analysis.detectable_effect import DetectableEffect, cautions
from assay.analysis.stats.power import POWER
from assay.cli.console import console
from assay.config.metrics import FRACTIONS
from assay.report.reason_text import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assay.config.policy import Policy


def to_mapping(effects: Sequence[DetectableEffect], policy: Policy) -> dict[str, Any]:
    """Return plain values for JSON."""
    from assay.report.reason_text import to_json

    return {
        "power": POWER,
        "alpha": policy.alpha,
        "metrics": to_json(effects),
        "cautions": cautions(tuple(effects), policy),
    }


def show(effects: Sequence[DetectableEffect], policy: Policy) -> None:
    """Print a table of the effects, the origin of the noise, and warnings."""
    from rich.table import Column, Table
    from rich.text import Text

    seeds = f"{effects[0].n_seeds} seed{'s' * (effects[0].n_seeds != 1)} of each mix" if effects else ""
    console.print(f"\nsmallest effect that {seeds} would detect (power {POWER}, alpha {policy.alpha:.3g}):")
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
    for effect in effects:
        known = effect.noise > 0
        table.add_row(
            Text(f"{effect.task} {effect.metric}"),
            effect.role,
            sized(effect, effect.smallest) if known else "unknown",
            sized(effect, effect.margin) if effect.margin or effect.role == "guardrail" else "-",
            f"{effect.holds:.0%}" if effect.holds >= 0 else "-",
            f"{sized(effect, effect.noise)} ({effect.noise_df:.3g})" if known else "-",
        )
    console.print(table)
    for basis in dict.fromkeys(effect.basis for effect in effects):
        which = [f"{effect.task} {effect.metric}" for effect in effects if effect.basis == basis]
        of = "" if len(which) == len(effects) else f" of {', '.join(which)}"
        console.print(f"noise{of}: {text(basis)}", markup=False, style="dim")
    if any(effect.noise > 0 for effect in effects):
        joint = policy.guardrail_rule == "joint"
        claim = f"the loss is below {policy.guardrail_limit:g} margins" if joint else "the margin holds"
        console.print(
            f"noise: SD of a paired difference between seeds; held: probability to show that {claim} where"
            " nothing changes",
            style="dim",
        )
    for caution in cautions(tuple(effects), policy):
        console.print(f"warning: {text(caution)}", style="yellow", markup=False)


def sized(effect: DetectableEffect, value: float) -> str:
    """Format a figure in the metric's unit; return a dash if the figure is unknown."""
    if not math.isfinite(value):
        return "-"
    return f"{100 * value:.2f} pt" if effect.metric in FRACTIONS else f"{value:.4f}"
