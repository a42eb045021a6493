"""Count the least and the most runs of a sweep whose seeds are trained in stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from assay.plan.seed_stages import HELD

if TYPE_CHECKING:
    from assay.plan.plan import Plan


class RunRange(NamedTuple):
    """The number of runs of a sweep with stages, and their worker time.

    Attributes:
        least: number of runs if every undecided candidate is decided after its current stage.
        most: number of runs if no further candidate is decided before the last stage.
        least_seconds: worker time of the missing runs in seconds for `least`; None if no speed is known.
        most_seconds: worker time of the missing runs in seconds for `most`; None if no speed is known.
    """

    least: int
    most: int
    least_seconds: float | None
    most_seconds: float | None


def run_range(plan: Plan) -> RunRange:
    """Return the least and the most runs of a plan. A run that two arms share counts once."""
    needed = {run.fingerprint or run.label for run in plan.runs if run.status not in {*HELD, "refused"}}
    later = {run.fingerprint or run.label for run in plan.runs if run.status == "later"} - needed
    seconds = plan.cost.worker_seconds
    each = next((run.seconds for run in plan.runs if run.seconds), None)
    most = None if seconds is None or each is None else seconds + len(later) * each
    return RunRange(len(needed), len(needed) + len(later), seconds, most)
