"""A/A: how often the gate tells a mix from itself.

`python benchmarks/aa.py --root PROJECT --sweep NAME [--store STORE] [--draws N] [--seeds 3 5]`

The replicates of each mix of a sweep, trained and evaluated, are split at random into two arms of so many seeds, which are judged by
the sweep's own policy, with questions and without. As both arms are one mix, every ACCEPT and every REJECT is wrong. Twelve replicates make
9,240 pairs of arms of three, which are not independent of one another: the interval is for these runs, not for all mixes.
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

from assay.cli.compose import compose
from assay.gate import Decision, decide
from assay.results import collect
from assay.workspace import Workspace

if TYPE_CHECKING:
    from assay.suite import Policy

ARMS = ("one", "other")


def split(table: pd.DataFrame, arms: tuple[list[int], list[int]]) -> pd.DataFrame:
    """The rows of both arms' replicates, as if they were two mixes under the same seeds."""
    parts = []
    for name, seeds in zip(ARMS, arms, strict=True):
        place = {seed: i for i, seed in enumerate(seeds)}
        rows = table[table["seed"].isin(place)]
        parts.append(rows.assign(mix=name, seed=rows["seed"].map(place)))
    return pd.concat(parts, ignore_index=True)


def judge(
    scores: pd.DataFrame, items: pd.DataFrame | None, policy: Policy, *, seeds: int, rng: np.random.Generator
) -> Decision:
    """The verdict on one random split of one mix' replicates."""
    drawn = rng.permutation(scores["seed"].unique())[: 2 * seeds].tolist()
    arms = (drawn[:seeds], drawn[seeds:])
    asked = split(items, arms) if items is not None else None
    return decide(split(scores, arms), policy, baseline=ARMS[0], candidate=ARMS[1], items=asked).decision


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="the project, with conf/ and sweeps/")
    parser.add_argument("--store", type=Path, help="its store, if elsewhere")
    parser.add_argument("--sweep", required=True)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5])
    given = parser.parse_args()
    store = [f"paths.store={given.store}"] if given.store else []
    space = Workspace(compose([f"sweep={given.sweep}", *store], root=given.root))
    found, policy = collect(space.store, space.plan()), space.study.policy
    voting = [(c.task, c.metric) for c in (*policy.primary, *policy.guardrails)]
    named = pd.Series(list(zip(found.items["task"], found.items["metric"], strict=True)), index=found.items.index)
    questions = found.items[named.isin(voting)]
    rng = np.random.default_rng(0)
    print("| mix | replicates | seeds an arm | questions | ACCEPT | REJECT | wrong | 95% interval |\n|" + " --- |" * 8)
    console = Console(stderr=True)
    for mix, scores in found.scores.groupby("mix", sort=False):
        replicates = scores["seed"].nunique()
        for seeds in given.seeds:
            if replicates < 2 * seeds:
                console.print(f"{mix}: {replicates} replicates are too few for two arms of {seeds}.")
                continue
            for asked in (None, questions[questions["mix"] == mix]):
                what = f"{mix}, {seeds} seeds"
                draws = track(range(given.draws), what, console=console, transient=True)
                seen = Counter(judge(scores, asked, policy, seeds=seeds, rng=rng) for _ in draws)
                wrong = seen[Decision.ACCEPT] + seen[Decision.REJECT]
                low, high = binomtest(wrong, given.draws).proportion_ci(0.95, method="wilson")
                print(
                    f"| {mix} | {replicates} | {seeds} | {'no' if asked is None else 'yes'} | {seen[Decision.ACCEPT]} |"
                    f" {seen[Decision.REJECT]} | {wrong / given.draws:.1%} | {low:.1%} to {high:.1%} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
