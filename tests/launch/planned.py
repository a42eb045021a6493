"""Plans made by hand, whose runs need no corpora: for what only reads records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assay.plan import Cost, Plan, PlannedRun, Sweep
from assay.recipe import Optimiser, ProxyModel, RunSpec, StageSpec
from assay.suite import EvaluationSpec
from tests.evaluations import write_evaluation

if TYPE_CHECKING:
    from assay.store import RunDirectory, Store

EVALUATION = EvaluationSpec(
    tasks=(), batch_size=8, validation_bytes=1000, validation={"web": "c" * 64}, harness="lm_eval 0", datasets="hub"
)
SHAPE = ProxyModel(
    name="tiny",
    hidden_size=16,
    intermediate_size=32,
    layers=1,
    heads=2,
    kv_heads=1,
    tie_embeddings=True,
    rope_theta=10_000.0,
    sequence_length=10,
)
ADAMW = Optimiser(
    name="tiny",
    peak_lr=0.01,
    schedule="cosine",
    warmup=0.1,
    decay=0.0,
    final_lr=0.1,
    beta1=0.9,
    beta2=0.95,
    epsilon=1e-8,
    weight_decay=0.1,
    gradient_clip=1.0,
)
STEPS, TOKENS = 100, 10_000
"""Of every run of a plan made here."""


def spec(mix: str, seed: int) -> RunSpec:
    """A run of 100 steps of 100 tokens; the mix' name stands in for what makes it another one."""
    return RunSpec(
        model=SHAPE,
        vocabulary=300,
        tokenizer="t" * 64,
        corpora={mix: "c" * 64},
        stages=(StageSpec(name="pretrain", weights={mix: 1.0}, steps=STEPS),),
        optimiser=ADAMW,
        batch_sequences=10,
        seed=seed,
    )


def make_plan(mixes: list[str], seeds: list[int], *, refused: tuple[str, ...] = ()) -> Plan:
    """A plan whose runs are all to do, but those of refused mixes."""
    sweep = Sweep(name="tiny", baseline=mixes[0], candidates=tuple(mixes[1:]), seeds=tuple(seeds))
    runs = [
        PlannedRun(
            mix=mix,
            seed=seed,
            spec=None if mix in refused else spec(mix, seed),
            status="refused" if mix in refused else "todo",
        )
        for mix in mixes
        for seed in seeds
    ]
    cost = Cost(runs=len(runs), tokens=0, worker_seconds=None, wall_seconds=None, disk_bytes=0, basis="none")
    return Plan(sweep=sweep, runs=tuple(runs), evaluation=EVALUATION.fingerprint, cost=cost)


def record(store: Store, mix: str, seed: int, *, evaluated: bool = False, **status: Any) -> RunDirectory:
    """Make a run's folder, with this status."""
    run = store.run(spec(mix, seed).fingerprint)
    run.create(spec(mix, seed), {"mix": mix, "seed": seed})
    if status:
        run.update(**status)
    if evaluated:
        with run.writing_evaluation(EVALUATION.fingerprint) as folder:
            write_evaluation(folder)
    return run
