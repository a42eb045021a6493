"""Runs that are trained and scored, as the store has them: for tests of what is made of results."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING

from assay.core.files import write_json
from assay.evaluate.items import write_items

if TYPE_CHECKING:
    from assay.config.recipe import RunSpec
    from assay.plan.workspace import Workspace
    from assay.store.evaluations import InterimEvaluation, WeightsDirectory
    from assay.store.runs import RunDirectory

DOCUMENTS = 12
"""Of each source's validation split."""


def finish(space: Workspace, mix: str, seed: int, *, bits: Mapping[str, float] | None = None) -> RunDirectory:
    """Record a run of a study as trained and evaluated, with what its mix asks for delivered.

    Args:
        space: the study.
        mix: one of its sweep's.
        seed: one of its sweep's.
        bits: bits per byte by source, on top of 2 and a little of the seed's, the document's and the run's own.
    """
    draw = random.Random(f"{mix} {seed}")
    spec = space.runs.spec(mix, seed)
    run = space.store.run(spec.fingerprint)
    run.create(spec, space.runs.labels(mix, seed))
    run.update(
        state="done",
        step=spec.steps,
        steps=spec.steps,
        tokens=spec.tokens,
        tokens_per_second=5000.0,
        finished=1_795_000_000.0,
        train_seconds=spec.tokens / 5000,
        evaluate_seconds=1.0,
        attempt=1,
    )
    measure(space, run, draw, spec, step=spec.steps, bits=bits)
    return run


def look_at(
    space: Workspace, mix: str, seed: int, *, step: int, bits: Mapping[str, float] | None = None
) -> InterimEvaluation:
    """Record a look at a run, as if it had been at that step; arguments as those of `finish`."""
    spec = space.runs.spec(mix, seed)
    run = space.store.run(spec.fingerprint)
    run.create(spec, space.runs.labels(mix, seed))
    look = run.interim(step)
    measure(space, look, random.Random(f"{mix} {seed} {step}"), spec, step=step, bits=bits)
    return look


def measure(
    space: Workspace,
    record: WeightsDirectory,
    draw: random.Random,
    spec: RunSpec,
    *,
    step: int,
    bits: Mapping[str, float] | None,
) -> None:
    """Record what the weights after a step were given, and their scores."""
    weights, sequences = spec.stages[0].weights, step * spec.batch_sequences
    delivered = {name: {"sequences": round(weight * sequences), "tokens": 0} for name, weight in weights.items()}
    write_json(record.path / "delivered.json", {"requested": weights, "delivered": delivered})
    rows, scores = [], []
    for source in space.mixes.sweep_sources:
        task, level = (
            f"validation/{source}",
            2 + 0.01 * spec.seed + (bits or {}).get(source, 0.0) + draw.gauss(0, 0.002),
        )
        values = [level + 0.001 * (number - (DOCUMENTS - 1) / 2) for number in range(DOCUMENTS)]
        rows += [
            {
                "task": task,
                "group": task,
                "doc_id": number,
                "doc_hash": f"{source} {number}",
                "prompt_hash": "",
                "bits_per_byte": value,
                "bits": 100 * value,
                "bytes": 100,
                "metrics": {},
            }
            for number, value in enumerate(values)
        ]
        scores.append({"task": task, "metric": "bits_per_byte", "value": level, "n": DOCUMENTS, "stderr": 0.001})
    with record.writing_evaluation(space.runs.evaluation.fingerprint) as folder:
        folder.mkdir()
        write_items(folder / "items.parquet", rows)
        write_json(folder / "scores.json", {"scores": scores})
