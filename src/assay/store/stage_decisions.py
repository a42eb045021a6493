"""Store the decision on each candidate after each stage of a sequential plan, so that every process uses the same decision.

Each decision has a file, which is written once::

    sweeps/<name>/stages/<number of the stage>/<candidate>.json
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from assay.config.reason import Reason
from assay.core.errors import Damaged
from assay.core.files import read_json, write_json
from assay.core.serde import from_record, to_mapping

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from assay.store.runs import Store


@dataclass(frozen=True, kw_only=True)
class StageDecision:
    """The decision of the gate on a candidate after a stage."""

    candidate: str
    baseline: str
    stage: int
    """Number of the stage, from 1."""
    n_seeds: int
    """Seeds per mix up to the end of the stage."""
    level: float
    """Level of the tests of the stage."""
    decision: Literal["ACCEPT", "REJECT", "INCONCLUSIVE"]
    """Decision of the gate at this level."""
    final: bool
    """Whether the decision ends the candidate. Otherwise the candidate gets the seeds of the next stage."""
    reasons: tuple[Reason, ...]
    """Reasons of the decision."""
    runs: tuple[str, ...]
    """Fingerprints of the runs of both arms up to the end of the stage, sorted."""
    evaluation: str
    """Identity of the evaluation of the runs."""
    at: float
    """Time of the record, in seconds since the Unix epoch."""

    def rests_on(self, *, runs: Collection[str], evaluation: str, n_seeds: int, level: float) -> bool:
        """Return whether the decision is about these runs, this evaluation and this stage of a plan.

        A sweep whose runs were replaced, or whose registered stages changed, ignores its earlier decisions.
        """
        same = (self.runs, self.evaluation, self.n_seeds) == (tuple(sorted(runs)), evaluation, n_seeds)
        return same and math.isclose(self.level, level, rel_tol=1e-9)


def read(store: Store, sweep: str, stage: int, candidate: str) -> StageDecision | None:
    """Read the decision on a candidate after a stage; return None if there is none.

    Raises:
        AssayError: the record is damaged.
    """
    path = _path(store, sweep, stage, candidate)
    try:
        plain = read_json(path)
    except FileNotFoundError:
        return None
    if not isinstance(plain, dict):
        raise Damaged(f"{path} is not a record of a stage.", fix="Restore the file, or delete it.")
    return from_record(StageDecision, plain, where=str(path))


def write(store: Store, sweep: str, decision: StageDecision) -> None:
    """Write a decision. The caller holds the sweep's lock, and writes only if no decision about the same runs exists."""
    path = _path(store, sweep, decision.stage, decision.candidate)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, to_mapping(decision))


def _path(store: Store, sweep: str, stage: int, candidate: str) -> Path:
    return store.sweep(sweep) / "stages" / str(stage) / f"{candidate}.json"
