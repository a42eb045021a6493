"""Compare a new submission with the earlier submissions of its sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.core.errors import Damaged, Refused
from assay.plan.submitted_sweep import read_submitted_sweep
from assay.plan.sweep_selection import compare, describe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from assay.plan.plan import Plan
    from assay.plan.submitted_sweep import SubmittedSweep
    from assay.plan.workspace import Workspace
    from assay.store.runs import Store

LISTED = 3
"""Maximum number of runs that a message lists."""


def check_replaced_runs(workspace: Workspace, plan: Plan, *, allowed: bool) -> list[str]:
    """Compare the planned runs with those of earlier submissions of the sweep.

    Args:
        workspace: the configured study.
        plan: its plan.
        allowed: whether runs with results may leave the sweep.

    Returns:
        Warnings about submitted runs that leave the sweep.

    Raises:
        Refused: submitted runs with results would leave the sweep, and this is not allowed.
    """
    submitted = _submitted(workspace)
    if submitted is None:
        return []
    replaced = _replaced(submitted, plan)
    if not replaced:
        return []
    sweep, day = plan.sweep.name, submitted.day
    changed = ", ".join(describe(compare(submitted.study, workspace.study))[:LISTED]) or "the text of its sources"
    scored = [label for label, run in replaced.items() if _has_result(workspace.store, run)]
    if scored and not allowed:
        raise Refused(
            f"sweep {sweep!r}: the configuration has changed ({changed}), so {len(scored)} runs with results from the submission"
            f" of {day} ({_some(scored)}) would leave the sweep. No job was submitted.",
            fix="Repeat the overrides of that submission, or copy the sweep file under another name. `assay retry` needs no overrides."
            " The option --replace submits the changed runs under this name.",
        )
    runs = f"{len(replaced)} runs that were submitted on {day} ({_some(list(replaced))})"
    return [f"{runs} leave the sweep, because the configuration has changed: {changed}. These runs stay in the store."]


def adds_to_submissions(workspace: Workspace, plan: Plan) -> bool:
    """Return whether the runs or settings of the sweep differ between the configuration and the submissions."""
    submitted = _submitted(workspace)
    if submitted is None:
        return True
    known = submitted.study.require_sweep()
    contained = set(plan.sweep.mixes) <= set(known.mixes) and set(plan.sweep.seeds) <= set(known.seeds)
    changed = [
        d for d in compare(submitted.study, workspace.study) if d.path not in ("sweep.candidates", "sweep.seeds")
    ]
    return not contained or bool(changed) or bool(_replaced(submitted, plan))


def _submitted(workspace: Workspace) -> SubmittedSweep | None:
    study = workspace.study
    try:
        return read_submitted_sweep(workspace.store, study.require_sweep().name, paths=study.raw["paths"])
    except Damaged:  # another version of assay submitted it: a submission by this version makes it readable again
        return None


def _replaced(submitted: SubmittedSweep, plan: Plan) -> dict[str, str]:
    """Return the fingerprints of the submitted runs, by label, that the plan would supersede."""
    planned = {run.label: run.fingerprint for run in plan.runs if run.fingerprint is not None}
    known: Mapping[str, str] = submitted.fingerprints
    compatible = submitted.study.require_sweep().baseline == plan.sweep.baseline and all(
        planned.get(label, run) == run for label, run in known.items()
    )
    return {} if compatible else {label: run for label, run in known.items() if planned.get(label) != run}


def _has_result(store: Store, fingerprint: str) -> bool:
    return any((store.run(fingerprint).path / "evaluations").glob("*/scores.json"))


def _some(labels: list[str]) -> str:
    return ", ".join(labels[:LISTED]) + (f" and {len(labels) - LISTED} more" if len(labels) > LISTED else "")
