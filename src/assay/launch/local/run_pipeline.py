"""Perform the stages of a run: prepare corpora, train, evaluate intermediate and final weights."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from assay.audit.taint import blocks
from assay.core.errors import Refused
from assay.evaluate.task_folder import frozen_task_folder
from assay.launch.clearance import source_now
from assay.launch.inputs import corpora_folders, tokenizer_folder
from assay.launch.local.run_output import ProgressLog
from assay.launch.snapshot import CODE
from assay.plan.frozen_workspace import frozen_workspace
from assay.report.reason_text import fix, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from assay.config.recipe import RunSpec
    from assay.launch.local.stop_request import StopRequest
    from assay.plan.workspace import Workspace
    from assay.store.evaluations import WeightsDirectory
    from assay.store.runs import RunDirectory, Status
    from assay.store.submissions import Submission

log = logging.getLogger(__name__)

RANK_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK", "LOCAL_RANK")
"""torchrun's variables for each of several processes that train one run. A run of one process lacks them."""


def set_ranks(environment: Mapping[str, str]) -> None:
    """Set variables of this process, and remove inherited rank variables.

    A submitter's terminal may provide inherited variables.
    """
    for name in RANK_VARIABLES:
        os.environ.pop(name, None)
    os.environ.update(environment)


def perform(submission: Submission, run: RunDirectory, stop: StopRequest) -> None:
    """Advance a run that this process claimed from its current state to its scores.

    Raises:
        AssayError: a source is no longer cleared for training, or cannot be read.
        StopRequested: the process was requested to stop.
    """
    if run.evaluated(submission.evaluation.fingerprint):
        return
    workspace, spec = frozen_workspace(submission), run.spec()
    run.start_attempt(steps=spec.steps, submission=submission.id, code=os.environ.get(CODE) or None)
    if not run.trained:
        _refuse_unfit(workspace, spec, since=submission.created)
        corpora_folders(workspace, spec.corpora, progress=ProgressLog(run.check))
        status = _train_and_evaluate_checkpoints(workspace, submission, run, stop)
        if status.failed:
            _add_log(run, status)
            return
    set_ranks({})  # one process evaluates, even if several processes trained the run
    # Evaluate intermediate checkpoints first: a run whose final weights have scores is done and gets no further
    # attempt.
    _evaluate_checkpoints(workspace, submission, run)
    _evaluate(workspace, submission, run, run)
    run.finish()


def _refuse_unfit(workspace: Workspace, spec: RunSpec, *, since: float) -> None:
    """Stop a run whose sources got a finding or lost clearance after the submission.

    Raises:
        Refused: a source is not cleared, or has an unwaived defect.
    """
    root = Path(workspace.study.paths.root)
    for name in spec.corpora:
        source = source_now(workspace.sources.source(name), root, since=since)
        digest = workspace.sources.digest(name) if source.refusal is None else None
        for reason in blocks([(source, digest)], workspace.sources.taints):
            advice = fix(reason) or "Submit again once it is cleared, or leave it out of the mix."
            raise Refused(f"{text(reason)}.", fix=advice)


def _train_and_evaluate_checkpoints(
    workspace: Workspace, submission: Submission, run: RunDirectory, stop: StopRequest
) -> Status:
    """Train a run to its end, and evaluate each intermediate checkpoint while training pauses.

    Evaluation during training costs no more than a later evaluation, and provides scores earlier. If several processes
    train a run, all other processes would wait for the process that evaluates. Their checkpoints are therefore
    evaluated at the end.
    """
    spec, single = run.spec(), int(os.environ.get("WORLD_SIZE", "1")) == 1
    while True:
        if single:
            _evaluate_checkpoints(workspace, submission, run)
        with stop.polled():
            status = train_run(workspace, spec, run, stop)
        if status.state != "evaluating":
            return status


def _evaluate_checkpoints(workspace: Workspace, submission: Submission, run: RunDirectory) -> None:
    """Evaluate intermediate checkpoints without scores, then delete their weights.

    The checkpoints include those of earlier attempts. Checkpoints at steps that this study does not use belong to
    another sweep, and are evaluated only if they have no scores.
    """
    study, evaluation = workspace.study, submission.evaluation.fingerprint
    steps = run.spec().steps_at(study.interim_fractions)
    for interim in run.interim_evaluations():
        if not interim.has_weights or (interim.step not in steps and interim.evaluations()):
            continue
        if not interim.evaluated(evaluation):
            log.info("evaluating the intermediate checkpoint after step %d", interim.step)
            _evaluate(workspace, submission, run, interim)
        if not study.training.keep_interim_weights:
            interim.delete_weights()


def train_run(workspace: Workspace, spec: RunSpec, run: RunDirectory, stop: StopRequest) -> Status:
    """Train a run as one of its ranks, until it ends, stops, or pauses for an evaluation.

    The inputs of the run must exist.
    """
    from assay.corpus.loader import SequenceReader
    from assay.corpus.shards import Corpus
    from assay.train.loop import train

    def should_stop() -> bool:
        run.check()  # after each step, before anything of the step is written
        return stop()

    study = workspace.study
    manifests = {name: Corpus.open(workspace.store.corpora / key).manifest for name, key in spec.corpora.items()}
    tokenizer = tokenizer_folder(workspace, spec.tokenizer, progress=ProgressLog(run.check))
    run.check()
    return train(
        spec,
        run,
        SequenceReader.open(spec, workspace.store.corpora),
        tokenizer=tokenizer,
        settings=replace(
            study.training,
            device=study.cluster.device,
            threads=study.cluster.cpus_per_worker,
            micro_batch=study.batch.micro,
            interim_evaluations=study.interim_fractions,
        ),
        should_stop=should_stop,
        bytes_per_token={name: manifest.restored_bytes / manifest.tokens for name, manifest in manifests.items()},
    )


def _evaluate(workspace: Workspace, submission: Submission, run: RunDirectory, record: WeightsDirectory) -> None:
    """Evaluate the final weights or an intermediate checkpoint of a run."""
    from assay.evaluate.evaluation import evaluate

    progress = ProgressLog(run.check)
    corpora = corpora_folders(workspace, submission.evaluation.validation, progress=progress)
    tasks = workspace.runs.task_folder
    if tasks is not None and submission.evaluation.task_files is not None:
        tasks = frozen_task_folder(tasks, workspace.store.frozen_tasks(submission.evaluation.task_files))
    with run.evaluating():
        evaluate(
            record,
            submission.evaluation,
            corpora,
            mirror=workspace.study.paths.mirror,
            include_path=None if tasks is None else tasks.path,
            root=None if tasks is None else tasks.root,
            device=workspace.study.cluster.device,
            progress=progress,
        )


def _add_log(run: RunDirectory, status: Status) -> None:
    """Add the path of the log to a failure that training recorded."""
    if status.failure is not None and status.failure.log is None and run.log.exists():
        run.update(failure=replace(status.failure, log=str(run.log)))
