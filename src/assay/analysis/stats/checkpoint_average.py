"""Average each run's scores over its last checkpoints, to reduce checkpoint-to-checkpoint noise.

Scores of neighboring checkpoints differ by noise that is unrelated to the recipe. The mean over the last N checkpoints
has less noise. Heineman et al. (2025, arXiv 2508.13144) show that averaging the last checkpoints raises the
signal-to-noise ratio of benchmarks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from assay.analysis.stats.tables import ITEM_KEY, SCORE_KEY, TOKENS_APART, with_columns
from assay.core.errors import Damaged, NotFound, Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import pandas as pd

CHECKPOINTS = "checkpoints"
"""Column with the number of averaged checkpoints. Tables without averaging lack this column."""
NAMED = 3
"""Maximum number of runs that an error lists by name. The error counts the remaining runs."""


class Averaged(NamedTuple):
    """Scores and items of several checkpoints, reduced to one row each.

    Attributes:
        scores: long results, with the column `checkpoints` if more than one checkpoint was averaged.
        items: the items behind the scores; None if there are none.
    """

    scores: pd.DataFrame
    items: pd.DataFrame | None
    excluded: tuple[str, ...] = ()
    """Mixes without the checkpoints of the required mixes, in the table's order."""


def average_last(
    scores: pd.DataFrame, last: int, *, items: pd.DataFrame | None = None, required: Collection[str] | None = None
) -> Averaged:
    """Average each run's scores over its last checkpoints, including the final one.

    The checkpoints are fixed per mix and scale: the largest `tokens` values at which any seed of the mix was scored. A
    run that has a metric at one of these checkpoints must have the metric at all of them. Items are averaged
    individually, so that they still add up to the scores. For example, an item answered correctly at two of three
    checkpoints counts 2/3.

    The result keeps `n` and `chance` of the checkpoints. The `stderr` is the mean of the checkpoints' standard errors. This
    mean is an upper bound, reached if every checkpoint answers the same items correctly.

    Args:
        scores: one row per `mix, seed, task, metric` and `tokens`, with its `value`; further columns optional.
        last: number of checkpoints. 1 returns both tables unchanged. A table that is already averaged over this number
            of checkpoints is also returned unchanged.
        items: one row per `mix, seed, task, metric, item` and `tokens`; None if not available.
        required: mixes that must have the checkpoints, which are the compared mixes. Any other mix without the checkpoints
            is excluded, because it informs only the noise (default: every mix is required).

    Returns:
        One row per `mix, seed, scale, task, metric` (and item), with the last `tokens`, in the order of the last rows.

    Raises:
        AssayError: a column is missing, a mix or run has too few checkpoints, mixes were scored at different fractions of their
            training, a row is duplicated, or the table is already averaged over another number of checkpoints.
    """
    if last == 1 or _averaged_over(scores, last):
        return Averaged(scores, items)
    excluded = () if required is None else _without_checkpoints(scores, items, last, required)
    if excluded:
        kept_mixes = [mix for mix in scores["mix"].astype(str).unique() if mix not in excluded]
        scores, items = _of(scores, kept_mixes), None if items is None else _of(items, kept_mixes)
    arm = ["mix", "scale"] if "scale" in scores else ["mix"]
    kept = _last_rows(with_columns(scores, [*SCORE_KEY, "tokens", "value"], "results"), last, arm)
    _refuse_other_places(kept, arm)
    mean = _mean(kept, [*SCORE_KEY, *arm[1:]], last, "results")
    if items is not None:
        items = with_columns(items, [*ITEM_KEY, "tokens", "value"], "items")
        items = _mean_of_items(_last_rows(items, last, ["mix"]), last)
    return Averaged(mean, items, excluded)


def _without_checkpoints(
    scores: pd.DataFrame, items: pd.DataFrame | None, last: int, required: Collection[str]
) -> tuple[str, ...]:
    """Return the mixes that are not required, and that cannot be averaged together with the required mixes."""
    if not {"mix", "tokens"} <= set(scores.columns):
        return ()
    every = list(dict.fromkeys(scores["mix"].astype(str)))
    own = [mix for mix in every if mix in required]
    if _can_average(scores, items, last, every):
        return ()
    return tuple(mix for mix in every if mix not in own and not _can_average(scores, items, last, [*own, mix]))


def _can_average(scores: pd.DataFrame, items: pd.DataFrame | None, last: int, mixes: Sequence[str]) -> bool:
    try:
        average_last(_of(scores, mixes), last, items=None if items is None else _of(items, mixes))
    except (NotFound, Refused):
        return False
    return True


def _of(frame: pd.DataFrame, mixes: Sequence[str]) -> pd.DataFrame:
    return frame[frame["mix"].astype(str).isin(mixes)]


def _averaged_over(scores: pd.DataFrame, last: int) -> bool:
    """Return whether the table is averaged over `last` checkpoints; refuse a different number.

    Raises:
        AssayError: the table is averaged over a different number of checkpoints.
    """
    if CHECKPOINTS not in scores:
        return False
    counts = sorted({int(count) for count in scores[CHECKPOINTS].unique()})
    if counts not in ([], [last]):
        raise Refused(
            f"results are means over {', '.join(map(str, counts))} checkpoints, but the policy averages the last {last}.",
            fix="Pass the rows of single checkpoints, before any averaging.",
        )
    return True


def _last_rows(frame: pd.DataFrame, last: int, arm: list[str]) -> pd.DataFrame:
    """Return the rows at the last checkpoints of each mix."""
    import pandas as pd

    parts: list[pd.DataFrame] = []
    for group, rows in frame.groupby(arm, sort=False, dropna=False):
        tokens = np.sort(rows["tokens"].unique())
        if len(tokens) < last:
            name, at = group[0], ", ".join(f"{count:,.0f}" for count in tokens)
            raise NotFound(
                f"{name} was scored at {len(tokens)} checkpoint{'s' * (len(tokens) != 1)} (tokens {at}), but the policy"
                f" averages the last {last}.",
                fix=f"Score more checkpoints of the runs of {name}, or use only the last checkpoint: `average: {{last: 1}}`.",
            )
        parts.append(rows[rows["tokens"] >= tokens[-last]])
    return pd.concat(parts) if parts else frame


def _refuse_other_places(kept: pd.DataFrame, arm: list[str]) -> None:
    """Raise an error for mixes whose checkpoints are at different fractions of training.

    A mix with later checkpoints would appear better.
    """
    fractions_by_arm = {
        group: np.sort(rows["tokens"].unique()) / rows["tokens"].max()
        for group, rows in kept.groupby(arm, sort=False, dropna=False)
    }
    if not fractions_by_arm:
        return
    (first, expected), *others = fractions_by_arm.items()
    for name, fractions in others:
        if np.abs(fractions - expected).max() > TOKENS_APART:
            texts = [", ".join(f"{fraction:.0%}" for fraction in part) for part in (expected, fractions)]
            raise Refused(
                f"the last checkpoints of {first[0]} are at {texts[0]} of its training, but the last checkpoints"
                f" of {name[0]} are at {texts[1]}.",
                fix="Score all arms at the same fractions of training, or use only the last checkpoint: `average: {last: 1}`.",
            )


def _mean(kept: pd.DataFrame, key: list[str], last: int, what: str) -> pd.DataFrame:
    """Reduce the rows of several checkpoints to their mean; keep the order of the last rows."""
    duplicates = kept[kept.duplicated([*key, "tokens"])]
    if len(duplicates):
        row = duplicates.iloc[0]
        raise Damaged(
            f"{what} has several rows for mix {row['mix']}, seed {row['seed']}, task {row['task']}, metric {row['metric']}"
            f" at {row['tokens']:,.0f} tokens.",
            fix="Keep one row for each mix, seed, tokens, task and metric.",
        )
    groups = kept.groupby(key, sort=False, dropna=False)
    counts = groups["tokens"].transform("size")
    _refuse_fewer(kept[counts < last], last, what)
    mean = kept[kept["tokens"] == groups["tokens"].transform("max")].set_index(key)
    # If a value is NaN at one checkpoint, the mean is NaN. A mean over the other checkpoints would hide the NaN.
    for column in {"value", "stderr"} & set(kept):
        mean = mean.assign(**{column: groups[column].sum(min_count=last) / last})
    if "n" in kept and (groups["n"].min() != groups["n"].max()).any():
        raise Refused(
            "a run answered different numbers of items at its checkpoints.",
            fix="Evaluate all checkpoints with one version of the suite.",
        )
    return mean.assign(**{CHECKPOINTS: last}).reset_index()[[*kept.columns, CHECKPOINTS]]


def _mean_of_items(kept: pd.DataFrame, last: int) -> pd.DataFrame:
    """Average the items; number the copies of a duplicated item, so that they stay separate."""
    kept = kept.assign(copy=kept.groupby([*ITEM_KEY, "tokens"], sort=False).cumcount())
    mean = _mean(kept, [*ITEM_KEY, "copy"], last, "items")
    return mean.drop(columns=["copy", "tokens", CHECKPOINTS])


def _refuse_fewer(rows: pd.DataFrame, last: int, what: str) -> None:
    if rows.empty:
        return
    runs = [f"{mix} seed {seed}" for mix, seed in rows[["mix", "seed"]].drop_duplicates().itertuples(index=False)]
    more = f" and {len(runs) - NAMED} more" if len(runs) > NAMED else ""
    row = rows.iloc[0]
    raise NotFound(
        f"{what}: {', '.join(runs[:NAMED])}{more} lack one of the last {last} checkpoints that the policy averages, for"
        f" example for {row['task']} {row['metric']}.",
        fix="Score these checkpoints, or remove the runs. A run with fewer checkpoints is not averaged.",
    )
