"""Simulated tables of recipes at a proxy and a target scale, with known truth, for tuning and testing transfer.

The noise levels are from DataDecide (arXiv 2504.11393) at 150M: seed SD in points of MMLU .25, HellaSwag .31, ARC-Easy .81,
ARC-Challenge 1.0, BoolQ 5.3; those of the other tasks are guesses in between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

TASKS = (
    "mmlu", "hellaswag", "arc_easy", "arc_challenge", "boolq", "csqa", "openbookqa", "piqa", "socialiqa", "winogrande",
)  # fmt: skip
NOISE = np.array([0.25, 0.31, 0.81, 1.0, 5.3, 0.9, 1.1, 0.5, 0.6, 0.8])
SPREAD = np.array([0.9, 2.5, 4.0, 2.2, 2.5, 2.5, 1.5, 1.7, 0.7, 0.7])
TARGET_NOISE = np.array([0.3, 0.3, 0.7, 0.9, 3.5, 0.9, 1.0, 0.5, 0.5, 0.7])
TARGET_SPREAD = np.array([2.5, 4.5, 5.0, 4.0, 3.0, 3.5, 2.0, 1.8, 1.2, 2.0])
AVERAGE = "average"
FACTORS = 3


@dataclass(frozen=True, kw_only=True)
class World:
    """A model of recipes, scales and seeds.

    Attributes:
        transfer: correlation of a recipe's effects at proxy and target: .85 ranks 80% of pairs correctly, 0 is random.
        noise: factor on the seed SDs at the proxy.
        tail: degrees of freedom of all t distributions; None for normal ones.
        outliers: number of recipes whose target score is shifted far away.
        clustered: whether recipes are variants of a few families, as public recipes are.
    """

    transfer: float = 0.85
    noise: float = 0.3
    tail: float | None = None
    outliers: int = 0
    clustered: bool = True

    def draw(self, rng: np.random.Generator, *, mixes: int = 25, seeds: int = 3) -> tuple[np.ndarray, np.ndarray]:
        """Draw scores in points at proxy and target, (mixes, seeds, tasks and their average)."""

        def z(*shape: int) -> np.ndarray:
            if self.tail is None:
                return rng.standard_normal(shape)
            return rng.standard_t(self.tail, shape) / np.sqrt(self.tail / (self.tail - 2))

        def at_target(effects: np.ndarray) -> np.ndarray:
            return self.transfer * effects + np.sqrt(1 - self.transfer**2) * z(*effects.shape)

        tasks = len(TASKS)
        loadings = np.hstack([np.abs(rng.normal(1, 0.35, (tasks, 1))), rng.normal(0, 0.6, (tasks, FACTORS - 1))])
        loadings *= np.sqrt(0.75) / np.linalg.norm(loadings, axis=1, keepdims=True)
        common, own = z(mixes, FACTORS), 0.5 * z(mixes, tasks)
        if self.clustered:
            families = int(rng.integers(5, 9))
            common = 0.8 * z(families, FACTORS)[rng.integers(0, families, mixes)] + 0.6 * common
        proxy = (common @ loadings.T + own) * SPREAD
        target = (at_target(common) @ loadings.T + at_target(own)) * TARGET_SPREAD
        for odd in rng.choice(mixes, self.outliers, replace=False):
            target[odd] += rng.choice([-1, 1]) * 4 * TARGET_SPREAD
        return (
            _with_average(proxy[:, None] + self.noise * NOISE * z(mixes, seeds, tasks)),
            _with_average(target[:, None] + TARGET_NOISE * z(mixes, seeds, tasks)),
        )


def _with_average(scores: np.ndarray) -> np.ndarray:
    return np.concatenate([scores, scores.mean(axis=2, keepdims=True)], axis=2)


def table(scores: np.ndarray, scale: str) -> pd.DataFrame:
    """Convert scores in points to a long table of accuracies; mixes are `m0`, `m1` and so on."""
    mix, seed, task = (at.ravel() for at in np.indices(scores.shape))
    names = np.array([*TASKS, AVERAGE])
    return pd.DataFrame(
        {
            "mix": [f"m{i}" for i in mix],
            "seed": seed,
            "scale": scale,
            "tokens": 3e9,
            "task": names[task],
            "metric": "acc",
            "value": 0.4 + scores.ravel() / 100,
        }
    )
