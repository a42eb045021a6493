"""Sending a sweep's runs to workers: the intent first, then the workers, and nothing of ours that has to stay."""

from __future__ import annotations

import math
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

from assay.errors import AssayError
from assay.files import exclusive
from assay.launch.records import Submission, SubmissionDirectory, SubmittedRun, submissions, trained
from assay.launch.snapshot import freeze, snapshot_of
from assay.registered import register
from assay.store import ACTIVE, ENDED

if TYPE_CHECKING:
    from assay.plan import Plan, PlannedRun
    from assay.settings import Cluster
    from assay.store import Store
    from assay.workspace import Workspace

PLACEHOLDERS = ("%j", "%t", "%A", "%a")
"""What submitit replaces in a folder's name by a job's number."""
ROOM_BYTES = 4 << 20
"""Of the store, that have to be free: the code's snapshot and the records of some thousand runs."""


def submit(
    workspace: Workspace,
    plan: Plan,
    *,
    only: Collection[str] | None = None,
    clock: Callable[[], float] = time.time,
    tell: Callable[[str], None] | None = None,
) -> Submission | None:
    """Start what a plan has to do, and return; the workers outlive the caller and its terminal.

    The submission is written down before anything is started, and runs that a live submission of the sweep has
    already taken up are left to it. So a second call sends only what is missing, whenever the first one was cut off.
    Before that the policy and the suite are registered, by which the sweep will be judged (see `assay.registered`).

    Args:
        workspace: the study on this machine.
        plan: its plan; runs that are `todo` are sent.
        only: of these, only those with these fingerprints.
        clock: seconds since the epoch.
        tell: told what people should know, though it stops nothing.

    Returns:
        What was sent; ``None`` where nothing was left to send.

    Raises:
        AssayError: the store cannot be written, or its path is one that submitit would change; policy or suite are not the
            registered ones, and results are there; or the workers could not be started.
    """
    store, cluster, sweep = workspace.store, workspace.study.cluster, plan.sweep.name
    check_store(store)
    if cluster.executor == "slurm":
        tend_open(store, sweep)
    wanted = [run for run in _in_order(plan) if only is None or run.fingerprint in only]
    if wanted and cluster.executor == "slurm":
        from assay.launch.slurm.start import check_cluster

        for warning in check_cluster(cluster):
            if tell is not None:
                tell(warning)
    with exclusive(store.sweep(sweep) / "lock", wait=True):
        code, created = freeze(store).digest, clock()
        register(workspace, plan, code=code, at=created)
        taken = underway(store, sweep, plan.evaluation)
        todo = [run for run in wanted if run.fingerprint not in taken]
        if not todo:
            return None
        for run in todo:
            _put_back(workspace, run)
        submission = Submission(
            id=f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(created))}-{secrets.token_hex(3)}",
            sweep=sweep,
            created=created,
            cluster=cluster.name,
            executor=cluster.executor,
            workers=_workers(cluster, len(todo)),
            code=code,
            digests=workspace.digests,
            runs=tuple(SubmittedRun(fingerprint=run.fingerprint or "", mix=run.mix, seed=run.seed) for run in todo),
            evaluation=workspace.evaluation,
            study=workspace.study.raw,
            planned_seconds=_planned(todo),
        )
        directory = SubmissionDirectory(store.sweep(sweep).absolute() / "submissions" / submission.id)
        directory.create(submission)
        if cluster.executor != "debug":
            _start(directory)
    if cluster.executor == "debug":
        _run_here(directory)
    return submission


def _planned(runs: Sequence[PlannedRun]) -> float | None:
    """Seconds that runs are expected to take, all together; ``None`` where no speed is known."""
    seconds = [run.seconds for run in runs]
    return None if None in seconds else math.fsum(second for second in seconds if second is not None)


def _workers(cluster: Cluster, runs: int) -> int:
    """How many workers of this machine, or jobs of a cluster, runs are spread over."""
    if cluster.executor == "debug":
        return 1
    if cluster.slurm is not None:
        return -(-runs // cluster.slurm.runs_per_job)
    return min(cluster.width, runs)


def underway(store: Store, sweep: str, evaluation: str) -> set[str]:
    """Fingerprints of the runs that live workers of a sweep's submissions will still take up or work on."""
    found = set()
    for directory in submissions(store, sweep):
        if directory.live and directory.read().evaluation.fingerprint == evaluation:
            runs = (store.run(run.fingerprint) for run in directory.wanted())
            found |= {run.fingerprint for run in runs if run.status().state not in ENDED}
    return found


def done_elsewhere(store: Store, submission: Submission) -> set[str]:
    """Fingerprints of the runs that open submissions to a cluster do for other sweeps, and that were sent there first.

    Whoever was submitted first does a run; so no two wait for each other.
    """
    found: set[str] = set()
    for path in sorted((store.root / "sweeps").glob("*/submissions/*/batches")):
        other = SubmissionDirectory(path.parent)
        try:
            if other.path.name == submission.id or not other.live:
                continue
            theirs = other.read()
        except AssayError:  # another version's, or damaged: who holds a run is seen by its lease
            continue
        if (theirs.created, theirs.id) < (submission.created, submission.id) and (
            theirs.evaluation.fingerprint == submission.evaluation.fingerprint
        ):
            found |= {run.fingerprint for run in other.wanted()}
    return found


def tend_open(store: Store, sweep: str) -> None:
    """Look after a sweep's submissions to a cluster that are not over: what was lost is found, what ended is sent again."""
    from assay.launch.slurm.finish import finish
    from assay.launch.slurm.tend import tend

    for directory in submissions(store, sweep):
        if directory.on_cluster and directory.live:
            submission = directory.read()
            if tend(directory, elsewhere=partial(done_elsewhere, store, submission)).over:
                finish(directory)


def _in_order(plan: Plan) -> list[PlannedRun]:
    """The runs to do, once each, seed by seed: baseline and candidates of a seed can be compared as early as possible."""
    mixes, seeds = list(plan.sweep.mixes), list(plan.sweep.seeds)
    once: dict[str | None, PlannedRun] = {}
    for run in sorted(plan.of("todo"), key=lambda run: (seeds.index(run.seed), mixes.index(run.mix))):
        once.setdefault(run.fingerprint, run)
    return list(once.values())


def _put_back(workspace: Workspace, run: PlannedRun) -> None:
    """Make a run's folder, and clear what an earlier attempt left in its status."""
    assert run.spec is not None, "a run without a spec is refused, never to do"
    folder = workspace.store.run(run.spec.fingerprint)
    folder.create(run.spec, workspace.labels(run.mix, run.seed))
    status = folder.status()
    if status.state not in ENDED | ACTIVE:
        return
    with folder.claim() as held:
        if held:  # otherwise somebody is at it, and its state is theirs to tell
            folder.update(state="trained" if trained(folder) else "queued", failure=None, finished=None)


def check_store(store: Store) -> None:
    """Find out whether jobs can be sent from a store, before anything is written.

    Raises:
        AssayError: submitit would change its path, or it cannot be written.
    """
    _check_path(store)
    _check_writable(store)


def _check_path(store: Store) -> None:
    path = str(store.root.absolute())
    found = [mark for mark in PLACEHOLDERS if mark in path]
    if found:
        raise AssayError(
            f"store {path!r}: submitit replaces {found[0]!r} in a path by a job's number.",
            fix="Keep the store in a folder whose path has none of %j, %t, %A and %a: set paths.store.",
        )


def _check_writable(store: Store) -> None:
    """Find out now whether the store can be written, and not when half of it is."""
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=store.root) as file:
            os.posix_fallocate(file.fileno(), 0, ROOM_BYTES)
    except OSError as error:
        raise AssayError(
            f"store {str(store.root)!r} cannot be written: {error.strerror}. Nothing was submitted.",
            fix="Free some space, or set paths.store to a folder that you and the jobs may write.",
        ) from error


def _start(directory: SubmissionDirectory) -> None:
    """Have workers started, or jobs handed over, by a process in a session of its own, which runs the frozen code.

    submitit's local jobs stay in the session, and on the standard output, of whoever submits: closing the
    terminal would end them, and `assay submit | cat` would wait for them. And a terminal that is closed must not
    end what hands jobs to a cluster.
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
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["(nothing)"]
        raise AssayError(f"{_said(said)}", fix=f"{log} tells more.")


def _said(lines: list[str]) -> str:
    """Of what a process that failed has printed, what people are to read: from the exception's line on."""
    begin = max((i for i, line in enumerate(lines) if line.startswith("assay.")), default=len(lines) - 1)
    text = " ".join(lines[begin:])
    return f"the runs could not be sent: {text.partition(': ')[2] if text.startswith('assay.') else text}"


def _run_here(directory: SubmissionDirectory) -> None:
    """Do everything in this very process, through submitit's debug executor: `breakpoint()` and pdb work."""
    import submitit

    from assay.launch.worker import work

    job = submitit.DebugExecutor(folder=directory.submitit).submit(work, str(directory.path), 0)
    if sys.stdin is not None and sys.stdin.isatty():
        job.results()  # opens pdb where an exception was raised
    elif (error := job.exception()) is not None:
        raise error


def job_parameters(cluster: Cluster) -> dict[str, float]:
    """The parameters of a local job, as submitit takes them."""
    minutes = cluster.timeout_hours * 60
    # Two minutes to stop in: a checkpoint takes seconds, an evaluation that has begun is given up.
    return {"timeout_min": minutes, "signal_delay_s": min(120, int(minutes * 30))}
