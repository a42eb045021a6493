"""Find items whose answer changes between a control and a candidate.

Such a flip is from wrong to right, or the reverse. Two seeds of the same mix also disagree on some items. The page
therefore shows the flips of each candidate next to the flips between two seeds of its control. A single item is weak
evidence unless all seeds agree.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

LISTED = 12
"""Maximum number of listed items per candidate and direction. The counts cover all items."""


class ItemKey(NamedTuple):
    """The identity of an item, as lm-eval numbers it.

    Attributes:
        task: the leaf task, such as `mmlu_anatomy`.
        document: number of the item's document in the task's data set.
        digest: first 12 characters of the document's digest.
    """

    task: str
    document: int
    digest: str


class FlippedItem(NamedTuple):
    """An item with the number of seeds that answer the item correctly.

    Attributes:
        question: the item.
        control: number of seeds of the control with a correct answer.
        candidate: number of seeds of the candidate with a correct answer.
        seeds: number of seeds that both arms share.
    """

    question: ItemKey
    control: int
    candidate: int
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Flips:
    """The flips of one task between a candidate and its control, compared seed by seed."""

    candidate: str
    control: str
    task: str
    questions: int
    """Number of items that all shared seeds of both arms answered."""
    seeds: int
    gained: float
    """Number of items that the control answers incorrectly and the candidate correctly, mean over seeds."""
    lost: float
    """Number of items that the control answers correctly and the candidate incorrectly, mean over seeds."""
    by_chance: float | None
    """Number of items that flip between two seeds of the control, mean over pairs of seeds; None for a single seed."""
    better: tuple[FlippedItem, ...]
    """Items with more correct seeds in the candidate, the largest changes first."""
    worse: tuple[FlippedItem, ...]
    """Items with fewer correct seeds in the candidate, the largest changes first."""


def find_flips(items: pd.DataFrame, pairs: Iterable[tuple[str, str]]) -> tuple[Flips, ...]:
    """Find the items that flip between candidates and their controls.

    Args:
        items: one row per mix, seed, task and item with columns `mix, seed, task, part, document, digest, right`. For a
            group of tasks, `task` is the group and `part` the leaf task.
        pairs: candidates with their controls.

    Returns:
        Flips by candidate and task. At most `LISTED` items are listed per candidate and direction over all tasks.
    """
    if items.empty:
        return ()
    keys = items.groupby(["part", "document", "digest"], sort=True)
    named = keys.size().reset_index()  # in the order of the group numbers
    names = [
        ItemKey(str(part), int(document), str(digest))
        for part, document, digest in zip(named["part"], named["document"], named["digest"], strict=True)
    ]
    coded = items.assign(question=keys.ngroup(), right=items["right"].astype(float))
    tables = {
        str(task): _table(rows.pivot(index="question", columns=["mix", "seed"], values="right"))  # noqa: PD010  # nothing to aggregate
        for task, rows in coded.groupby("task", sort=True)
    }
    flips: list[Flips] = []
    for candidate, control in pairs:
        by_task = [_task_flips(candidate, control, task, table, names) for task, table in tables.items()]
        flips += _limit_lists([flip for flip in by_task if flip is not None])
    return tuple(flips)


class _Answers(NamedTuple):
    """The answers of one task."""

    questions: NDArray[np.int64]
    """Item number of each row."""
    columns: dict[tuple[str, int], int]
    """Column of each mix and seed."""
    right: NDArray[np.float64]
    """A row per item and a column per run: 1 is correct, 0 is incorrect, NaN is missing."""


def _table(pivoted: pd.DataFrame) -> _Answers:
    runs: list[Any] = pivoted.columns.tolist()
    columns = {(str(mix), int(seed)): place for place, (mix, seed) in enumerate(runs)}
    return _Answers(pivoted.index.to_numpy(), columns, pivoted.to_numpy(float))


def _task_flips(candidate: str, control: str, task: str, table: _Answers, names: Sequence[ItemKey]) -> Flips | None:
    """Return the flips of one task; None if the arms share no seed."""
    import numpy as np

    seeds = sorted(seed for mix, seed in table.columns if mix == control and (candidate, seed) in table.columns)
    if not seeds:
        return None
    both = table.right[:, [table.columns[mix, seed] for mix in (control, candidate) for seed in seeds]]
    complete = ~np.isnan(both).any(axis=1)
    questions, right = table.questions[complete], both[complete] > 0.5  # 1 is right, 0 is wrong
    a, b = right[:, : len(seeds)], right[:, len(seeds) :]
    change = b.sum(axis=1) - a.sum(axis=1)
    chance = [float((a[:, i] != a[:, j]).sum()) for i, j in itertools.combinations(range(len(seeds)), 2)]
    order = sorted(range(len(change)), key=lambda row: (-abs(int(change[row])), row))

    def largest(sign: int) -> tuple[FlippedItem, ...]:
        rows = [row for row in order if sign * int(change[row]) > 0][:LISTED]
        return tuple(
            FlippedItem(names[int(questions[row])], int(a[row].sum()), int(b[row].sum()), len(seeds)) for row in rows
        )

    return Flips(
        candidate=candidate,
        control=control,
        task=task,
        questions=len(change),
        seeds=len(seeds),
        gained=float((~a & b).sum()) / len(seeds),
        lost=float((a & ~b).sum()) / len(seeds),
        by_chance=math.fsum(chance) / len(chance) if chance else None,
        better=largest(1),
        worse=largest(-1),
    )


def _limit_lists(flips: Sequence[Flips]) -> list[Flips]:
    """Keep the `LISTED` largest changes over all tasks in each direction."""

    def largest(lists: Iterable[Sequence[FlippedItem]]) -> set[ItemKey]:
        items = [item for part in lists for item in part]
        items.sort(key=lambda item: (-abs(item.candidate - item.control), item.question))
        return {item.question for item in items[:LISTED]}

    up, down = largest(flip.better for flip in flips), largest(flip.worse for flip in flips)
    return [
        replace(
            flip,
            better=tuple(item for item in flip.better if item.question in up),
            worse=tuple(item for item in flip.worse if item.question in down),
        )
        for flip in flips
    ]
