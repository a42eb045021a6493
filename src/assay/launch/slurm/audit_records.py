"""Audits that were sent to a cluster: what each is to look at, and how it ended.

A folder of the store for each::

    audits/.jobs/<id>/submission.json        what to look at and with what; written before anything is sent
                      batches/<n>.json       arrays of jobs, as `assay.launch.slurm.ledger` has them
                      failed/<n>-<i>.json    files that a task of an array could not get through
                      submitit/              the scripts, and what jobs printed
                      closed.json            what it came to
                      shown                  there once its findings were shown to somebody

What was seen of a file is no part of it: that is kept under the file's digest and the detectors' versions, wherever it was
looked at (`assay.audit.engine`), and is what the next audit finds done.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from assay.audit.task import Settings, Task
from assay.errors import AssayError
from assay.files import read_json, write_json
from assay.launch.slurm.ledger import Batches
from assay.settings import Cluster
from assay.sources import Source
from assay.store import Store
from assay.structure import from_mapping, to_mapping

Outcome = Literal["audited", "incomplete"]
"""All was looked at and summed up; or something was not, and the same command again looks at that."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A file of a source, or a part of a large one."""

    key: str
    """Under which what was seen of it is kept: a digest of the file, the part, and the detectors with their versions."""
    source: str
    url: str
    part: int
    parts: int
    size: int
    """Bytes, as stored."""

    @classmethod
    def of(cls, task: Task) -> Shard:
        """What is written down of a task."""
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
        """What people call it."""
        part = f" (part {self.part + 1} of {self.parts})" if self.parts > 1 else ""
        return f"{self.source}: {self.url}{part}"


@dataclass(frozen=True, kw_only=True)
class AuditSubmission:
    """An intent: these sources, with these detectors, on this cluster."""

    id: str
    created: float
    """Seconds since the epoch."""
    cluster: Cluster
    code: str
    """Digest of the snapshot of assay that its jobs run."""
    sources: dict[str, Source]
    digests: dict[str, str]
    settings: Settings
    shards: tuple[Shard, ...]
    """All that the audit rests on, also what was looked at before."""

    def tasks(self) -> dict[str, list[Task]]:
        """The shards as `assay.audit.engine` takes them, by source."""
        found: dict[str, list[Task]] = {name: [] for name in self.sources}
        for shard in self.shards:
            one = replace(self.sources[shard.source], files=(shard.url,))
            found[shard.source].append(
                Task(source=one, part=shard.part, parts=shard.parts, key=shard.key, size=shard.size)
            )
        return found

    @property
    def keys(self) -> frozenset[str]:
        """Of its shards."""
        return frozenset(shard.key for shard in self.shards)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What an audit came to."""

    at: float
    outcome: Outcome
    left: int = 0
    """Shards that were not looked at."""
    audits: dict[str, str] = field(default_factory=dict)
    """Ids of the sources' audits, by source."""
    new: tuple[str, ...] = ()
    """Ids of findings of detectors that had found nothing in the source before."""


@dataclass(frozen=True, kw_only=True)
class FailedShard:
    """A shard that a job could not get through."""

    shard: str
    """Its label."""
    key: str
    why: str


class AuditDirectory:
    """One such audit's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def store(self) -> Store:
        """The store that it is in."""
        return Store(self.path.parents[2])

    @property
    def batches(self) -> Batches:
        """Its arrays of jobs."""
        return Batches(self.path, name="audit")

    @property
    def submitit(self) -> Path:
        """Where scripts are, and what jobs print."""
        return self.path / "submitit"

    def job_log(self, job: str) -> Path:
        """What a job printed, by SLURM's name for it."""
        return self.submitit / f"{job}_0_log.out"

    def create(self, submission: AuditSubmission) -> None:
        """Write the intent down, whole."""
        write_json(self.path / "submission.json", to_mapping(submission))

    @cached_property
    def submission(self) -> AuditSubmission:
        """The intent, which never changes."""
        path = self.path / "submission.json"
        return from_mapping(AuditSubmission, read_json(path), where=str(path))

    def close(self, ended: Ended) -> None:
        """Write down what it came to."""
        write_json(self.path / "closed.json", to_mapping(ended))

    @property
    def closed(self) -> Ended | None:
        """What it came to; ``None`` while nobody has said so."""
        path = self.path / "closed.json"
        with contextlib.suppress(FileNotFoundError):
            return from_mapping(Ended, read_json(path), where=str(path))
        return None

    def record_failed(self, batch: int, index: int, failed: Iterable[FailedShard]) -> None:
        """Write down what a task could not get through; nothing, where that is none."""
        path, found = self.path / "failed" / f"{batch}-{index}.json", [to_mapping(one) for one in failed]
        if found:
            write_json(path, found)
        else:
            path.unlink(missing_ok=True)

    def failed(self) -> list[FailedShard]:
        """What its tasks could not get through."""
        paths = sorted((self.path / "failed").glob("[0-9]*.json"))
        return [from_mapping(FailedShard, one, where=str(path)) for path in paths for one in read_json(path)]

    def show_once(self) -> bool:
        """Whether nobody was shown its findings yet; from now on somebody was."""
        try:
            (self.path / "shown").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def folder(store: Store) -> Path:
    """Where they are; no name of a source begins with a dot."""
    return store.root.absolute() / "audits" / ".jobs"


def audits(store: Store) -> list[AuditDirectory]:
    """Audits that were sent to a cluster, the newest first; one whose record is damaged is passed over."""
    found = []
    for path in sorted(folder(store).glob("*/submission.json"), reverse=True):
        directory = AuditDirectory(path.parent)
        with contextlib.suppress(AssayError):
            directory.submission  # noqa: B018  # read once, and kept
            found.append(directory)
    return found


def seen(store: Store, shards: Iterable[Shard]) -> Mapping[str, bool]:
    """Whether each shard was looked at, by key."""
    kept = store.root / "audits" / ".files"
    return {shard.key: (kept / shard.key / "sums.json").exists() for shard in shards}
