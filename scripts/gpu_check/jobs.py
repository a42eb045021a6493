"""The jobs of the check. Each runs in its own process, so that memory is measured separately and no failure spreads."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.config.recipe import RunSpec, StageSpec
from assay.config.training import TrainSettings
from assay.store.runs import RunDirectory
from scripts.gpu_check.synthetic import TASK, load_data, prepare_data

if TYPE_CHECKING:
    import torch
    from torch.utils.data import Dataset

    from assay.corpus.loader import SequenceReader
    from scripts.gpu_check.plan import Load, Plan

Figures = dict[str, Any]
"""What a job measured, as JSON values."""
MIX = {"prose": 0.75, "code": 0.25}
WARMUP = 0.25
"""Fraction of the steps before the measured ones; it contains compilation and the choice of kernels."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a job runs."""

    plan: Plan
    work: Path
    """Folder of the data and of all runs."""
    device: str
    """`cpu` or `cuda`."""
    threads: int


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """Training of one model with `assay.train.loop`."""

    load: Load
    run: str
    """Name of the run's folder; a job with the folder of a stopped run resumes it."""
    compile: bool = False
    seed: int = 0
    stop_after: int | None = None
    """Steps in this process after which training stops with a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class TrainerJob:
    """Training of one model with the Trainer of transformers: same initial weights, batch, precision and optimizer."""

    load: Load
    steps: int


@dataclass(frozen=True, kw_only=True)
class EvaluateJob:
    """Evaluation of a finished run with seed 0."""

    load: Load
    run: str


@dataclass(frozen=True, kw_only=True)
class DataJob:
    """Preparation of text, tokenizer and corpora."""


Job = TrainJob | TrainerJob | EvaluateJob | DataJob


def perform(job: Job, place: Place) -> Figures:
    """Perform a job in this process."""
    match job:
        case TrainJob():
            return train_model(job, place)
        case TrainerJob():
            return train_with_trainer(job, place)
        case EvaluateJob():
            return evaluate_run(job, place)
        case DataJob():
            start = time.perf_counter()
            data = prepare_data(place.plan, place.work)
            return {"tokens": data.tokens, "seconds": time.perf_counter() - start}


def make_spec(load: Load, plan: Plan, work: Path, *, seed: int) -> RunSpec:
    """Return the run of a model on the synthetic sources."""
    data = load_data(work)
    return RunSpec(
        model=load.model,
        vocabulary=plan.vocabulary,
        tokenizer=data.tokenizer,
        corpora=data.corpora,
        stages=(StageSpec(name="main", weights=MIX, steps=load.steps),),
        optimizer=plan.optimizer,
        batch_sequences=load.sequences,
        seed=seed,
    )


def run_directory(place: Place, name: str, spec: RunSpec) -> RunDirectory:
    """Return the folder of a run; equal specs under different names are trained separately."""
    return RunDirectory(place.work / "runs" / name / spec.fingerprint)


class Clock:
    """Time of the steps after the warm-up, and the time to the first step.

    Args:
        steps: number of steps until the end of the measurement.
        device: its work is awaited at the start and the end of the measurement only.
    """

    def __init__(self, steps: int, device: torch.device) -> None:
        self._first, self._last, self._device = max(1, round(WARMUP * steps)), steps, device
        self._started = time.perf_counter()
        self._marks: dict[int, float] = {}
        self.steps = 0

    def tick(self) -> None:
        """Count a step."""
        self.steps += 1
        if self.steps in {1, self._first, self._last}:
            _synchronize(self._device)
            self._marks[self.steps] = time.perf_counter()

    def figures(self, spec: RunSpec, peak: float | None) -> Figures:
        """Return speed and model FLOPs utilization; without a measured step, only the time to the first step."""
        first = self._marks.get(1)
        figures: Figures = {
            "steps": self.steps,
            "seconds_to_first_step": None if first is None else first - self._started,
        }
        if self._last in self._marks and self._last > self._first:
            seconds = self._marks[self._last] - self._marks[self._first]
            speed = (self._last - self._first) * spec.tokens_per_step / seconds
            flops = speed * spec.model.flops_per_token(spec.vocabulary)
            figures |= {"tokens_per_second": speed, "mfu": None if peak is None else flops / peak}
        return figures


def train_model(job: TrainJob, place: Place) -> Figures:
    """Train a model, and measure it; the run's folder keeps weights and history."""
    from assay.corpus.loader import SequenceReader
    from assay.train.device import choose_device, peak_flops
    from assay.train.loop import train

    spec = make_spec(job.load, place.plan, place.work, seed=job.seed)
    run, data = run_directory(place, job.run, spec), load_data(place.work)
    run.create(spec, {})
    device = choose_device(place.device)
    clock = Clock(job.stop_after or spec.steps, device)

    def stop() -> bool:
        clock.tick()
        return clock.steps == job.stop_after

    settings = TrainSettings(
        device=place.device,
        threads=place.threads,
        micro_batch=job.load.micro,
        compile=job.compile,
        checkpoint_seconds=math.inf,
        records=20,
    )
    with run.claim():
        status = train(
            spec,
            run,
            SequenceReader.open(spec, place.work / "corpora"),
            tokenizer=place.work / "tokenizers" / data.tokenizer,
            settings=settings,
            should_stop=stop,
        )
    losses = [record["loss"] for record in run.history()]
    return {
        "state": status.state,
        "weights": status.weights,
        "precision": precision_of(device),
        "parameters": spec.model.parameters(spec.vocabulary),
        "tokens_per_step": spec.tokens_per_step,
        "losses": losses,
        **clock.figures(spec, peak_flops(device)),
        **memory_figures(device),
    }


def precision_of(device: torch.device) -> str:
    """Return the type in which training multiplies on a device, such as `bfloat16`."""
    import torch

    from assay.train.device import autocast

    with autocast(device):
        enabled = torch.is_autocast_enabled(device.type)
        return str(torch.get_autocast_dtype(device.type) if enabled else torch.float32).removeprefix("torch.")


def memory_figures(device: torch.device) -> Figures:
    """Return the peak memory of this process in bytes: of torch's allocator on a GPU, of the process on a CPU."""
    import resource

    import torch

    if device.type == "cuda":
        return {
            "peak_memory": torch.cuda.max_memory_allocated(device),
            "peak_reserved_memory": torch.cuda.max_memory_reserved(device),
        }
    return {"peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def train_with_trainer(job: TrainerJob, place: Place) -> Figures:
    """Train the same model on the same sequences with the Trainer of transformers, and measure it."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from transformers.utils import logging

    from assay.corpus.loader import SequenceReader
    from assay.train.device import choose_device, peak_flops
    from assay.train.model import build

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # untyped in transformers
    torch.set_num_threads(place.threads)
    spec, load, device = make_spec(job.load, place.plan, place.work, seed=0), job.load, choose_device(place.device)
    clock = Clock(job.steps, device)

    class Ticks(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            clock.tick()

    optimizer = spec.optimizer
    arguments = TrainingArguments(
        output_dir=str(place.work / "trainer"),
        use_cpu=device.type == "cpu",
        bf16=precision_of(device) == "bfloat16",
        max_steps=job.steps,
        per_device_train_batch_size=load.micro,
        gradient_accumulation_steps=load.sequences // load.micro,
        optim="adamw_torch_fused",
        learning_rate=optimizer.peak_lr,
        weight_decay=optimizer.weight_decay,
        adam_beta1=optimizer.beta1,
        adam_beta2=optimizer.beta2,
        max_grad_norm=optimizer.gradient_clip,
        lr_scheduler_type="cosine",
        logging_steps=max(1, job.steps // 20),
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    rows = _sequences(SequenceReader.open(spec, place.work / "corpora"), job.steps * load.sequences)
    trainer = Trainer(build(spec.model, spec.vocabulary, seed=0), arguments, train_dataset=rows, callbacks=[Ticks()])
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "losses": [float(loss) for loss in losses],
        **clock.figures(spec, peak_flops(device)),
        **memory_figures(device),
    }


def _sequences(reader: SequenceReader, count: int) -> Dataset[dict[str, torch.Tensor]]:
    import torch
    from torch.utils.data import Dataset

    tokens = torch.from_numpy(reader.read(0, count)[0][:, :-1].copy())

    class Rows(Dataset[dict[str, torch.Tensor]]):
        def __len__(self) -> int:
            return len(tokens)

        def __getitem__(self, place: int) -> dict[str, torch.Tensor]:
            return {"input_ids": tokens[place], "labels": tokens[place]}

    return Rows()


def evaluate_run(job: EvaluateJob, place: Place) -> Figures:
    """Score a run's weights: bits per byte on the device and on the CPU, and with lm-eval where it is installed."""
    import torch

    from assay.train.device import choose_device

    spec, device = make_spec(job.load, place.plan, place.work, seed=0), choose_device(place.device)
    run = run_directory(place, job.run, spec)
    torch.set_num_threads(max(place.threads, 4))
    size = min(place.plan.validation_bytes, 10_000)  # the CPU scores the same text for comparison
    figures: Figures = {
        "bits_per_byte": bits_per_byte(run.model, place, device, size),
        "bits_per_byte_on_cpu": bits_per_byte(run.model, place, torch.device("cpu"), size),
    }
    if missing_for_lm_eval():
        return {**figures, "skipped": f"scoring with lm-eval: not installed: {', '.join(missing_for_lm_eval())}"}
    return {**figures, "scores": _score_with_lm_eval(run, place), **memory_figures(device)}


def missing_for_lm_eval() -> list[str]:
    """Return the packages that the evaluation with lm-eval lacks."""
    from importlib.util import find_spec

    return [name for name in ("lm_eval", "datasets", "pyarrow") if find_spec(name) is None]


def bits_per_byte(model_folder: Path, place: Place, device: torch.device, size: int) -> float:
    """Measure bits per byte of held-out documents, each cut to the model's context, in float32.

    Args:
        model_folder: the exported model.
        place: the job's place.
        device: where the model computes.
        size: bytes of text that the documents reach together.
    """
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM

    from assay.corpus.shards import Corpus
    from assay.train.model import sequence_losses

    torch.set_float32_matmul_precision("highest")
    model: Any = AutoModelForCausalLM.from_pretrained(model_folder)
    model.to(device).eval()
    tokenizer = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    nats, total = 0.0, 0
    for identity in load_data(place.work).corpora.values():
        for _, tokens, _ in Corpus.open(place.work / "corpora" / identity).validation():
            ids = torch.tensor([tokens[: model.config.max_position_embeddings].tolist()], device=device)
            with torch.inference_mode():
                nats += float(sequence_losses(model, ids[:, :-1], ids[:, 1:]).sum())
            total += len(tokenizer.decode(ids[0, 1:].tolist()).encode())
            if total >= size:
                return nats / math.log(2) / total
    return nats / math.log(2) / total


def _score_with_lm_eval(run: RunDirectory, place: Place) -> dict[str, float]:
    """Return the scores of assay's evaluation: held-out text and the local task."""
    from assay.config.suite import EvaluationSpec, SuiteTask
    from assay.evaluate.evaluation import evaluate
    from assay.evaluate.task_check import harness_version
    from assay.evaluate.task_folder import digest_task_folder

    data, tasks = load_data(place.work), place.work / "tasks"
    spec = EvaluationSpec(
        tasks=(SuiteTask(task=TASK),),
        batch_size=16,
        validation_bytes=place.plan.validation_bytes,
        validation=data.corpora,
        harness=harness_version(),
        datasets="hub",
        task_files=digest_task_folder(tasks),
    )
    corpora = {name: place.work / "corpora" / identity for name, identity in data.corpora.items()}
    evaluate(run, spec, corpora, mirror=None, include_path=tasks, device=place.device)
    return {f"{score['task']} {score['metric']}": score["value"] for score in run.scores(spec.fingerprint)}


def _synchronize(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
