"""Access the weights of a run and their evaluations, for intermediate and final checkpoints."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.errors import Damaged
from assay.core.files import read_json, replacing, write_json

if TYPE_CHECKING:
    from assay.core.lease import Lease

WEIGHTS = "model.safetensors"


class WeightsDirectory:
    """A folder with weights and their evaluations."""

    def __init__(self, path: Path, lease: Lease | None = None) -> None:
        self.path = path
        self._lease = lease

    @property
    def model(self) -> Path:
        """The model folder, which `transformers` and lm-eval can load."""
        return self.path / "model"

    @property
    def has_weights(self) -> bool:
        """Whether the weights are complete. The folder is renamed into place as a whole."""
        return (self.model / WEIGHTS).exists()

    def check(self) -> None:
        """Verify that this object still holds the run's lease, if it claimed the run.

        Raises:
            LeaseLost: another process has taken over the run, or may have; the caller must stop writing.
        """
        if self._lease is not None:
            self._lease.check()

    def delivered(self) -> dict[str, Any] | None:
        """Read the delivered mix at the time of these weights; return None before it is written.

        Raises:
            Damaged: the file has invalid content.
        """
        path = self.path / "delivered.json"
        try:
            plain = read_json(path)
        except FileNotFoundError:
            return None
        sources = plain.get("delivered") if isinstance(plain, dict) else None
        if not isinstance(sources, dict) or not all(isinstance(part, dict) for part in sources.values()):
            raise Damaged(f"{path}: the delivered mix of each source is missing.", fix="Move the run's folder away.")
        return {**plain}

    def write_delivered(self, delivered: Mapping[str, Any]) -> None:
        """Write the delivered mix of each source, before the weights are saved."""
        self.check()
        write_json(self.path / "delivered.json", delivered)

    def evaluation(self, fingerprint: str) -> Path:
        """Return the folder of an evaluation, which may not exist."""
        return self.path / "evaluations" / fingerprint

    def evaluated(self, fingerprint: str) -> bool:
        """Return whether an evaluation is complete: both files exist and neither is truncated."""
        folder = self.evaluation(fingerprint)
        return _ends_with(folder / "scores.json", b"}\n") and _ends_with(folder / "items.parquet", b"PAR1")

    def evaluations(self) -> list[str]:
        """List the fingerprints of complete evaluations."""
        return sorted(path.name for path in (self.path / "evaluations").glob("*") if self.evaluated(path.name))

    def newest_evaluation(self) -> str | None:
        """Return the fingerprint of the newest complete evaluation."""
        return max(self.evaluations(), key=lambda key: self.evaluation(key).stat().st_mtime_ns, default=None)

    def scores(self, fingerprint: str) -> list[dict[str, Any]]:
        """Read the scores of an evaluation, with task, metric, value, n, stderr and chance. A value may be NaN or infinite.

        Raises:
            Damaged: the file has no scores, or a score lacks its task, metric or value. The gate never uses
                incomplete scores.
        """
        path = self.evaluation(fingerprint) / "scores.json"
        plain = read_json(path)
        records = plain.get("scores") if isinstance(plain, dict) else None
        if not isinstance(records, list) or not records or not all(map(_scored, records)):
            raise Damaged(
                f"{path}: a score has no task, no metric or no value.",
                fix=f"Delete the folder {path.parent} and submit again. The submission evaluates the run, and does not train it again.",
            )
        return [_with_value(record) for record in records]

    @contextlib.contextmanager
    def writing_evaluation(self, fingerprint: str) -> Iterator[Path]:
        """Yield a folder for an evaluation, which is renamed into place if the block succeeds."""
        with replacing(self.evaluation(fingerprint)) as folder:
            yield folder
            self.check()


class InterimEvaluation(WeightsDirectory):
    """An intermediate checkpoint of a run: its weights after some steps, and their scores.

    The weights are deleted after their evaluation, unless `training.keep_interim_weights` is set.
    """

    @property
    def step(self) -> int:
        """Number of optimizer steps that the weights were trained for."""
        return int(self.path.name.removeprefix("step-"))

    def delete_weights(self) -> None:
        """Delete the weights. A kill during deletion leaves no partial model folder."""
        self.check()
        obsolete = self.path / ".model.old.tmp"
        shutil.rmtree(obsolete, ignore_errors=True)  # left by a process that was killed during deletion
        shutil.rmtree(self.model.rename(obsolete))


def _scored(record: Any) -> bool:
    """Return whether a score has a task, a metric and a numeric value."""
    if not isinstance(record, dict):
        return False
    value = _with_value(record).get("value")
    named = all(isinstance(record.get(key), str) for key in ("task", "metric"))
    return named and isinstance(value, (int, float)) and not isinstance(value, bool)


def _with_value(record: dict[str, Any]) -> dict[str, Any]:
    """Return a score with its value as a float, even if the record has NaN or infinity as text."""
    text = record.get("not_finite")
    return (
        {**record, "value": float(text)} if text in ("nan", "inf", "-inf") and record.get("value") is None else record
    )


def _ends_with(path: Path, ending: bytes) -> bool:
    """Return whether a file exists and ends with the given bytes. Truncation removes the end."""
    try:
        with path.open("rb") as file:
            file.seek(-len(ending), os.SEEK_END)
            return file.read() == ending
    except OSError:
        return False
