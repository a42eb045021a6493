"""A/A test: how often the gate reports a difference between a mix and itself.

`python benchmarks/aa.py --root PROJECT --sweep NAME [--store STORE] [--draws N] [--seeds 3 5]`

The trained and evaluated replicates of each mix of a sweep are split at random into two arms of N seeds, which the sweep's own policy
compares, with and without items. As both arms are one mix, every ACCEPT and every REJECT is wrong. Twelve replicates make
9,240 pairs of arms of three, which are not independent: the interval applies to these runs, not to all mixes.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track
from scipy.stats import binomtest

from assay.analysis.gate import Decision, decide
from assay.analysis.results import collect
from assay.config.compose import compose
from assay.plan.workspace import Workspace

if TYPE_CHECKING:
    from assay.config.policy import Policy

ARMS = ("one", "other")


def split(table: pd.DataFrame, arms: tuple[list[int], list[int]]) -> pd.DataFrame:
    """Return the rows of both arms' replicates, as if they were two mixes with the same seeds."""
    parts = []
    for name, seeds in zip(ARMS, arms, strict=True):
        place = {seed: i for i, seed in enumerate(seeds)}
        rows = table[table["seed"].isin(place)]
        parts.append(rows.assign(mix=name, seed=rows["seed"].map(place)))
    return pd.concat(parts, ignore_index=True)


def decide_split(
    scores: pd.DataFrame, items: pd.DataFrame | None, policy: Policy, *, seeds: int, rng: np.random.Generator
) -> Decision:
    """Return the verdict on a random split of a mix's replicates."""
    drawn = rng.permutation(scores["seed"].unique())[: 2 * seeds].tolist()
    arms = (drawn[:seeds], drawn[seeds:])
    arm_items = split(items, arms) if items is not None else None
    return decide(split(scores, arms), policy, baseline=ARMS[0], candidate=ARMS[1], items=arm_items).decision


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="project folder with conf/ and sweeps/")
    parser.add_argument("--store", type=Path, help="store folder (default: the project's)")
    parser.add_argument("--sweep", required=True)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5])
    arguments = parser.parse_args()
    store = [f"paths.store={arguments.store}"] if arguments.store else []
    space = Workspace(compose([f"sweep={arguments.sweep}", *store], root=arguments.root))
    results, policy = collect(space.store, space.planner.plan()), space.study.policy
    voting = [(c.task, c.metric) for c in (*policy.primary, *policy.guardrails)]
    metrics = pd.Series(
        list(zip(results.items["task"], results.items["metric"], strict=True)), index=results.items.index
    )
    items = results.items[metrics.isin(voting)]
    rng = np.random.default_rng(0)
    print("| mix | replicates | seeds per arm | items | ACCEPT | REJECT | wrong | 95% interval |\n|" + " --- |" * 8)
    console = Console(stderr=True)
    for mix, scores in results.scores.groupby("mix", sort=False):
        replicates = scores["seed"].nunique()
        for seeds in arguments.seeds:
            if replicates < 2 * seeds:
                console.print(f"{mix}: {replicates} replicates are too few for two arms of {seeds}.")
                continue
            for own_items in (None, items[items["mix"] == mix]):
                label = f"{mix}, {seeds} seeds"
                draws = track(range(arguments.draws), label, console=console, transient=True)
                decisions = Counter(decide_split(scores, own_items, policy, seeds=seeds, rng=rng) for _ in draws)
                wrong = decisions[Decision.ACCEPT] + decisions[Decision.REJECT]
                low, high = binomtest(wrong, arguments.draws).proportion_ci(0.95, method="wilson")
                print(
                    f"| {mix} | {replicates} | {seeds} | {'no' if own_items is None else 'yes'} | {decisions[Decision.ACCEPT]} |"
                    f" {decisions[Decision.REJECT]} | {wrong / arguments.draws:.1%} | {low:.1%} to {high:.1%} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
