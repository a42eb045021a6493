"""Validate the columns that describe an evaluation: number of items and chance level.

Both are properties of the items, so all runs of a comparison must agree on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from assay.analysis.stats.tables import as_floats
from assay.analysis.stats.units import DECLARE
from assay.config.metrics import is_loss
from assay.core.errors import Damaged, Refused

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

SAME_CHANCE = 1e-4
"""Largest absolute difference between two spellings of one chance level, such as 0.3333 and 1/3."""


def require_item_counts(frame: pd.DataFrame, what: str) -> None:
    """Refuse item counts that no evaluation has.

    Args:
        frame: a long table of `mix, seed, task, metric`, and optionally `n`.
        what: name of the table in errors.

    Raises:
        Damaged: `n` is not a positive whole number. Missing entries are valid.
    """
    n = as_floats(frame, "n")
    bad = np.flatnonzero(~np.isnan(n) & ~((n >= 1) & (n == np.floor(n)) & np.isfinite(n)))
    if len(bad):
        fix = "Correct the column `n`, or leave the entry empty."
        _refuse(frame, bad, f"`n` {n[bad[0]]:g}", "a positive whole number of items", fix=fix, what=what)


def require_chance_levels(frame: pd.DataFrame, what: str) -> None:
    """Refuse chance levels that no evaluation has.

    Args:
        frame: a long table of `mix, seed, task, metric`, and optionally `chance`, after the conversion of percentages.
        what: name of the table in errors.

    Raises:
        Damaged: `chance` is not from 0 to 1. Missing entries are valid. A level of 1 is that of items which all have the same
            correct answer; such a metric has no signal. The chance level of a loss is not used, and not checked.
    """
    chance = as_floats(frame, "chance")
    bad = np.flatnonzero(~np.isnan(chance) & ~((chance >= 0) & (chance <= 1)))
    bad = bad[[not is_loss(str(metric)) for metric in frame["metric"].iloc[bad]]] if len(bad) else bad
    if len(bad):
        level = chance[bad[0]]
        fix = "Correct the column `chance`, or leave the entry empty." + (f" {DECLARE}" if 1 < level < 100 else "")
        expected = "a fraction from 0 to 1"
        _refuse(frame, bad, f"chance level {level:g}", expected, fix=fix, what=what)


def require_equal_chance(task: str, metric: str, chances: Mapping[str, float | None]) -> None:
    """Refuse arms or seeds of one comparison with different chance levels.

    Args:
        task: the task's name.
        metric: the metric's name.
        chances: chance levels by arm or run; None if unknown.

    Raises:
        Refused: two known levels differ. The chance level of a loss is not used, and not checked.
    """
    known = {name: chance for name, chance in chances.items() if chance is not None}
    if not known or is_loss(metric):
        return
    low, high = min(known, key=lambda name: known[name]), max(known, key=lambda name: known[name])
    if known[high] - known[low] > SAME_CHANCE:
        raise Refused(
            f"{task} {metric}: the chance level is {known[low]:g} for {low} and {known[high]:g} for {high}; expected one level.",
            fix="Correct the column `chance`, or evaluate all runs with one version of the suite.",
        )


def _refuse(frame: pd.DataFrame, bad: NDArray[np.intp], value: str, expected: str, *, fix: str, what: str) -> None:
    row = frame.iloc[bad[0]]
    more = f" ({len(bad) - 1:,} more such rows)" if len(bad) > 1 else ""
    raise Damaged(
        f"{what}: {row['mix']} seed {row['seed']}: {row['task']} {row['metric']}: {value} is invalid; expected {expected}{more}.",
        fix=fix,
    )
