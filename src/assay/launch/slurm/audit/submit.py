"""Submit an audit as a job array that scans files, and a final job.

The final job combines the results.
"""

from __future__ import annotations

import heapq
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from assay.audit.engine import pending_tasks, split_tasks
from assay.audit.task import AuditSettings, AuditTask
from assay.core.errors import AssayError
from assay.core.files import exclusive
from assay.launch.slurm.audit.records import AuditDirectory, AuditOutcome, AuditSubmission, Shard, audits, folder
from assay.launch.slurm.sbatch import request_resources, submit_arrays, submit_batch
from assay.launch.slurm.submit import check_cluster
from assay.launch.snapshot import freeze
from assay.store.checks import check_store

if TYPE_CHECKING:
    from assay.config.cluster import Cluster
    from assay.config.sources import Source
    from assay.store.runs import Store

JOB_BYTES = 4_000_000_000
"""Default number of bytes per core of a job: about 200 s of scanning at 20 MB/s, compared with 3 s of imports."""


@dataclass(frozen=True, kw_only=True)
class SubmittedAudit:
    """Result of `submit_audit`."""

    state: Literal["sent", "under way", "audited"]
    """`sent`: submitted now. `under way`: submitted before and still active. `audited`: complete."""
    directory: AuditDirectory
    shards: int
    """Number of shards of the audit."""
    done: int
    """Number of shards that were scanned before."""
    sent: int = 0
    """Number of shards that were submitted now. The other unscanned shards were already queued."""
    jobs: int = 0
    """Number of submitted scan jobs."""
    warnings: tuple[str, ...] = ()


def submit_audit(
    sources: Mapping[str, tuple[Source, str]],
    settings: AuditSettings,
    *,
    store: Store,
    cluster: Cluster,
    jobs: int | None = None,
    clock: Callable[[], float] = time.time,
) -> SubmittedAudit:
    """Submit the unscanned shards without waiting for their jobs.

    Scan results are stored under the digest of the file and the detectors' versions, so earlier scans count. Shards
    that are already queued are not submitted again. A second call therefore submits only lost and failed shards.

    Args:
        sources: sources with their digests, by name.
        settings: detectors and their settings.
        store: store of the findings, which all nodes must share.
        cluster: a SLURM profile.
        jobs: number of scan jobs (default: derived from the size of the files).
        clock: returns seconds since the epoch.

    Raises:
        AssayError: the store is not writable, SLURM does not answer, or the cluster can never run such jobs.
    """
    check_store(store)
    tasks = split_tasks(sources, settings, store=store.root)
    shards = {task.key: task for each in tasks.values() for task in each}  # duplicate files count once
    with exclusive(folder(store) / "lock", wait=True):
        queued: dict[str, str] = {}
        for directory in (each for each in audits(store) if each.closed is None):
            directory.ledger.recover()
            active = directory.ledger.queued_tasks()
            if shards.keys() <= directory.read().keys and any(task.batch.kind == "merge" for task in active):
                done = len(shards.keys() - _unread(tasks, store))
                return SubmittedAudit(state="under way", directory=directory, shards=len(shards), done=done)
            queued |= {key: task.job.partition("_")[0] for task in active if task.job for key in task.items}
        todo = _unread(tasks, store)
        done = len(shards.keys() - todo)
        if not todo and (before := _audited(store, shards.keys(), sources)) is not None:
            return SubmittedAudit(state="audited", directory=before, shards=len(shards), done=done)
        warnings = check_cluster(cluster, ["shards"])
        created = clock()
        submission = AuditSubmission(
            id=f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(created))}-{secrets.token_hex(3)}",
            created=created,
            cluster=cluster,
            code=freeze(store).digest,
            sources={name: source for name, (source, _) in sources.items()},
            digests={name: digest for name, (_, digest) in sources.items()},
            settings=settings,
            shards=tuple(Shard.of(task) for each in tasks.values() for task in each),
        )
        directory = AuditDirectory(folder(store) / submission.id)
        directory.create(submission)
        unsubmitted = [task for key, task in shards.items() if key in todo - queued.keys()]
        cpus = request_resources(cluster, "shards").cpus_per_node
        parts = distribute_tasks(unsubmitted, jobs or job_count(sum(task.size for task in unsubmitted), cpus))
        _submit_jobs(directory, parts, after={queued[key] for key in shards.keys() & queued.keys()})
    return SubmittedAudit(
        state="sent",
        directory=directory,
        shards=len(shards),
        done=done,
        sent=len(unsubmitted),
        jobs=len(parts),
        warnings=tuple(warnings),
    )


def _unread(tasks: Mapping[str, Sequence[AuditTask]], store: Store) -> set[str]:
    """Return the keys of the unscanned shards."""
    return {task.key for task in pending_tasks(tasks, store=store.root)}


def job_count(size: int, cpus: int) -> int:
    """Compute the default number of scan jobs for a number of bytes.

    >>> job_count(0, 1), job_count(4_000_000_001, 1), job_count(10**12, 8)
    (1, 2, 32)
    """
    return max(1, -(-size // (JOB_BYTES * cpus)))


def distribute_tasks(tasks: Sequence[AuditTask], jobs: int) -> list[list[AuditTask]]:
    """Distribute files over jobs of similar size (Graham 1969).

    The largest file is assigned first, and each file to the smallest job.

    Args:
        tasks: files to scan.
        jobs: maximum number of jobs; fewer if there are fewer files.
    """
    parts: list[list[AuditTask]] = [[] for _ in range(min(jobs, len(tasks)))]
    loads = [(0, number) for number in range(len(parts))]
    for task in sorted(tasks, key=lambda task: (-task.size, task.key)):
        load, number = heapq.heappop(loads)
        parts[number].append(task)
        heapq.heappush(loads, (load + task.size, number))
    return parts


def _audited(store: Store, keys: AbstractSet[str], sources: Mapping[str, tuple[Source, str]]) -> AuditDirectory | None:
    """Return the newest complete audit of exactly these shards."""
    digests = {name: digest for name, (_, digest) in sources.items()}
    for directory in audits(store):
        submission, closed = directory.read(), directory.closed
        if submission.keys == keys and submission.digests == digests and closed and closed.outcome == "audited":
            return directory
    return None


def _submit_jobs(directory: AuditDirectory, parts: Sequence[Sequence[AuditTask]], *, after: AbstractSet[str]) -> None:
    """Submit the arrays, and the job that combines the results.

    The job waits for the arrays and for the jobs of other audits. The job runs even if scan jobs fail: it records the
    missing shards.
    """
    ledger, cluster = directory.ledger, directory.read().cluster
    try:
        arrays = submit_arrays(ledger, "shards", [[task.key for task in part] for part in parts], cluster)
        submit_batch(ledger, ledger.declare("merge", after=(*sorted(after), *arrays)), cluster)
    except AssayError:
        if not ledger.jobs():
            directory.close(AuditOutcome(at=time.time(), outcome="incomplete", left=sum(map(len, parts))))
        raise
