"""Looking after a submission on a cluster: finds lost jobs, sends again what the cluster ended, and judges at the end.

It is called by whoever submits, and by jobs of the sweep's own: one that waits for all others, and one that comes by
the clock. Any number may look at the same time; one acts.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assay.launch.records import Closed, SubmissionDirectory, trained
from assay.launch.slurm.commands import SlurmError, run
from assay.launch.slurm.ledger import Ledger, slices
from assay.launch.slurm.preparation import Preparation, decide_again, preparation, without_corpora
from assay.launch.slurm.queue import find_by_name, in_queue
from assay.launch.slurm.reconcile import Decision, Standing, decide, stand
from assay.launch.slurm.sbatch import hand_over, job_of_this_process
from assay.launch.slurm.site import array_limit
from assay.lease import LeaseLost, LeaseTimes
from assay.store import Failure
from assay.study import Study

if TYPE_CHECKING:
    from assay.settings import Cluster, Slurm

log = logging.getLogger(__name__)

COMMAND_SECONDS = 30.0
AT_ONCE = 64
"""Runs that are given up at the same time; each may take as long as a lease needs to get stale."""
SOON_MINUTES = 2.0
"""When a job looks again at what could not be told yet."""


@dataclass(frozen=True, kw_only=True)
class Tended:
    """What was found and done."""

    acted: bool
    """Whether this process did it, and not another one at the same time."""
    actions: dict[str, int]
    """Runs by what was decided."""
    sent: int = 0
    """Runs that were sent, or sent again."""
    over: bool = False
    """Whether nothing is left to be done or waited for."""


def tend(
    directory: SubmissionDirectory,
    *,
    elsewhere: Callable[[], Iterable[str]] = tuple,
    patience: float | None = None,
) -> Tended:
    """Bring a submission one look further.

    Args:
        directory: the submission.
        elsewhere: fingerprints of runs that other sweeps' open submissions do.
        patience: seconds to wait for whoever looks after it on another machine; as for `SubmissionDirectory.tending`.

    Raises:
        AssayError: SLURM does not answer, or refused a job.
    """
    try:
        with directory.tending(patience) as held:
            if not held:
                return Tended(acted=False, actions={})
            if directory.closed is not None:
                return Tended(acted=True, actions={}, over=True)
            return _Tender(directory).tend(elsewhere())
    except LeaseLost as lost:
        log.warning("%s Nothing more is sent from here.", lost)
        return Tended(acted=False, actions={})


class _Tender:
    """One look, by the one who holds the submission."""

    def __init__(self, directory: SubmissionDirectory) -> None:
        self.directory = directory
        self.ledger = Ledger(directory)
        self.submission = directory.read()
        self.cluster: Cluster = Study.parse(self.submission.study).cluster
        assert self.cluster.slurm is not None, "a submission for a cluster"
        self.slurm: Slurm = self.cluster.slurm
        self._missing: set[str] = set()
        self._preparation: Preparation | None = None

    def tend(self, elsewhere: Iterable[str]) -> Tended:
        self._adopt()
        decisions = self._decide(stand(self.ledger, elsewhere=elsewhere))
        by_action: dict[str, list[Decision]] = {}
        for decision in decisions:
            by_action.setdefault(decision.action, []).append(decision)
        for action, mine in by_action.items():
            log.info("%s: %d runs (%s)", action, len(mine), _summary(mine))
        _command("release", by_action.get("release", ()))
        # A job is taken back once each of its runs is done.
        through = {"done", "drop", "give up"}
        needed = set(_jobs([decision for decision in decisions if decision.action not in through]))
        idle = [*by_action.get("drop", ()), *(one for one in by_action.get("give up", ()) if one.queued)]
        _drop([job for job in _jobs(idle) if job not in needed])
        taken = self._give_up_all(by_action.get("give up", ()))
        again = by_action.get("again", [])
        self._send(again)
        over = not again and not taken and not ({"leave", "wait", "release"} & by_action.keys())
        if not over:
            theirs = [decision.standing.status.job for decision in by_action.get("leave", ())]
            self._come_back(soon=taken or "wait" in by_action, theirs={job for job in theirs if job})
        counts = {action: len(mine) for action, mine in by_action.items()}
        return Tended(acted=True, actions=counts, sent=len(again), over=over)

    def _adopt(self) -> None:
        """Find the jobs of batches that were meant and whose number nobody wrote down; hand over those that have none."""
        for batch in self.ledger.batches():
            if self.ledger.handed(batch) is not None:
                continue
            found = find_by_name(batch.key, since=batch.created)
            if found:
                log.info("%s: found again as job %s", batch.key, found[0])
                self.ledger.record(batch, found[0])
            else:
                hand_over(self.ledger, batch, self.cluster)

    def _decide(self, standings: Sequence[Standing]) -> list[Decision]:
        tries = self.ledger.tries()
        decisions = [
            decide(standing, tries=tries.get(standing.run.fingerprint, {}), slurm=self.slurm) for standing in standings
        ]
        idle = [one.fingerprint for one in decisions if one.action in {"again", "give up"}]
        self._missing = without_corpora(self.directory, idle)
        self._preparation = preparation(self.ledger) if self._missing else None
        return [
            decide_again(
                decision,
                self._preparation,
                missing=decision.fingerprint in self._missing,
                tries=tries.get(decision.fingerprint, {}),
                slurm=self.slurm,
            )
            if decision.action in {"again", "give up"}
            else decision
            for decision in decisions
        ]

    def _prepare(self, again: Sequence[Decision]) -> list[str]:
        """The job that makes the corpora that runs miss, which is sent again where the cluster has ended it."""
        if self._preparation is None or not self._missing & {decision.fingerprint for decision in again}:
            return []
        if self._preparation.job is not None:
            return [self._preparation.job]
        return [hand_over(self.ledger, self.ledger.mean("prepare"), self.cluster).job]

    def _send(self, again: Sequence[Decision]) -> None:
        """Send runs again, those that are better off alone in jobs of their own."""
        if not again:
            return
        alone = [decision for decision in again if decision.cause is not None and decision.cause.alone]
        others = [decision for decision in again if decision not in alone]
        first = self._prepare(again)
        for decisions, size in ((others, self.slurm.runs_per_job), (alone, 1)):
            send(
                self.ledger,
                self.cluster,
                [decision.fingerprint for decision in decisions],
                size=size,
                causes={decision.fingerprint: decision.cause.kind for decision in decisions if decision.cause},
                exclude=self._bad_nodes(again),
                after_success=first,
            )

    def _bad_nodes(self, decisions: Iterable[Decision]) -> tuple[str, ...]:
        """Nodes that jobs died on: those of earlier batches, and of this look."""
        nodes = {node for batch in self.ledger.batches() for node in batch.exclude}
        for decision in decisions:
            settled = decision.standing.settled
            if decision.cause is not None and decision.cause.bad_node and settled is not None and settled.node:
                nodes.add(settled.node)
        return tuple(sorted(nodes))

    def _give_up_all(self, decisions: Sequence[Decision]) -> bool:
        """Give runs up, many at a time; returns whether somebody took one up meanwhile."""
        if not decisions:
            return False
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return not all(list(pool.map(self._give_up, decisions)))

    def _give_up(self, decision: Decision) -> bool:
        """Say in a run's record why it is not tried again; returns whether that could be said."""
        assert decision.cause is not None, "part of the decision"
        folder, kind = self.directory.store.run(decision.fingerprint), decision.cause.kind
        # Of a process that was killed on another machine it takes a while to be sure that it is gone.
        with folder.claim(LeaseTimes.from_environment().patience) as held:
            if not held:
                return False
            if kind == "cancelled":
                folder.update(state="cancelled", finished=time.time())
                return True
            before = folder.status().failure
            tries = self.ledger.tries().get(decision.fingerprint, Counter())[kind]
            told = before.message if before is not None else decision.words
            again = f" It was tried {tries + 1} times." if tries else ""
            message = f"{told or kind}.{again}".replace("..", ".")
            logged = decision.log or (folder.log if folder.log.exists() else self._job_log(decision))
            folder.update(
                state="failed",
                finished=time.time(),
                failure=Failure(kind=kind, message=message, log=None if logged is None else str(logged)),
            )
            return True

    def _job_log(self, decision: Decision) -> Any:
        place = decision.standing.place
        if place is None or place.job is None:
            return None
        path = self.directory.job_log(place.job)
        return path if path.exists() else None

    def _come_back(self, *, soon: bool, theirs: set[str]) -> None:
        """See to it that a job looks again when the others have ended, and one by the clock.

        Args:
            soon: whether something could not be told yet.
            theirs: jobs that runs were last seen in; those of other sweeps are waited for like the own.
        """
        mine = job_of_this_process()
        own = self.ledger.jobs()  # with their names: numbers begin anew, and another job may have one of ours
        alive = {job.partition("_")[0] for job in in_queue(own) if job != mine}
        current = [job for job in self.ledger.jobs("runs", "prepare") if job in alive]
        others = [job for job in theirs if job.partition("_")[0] not in own]
        current += sorted(in_queue(others)) if others else []
        tenders = [batch for batch in self.ledger.batches() if batch.kind == "tend"]
        there = [batch for batch in tenders if (handed := self.ledger.handed(batch)) and handed.job in alive]
        if current and not any(set(current) <= set(batch.after) for batch in there):
            self._hand_over_tender(after=current)
        minutes = SOON_MINUTES if soon and not self.slurm.tend_minutes else self.slurm.tend_minutes
        if minutes and not any(not batch.after for batch in there):
            self._hand_over_tender(begin_minutes=min(minutes, SOON_MINUTES) if soon else minutes)

    def _hand_over_tender(self, *, after: Sequence[str] = (), begin_minutes: float = 0.0) -> None:
        hand_over(self.ledger, self.ledger.mean("tend", after=after, begin_minutes=begin_minutes), self.cluster)


def send(
    ledger: Ledger,
    cluster: Cluster,
    fingerprints: Sequence[str],
    *,
    size: int,
    causes: dict[str, str] | None = None,
    exclude: Sequence[str] = (),
    after_success: Sequence[str] = (),
) -> list[str]:
    """Hand runs over in arrays that the cluster takes.

    Args:
        ledger: the submission's.
        cluster: its profile.
        fingerprints: the runs.
        size: how many a job does.
        causes: why they are sent again.
        exclude: nodes to keep away from.
        after_success: jobs that have to end well first.

    Returns:
        The arrays' job numbers.
    """
    tasks = list(slices(ledger.directory.read(), fingerprints, size))
    limit = array_limit()
    jobs = []
    for first in range(0, len(tasks), limit):
        part = tasks[first : first + limit]
        names = {fingerprint for task in part for fingerprint in task}
        batch = ledger.mean(
            "runs",
            tasks=part,
            causes={name: cause for name, cause in (causes or {}).items() if name in names},
            exclude=exclude,
            after_success=after_success,
        )
        for fingerprint in names:
            put_back(ledger.directory, fingerprint)
        jobs.append(hand_over(ledger, batch, cluster).job)
    return jobs


def put_back(directory: SubmissionDirectory, fingerprint: str) -> None:
    """Let a run that an earlier job left in some state wait for its next one; its checkpoints stay."""
    folder = directory.store.run(fingerprint)
    if folder.status().state in {"queued", "trained"}:
        return
    with folder.claim() as held:
        if held:
            folder.update(state="trained" if trained(folder) else "queued", failure=None, finished=None)


def close(directory: SubmissionDirectory, *, decision: str | None) -> None:
    """Mark a submission as over, and take back the jobs that were still to look after it."""
    directory.close(Closed(at=time.time(), decision=decision))
    jobs, mine = Ledger(directory).jobs(), job_of_this_process().partition("_")[0]
    with contextlib.suppress(SlurmError):  # they would look, see that it is closed, and end
        left = sorted({job.partition("_")[0] for job in in_queue(jobs)} - {mine}) if jobs else []
        if left:
            run(["scancel", *left], timeout=COMMAND_SECONDS)


def _command(verb: str, decisions: Sequence[Decision]) -> None:
    for job in _jobs(decisions):
        try:
            run(["scontrol", verb, job], timeout=COMMAND_SECONDS)
        except SlurmError as error:
            log.warning("scontrol %s %s: %s", verb, job, error)


def _drop(jobs: Sequence[str]) -> None:
    if jobs:
        try:
            run(["scancel", *jobs], timeout=COMMAND_SECONDS)
        except SlurmError as error:
            log.warning("scancel: %s", error)


def _jobs(decisions: Sequence[Decision]) -> list[str]:
    places = [decision.standing.place for decision in decisions]
    return sorted({place.job for place in places if place is not None and place.job is not None})


def _summary(decisions: Sequence[Decision]) -> str:
    words = Counter(decision.cause.kind if decision.cause else decision.words for decision in decisions)
    return ", ".join(f"{count} {word}" for word, count in words.most_common(4) if word) or "as they should be"
