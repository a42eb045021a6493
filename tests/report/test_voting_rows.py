"""The tables of a verdict show an aggregate first and its tasks below it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from assay.analysis.comparison import Comparison
from assay.analysis.gate import SweepVerdict, gate
from assay.config.aggregate import Aggregate
from assay.config.policy import Criterion, Policy
from assay.report.markdown import decision_lines
from assay.report.terminal.verdict import verdict_view
from assay.report.voting_rows import PARTS_SHOWN, voting_rows


def _verdict(number: int, *, primary: Sequence[str] = ()) -> SweepVerdict:
    random = np.random.default_rng(0)
    tasks = [f"t{i}" for i in range(number)]
    rows = [
        (mix, seed, task, "loss", 2 + 0.01 * random.standard_normal() + (0.1 * i if mix == "new" else 0.0))
        for mix in ("base", "new")
        for seed in range(3)
        for i, task in enumerate([*tasks, "other"])
    ]
    policy = Policy(
        name="p",
        alpha=0.05,
        min_seeds=3,
        aggregate=Aggregate(name="all", metric="loss", tasks=tuple(tasks)),
        primary=tuple(Criterion(task=task, metric="loss", better="lower") for task in primary),
    )
    table = pd.DataFrame(rows, columns=["mix", "seed", "task", "metric", "value"])
    return gate(table, policy, baseline="base", candidates=["new"])


def _comparisons(verdict: SweepVerdict) -> tuple[Comparison, ...]:
    return verdict.candidates["new"].comparisons


def test_the_tasks_of_an_aggregate_are_below_it_and_other_monitors_are_omitted() -> None:
    shown = [c.task for c in voting_rows(_comparisons(_verdict(3, primary=["t1", "other"])))]
    assert shown == ["aggregate/all", "t1", "t0", "t2", "other"]
    assert "other" not in [c.task for c in voting_rows(_comparisons(_verdict(3)))]
    every = [c.task for c in voting_rows(_comparisons(_verdict(3)), monitors=True)]
    assert every == ["aggregate/all", "t0", "t1", "t2", "other"]


def test_of_many_tasks_the_lowest_and_those_that_vote_are_shown() -> None:
    shown = [c.task for c in voting_rows(_comparisons(_verdict(40, primary=["t0"])))]
    assert shown[:2] == ["aggregate/all", "t0"]
    assert len(shown) == 1 + PARTS_SHOWN
    assert "t39" in shown, "the task with the largest loss"


def test_comparisons_without_an_aggregate_keep_their_order() -> None:
    comparisons = [c for c in _comparisons(_verdict(3, primary=["t1"])) if c.task != "aggregate/all"]
    plain = [c for c in comparisons if not c.part_of]
    assert voting_rows(plain, monitors=True) == plain


@pytest.mark.parametrize("width", [60, 100, 160])
def test_the_terminal_and_markdown_name_the_parts(width: int) -> None:
    verdict = _verdict(3)
    console = Console(width=width, record=True, file=None)
    with console.capture() as captured:
        console.print(verdict_view(verdict))
    lines = captured.get().splitlines()
    first = next(i for i, line in enumerate(lines) if "aggregate/all seed_sds" in line and "is" not in line)
    parts = [
        i for i, line in enumerate(lines) if line.strip().startswith("t0 loss") or line.strip().startswith("t1 loss")
    ]
    assert parts
    assert min(parts) > first
    markdown = "\n".join(decision_lines(verdict.candidates["new"], alone=True))
    assert markdown.index("aggregate/all") < markdown.index("| part |")
