"""Sending an audit to a cluster: files dealt out to the tasks of an array, and a job after them that sums up what was seen."""

from __future__ import annotations

import heapq
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from assay.audit.engine import left, tasks_of
from assay.audit.task import Settings, Task
from assay.errors import AssayError
from assay.files import exclusive
from assay.launch.slurm.audit_records import AuditDirectory, AuditSubmission, Ended, Shard, audits, folder
from assay.launch.slurm.ledger import Batch, Kind
from assay.launch.slurm.queue import find_by_name, in_queue
from assay.launch.slurm.sbatch import Arrays, have_taken, job_command, parameters, time_limit
from assay.launch.slurm.site import Request, array_limit, ask_site, check
from assay.launch.snapshot import freeze, snapshot_of
from assay.launch.submission import check_store

if TYPE_CHECKING:
    from assay.settings import Cluster
    from assay.sources import Source
    from assay.store import Store

JOB_BYTES = 4_000_000_000
"""Of text that a core of a job looks at, unless more jobs are asked for: some 200 s at 20 MB/s, beside 3 s of imports."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What became of asking for an audit on a cluster."""

    state: Literal["sent", "under way", "audited"]
    """It was sent now; it was before, and goes on; or it is over, with all that was asked for."""
    directory: AuditDirectory
    shards: int
    """That the audit rests on."""
    done: int
    """Of these, that were looked at already."""
    sent: int = 0
    """Of these, that were sent now; the others are in the queue since before."""
    jobs: int = 0
    """That they were dealt out to."""
    warnings: tuple[str, ...] = ()


def submit_audit(
    sources: Mapping[str, tuple[Source, str]],
    settings: Settings,
    *,
    store: Store,
    cluster: Cluster,
    jobs: int | None = None,
    clock: Callable[[], float] = time.time,
) -> Sent:
    """Send what nobody has looked at yet, and return.

    What was looked at is found under the digest of its file and the detectors' versions, wherever that was done; what is
    in the queue is left to those who have it. So a second call sends what was killed or failed, and nothing twice.

    Args:
        sources: each with its digest, by name.
        settings: what to look with.
        store: where findings are kept; the nodes have to share it.
        cluster: a profile for SLURM.
        jobs: how many the files are dealt out to; left out, by their size.
        clock: seconds since the epoch.

    Raises:
        AssayError: the store cannot be written, or SLURM does not answer, or would never run such jobs.
    """
    check_store(store)
    tasks = tasks_of(sources, settings, store=store.root)
    every = [task for each in tasks.values() for task in each]
    keys = {task.key for task in every}
    with exclusive(folder(store) / "lock", wait=True):
        queued: dict[str, str] = {}
        for directory in (one for one in audits(store) if one.closed is None):
            there = in_queue_still(directory)
            if keys <= directory.submission.keys and any(one.kind == "merge" for one in there):
                done = len(keys) - len({task.key for task in left(tasks, store=store.root)})
                return Sent(state="under way", directory=directory, shards=len(keys), done=done)
            queued |= {key: one.job for one in there for key in one.keys if key in keys}
        todo = _once(left(tasks, store=store.root))
        done = len(keys) - len(todo)
        if not todo and (before := _audited(store, keys, sources)) is not None:
            return Sent(state="audited", directory=before, shards=len(keys), done=done)
        warnings = check(request(cluster), ask_site())
        created = clock()
        directory = AuditDirectory(folder(store) / f"{_stamp(created)}-{secrets.token_hex(3)}")
        directory.create(
            AuditSubmission(
                id=directory.path.name,
                created=created,
                cluster=cluster,
                code=freeze(store).digest,
                sources={name: source for name, (source, _) in sources.items()},
                digests={name: digest for name, (_, digest) in sources.items()},
                settings=settings,
                shards=tuple(Shard.of(task) for task in every),
            )
        )
        mine = [task for task in todo if task.key not in queued]
        parts = split(mine, jobs or job_count(sum(task.size for task in mine), cores(cluster)))
        _send(directory, parts, after=sorted(set(queued.values())))
    return Sent(
        state="sent",
        directory=directory,
        shards=len(keys),
        done=done,
        sent=len(mine),
        jobs=len(parts),
        warnings=tuple(warnings),
    )


def job_count(size: int, cpus: int) -> int:
    """How many jobs so many bytes are dealt out to.

    >>> job_count(0, 1), job_count(4_000_000_001, 1), job_count(10**12, 8)
    (1, 2, 32)
    """
    return max(1, -(-size // (JOB_BYTES * cpus)))


def split(tasks: Sequence[Task], jobs: int) -> list[list[Task]]:
    """Deal files out so that all jobs have about as much to read: the largest first, each to who has least (Graham 1969).

    Args:
        tasks: what is to be looked at.
        jobs: how many; fewer are made where there are fewer files.
    """
    made: list[list[Task]] = [[] for _ in range(min(jobs, len(tasks)))]
    loads = [(0, number) for number in range(len(made))]
    for task in sorted(tasks, key=lambda task: (-task.size, task.key)):
        load, number = heapq.heappop(loads)
        made[number].append(task)
        heapq.heappush(loads, (load + task.size, number))
    return made


def cores(cluster: Cluster) -> int:
    """Of a job: as many as one that trains has."""
    assert cluster.slurm is not None, "a profile for SLURM"
    return cluster.cpus_per_worker * cluster.slurm.at_once


def request(cluster: Cluster) -> Request:
    """What each job asks for: one node, no GPU."""
    slurm = cluster.slurm
    assert slurm is not None, "a profile for SLURM"
    return Request(
        partition=slurm.control_partition or slurm.partition,
        cpus_per_node=cores(cluster),
        memory_mb_per_node=_memory_mb(cluster),
        minutes=time_limit(cluster, training=True),
        exclude=slurm.exclude,
        account=slurm.account,
    )


def _memory_mb(cluster: Cluster) -> int | None:
    assert cluster.slurm is not None, "a profile for SLURM"
    return None if cluster.slurm.memory_gb is None else round(cluster.slurm.memory_gb * 1024)


def _once(tasks: Iterable[Task]) -> list[Task]:
    """Without files that are there twice, in one source or in two that are read alike."""
    return list({task.key: task for task in tasks}.values())


def _stamp(created: float) -> str:
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime(created))


class Queued(NamedTuple):
    """What SLURM still has of a batch.

    Attributes:
        kind: of the batch.
        job: its number.
        keys: of the shards of those tasks that are in the queue.
    """

    kind: Kind
    job: str
    keys: frozenset[str]


def in_queue_still(directory: AuditDirectory) -> list[Queued]:
    """The batches of an audit that SLURM still has.

    Whoever sent one may have ended before it wrote down the number; it is asked for by its key.
    """
    batches = directory.batches
    for batch in batches.batches():
        if batches.handed(batch) is None and (found := find_by_name(batch.key, since=batch.created)):
            batches.record(batch, found[0])
    jobs = batches.jobs()
    queue = in_queue(jobs) if jobs else {}
    still = []
    for batch in batches.batches():
        handed = batches.handed(batch)
        here = [i for i in range(len(batch.tasks)) if handed is not None and f"{handed.job}_{i}" in queue]
        if handed is not None and here:
            keys = frozenset(key for index in here for key in batch.tasks[index])
            still.append(Queued(batch.kind, handed.job, keys))
    return still


def _audited(store: Store, keys: set[str], sources: Mapping[str, tuple[Source, str]]) -> AuditDirectory | None:
    """The newest audit on a cluster that summed up exactly this."""
    digests = {name: digest for name, (_, digest) in sources.items()}
    for directory in audits(store):
        submission, closed = directory.submission, directory.closed
        if submission.keys == keys and submission.digests == digests and closed and closed.outcome == "audited":
            return directory
    return None


def _send(directory: AuditDirectory, parts: Sequence[Sequence[Task]], *, after: Sequence[str]) -> None:
    """Hand over the arrays, and the job that comes after them and after those of others.

    It comes however they end: it is what says that something was not looked at.
    """
    batches, awaited = directory.batches, list(after)
    try:
        limit = array_limit() if parts else 1
        for first in range(0, len(parts), limit):
            keys = [tuple(task.key for task in part) for part in parts[first : first + limit]]
            awaited.append(_hand_over(directory, batches.mean("shards", tasks=keys)))
        _hand_over(directory, batches.mean("merge", after=awaited))
    except AssayError:
        if not batches.jobs():
            directory.close(Ended(at=time.time(), outcome="incomplete", left=sum(map(len, parts))))
        raise


def _hand_over(directory: AuditDirectory, batch: Batch) -> str:
    submission, cluster = directory.submission, directory.submission.cluster
    asked = parameters(batch, cluster)
    asked |= {"time": time_limit(cluster, training=True), "cpus_per_task": cores(cluster)}
    if (memory := _memory_mb(cluster)) is not None:
        asked["mem"] = f"{memory}MB"
    executor = Arrays(folder=directory.submitit)
    executor.update_parameters(**asked)
    code = snapshot_of(directory.store, submission.code)
    command = job_command(code, "assay.launch.slurm.audit_job", directory.path, batch.number)
    return have_taken(directory.batches, batch, executor, executor.script(command, len(batch.tasks))).job
