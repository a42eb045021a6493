"""Run a job of an audit: scan the shards of one task, or combine the results.

A requeued job scans only the shards that were not scanned before.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from assay.audit.engine import pending_tasks, record_audits, scan_tasks, split_tasks
from assay.audit.findings import Findings
from assay.core.errors import AssayError, Refused
from assay.launch.local.worker import worker_environment
from assay.launch.slurm.audit.records import AuditDirectory, AuditOutcome, AuditSubmission, FailedShard, Shard
from assay.launch.slurm.sbatch import request_resources

if TYPE_CHECKING:
    from assay.audit.task import AuditTask
    from assay.launch.slurm.batches import ArrayTask

log = logging.getLogger(__name__)


def run_audit_job(path: Path, task: ArrayTask) -> int:
    """Perform one task of a batch, and return the exit code: 1 if shards are left."""
    directory = AuditDirectory(path)
    os.environ.update(worker_environment(directory.read().cluster, task.index, os.environ))
    return _combine(directory) if task.batch.kind == "merge" else _scan(directory, task)


def _scan(directory: AuditDirectory, job: ArrayTask) -> int:
    submission, store = directory.read(), directory.store.root
    tasks = submission.tasks(frozenset(job.items))
    todo = pending_tasks(tasks, store=store)
    log.info("%d shards, %d of them scanned before", len(job.items), len(job.items) - len({task.key for task in todo}))
    same, failed = _unchanged(submission, todo, store)
    began = time.monotonic()
    workers = request_resources(submission.cluster, "shards").cpus_per_node
    failed += [
        _failed(task, error) for task, error in scan_tasks(same, submission.settings, store=store, workers=workers)
    ]
    directory.record_failed(job, failed)
    for shard in failed:
        log.error("%s: %s", shard.shard, shard.why)
    size = sum(task.size for task in same) / 1e6
    log.info("%.1f MB in %.1f s", size, time.monotonic() - began)
    return 1 if failed else 0


def _unchanged(
    submission: AuditSubmission, tasks: Sequence[AuditTask], store: Path
) -> tuple[list[AuditTask], list[FailedShard]]:
    """Separate shards whose file changed since the submission.

    A scan of a changed file would be recorded under the digest of the old file.
    """
    files: dict[str, list[str]] = {}
    for name, file in dict.fromkeys((task.source.name, task.source.files[0]) for task in tasks):
        if "://" in file or Path(file).is_file():
            files.setdefault(name, []).append(file)
    present = {name: (replace(submission.sources[name], files=tuple(each)), "") for name, each in files.items()}
    now = split_tasks(present, submission.settings, store=store)
    keys = {task.key for each in now.values() for task in each}
    failed = []
    for task in tasks:
        if task.key not in keys:
            present_here = task.source.files[0] in files.get(task.source.name, ())
            problem = "changed after the audit was submitted" if present_here else "is missing on this node"
            failed.append(_failed(task, Refused(f"the file {problem}.", fix="Repeat the command.")))
    return [task for task in tasks if task.key in keys], failed


def _failed(task: AuditTask, error: AssayError) -> FailedShard:
    return FailedShard(shard=Shard.of(task).label, key=task.key, why=" ".join(str(error).split()))


def _combine(directory: AuditDirectory) -> int:
    """Combine the results if all shards are scanned, and record the outcome."""
    submission, store = directory.read(), directory.store.root
    tasks = submission.tasks()
    missing = {task.key for task in pending_tasks(tasks, store=store)}
    if missing:
        log.error(
            "%d of %d shards were not scanned; repeat the command to scan them", len(missing), len(submission.shards)
        )
        directory.close(AuditOutcome(at=time.time(), outcome="incomplete", left=len(missing)))
        return 1
    kept = Findings(store)
    before = {name: kept.detectors_with_findings(name) for name in tasks}
    sources = {name: (source, submission.digests[name]) for name, source in submission.sources.items()}
    done = record_audits(sources, tasks, submission.settings, store=store)
    findings = [finding for _, each in done.values() for finding in each if not finding.isolated]
    new = tuple(finding.id for finding in findings if finding.detector not in before[finding.source])
    directory.close(
        AuditOutcome(
            at=time.time(), outcome="audited", audits={name: audit.id for name, (audit, _) in done.items()}, new=new
        )
    )
    log.info("%d findings, %d of them new", len(findings), len(new))
    return 0
