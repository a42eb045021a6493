"""The long table that every import becomes: its columns, its numbers, and what is refused, by file, row and column."""

from __future__ import annotations

import difflib
import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.errors import AssayError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

LABELS = ("mix", "seed", "scale", "tokens")
"""What a run is called. Files that do not say it are told it: by an option, or by the path."""
NAMES = ("mix", "seed", "task", "metric")
REQUIRED = (*LABELS, "task", "metric", "value")
NUMBERS = ("n", "stderr", "chance", "num_fewshot")
QUESTIONS = ("version", "num_fewshot", "prompt")
"""What was asked: arms have to agree in these, where they are known."""
COLUMNS = (*REQUIRED, "n", "stderr", "chance", *QUESTIONS)
KEY = ["mix", "seed", "scale", "tokens", "task", "metric"]
"""There is one value for each of these."""

SHARES = frozenset({"acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match", "f1"})
"""Metrics that are shares of 1; tables from elsewhere have them in percent now and then."""

_UNITS = {"t": 1e12, "b": 1e9, "m": 1e6, "k": 1e3, "": 1.0}
_AMOUNT = re.compile(r"([0-9][0-9_]*(?:\.[0-9]+)?(?:[eE]\+?[0-9]+)?|\.[0-9]+)\s*([kKmMbBtT]?)")
_HEADER = 1
"""The header is row 1, as a spreadsheet counts."""


class Table(NamedTuple):
    """Results that were checked.

    Attributes:
        frame: the columns of `COLUMNS`, sorted by `KEY`; `scale` is text such as `150M`, `seed` whole numbers or text.
        notes: what was left out or looks odd, in sentences.
        digest: SHA-256 of the rows, whatever file and order they came in.
    """

    frame: pd.DataFrame
    notes: tuple[str, ...]
    digest: str


def amount(text: str) -> float:
    """A number as people write it.

    >>> amount("150M"), amount("1B"), amount("1e9"), amount("3_000")
    (150000000.0, 1000000000.0, 1000000000.0, 3000.0)

    Raises:
        ValueError: it is none, or not above 0.
    """
    found = _AMOUNT.fullmatch(text.strip())
    value = float(found[1]) * _UNITS[found[2].lower()] if found else math.nan
    if not 0 < value < math.inf:
        raise ValueError(text)
    return value


def scale_label(text: str) -> str:
    """A scale in the form that tables and policies share, however it was written.

    >>> scale_label("150m"), scale_label("1.5e8"), scale_label("1000M"), scale_label("151898880")
    ('150M', '150M', '1B', '151898880')

    Raises:
        ValueError: it is no number.
    """
    number = amount(text)
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        short = f"{number / size:.4g}"
        if number >= size and "e" not in short and math.isclose(float(short) * size, number, rel_tol=1e-12):
            return f"{short}{unit}"
    return f"{number:.15g}"


def columns_of(header: Sequence[str], *, file: str, given: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Which columns of a file are ours.

    Args:
        header: the file's columns.
        file: the file's name, for errors.
        given: labels that an option or the path gives, where the file has no such column.

    Returns:
        Our name of a column by the file's, and the columns that mean nothing here.

    Raises:
        AssayError: a column is missing, is there twice, or looks misspelt.
    """
    ours: dict[str, str] = {}
    for column in header:
        name = column.strip().lower()
        if name in COLUMNS:
            if name in ours.values():
                raise AssayError(f"{file}: the column {name!r} is there twice.", fix="Keep one of them.")
            ours[column] = name
    others = [column for column in header if column not in ours]
    for name in REQUIRED:
        if name not in ours.values() and name not in given:
            option = f"Give it with --{name}, or rename the column." if name in LABELS else "Rename or add the column."
            raise AssayError(f"{file}: there is no column {name!r}. {did_you_mean(name, header)}", fix=option)
    for column in others:
        missing = [name for name in COLUMNS if name not in ours.values() and name not in given]
        near = difflib.get_close_matches(column.strip().lower(), missing, n=1, cutoff=0.8)
        if near:
            raise AssayError(f"{file}: no column is called {column!r}. Did you mean {near[0]!r}?", fix="Rename it.")
    return ours, others


def checked(frame: pd.DataFrame, *, file: str, given: Mapping[str, str], first: int | None) -> pd.DataFrame:
    """Rows of one file with the types of the table, and their places for later errors.

    Args:
        frame: columns by our names, as text or as numbers.
        file: the file's name, for errors.
        given: labels for the columns that are not there.
        first: how many records of the file came before; None where the file has no rows to count.

    Raises:
        AssayError: a cell is empty or no number; file, row and column are named.
    """
    import numpy as np
    import pandas as pd

    made: dict[str, Any] = {}
    rows = np.arange(len(frame)) + first + _HEADER + 1 if first is not None else np.zeros(len(frame), dtype=int)
    place = _Place(file, rows)
    for name in REQUIRED:
        column = frame[name] if name in frame else pd.Series([given[name]] * len(frame), index=frame.index)
        if name == "value":
            made[name] = _values(column, place)
        elif name in NAMES:
            made[name] = _names(column, name, place).astype("category")
        else:
            made[name] = _amounts(column, name, place)
    for name in COLUMNS[len(REQUIRED) :]:
        if name in frame:
            made[name] = _numbers(frame[name], name, place) if name in NUMBERS else _text(frame[name]).replace("", None)
    made |= {"_file": pd.Categorical([file] * len(frame)), "_row": rows}
    return pd.DataFrame(made)


def assemble(parts: Iterable[pd.DataFrame], notes: Sequence[str] = ()) -> Table:
    """One table out of all files' rows.

    Raises:
        AssayError: there are none, or two of them give one run's metric different values.
    """
    import pandas as pd

    found = list(parts)
    if not sum(map(len, found)):
        raise AssayError("there is no result in what was given.", fix="Name files that hold some.")
    frame = pd.concat(found, ignore_index=True)
    for name in (*NAMES, "scale", "_file"):
        frame[name] = frame[name].astype("str")
    for name in COLUMNS[len(REQUIRED) :]:
        if name not in frame:
            frame[name] = math.nan if name in NUMBERS else None
        frame[name] = frame[name].astype("float64" if name in NUMBERS else "str")
    if frame["seed"].str.fullmatch(r"-?[0-9]{1,18}").all():
        frame["seed"] = frame["seed"].astype("int64")
    frame, told = _once(frame)
    frame = frame.sort_values(KEY, kind="stable", ignore_index=True)[list(COLUMNS)]
    return Table(frame, (*notes, *told, *_odd(frame)), _digest(frame))


class _Place(NamedTuple):
    """Where cells are."""

    file: str
    rows: Any

    def refuse(self, bad: Any, column: str, values: pd.Series, problem: str, fix: str) -> None:
        """Raise for the first cell that is marked as bad."""
        import numpy as np

        at = int(np.flatnonzero(np.asarray(bad))[0])
        more = int(np.sum(np.asarray(bad))) - 1
        row = f"row {self.rows[at]}, " if self.rows[at] else ""
        shown = str(values.iloc[at])[:60]
        others = f" ({more:,} more rows like it in this part of the file)" if more else ""
        raise AssayError(f"{self.file}: {row}column {column!r}: {problem.format(repr(shown))}{others}.", fix=fix)


def _text(column: pd.Series) -> pd.Series:
    """A column as text without spaces around it; what is not there is empty. Whole numbers lose their `.0`."""
    from pandas.api.types import is_float_dtype

    if is_float_dtype(column.dtype):
        return column.map(_written).astype("str")
    text = column if str(column.dtype) == "str" else column.astype("object").where(column.notna(), "").astype("str")
    return text.fillna("").str.strip()


def _written(value: float) -> str:
    return "" if math.isnan(value) else str(int(value)) if float(value).is_integer() else repr(float(value))


def _names(column: pd.Series, name: str, place: _Place) -> pd.Series:
    text = _text(column)
    if (text == "").any():
        place.refuse(text == "", name, text, "nothing stands there", f"Every row has a {name}.")
    return text


def _values(column: pd.Series, place: _Place) -> Any:
    import numpy as np
    import pandas as pd

    text = _text(column) if column.dtype == "object" or str(column.dtype) in ("str", "category") else column
    numbers = pd.to_numeric(text, errors="coerce").to_numpy(dtype="float64")
    if not np.isfinite(numbers).all():
        fix = "Leave the row out: that seed then counts as missing. A number has a point, and no thousands separator."
        place.refuse(~np.isfinite(numbers), "value", _text(column), "{} is no number to judge by", fix)
    return numbers


def _numbers(column: pd.Series, name: str, place: _Place) -> Any:
    """Numbers of which some may not be known."""
    import numpy as np
    import pandas as pd

    text = _text(column)
    unknown = text.str.lower().isin(["", "nan", "na", "n/a", "none", "null"])
    numbers = pd.to_numeric(text.mask(unknown), errors="coerce").to_numpy(dtype="float64")
    bad = ~unknown.to_numpy(dtype=bool) & ~(np.isfinite(numbers) & (numbers >= 0))
    if bad.any():
        place.refuse(bad, name, text, "{} is no number from 0 up", "Leave the cell empty where it is not known.")
    return numbers


def _amounts(column: pd.Series, name: str, place: _Place) -> Any:
    """Scales as labels, or tokens as whole numbers; there are few different ones, and each is read once."""
    text = _text(column)
    known: dict[str, Any] = {}
    for value in text.unique():
        try:
            known[value] = scale_label(value) if name == "scale" else round(amount(value))
        except ValueError:
            fix = "Write 150M, 1B, 1e9 or 1000000000."
            place.refuse(text == value, name, text, "{} is no number above 0", fix)
    return text.map(known).astype("category" if name == "scale" else "int64")


def _once(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Each row once; two values for one thing are refused."""
    twice = frame[frame.duplicated(KEY, keep=False)]
    if twice.empty:
        return frame, []
    kept = frame.drop_duplicates(list(COLUMNS))
    clash = kept[kept.duplicated(KEY, keep=False)].sort_values(KEY, kind="stable")
    if not clash.empty:
        first, second = clash.iloc[0], clash.iloc[1]
        what = ", ".join(f"{name} {first[name]}" for name in KEY)
        differing = [name for name in COLUMNS if name not in KEY and str(first[name]) != str(second[name])]
        values = "; ".join(f"{name} is {first[name]} and {second[name]}" for name in differing)
        raise AssayError(
            f"{_where(first)} and {_where(second)} disagree on {what}: {values}.",
            fix="Keep one of them, or tell the runs apart by mix or seed.",
        )
    dropped = len(frame) - len(kept)
    at = frame[frame.duplicated(list(COLUMNS))].iloc[0]
    same = (
        "1 row was there before, to the last digit, and was"
        if dropped == 1
        else f"{dropped:,} rows were there twice and are"
    )
    return kept, [f"{same} kept once (such as {_where(at)})."]


def _where(row: Any) -> str:
    return f"{row['_file']} row {row['_row']}" if row["_row"] else str(row["_file"])


def _odd(frame: pd.DataFrame) -> Iterator[str]:
    percent = frame[frame["metric"].isin(SHARES) & (frame["value"] > 1)]
    if len(percent):
        row = percent.iloc[0]
        yield (
            f"{row['task']} {row['metric']} is {row['value']:g} for {row['mix']}: it looks like percent, "
            f"where margins are shares of 1; {len(percent):,} rows are above 1."
        )


def _digest(frame: pd.DataFrame) -> str:
    from pandas.util import hash_pandas_object

    columns = [hash_pandas_object(frame[name], index=False).to_numpy() for name in COLUMNS]
    return hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest()
