"""Measure the noise between seeds of scores that are averaged over the last checkpoints, from interim evaluations.

    assay submit sweep=NAME 'training.interim_evaluations=[0.8,0.85,0.9,0.95]'
    python benchmarks/averaging.py sweep=NAME 'training.interim_evaluations=[0.8,0.85,0.9,0.95]'

Prints, by metric, the SD between seeds of the final score, pooled over mixes, and the ratio to it of the SD of the mean over the
last 2, 3, ... scores. Run it in the project's folder, during training or later; runs without all scores are excluded.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

from assay.analysis.checkpoint_scores import collect_checkpoint_scores
from assay.analysis.stats.checkpoint_average import average_last
from assay.config.compose import compose
from assay.plan.workspace import Workspace


def seed_sd(scores: pd.DataFrame) -> pd.Series:
    """Return the SD between seeds of each task and metric, pooled over mixes."""
    return np.sqrt(scores.groupby(["task", "metric", "mix"])["value"].var(ddof=1).groupby(["task", "metric"]).mean())


def main() -> None:
    """Print the table."""
    space = Workspace(compose(sys.argv[1:]))
    frame = collect_checkpoint_scores(space.store, space.planner.plan())
    places = sorted(set(frame["tokens"]))
    ended = frame.groupby(["mix", "seed"])["tokens"].transform("nunique") == len(
        places
    )  # other runs are still training
    frame = frame[ended]
    print(
        f"{len(frame[['mix', 'seed']].drop_duplicates())} runs, scored after {', '.join(f'{at:,}' for at in places)} tokens"
    )
    final = frame[frame["tokens"] == places[-1]]
    table = {"SD, final": seed_sd(final)}
    for last in range(2, len(places) + 1):
        mean = average_last(frame, last).scores
        table[f"SD, last {last}"] = seed_sd(mean) / seed_sd(final)
    spreads = pd.DataFrame(table)
    print(spreads.round(4).to_string())
    ratios = spreads.drop(columns="SD, final")
    groups = np.where(ratios.index.get_level_values("metric") == "bits_per_byte", "bits per byte", "accuracies")
    print("geometric mean over metrics")
    print(np.exp(np.log(ratios.replace(0, np.nan)).groupby(groups).mean()).round(3).to_string())


if __name__ == "__main__":
    main()
