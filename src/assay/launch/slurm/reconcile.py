"""What is to be done about each run of a submission, from its own record first and SLURM's word second."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from assay.launch.slurm.causes import BY_SCHEDULER, Cause, cap, of_failure
from assay.launch.slurm.queue import Seen, Settled, in_accounting, in_queue, settle
from assay.store import ACTIVE

if TYPE_CHECKING:
    from assay.launch.records import SubmittedRun
    from assay.launch.slurm.ledger import Ledger, Placed
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


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is to be done about one run."""

    standing: Standing
    action: Action
    cause: Cause | None = None
    """Of `again` and `give up`."""
    words: str = ""
    """For people."""

    @property
    def fingerprint(self) -> str:
        """Which run."""
        return self.standing.run.fingerprint


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
        return Decision(standing=standing, action="leave", words="somebody works on it")
    if status.state == "failed" and (status.failure is None or of_failure(status.failure) is None):
        return Decision(
            standing=standing, action="drop" if queued and _idle(settled) else "done", words=_words(settled)
        )
    if status.state == "cancelled" and not queued:
        return Decision(standing=standing, action="done", words="called off")
    if settled is not None and not settled.final:
        return _of_queued(standing, settled)
    if standing.elsewhere:
        return Decision(standing=standing, action="leave", words="another sweep does it")
    cause = _cause(standing)
    if tries.get(cause.kind, 0) >= cap(cause.kind, slurm):
        return Decision(standing=standing, action="give up", cause=cause, words=_words(settled))
    return Decision(standing=standing, action="again", cause=cause, words=_words(settled))


def _of_queued(standing: Standing, settled: Settled) -> Decision:
    if settled.kind == "unknown":
        return Decision(standing=standing, action="wait", words=settled.words)
    if settled.kind == "held" and LAUNCH_FAILED in settled.words.lower():
        return Decision(standing=standing, action="release", words=settled.words)
    if settled.kind == "never_satisfied":
        return Decision(standing=standing, action="wait", words=settled.words)
    return Decision(standing=standing, action="leave", words=settled.words)


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
    if (
        cause.kind == "job failed"
        and standing.status.state in {*ACTIVE, "queued", "trained"}
        and standing.status.attempt
    ):
        return Cause("given back")  # its own process had begun, and said nothing bad
    return cause


def _words(settled: Settled | None) -> str:
    return settled.words if settled is not None else ""


def stand(ledger: Ledger, *, elsewhere: Iterable[str] = ()) -> list[Standing]:
    """Look at every run of a submission.

    Its own record is read first; squeue is asked once, for the tasks of runs that are not at their ends or still
    have a job; sacct only for tasks of unfinished runs that have left the queue.

    Raises:
        Unreachable: SLURM does not answer.
    """
    directory = ledger.directory
    submission = directory.read()
    places, others, called_off = ledger.places(), set(elsewhere), directory.cancellation
    jobs = [handed.job for batch in ledger.batches() if batch.kind == "runs" and (handed := ledger.handed(batch))]
    queue = in_queue(jobs) if jobs else {}
    found: list[Standing] = []
    for run in submission.runs:
        folder = directory.store.run(run.fingerprint)
        place = places.get(run.fingerprint)
        task = queue.get(place.job) if place is not None and place.job is not None else None
        status = folder.status()
        found.append(
            Standing(
                run=run,
                status=status,
                evaluated=folder.evaluated(submission.evaluation.fingerprint),
                claimed=folder.claimed,
                place=place,
                settled=settle(task, None) if task is not None else None,
                called_off=called_off is not None and called_off.covers(run.fingerprint),
                elsewhere=run.fingerprint in others,
            )
        )
    return _with_accounts(found)


def _with_accounts(standings: list[Standing]) -> list[Standing]:
    """Ask accounting of the tasks that left the queue though their runs are not at their ends."""
    from dataclasses import replace

    asked = {s.place.job for s in standings if _needs_account(s) and s.place is not None and s.place.job is not None}
    accounts: dict[str, Seen] = in_accounting(sorted(asked)) if asked else {}
    return [
        replace(s, settled=settle(None, accounts.get(s.place.job or "")))
        if _needs_account(s) and s.place is not None and s.place.job is not None
        else s
        for s in standings
    ]


def _needs_account(standing: Standing) -> bool:
    return standing.settled is None and not (
        standing.evaluated or standing.called_off or standing.claimed or standing.status.state == "diverged"
    )
