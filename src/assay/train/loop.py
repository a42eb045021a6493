"""Train one run, from its spec to a Hugging Face model.

A run that is killed at any moment and restarted ends with the same weights, bit for bit on the same kind of machine.
The data, the learning rate, dropout and the initial weights are functions of the spec and the step, so training keeps
no random state. A restart restores weights, optimizer state and history together from the newest complete checkpoint.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from typing import TYPE_CHECKING, Any

import torch
import transformers

from assay.core.errors import ConfigError, Refused
from assay.core.fingerprint import differences
from assay.store.runs import Failure
from assay.train import checkpoint
from assay.train.cadence import Cadence
from assay.train.device import DistributedContext, autocast, distributed
from assay.train.dropout import Dropout, sequence_keys
from assay.train.export import export
from assay.train.history import Window, totals_from_json, totals_to_json
from assay.train.journal import Journal
from assay.train.model import build, sequence_losses
from assay.train.optimizer import adamw, set_lr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from transformers import LlamaForCausalLM

    from assay.config.recipe import RunSpec
    from assay.config.training import TrainSettings
    from assay.store.evaluations import InterimEvaluation
    from assay.store.runs import RunDirectory, Status
    from assay.train.reader import Reader

log = logging.getLogger(__name__)


def train(
    spec: RunSpec,
    run: RunDirectory,
    reader: Reader,
    *,
    tokenizer: Path | None,
    settings: TrainSettings,
    should_stop: Callable[[], bool] | None = None,
    bytes_per_token: Mapping[str, float] | None = None,
) -> Status:
    """Train a run to its end, from its newest checkpoint if a checkpoint exists.

    Under torchrun, every rank calls this function. Each rank processes its part of every step's sequences, and the main
    rank writes files. The caller holds the run's lease (`RunDirectory.claim`).

    Args:
        spec: the run.
        run: folder of the run.
        reader: training data of the run, by position.
        tokenizer: the tokenizer's folder, which is copied into the model folder.
        settings: device, checkpoint and history settings of this machine.
        should_stop: called after every step. If it returns true, training writes a checkpoint and leaves the run
            `queued`.
        bytes_per_token: mean bytes of text per token by source, for bits per byte in the history.

    Returns:
        The run's status. Its state is `trained`, `queued` (stop requested), `diverged`, `failed` (the disk is full), or
        `evaluating`. In the state `evaluating`, training has written a checkpoint and the weights of an intermediate
        checkpoint (`TrainSettings.interim_evaluations`). After the evaluation of these weights, call this function
        again to continue. With several ranks, training does not pause, and the intermediate checkpoints are evaluated
        at the end.

    Raises:
        AssayError: the batch is smaller than the number of ranks, or the device does not exist.
    """
    with distributed(settings.device, threads=settings.threads) as context, _record_full_disk(run, context):
        if spec.batch_sequences < context.world:
            raise ConfigError(
                f"batch: {spec.batch_sequences} sequences are too few; expected at least one for each of {context.world} processes.",
                fix="Start at most as many processes as the batch has sequences.",
            )
        if _is_trained(run):
            return run.mark_trained()
        if context.is_main:
            checkpoint.clear_partial(run.model)
            checkpoint.clear_partial(run.checkpoints / "step-*")

        # Build the model, which is the same for every mix with this seed, and its optimizer.
        model = build(spec.model, spec.vocabulary, seed=spec.seed)
        model.to(context.device)  # type: ignore[arg-type]  # transformers' wrapper of `to` is typed wrongly
        parameters = list(model.parameters())
        optimizer = adamw(model, spec.optimizer)
        losses_of = torch.compile(sequence_losses, dynamic=False) if settings.compile else sequence_losses

        # Resume from the newest checkpoint of an earlier attempt.
        window = Window(len(reader.names))
        machine = _machine(settings, context)
        start, metrics_bytes = _resume(run, model, optimizer, window, machine)
        journal = Journal(spec, run, reader, context, rule=settings.spike, bytes_per_token=bytes_per_token)
        journal.begin(start, metrics_bytes)
        cadence = Cadence.of(spec, settings, ranks=context.world)
        saved = time.monotonic()

        done = start
        for step in range(start, spec.steps):
            # This rank's part of the step's sequences, in micro batches. Every token has the same weight in every micro
            # batch and on every rank, so that the gradient equals that of the whole batch.
            begin, end = context.slice(step * spec.batch_sequences, spec.batch_sequences)
            tokens, sources = reader.read(begin, end)
            batch, losses = torch.from_numpy(tokens).to(context.device), []
            for first in range(0, len(batch), settings.micro_batch):
                part, dropout = batch[first : first + settings.micro_batch], None
                if spec.dropout:
                    dropout = Dropout(spec.dropout, sequence_keys(spec.seed, begin + first, len(part), context.device))
                with autocast(context.device):
                    loss = losses_of(model, part[:, :-1], part[:, 1:], dropout)
                torch.autograd.backward(loss.sum() / spec.tokens_per_step)
                losses.append(loss.detach())
            context.all_reduce_([parameter.grad for parameter in parameters if parameter.grad is not None])

            # Update the weights.
            lr = spec.lr(step)
            set_lr(optimizer, lr)
            norm = torch.nn.utils.clip_grad_norm_(parameters, spec.optimizer.gradient_clip or math.inf)
            optimizer.step()
            optimizer.zero_grad()
            done = step + 1
            window.add(losses, sources, norm)

            # The main rank's clock decides which actions are due. Every rank learns the decision and any request to
            # stop.
            timer = context.is_main and time.monotonic() - saved >= settings.checkpoint_seconds
            stop, timer = context.all_reduce_any(should_stop is not None and should_stop(), timer)
            due = cadence.due(done, stop=stop, timer=timer)

            # Record the history and detect divergence: a checkpoint never contains a value that is not a number.
            problem = None
            if due.record:
                problem = journal.record(done, window.totals(context), lr)
                window.clear()
            elif due.checkpoint:
                problem = journal.not_a_number(done, window.totals(context))
            if problem:
                if context.is_main:
                    run.fail(_divergence(problem), state="diverged", **journal.progress(done))
                break

            # Write the checkpoint to resume from.
            if due.checkpoint:
                position = checkpoint.Position(
                    run=spec.fingerprint,
                    step=done,
                    metrics_bytes=journal.sync(),
                    window=totals_to_json(window.totals(context)),
                    machine=machine,
                    files={},
                )
                if context.is_main:
                    if (
                        due.interim
                    ):  # before the checkpoint: an attempt that resumes from the checkpoint needs these weights
                        _save_interim(run.interim(done), model, tokenizer, _delivered(spec, reader, done))
                    checkpoint.save(run.checkpoints, model, optimizer, position, keep=settings.keep_checkpoints)
                context.barrier()
                saved = time.monotonic()
                if due.leave is not None:
                    leave = run.release if due.leave == "stop" else run.pause_training
                    if context.is_main:
                        leave(**journal.progress(done))
                    break
            journal.report(done)
        else:
            if context.is_main:
                run.write_delivered(_delivered(spec, reader, done))
                digest = export(model, run.model, tokenizer=tokenizer)
                log.info("final weights after step %d: %s", done, digest)
                run.finish_training(digest, **journal.progress(done))
        context.barrier()
    return run.status()


def _save_interim(
    interim: InterimEvaluation, model: LlamaForCausalLM, tokenizer: Path | None, delivered: dict[str, Any]
) -> None:
    """Save the weights of an intermediate checkpoint, and the mix delivered up to its step."""
    checkpoint.clear_partial(interim.model)
    interim.write_delivered(delivered)
    export(model, interim.model, tokenizer=tokenizer)
    log.info("weights for the interim evaluation after step %d saved", interim.step)


def _is_trained(run: RunDirectory) -> bool:
    """Return whether the run's final weights are complete."""
    weights, file = run.status().weights, run.model / checkpoint.MODEL
    return weights is not None and file.exists() and checkpoint.record(file).sha256 == weights


def _resume(
    run: RunDirectory,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    window: Window,
    machine: dict[str, Any],
) -> tuple[int, int]:
    """Load the newest complete checkpoint.

    Returns:
        Its step and its history length in bytes; two zeros without a checkpoint.
    """
    newest = checkpoint.newest(run.checkpoints, run.fingerprint)
    if newest is None:
        return 0, 0
    path, position = newest
    checkpoint.load(path, model, optimizer)
    window.resume(totals_from_json(position.window))
    for change in differences(position.machine, machine):
        log.warning(
            "%s was written with %s %r, and training continues with %r: the last bits of the weights may differ from "
            "those of an uninterrupted run.",
            path,
            *change,
        )
    return position.step, position.metrics_bytes


def _machine(settings: TrainSettings, context: DistributedContext) -> dict[str, Any]:
    """Return the conditions, in addition to the spec, that affect the last bits of the weights."""
    gpu = context.device.type == "cuda"
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": torch.cuda.get_device_name(context.device) if gpu else torch.backends.cpu.get_cpu_capability(),
        "ranks": context.world,
        "threads": settings.threads,
        "micro_batch": settings.micro_batch,
        "compile": settings.compile,
    }


def _divergence(problem: str) -> Failure:
    advice = (
        "Lower the optimizer's peak_lr or lengthen its warmup. Damaged text can also cause this: `loss_by_source` in "
        "metrics.jsonl shows whether a single source is responsible."
    )
    return Failure(kind="diverged", message=f"Training diverged: {problem} {advice}")


def _delivered(spec: RunSpec, reader: Reader, done: int) -> dict[str, Any]:
    """Return the requested and the delivered mix of the first steps."""
    total, stages = done * spec.batch_sequences, spec.stages_until(done)
    requested = {
        name: math.fsum(stage.weights.get(name, 0.0) * stage.steps for stage in stages) / done for name in spec.corpora
    }
    delivered = {name: {**each, "share": each["sequences"] / total} for name, each in reader.delivered(total).items()}
    return {
        "sequences": total,
        "tokens": done * spec.tokens_per_step,
        "requested": requested,
        "delivered": delivered,
        "stages": [{"name": stage.name, "steps": stage.steps, "weights": stage.weights} for stage in stages],
    }


@contextlib.contextmanager
def _record_full_disk(run: RunDirectory, context: DistributedContext) -> Iterator[None]:
    """Fail the run with a clear message if the disk is full. Other errors propagate."""
    try:
        yield
    except (Refused, OSError) as error:
        if not checkpoint.disk_full(error):
            raise
        message = f"{error} Earlier checkpoints are complete. Training resumes from the newest."
        run.fail(Failure(kind="disk full", message=message))
        if context.world > 1:  # the other ranks wait for this rank; torchrun ends them when this rank exits
            raise
