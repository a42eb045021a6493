"""Store the candidates that were stopped early, so that their runs do not count as failed.

Each stopped candidate has a file::

    sweeps/<name>/stopped/<candidate>.json
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from assay.config.reason import Code, Reason
from assay.core.errors import Damaged
from assay.core.files import read_json, write_json
from assay.core.serde import from_record, to_mapping

if TYPE_CHECKING:
    from pathlib import Path

    from assay.store.runs import Store


@dataclass(frozen=True, kw_only=True)
class Stop:
    """A candidate that an interim analysis stopped."""

    candidate: str
    baseline: str
    outcome: Literal["winner", "loser"]
    fraction: float
    """Fraction of the token budget at the interim analysis that stopped the candidate."""
    tokens: float
    reasons: tuple[Reason, ...]
    """Reasons of the interim analysis, and the fraction of similar past differences that lasted to the end of
    training."""
    at: float
    """Time of the record, in seconds since the Unix epoch."""

    @property
    def reason(self) -> Reason:
        """The first reason of the candidate's verdict, which states the early stop."""
        figures = {"outcome": self.outcome, "fraction": self.fraction, "tokens": self.tokens}
        return Reason(code=Code.STOPPED_EARLY, subject=self.candidate, figures=figures)


def read(store: Store, sweep: str, candidate: str) -> Stop | None:
    """Read the record of a candidate; return None if the candidate was not stopped.

    Raises:
        AssayError: the record is damaged.
    """
    path = _path(store, sweep, candidate)
    try:
        plain = read_json(path)
    except FileNotFoundError:
        return None
    if not isinstance(plain, dict):
        raise Damaged(f"{path} is not a record of an early stop.", fix="Restore the file, or delete it.")
    return from_record(Stop, plain, where=str(path))


def write(store: Store, sweep: str, stop: Stop) -> None:
    """Write the record of a candidate, unless one exists. Later analyses do not revoke a stop."""
    path = _path(store, sweep, stop.candidate)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, to_mapping(stop))


def _path(store: Store, sweep: str, candidate: str) -> Path:
    return store.sweep(sweep) / "stopped" / f"{candidate}.json"
