"""Measure error rate and power of a verdict on one replicate, whose noise comes from a history of past runs alone.

Prints Markdown tables over simulated studies: one metric at the proxy, by size of the history and kind of noise, at a nominal 5%; and
the whole gate at a target scale, by the correlation of proxy and target. `python benchmarks/one_replicate.py [--studies N] [--worlds N]`
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.gate import ALPHA, NOISE, Draw

from assay.analysis.gate import decide
from assay.analysis.stats.moderated import learn
from assay.analysis.stats.paired import Estimate, Part
from assay.config.policy import Policy, Target

HISTORIES = ((5, 2), (5, 3), (10, 2), (8, 3), (20, 3), (60, 3))
"""Number of past mixes and of replicates of each; the first is below the gate's requirement."""
GAPS = (2.0, 4.0, 6.0)
"""True effects for the power, in SDs of one run."""


def at_the_proxy(studies: int) -> None:
    """Print false-positive rate and power of the t interval that `compare` computes for one pair of runs."""
    head = ["noise", "history", "past df", "false positives", *(f"power at {gap:g} SD" for gap in GAPS)]
    print(f"| {' | '.join(head)} |\n|" + " --- |" * len(head))
    rng = np.random.default_rng(1)
    for (name, (draw, unequal)), (mixes, seeds) in itertools.product(NOISE.items(), HISTORIES):
        sd = np.exp(unequal * rng.standard_normal((studies, mixes + 2, 1)))
        past = (sd[:, 2:] * draw(rng, (studies, mixes, seeds))).var(axis=2, ddof=1)
        pair = (sd[:, :2] * draw(rng, (studies, 2, 1)))[..., 0]
        unit = np.sqrt((sd[:, :2, 0] ** 2).mean(axis=1))
        priors = [learn(variances, [seeds - 1] * mixes) for variances in past]
        claims = []
        for gap in (0.0, *GAPS):
            effects = pair[:, 1] - pair[:, 0] + gap * unit
            estimates = [
                Estimate(effect, (Part(2 * prior.variance, prior.df),), np.nan, 1)
                for effect, prior in zip(effects, priors, strict=True)
            ]
            claims.append(np.mean([estimate.p_two_sided() <= ALPHA for estimate in estimates]))
        rates = [f"{claims[0]:.1%}", *(f"{fraction:.0%}" for fraction in claims[1:])]
        print(f"| {name} | {mixes} x {seeds} | {mixes * (seeds - 1)} | {' | '.join(rates)} |", flush=True)


def at_the_target(worlds: int) -> None:
    """Print the gate's decisions at the target: 20 recipes with three seeds as history, two others compared on one seed each."""
    print("\n| truth | noise | decided | wrong among decided | wrong among all |\n|" + " --- |" * 5)
    rng = np.random.default_rng(2)
    policy = Policy(
        name="one", alpha=ALPHA, min_seeds=1, proxy_scale="150M",
        target=Target(scale="1B", task="t", metric="acc", better="higher"),
    )  # fmt: skip
    for transfer, (name, (draw, unequal)) in itertools.product((0.85, 0.0), NOISE.items()):
        decided = wrong = 0
        for _ in range(worlds):
            proxy, target, table = _world(rng, transfer, draw, unequal)
            verdict = decide(proxy, policy, baseline="m0", candidate="m1", history=table)
            if verdict.decision in ("ACCEPT", "REJECT"):
                decided += 1
                wrong += (verdict.decision == "ACCEPT") != (target[1] > target[0])
        of_decided = f"{wrong / decided:.1%}" if decided else "-"
        about = f"proxy and target correlate {transfer:g}"
        print(f"| {about} | {name} | {decided / worlds:.0%} | {of_decided} | {wrong / worlds:.1%} |", flush=True)


def _world(
    rng: np.random.Generator, transfer: float, draw: Draw, unequal: float
) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Draw the compared pair's proxy runs, the recipes' true scores at the target, and the history of the other mixes."""
    mixes, seeds = 22, 3
    at_proxy = 0.03 * rng.standard_normal(mixes)
    at_target = transfer * at_proxy + np.sqrt(1 - transfer**2) * 0.03 * rng.standard_normal(mixes)
    sd = 0.006 * np.exp(unequal * rng.standard_normal((mixes, 1)))
    runs = 0.5 + at_proxy[:, None] + sd * draw(rng, (mixes, seeds))
    rows = [(f"m{mix}", seed, "150M", "t", "acc", runs[mix, seed]) for mix in range(2, mixes) for seed in range(seeds)]
    rows += [(f"m{mix}", 0, "1B", "t", "acc", 0.6 + at_target[mix]) for mix in range(2, mixes)]
    columns = ["mix", "seed", "scale", "task", "metric", "value"]
    pair = [(f"m{mix}", 0, "150M", "t", "acc", runs[mix, 0]) for mix in range(2)]
    return pd.DataFrame(pair, columns=columns), at_target, pd.DataFrame(rows, columns=columns)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=4000)
    parser.add_argument("--worlds", type=int, default=1000)
    arguments = parser.parse_args()
    at_the_proxy(arguments.studies)
    at_the_target(arguments.worlds)
