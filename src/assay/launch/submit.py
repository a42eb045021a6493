"""Submit a sweep's runs.

The submission is recorded before the workers start. No submitting process remains.
"""

from __future__ import annotations

import math
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

from assay.core.errors import Refused
from assay.core.files import exclusive
from assay.evaluate.task_folder import digest_task_folder, freeze_task_folder, frozen_task_folder
from assay.launch.replaced_runs import adds_to_submissions, check_replaced_runs
from assay.launch.snapshot import freeze, snapshot_of
from assay.plan.registration import register
from assay.store.checks import check_store
from assay.store.submissions import (
    Submission,
    SubmissionDirectory,
    SubmittedRun,
    done_elsewhere,
    runs_in_progress,
    submissions,
)

if TYPE_CHECKING:
    from assay.config.cluster import Cluster
    from assay.plan.plan import Plan, PlannedRun
    from assay.plan.workspace import Workspace
    from assay.store.runs import Store


def submit(
    workspace: Workspace,
    plan: Plan,
    *,
    only: Collection[str] | None = None,
    replace_runs: bool = False,
    from_job: bool = False,
    clock: Callable[[], float] = time.time,
    warn: Callable[[str], None] | None = None,
) -> Submission | None:
    """Start the `todo` runs of a plan, and return without waiting for them.

    The workers outlive the caller and its terminal. The submission is recorded before any process starts, and runs of
    live submissions are not submitted again. A repeated call therefore submits only the missing runs, even if the
    previous call was interrupted. First, the function registers the policy and the suite that decide the verdict (see
    `assay.plan.registration`).

    Args:
        workspace: the study on this machine.
        plan: the sweep's plan, whose `todo` runs are submitted.
        only: fingerprints of the only runs to submit (default: all `todo` runs).
        replace_runs: whether runs of earlier submissions with results may leave the sweep (see `plan.submitted_sweep`).
        from_job: whether a job or worker of the sweep submits. It neither checks the cluster, which runs the job, nor
            monitors open submissions, which would close the job's own submission before the new one exists.
        clock: returns seconds since the epoch.
        warn: called with each warning that does not prevent the submission.

    Returns:
        The submission; None if no run is left to submit.

    Raises:
        AssayError: the store cannot be written, or submitit would change the store's path; policy, suite or runs differ
            from the registered or submitted ones although results exist; or the workers could not be started.
    """
    store, cluster, sweep = workspace.store, workspace.study.cluster, plan.sweep.name
    check_store(store)
    if cluster.executor == "slurm" and not from_job:
        monitor_open_submissions(store, sweep)
    wanted = [run for run in _in_order(plan) if only is None or run.fingerprint in only]
    if wanted and cluster.executor == "slurm" and not from_job:
        from assay.launch.slurm.submit import check_cluster

        for warning in check_cluster(cluster):
            if warn is not None:
                warn(warning)
    with exclusive(store.sweep(sweep) / "lock", wait=True):
        code, created = freeze(store).digest, clock()
        for warning in check_replaced_runs(workspace, plan, allowed=replace_runs):
            if warn is not None:
                warn(warning)
        register(workspace, plan, code=code, at=created)
        taken = runs_in_progress(store, sweep, plan.evaluation)
        todo = [run for run in wanted if run.fingerprint not in taken]
        if not todo and not (plan.evaluation and adds_to_submissions(workspace, plan)):
            return None
        for run in todo:
            assert run.spec is not None, "a run without a spec is refused, never to do"
            folder = store.run(run.spec.fingerprint)
            folder.create(run.spec, workspace.runs.labels(run.mix, run.seed))
            folder.requeue()
        _freeze_tasks(workspace)
        submission = Submission(
            id=f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(created))}-{secrets.token_hex(3)}",
            sweep=sweep,
            created=created,
            cluster=cluster.name,
            executor=cluster.executor,
            workers=_workers(cluster, len(todo)),
            code=code,
            digests=workspace.sources.digests(workspace.mixes.prepared_sources),
            runs=_submitted_runs(todo),
            planned=_submitted_runs([run for run in plan.runs if run.fingerprint is not None]),
            evaluation=workspace.runs.evaluation,
            study=workspace.study.raw,
            planned_seconds=_planned(todo),
        )
        directory = SubmissionDirectory(store.sweep(sweep).absolute() / "submissions" / submission.id)
        directory.create(submission)
        if not todo:  # the record alone: every run has a result, or an earlier submission has it
            return None
        if cluster.executor != "debug":
            _start(directory)
    if cluster.executor == "debug":
        _run_here(directory)
    return submission


def _submitted_runs(runs: Sequence[PlannedRun]) -> tuple[SubmittedRun, ...]:
    return tuple(SubmittedRun(fingerprint=run.fingerprint or "", mix=run.mix, seed=run.seed) for run in runs)


def _freeze_tasks(workspace: Workspace) -> None:
    """Copy the suite's own task definitions into the store, so that later edits change no submitted evaluation.

    Raises:
        Refused: the files changed during the submission.
    """
    tasks, digest = workspace.runs.task_folder, workspace.runs.evaluation.task_files
    if tasks is None or digest is None:
        return
    frozen = workspace.store.frozen_tasks(digest)
    freeze_task_folder(tasks, frozen)
    copy = frozen_task_folder(tasks, frozen)
    if digest_task_folder(copy.path, root=copy.root) != digest:
        shutil.rmtree(frozen)
        raise Refused(
            f"suite.include_path: files of {tasks.path} changed during the submission, or their copy is damaged.",
            fix="Submit again.",
        )


def _planned(runs: Sequence[PlannedRun]) -> float | None:
    """Return the sum of the runs' predicted seconds; None if a speed is unknown."""
    seconds = [run.seconds for run in runs]
    return None if None in seconds else math.fsum(second for second in seconds if second is not None)


def _workers(cluster: Cluster, runs: int) -> int:
    """Return the number of workers on this machine, or of jobs on a cluster."""
    if cluster.executor == "debug":
        return 1
    if cluster.slurm is not None:
        return -(-runs // cluster.slurm.runs_per_job)
    return min(cluster.width, runs)


def monitor_open_submissions(store: Store, sweep: str) -> None:
    """Monitor a sweep's open submissions to a cluster.

    The monitor recovers lost jobs, and resubmits jobs that ended early.
    """
    from assay.launch.slurm.finalize import finish_submission
    from assay.launch.slurm.monitor import monitor_submission

    for directory in submissions(store, sweep):
        if directory.on_cluster and directory.live:
            submission = directory.read()
            if monitor_submission(directory, elsewhere=partial(done_elsewhere, store, submission)).over:
                finish_submission(directory)


def _in_order(plan: Plan) -> list[PlannedRun]:
    """List the runs to do by seed, each run once.

    The order makes arms of the same seed comparable as early as possible.
    """
    mixes, seeds = list(plan.sweep.mixes), list(plan.sweep.seeds)
    once: dict[str | None, PlannedRun] = {}
    for run in sorted(plan.of("todo"), key=lambda run: (seeds.index(run.seed), mixes.index(run.mix))):
        once.setdefault(run.fingerprint, run)
    return list(once.values())


def _start(directory: SubmissionDirectory) -> None:
    """Start the workers, or submit the jobs, from a process in a separate session.

    The process runs the frozen code. submitit's local jobs stay in the session of the submitter and keep its standard
    output. Without a separate session, closing the terminal would end the jobs, and `assay submit | cat` would wait for
    the jobs. A closed terminal must not interrupt submission to a cluster either.
    """
    code = snapshot_of(directory.store, directory.read().code)
    directory.submitit.mkdir(parents=True, exist_ok=True)
    log = directory.submitit / "start.log"
    with log.open("wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "assay.launch.start", str(directory.path)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **code.environment},
            check=False,
        )
    if done.returncode != 0:
        printed = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["(no output)"]
        raise Refused(_start_error(printed), fix=f"Read the details in {log}.")


def _start_error(lines: list[str]) -> str:
    """Return the error message in the output of a failed start, from the exception's line."""
    begin = max((i for i, line in enumerate(lines) if line.startswith("assay.")), default=len(lines) - 1)
    text = " ".join(lines[begin:])
    return f"the runs could not be submitted: {text.partition(': ')[2] if text.startswith('assay.') else text}"


def _run_here(directory: SubmissionDirectory) -> None:
    """Run all runs in this process with submitit's debug executor, for `breakpoint()` and pdb."""
    import submitit

    from assay.launch.local.worker import work

    job = submitit.DebugExecutor(folder=directory.submitit).submit(work, str(directory.path), 0)
    if sys.stdin is not None and sys.stdin.isatty():
        job.results()  # opens pdb at an exception
    elif (error := job.exception()) is not None:
        raise error
