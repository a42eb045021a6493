"""`python -m assay.launch.slurm.job SUBMISSION BATCH`: what every job of a sweep runs.

The one entry point that SLURM is given. What the job has to do follows from the batch, and which of its runs are this
task's from the array's index; so nothing has to be written after sbatch, and a job that is requeued does the same again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import AssayError
from assay.evaluate.offline import use_mirror
from assay.files import write_json
from assay.launch.attempt import log_to_stderr
from assay.launch.children import Children
from assay.launch.early import stop_as_the_policy_says
from assay.launch.records import SubmissionDirectory, Worker, recorded, trained
from assay.launch.rounds import Rounds, alone
from assay.launch.slurm.commands import Unreachable, run
from assay.launch.slurm.finish import finish, frozen
from assay.launch.slurm.ledger import Ledger
from assay.launch.slurm.ranks import Leader, Rank, follow
from assay.launch.slurm.sbatch import job_of_this_process, signal_seconds, time_limit
from assay.launch.slurm.tend import Tended, tend
from assay.launch.submission import done_elsewhere
from assay.launch.worker import worker_environment
from assay.lease import LeaseTimes
from assay.processes import ProcessIdentity
from assay.store import Failure
from assay.study import Study

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assay.launch.records import SubmittedRun
    from assay.launch.slurm.ledger import Batch
    from assay.settings import Cluster, Slurm

log = logging.getLogger(__name__)

SIGNAL_SLACK_SECONDS = 65.0
"""SLURM may send the signal before a job's end up to a minute early: it looks at the clock every 30 s."""
MARGIN_SECONDS = 5.0
"""Between a job's start and our first line."""
FRUITLESS = 3
"""Jobs in a row that ran to their time limit without bringing their runs further, before the runs are failed."""
LOOKS_SECONDS = (5.0, 10.0, 20.0, 40.0)
"""Waits between looks at what accounting has not written yet, or at what somebody else looks after."""

OUTAGE_PAUSE_SECONDS = 10.0
"""Between tries of a job that looks after a sweep and gets no answer from SLURM."""
SHARE_FOR_OUTAGES = 0.8
"""Of such a job's time, for which it tries."""


def main(folder: str, number: int) -> None:
    """Do what a batch is for."""
    log_to_stderr()
    directory = SubmissionDirectory(Path(folder))
    batch = Ledger(directory).batch(number)
    match batch.kind:
        case "prepare":
            _prepare(directory)
        case "runs":
            _train(directory, batch, int(os.environ.get("SLURM_ARRAY_TASK_ID", "0")))
        case "tend":
            _tend(directory)


def _prepare(directory: SubmissionDirectory) -> None:
    """Make tokenizer and corpora, once for all runs."""
    submission = directory.read()
    folders = frozen(submission).prepare(sorted(submission.digests))
    write_json(directory.path / "prepared.json", {name: folder.name for name, folder in folders.items()})


def _tend(directory: SubmissionDirectory) -> None:
    """Look after the sweep, stopping candidates early where the policy says so; once nothing is left, judge it."""
    if directory.closed is None:
        stop_as_the_policy_says(directory)
    tended = _look(directory)
    for seconds in LOOKS_SECONDS:
        if tended.acted and not tended.actions.get("wait"):
            break
        time.sleep(seconds)
        tended = _look(directory)
    if tended.over and directory.closed is None:
        finish(directory)


def _look(directory: SubmissionDirectory) -> Tended:
    """Look once, as soon as SLURM answers: where this job gave up, nobody might look any more."""
    submission = directory.read()
    cluster = Study.parse(submission.study).cluster
    until = time.monotonic() + 60 * time_limit(cluster, training=False) * SHARE_FOR_OUTAGES
    while True:
        try:
            # Whoever is at it may have died just now, on a machine that cannot be seen from here: then nobody else
            # may come.
            return tend(
                directory,
                elsewhere=partial(done_elsewhere, directory.store, submission),
                patience=LeaseTimes.from_environment().patience,
            )
        except Unreachable as error:
            if time.monotonic() >= until:
                raise
            log.warning("%s This job tries again in %.0f s.", error.what, OUTAGE_PAUSE_SECONDS)
            time.sleep(OUTAGE_PAUSE_SECONDS)


def _train(directory: SubmissionDirectory, batch: Batch, index: int) -> None:
    """Do the runs of one task, or help the first rank to."""
    submission = directory.read()
    study = Study.parse(submission.study)
    cluster, slurm = study.cluster, study.cluster.slurm
    assert slurm is not None, "a submission for a cluster"
    name, rank = batch.worker(index), Rank.here()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    os.environ.update(worker_environment(cluster, index, os.environ))
    turns = directory.path / "turns" / f"{name}.json"
    if slurm.ranks > 1 and rank.rank > 0:
        with _Notice(cluster).listening() as notice:
            follow(directory, turns, rank, children=Children(grace_seconds=slurm.grace_seconds), asked=notice)
        return
    mine = set(batch.tasks[index])
    runs = [run for run in submission.runs if run.fingerprint in mine]
    me = _worker(directory, name, runs)
    if submission.evaluation.tasks and study.paths.benchmarks is not None:
        with contextlib.suppress(AssayError):  # no mirror there: a run's failure, recorded when it comes to that
            use_mirror(study.paths.resolve(study.paths.benchmarks))
    with recorded(directory, me), _Notice(cluster).listening() as notice:
        leader = Leader(turns, rank) if slurm.ranks > 1 else None
        Rounds(
            directory,
            me,
            runs,
            asked=notice,
            places=places(slurm, visible, len(runs)),
            patient=True,
            turn=leader.turn if leader else alone,
            grace_seconds=slurm.grace_seconds,
        ).work()
        if leader:
            leader.end()
    if notice():
        _go_on_later(directory, me, runs, notice)


def _worker(directory: SubmissionDirectory, name: str, runs: Sequence[SubmittedRun]) -> Worker:
    """This job's record, going on from that of the job that was here before it was requeued."""
    now, before = time.time(), directory.worker(name)
    me = Worker(
        name=name,
        process=ProcessIdentity.of(os.getpid()),
        job=job_of_this_process(),
        started=now,
        progress=_progress(directory, runs),
    )
    if before is None:
        return me
    path = directory.path / "workers" / f"{name}.json"
    last = before.ended or path.stat().st_mtime  # killed: it had written something then at the latest
    spent = before.spent + max(0.0, last - before.started)
    return replace(me, spent=spent, idle_restarts=before.idle_restarts)


def _progress(directory: SubmissionDirectory, runs: Sequence[SubmittedRun]) -> float:
    """How far runs are, in runs: training counts 1, and evaluating it 1."""
    evaluation, total = directory.read().evaluation.fingerprint, 0.0
    for run_ in runs:
        folder = directory.store.run(run_.fingerprint)
        status = folder.status()
        if folder.evaluated(evaluation):
            total += 2.0
        elif trained(folder):
            total += 1.0
        elif status.steps:
            total += status.step / status.steps
    return total


def places(slurm: Slurm, visible: str, runs: int) -> list[dict[str, str]]:
    """The variables of each of the runs that a job does side by side: which of its GPUs each one uses.

    Args:
        slurm: the profile.
        visible: the job's CUDA_VISIBLE_DEVICES.
        runs: how many the job has; with fewer of them than places, GPUs are shared last.
    """
    names = [name for name in visible.split(",") if name]
    count = max(1, min(slurm.at_once, runs))
    if slurm.ranks > 1 or not names:
        return [{} for _ in range(count)]
    return [{"CUDA_VISIBLE_DEVICES": names[number % len(names)]} for number in range(count)]


class _Notice:
    """Whether a job was asked to stop, or its time is nearly up.

    SIGTERM comes with preemption and `scancel`. SIGUSR2 comes before the time limit, up to a minute early, which of
    a limit of some minutes would leave nothing; the job's own clock is exact. Where the clock says that there is a
    long time left, the job has to make room, on sites that send this signal in SIGTERM's place
    (`preempt_send_user_signal`), or somebody shortened the limit; then it counts.

    While a job is suspended its time stands still: SLURM puts its end off by as long, and continues it with SIGCONT.
    """

    def __init__(self, cluster: Cluster, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to count.

        Args:
            cluster: the job's profile.
            clock: seconds.
        """
        began = float(os.environ.get("SLURM_JOB_START_TIME") or time.time() - MARGIN_SECONDS)
        self._grace = signal_seconds(cluster)
        left = time_limit(cluster, training=True) * 60 - self._grace - (time.time() - began)
        self._clock, self._looked = clock, clock()
        self._deadline = self._looked + left
        self.asked = False
        self.warned = False

    def __call__(self) -> bool:
        """Whether to stop; asked twice a second."""
        self._looked = self._clock()
        return self.asked or self.warned or self.time_is_up

    @property
    def time_is_up(self) -> bool:
        """Whether the time limit is why."""
        return not (self.asked or self.warned) and self._clock() >= self._deadline

    @contextlib.contextmanager
    def listening(self) -> Iterator[_Notice]:
        """Take the signals, in place of Python's handlers."""
        handlers = {
            signal.SIGTERM: self._stop,
            signal.SIGINT: self._stop,
            signal.SIGUSR2: self._warn,
            signal.SIGCONT: self._go_on,
        }
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: Any) -> None:
        del number, frame
        self.asked = True

    def _warn(self, number: int, frame: Any) -> None:
        del number, frame
        if self._deadline - self._clock() > SIGNAL_SLACK_SECONDS:
            self.warned = True

    def _go_on(self, number: int, frame: Any) -> None:
        del number, frame
        now = self._clock()
        self._deadline += now - self._looked
        self._looked = now


def _go_on_later(directory: SubmissionDirectory, me: Worker, runs: Sequence[SubmittedRun], notice: _Notice) -> None:
    """Have this job run again: its time is up, or it makes room for another.

    A job that ends by itself while it is being preempted has ended well to SLURM, which then does not requeue it. One
    that somebody cancelled stays so; and one that ran to its limit several times for nothing is given up.
    """
    evaluation = directory.read().evaluation.fingerprint
    left = [one for one in runs if not directory.store.run(one.fingerprint).evaluated(evaluation)]
    if not left or (notice.asked and not _makes_room(me.job)):
        return
    if notice.time_is_up:
        idle = me.idle_restarts + 1 if _progress(directory, runs) <= me.progress else 0
        directory.record_worker(replace(me, ended=time.time(), idle_restarts=idle))
        if idle >= FRUITLESS:
            for one in left:
                _fail(directory, one)
            return
    log.info("%s; the job goes on from its checkpoints", "the time is up" if notice.time_is_up else "making room")
    try:
        run(["scontrol", "requeue", me.job], timeout=30.0)
    except AssayError as error:  # some sites have no scontrol on their nodes; the job that tends sends the runs again
        log.warning("this job could not be requeued: %s", error)


def _makes_room(job: str) -> bool:
    """Whether SLURM is preempting a job, rather than ending it for somebody who cancelled it."""
    try:
        shown = run(["scontrol", "show", "job", "--oneliner", job], timeout=30.0)
    except AssayError as error:
        log.warning("whether this job is preempted cannot be told: %s", error)
        return False
    said = dict(field.split("=", 1) for field in shown.split() if "=" in field)
    return said.get("JobState") == "RUNNING" and said.get("PreemptTime", "None") not in {"None", "Unknown", "N/A"}


def _fail(directory: SubmissionDirectory, one: SubmittedRun) -> None:
    folder = directory.store.run(one.fingerprint)
    with folder.claim() as held:
        if held:
            message = f"{FRUITLESS} jobs in a row ran to their time limit and brought it no further."
            failure = Failure(kind="time limit", message=f"{message} Raise cluster.timeout_hours.", log=str(folder.log))
            folder.update(state="failed", finished=time.time(), failure=failure)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
