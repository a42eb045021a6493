"""Compare the predicted power of designs with the fraction of simulated studies that detect the effect.

    python benchmarks/designs.py       # ten seconds on one core

Simulates with seed 0. Scores are normal. Each study tests one candidate at a two-sided 5%. Tests: the residual variance
of all arms, or of the tested pair if an F test at 10% shows that the pair is noisier ("verdict"); always of all arms
("all arms"); always of the pair ("pair"). The effect is in SDs between seeds of one mix.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import f as fisher
from scipy.stats import t as student

from assay.analysis.stats.design_grid import SEPARATED, Layout, RunNoise, design_power

STUDIES = 100_000
TAIL = 0.025
DESIGNS = ((2, 2), (2, 3), (2, 5), (5, 2), (5, 3), (10, 2), (10, 3), (5, 5))
"""Numbers of arms and of seeds."""


def simulate(rng: np.random.Generator, layout: Layout, effect: float, correlation: float) -> tuple[float, float, float]:
    """Return the fraction of studies in which the second arm is significantly better, by the three tests."""
    common = rng.normal(0, correlation**0.5, (STUDIES, 1 if layout.shared else layout.arms, layout.seeds))
    y = common + rng.normal(0, (1 - correlation) ** 0.5, (STUDIES, layout.arms, layout.seeds))
    y[:, 1] += effect
    gain = y[:, 1].mean(axis=1) - y[:, 0].mean(axis=1)
    every, own = _squares(y, shared=layout.shared), _squares(y[:, :2], shared=layout.shared)
    df, own_df = layout.df, layout.pair_df

    def detected(variance: np.ndarray, dfs: np.ndarray | int) -> np.ndarray:
        return np.asarray(gain / np.sqrt(2 * variance / layout.seeds) > student.isf(TAIL, dfs))

    pooled, pair = detected(every / df, df), detected(own / own_df, own_df)
    if df == own_df:
        return float(pooled.mean()), float(pooled.mean()), float(pair.mean())
    ratio = own / own_df / ((every - own) / (df - own_df))
    verdict = np.where(ratio > fisher.isf(SEPARATED, own_df, df - own_df), pair, pooled)
    return float(verdict.mean()), float(pooled.mean()), float(pair.mean())


def _squares(y: np.ndarray, *, shared: bool) -> np.ndarray:
    """Return the residual sums of squares of scores, (studies, arms, seeds)."""
    residual = y - y.mean(axis=2, keepdims=True)
    if shared:
        residual += y.mean(axis=(1, 2), keepdims=True) - y.mean(axis=1, keepdims=True)
    return np.asarray((residual**2).sum(axis=(1, 2)))


def main() -> None:
    """Print one row per design and correlation."""
    rng = np.random.default_rng(0)
    print("arms seeds  seeds are  correlation  effect  predicted  verdict  all arms   pair")
    worst = 0.0
    for effect, correlation, shared in ((2.0, 0.0, True), (2.0, 0.5, True), (2.0, 0.5, False), (1.0, 0.9, True)):
        for arms, seeds in DESIGNS:
            layout = Layout(arms, seeds, shared=shared)
            noise = RunNoise(variance=1.0, residual=1 - correlation, df=0.0)
            predicted = design_power(effect, noise=noise, layout=layout, tail=TAIL)
            verdict, pooled, pair = simulate(rng, layout, effect, correlation)
            worst = max(worst, abs(predicted - verdict))
            print(
                f"{arms:4} {seeds:5}  {'shared' if shared else 'separate':>9}  {correlation:11.1f}  {effect:6.1f}"
                f"  {predicted:9.1%}  {verdict:7.1%}  {pooled:8.1%}  {pair:5.1%}"
            )
    print(f"largest difference of predicted and verdict: {worst:.2%}")


if __name__ == "__main__":
    main()
