"""Tokens a second of assay's training loop beside Hugging Face's Trainer: the same model, data, batch and optimiser.

    python benchmarks/trainer.py                     # 0.3m and 1m, under two minutes on one core
    python benchmarks/trainer.py 4m --rounds 1
    python benchmarks/trainer.py 0.3m --threads 2 --plain-malloc

Both start from the same weights and see the same sequences, in turns, so that what else the machine does hits both. All
that each does in a step is timed, its history and its progress included; neither writes checkpoints. The first quarter of
the steps is left out: memory is warm by then. Random tokens cost what text costs. On a machine that does other things
too, trust the tokens for each second that a processor really gave.
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

    from assay.recipe import RunSpec

ROOT = Path(__file__).parents[1]
STEPS = {"0.3m": 60, "1m": 28}

# As conf/cluster/local.yaml has it: glibc keeps large blocks, where it would give them back in every step and have the
# kernel fill them with zeros again.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}


class Moment(NamedTuple):
    """The end of a step, by the clock on the wall and by the processor time that this process had."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Moment:
        """This moment."""
        return cls(time.perf_counter(), time.process_time())


class Speed(NamedTuple):
    """Tokens a second of either."""

    wall: float
    cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proxies", nargs="*", default=["0.3m", "1m"], help="names in conf/proxy")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sequences", type=int, default=8, help="of a batch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plain-malloc", action="store_true", help="leave glibc's memory settings as they are")
    options = parser.parse_args()
    environment = {"OMP_NUM_THREADS": str(options.threads), "MKL_NUM_THREADS": str(options.threads)}
    environment |= {} if options.plain_malloc else MALLOC
    if any(os.environ.get(name) != value for name, value in environment.items()):
        # glibc and OpenMP read these once, when a process begins.
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **environment})
    compare(options)


def compare(options: argparse.Namespace) -> None:
    import torch
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from assay.train.device import peak_flops

    console = Console()
    loops = {"assay": ours, "HF Trainer": theirs}
    specs = {name: make_spec(name, options.sequences) for name in options.proxies}
    turns = [(name, loop) for _ in range(options.rounds) for name in specs for loop in loops]
    speeds: dict[tuple[str, str], list[Speed]] = {turn: [] for turn in turns}
    for name, loop in track(turns, "training", console=Console(stderr=True), transient=True):
        speeds[name, loop].append(loops[loop](specs[name], options.threads))

    malloc = "plain malloc" if options.plain_malloc else "malloc as in conf/cluster/local.yaml"
    table = Table(title=f"{options.threads} thread(s), batch of {options.sequences}, {malloc}")
    # Seconds of processor time, where the machine does other things too.
    for column in ("proxy", "loop", "tokens/s", "per CPU second", "lowest", "of peak", "ratio"):
        table.add_column(column, justify="left" if column in {"proxy", "loop"} else "right")
    peak = peak_flops(torch.device("cpu"))
    for name, spec in specs.items():
        middle = {loop: statistics.median(speed.cpu for speed in speeds[name, loop]) for loop in loops}
        for loop in loops:
            cpu = [speed.cpu for speed in speeds[name, loop]]
            share = middle[loop] * options.threads * spec.model.flops_per_token(spec.vocabulary) / peak
            table.add_row(
                name,
                loop,
                f"{statistics.median(speed.wall for speed in speeds[name, loop]):,.0f}",
                f"{middle[loop]:,.0f}",
                f"{min(cpu):,.0f}",
                f"{share:.0%}",
                f"{middle[loop] / middle['HF Trainer']:.2f}",
            )
    console.print(table)


def make_spec(proxy: str, sequences: int) -> RunSpec:
    import yaml

    from assay.recipe import Optimiser, ProxyModel, RunSpec, StageSpec
    from assay.structure import from_mapping

    model, optimiser = (
        from_mapping(kind, yaml.safe_load((ROOT / "conf" / group / f"{name}.yaml").read_text()), where=name)
        for kind, group, name in ((ProxyModel, "proxy", proxy), (Optimiser, "optim", "cosine"))
    )
    return RunSpec(
        model=model,
        vocabulary=4096,
        tokenizer="none",
        corpora={"random": "none"},
        stages=(StageSpec(name="main", weights={"random": 1.0}, steps=STEPS.get(proxy, 12)),),
        optimiser=optimiser,
        batch_sequences=sequences,
        seed=0,
    )


class RandomTokens:
    """A reader of sequences that are not there."""

    names = ("random",)

    def __init__(self, spec: RunSpec) -> None:
        import numpy as np

        shape = (spec.steps * spec.batch_sequences, spec.model.sequence_length + 1)
        self.tokens = np.random.default_rng(0).integers(spec.vocabulary, size=shape)

    def read(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Token ids, and the index of each sequence's source."""
        return self.tokens[start:stop], self.tokens[start:stop, 0] * 0

    def delivered(self, stop: int) -> dict[str, dict[str, Any]]:
        """What the one source gave."""
        return {"random": {"sequences": stop}}

    def epoch_starts(self, start: int, stop: int) -> list[Any]:
        """Nothing repeats."""
        del start, stop
        return []


def ours(spec: RunSpec, threads: int) -> Speed:
    """Tokens a second of `assay.train.loop.train`, by a clock that it asks for in every step whether to stop."""
    from assay.store import RunDirectory
    from assay.train.loop import train
    from assay.train.settings import TrainSettings

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


def theirs(spec: RunSpec, threads: int) -> Speed:
    """Tokens a second of transformers' Trainer, by a callback at the end of every step."""
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
    optimiser = spec.optimiser
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            use_cpu=True,
            max_steps=spec.steps,
            per_device_train_batch_size=spec.batch_sequences,
            optim="adamw_torch_fused",
            learning_rate=optimiser.peak_lr,
            weight_decay=optimiser.weight_decay,
            adam_beta1=optimiser.beta1,
            adam_beta2=optimiser.beta2,
            max_grad_norm=optimiser.gradient_clip,
            lr_scheduler_type="cosine",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        data = [{"input_ids": row, "labels": row} for row in tokens]
        model = build(spec.model, spec.vocabulary, seed=spec.seed)
        trainer = Trainer(model, arguments, train_dataset=data, callbacks=[Clock()])
        trainer.log = lambda *_, **__: None  # its lines would fall into the table; ours go into a file
        trainer.train()
    return speed(spec, ends)


def speed(spec: RunSpec, ends: list[Moment]) -> Speed:
    """Tokens a second after the first quarter of the steps."""
    first, last = ends[len(ends) // 4], ends[-1]
    tokens = (len(ends) - 1 - len(ends) // 4) * spec.tokens_per_step
    return Speed(tokens / (last.wall - first.wall), tokens / (last.cpu - first.cpu))


if __name__ == "__main__":
    main()
