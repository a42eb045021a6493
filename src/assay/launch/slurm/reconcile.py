"""What is to be done about each run of a submission, from its own record first and SLURM's word second."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from assay.launch.slurm.causes import BY_SCHEDULER, Cause, cap, of_failure
from assay.launch.slurm.queue import PATIENT, Patience, Settled, in_accounting, in_queue, settle
from assay.store import ACTIVE

if TYPE_CHECKING:
    from assay.launch.records import SubmittedRun
    from assay.launch.slurm.ledger import Batch, Ledger, Placed
    from assay.launch.slurm.seen import Seen
    from assay.settings import Slurm
    from assay.store import Status

Action = Literal["done", "leave", "wait", "release", "drop", "again", "give up"]
"""done: nothing is left to do. leave: it is being worked on, or will be. wait: what became of its job is not known yet.
release: SLURM holds its job after a launch that failed. drop: it is done, and its job is still there.
again: it is sent again. give up: it was sent often enough, and is failed."""

LAUNCH_FAILED = "launch failed"
"""Begins SLURM's reason for holding a job that it could not start."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A run of a submission as its record and SLURM show it."""

    run: SubmittedRun
    status: Status
    evaluated: bool
    claimed: bool
    place: Placed | None
    """Its newest task; ``None`` where it was in no batch of this submission."""
    settled: Settled | None
    """What SLURM says of that task; ``None`` where it was not asked: the record says enough."""
    called_off: bool = False
    elsewhere: bool = False
    """Whether another sweep's open submission does it."""
    begun: bool = False
    """Whether its job, which failed, had come as far as to take up runs."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is to be done about one run."""

    standing: Standing
    action: Action
    cause: Cause | None = None
    """Of `again` and `give up`."""
    words: str = ""
    """For people."""
    log: Path | None = None
    """What tells more; left out, the log of the run or of its job."""

    @property
    def fingerprint(self) -> str:
        """Which run."""
        return self.standing.run.fingerprint

    @property
    def queued(self) -> bool:
        """Whether its job is still there."""
        settled = self.standing.settled
        return settled is not None and not settled.final and settled.kind != "unknown"


def decide(standing: Standing, *, tries: Mapping[str, int], slurm: Slurm) -> Decision:
    """Decide what is to be done about a run.

    Args:
        standing: what is known of it.
        tries: how often it was sent again already, by class.
        slurm: the profile, with its caps.
    """
    status, settled = standing.status, standing.settled
    queued = settled is not None and not settled.final and settled.kind != "unknown"
    if standing.evaluated or standing.called_off or status.state == "diverged":
        return Decision(
            standing=standing, action="drop" if queued and _idle(settled) else "done", words=_words(settled)
        )
    if standing.claimed:
        # Its job is gone: whoever writes is a copy that SLURM lost, or just died and cannot be told from that yet.
        lost = standing.place is not None and not queued
        return Decision(standing=standing, action="wait" if lost else "leave", words="somebody works on it")
    if status.state == "failed" and (status.failure is None or of_failure(status.failure) is None):
        return Decision(
            standing=standing, action="drop" if queued and _idle(settled) else "done", words=_words(settled)
        )
    if status.state == "cancelled" and not queued:
        return Decision(standing=standing, action="done", words="called off")
    if settled is not None and not settled.final:
        return _of_queued(standing, settled, slurm)
    if standing.elsewhere:
        return Decision(standing=standing, action="leave", words="another sweep does it")
    cause = _cause(standing)
    if tries.get(cause.kind, 0) >= cap(cause.kind, slurm):
        return Decision(standing=standing, action="give up", cause=cause, words=_words(settled))
    return Decision(standing=standing, action="again", cause=cause, words=_words(settled))


def _of_queued(standing: Standing, settled: Settled, slurm: Slurm) -> Decision:
    if settled.kind == "unknown":
        return Decision(standing=standing, action="wait", words=settled.words)
    if settled.kind == "held" and settled.seen is not None and _launch_failed(settled.seen):
        if settled.seen.restarts > cap("launch failed", slurm):
            return Decision(standing=standing, action="give up", cause=Cause("launch failed"), words=settled.words)
        return Decision(standing=standing, action="release", words=settled.words)
    if settled.kind == "never_satisfied":
        return Decision(standing=standing, action="wait", words=settled.words)
    return Decision(standing=standing, action="leave", words=settled.words)


def _launch_failed(seen: Seen) -> bool:
    """Whether SLURM holds a job because it could not start it, by itself.

    A controller that restarts forgets the reason and keeps the hold, which then looks like an administrator's. Of a job
    that was requeued it is taken for the former: SLURM lets nobody but an administrator release the latter.
    """
    return LAUNCH_FAILED in seen.reason.lower() or (seen.reason == "JobHeldAdmin" and seen.restarts > 0)


def _idle(settled: Settled | None) -> bool:
    """Whether a task has not begun, or not again, so that nothing is interrupted by taking it back."""
    return settled is not None and settled.kind in {"pending", "held", "requeued", "never_satisfied"}


def _cause(standing: Standing) -> Cause:
    """Why a run that nobody works on is not at its end."""
    failure = standing.status.failure
    if standing.status.state == "failed" and failure is not None and (own := of_failure(failure)) is not None:
        return own
    if standing.settled is None:
        return Cause("left" if standing.place is None else "vanished")
    cause = BY_SCHEDULER.get(standing.settled.kind, Cause("vanished"))
    if cause.kind != "job failed" or standing.status.state not in {*ACTIVE, "queued", "trained"}:
        return cause
    if standing.status.attempt or (standing.begun and _was_killed(standing.settled)):
        return Cause("given back")  # its own process had begun, and said nothing bad; or it still waited for its turn
    return cause


def _was_killed(settled: Settled) -> bool:
    """Whether a signal ended a job's script, or what that ran: shells add 128 to the signal's number."""
    return settled.seen is not None and bool(settled.seen.signal or (settled.seen.exit_code or 0) > 128)


def _words(settled: Settled | None) -> str:
    return settled.words if settled is not None else ""


def stand(ledger: Ledger, *, elsewhere: Iterable[str] = ()) -> list[Standing]:
    """Look at every run of a submission: its own record first, and then at its job.

    Raises:
        Unreachable: SLURM does not answer.
    """
    directory = ledger.directory
    submission = directory.read()
    places, others, called_off = ledger.places(), set(elsewhere), directory.cancellation
    found: list[Standing] = []
    for run in submission.runs:
        folder = directory.store.run(run.fingerprint)
        found.append(
            Standing(
                run=run,
                status=folder.status(),
                evaluated=folder.evaluated(submission.evaluation.fingerprint),
                claimed=folder.claimed,
                place=places.get(run.fingerprint),
                settled=None,
                called_off=called_off is not None and called_off.covers(run.fingerprint),
                elsewhere=run.fingerprint in others,
            )
        )
    words = settled(ledger, [s.run.fingerprint for s in found if not _ended(s)])
    return [replace(s, settled=(ended := words.get(s.run.fingerprint)), begun=_begun(ledger, s, ended)) for s in found]


def _begun(ledger: Ledger, standing: Standing, settled: Settled | None) -> bool:
    if settled is None or settled.kind != "failed" or standing.place is None:
        return False
    worker = ledger.batch(standing.place.batch).worker(standing.place.index)
    return ledger.directory.worker(worker) is not None


def settled(ledger: Ledger, unfinished: Collection[str], *, patience: Patience = PATIENT) -> dict[str, Settled]:
    """What SLURM says of the jobs of runs, by fingerprint; those that it was not asked about are left out.

    squeue is asked once, for all of the submission's arrays, and sacct only for the tasks of unfinished runs that
    have left the queue. Names are given too: a number alone may be another job's, after a crash of the controller.

    Args:
        ledger: the submission's.
        unfinished: fingerprints of the runs that are not at their ends.
        patience: how long to wait for answers.

    Raises:
        Unreachable: SLURM does not answer.
    """
    keys = ledger.jobs("runs")
    queue = in_queue(keys, patience=patience) if keys else {}
    tasks = {run: place.job for run, place in ledger.places().items() if place.job is not None}
    found = {run: settle(queue[job], None) for run, job in tasks.items() if job in queue}
    gone = {run: tasks[run] for run in unfinished if run in tasks and run not in found}
    if not gone:
        return found
    records = in_accounting({job: keys[job.partition("_")[0]] for job in gone.values()}, patience=patience)
    return found | {run: settle(None, records.get(job), complete=records.complete) for run, job in gone.items()}


def settled_job(ledger: Ledger, batch: Batch) -> Settled:
    """What SLURM says of a batch of one job that it has taken.

    Raises:
        Unreachable: SLURM does not answer.
    """
    handed = ledger.handed(batch)
    assert handed is not None, "taken"
    job = f"{handed.job}_0"
    queued = in_queue({job: batch.key}).get(job)
    if queued is not None:
        return settle(queued, None)
    records = in_accounting({job: batch.key})
    return settle(None, records.get(job), complete=records.complete)


def _ended(standing: Standing) -> bool:
    """Whether a run's own record says all, so that accounting need not be asked."""
    done = standing.evaluated or standing.called_off or standing.claimed
    return done or standing.status.state == "diverged"
