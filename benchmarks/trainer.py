"""Compare the training speed of assay with that of Hugging Face's Trainer: same model, data, batch and optimizer.

    python benchmarks/trainer.py                     # 0.3m and 1m, under two minutes on one core
    python benchmarks/trainer.py 4m --rounds 1
    python benchmarks/trainer.py 0.3m --threads 2 --plain-malloc

Both start from the same weights and train on the same sequences, alternately, so that other load on the machine affects both.
The measured time includes everything in a step, such as history and progress; neither writes checkpoints. The first quarter
of the steps is excluded as warm-up. Random tokens cost as much as text. On a machine with other load, use the tokens per second
of CPU time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from assay.config.recipe import RunSpec

ROOT = Path(__file__).parents[1]
STEPS = {"0.3m": 60, "1m": 28}

# The settings of conf/cluster/local.yaml: glibc keeps large blocks instead of returning them in every step, after which the
# kernel would have to clear them again.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}


class Moment(NamedTuple):
    """The end of a step, in wall time and in CPU time of this process."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Moment:
        """Return the current moment."""
        return cls(time.perf_counter(), time.process_time())


class Speed(NamedTuple):
    """Tokens per second of wall time and of CPU time."""

    wall: float
    cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proxies", nargs="*", default=["0.3m", "1m"], help="names in conf/proxy")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sequences", type=int, default=8, help="sequences per batch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plain-malloc", action="store_true", help="keep glibc's default memory settings")
    options = parser.parse_args()
    environment = {"OMP_NUM_THREADS": str(options.threads), "MKL_NUM_THREADS": str(options.threads)}
    environment |= {} if options.plain_malloc else MALLOC
    if any(os.environ.get(name) != value for name, value in environment.items()):
        # glibc and OpenMP read these variables only at the start of a process.
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **environment})
    compare(options)


def compare(options: argparse.Namespace) -> None:
    import torch
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from assay.train.device import peak_flops

    console = Console()
    loops = {"assay": measure_assay, "HF Trainer": measure_trainer}
    specs = {name: make_spec(name, options.sequences) for name in options.proxies}
    turns = [(name, loop) for _ in range(options.rounds) for name in specs for loop in loops]
    speeds: dict[tuple[str, str], list[Speed]] = {turn: [] for turn in turns}
    for name, loop in track(turns, "training", console=Console(stderr=True), transient=True):
        speeds[name, loop].append(loops[loop](specs[name], options.threads))

    malloc = "plain malloc" if options.plain_malloc else "malloc as in conf/cluster/local.yaml"
    table = Table(title=f"{options.threads} thread(s), batch of {options.sequences}, {malloc}")
    # CPU seconds are reliable on a machine with other load.
    for column in ("proxy", "loop", "tokens/s", "per CPU second", "lowest", "of peak", "ratio"):
        table.add_column(column, justify="left" if column in {"proxy", "loop"} else "right")
    peak = peak_flops(torch.device("cpu"))
    for name, spec in specs.items():
        middle = {loop: statistics.median(speed.cpu for speed in speeds[name, loop]) for loop in loops}
        for loop in loops:
            cpu = [speed.cpu for speed in speeds[name, loop]]
            fraction = middle[loop] * options.threads * spec.model.flops_per_token(spec.vocabulary) / peak
            table.add_row(
                name,
                loop,
                f"{statistics.median(speed.wall for speed in speeds[name, loop]):,.0f}",
                f"{middle[loop]:,.0f}",
                f"{min(cpu):,.0f}",
                f"{fraction:.0%}",
                f"{middle[loop] / middle['HF Trainer']:.2f}",
            )
    console.print(table)


def make_spec(proxy: str, sequences: int) -> RunSpec:
    import yaml

    from assay.config.recipe import Optimizer, ProxyModel, RunSpec, StageSpec
    from assay.core.serde import from_mapping

    model, optimizer = (
        from_mapping(kind, yaml.safe_load((ROOT / "conf" / group / f"{name}.yaml").read_text()), where=name)
        for kind, group, name in ((ProxyModel, "proxy", proxy), (Optimizer, "optim", "cosine"))
    )
    return RunSpec(
        model=model,
        vocabulary=4096,
        tokenizer="none",
        corpora={"random": "none"},
        stages=(StageSpec(name="main", weights={"random": 1.0}, steps=STEPS.get(proxy, 12)),),
        optimizer=optimizer,
        batch_sequences=sequences,
        seed=0,
    )


class RandomTokens:
    """A reader of random sequences."""

    names = ("random",)

    def __init__(self, spec: RunSpec) -> None:
        import numpy as np

        shape = (spec.steps * spec.batch_sequences, spec.model.sequence_length + 1)
        self.tokens = np.random.default_rng(0).integers(spec.vocabulary, size=shape)

    def read(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Return token IDs, and the index of each sequence's source."""
        return self.tokens[start:stop], self.tokens[start:stop, 0] * 0

    def delivered(self, stop: int) -> dict[str, dict[str, Any]]:
        """Return the delivered sequences of the only source."""
        return {"random": {"sequences": stop}}

    def epoch_starts(self, start: int, stop: int) -> list[Any]:
        """Return no epochs, since no sequence repeats."""
        del start, stop
        return []


def measure_assay(spec: RunSpec, threads: int) -> Speed:
    """Measure `assay.train.loop.train`, with a clock in its poll for stop requests after each step."""
    from assay.config.training import TrainSettings
    from assay.store.runs import RunDirectory
    from assay.train.loop import train

    ends: list[Moment] = []

    def tick() -> bool:
        ends.append(Moment.now())
        return False

    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(Path(folder) / spec.fingerprint)
        run.create(spec, {})
        settings = TrainSettings(device="cpu", threads=threads, micro_batch=spec.batch_sequences)
        train(spec, run, RandomTokens(spec), tokenizer=None, settings=settings, should_stop=tick)
    return speed(spec, ends)


def measure_trainer(spec: RunSpec, threads: int) -> Speed:
    """Measure transformers' Trainer, with a clock in a callback at the end of every step."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from transformers.utils import logging

    from assay.train.model import build

    logging.set_verbosity_error()
    torch.set_num_threads(threads)
    ends: list[Moment] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            ends.append(Moment.now())

    tokens = torch.from_numpy(RandomTokens(spec).tokens[:, :-1])
    optimizer = spec.optimizer
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            use_cpu=True,
            max_steps=spec.steps,
            per_device_train_batch_size=spec.batch_sequences,
            optim="adamw_torch_fused",
            learning_rate=optimizer.peak_lr,
            weight_decay=optimizer.weight_decay,
            adam_beta1=optimizer.beta1,
            adam_beta2=optimizer.beta2,
            max_grad_norm=optimizer.gradient_clip,
            lr_scheduler_type="cosine",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        data = [{"input_ids": row, "labels": row} for row in tokens]
        model = build(spec.model, spec.vocabulary, seed=spec.seed)
        trainer = Trainer(model, arguments, train_dataset=data, callbacks=[Clock()])
        trainer.log = lambda *_, **__: None  # its output would appear inside the table; assay's goes to a file
        trainer.train()
    return speed(spec, ends)


def speed(spec: RunSpec, ends: list[Moment]) -> Speed:
    """Compute tokens per second after the first quarter of the steps."""
    first, last = ends[len(ends) // 4], ends[-1]
    tokens = (len(ends) - 1 - len(ends) // 4) * spec.tokens_per_step
    return Speed(tokens / (last.wall - first.wall), tokens / (last.cpu - first.cpu))


if __name__ == "__main__":
    main()
