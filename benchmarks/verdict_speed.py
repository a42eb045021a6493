"""Measure the time and memory of a verdict: `python benchmarks/verdict_speed.py [--case NAME]`.

Each case builds its table, runs once in its own process, and reports wall seconds, processor seconds and peak memory: the peak of
the whole process, and what the call adds to the memory of the table.

- `gate`: 19 candidates, 1,000 runs (20 mixes, 50 seeds), 100 tasks.
- `gate-history`: the same with a history of 40 mixes at the proxy scale.
- `gate-items`: the same with 20 items of each task, 2 million rows.
- `compare`: 1 million scores (200 mixes, 50 seeds, 100 tasks), 199 candidates.
- `compare-mixes`: 900,000 scores (1,000 mixes, 3 seeds, 100 tasks, 3 checkpoints), 999 candidates.
- `results-mixes`: the work of `assay compare results` after reading: select the arms of the external table of `compare-mixes` and
  decide on each.
- `gate-past`: one candidate with 3 seeds, 3 tasks and a history of 3,000 mixes at two token budgets. The verdict is INCONCLUSIVE, so
  that the next steps use the history.
- `gate-past-candidates`: the same with 99 candidates and a history of 300 mixes.
- `gate-past-unshared`: the case `gate-past` with own seeds of each past mix.
- `gate-mixes-history`: `gate` on the scores of `compare-mixes`, with the same mixes as history at two scales.

A case with a number at its end, such as `compare-mixes-500` or `gate-past-1000`, has that number of mixes or past mixes, to show how the time grows.
`--profile` prints the slowest functions of each case instead of its memory.
"""

from __future__ import annotations

import argparse
import cProfile
import multiprocessing
import os
import pstats
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from assay.analysis.compare import compare
from assay.analysis.external.selection import select
from assay.analysis.gate import gate
from assay.config.policy import Criterion, Policy

TASKS, SEEDS, CHANCE, ITEMS = 100, 50, 0.25, 20
POLICY = Policy(
    name="speed",
    primary=tuple(Criterion(task=task, metric="acc", better="higher") for task in ("task_00", "task_01")),
    guardrails=(Criterion(task="task_02", metric="acc", better="higher", margin=0.01),),
    alpha=0.05,
    min_seeds=3,
)


def scores(mixes: int, *, seeds: int = SEEDS, tasks: int = TASKS, name: str = "mix", draw: int = 0) -> pd.DataFrame:
    """Return accuracies near 0.4 with seed noise, one row per mix, seed and task."""
    rng = np.random.default_rng(draw)
    mix, seed, task = (part.ravel() for part in np.indices((mixes, seeds, tasks)))
    effects = rng.normal(0, 0.005, (mixes, tasks))
    return pd.DataFrame(
        {
            "mix": np.array([f"{name}_{number:03d}" for number in range(mixes)], dtype=object)[mix],
            "seed": seed,
            "scale": 20_000_000,
            "tokens": 400_000_000,
            "task": np.array([f"task_{number:02d}" for number in range(tasks)], dtype=object)[task],
            "metric": "acc",
            "value": 0.4 + effects[mix, task] + rng.normal(0, 0.01, len(mix)),
            "n": 1000,
            "stderr": 0.015,
            "chance": CHANCE,
        }
    )


def with_items(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the scores as means over items drawn at their accuracy, and the items."""
    rng = np.random.default_rng(1)
    answers = (rng.random((len(table), ITEMS)) < table["value"].to_numpy()[:, None]).astype(float)
    items = table.loc[table.index.repeat(ITEMS), ["mix", "seed", "task", "metric"]].reset_index(drop=True)
    number = np.tile(np.arange(ITEMS), len(table))
    items = items.assign(item=np.array([f"item {i}" for i in range(ITEMS)], dtype=object)[number])
    items["value"] = answers.ravel()
    return table.assign(value=answers.mean(axis=1), n=ITEMS), items


def _gate(**tables: Any) -> Any:
    names = list(tables["results"]["mix"].unique())
    return gate(tables.pop("results"), POLICY, baseline=names[0], candidates=names[1:], **tables)


def gate_case() -> Callable[[], Any]:
    """Prepare `gate` without items."""
    table = scores(20)
    return lambda: _gate(results=table)


def gate_history_case() -> Callable[[], Any]:
    """Prepare `gate` with a history."""
    table, past = scores(20), scores(40, seeds=3, name="past", draw=2)
    return lambda: _gate(results=table, history=past)


def gate_items_case() -> Callable[[], Any]:
    """Prepare `gate` with items."""
    table, items = with_items(scores(20))
    return lambda: _gate(results=table, items=items)


def compare_case() -> Callable[[], Any]:
    """Prepare `compare`."""
    table = scores(200)
    return lambda: compare(table, POLICY, baseline="mix_000")


def with_checkpoints(table: pd.DataFrame, *, checkpoints: int = 3) -> pd.DataFrame:
    """Return the scores with earlier checkpoints of each run, all with the same values."""
    parts = [table.assign(tokens=table["tokens"] * number // checkpoints) for number in range(1, checkpoints + 1)]
    return pd.concat(parts, ignore_index=True)


def compare_mixes_case(mixes: int = 1000) -> Callable[[], Any]:
    """Prepare `compare` of many mixes with few seeds."""
    table = with_checkpoints(scores(mixes, seeds=3))
    return lambda: compare(table, POLICY, baseline="mix_000")


def results_mixes_case(mixes: int = 1000) -> Callable[[], Any]:
    """Prepare the verdict on an external table of many mixes, with evaluation settings."""
    table = with_checkpoints(scores(mixes, seeds=3)).assign(scale="20M", version="1", num_fewshot=5.0, prompt=None)

    def decide() -> Any:
        selected = select(table, POLICY, baseline="mix_000", candidate=None)
        return gate(selected.frame, selected.policy, baseline="mix_000", candidates=selected.candidates)

    return decide


def gate_mixes_history_case(mixes: int = 1000) -> Callable[[], Any]:
    """Prepare `gate` of many mixes that the history contains too."""
    table = scores(mixes, seeds=3)
    past = pd.concat([table, table.assign(scale=1_000_000_000)], ignore_index=True)
    return lambda: _gate(results=with_checkpoints(table), history=past)


def gate_past_case(past: int = 3000, *, mixes: int = 2, shared: bool = True) -> Callable[[], Any]:
    """Prepare `gate` with many past mixes at two token budgets."""
    table, earlier = scores(mixes, seeds=3, tasks=3), scores(past, seeds=3, tasks=3, name="past", draw=2)
    if not shared:
        earlier["seed"] += 3 * pd.factorize(earlier["mix"])[0]
    history = pd.concat([earlier, earlier.assign(tokens=2 * earlier["tokens"])], ignore_index=True)
    return lambda: _gate(results=table, history=history)


CASES: dict[str, Callable[[], Callable[[], Any]]] = {
    "gate": gate_case,
    "gate-history": gate_history_case,
    "gate-items": gate_items_case,
    "compare": compare_case,
    "compare-mixes": compare_mixes_case,
    "compare-mixes-500": lambda: compare_mixes_case(500),
    "results-mixes": results_mixes_case,
    "results-mixes-500": lambda: results_mixes_case(500),
    "gate-past": gate_past_case,
    "gate-past-1000": lambda: gate_past_case(1000),
    "gate-past-300": lambda: gate_past_case(300),
    "gate-past-candidates": lambda: gate_past_case(300, mixes=100),
    "gate-past-unshared": lambda: gate_past_case(shared=False),
    "gate-past-unshared-1000": lambda: gate_past_case(1000, shared=False),
    "gate-past-unshared-300": lambda: gate_past_case(300, shared=False),
    "gate-mixes-history": gate_mixes_history_case,
    "gate-mixes-history-200": lambda: gate_mixes_history_case(200),
}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(name: str) -> tuple[float, float, float, float]:
    """Return wall seconds, processor seconds, the peak in GiB, and the call's part of it."""
    work = CASES[name]()
    before, started, spent = _peak(), time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - spent, _peak(), _peak() - before


def profile(name: str) -> None:
    """Print the functions that take most of a case's time, with and without the functions that they call."""
    work, profiler = CASES[name](), cProfile.Profile()
    profiler.runcall(work)
    pstats.Stats(profiler).sort_stats("cumulative").print_stats(35).sort_stats("tottime").print_stats(15)


def main() -> None:
    """Print one row per case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, action="append", help="Run only this case; repeat for several.")
    parser.add_argument("--profile", action="store_true", help="Print the slowest functions of each case.")
    given = parser.parse_args()
    if given.profile:
        for name in given.case or CASES:
            profile(name)
        return
    table = Table("case", "wall", "processor", "peak", "added by the call")
    for name in given.case or CASES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            wall, spent, peak, added = pool.apply(measure, (name,))
        table.add_row(name, f"{wall:.1f} s", f"{spent:.1f} s", f"{peak:.2f} GiB", f"{added:.2f} GiB")
    Console(width=120).print(table, f"load: {', '.join(f'{load:.1f}' for load in os.getloadavg())}", sep="\n")


if __name__ == "__main__":
    main()
