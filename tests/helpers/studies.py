"""Results tables with known effects, for tests of compare and gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from assay.config.policy import Criterion, Policy

WIGGLE = (-1.0, 0.25, 0.75, -0.5, 0.5)
"""Paired noise of the first five seeds: it adds up to 0 over three and over five."""


def policy(**changes: object) -> Policy:
    """Bits per byte of code as primary, of books and of the web as guardrails."""
    fields: dict[str, object] = {
        "name": "test",
        "primary": (Criterion(task="validation/code", metric="bits_per_byte", better="lower"),),
        "guardrails": tuple(
            Criterion(task=f"validation/{task}", metric="bits_per_byte", better="lower", margin=0.03)
            for task in ("books", "web")
        ),
        "alpha": 0.05,
        "min_seeds": 3,
    }
    return Policy(**{**fields, **changes})  # type: ignore[arg-type]


def results(
    effects: Mapping[str, Mapping[str, float]],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    noise: float = 0.002,
    tasks: Sequence[str] = ("code", "books", "web"),
) -> pd.DataFrame:
    """One row for each mix, seed and task: a level, the seed's own, the mix's effect, and paired noise.

    Args:
        effects: by mix and source, what it adds in bits per byte; the baseline is `base` and comes first.
        seeds: replicates of every mix.
        noise: scale of `WIGGLE`.
        tasks: sources that are measured.
    """
    rows = []
    for mix, added in {"base": {}, **effects}.items():
        for seed in seeds:
            for at, task in enumerate(tasks):
                paired = 0.0 if mix == "base" else noise * WIGGLE[(seed + at) % (3 if len(seeds) == 3 else 5)]
                value = 2 + 0.1 * at + 0.01 * seed + added.get(task, 0.0) + paired
                rows.append((mix, seed, "1m", 1e7, f"validation/{task}", "bits_per_byte", value))
    return pd.DataFrame(rows, columns=["mix", "seed", "scale", "tokens", "task", "metric", "value"])


def accuracy(
    level: Mapping[str, float],
    *,
    task: str = "mmlu",
    n: int = 400,
    chance: float = 0.25,
    seeds: int = 3,
    spread: float = 0.1,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Results and items of a multiple-choice task: questions have a difficulty, and each run its own luck.

    Args:
        level: by mix, the share that it gets right on average.
        task: the task's name.
        n: questions.
        chance: accuracy of guessing.
        seeds: replicates of every mix.
        spread: SD of a run's luck with a question, where difficulty is uniform on 0 to 1.
    """
    rng = np.random.default_rng(11)
    difficulty = rng.random(n)
    rows, items = [], []
    for mix, share in level.items():
        for seed in range(seeds):
            right = ((difficulty + rng.normal(0, spread, n)) % 1 < share).astype(float)
            rows.append((mix, seed, task, "acc", right.mean(), n, chance))
            items += [(mix, seed, task, "acc", f"{task}-{i}", value) for i, value in enumerate(right)]
    return (
        pd.DataFrame(rows, columns=["mix", "seed", "task", "metric", "value", "n", "chance"]),
        pd.DataFrame(items, columns=["mix", "seed", "task", "metric", "item", "value"]),
    )
