"""Who was stopped early, kept so that a verdict says so, and nobody takes the runs for failed ones.

A file for each candidate::

    sweeps/<name>/stopped/<candidate>.json
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from assay.errors import AssayError
from assay.files import read_json, write_json
from assay.structure import from_mapping, to_mapping

if TYPE_CHECKING:
    from pathlib import Path

    from assay.store import Store


@dataclass(frozen=True, kw_only=True)
class Stop:
    """A candidate that a look stopped."""

    candidate: str
    baseline: str
    outcome: Literal["winner", "loser"]
    share: float
    """Of the token budget that was looked at."""
    tokens: float
    reasons: tuple[str, ...]
    """What the look said, and how often such signals held."""
    at: float
    """Seconds since the epoch."""

    @property
    def sentence(self) -> str:
        """What a verdict says of it first."""
        return (
            f"Stopped early as a {self.outcome}, by the look at {self.share:.0%} of the budget ({self.tokens:,.0f} tokens);"
            " its runs were called off and did not fail."
        )


def read(store: Store, sweep: str, candidate: str) -> Stop | None:
    """How a candidate was stopped; ``None`` where it was not.

    Raises:
        AssayError: the record is damaged.
    """
    path = _path(store, sweep, candidate)
    try:
        plain = read_json(path)
    except FileNotFoundError:
        return None
    if not isinstance(plain, dict):
        raise AssayError(f"{path} is no record of a stop.", fix="Something other than assay wrote it; restore it.")
    return from_mapping(Stop, plain, where=str(path))


def write(store: Store, sweep: str, stop: Stop) -> None:
    """Keep a stop; the first one of a candidate stays, as later looks do not take it back."""
    path = _path(store, sweep, stop.candidate)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, to_mapping(stop))


def _path(store: Store, sweep: str, candidate: str) -> Path:
    return store.sweep(sweep) / "stopped" / f"{candidate}.json"
