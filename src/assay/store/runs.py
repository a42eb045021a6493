"""Read and write run records, from which all results are derived.

A store is a folder::

    runs/<fingerprint>/spec.json                        the run's identity and labels
                       status.json                      state, progress, speed, failure
                       lease/                           the process that works on the run: see `assay.core.lease`
                       metrics.jsonl                    history, one record per logged step
                       delivered.json                   the delivered mix
                       checkpoints/step-<n>/            checkpoints to resume from
                       model/                           the final weights, a Hugging Face model
                       evaluations/<fingerprint>/       scores.json and items.parquet
                       interim/step-<n>/                weights and scores of a checkpoint: see `InterimEvaluation`
    corpora/<identity>/   tokenizers/<identity>/        created once, and shared by all runs
    code/<digest>/                                      snapshots of the code that jobs run
    sweeps/<name>/        reports/   wandb/             submissions, and derived data
    imports/<name>/results.parquet, origin.json         external results
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from assay.config.recipe import RunSpec
from assay.core.errors import Damaged, NotFound, Refused
from assay.core.files import read_json, write_json
from assay.core.lease import Lease, holding, seems_held
from assay.core.processes import this_host
from assay.core.serde import from_record, to_mapping
from assay.store.evaluations import InterimEvaluation, WeightsDirectory

State = Literal["queued", "preparing", "training", "trained", "evaluating", "done", "failed", "diverged", "cancelled"]
ACTIVE: frozenset[State] = frozenset({"preparing", "training", "evaluating"})
FAILED: frozenset[State] = frozenset({"failed", "diverged"})
"""States of a run that is not retried until a user submits it again."""
ENDED: frozenset[State] = frozenset({"done", "cancelled", *FAILED})
WAITING: frozenset[State] = frozenset({"queued", "trained"})

OLDEST_TRAINER = 2
"""The oldest trainer version whose run records this version can read. Older records have other fields and folders."""

DAMAGED = "damaged record"
"""Failure kind of a run whose status cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The reason why a run ended without a result."""

    kind: str
    """Short class for grouping: `out of memory`, `diverged`, `killed`, or the name of an exception."""
    message: str
    log: str | None = None
    """Path of the log with the details."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """State and progress of a run.

    Times are in seconds since the epoch. Speeds are in tokens per second.
    """

    state: State
    step: int = 0
    steps: int = 0
    tokens: int = 0
    tokens_per_second: float | None = None
    updated: float = 0.0
    started: float | None = None
    finished: float | None = None
    train_seconds: float = 0.0
    """Training time of all attempts in seconds, including lost work."""
    evaluate_seconds: float = 0.0
    attempt: int = 0
    host: str | None = None
    pid: int | None = None
    job: str | None = None
    code: str | None = None
    """Digest of the code snapshot that the last attempt ran; None if the attempt ran no snapshot."""
    weights: str | None = None
    """SHA-256 of the final `model.safetensors`."""
    failure: Failure | None = None

    @property
    def active(self) -> bool:
        """Whether the recorded state is active. A killed process leaves this state but holds no lease."""
        return self.state in ACTIVE

    @property
    def failed(self) -> bool:
        """Whether the run ended without a result and without being cancelled."""
        return self.state in FAILED

    @property
    def ended(self) -> bool:
        """Whether the run needs no work until a user submits it again."""
        return self.state in ENDED


_FIELDS = frozenset(field.name for field in fields(Status))


class RunDirectory(WeightsDirectory):
    """The folder of a run, with the run's final weights."""

    @property
    def fingerprint(self) -> str:
        """The run's fingerprint, which is the name of the folder."""
        return self.path.name

    @property
    def metrics(self) -> Path:
        """Path of the history by step, with one JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints to resume from."""
        return self.path / "checkpoints"

    def interim(self, step: int) -> InterimEvaluation:
        """Return the interim evaluation after a number of steps, which may not exist."""
        return InterimEvaluation(self.path / "interim" / f"step-{step}", self._lease)

    def interim_evaluations(self) -> list[InterimEvaluation]:
        """List the intermediate checkpoints so far, the earliest first, without the final weights."""
        steps = [
            int(match[1])
            for path in (self.path / "interim").glob("step-*")
            if (match := re.fullmatch(r"step-(\d+)", path.name))
        ]
        return [self.interim(step) for step in sorted(steps)]

    @property
    def log(self) -> Path:
        """Path of the output of the run's process."""
        return self.path / "run.log"

    def create(self, spec: RunSpec, labels: Mapping[str, Any]) -> None:
        """Write the spec and the labels of the run, unless they exist.

        Args:
            spec: the run's spec. Its fingerprint must be the name of the folder.
            labels: mix, seed and proxy for display. They are not part of the identity.
        """
        if spec.fingerprint != self.fingerprint:
            raise Refused(f"{self.path}: the folder does not belong to run {spec.short}.", fix="Move the folder away.")
        with contextlib.suppress(FileNotFoundError, Damaged, KeyError, TypeError):
            if self.spec() == spec:
                return
        write_json(self.path / "spec.json", {"spec": to_mapping(spec), "labels": dict(labels)})

    def spec(self) -> RunSpec:
        """Read the run's spec, and verify that it matches the name of the folder.

        Raises:
            Damaged: the file is damaged, or another version of assay wrote it.
            FileNotFoundError: the file does not exist.
        """
        path = self.path / "spec.json"
        plain = self._read_description().get("spec") or {}
        trainer = plain.get("trainer") if isinstance(plain, dict) else None
        if isinstance(trainer, int) and trainer < OLDEST_TRAINER:
            raise Damaged(
                f"{path}: trainer version {trainer} is invalid; expected {OLDEST_TRAINER} or later. "
                "An older version of assay made this run.",
                fix="Move the run's folder away. Submit again to train the run with this version.",
            )
        fix = "Move the folder away. Its file is damaged, or another version of assay wrote it."
        spec = from_record(RunSpec, plain, where=str(path), fix=fix)
        if spec.fingerprint != self.fingerprint:
            raise Damaged(
                f"{path}: fingerprint {spec.short} is invalid; expected {self.fingerprint[:12]}, the name of the folder.",
                fix="Move the folder away.",
            )
        return spec

    def labels(self) -> dict[str, Any]:
        """Read the run's labels for display; return an empty mapping if there are none."""
        labels = self._read_description().get("labels")
        return labels if isinstance(labels, dict) else {}

    def _read_description(self) -> dict[str, Any]:
        path = self.path / "spec.json"
        plain = read_json(path)
        if not isinstance(plain, dict):
            raise Damaged(
                f"{path}: {type(plain).__name__} is invalid; expected a mapping.", fix="Move the folder away."
            )
        return plain

    def status(self) -> Status:
        """Read the run's status; return `queued` without a readable status.

        A status is progress and not a result. A damaged status loses progress information only, and never blocks other
        runs. The function ignores unknown fields, which a later version may add.
        """
        path = self.path / "status.json"
        try:
            plain = read_json(path)
            known = {key: plain[key] for key in _FIELDS & plain.keys()} if isinstance(plain, dict) else plain
            return from_record(Status, known, where=str(path))
        except FileNotFoundError:
            return Status(state="queued")
        except Damaged as error:
            return Status(state="queued", failure=Failure(kind=DAMAGED, message=error.what))
        except OSError as error:
            return Status(state="queued", failure=Failure(kind=DAMAGED, message=f"{path}: {error.strerror}."))

    def update(self, **changes: Any) -> Status:
        """Write changed fields of the status, and update `updated`, `host` and `pid`."""
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
        """Hold the run's lease as its only writer; yield None if another process holds it.

        Writes through this object verify the lease during the block.

        Args:
            patience: maximum seconds to observe a holder on another machine; see `lease.acquire`.
        """
        with holding(self.path, patience=patience) as lease:
            before, self._lease = self._lease, lease or self._lease
            try:
                yield lease
            finally:
                self._lease = before

    @property
    def claimed(self) -> bool:
        """Whether a process seems to work on the run. This is a hint; see `lease.seems_held`."""
        return seems_held(self.path)

    @property
    def trained(self) -> bool:
        """Whether the final weights are complete, so that only their evaluation is left."""
        return self.has_weights

    # --- Transitions. All except `requeue` and `cancel` are reserved for the process that claimed the run.

    def start_attempt(self, *, steps: int, submission: str, code: str | None) -> Status:
        """Begin an attempt, and clear the outcome of the previous attempt.

        Args:
            steps: number of optimizer steps of the whole run.
            submission: id of the submission.
            code: digest of the snapshot of assay that this attempt runs.
        """
        before = self.status()
        return self.update(
            state="preparing",
            steps=steps,
            attempt=before.attempt + 1,
            started=before.started or time.time(),
            finished=None,
            failure=None,
            job=submission,
            code=code,
        )

    def start_training(self, **progress: Any) -> Status:
        """Set the state to training, at the start or after an interruption."""
        started = self.status().started or time.time()
        return self.update(state="training", started=started, finished=None, failure=None, **progress)

    def finish_training(self, weights: str, **progress: Any) -> Status:
        """Record the SHA-256 of the final weights, which still need their evaluation."""
        return self.update(state="trained", weights=weights, **progress)

    def mark_trained(self) -> Status:
        """Set a run with verified final weights to `trained`, unless it is `evaluating` or `done`."""
        status = self.status()
        return status if status.state in {"trained", "evaluating", "done"} else self.update(state="trained")

    def pause_training(self, **progress: Any) -> Status:
        """Interrupt training at an intermediate checkpoint, to evaluate the checkpoint."""
        return self.update(state="evaluating", **progress)

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Set the state to evaluating during the block, and count the time of failed evaluations too."""
        spent, began = self.status().evaluate_seconds, time.monotonic()
        self.update(state="evaluating")
        try:
            yield
        finally:
            self.update(evaluate_seconds=spent + time.monotonic() - began)

    def finish(self) -> Status:
        """Set the state to `done`, the final state of a run with scores."""
        return self.update(state="done", finished=time.time())

    def fail(self, failure: Failure, *, state: Literal["failed", "diverged"] = "failed", **progress: Any) -> Status:
        """Set the state to `failed` or `diverged`, the final states of a run without a result."""
        return self.update(state=state, finished=time.time(), failure=failure, **progress)

    def release(self, **progress: Any) -> None:
        """Release an unfinished run for the next attempt; keep the state of a finished run."""
        if self.status().active:
            self.update(state=self._waiting, **progress)

    def requeue(self) -> None:
        """Clear the outcome of earlier attempts, unless another process works on the run; keep checkpoints."""
        if self.status().state in WAITING:
            return
        with self.claim() as lease:
            if lease is not None:
                self.update(state=self._waiting, failure=None, finished=None)

    def cancel(self, patience: float = 0.0) -> bool:
        """Cancel the run, unless another process works on it; return whether it was cancelled.

        Args:
            patience: as for `claim`.
        """
        with self.claim(patience) as lease:
            if lease is not None:
                self.update(state="cancelled", finished=time.time())
            return lease is not None

    @property
    def _waiting(self) -> State:
        return "trained" if self.trained else "queued"

    def history(self) -> list[dict[str, Any]]:
        """Read the logged records, without a truncated last line and invalid records."""
        if not self.metrics.exists():
            return []
        lines = [line for line in self.metrics.read_bytes().split(b"\n") if line.strip()]
        records: list[Any] = []
        try:
            records = json.loads(b"[" + b",".join(lines) + b"]")  # half of the time of parsing line by line
        except (json.JSONDecodeError, UnicodeDecodeError):
            for line in lines:
                with contextlib.suppress(json.JSONDecodeError, UnicodeDecodeError):
                    records.append(json.loads(line))
        return [record for record in records if isinstance(record, dict)]


class Store:
    """The folder with all runs, corpora, evaluations and submissions."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def run(self, fingerprint: str) -> RunDirectory:
        """Return the folder of a run, which may not exist."""
        return RunDirectory(self.root / "runs" / fingerprint)

    def runs(self) -> list[RunDirectory]:
        """List all runs that have a spec, by fingerprint."""
        return [RunDirectory(path.parent) for path in sorted((self.root / "runs").glob("*/spec.json"))]

    def newest(self) -> list[RunDirectory]:
        """List the folders of all runs, the most recently changed first."""
        try:
            folders = [entry for entry in os.scandir(self.root / "runs") if entry.is_dir()]
        except FileNotFoundError:
            return []
        folders.sort(key=lambda entry: entry.stat().st_mtime_ns, reverse=True)
        return [RunDirectory(Path(entry.path)) for entry in folders]

    def find(self, prefix: str) -> RunDirectory:
        """Return the run whose fingerprint begins with a prefix.

        Raises:
            NotFound: no run matches the prefix, or several runs match.
        """
        runs = [run for run in self.newest() if run.fingerprint.startswith(prefix)]
        if len(runs) != 1:
            problem = "no run's fingerprint begins" if not runs else f"{len(runs)} runs' fingerprints begin"
            raise NotFound(f"{problem} with {prefix!r} in {self.root}.", fix="Copy the fingerprint from `assay plan`.")
        return runs[0]

    @property
    def corpora(self) -> Path:
        """Folder of tokenized sources, by identity."""
        return self.root / "corpora"

    @property
    def tokenizers(self) -> Path:
        """Folder of tokenizers, by identity."""
        return self.root / "tokenizers"

    def frozen_tasks(self, digest: str) -> Path:
        """Return the folder of a submission's copy of own lm-eval tasks, by the digest of their files."""
        return self.root / "tasks" / digest

    def sweep(self, name: str) -> Path:
        """Return the folder of a sweep's submissions."""
        return self.root / "sweeps" / name

    @property
    def speed(self) -> Path:
        """File of this machine's measured speed."""
        return self.root / "speed.json"

    @property
    def imports(self) -> Path:
        """Folder of external results, by name."""
        return self.root / "imports"

    @property
    def reports(self) -> Path:
        """Folder of report pages."""
        return self.root / "reports"

    @property
    def wandb(self) -> Path:
        """Folder of W&B's files."""
        return self.root / "wandb"
