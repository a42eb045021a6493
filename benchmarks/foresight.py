"""How often past mixes silence a metric, whether its intervals cover, and what seeds added after a look do to the error rate.

    python benchmarks/foresight.py            # a minute on one core

Simulated, seed 0. Scores are normal: a mix' true level with SD `ratio`, its replicates around it with SD 1.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.stats import t as student

from assay.stats.power import fewest, power_with_seeds
from assay.stats.replicates import signal_to_noise
from assay.stats.signal import least_ratio, ranked_right

RATIOS = (0.0, 0.25, 0.5, 0.58, 1.0, 2.0)
WORLDS = 1000
STUDIES = 20_000


def silenced(rng: np.random.Generator) -> None:
    """The share of metrics that lose their say, by true ratio and by mixes of the past; three seeds of each."""
    bar = least_ratio(3)
    print(f"silenced at three seeds (below {bar:.2f}), and coverage of the 90% interval")
    print("true ratio  pairs right  " + "  ".join(f"{mixes:>4} mixes" for mixes in (6, 12, 25, 60)))
    for ratio in RATIOS:
        cells = []
        for mixes in (6, 12, 25, 60):
            found = [
                signal_to_noise(list(ratio * rng.normal(size=(mixes, 1)) + rng.normal(size=(mixes, 3))))
                for _ in range(WORLDS)
            ]
            known = [one for one in found if one is not None]
            quiet = np.mean([one.high < bar for one in known])
            covers = np.mean([one.low <= ratio <= one.high for one in known])
            cells.append(f"{quiet:4.0%} {covers:4.0%}")
        print(f"{ratio:10.2f}  {ranked_right(ratio, 3):11.0%}  " + "   ".join(cells))


@cache
def _needed(effect: float) -> int | None:
    return fewest(lambda n: power_with_seeds(effect, n_seeds=n, noise=1.0, tail=0.025), most=100)


def second_look(rng: np.random.Generator) -> None:
    """Changes without effect, tested at 5%; where nothing is shown, as many seeds as seem to be needed, and a test at 5% again."""
    print("\nseeds  wrong at first  wrong after adding seeds  no number of seeds advised")
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
        print(f"{seeds:5}  {first / STUDIES:14.1%}  {(first + second) / STUDIES:24.1%}  {none / STUDIES:26.1%}")


def _significant(draws: np.ndarray) -> bool:
    t = draws.mean() / draws.std(ddof=1) * len(draws) ** 0.5
    return bool(abs(t) > student.ppf(0.975, len(draws) - 1))


if __name__ == "__main__":
    silenced(np.random.default_rng(0))
    second_look(np.random.default_rng(0))
