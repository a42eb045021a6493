"""The ledger of a submission on a cluster: which arrays of jobs were meant, which came to be, and for what.

A batch is one array. It is written down with a key of its own before sbatch is called, and the key is the jobs' name:
whoever finds a batch without a job's number asks SLURM for the key. A task of the array knows its runs from the
batch, so that nothing has to be written after sbatch for its jobs to work.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from assay.files import read_json, write_json
from assay.launch.records import Submission, SubmissionDirectory
from assay.structure import from_mapping, to_mapping

Kind = Literal["prepare", "runs", "tend", "shards", "merge"]
"""Making tokenizer and corpora; training and evaluating; looking after the sweep and judging it. Of an audit: looking at files,
and summing up what was seen."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One array of jobs, as it was meant."""

    number: int
    kind: Kind
    key: str
    """The jobs' name, which no other batch has."""
    created: float
    tasks: tuple[tuple[str, ...], ...] = ((),)
    """Fingerprints of the runs of each task of the array, or keys of its shards; none where the job is about the whole submission."""
    after: tuple[str, ...] = ()
    """Jobs that have to end first, however they do."""
    after_success: tuple[str, ...] = ()
    """Jobs that have to end well first; if one doesn't, this batch never runs."""
    begin_minutes: float = 0.0
    """How long to wait before it may start."""
    exclude: tuple[str, ...] = ()
    """Nodes to keep away from."""
    causes: dict[str, str] = field(default_factory=dict)
    """Why runs are sent again, by fingerprint: the class of what ended them."""

    def worker(self, index: int) -> str:
        """Name of the worker that one of its tasks is."""
        return f"b{self.number}-{index}"


@dataclass(frozen=True, kw_only=True)
class Handed:
    """A batch that SLURM has taken."""

    job: str
    """Its number; tasks are `JOB_INDEX`."""
    at: float


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A run's place: the newest task that it is in."""

    batch: int
    index: int
    job: str | None
    """The task's name in SLURM; ``None`` where its batch is not known to have been taken."""


class Batches:
    """The batches of one folder."""

    def __init__(self, path: Path, *, name: str, check: Callable[[], None] = lambda: None) -> None:
        """Look into a folder; nothing is made before a batch is meant.

        Args:
            path: the submission's folder.
            name: what the keys of its batches begin with.
            check: called before anything is written or sent; what it raises keeps that from happening.
        """
        self.folder = path / "batches"
        self.check = check
        self._name = f"assay-{_plain(name)}-{path.name}"

    def batches(self) -> list[Batch]:
        """Every batch, in the order in which they were meant."""
        paths = sorted(self.folder.glob("[0-9]*.json"), key=lambda path: int(path.name.split(".")[0]))
        return [self._read(path) for path in paths if path.name.count(".") == 1]

    def batch(self, number: int) -> Batch:
        """One batch."""
        return self._read(self.folder / f"{number}.json")

    def _read(self, path: Path) -> Batch:
        return from_mapping(Batch, read_json(path), where=str(path))

    def mean(
        self,
        kind: Kind,
        *,
        tasks: Sequence[Sequence[str]] = ((),),
        after: Sequence[str] = (),
        after_success: Sequence[str] = (),
        begin_minutes: float = 0.0,
        exclude: Sequence[str] = (),
        causes: Mapping[str, str] | None = None,
    ) -> Batch:
        """Write down a batch that is about to be handed over.

        Raises:
            LeaseLost: somebody else has taken over to look after the submission.
        """
        self.check()
        number = max((batch.number for batch in self.batches()), default=0) + 1
        batch = Batch(
            number=number,
            kind=kind,
            key=f"{self._name}-{kind}{number}",
            created=time.time(),
            tasks=tuple(tuple(task) for task in tasks),
            after=tuple(after),
            after_success=tuple(after_success),
            begin_minutes=begin_minutes,
            exclude=tuple(exclude),
            causes=dict(causes or {}),
        )
        write_json(self.folder / f"{number}.json", to_mapping(batch))
        return batch

    def handed(self, batch: Batch) -> Handed | None:
        """What SLURM called a batch when it took it; ``None`` where that is not on record."""
        path = self.folder / f"{batch.number}.job.json"
        with contextlib.suppress(FileNotFoundError):
            return from_mapping(Handed, read_json(path), where=str(path))
        return None

    def record(self, batch: Batch, job: str) -> Handed:
        """Write down what SLURM called a batch."""
        handed = Handed(job=job, at=time.time())
        write_json(self.folder / f"{batch.number}.job.json", to_mapping(handed))
        return handed

    def jobs(self, *kinds: Kind) -> dict[str, str]:
        """The arrays that SLURM took, with their keys; of all kinds, if none is named."""
        taken = ((batch, self.handed(batch)) for batch in self.batches() if not kinds or batch.kind in kinds)
        return {handed.job: batch.key for batch, handed in taken if handed is not None}


class Ledger(Batches):
    """The batches of one submission. Whoever writes holds `SubmissionDirectory.tending`."""

    def __init__(self, directory: SubmissionDirectory) -> None:
        super().__init__(directory.path, name=directory.path.parents[1].name, check=directory.check)
        self.directory = directory

    def places(self) -> dict[str, Placed]:
        """Where each run is, by fingerprint: in the newest batch that has it."""
        found: dict[str, Placed] = {}
        for batch in self.batches():
            handed = self.handed(batch)
            for index, task in enumerate(batch.tasks):
                job = f"{handed.job}_{index}" if handed else None
                found |= dict.fromkeys(task, Placed(batch=batch.number, index=index, job=job))
        return found

    def tries(self) -> dict[str, Counter[str]]:
        """How often each run was sent again, by the class of what had ended it."""
        counts: dict[str, Counter[str]] = {}
        for batch in self.batches():
            for fingerprint, cause in batch.causes.items():
                counts.setdefault(fingerprint, Counter())[cause] += 1
        return counts


def _plain(name: str) -> str:
    """A sweep's name with nothing in it that SLURM's commands read as something else."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name)


def slices(submission: Submission, fingerprints: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    """Runs in the submission's order, so many to a job."""
    wanted = set(fingerprints)
    order = [run.fingerprint for run in submission.runs if run.fingerprint in wanted]
    for first in range(0, len(order), size):
        yield tuple(order[first : first + size])
