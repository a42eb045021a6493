"""Measure how often a baseline counts as above chance level: `python benchmarks/chance_level.py [--studies N]`.

Simulates the scores of a baseline's seeds on a task of four choices. Prints a Markdown table with the percentage of studies in
which each rule reports a signal. A percentage has a standard error of at most 1 point at 2,000 studies.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable

import numpy as np

from assay.analysis.stats.paired import Estimate
from assay.analysis.stats.signal import CLEARLY, excess_over_chance, signal_from_scores

CHANCE = 0.25
Rule = Callable[[Estimate], bool]


def both_arms(scores: np.ndarray, candidate: np.ndarray, n: int) -> bool:
    """Apply the earlier rule: a test of both arms' scores at 1%, against chance level plus the margin."""
    pooled = np.concatenate([scores, candidate]).tolist()
    return excess_over_chance([pooled], chance=CHANCE, n_items=n).is_above(CLEARLY, alpha=0.01)


RULES: dict[str, Rule] = {
    "margin tested, 1%": lambda e: e.is_above(CLEARLY, alpha=0.01),
    "margin tested, 5%": lambda e: e.is_above(CLEARLY, alpha=0.05),
    "no margin, 1%": lambda e: e.is_above(0.0, alpha=0.01),
    "no margin, 5%": lambda e: e.is_above(0.0, alpha=0.05),
}
COLUMNS = ("both arms, 1%", *RULES, "used")


def passed(truth: float, *, seeds: int, sd: float, n: int, studies: int, rng: np.random.Generator) -> list[float]:
    """Return the percentage of studies with a signal by rule, in the order of `COLUMNS`.

    All seeds answer the same items: the items shift all scores of a study together.
    """
    shift = rng.normal(0, np.sqrt(truth * (1 - truth) / n), (studies, 1))
    scores = truth + shift + sd * rng.standard_normal((studies, 2 * seeds))
    counts = np.zeros(len(COLUMNS))
    for row in scores:
        a, b = row[:seeds], row[seeds:]
        estimate = excess_over_chance([a.tolist()], chance=CHANCE, n_items=n)
        used = signal_from_scores(a.tolist(), chance=CHANCE, n_items=n).state == "ok"
        counts += [both_arms(a, b, n), *(rule(estimate) for rule in RULES.values()), used]
    return (100 * counts / studies).tolist()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=2000)
    studies, rng = parser.parse_args().studies, np.random.default_rng(0)
    print("| accuracy | items | seeds | seed SD |", *(f" {name} |" for name in COLUMNS))
    print("| --- | --- | --- | --- |" + " --- |" * len(COLUMNS))
    for truth, (n, sd), seeds in itertools.product(
        (0.25, 0.27, 0.28, 0.30), ((500, 0.01), (2000, 0.005), (14042, 0.002), (14042, 0.005)), (3, 5)
    ):
        row = passed(truth, seeds=seeds, sd=sd, n=n, studies=studies, rng=rng)
        print(f"| {truth:.2f} | {n:,} | {seeds} | {sd} |", *(f" {value:.0f}% |" for value in row))


if __name__ == "__main__":
    main()
