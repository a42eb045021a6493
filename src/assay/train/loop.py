"""Training, top to bottom: one run from its spec to a Hugging Face model.

Killed at any moment and called again, it ends with the same weights, bit for bit on one kind of machine: the data,
the learning rate, dropout and the first weights are functions of the spec and the step; no random state is kept on the way;
and weights, moments and history go back together to the newest whole checkpoint.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from typing import TYPE_CHECKING, Any

import torch
import transformers

from assay.errors import AssayError
from assay.files import write_json
from assay.fingerprint import differences
from assay.store import Failure, State
from assay.train import checkpoint
from assay.train.device import Team, autocast, team
from assay.train.dropout import Dropout, sequence_keys
from assay.train.export import export
from assay.train.history import Window, totals_from_json, totals_to_json
from assay.train.journal import Journal
from assay.train.model import build, sequence_losses
from assay.train.optimiser import adamw, set_lr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from transformers import LlamaForCausalLM

    from assay.recipe import RunSpec
    from assay.store import Look, RunDirectory, Status
    from assay.train.reader import Reader
    from assay.train.settings import TrainSettings

log = logging.getLogger(__name__)

AFTER_TRAINING: frozenset[State] = frozenset({"trained", "evaluating", "done"})


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
    """Train a run to its end, from its newest checkpoint where there is one.

    Under torchrun every rank calls this; each takes its part of every step's sequences, and the first one writes.
    The caller holds the run's lock (`RunDirectory.claim`).

    Args:
        spec: the run.
        run: its folder.
        reader: its data, by position.
        tokenizer: its folder, to be copied beside the weights.
        settings: how to do it here.
        should_stop: asked after every step; once it says so, a checkpoint is written and the run is left `queued`.
        bytes_per_token: by source, so that the history has bits per byte.

    Returns:
        The run's status: `trained`, `queued` (asked to stop), `diverged`, `failed` (the disk is full), or `evaluating`: a
        look was reached (`TrainSettings.looks`), and its weights and a checkpoint are there. Called again once the look
        is scored, training goes on. Several ranks do not wait for one of them: they go on, and leave looks for the end.

    Raises:
        AssayError: the batch is smaller than the number of ranks, or there is no such device.
    """
    with team(settings.device, threads=settings.threads) as here, _full_disk_told(run, here):
        if spec.batch_sequences < here.world:
            raise AssayError(
                f"{here.world} processes would share a batch of {spec.batch_sequences} sequences.",
                fix="Start no more processes than the batch has sequences.",
            )
        if _is_trained(run):
            return run.status() if run.status().state in AFTER_TRAINING else run.update(state="trained")
        if here.leads:
            checkpoint.clear_partial(run.model)
            checkpoint.clear_partial(run.checkpoints / "step-*")

        # The model, which is the same for every mix of this seed, and its optimiser.
        model = build(spec.model, spec.vocabulary, seed=spec.seed)
        model.to(here.device)  # type: ignore[arg-type]  # transformers' wrapper of `to` is typed wrongly
        parameters = list(model.parameters())
        optimiser = adamw(model, spec.optimiser)
        losses_of = torch.compile(sequence_losses, dynamic=False) if settings.compile else sequence_losses

        # Where an earlier attempt got to.
        window = Window(len(reader.names))
        machine = _machine(settings, here)
        start, metrics_bytes = _resume(run, model, optimiser, window, machine)
        journal = Journal(spec, run, reader, here, rule=settings.spike, bytes_per_token=bytes_per_token)
        journal.begin(start, metrics_bytes)
        every = max(1, spec.steps // settings.records)
        looks = spec.steps_at(settings.looks)
        saved = time.monotonic()

        done, outcome = start, dict[str, Any]()
        for step in range(start, spec.steps):
            # This rank's part of the step's sequences, in micro batches. Each token weighs the same, whichever micro
            # batch and rank it is in, so that the gradient is that of the whole batch at once.
            begin, end = here.slice(step * spec.batch_sequences, spec.batch_sequences)
            tokens, sources = reader.read(begin, end)
            batch, losses = torch.from_numpy(tokens).to(here.device), []
            for first in range(0, len(batch), settings.micro_batch):
                part, dropout = batch[first : first + settings.micro_batch], None
                if spec.dropout:
                    dropout = Dropout(spec.dropout, sequence_keys(spec.seed, begin + first, len(part), here.device))
                with autocast(here.device):
                    loss = losses_of(model, part[:, :-1], part[:, 1:], dropout)
                torch.autograd.backward(loss.sum() / spec.tokens_per_step)
                losses.append(loss.detach())
            here.sum([parameter.grad for parameter in parameters if parameter.grad is not None])

            # The update.
            lr = spec.lr(step)
            set_lr(optimiser, lr)
            norm = torch.nn.utils.clip_grad_norm_(parameters, spec.optimiser.gradient_clip or math.inf)
            optimiser.step()
            optimiser.zero_grad()
            done = step + 1
            window.add(losses, sources, norm)

            # What is due. The first rank's clock decides, and every rank hears of it, and of a wish to stop.
            clock = here.leads and time.monotonic() - saved >= settings.checkpoint_seconds
            stop, clock = here.any(should_stop is not None and should_stop(), clock)
            look = done in looks
            by_step = settings.checkpoint_steps is not None and done % settings.checkpoint_steps == 0
            save = stop or clock or look or by_step
            last = done == spec.steps

            # The history, and whether it is worth going on: nothing that is not a number gets into a checkpoint.
            problem = None
            if done % every == 0 or last:
                problem = journal.record(done, window.totals(here), lr)
                window.clear()
            elif save:
                problem = journal.not_a_number(done, window.totals(here))
            if problem:
                outcome = {"state": "diverged", "finished": time.time(), "failure": _divergence(problem)}
                break

            # Where to go on after a kill.
            if save and not last:
                position = checkpoint.Position(
                    run=spec.fingerprint,
                    step=done,
                    metrics_bytes=journal.sync(),
                    window=totals_to_json(window.totals(here)),
                    machine=machine,
                    files={},
                )
                if here.leads:
                    if look:  # before the checkpoint: whoever goes on from there finds the look taken
                        _keep(run.look(done), model, tokenizer, _delivered(spec, reader, done))
                    checkpoint.save(run.checkpoints, model, optimiser, position, keep=settings.keep_checkpoints)
                here.wait()
                saved = time.monotonic()
                if stop or (look and here.world == 1):
                    outcome = {"state": "queued" if stop else "evaluating"}
                    break
            journal.tell(done)
        else:
            if here.leads:
                digest = export(model, run.model, tokenizer=tokenizer)
                write_json(run.path / "delivered.json", _delivered(spec, reader, done))
                outcome = {"state": "trained", "weights": digest}
                log.info("final weights after step %d: %s", done, digest)
        journal.tell(done, **outcome)
        here.wait()
    return run.status()


def _keep(look: Look, model: LlamaForCausalLM, tokenizer: Path | None, delivered: dict[str, Any]) -> None:
    """Put a look's weights in place, and what the sources had given by then."""
    checkpoint.clear_partial(look.model)
    write_json(look.path / "delivered.json", delivered)
    export(model, look.model, tokenizer=tokenizer)
    log.info("a look after step %d", look.step)


def _is_trained(run: RunDirectory) -> bool:
    """Whether the run's final weights are there, whole."""
    weights, file = run.status().weights, run.model / checkpoint.MODEL
    return weights is not None and file.exists() and checkpoint.record(file).sha256 == weights


def _resume(
    run: RunDirectory,
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    window: Window,
    machine: dict[str, Any],
) -> tuple[int, int]:
    """Go back to the newest whole checkpoint; returns its step and the length of the history then, or two zeros."""
    found = checkpoint.newest(run.checkpoints, run.fingerprint)
    if found is None:
        return 0, 0
    path, position = found
    checkpoint.load(path, model, optimiser)
    window.resume(totals_from_json(position.window))
    for change in differences(position.machine, machine):
        log.warning(
            "%s was written with %s %r, and training goes on with %r: the last bits of the weights may differ from "
            "those of a run that was never stopped.",
            path,
            *change,
        )
    return position.step, position.metrics_bytes


def _machine(settings: TrainSettings, here: Team) -> dict[str, Any]:
    """What the last bits of the weights depend on beside the spec."""
    gpu = here.device.type == "cuda"
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": torch.cuda.get_device_name(here.device) if gpu else torch.backends.cpu.get_cpu_capability(),
        "ranks": here.world,
        "threads": settings.threads,
        "micro_batch": settings.micro_batch,
        "compile": settings.compile,
    }


def _divergence(problem: str) -> Failure:
    advice = (
        "Lower the optimiser's peak_lr or lengthen its warmup. Damaged text does this too: `loss_by_source` in "
        "metrics.jsonl shows whether it is one source."
    )
    return Failure(kind="diverged", message=f"Training diverged: {problem} {advice}")


def _delivered(spec: RunSpec, reader: Reader, done: int) -> dict[str, Any]:
    """What was asked of each source in the first steps, and what it gave."""
    total, stages = done * spec.batch_sequences, spec.stages_until(done)
    requested = {
        name: math.fsum(stage.weights.get(name, 0.0) * stage.steps for stage in stages) / done for name in spec.corpora
    }
    given = {name: {**each, "share": each["sequences"] / total} for name, each in reader.delivered(total).items()}
    return {
        "sequences": total,
        "tokens": done * spec.tokens_per_step,
        "requested": requested,
        "delivered": given,
        "stages": [{"name": stage.name, "steps": stage.steps, "weights": stage.weights} for stage in stages],
    }


@contextlib.contextmanager
def _full_disk_told(run: RunDirectory, here: Team) -> Iterator[None]:
    """End the run with a clear failure where the disk is full; every other error goes on."""
    try:
        yield
    except (AssayError, OSError) as error:
        if not checkpoint.disk_full(error):
            raise
        message = f"{error} The checkpoints that were written before are whole; training goes on from the newest."
        run.update(state="failed", finished=time.time(), failure=Failure(kind="disk full", message=message))
        if here.world > 1:  # the other ranks wait for this one, and torchrun ends them when it ends
            raise
