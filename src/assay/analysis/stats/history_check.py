"""Exclude rows of a history that do not fit the compared runs, each with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.analysis.stats.score_table import EVALUATION_SETTINGS
from assay.analysis.stats.tables import FAMILY
from assay.analysis.stats.transfer import theil_sen
from assay.config.reason import Code, Reason
from assay.core.errors import Damaged

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

TOKENS_FACTOR = 2.0
"""Smallest ratio of two token budgets at one scale that makes runs incomparable."""

FAR = 5.0
"""Distance from the nearer quartile, in interquartile ranges, from which a score is absurd: 7.4 SDs of normal scores."""

ODD = 8.0
"""Distance from the history's line, in robust SDs, from which a mix is named. Of t-distributed errors with 4 degrees of
freedom, 1 in 760 is as far."""

MOST_ABSURD = 0.1
"""Largest fraction of the mixes that can be outliers. A larger group is a second kind of mixes."""


@dataclass(frozen=True)
class Conditions:
    """How the compared runs were trained and evaluated.

    Attributes:
        tokens: median token budget of a run; None if unknown.
        settings: task, column of `EVALUATION_SETTINGS` and value, for tasks with one known value.
    """

    tokens: float | None = None
    settings: tuple[tuple[str, str, str], ...] = ()

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Conditions:
        """Return the conditions of long results of one scale."""
        tokens = None
        if "tokens" in rows and rows["tokens"].notna().any():
            tokens = float(rows.groupby(["mix", "seed"])["tokens"].max().median())
        settings = []
        for column in EVALUATION_SETTINGS:
            if column in rows:
                known = rows[rows[column].notna()]
                texts = known[column].map(_setting).groupby(known["task"].astype(str)).unique()
                settings += [(str(task), column, str(values[0])) for task, values in texts.items() if len(values) == 1]
        return cls(tokens, tuple(settings))


ANY = Conditions()
"""Conditions that all rows fulfill."""


def comparable(rows: pd.DataFrame, conditions: Conditions, scale: Any, reasons: list[Reason]) -> pd.DataFrame:
    """Return the rows of one scale that have the given tokens and evaluation settings; add a reason for the others."""
    if conditions.tokens is not None and "tokens" in rows:
        tokens = rows["tokens"].to_numpy(dtype=float)
        with np.errstate(divide="ignore", invalid="ignore"):
            apart = np.maximum(tokens / conditions.tokens, conditions.tokens / tokens) >= TOKENS_FACTOR
        if apart.any():
            # A mix whose other checkpoints fit is kept with them, so only mixes without such checkpoints are named.
            lost = set(rows.loc[apart, "mix"]) - set(rows.loc[~apart, "mix"])
            if lost:
                example = float(rows.loc[apart & rows["mix"].isin(lost), "tokens"].median())
                reasons.append(_excluded("tokens", lost, scale, tokens=example, expected=conditions.tokens))
            rows = rows[~apart]
    for column, label in EVALUATION_SETTINGS.items():
        expected = {task: value for task, name, value in conditions.settings if name == column}
        if column not in rows or not expected:
            continue
        wanted = rows["task"].astype(str).map(expected)
        other = rows[column].notna() & wanted.notna()
        other &= rows[column].map(_setting, na_action="ignore") != wanted
        if other.any():
            first = rows[other].iloc[0]
            reasons.append(
                _excluded(
                    "setting",
                    set(rows.loc[other, "mix"]),
                    scale,
                    label=label,
                    task=str(first["task"]),
                    value=_setting(first[column]),
                    expected=expected[str(first["task"])],
                )
            )
            rows = rows[~other]
    return rows


def usual_conditions(rows: pd.DataFrame) -> Conditions:
    """Return the conditions that most mixes of one scale have."""
    tokens, settings = None, []
    if "tokens" in rows and rows["tokens"].notna().any():
        tokens = float(rows.groupby("mix")["tokens"].max().median())
    for column in EVALUATION_SETTINGS:
        if column in rows:
            known = rows[rows[column].notna()]
            for task, values in known[column].map(_setting).groupby(known["task"].astype(str)):
                settings.append((str(task), column, str(values.mode().iloc[0])))
    return Conditions(tokens, tuple(settings))


def families_of(rows: pd.DataFrame) -> dict[str, str]:
    """Return the family of each labeled mix.

    Raises:
        AssayError: a mix has several families.
    """
    if FAMILY not in rows:
        return {}
    labeled = rows.loc[rows[FAMILY].notna(), ["mix", FAMILY]].astype(str).drop_duplicates()
    twice = labeled[labeled["mix"].duplicated(keep=False)]
    if not twice.empty:
        mix = twice["mix"].iloc[0]
        names = ", ".join(sorted(twice.loc[twice["mix"] == mix, FAMILY]))
        raise Damaged(
            f"the history has several families for mix {mix}: {names}; expected one.",
            fix="Give all rows of a mix one entry in the column `family`.",
        )
    return dict(zip(labeled["mix"], labeled[FAMILY], strict=True))


def without_copies(rows: Sequence[pd.DataFrame], reasons: list[Reason]) -> set[str]:
    """Return the mixes that repeat all scores of an earlier mix at every scale, as copies under another name do.

    Args:
        rows: the rows of each scale, with one row for each mix, seed, task and metric.
        reasons: receives a reason for the copies.
    """
    import pandas as pd

    parts = [part[["mix", "task", "metric", "value"]].assign(at=at) for at, part in enumerate(rows)]
    table = pd.concat(parts).sort_values(["mix", "at", "task", "metric", "value"], kind="stable")
    columns = [pd.factorize(table[name])[0] for name in ("at", "task", "metric")]
    hashes = pd.util.hash_pandas_object(
        pd.DataFrame(
            {"key": columns[0] * 10**12 + columns[1] * 10**6 + columns[2], "value": table["value"].to_numpy()}
        ),
        index=False,
    ).to_numpy()
    mixes = table["mix"].astype(str).to_numpy()
    by_mix = pd.DataFrame({"mix": mixes, "sum": hashes, "weighted": hashes * np.uint64(31) ^ (hashes >> np.uint64(7))})
    signs = by_mix.groupby("mix", sort=False)[["sum", "weighted"]].sum()
    both = set.intersection(*(set(part["mix"].astype(str)) for part in rows))
    signs = signs[signs.index.isin(both)]
    copies = {str(mix) for mix in signs.index[signs.duplicated()]}
    if copies:
        reasons.append(_excluded("copy", copies))
    return copies


def absurd(*scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark mixes whose scores cannot belong to the others: at least `FAR` from the quartiles.

    Args:
        scores: (mixes,) scores at each scale.

    Returns:
        (mixes,); all False if more than `MOST_ABSURD` of the mixes (at least one) would be marked.
    """
    far = np.zeros(len(scores[0]), dtype=bool)
    for values in scores:
        low, high = np.quantile(values, [0.25, 0.75])
        if high > low:
            far |= np.maximum(low - values, values - high) > FAR * (high - low)
    return far if far.sum() <= max(1, MOST_ABSURD * len(far)) else np.zeros(len(far), dtype=bool)


def odd(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark mixes whose target score is far from the line of the others.

    Such a mix shows how wrong a prediction can be, so its error counts.

    Args:
        x: (mixes,) scores at the proxy.
        y: (mixes,) scores at the target.
    """
    residuals = y - theil_sen(x, y) * x
    distances = np.abs(residuals - np.median(residuals))
    # Few mixes estimate the spread too imprecisely to call one of them odd.
    bar = ODD * (1 + 8 / len(x)) * 1.4826 * float(np.median(distances))
    marked: NDArray[np.bool_] = (distances > bar) & (bar > 0)
    return marked


def excluded_outliers(mixes: set[str]) -> Reason:
    """Return the reason for mixes that `absurd` marks."""
    return _excluded("outlier", mixes)


def excluded_copies_of_arms(mixes: set[str]) -> Reason:
    """Return the reason for past mixes that have exactly the scores of a compared mix."""
    return _excluded("same_as_arm", mixes)


def excluded_without_scale(mixes: set[str], scale: Any) -> Reason:
    """Return the reason for past mixes without results at a scale."""
    return _excluded("scale", mixes, scale)


def _excluded(kind: str, mixes: set[str], scale: Any = None, **figures: Any) -> Reason:
    names = tuple(sorted(map(str, mixes)))
    place = {} if scale is None else {"scale": str(scale)}
    return Reason(code=Code.HISTORY_EXCLUDED, subject=kind, figures={"mixes": names, **place, **figures})


def _setting(value: Any) -> str:
    """Spell a setting in one way: pandas reads the number of few-shot examples as 5 or 5.0."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return f"{number:g}"
