"""Store the records of audits that were submitted to a cluster.

Each audit has a folder in the store::

    audits/.jobs/<id>/submission.json        sources, files and detectors; written before any job is submitted
                      batches/<n>.json       job arrays, see `assay.launch.slurm.batches`
                      failed/<n>-<i>.json    shards that a task of an array could not scan
                      submitit/              scripts and job logs
                      closed.json            the outcome
                      shown                  exists after the findings were printed

The scan results of a file are stored elsewhere, under the file's digest and the detectors' versions
(`assay.audit.engine`). Every later audit therefore reuses the results.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from assay.audit.task import AuditSettings, AuditTask
from assay.config.cluster import Cluster
from assay.config.sources import Source
from assay.core.errors import Damaged
from assay.core.files import read_json, write_json
from assay.core.serde import from_record, to_mapping
from assay.launch.slurm.batches import ArrayTask, Ledger
from assay.store.runs import Store

Outcome = Literal["audited", "incomplete"]
"""`audited`: all shards are scanned and combined. `incomplete`: repeat the command to scan the remaining shards."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A file of a source, or a part of a large file."""

    key: str
    """Key of the shard's scan results: a digest of the file, the part, and the detectors with their versions."""
    source: str
    url: str
    part: int
    parts: int
    size: int
    """Size of the stored file or part in bytes."""

    @classmethod
    def of(cls, task: AuditTask) -> Shard:
        """Build the record of a scan task."""
        return cls(
            key=task.key,
            source=task.source.name,
            url=task.source.files[0],
            part=task.part,
            parts=task.parts,
            size=task.size,
        )

    @property
    def label(self) -> str:
        """Name of the shard for users: source, file and part."""
        part = f" (part {self.part + 1} of {self.parts})" if self.parts > 1 else ""
        return f"{self.source}: {self.url}{part}"


@dataclass(frozen=True, kw_only=True)
class AuditSubmission:
    """Record of a submitted audit: sources, detectors and cluster."""

    id: str
    created: float
    """Seconds since the epoch."""
    cluster: Cluster
    code: str
    """Digest of the code snapshot that the jobs run."""
    sources: dict[str, Source]
    digests: dict[str, str]
    settings: AuditSettings
    shards: tuple[Shard, ...]
    """All shards of the audit, including shards that were scanned before."""

    def tasks(self, keys: frozenset[str] | None = None) -> dict[str, list[AuditTask]]:
        """Convert shards (default: all shards) to the tasks of `assay.audit.engine`, by source."""
        tasks: dict[str, list[AuditTask]] = {name: [] for name in self.sources}
        for shard in self.shards:
            if keys is None or shard.key in keys:
                source = replace(self.sources[shard.source], files=(shard.url,))
                task = AuditTask(source=source, part=shard.part, parts=shard.parts, key=shard.key, size=shard.size)
                tasks[shard.source].append(task)
        return tasks

    @property
    def keys(self) -> frozenset[str]:
        """Keys of the audit's shards."""
        return frozenset(shard.key for shard in self.shards)


@dataclass(frozen=True, kw_only=True)
class AuditOutcome:
    """Outcome of an audit."""

    at: float
    outcome: Outcome
    left: int = 0
    """Number of shards that were not scanned."""
    audits: dict[str, str] = field(default_factory=dict)
    """Ids of the audits, by source."""
    new: tuple[str, ...] = ()
    """Ids of findings whose detector had no finding in the source before."""


@dataclass(frozen=True, kw_only=True)
class FailedShard:
    """A shard that a job could not scan."""

    shard: str
    """Label of the shard."""
    key: str
    why: str


class AuditDirectory:
    """The folder of one audit."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._submission: AuditSubmission | None = None

    @property
    def store(self) -> Store:
        """The store that contains the audit."""
        return Store(self.path.parents[2])

    @property
    def ledger(self) -> Ledger[AuditDirectory]:
        """The job arrays of the audit."""
        return Ledger(self)

    @property
    def submitit(self) -> Path:
        """Folder of scripts and job logs."""
        return self.path / "submitit"

    def job_log(self, job: str) -> Path:
        """Return the log path of a job, by its SLURM id."""
        return self.submitit / f"{job}_0_log.out"

    def check(self) -> None:
        """Do nothing, because a lock in `folder` excludes concurrent submissions."""

    def create(self, submission: AuditSubmission) -> None:
        """Write the record of the submission."""
        write_json(self.path / "submission.json", to_mapping(submission))

    def read(self) -> AuditSubmission:
        """Read and cache the record of the submission, which never changes."""
        if self._submission is None:
            path = self.path / "submission.json"
            self._submission = from_record(AuditSubmission, read_json(path), where=str(path))
        return self._submission

    def close(self, outcome: AuditOutcome) -> None:
        """Record the outcome."""
        write_json(self.path / "closed.json", to_mapping(outcome))

    @property
    def closed(self) -> AuditOutcome | None:
        """Outcome of the audit; None while no outcome is recorded."""
        path = self.path / "closed.json"
        with contextlib.suppress(FileNotFoundError):
            return from_record(AuditOutcome, read_json(path), where=str(path))
        return None

    def record_failed(self, task: ArrayTask, failed: Sequence[FailedShard]) -> None:
        """Record the shards that a task could not scan. Without such shards, remove an earlier record."""
        path = self.path / "failed" / f"{task.batch.number}-{task.index}.json"
        if failed:
            write_json(path, to_mapping(failed))
        else:
            path.unlink(missing_ok=True)

    def failed(self) -> list[FailedShard]:
        """Read the shards that the audit's tasks could not scan."""
        paths = sorted((self.path / "failed").glob("[0-9]*.json"))
        return [from_record(FailedShard, entry, where=str(path)) for path in paths for entry in read_json(path)]

    def show_once(self) -> bool:
        """Mark the findings as printed; return whether they were unmarked before."""
        try:
            (self.path / "shown").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def folder(store: Store) -> Path:
    """Return the folder of all submitted audits. Source names never start with a dot."""
    return store.root.absolute() / "audits" / ".jobs"


def audits(store: Store) -> list[AuditDirectory]:
    """List the audits that were submitted to a cluster, the newest first, without damaged records."""
    directories = []
    for path in sorted(folder(store).glob("*/submission.json"), reverse=True):
        directory = AuditDirectory(path.parent)
        with contextlib.suppress(Damaged):
            directory.read()
            directories.append(directory)
    return directories
