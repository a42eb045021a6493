"""Whether the mean over the last checkpoints has less noise between seeds: reads the looks of a sweep that has them.

    assay submit sweep=NAME 'training.looks=[0.8,0.85,0.9,0.95]'
    python benchmarks/averaging.py sweep=NAME 'training.looks=[0.8,0.85,0.9,0.95]'

Prints, by metric, the SD between seeds of the final score, pooled over mixes, and that of the means over the last 2, 3, ... scores
as a share of it; then the same for the signal-to-noise ratio, where the signal is the SD between the mixes' means. Run in the project's
folder. An averaged score is not only less noisy: it is that of a model that has seen less text at a higher learning rate.
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


def mix_sd(scores: pd.DataFrame) -> pd.Series:
    """The SD of each metric between the means of mixes; the noise of these means is in it."""
    return scores.groupby(["task", "metric", "mix"])["value"].mean().groupby(["task", "metric"]).std(ddof=1)


def main() -> None:
    """Print the table."""
    space = Workspace(compose(sys.argv[1:]))
    frame = collect_looks(space.store, space.plan())
    most = frame.groupby(["mix", "seed"])["tokens"].nunique()
    print(f"{len(most)} runs with {most.min()} to {most.max()} scores each, tokens {sorted(set(frame['tokens']))}")
    final = average_last(frame, int(most.min())).scores  # refuses runs that lack one
    final = frame[frame["tokens"] == final["tokens"].max()]
    table, gains = {"SD, final": seed_sd(final)}, {}
    for last in range(2, int(most.min()) + 1):
        mean = average_last(frame, last).scores
        table[f"SD, last {last}"] = seed_sd(mean) / seed_sd(final)
        gains[f"SNR, last {last}"] = (mix_sd(mean) / seed_sd(mean)) / (mix_sd(final) / seed_sd(final))
    shown = pd.DataFrame({**table, **gains})
    print(shown.round(4).to_string())
    ratios = shown.drop(columns="SD, final")
    groups = np.where(ratios.index.get_level_values("metric") == "bits_per_byte", "bits per byte", "accuracies")
    print("geometric mean over metrics")
    print(np.exp(np.log(ratios.replace(0, np.nan)).groupby(groups).mean()).round(3).to_string())


if __name__ == "__main__":
    main()
