"""Resolve the study, sources and evaluation of a submission as they were at the submission."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.plan.workspace import Workspace

if TYPE_CHECKING:
    from assay.store.submissions import Submission


def frozen_workspace(submission: Submission) -> Workspace:
    """Resolve a submission's frozen study on this machine.

    Raises:
        AssayError: another version of assay wrote the study, or the record of the study is damaged.
    """
    return Workspace(submission.frozen_study(), digests=submission.digests, evaluation=submission.evaluation)
