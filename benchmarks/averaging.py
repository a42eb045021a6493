"""Whether the mean over the last checkpoints has less noise between seeds: reads the looks of a sweep that has them.

    assay submit sweep=NAME 'training.looks=[0.8,0.85,0.9,0.95]'
    python benchmarks/averaging.py sweep=NAME 'training.looks=[0.8,0.85,0.9,0.95]'

Prints, by metric, the SD between seeds of the final score, pooled over mixes, and that of the means over the last 2, 3, ... scores
as a share of it. Run in the project's folder, while it trains or later; runs that lack a score are left out.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

from assay.cli.compose import compose
from assay.looks import collect_looks
from assay.stats.checkpoints import average_last
from assay.workspace import Workspace


def seed_sd(scores: pd.DataFrame) -> pd.Series:
    """The SD between seeds of each task and metric, pooled over mixes."""
    return np.sqrt(scores.groupby(["task", "metric", "mix"])["value"].var(ddof=1).groupby(["task", "metric"]).mean())


def main() -> None:
    """Print the table."""
    space = Workspace(compose(sys.argv[1:]))
    frame = collect_looks(space.store, space.plan())
    places = sorted(set(frame["tokens"]))
    ended = frame.groupby(["mix", "seed"])["tokens"].transform("nunique") == len(places)  # the others still train
    frame = frame[ended]
    print(
        f"{len(frame[['mix', 'seed']].drop_duplicates())} runs, scored after {', '.join(f'{at:,}' for at in places)} tokens"
    )
    final = frame[frame["tokens"] == places[-1]]
    table = {"SD, final": seed_sd(final)}
    for last in range(2, len(places) + 1):
        mean = average_last(frame, last).scores
        table[f"SD, last {last}"] = seed_sd(mean) / seed_sd(final)
    shown = pd.DataFrame(table)
    print(shown.round(4).to_string())
    ratios = shown.drop(columns="SD, final")
    groups = np.where(ratios.index.get_level_values("metric") == "bits_per_byte", "bits per byte", "accuracies")
    print("geometric mean over metrics")
    print(np.exp(np.log(ratios.replace(0, np.nan)).groupby(groups).mean()).round(3).to_string())


if __name__ == "__main__":
    main()
