"""Report a run's progress: history records at intervals, the status every second, divergence."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.train.device import peak_flops
from assay.train.history import MetricsFile, SpikeWatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from assay.config.recipe import RunSpec
    from assay.config.training import SpikeRule
    from assay.store.runs import RunDirectory
    from assay.train.device import DistributedContext
    from assay.train.history import Totals
    from assay.train.reader import Reader

STATUS_SECONDS = 1.0
"""Minimum seconds between two writes of the status."""


class Journal:
    """The reports of one attempt.

    Every rank has a journal with the same sums. Only the journal of the main rank writes files.

    Args:
        spec: the run.
        run: folder of the run.
        reader: training data of the run, which provides the starts of epochs.
        context: the ranks that train the run.
        rule: the criterion for divergence.
        bytes_per_token: mean bytes of text per token, by source. With None, the history has no bits per byte.
    """

    def __init__(
        self,
        spec: RunSpec,
        run: RunDirectory,
        reader: Reader,
        context: DistributedContext,
        *,
        rule: SpikeRule,
        bytes_per_token: Mapping[str, float] | None,
    ) -> None:
        self._spec, self._run, self._reader, self._context = spec, run, reader, context
        self._bytes = None if bytes_per_token is None else np.array([bytes_per_token[name] for name in reader.names])
        self._flops, peak = spec.model.flops_per_token(spec.vocabulary), peak_flops(context.device)
        self._peak = None if peak is None else peak * context.world
        self._watch = SpikeWatch(rule, vocabulary=spec.vocabulary)
        self._file: MetricsFile | None = None

    def begin(self, step: int, metrics_bytes: int) -> None:
        """Continue the history from its state after a number of steps.

        Args:
            step: number of completed steps.
            metrics_bytes: length of the history in bytes at that step. Later content is truncated, because its steps
                are repeated.
        """
        for record in self._run.history():
            if record["step"] <= step:
                self._watch.see(record["stage"], record["loss"])
        self._context.barrier()  # every rank has read the history before the main rank truncates it
        self._spent = self._run.status().train_seconds
        self._began = self._clock = self._reported = time.monotonic()
        self._began_at = self._clock_at = step
        if self._context.is_main:
            self._file = MetricsFile(self._run.metrics, keep_bytes=metrics_bytes)
            self._run.start_training(**self.progress(step))

    def record(self, done: int, totals: Totals, lr: float) -> str | None:
        """Write the record of the steps since the last record.

        Args:
            done: number of completed steps.
            totals: sums over the steps since the last record.
            lr: learning rate of the last step.

        Returns:
            A description of the problem if the run has diverged, else None.
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
        """Describe the first step up to `done` with a non-finite loss or gradient; None without one."""
        if totals.finite:
            return None
        at = done if totals.first_bad is None else done - totals.steps + totals.first_bad + 1
        return f"the loss or its gradient is not a number at step {at}, at learning rate {self._spec.lr(at - 1):.3g}."

    def report(self, done: int) -> None:
        """Write the progress to the status, at most once per second."""
        now = time.monotonic()
        if self._file is not None and now - self._reported >= STATUS_SECONDS:
            self._reported = now
            self._run.update(**self.progress(done))

    def progress(self, done: int) -> dict[str, Any]:
        """Return the status fields of the run's progress and the attempt's speed."""
        progress = {
            "step": done,
            "steps": self._spec.steps,
            "tokens": done * self._spec.tokens_per_step,
            "train_seconds": self._seconds(),
        }
        if done > self._began_at:
            tokens = (done - self._began_at) * self._spec.tokens_per_step
            progress["tokens_per_second"] = tokens / (time.monotonic() - self._began)
        return progress

    def sync(self) -> int:
        """Flush the history to disk; return its bytes, or 0 on other ranks."""
        return 0 if self._file is None else self._file.sync()

    def _seconds(self) -> float:
        return self._spent + time.monotonic() - self._began

    def _bits_per_byte(self, totals: Totals) -> float | None:
        """Return bits of loss per byte of text in the window."""
        if self._bytes is None:
            return None
        text = float((totals.sequences * self._bytes).sum()) * self._spec.model.sequence_length
        return float(totals.losses.sum()) / math.log(2) / text

    def _loss_by_source(self, totals: Totals) -> dict[str, float]:
        """Return nats per token of each source with sequences in the window."""
        tokens = totals.sequences * self._spec.model.sequence_length
        return {
            name: float(loss / count)
            for name, loss, count in zip(self._reader.names, totals.losses, tokens, strict=True)
            if count
        }

    def _epochs_begun(self, first: int, done: int) -> dict[str, int]:
        """Return the repeated epochs that sources began in these steps, at most the last per source."""
        batch = self._spec.batch_sequences
        return {start.source: start.epoch for start in self._reader.epoch_starts(first * batch, done * batch)}


def _stage(spec: RunSpec, done: int) -> str:
    """Return the stage of the last of `done` steps."""
    for stage in spec.stages:
        if done <= stage.steps:
            return stage.name
        done -= stage.steps
    raise AssertionError(done)
