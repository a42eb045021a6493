"""`python -m assay.launch.slurm.audit_job AUDIT BATCH`: what every job of an audit runs.

As with a sweep's jobs, what is to be done follows from the batch and the array's index, so a job that is requeued does the
same again: of its shards, those that nobody has looked at yet.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from assay.audit.engine import conclude, left, look, tasks_of
from assay.audit.findings import Findings
from assay.audit.task import Task
from assay.errors import AssayError
from assay.launch.attempt import log_to_stderr
from assay.launch.slurm.audit_records import AuditDirectory, AuditSubmission, Ended, FailedShard, Shard
from assay.launch.slurm.audit_submit import cores
from assay.launch.slurm.ledger import Batch
from assay.launch.worker import worker_environment

log = logging.getLogger("assay.launch.slurm.audit_job")  # its own name is __main__ in a job


def main(folder: str, number: int) -> int:
    """Do what a batch is for; returns the exit code, 1 where something is left."""
    log_to_stderr()
    directory = AuditDirectory(Path(folder))
    batch = directory.batches.batch(number)
    cluster, index = directory.submission.cluster, int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))
    os.environ.update(worker_environment(cluster, index, os.environ))
    return merge(directory) if batch.kind == "merge" else look_at(directory, batch, index)


def look_at(directory: AuditDirectory, batch: Batch, index: int) -> int:
    """Look at the shards of one task of an array."""
    submission, store, mine = directory.submission, directory.store.root, set(batch.tasks[index])
    tasks = {name: [task for task in each if task.key in mine] for name, each in submission.tasks().items()}
    todo = left(tasks, store=store)
    log.info("%d shards, %d of them looked at before", len(mine), len(mine) - len({task.key for task in todo}))
    same, failed = _unchanged(submission, todo, store)
    began = time.monotonic()
    failed += [
        _failed(task, error)
        for task, error in look(same, submission.settings, store=store, workers=cores(submission.cluster))
    ]
    directory.record_failed(batch.number, index, failed)
    for one in failed:
        log.error("%s: %s", one.shard, one.why)
    size = sum(task.size for task in same) / 1e6
    log.info("%.1f MB in %.1f s", size, time.monotonic() - began)
    return 1 if failed else 0


def _unchanged(submission: AuditSubmission, tasks: Sequence[Task], store: Path) -> tuple[list[Task], list[FailedShard]]:
    """Those whose files are what they were: others would be written down under a digest that is not theirs."""
    same: list[Task] = []
    failed: list[FailedShard] = []
    for name, source in submission.sources.items():
        mine = [task for task in tasks if task.source.name == name]
        if not mine:
            continue
        files = tuple(dict.fromkeys(task.source.files[0] for task in mine))
        there = tuple(file for file in files if "://" in file or Path(file).is_file())
        now = (
            tasks_of({name: (replace(source, files=there), "")}, submission.settings, store=store)[name]
            if there
            else []
        )
        keys = {task.key for task in now}
        same += [task for task in mine if task.key in keys]
        for task in mine:
            if task.key not in keys:
                what = (
                    "changed after this was submitted" if task.source.files[0] in there else "is not there on this node"
                )
                failed.append(_failed(task, AssayError(f"the file {what}.", fix="Run the same command again.")))
    return same, failed


def _failed(task: Task, error: AssayError) -> FailedShard:
    return FailedShard(shard=Shard.of(task).label, key=task.key, why=" ".join(str(error).split()))


def merge(directory: AuditDirectory) -> int:
    """Sum up what was seen, if all was; write down what the audit came to."""
    submission, store = directory.submission, directory.store.root
    tasks = submission.tasks()
    missing = left(tasks, store=store)
    if missing:
        log.error(
            "%d of %d shards were not looked at; the same command again looks at them",
            len(missing),
            len(submission.shards),
        )
        directory.close(Ended(at=time.time(), outcome="incomplete", left=len({task.key for task in missing})))
        return 1
    kept = Findings(store)
    before = {name: kept.seen(name) for name in tasks}
    sources = {name: (source, submission.digests[name]) for name, source in submission.sources.items()}
    done = conclude(sources, tasks, submission.settings, store=store)
    found = [finding for _, findings in done.values() for finding in findings if not finding.isolated]
    new = tuple(finding.id for finding in found if finding.detector not in before[finding.source])
    directory.close(
        Ended(at=time.time(), outcome="audited", audits={name: audit.id for name, (audit, _) in done.items()}, new=new)
    )
    log.info("%d findings, %d of them new", len(found), len(new))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
