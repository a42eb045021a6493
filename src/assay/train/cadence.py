"""Schedule the records, checkpoints and interim evaluations of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from assay.config.recipe import RunSpec
    from assay.config.training import TrainSettings


@dataclass(frozen=True, kw_only=True)
class Due:
    """The actions that are due after one step, in the order of the fields."""

    record: bool
    """Whether to write a record of the history. Due after the last step."""
    interim: bool
    """Whether to save the weights for an interim evaluation. Implies `checkpoint`."""
    checkpoint: bool
    """Whether to write a checkpoint to resume from. Not due after the last step, because the final weights are
    written."""
    leave: Literal["stop", "evaluate"] | None
    """Why this attempt leaves training after the checkpoint; None if training continues. Implies `checkpoint`."""


@dataclass(frozen=True, kw_only=True)
class Cadence:
    """The intervals of records, checkpoints and interim evaluations, in optimizer steps of the whole run."""

    steps: int
    """Number of optimizer steps of the run."""
    record_every: int
    checkpoint_every: int | None
    """Steps between two checkpoints; None if checkpoints are due by time only."""
    interim: frozenset[int]
    """Steps after which the weights are saved for an interim evaluation."""
    single: bool
    """Whether one process trains the run. Only such a run pauses training for interim evaluations."""

    @classmethod
    def of(cls, spec: RunSpec, settings: TrainSettings, *, ranks: int) -> Cadence:
        """Derive the cadence of a run that `ranks` ranks train."""
        return cls(
            steps=spec.steps,
            record_every=max(1, spec.steps // settings.records),
            checkpoint_every=settings.checkpoint_steps,
            interim=frozenset(spec.steps_at(settings.interim_evaluations)),
            single=ranks == 1,
        )

    def due(self, done: int, *, stop: bool, timer: bool) -> Due:
        """Decide which actions are due after `done` steps.

        Args:
            done: number of completed steps, from 1 to `steps`.
            stop: whether the process was requested to stop.
            timer: whether the time between checkpoints has passed.
        """
        last = done == self.steps
        interim = done in self.interim and not last
        by_step = self.checkpoint_every is not None and done % self.checkpoint_every == 0
        leave: Literal["stop", "evaluate"] | None = "evaluate" if interim and self.single else None
        return Due(
            record=last or done % self.record_every == 0,
            interim=interim,
            checkpoint=not last and (stop or timer or interim or by_step),
            leave=None if last else "stop" if stop else leave,
        )
