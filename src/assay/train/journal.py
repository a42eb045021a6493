"""Tells how a run goes: its history every so many steps, its status every second, and what is wrong with it."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.train.device import peak_flops
from assay.train.history import MetricsFile, SpikeWatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from assay.recipe import RunSpec
    from assay.store import RunDirectory
    from assay.train.device import Team
    from assay.train.history import Totals
    from assay.train.reader import Reader
    from assay.train.settings import SpikeRule

STATUS_SECONDS = 1.0
"""Least time between two writes of the status."""


class Journal:
    """What one attempt at a run tells. Every rank keeps one and sees the same sums; only the first one's writes.

    Args:
        spec: the run.
        run: its folder.
        reader: its data; asked for the epochs that begin.
        here: the ranks that train it.
        rule: when a loss means divergence.
        bytes_per_token: by source; `None` leaves bits per byte out.
    """

    def __init__(
        self,
        spec: RunSpec,
        run: RunDirectory,
        reader: Reader,
        here: Team,
        *,
        rule: SpikeRule,
        bytes_per_token: Mapping[str, float] | None,
    ) -> None:
        self._spec, self._run, self._reader, self._here = spec, run, reader, here
        self._bytes = None if bytes_per_token is None else np.array([bytes_per_token[name] for name in reader.names])
        self._flops, peak = spec.model.flops_per_token(spec.vocabulary), peak_flops(here.device)
        self._peak = None if peak is None else peak * here.world
        self._watch = SpikeWatch(rule, vocabulary=spec.vocabulary)
        self._file: MetricsFile | None = None

    def begin(self, step: int, metrics_bytes: int) -> None:
        """Go on with the history as it was after so many steps.

        Args:
            step: steps that are done.
            metrics_bytes: length of the history then; what is after it tells of steps that will be done again.
        """
        for record in self._run.history():
            if record["step"] <= step:
                self._watch.see(record["stage"], record["loss"])
        self._here.wait()  # every rank has read the history before the first one cuts it
        status = self._run.status()
        self._spent, started = status.train_seconds, status.started or time.time()
        self._began = self._clock = self._told = time.monotonic()
        self._began_at = self._clock_at = step
        if self._here.leads:
            self._file = MetricsFile(self._run.metrics, keep_bytes=metrics_bytes)
        self.tell(step, state="training", started=started, finished=None, failure=None)

    def record(self, done: int, totals: Totals, lr: float) -> str | None:
        """Add the record of the steps since the last one.

        Args:
            done: steps done.
            totals: what the steps since the last record summed to.
            lr: the learning rate of the last of them.

        Returns:
            What is wrong, where the run has diverged.
        """
        if not totals.finite:
            return self.not_a_number(done, totals)
        stage, loss = _stage(self._spec, done), totals.loss / self._spec.model.sequence_length
        now = time.monotonic()
        speed = (done - self._clock_at) * self._spec.tokens_per_step / (now - self._clock)
        self._clock, self._clock_at = now, done
        if self._file is not None:
            record = {
                "step": done,
                "tokens": done * self._spec.tokens_per_step,
                "stage": stage,
                "loss": loss,
                "bits_per_byte": self._bits_per_byte(totals),
                "lr": lr,
                "grad_norm": totals.norms / totals.steps,
                "tokens_per_second": speed,
                "mfu": None if self._peak is None else speed * self._flops / self._peak,
                "loss_by_source": self._loss_by_source(totals),
                "epochs_begun": self._epochs_begun(done - totals.steps, done),
                "train_seconds": self._seconds(),
            }
            self._file.write(record)
        if self._watch.see(stage, loss):
            return (
                f"the loss is {loss:.3f} at step {done}, and was above {self._watch.bar:.3f} for "
                f"{self._watch.rule.records} records, at learning rate {lr:.3g}."
            )
        return None

    def not_a_number(self, done: int, totals: Totals) -> str | None:
        """Which of the steps up to `done` had a loss or a gradient that is not a number, if one had."""
        if totals.finite:
            return None
        at = done if totals.first_bad is None else done - totals.steps + totals.first_bad + 1
        return f"the loss or its gradient is not a number at step {at}, at learning rate {self._spec.lr(at - 1):.3g}."

    def tell(self, done: int, **changes: Any) -> None:
        """Write the status: how far the run is, how fast this attempt is, and other fields as they are given.

        Without other fields this is left out where the last time is less than a second ago.
        """
        now = time.monotonic()
        if self._file is None or (not changes and now - self._told < STATUS_SECONDS):
            return
        self._told = now
        if done > self._began_at:
            changes["tokens_per_second"] = (done - self._began_at) * self._spec.tokens_per_step / (now - self._began)
        self._run.update(
            step=done,
            steps=self._spec.steps,
            tokens=done * self._spec.tokens_per_step,
            train_seconds=self._seconds(),
            **changes,
        )

    def sync(self) -> int:
        """Make sure that the history is on the disk; returns its length in bytes, 0 where another rank writes it."""
        return 0 if self._file is None else self._file.sync()

    def _seconds(self) -> float:
        return self._spent + time.monotonic() - self._began

    def _bits_per_byte(self, totals: Totals) -> float | None:
        """Bits of loss for each byte of the text that the window's tokens stand for."""
        if self._bytes is None:
            return None
        text = float((totals.sequences * self._bytes).sum()) * self._spec.model.sequence_length
        return float(totals.losses.sum()) / math.log(2) / text

    def _loss_by_source(self, totals: Totals) -> dict[str, float]:
        """Nats a token, of the sources that gave any."""
        tokens = totals.sequences * self._spec.model.sequence_length
        return {
            name: float(loss / count)
            for name, loss, count in zip(self._reader.names, totals.losses, tokens, strict=True)
            if count
        }

    def _epochs_begun(self, first: int, done: int) -> dict[str, int]:
        """The second and later epochs that sources began in these steps; of several in a row the last."""
        batch = self._spec.batch_sequences
        return {start.source: start.epoch for start in self._reader.epoch_starts(first * batch, done * batch)}


def _stage(spec: RunSpec, done: int) -> str:
    """The stage that the last of `done` steps belongs to."""
    for stage in spec.stages:
        if done <= stage.steps:
            return stage.name
        done -= stage.steps
    raise AssertionError(done)
