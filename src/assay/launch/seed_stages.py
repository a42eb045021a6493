"""Advance a sweep whose seeds are trained in stages: `python -m assay.launch.seed_stages SUBMISSION`.

The module records the decisions of a stage, and submits the seeds of the next stage.
`assay submit` records the decisions before it plans. The monitor job of a cluster, and the last worker on a machine,
also submit the next stage. A decision is recorded once, under the sweep's lock, before any run of the next stage is
submitted. A process that is killed in between therefore loses nothing: the next process reads the same decision.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from assay.core.files import exclusive
from assay.launch.local.run_output import log_to_stderr
from assay.plan.submitted_sweep import read_submitted_sweep
from assay.store import stage_decisions
from assay.store.submissions import SubmissionDirectory

if TYPE_CHECKING:
    from assay.plan.workspace import Workspace
    from assay.store.stage_decisions import StageDecision
    from assay.store.submissions import Submission

log = logging.getLogger("assay.launch.seed_stages")  # __name__ is __main__ in a process of its own


def record_stages(space: Workspace) -> list[StageDecision]:
    """Record the decisions of all completed stages of a sweep, under its registered rules.

    Several stages may be complete at once, if the store already has the results of the later seeds.

    Args:
        space: the study.

    Returns:
        The new decisions; empty without stages.

    Raises:
        AssayError: a record is damaged, or the results are invalid.
    """
    from assay.analysis.seed_stages import decisions_of, stage_views
    from assay.analysis.verdict import apply_registration, decide_sweep

    if space.study.policy.sequential_seeds is None:
        return []
    done: list[StageDecision] = []
    with exclusive(space.store.sweep(space.study.require_sweep().name) / "lock", wait=True):
        while True:
            registered, plan, _ = apply_registration(space)
            views = stage_views(registered, plan)
            if not any(view.is_due for view in views.values()):
                return done
            decisions = decisions_of(plan, views, decide_sweep(registered, plan), at=time.time())
            if not decisions:
                return done
            for decision in decisions:
                stage_decisions.write(space.store, plan.sweep.name, decision)
                log.info(
                    "stage %d: %s %s%s",
                    decision.stage,
                    decision.candidate,
                    decision.decision,
                    "" if decision.final else "; the next stage follows",
                )
            done += decisions


def submit_next_stage(directory: SubmissionDirectory) -> Submission | None:
    """Record the decisions of a submission's sweep, and submit the runs of the next stage.

    The function does nothing if the policy has no stages, if every candidate still waits for its first stage, if another
    submission has the runs, or if the user cancelled the submission. The cancelled runs of a partly cancelled submission
    delay the next stage of their candidates only.

    Args:
        directory: a submission whose runs have ended.

    Returns:
        The submission of the next stage; None without one.
    """
    submission = directory.read()
    if submission.frozen_study().policy.sequential_seeds is None or directory.all_cancelled:
        return None
    from assay.analysis.seed_stages import stage_views
    from assay.analysis.verdict import apply_registration
    from assay.launch.submit import submit

    submitted = read_submitted_sweep(directory.store, submission.sweep)
    assert submitted is not None, "the submission itself"
    space = submitted.workspace()
    record_stages(space)
    registered, plan, _ = apply_registration(space)
    views = stage_views(registered, plan)
    if not views or all(view.state.number == 1 for view in views.values()):
        return None  # earlier submissions have the runs of the first stage
    first = plan.sweep.seeds[: next(iter(views.values())).plan.stages[0]]
    runs = {run.fingerprint for run in plan.of("todo") if run.fingerprint is not None and run.seed not in first}
    runs = {run for run in runs if not registered.store.run(run).status().ended}  # only the user retries a failed run
    if not runs:
        return None
    sent = submit(registered, plan, only=runs, from_job=True)
    if sent is not None:
        log.info("submitted %d runs of the next stage: %s", len(sent.runs), sent.id)
    return sent


if __name__ == "__main__":
    log_to_stderr()
    submit_next_stage(SubmissionDirectory(Path(sys.argv[1])))
