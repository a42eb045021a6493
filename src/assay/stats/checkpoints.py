"""Scores averaged over the last checkpoints of each run, which removes noise that one checkpoint alone has.

Between neighbouring checkpoints scores jump by noise that says nothing of the recipe; the mean over the last N has less of it
(Heineman et al. 2025, arXiv 2508.13144: averaging the last checkpoints raises the signal-to-noise ratio of benchmarks).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from assay.errors import AssayError
from assay.stats.frames import ITEM_KEY, SCORE_KEY, TOKENS_APART, with_columns

if TYPE_CHECKING:
    import pandas as pd

CHECKPOINTS = "checkpoints"
"""Column that says of how many checkpoints a value is the mean; tables that were not averaged have none."""
NAMED = 3
"""Runs that an error names before it counts the rest."""


class Averaged(NamedTuple):
    """Scores and questions with one row where there was one for each checkpoint.

    Attributes:
        scores: long results, with `checkpoints` where more than one was averaged.
        items: the questions behind them; None where there were none.
    """

    scores: pd.DataFrame
    items: pd.DataFrame | None


def average_last(scores: pd.DataFrame, last: int, *, items: pd.DataFrame | None = None) -> Averaged:
    """The mean of each run's scores over its last checkpoints, the final one included.

    Which those are is decided by mix and scale: the largest `tokens` that any of its seeds was scored at. Each run has to have
    all of them, for every metric that it has at one of them; none is averaged over fewer. Questions are averaged one by one, so that
    they still add up to the scores: an answer that was right at two of three checkpoints counts 2/3.

    Of `n` and `chance` the mean keeps the checkpoints' own. Its `stderr` is the mean of theirs, which is its upper bound:
    it is reached where every checkpoint answers the same questions right.

    Args:
        scores: one row for each `mix, seed, task, metric` and `tokens`, with its `value`; other columns as known.
        last: how many checkpoints; 1 leaves both tables as they are, as does a table that was averaged over so many.
        items: one row for each `mix, seed, task, metric, item` and `tokens`, where known.

    Returns:
        One row for each `mix, seed, scale, task, metric` (and item), with the last `tokens`, in the order of the last rows.

    Raises:
        AssayError: a column is missing; a mix has fewer checkpoints, or a run lacks one; mixes were scored at other shares of their
            training; a row is there twice; or the table is a mean over another number.
    """
    if last == 1 or _averaged_over(scores, last):
        return Averaged(scores, items)
    arm = ["mix", "scale"] if "scale" in scores else ["mix"]
    kept = _last_rows(with_columns(scores, [*SCORE_KEY, "tokens", "value"], "results"), last, arm)
    _refuse_other_places(kept, arm)
    mean = _mean(kept, [*SCORE_KEY, *arm[1:]], last, "results")
    if items is not None:
        items = with_columns(items, [*ITEM_KEY, "tokens", "value"], "items")
        items = _mean_of_items(_last_rows(items, last, ["mix"]), last)
    return Averaged(mean, items)


def _averaged_over(scores: pd.DataFrame, last: int) -> bool:
    """Whether the table holds such means already."""
    if CHECKPOINTS not in scores:
        return False
    found = sorted({int(count) for count in scores[CHECKPOINTS]})
    if found not in ([], [last]):
        raise AssayError(
            f"results are means over {', '.join(map(str, found))} checkpoints, and the policy averages the last {last}.",
            fix="Average the rows of single checkpoints anew.",
        )
    return True


def _last_rows(frame: pd.DataFrame, last: int, arm: list[str]) -> pd.DataFrame:
    """The rows at the last checkpoints of each mix."""
    import pandas as pd

    parts: list[pd.DataFrame] = []
    for place, rows in frame.groupby(arm, sort=False, dropna=False):
        tokens = np.sort(rows["tokens"].unique())
        if len(tokens) < last:
            name, at = place[0], ", ".join(f"{count:,.0f}" for count in tokens)
            raise AssayError(
                f"{name} was scored at {len(tokens)} checkpoint{'s' * (len(tokens) != 1)} (tokens {at}), and the policy"
                f" averages the last {last}.",
                fix="Score more checkpoints of its runs, or judge by the last one alone: `average: {last: 1}`.",
            )
        parts.append(rows[rows["tokens"] >= tokens[-last]])
    return pd.concat(parts) if parts else frame


def _refuse_other_places(kept: pd.DataFrame, arm: list[str]) -> None:
    """Refuse mixes whose checkpoints are at other shares of their training: the later ones would look better."""
    places = {
        place: np.sort(rows["tokens"].unique()) / rows["tokens"].max()
        for place, rows in kept.groupby(arm, sort=False, dropna=False)
    }
    if not places:
        return
    (first, shares), *others = places.items()
    for name, theirs in others:
        if np.abs(theirs - shares).max() > TOKENS_APART:
            said = [", ".join(f"{share:.0%}" for share in part) for part in (shares, theirs)]
            raise AssayError(
                f"the last checkpoints of {first[0]} are at {said[0]} of its training, and those of {name[0]} at {said[1]}.",
                fix="Score all arms at the same points, or judge by the last checkpoint alone: `average: {last: 1}`.",
            )


def _mean(kept: pd.DataFrame, key: list[str], last: int, what: str) -> pd.DataFrame:
    """One row where there was one at each checkpoint, in the order of the last rows."""
    twice = kept[kept.duplicated([*key, "tokens"])]
    if len(twice):
        row = twice.iloc[0]
        raise AssayError(
            f"{what} has several rows for mix {row['mix']}, seed {row['seed']}, task {row['task']}, metric {row['metric']}"
            f" at {row['tokens']:,.0f} tokens.",
            fix="Keep one row for each mix, seed, tokens, task and metric.",
        )
    groups = kept.groupby(key, sort=False, dropna=False)
    counts = groups["tokens"].transform("size")
    _refuse_fewer(kept[counts < last], last, what)
    found = kept[kept["tokens"] == groups["tokens"].transform("max")].set_index(key)
    # What is no number at one checkpoint is none in the mean: it must not be averaged over the others.
    for column in {"value", "stderr"} & set(kept):
        found = found.assign(**{column: groups[column].sum(min_count=last) / last})
    if "n" in kept and (groups["n"].min() != groups["n"].max()).any():
        raise AssayError("a run answered different numbers of questions at its checkpoints.", fix="Score them alike.")
    return found.assign(**{CHECKPOINTS: last}).reset_index()[[*kept.columns, CHECKPOINTS]]


def _mean_of_items(kept: pd.DataFrame, last: int) -> pd.DataFrame:
    """The same for questions; of one that a benchmark holds twice, the copies stay apart by their order."""
    kept = kept.assign(copy=kept.groupby([*ITEM_KEY, "tokens"], sort=False).cumcount())
    mean = _mean(kept, [*ITEM_KEY, "copy"], last, "items")
    return mean.drop(columns=["copy", "tokens", CHECKPOINTS])


def _refuse_fewer(rows: pd.DataFrame, last: int, what: str) -> None:
    if rows.empty:
        return
    runs = [f"{mix} seed {seed}" for mix, seed in rows[["mix", "seed"]].drop_duplicates().itertuples(index=False)]
    more = f" and {len(runs) - NAMED} more" if len(runs) > NAMED else ""
    row = rows.iloc[0]
    raise AssayError(
        f"{what}: {', '.join(runs[:NAMED])}{more} lack one of the last {last} checkpoints that the policy averages, for"
        f" instance of {row['task']} {row['metric']}.",
        fix="Score those checkpoints too, or leave the runs out: none is averaged over fewer.",
    )
