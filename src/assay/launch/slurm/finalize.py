"""Finish a submission on a cluster: publish the verdict and cancel the monitor jobs.

The verdict uses the available results.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from assay.core.lease import LeaseLost
from assay.launch.slurm.monitor import close_submission
from assay.plan.frozen_workspace import frozen_workspace
from assay.plan.submitted_sweep import read_submitted_sweep
from assay.plan.sweep_selection import SelectedSweep

if TYPE_CHECKING:
    from assay.store.submissions import SubmissionDirectory

log = logging.getLogger(__name__)


def finish_submission(directory: SubmissionDirectory) -> None:
    """Publish the verdict and the page of a sweep, and close its submission.

    If the verdict raises an error, the submission is closed too. The log has the error, and `assay gate` reports it.
    """
    try:
        with directory.hold_monitor_lease() as held:
            if held and directory.closed is None:
                _publish_and_close(directory)
    except LeaseLost as lost:
        log.warning("%s The process that took over publishes the verdict.", lost)


def _publish_and_close(directory: SubmissionDirectory) -> None:
    from assay.report.publish import conclude

    decision = None
    try:
        # All submissions of the sweep, so that the page is the one that `assay report` writes.
        submitted = read_submitted_sweep(directory.store, directory.read().sweep)
        workspace = frozen_workspace(directory.read()) if submitted is None else submitted.workspace()
        notes = () if submitted is None else SelectedSweep(workspace=workspace, submitted=submitted).reasons
        concluded = conclude(workspace, workspace.planner.plan(), notes=notes)
        decision = concluded.verdict.decision
        log.info("verdict: %s; page: %s", decision, concluded.page)
    finally:
        close_submission(directory, decision=decision)
