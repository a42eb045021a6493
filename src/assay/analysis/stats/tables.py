"""Validate and normalize the long tables behind comparisons.

`ResultsTable`, `ItemTable` and `HistoryTable` hold the tables.

`results` has one row per mix, seed, task and metric. Its columns are `mix, seed, task, metric, value`, and optionally
`scale`, `tokens`, `n`, `stderr`, `chance`, `version`, `num_fewshot`, `prompt`. `items` has one row per item of each
score. Its columns are `mix, seed, task, metric, item, value`, and optionally `group` and `weight`. A `group` contains
items that belong together, such as the items of a passage. A score is the mean of its items by `weight`, which is the
bytes for bits per byte.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.core.errors import ConfigError, Damaged, NotFound, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from assay.config.policy import Policy

Seed = int | str
Metric = tuple[str, str]
"""A task and its metric."""

SCORE_KEY = ["mix", "seed", "task", "metric"]
ITEM_KEY = [*SCORE_KEY, "item"]
NUMBERS = ("value", "tokens", "n", "stderr", "chance")
"""Columns that contain numbers."""

TOKENS_APART = 0.01
"""Relative difference of token counts above which a verdict reports different token counts."""

UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
"""Factors of the suffixes of a scale. 150M is 150 million parameters."""


def scale_key(scale: Any) -> Any:
    """Normalize the spelling of a scale to its number of parameters, or to the lowercase name.

    >>> scale_key("150M") == scale_key(150e6) == scale_key("150000000"), scale_key("Proxy ")
    (True, 'proxy')
    """
    if isinstance(scale, (int, float, np.integer, np.floating)):
        return float(scale)
    name = str(scale).strip().lower()
    match = re.fullmatch(r"(\d+(?:\.\d*)?(?:e[+]?\d+)?)([kmbt]?)", name)
    # Rounding makes 0.15B and 150M equal despite floating-point error in the product.
    return float(f"{float(match[1]) * UNITS[match[2]]:.9g}") if match else name


def scale_keys(scales: pd.Series[Any]) -> pd.Series[Any]:
    """Return the `scale_key` of each entry, computed once per distinct scale."""
    import pandas as pd

    codes, known = pd.factorize(scales, use_na_sentinel=False)
    keys = np.empty(len(known), dtype=object)
    keys[:] = [scale_key(scale) for scale in known]
    return pd.Series(keys[codes], index=scales.index, dtype=object)


def with_columns(frame: pd.DataFrame, needed: list[str], what: str) -> pd.DataFrame:
    """Convert the numeric columns of a table to numbers; check required columns and entries.

    Args:
        frame: a long table.
        needed: required columns, `value` last.
        what: name of the table in errors.

    Raises:
        AssayError: a column is missing (with the nearest name), a value is not a number, or a row lacks an entry.
    """
    require_frame(frame, what)
    for name in needed:
        if name not in frame.columns:
            raise NotFound(f"{what} has no column {name!r}. {did_you_mean(name, [str(c) for c in frame.columns])}")
    duplicates = frame.columns[frame.columns.duplicated()]
    if len(duplicates):
        raise Damaged(f"{what} has two columns {str(duplicates[0])!r}.", fix="Keep one of the two columns.")
    # An index may share names with columns, which pandas treats as ambiguous.
    frame = frame.reset_index(drop=True)
    for name in [name for name in NUMBERS if name in frame.columns]:
        label = "a value" if name == "value" else name
        frame = frame.assign(**{name: _as_numbers(frame[name], f"{what}: {label}")})
    for name in needed[:-1]:
        if frame[name].isna().any():
            raise Damaged(
                f"{what}: {int(frame[name].isna().sum())} rows have no {name}.",
                fix=f"Add the {name} to these rows, or remove them.",
            )
    if "mix" in needed:
        frame = frame.assign(mix=frame["mix"].astype(str))  # pandas reads the mix name 7 as a number
    return frame


def require_frame(frame: object, what: str) -> None:
    """Raise an error for an object that is not a data frame.

    Raises:
        AssayError: the object is not a data frame; the message names its type.
    """
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise ConfigError(
            f"{what} is a {type(frame).__name__}; expected a pandas data frame.", fix="Pass a pandas data frame."
        )


def with_proxy_scale(policy: Policy, frame: pd.DataFrame) -> Policy:
    """Fill in the policy's proxy scale if the table determines it.

    The policy names no proxy scale, and its target is one of the table's two scales.
    """
    if policy.proxy_scale is not None or policy.target is None or "scale" not in frame:
        return policy
    target = scale_key(policy.target.scale)
    others = {scale_key(scale): str(scale) for scale in frame["scale"].dropna().unique() if scale_key(scale) != target}
    return replace(policy, proxy_scale=next(iter(others.values()))) if len(others) == 1 else policy


def at_scale(frame: pd.DataFrame, scale: str | None) -> pd.DataFrame:
    """Return the rows of one scale, or all rows of a table without scales.

    Raises:
        AssayError: the table lacks the scale, or the table has several scales and `scale` is None.
    """
    if "scale" not in frame or frame["scale"].isna().all():
        return frame
    known = sorted({str(value) for value in frame["scale"].unique()})
    if scale is not None:
        wanted = scale_key(scale)
        frame = frame[(scale_keys(frame["scale"]) == wanted).to_numpy(dtype=bool)]
        if frame.empty:
            raise NotFound(
                f"the results have no runs at the policy's proxy scale {scale!r}. {did_you_mean(scale, known)}"
            )
    elif len(known) > 1:
        raise ConfigError(
            f"the results contain {len(known)} scales: {', '.join(known)}; expected one.",
            fix="Set `proxy_scale` of the policy to the scale to compare.",
        )
    return frame


def last_checkpoints(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep the row of each score with the most tokens; keep a table without `tokens` unchanged.

    Rows with equal tokens are duplicates rather than checkpoints. The function keeps duplicates, and the caller refuses
    them.
    """
    if "tokens" not in frame or not frame.duplicated(SCORE_KEY).any():
        return frame
    most = frame.groupby(SCORE_KEY, sort=False)["tokens"].transform("max")
    # A row with unknown tokens may be the last one, so the function keeps the row.
    return frame[(frame["tokens"] == most) | frame["tokens"].isna() | most.isna()]


def _as_numbers(column: pd.Series[Any], what: str) -> pd.Series[Any]:
    """Convert a column of any numeric or text type to float64."""
    import pandas as pd

    try:
        numbers = pd.to_numeric(column)
        return pd.Series(numbers.to_numpy(dtype=float, na_value=math.nan), index=column.index)
    except (ValueError, TypeError) as error:
        raise Damaged(f"{what} is not a number: {error}", fix="Correct or remove the row.") from None


def seed_order(seed: Seed) -> tuple[bool, int, str]:
    """Return a sort key of a seed: numbers first, then names."""
    return (isinstance(seed, str), 0 if isinstance(seed, str) else int(seed), str(seed))


def plain_seed(seed: Hashable) -> Seed:
    """Return a seed as a Python int or str."""
    value: Any = seed.item() if isinstance(seed, np.generic) else seed
    return int(value) if isinstance(value, float) and value.is_integer() else value


def as_floats(frame: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """Return a column as float64; NaN for a missing entry or column."""
    import pandas as pd

    if column not in frame:
        return np.full(len(frame), math.nan)
    if pd.api.types.is_numeric_dtype(frame[column]):
        return frame[column].to_numpy(dtype=float, na_value=math.nan)
    return np.array([math.nan if value is None else value for value in frame[column]], dtype=float)


def group_codes(frame: pd.DataFrame, key: list[str]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Number the groups of rows with equal entries in some columns, by first appearance.

    Returns:
        The number of each row's group, (rows,), and the first row of each group, (groups,).
    """
    import pandas as pd

    codes = np.zeros(len(frame), dtype=np.int64)
    for column in key:
        own, known = pd.factorize(frame[column], use_na_sentinel=False)
        # Renumber after each column, so that the product of the columns' sizes cannot overflow.
        codes, _ = pd.factorize(codes * max(len(known), 1) + own)
    first = np.full(int(codes.max(initial=-1)) + 1, len(frame), dtype=np.intp)
    np.minimum.at(first, codes, np.arange(len(frame)))
    return codes.astype(np.int64, copy=False), first
