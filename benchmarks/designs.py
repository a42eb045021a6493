"""Compare the predicted power of designs with the fraction of simulated studies that detect the effect.

    python benchmarks/designs.py       # half a minute on one core

Simulates with seed 0. Scores are normal. Each study tests one candidate at a two-sided 5%, with the residual variance of
all arms ("all arms") and with the variance of the tested pair only ("pair"). The effect is in SDs between seeds of one mix.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import t as student

from assay.analysis.stats.design_grid import Layout, RunNoise, design_power

STUDIES = 100_000
TAIL = 0.025
DESIGNS = ((2, 2), (2, 3), (2, 5), (5, 2), (5, 3), (10, 2), (10, 3), (5, 5))
"""Numbers of arms and of seeds."""


def simulate(rng: np.random.Generator, layout: Layout, effect: float, correlation: float, *, pooled: bool) -> float:
    """Return the fraction of studies in which the second arm is significantly better than the first arm."""
    shape = (STUDIES, layout.arms, layout.seeds)
    common = rng.normal(0, correlation**0.5, (STUDIES, 1 if layout.shared else layout.arms, layout.seeds))
    y = common + rng.normal(0, (1 - correlation) ** 0.5, shape)
    y[:, 1] += effect
    used = y if pooled else y[:, :2]
    residual = used - used.mean(axis=2, keepdims=True)
    arms = used.shape[1]
    if layout.shared:
        residual += used.mean(axis=(1, 2), keepdims=True) - used.mean(axis=1, keepdims=True)
    df = Layout(arms, layout.seeds, shared=layout.shared).df
    se = np.sqrt(2 * (residual**2).sum(axis=(1, 2)) / df / layout.seeds)
    return float(np.mean((y[:, 1].mean(axis=1) - y[:, 0].mean(axis=1)) / se > student.isf(TAIL, df)))


def main() -> None:
    """Print one row per design and correlation."""
    rng = np.random.default_rng(0)
    print("arms seeds  seeds are  correlation  effect  predicted  all arms   pair")
    for effect, correlation, shared in ((2.0, 0.0, True), (2.0, 0.5, True), (2.0, 0.5, False), (1.0, 0.9, True)):
        for arms, seeds in DESIGNS:
            layout = Layout(arms, seeds, shared=shared)
            noise = RunNoise(variance=1.0, residual=1 - correlation, df=0.0)
            predicted = design_power(effect, noise=noise, layout=layout, tail=TAIL)
            found = [simulate(rng, layout, effect, correlation, pooled=pooled) for pooled in (True, False)]
            kind = "shared" if shared else "separate"
            print(
                f"{arms:4} {seeds:5}  {kind:>9}  {correlation:11.1f}  {effect:6.1f}  {predicted:9.1%}"
                f"  {found[0]:8.1%}  {found[1]:5.1%}"
            )


if __name__ == "__main__":
    main()
