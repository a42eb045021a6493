"""The end of a submission on a cluster: the sweep is judged with whatever is there, and what looked after it ends."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from assay.launch.slurm.tend import close
from assay.lease import LeaseLost
from assay.study import Study

if TYPE_CHECKING:
    from assay.launch.records import Submission, SubmissionDirectory
    from assay.workspace import Workspace

log = logging.getLogger(__name__)


def frozen(submission: Submission) -> Workspace:
    """The study of a submission, with its sources and its evaluation as they were then."""
    from assay.workspace import Workspace

    return Workspace(Study.parse(submission.study), digests=submission.digests, evaluation=submission.evaluation)


def finish(directory: SubmissionDirectory) -> None:
    """Judge a sweep, write its page, and close the submission, which nobody has to look after any more.

    A sweep that cannot be judged is closed too: what is wrong is in the log, and `assay gate` says it to whoever asks.
    """
    try:
        with directory.tending() as held:
            if held and directory.closed is None:
                _judge_and_close(directory)
    except LeaseLost as lost:
        log.warning("%s Whoever took it over judges the sweep.", lost)


def _judge_and_close(directory: SubmissionDirectory) -> None:
    from assay.conclude import conclude

    decision = None
    try:
        space = frozen(directory.read())
        concluded = conclude(space, space.plan())
        decision = concluded.verdict.decision
        log.info("verdict: %s; page: %s", decision, concluded.page)
    finally:
        close(directory, decision=decision)
