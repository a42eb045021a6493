"""Item level: the questions whose answer a candidate turns from wrong to right, or from right to wrong.

Runs of one mix disagree too: another seed flips questions without any change of data. So beside a candidate's flips
stand those between two seeds of its control, and a question counts for little unless every seed agrees.
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
"""Questions that are listed of a candidate in each direction; the counts cover all."""


class Question(NamedTuple):
    """A question as lm-eval counts it.

    Attributes:
        task: which may be a part of a group, as `mmlu_anatomy` is.
        document: its number in the task's data set.
        digest: of its document and its prompt.
    """

    task: str
    document: int
    digest: str


class Flipped(NamedTuple):
    """A question and by how many seeds it was answered right.

    Attributes:
        question: which.
        control: seeds of the control that answer it right.
        candidate: seeds of the candidate that do.
        seeds: that were asked.
    """

    question: Question
    control: int
    candidate: int
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Flips:
    """One task's questions, between a candidate and its control, seed by seed."""

    candidate: str
    control: str
    task: str
    questions: int
    seeds: int
    gained: float
    """Questions that a seed of the control answers wrong and the candidate's right; mean over seeds."""
    lost: float
    """The other way round."""
    by_chance: float | None
    """Questions that flip between two seeds of the control, mean over pairs; ``None`` for a single seed."""
    better: tuple[Flipped, ...]
    """Those that gain the most seeds, the clearest first."""
    worse: tuple[Flipped, ...]


def flips(items: pd.DataFrame, pairs: Iterable[tuple[str, str]]) -> tuple[Flips, ...]:
    """Which questions flip between candidates and their controls.

    Args:
        items: a row for each mix, seed, task and question: `mix, seed, task, part, document, digest, right`; the parts
            of a group of tasks have the group as their `task`, and are named in `part`.
        pairs: candidates with their controls.

    Returns:
        By candidate and task; of a candidate, `LISTED` questions at most are listed in each direction over all tasks.
    """
    if items.empty:
        return ()
    keys = items.groupby(["part", "document", "digest"], sort=True)
    named = keys.size().reset_index()  # in the order of the groups' numbers
    names = [
        Question(str(part), int(document), str(digest))
        for part, document, digest in zip(named["part"], named["document"], named["digest"], strict=True)
    ]
    coded = items.assign(question=keys.ngroup(), right=items["right"].astype(float))
    tables = {
        str(task): _table(rows.pivot(index="question", columns=["mix", "seed"], values="right"))  # noqa: PD010  # nothing to aggregate
        for task, rows in coded.groupby("task", sort=True)
    }
    found: list[Flips] = []
    for candidate, control in pairs:
        own = [_task(candidate, control, task, table, names) for task, table in tables.items()]
        found += _listed([one for one in own if one is not None])
    return tuple(found)


class _Answers(NamedTuple):
    """One task's answers: a row a question, a column a run; 1 is right, 0 wrong, NaN not asked."""

    questions: NDArray[np.int64]
    """Their numbers."""
    columns: dict[tuple[str, int], int]
    """Of each mix and seed."""
    right: NDArray[np.float64]


def _table(pivoted: pd.DataFrame) -> _Answers:
    runs: list[Any] = pivoted.columns.tolist()
    columns = {(str(mix), int(seed)): place for place, (mix, seed) in enumerate(runs)}
    return _Answers(pivoted.index.to_numpy(), columns, pivoted.to_numpy(float))


def _task(candidate: str, control: str, task: str, table: _Answers, names: Sequence[Question]) -> Flips | None:
    """One task's flips, out of who answered what right; ``None`` where the arms share no seed."""
    import numpy as np

    seeds = sorted(seed for mix, seed in table.columns if mix == control and (candidate, seed) in table.columns)
    if not seeds:
        return None
    both = table.right[:, [table.columns[mix, seed] for mix in (control, candidate) for seed in seeds]]
    asked = ~np.isnan(both).any(axis=1)
    questions, right = table.questions[asked], both[asked] > 0.5  # 1 is right, 0 is wrong
    a, b = right[:, : len(seeds)], right[:, len(seeds) :]
    change = b.sum(axis=1) - a.sum(axis=1)
    chance = [float((a[:, i] != a[:, j]).sum()) for i, j in itertools.combinations(range(len(seeds)), 2)]
    order = sorted(range(len(change)), key=lambda row: (-abs(int(change[row])), row))

    def listed(sign: int) -> tuple[Flipped, ...]:
        rows = [row for row in order if sign * int(change[row]) > 0][:LISTED]
        return tuple(
            Flipped(names[int(questions[row])], int(a[row].sum()), int(b[row].sum()), len(seeds)) for row in rows
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
        better=listed(1),
        worse=listed(-1),
    )


def _listed(found: Sequence[Flips]) -> list[Flips]:
    """The same, with the clearest questions of all tasks together listed and no others."""

    def clearest(lists: Iterable[Sequence[Flipped]]) -> set[Question]:
        every = [one for part in lists for one in part]
        every.sort(key=lambda one: (-abs(one.candidate - one.control), one.question))
        return {one.question for one in every[:LISTED]}

    up, down = clearest(one.better for one in found), clearest(one.worse for one in found)
    return [
        replace(
            one,
            better=tuple(part for part in one.better if part.question in up),
            worse=tuple(part for part in one.worse if part.question in down),
        )
        for one in found
    ]
