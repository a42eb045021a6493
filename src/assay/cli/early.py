"""`assay look`: candidates that still train, and whether they may stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli import imports
from assay.cli.common import AsJson, Overrides, console, print_json, workspace
from assay.cli.results import Candidate, PolicyNow
from assay.errors import AssayError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assay.early import Look
    from assay.launch.early import Stopped

Budget = Annotated[
    float | None,
    typer.Option("--budget", help="With --results: tokens of a whole run; left out, the most that the baseline has."),
]
Cancel = Annotated[
    bool,
    typer.Option("--cancel", help="Call off the runs of candidates that the policy lets stop (policy.early.stop)."),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(look)


def look(
    overrides: Overrides = None,
    *,
    candidate: Candidate = None,
    results: imports.Results = None,
    baseline: imports.Baseline = None,
    budget: Budget = None,
    cancel: Cancel = False,
    policy_now: PolicyNow = False,
    as_json: AsJson = False,
) -> None:
    """Look at candidates while they train: who is clearly better or worse, and may stop. Look as often as you like.

    It is no verdict and exits with 0 whatever it sees: `assay gate` decides, by scores at the end or by the look that
    stopped a candidate.
    """
    if results is not None:
        if cancel:
            raise AssayError("imported results have no runs to call off.", fix="Leave out --cancel.")
        _show(_imported(overrides, results, baseline, candidate, budget), [], as_json=as_json)
        return
    imports.refuse_baseline(baseline)
    if budget is not None:
        raise AssayError("--budget goes with --results: a sweep has its own.", fix="Leave it out.")
    from assay.conclude import before_the_gate
    from assay.launch.early import looks_of, stop_early

    space, plan, _ = before_the_gate(workspace(overrides), present=policy_now)
    if cancel and space.study.policy.early.stop == "none":
        raise AssayError(
            "--cancel: the policy stops nobody early.",
            fix="Fix it before the runs are submitted: `early: {stop: losers}` in the policy, or +policy.early.stop=losers.",
        )
    looks = looks_of(space, plan, candidate=candidate)
    _show(looks, stop_early(space, plan, looks) if cancel else [], as_json=as_json)


def _imported(
    overrides: Sequence[str] | None, results: str, baseline: str | None, candidate: str | None, budget: float | None
) -> list[Look]:
    from assay.imports.early import looks_of

    space = imports.imported_space(overrides, results, baseline)
    assert baseline is not None, "imported_space refuses a missing one"
    return looks_of(space.study, space.store, name=results, baseline=baseline, candidate=candidate, budget=budget)


def _show(looks: Sequence[Look], stopped: Sequence[Stopped], *, as_json: bool) -> None:
    if as_json:
        done = {one.stop.candidate: vars(one.cancelled) for one in stopped}
        print_json({"candidates": {one.candidate: one.to_mapping() for one in looks}, "cancelled": done})
        return
    from assay.publish.looks import looks_view

    console.print(looks_view(looks))
    for one in stopped:
        runs = one.cancelled
        held = f"; still held: {', '.join(runs.still_running)}" if runs.still_running else ""
        console.print(f"called off: {', '.join(runs.stopped) or 'nothing'}{held}", markup=False)
