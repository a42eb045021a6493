"""Measure how past mixes remove votes, the coverage of their intervals, and the error rate of adding seeds after an interim analysis.

    python benchmarks/power_analysis.py       # a minute on one core

Simulates with seed 0. Scores are normal: true levels of mixes with SD `ratio`, replicates around them with SD 1.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.stats import t as student

from assay.analysis.stats.power import fewest, power_with_seeds
from assay.analysis.stats.replicates import signal_to_noise
from assay.analysis.stats.signal import least_ratio, ranked_right

RATIOS = (0.0, 0.25, 0.5, 0.58, 1.0, 2.0)
WORLDS = 1000
STUDIES = 20_000


def votes_removed(rng: np.random.Generator) -> None:
    """Print the fraction of metrics that lose their vote, by true ratio and number of past mixes with three seeds each."""
    bar = least_ratio(3)
    print(f"votes removed at three seeds (below {bar:.2f}), and coverage of the 90% interval")
    print("true ratio  correct pairs  " + "  ".join(f"{mixes:>4} mixes" for mixes in (6, 12, 25, 60)))
    for ratio in RATIOS:
        cells = []
        for mixes in (6, 12, 25, 60):
            ratios = [
                signal_to_noise(list(ratio * rng.normal(size=(mixes, 1)) + rng.normal(size=(mixes, 3))))
                for _ in range(WORLDS)
            ]
            known = [estimate for estimate in ratios if estimate is not None]
            removed = np.mean([estimate.high < bar for estimate in known])
            covers = np.mean([estimate.low <= ratio <= estimate.high for estimate in known])
            cells.append(f"{removed:4.0%} {covers:4.0%}")
        print(f"{ratio:10.2f}  {ranked_right(ratio, 3):13.0%}  " + "   ".join(cells))


@cache
def _needed(effect: float) -> int | None:
    return fewest(lambda n: power_with_seeds(effect, n_seeds=n, noise=1.0, tail=0.025), most=100)


def add_seeds(rng: np.random.Generator) -> None:
    """Test null effects at 5%; if not significant, add the number of seeds that seem needed, and test at 5% again."""
    print("\nseeds  wrong at first  wrong after adding seeds  no number of seeds recommended")
    for seeds in (3, 5, 8):
        first = second = none = 0
        for _ in range(STUDIES):
            draws = rng.normal(size=100)
            if _significant(draws[:seeds]):
                first += 1
                continue
            effect = round(abs(float(draws[:seeds].mean() / draws[:seeds].std(ddof=1))), 2)
            more = _needed(effect)
            if more is None:
                none += 1
            elif _significant(draws[: max(more, seeds + 1)]):
                second += 1
        print(f"{seeds:5}  {first / STUDIES:14.1%}  {(first + second) / STUDIES:24.1%}  {none / STUDIES:30.1%}")


def _significant(draws: np.ndarray) -> bool:
    t = draws.mean() / draws.std(ddof=1) * len(draws) ** 0.5
    return bool(abs(t) > student.ppf(0.975, len(draws) - 1))


if __name__ == "__main__":
    votes_removed(np.random.default_rng(0))
    add_seeds(np.random.default_rng(0))
