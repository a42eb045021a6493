"""Perform one attempt at a run in its own process.

The process claims the run, performs it, and exits with a code that the worker reads.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from assay.core.errors import ConfigError, Damaged
from assay.core.lease import LeaseLost, LeaseTimes
from assay.launch.inputs import all_there
from assay.launch.local.run_failure import record_exception
from assay.launch.local.run_output import log_to_stderr, output_to
from assay.launch.local.run_pipeline import perform, set_ranks, train_run
from assay.launch.local.stop_request import StopRequest, StopRequested, end_with_parent
from assay.plan.frozen_workspace import frozen_workspace
from assay.store.submissions import SubmissionDirectory

if TYPE_CHECKING:
    from assay.store.runs import RunDirectory

log = logging.getLogger(__name__)

FAILED, BUSY, STOPPED = 1, 75, 76
"""Exit codes: the run's status has the failure; another process holds the run; the run was released on request."""

POLL_SECONDS = 0.5


def run_attempt(folder: str, fingerprint: str, environment: Mapping[str, str]) -> None:
    """Perform a run in this process, which was started for the run, and exit.

    Args:
        folder: folder of the submission.
        fingerprint: fingerprint of the run.
        environment: variables for this process only. CUDA reads its variables on first use.
    """
    with _process(environment) as stop:
        directory = SubmissionDirectory(Path(folder))
        run = directory.store.run(fingerprint)
        # This process holds the lease, and not the worker: exactly as long as it writes here. The process waits until
        # the lease of a dead node is stale, so that the next attempt continues without intervention.
        with run.claim(LeaseTimes.from_environment().patience) as lease:
            if lease is None:
                sys.exit(BUSY)
            if directory.is_cancelled(fingerprint):
                sys.exit(STOPPED)
            if run.status().failed:
                sys.exit(BUSY)  # another worker performed the run first, and the run failed there
            with output_to(run.log):
                _attempt(directory, run, stop)


def run_rank(folder: str, fingerprint: str, environment: Mapping[str, str]) -> None:
    """Run another rank of a run's training in this process, and exit.

    The process was started for this rank. Only the main rank writes.

    Args:
        folder: folder of the submission.
        fingerprint: fingerprint of the run.
        environment: torchrun's variables.
    """
    with _process(environment) as stop:
        log_to_stderr()
        directory = SubmissionDirectory(Path(folder))
        submission, run = directory.read(), directory.store.run(fingerprint)
        if run.trained:
            return
        spec, workspace = run.spec(), frozen_workspace(submission)
        while not all_there(directory.store, spec):
            time.sleep(POLL_SECONDS)  # the main rank builds the inputs
        with stop.polled():
            train_run(workspace, spec, run, stop)


def debug_attempt(directory: SubmissionDirectory, fingerprint: str) -> None:
    """Perform a run in the caller's process, for debugging. Exceptions are recorded and propagate."""
    run = directory.store.run(fingerprint)
    with run.claim() as lease:
        if lease is None:
            return
        with _tracked(directory, run):
            try:
                perform(directory.read(), run, StopRequest())
            except KeyboardInterrupt:
                run.release()
                raise
            except Exception as error:
                record_exception(run, error)
                raise


@contextlib.contextmanager
def _process(environment: Mapping[str, str]) -> Iterator[StopRequest]:
    """Set up this process, and convert the reasons to leave a run into exit codes."""
    stop = StopRequest()
    try:
        stop.listen()
        set_ranks(environment)
        end_with_parent()
        yield stop
    except StopRequested:
        sys.exit(STOPPED)
    except LeaseLost as lost:
        log.warning("%s This process stops writing to the folder of the run.", lost)
        sys.exit(BUSY)


def _attempt(directory: SubmissionDirectory, run: RunDirectory, stop: StopRequest) -> None:
    with _tracked(directory, run):
        try:
            perform(directory.read(), run, stop)
        except StopRequested:
            log.info("stop requested")
            run.release()
            raise
        except Exception as error:  # noqa: BLE001  # the run's outermost handler: every error is recorded
            run.check()
            record_exception(run, error)
            sys.exit(FAILED)


@contextlib.contextmanager
def _tracked(directory: SubmissionDirectory, run: RunDirectory) -> Iterator[None]:
    """Report the attempt and its outcome to W&B, whose errors never affect a run."""
    from assay.report.wandb.live import publish_live

    try:
        submission = directory.read()
        tracking = submission.frozen_study().tracking
    except (ConfigError, Damaged, OSError):  # the attempt fails for the same reason, and records the reason
        yield
        return
    evaluation = submission.evaluation.fingerprint
    with publish_live(directory.store, run, sweep=submission.sweep, evaluation=evaluation, settings=tracking):
        yield
