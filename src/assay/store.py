"""What happened: the one reader and writer of run records. Everything else is derived from them.

A store is a folder::

    runs/<fingerprint>/spec.json                        the run's identity and how people call it
                       status.json                      state, progress, speed, failure
                       lease/                           who works on it: see `assay.lease`
                       metrics.jsonl                    history, one record a logged step
                       delivered.json                   what each source really gave
                       checkpoints/step-<n>/            to resume from
                       model/                           the final weights, a Hugging Face model
                       evaluations/<fingerprint>/       scores.json and items.parquet
                       looks/step-<n>/                  the same, of the weights at a step on the way: see `Look`
    corpora/<identity>/   tokenizers/<identity>/        made once, shared by all runs
    code/<digest>/                                      what jobs run, as it was when they were submitted
    sweeps/<name>/        reports/   wandb/             submissions, and what is derived
    imports/<name>/results.parquet, origin.json         results from elsewhere
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from assay.errors import AssayError
from assay.files import read_json, replacing, write_json
from assay.lease import Lease, holding, looks_held
from assay.processes import this_host
from assay.recipe import RunSpec
from assay.structure import from_mapping, to_mapping

State = Literal["queued", "preparing", "training", "trained", "evaluating", "done", "failed", "diverged", "cancelled"]
ACTIVE: frozenset[State] = frozenset({"preparing", "training", "evaluating"})
ENDED: frozenset[State] = frozenset({"done", "failed", "diverged", "cancelled"})


DAMAGED = "damaged record"
"""The kind of failure of a run whose status cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a run ended without a result."""

    kind: str
    """A short class to group by: `out of memory`, `diverged`, `killed`, an exception's name."""
    message: str
    log: str | None = None
    """Path of the log that tells more."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a run stands. Times are seconds since the epoch, speeds tokens a second."""

    state: State
    step: int = 0
    steps: int = 0
    tokens: int = 0
    tokens_per_second: float | None = None
    updated: float = 0.0
    started: float | None = None
    finished: float | None = None
    train_seconds: float = 0.0
    """Spent in training by all attempts, lost work included."""
    evaluate_seconds: float = 0.0
    attempt: int = 0
    host: str | None = None
    pid: int | None = None
    job: str | None = None
    code: str | None = None
    """Digest of the snapshot of assay that the last attempt ran, where it ran one."""
    weights: str | None = None
    """SHA-256 of the final `model.safetensors`."""
    failure: Failure | None = None


_TOLD = frozenset(field.name for field in fields(Status))


class Measured:
    """A folder with weights and what was measured of them."""

    def __init__(self, path: Path, lease: Lease | None = None) -> None:
        self.path = path
        self._lease = lease

    @property
    def model(self) -> Path:
        """The weights, loadable by `transformers` and by lm-eval."""
        return self.path / "model"

    def check(self) -> None:
        """Make sure, if this object claimed the run, that nobody else has taken it over.

        Raises:
            LeaseLost: somebody has, or may have; nothing must be written into the folder any more.
        """
        if self._lease is not None:
            self._lease.check()

    def delivered(self) -> dict[str, Any] | None:
        """What each source had really given when the weights were these; ``None`` where it was not written yet.

        Raises:
            AssayError: what is written there is something else.
        """
        path = self.path / "delivered.json"
        try:
            plain = read_json(path)
        except FileNotFoundError:
            return None
        sources = plain.get("delivered") if isinstance(plain, dict) else None
        if not isinstance(sources, dict) or not all(isinstance(part, dict) for part in sources.values()):
            raise AssayError(f"{path}: it does not say what each source gave.", fix="Move the run's folder away.")
        return {**plain}

    def evaluation(self, fingerprint: str) -> Path:
        """The folder of one evaluation, whether it exists or not."""
        return self.path / "evaluations" / fingerprint

    def evaluated(self, fingerprint: str) -> bool:
        """Whether this evaluation is there, whole: both files, neither cut off at its end."""
        folder = self.evaluation(fingerprint)
        return _ends_with(folder / "scores.json", b"}\n") and _ends_with(folder / "items.parquet", b"PAR1")

    def evaluations(self) -> list[str]:
        """The evaluations that are there, whole, by fingerprint."""
        return sorted(path.name for path in (self.path / "evaluations").glob("*") if self.evaluated(path.name))

    def scores(self, fingerprint: str) -> list[dict[str, Any]]:
        """Its scores: records of task, metric, value, n, stderr, chance.

        Raises:
            AssayError: there are none, or one lacks its task, its metric or its value. Runs are never judged by a part.
        """
        path = self.evaluation(fingerprint) / "scores.json"
        plain = read_json(path)
        records = plain.get("scores") if isinstance(plain, dict) else None
        if not isinstance(records, list) or not records or not all(map(_scored, records)):
            raise AssayError(
                f"{path}: not every score in it has a task, a metric and a value.",
                fix=f"Delete the folder {path.parent} and submit again: the run is evaluated again, not trained again.",
            )
        return records

    @contextlib.contextmanager
    def writing_evaluation(self, fingerprint: str) -> Iterator[Path]:
        """A folder to fill with an evaluation, put in place when the block ends well."""
        with replacing(self.evaluation(fingerprint)) as folder:
            yield folder
            self.check()


class Look(Measured):
    """A run on its way: its weights after some of its steps, and their scores.

    The weights are there until the scores are, and longer where people want to keep them.
    """

    @property
    def step(self) -> int:
        """Steps that were done."""
        return int(self.path.name.removeprefix("step-"))

    @property
    def kept(self) -> bool:
        """Whether the weights are there; they are put in place as a whole."""
        return (self.model / "model.safetensors").exists()

    def drop(self) -> None:
        """Remove the weights. A kill in the middle leaves nothing that looks like a model."""
        self.check()
        going = self.path / ".model.old.tmp"
        shutil.rmtree(going, ignore_errors=True)  # what a kill left of an earlier time
        shutil.rmtree(self.model.rename(going))


class RunDirectory(Measured):
    """One run's folder; the weights in it are the final ones."""

    @property
    def fingerprint(self) -> str:
        """The run's identity, which is the folder's name."""
        return self.path.name

    @property
    def metrics(self) -> Path:
        """History by step, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Where training resumes from."""
        return self.path / "checkpoints"

    def look(self, step: int) -> Look:
        """The run as it was after so many steps, whether that is there or not."""
        return Look(self.path / "looks" / f"step-{step}", self._lease)

    def looks(self) -> list[Look]:
        """The looks that were taken at the run so far, the earliest first; the final weights are none."""
        found = [
            int(match[1])
            for path in (self.path / "looks").glob("step-*")
            if (match := re.fullmatch(r"step-(\d+)", path.name))
        ]
        return [self.look(step) for step in sorted(found)]

    @property
    def log(self) -> Path:
        """What the run's process printed."""
        return self.path / "run.log"

    def create(self, spec: RunSpec, labels: Mapping[str, Any]) -> None:
        """Write down what the run is, unless it is already there.

        Args:
            spec: the run's spec; its fingerprint has to be the folder's name.
            labels: what people call it (mix, seed, proxy); bears no identity.
        """
        if spec.fingerprint != self.fingerprint:
            raise AssayError(f"{self.path}: this folder is not the place of run {spec.short}.")
        with contextlib.suppress(FileNotFoundError, AssayError, KeyError, TypeError):
            if self.spec() == spec:
                return
        write_json(self.path / "spec.json", {"spec": to_mapping(spec), "labels": dict(labels)})

    def spec(self) -> RunSpec:
        """The run's spec, checked against the folder's name.

        Raises:
            AssayError: it is damaged, or of a version of assay that wrote it otherwise.
            FileNotFoundError: there is none.
        """
        path = self.path / "spec.json"
        try:
            spec = from_mapping(RunSpec, self._described().get("spec") or {}, where=str(path))
        except AssayError as error:
            raise AssayError(
                error.what,
                fix=error.fix or "Another version of assay wrote it, or it is damaged: move the folder away.",
            ) from error
        if spec.fingerprint != self.fingerprint:
            raise AssayError(f"{path}: its fingerprint is {spec.short}.", fix="Move the folder away.")
        return spec

    def labels(self) -> dict[str, Any]:
        """What people call the run; nothing where nobody wrote that down, for it bears no identity."""
        labels = self._described().get("labels")
        return labels if isinstance(labels, dict) else {}

    def _described(self) -> dict[str, Any]:
        path = self.path / "spec.json"
        plain = read_json(path)
        if not isinstance(plain, dict):
            raise AssayError(
                f"{path}: {type(plain).__name__} where a mapping was expected.", fix="Move the folder away."
            )
        return plain

    def status(self) -> Status:
        """Where the run stands; `queued` where nothing was written yet, or what was written is damaged.

        A status is progress, not a result: a damaged one costs what it told, and never stops another run. What a later
        version tells beside is left out.
        """
        path = self.path / "status.json"
        try:
            plain = read_json(path)
            known = {key: plain[key] for key in _TOLD & plain.keys()} if isinstance(plain, dict) else plain
            return from_mapping(Status, known, where=str(path))
        except FileNotFoundError:
            return Status(state="queued")
        except AssayError as error:
            return Status(state="queued", failure=Failure(kind=DAMAGED, message=error.what))
        except OSError as error:
            return Status(state="queued", failure=Failure(kind=DAMAGED, message=f"{path}: {error.strerror}."))

    def update(self, **changes: Any) -> Status:
        """Write changed fields of the status; `updated`, `host` and `pid` are filled in."""
        self.check()
        now = {"updated": time.time(), "host": this_host(), "pid": os.getpid()}
        before = self.status()
        if before.failure is not None and before.failure.kind == DAMAGED:
            before = Status(state="queued")
        status = replace(before, **{**now, **changes})
        write_json(self.path / "status.json", to_mapping(status))
        return status

    @contextlib.contextmanager
    def claim(self, patience: float = 0.0) -> Iterator[Lease | None]:
        """Be the only one, on all machines, to work on this run; yields ``None`` where somebody else does.

        While the block lasts, what is written through this object is written only as long as that is so.

        Args:
            patience: seconds for which to watch a holder on another machine, at most: see `lease.acquire`.
        """
        with holding(self.path, patience=patience) as lease:
            before, self._lease = self._lease, lease or self._lease
            try:
                yield lease
            finally:
                self._lease = before

    @property
    def claimed(self) -> bool:
        """Whether somebody seems to work on the run right now; a hint, as `lease.looks_held` says."""
        return looks_held(self.path)

    def history(self) -> list[dict[str, Any]]:
        """The logged records; a last line that a kill cut off, and what is no record, are left out."""
        if not self.metrics.exists():
            return []
        lines = [line for line in self.metrics.read_bytes().split(b"\n") if line.strip()]
        records: list[Any] = []
        try:
            records = json.loads(b"[" + b",".join(lines) + b"]")  # half the time of line by line
        except (json.JSONDecodeError, UnicodeDecodeError):
            for line in lines:
                with contextlib.suppress(json.JSONDecodeError, UnicodeDecodeError):
                    records.append(json.loads(line))
        return [record for record in records if isinstance(record, dict)]


def _scored(record: Any) -> bool:
    """Whether a score says what it is of."""
    if not isinstance(record, dict):
        return False
    value = record.get("value")
    named = all(isinstance(record.get(key), str) for key in ("task", "metric"))
    return named and isinstance(value, (int, float)) and not isinstance(value, bool)


def _ends_with(path: Path, ending: bytes) -> bool:
    """Whether a file is there and ends so: what a cut takes first."""
    try:
        with path.open("rb") as file:
            file.seek(-len(ending), os.SEEK_END)
            return file.read() == ending
    except OSError:
        return False


class Store:
    """All that was made and measured, in one folder."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def run(self, fingerprint: str) -> RunDirectory:
        """The folder of a run, whether it exists or not."""
        return RunDirectory(self.root / "runs" / fingerprint)

    def runs(self) -> list[RunDirectory]:
        """Every run that has a spec, by fingerprint."""
        return [RunDirectory(path.parent) for path in sorted((self.root / "runs").glob("*/spec.json"))]

    def newest(self) -> list[RunDirectory]:
        """Every run's folder, the one into which something was last put first."""
        try:
            folders = [entry for entry in os.scandir(self.root / "runs") if entry.is_dir()]
        except FileNotFoundError:
            return []
        folders.sort(key=lambda entry: entry.stat().st_mtime_ns, reverse=True)
        return [RunDirectory(Path(entry.path)) for entry in folders]

    def find(self, prefix: str) -> RunDirectory:
        """The one run whose fingerprint begins so.

        Raises:
            AssayError: none does, or more than one.
        """
        found = [run for run in self.newest() if run.fingerprint.startswith(prefix)]
        if len(found) != 1:
            problem = "no run's fingerprint begins" if not found else f"{len(found)} runs' fingerprints begin"
            raise AssayError(f"{problem} with {prefix!r} in {self.root}.", fix="`assay plan` prints fingerprints.")
        return found[0]

    @property
    def corpora(self) -> Path:
        """Tokenised sources, by identity."""
        return self.root / "corpora"

    @property
    def tokenizers(self) -> Path:
        """Tokenizers, by identity."""
        return self.root / "tokenizers"

    def sweep(self, name: str) -> Path:
        """The folder of a sweep's submissions."""
        return self.root / "sweeps" / name

    @property
    def speed(self) -> Path:
        """How fast this machine was when it was last tried."""
        return self.root / "speed.json"

    @property
    def imports(self) -> Path:
        """Results from elsewhere, by name."""
        return self.root / "imports"

    @property
    def reports(self) -> Path:
        """Pages."""
        return self.root / "reports"

    @property
    def wandb(self) -> Path:
        """W&B's files."""
        return self.root / "wandb"
