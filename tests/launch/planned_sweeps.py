"""Synthetic plans without corpora, for code that only reads records."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from assay.config.recipe import RunSpec, StageSpec
from assay.config.suite import EvaluationSpec
from assay.config.sweep import Sweep
from assay.plan.plan import Cost, Plan, PlannedRun
from tests.helpers.evaluations import write_evaluation
from tests.helpers.recipe import ADAMW, MODEL

if TYPE_CHECKING:
    from assay.store.runs import RunDirectory, Store

EVALUATION = EvaluationSpec(
    tasks=(), batch_size=8, validation_bytes=1000, validation={"web": "c" * 64}, harness="lm_eval 0", datasets="hub"
)
SHAPE = replace(MODEL, layers=1, sequence_length=10)
STEPS, TOKENS = 100, 10_000
"""The evaluation of every run of such a plan."""


def spec(mix: str, seed: int) -> RunSpec:
    """Return a run of 100 steps of 100 tokens; the mix name is the only difference between runs."""
    return RunSpec(
        model=SHAPE,
        vocabulary=300,
        tokenizer="t" * 64,
        corpora={mix: "c" * 64},
        stages=(StageSpec(name="pretrain", weights={mix: 1.0}, steps=STEPS),),
        optimizer=ADAMW,
        batch_sequences=10,
        seed=seed,
    )


def make_plan(mixes: list[str], seeds: list[int], *, refused: tuple[str, ...] = ()) -> Plan:
    """Return a plan whose runs are all to do, except those of refused mixes."""
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
    """Create a run's folder with this status."""
    run = store.run(spec(mix, seed).fingerprint)
    run.create(spec(mix, seed), {"mix": mix, "seed": seed})
    if status:
        run.update(**status)
    if evaluated:
        with run.writing_evaluation(EVALUATION.fingerprint) as folder:
            write_evaluation(folder)
    return run
